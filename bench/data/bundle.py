"""Bundles: a folder with all that planned runs read, for machines without network. No torch.

`DIR/data` is laid out as the data directory; a data file of a Python package lies in `DIR/data/<package>`.
`DIR/backbones/<name>` holds model.safetensors with as many blocks as the runs need, final norm and positions, word
embeddings where a run reads them, and the tokenizer where a run reads a prompt. `DIR/models/<name>` holds the weights
of a forecaster that comes pretrained, unless a package ships them. `DIR/manifest.json` names every file with its hash;
it is written last, and a folder without it is no bundle.

Running from a bundle changes no number. A tensor is stored in bf16 where that is exact, else in float32. The exception
are frozen matrices of blocks that every planned run rounds to bf16 itself before it reads them (loop.store_frozen):
precision bf16, no probe, and not Time-LLM-lite, which reads its prompt when it is built. Such a bundle is marked
`rounded` and refuses all other runs.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, field_validator

from bench.core.base import BenchError, Frozen, Sha256, parse, read_regular
from bench.core.card import DatasetCard, cards
from bench.core.spec import RunSpec, weights_of
from bench.core.system import write_whole
from bench.data.series import data_dir, file_of
from models import MODELS
from models.llm_files import WEIGHTS, BackboneError, Published, bundle_dir, find, sha256_of, verified

MANIFEST = "manifest.json"
AGAIN = "make it again with 'python -m bench fetch --into'"


class File(Frozen):
    path: str
    size: Annotated[int, Field(ge=0)]
    sha256: Sha256

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        top, *below = PurePosixPath(path).parts or ("",)
        if (
            top not in ("data", "backbones", "models")
            or not below
            or ".." in below
            or "\\" in path
            or not path.isprintable()
        ):
            raise ValueError("must be a relative path below data, backbones or models, without '..'")
        return path


class Cut(Frozen):
    """The parts of a pretrained backbone that a bundle holds, or that runs need."""

    name: str
    sha256: Sha256
    """Hash of the original weights."""
    blocks: Annotated[int, Field(ge=0)]
    words: bool
    tokenizer: bool
    rounded: bool
    """Held: frozen matrices are rounded to bf16. Needed: rounding does not change these runs."""


class Manifest(Frozen):
    format: Literal[1]
    files: tuple[File, ...]
    backbones: tuple[Cut, ...]


def make_bundle(specs: list[RunSpec], folder: Path) -> list[str]:
    """Fetch, verify and cut what these runs read, and write it to `folder`; return lines on what was done.

    An older bundle is replaced. Raises BenchError; the folder then has no manifest and none of the new files.
    """
    from bench.data.fetch import fetch_data, fetch_weights  # its import settles whether the hub may be asked

    if bundle_dir() or data_dir().resolve().is_relative_to(folder.resolve()):
        remedy = "unset BENCH_BUNDLE, or BENCH_DATA if it lies there"
        raise BenchError(f"bundle {folder}: would be made of a bundle. Do: {remedy}")
    needed, data = _needed_backbones(specs), _needed_data(specs)
    for card in data:
        fetch_data(card)
    for weights in weights_of(specs):
        fetch_weights(weights)
    try:
        with ExitStack() as undo:
            _remove_older(folder)
            lines = _fill(folder, data, needed, _whole(specs), undo)
            undo.pop_all()
    except OSError as error:
        raise BenchError(f"bundle {folder}: {error}. Do: free the disk, or choose another folder") from None
    return lines


def use_bundle(folder: Path, specs: list[RunSpec]) -> None:
    """Make this process and its children read from a verified bundle alone. Raises BenchError if it lacks anything."""
    folder = folder.resolve()
    manifest = _manifest(folder)
    _verify(folder, manifest)
    listed = {file.path: file.sha256 for file in manifest.files}
    for card in _needed_data(specs):
        if listed.get(_data_path(card)) not in card.sha256:
            raise BenchError(f"{card.name}: no file that fits its card in bundle {folder}. Do: {AGAIN} for these runs")
    for weights in _whole(specs):
        if listed.get(f"models/{weights.name}/{WEIGHTS}") != weights.sha256:
            raise BenchError(f"model {weights.name}: no weights of it in bundle {folder}. Do: {AGAIN} for these runs")
    held = {cut.name: cut for cut in manifest.backbones}
    for cut in _needed_backbones(specs):
        if lacking := _lacking(held.get(cut.name), cut):
            raise BackboneError(f"backbone {cut.name}: bundle {folder} {lacking}. Do: {AGAIN} for these runs")
    os.environ.update(BENCH_BUNDLE=str(folder), BENCH_DATA=str(folder / "data"), HF_HUB_OFFLINE="1")


def _needed_data(specs: list[RunSpec]) -> list[DatasetCard]:
    return [cards()[name] for name in dict.fromkeys(name for spec in specs for name in spec.task.datasets)]


def _whole(specs: list[RunSpec]) -> list[Published]:
    """Return the weights of forecasters that a bundle for these runs holds as they were published."""
    return [weights for weights in weights_of(specs) if weights.kind == "model" and weights.bundled]


def _needed_backbones(specs: list[RunSpec]) -> list[Cut]:
    """Return what all runs together need of each pretrained backbone, by name."""
    needed: dict[str, Cut] = {}
    for cut in filter(None, map(_needed_by, specs)):
        other = needed.get(cut.name, cut)
        union = {part: max(getattr(cut, part), getattr(other, part)) for part in ("blocks", "words", "tokenizer")}
        needed[cut.name] = cut.model_copy(update=union | {"rounded": cut.rounded and other.rounded})
    return [needed[name] for name in sorted(needed)]


def _needed_by(spec: RunSpec) -> Cut | None:
    """Return what a run needs of its backbone, all of it for a user's own model; None without pretrained backbone."""
    if spec.backbone is None or not find(spec.backbone).pretrained:
        return None
    options, listed, backbone = spec.options, MODELS.get(spec.model), find(spec.backbone)
    reads_blocks = listed is None or options.get("reader", "blocks") == "blocks"
    reads_prompt = listed is None or listed.reads_prompt
    return Cut(
        name=backbone.name,
        sha256=backbone.sha256 or "",
        blocks=backbone.blocks if listed is None else int(options["blocks"] or 0) if reads_blocks else 0,
        words=listed is None or listed.reads_words,
        tokenizer=reads_blocks and reads_prompt,
        rounded=not reads_blocks or (not reads_prompt and spec.train.precision == "bf16" and not spec.task.probe),
    )


def _lacking(held: Cut | None, needed: Cut) -> str | None:
    """Say what the runs need and the bundle lacks, as words that follow its name; None if it holds all."""
    if held is None:
        return "does not hold it"
    faults = {
        "holds other weights than this code reads": held.sha256 != needed.sha256,
        f"holds {held.blocks} blocks, these runs need {needed.blocks}": held.blocks < needed.blocks,
        "holds no word embeddings": held.words < needed.words,
        "holds no tokenizer": held.tokenizer < needed.tokenizer,
        "holds matrices rounded to bf16, these runs need float32": held.rounded > needed.rounded,
    }
    return next((fault for fault, found in faults.items() if found), None)


def _remove_older(folder: Path) -> None:
    """Remove an older bundle, its manifest first. Raises BenchError for a folder with any other file."""
    try:
        older = _manifest(folder)
    except BenchError:
        if any(not path.is_dir() for path in folder.rglob("*")):
            cause = "not empty, and no bundle"
            raise BenchError(f"bundle {folder}: {cause}. Do: empty it, or choose another folder") from None
        return
    (folder / MANIFEST).unlink()
    for path in (folder / file.path for file in older.files):
        if path.parent.resolve().is_relative_to(folder.resolve()):
            path.unlink(missing_ok=True)


def _fill(
    folder: Path, data: list[DatasetCard], needed: list[Cut], whole: list[Published], undo: ExitStack
) -> list[str]:
    """Write all files, the manifest last; `undo` removes them again. Return lines on what was done."""
    from models.llm_blocks import tokenizer_files

    written: list[File] = []

    def put(path: str, content: bytes) -> None:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        undo.callback((folder / path).unlink, missing_ok=True)
        write_whole(folder / path, content)
        written.append(File(path=path, size=len(content), sha256=hashlib.sha256(content).hexdigest()))

    for path, card in {_data_path(card): card for card in data}.items():
        put(path, file_of(card).read_bytes())
    lines, held = [f"{card.name}: {_data_path(card)}" for card in data], []
    for wanted in needed:
        place = f"backbones/{wanted.name}"
        weights, cut = _cut(wanted)
        put(f"{place}/model.safetensors", weights)
        for file in tokenizer_files(cut.name) if cut.tokenizer else ():
            put(f"{place}/{file.name}", file.read_bytes())
        held.append(cut)
        parts = (f"{cut.blocks} blocks", "word embeddings" * cut.words, "tokenizer" * cut.tokenizer)
        lines.append(f"{cut.name}: {place}, {', '.join(filter(None, parts))}")
    for source in whole:
        put(f"models/{source.name}/{WEIGHTS}", verified(source)[WEIGHTS].read_bytes())
        lines.append(f"{source.name}: models/{source.name}")
    manifest = Manifest(format=1, files=tuple(written), backbones=tuple(held))
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / MANIFEST, manifest.model_dump_json(indent=1).encode() + b"\n")
    return [*lines, f"{folder}: {len(written)} files, {sum(file.size for file in written) / 2**20:.1f} MiB"]


def _cut(wanted: Cut) -> tuple[bytes, Cut]:
    """Return a safetensors file of the wanted tensors under their original names, and what it holds."""
    import torch
    from safetensors.torch import save

    from models.llm_blocks import NORMS_AND_POSITIONS, WORDS, Blocks, word_embeddings

    name, kept, rounded = wanted.name, {}, False
    blocks = dict(Blocks(name, wanted.blocks).model.named_parameters()) if wanted.blocks else {}
    words = {WORDS[find(name).family]: word_embeddings(name)} if wanted.words else {}
    for key, tensor in (blocks | words).items():
        half = tensor.to(torch.bfloat16)
        exact = torch.equal(half.float(), tensor)
        frozen_matrix = key in blocks and tensor.ndim > 1 and not NORMS_AND_POSITIONS.search(key)
        kept[key] = half if exact or (wanted.rounded and frozen_matrix) else tensor
        rounded |= kept[key] is half and not exact
    return save(kept), wanted.model_copy(update={"rounded": rounded})


def _data_path(card: DatasetCard) -> str:
    """Return the path below the bundle where bench.data.series reads the card's file."""
    return PurePosixPath("data", card.source.package or "", card.source.path).as_posix()


def _manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    try:
        return parse(Manifest, read_regular(path, 32 << 20).decode(), str(path), AGAIN)
    except FileNotFoundError:
        raise BenchError(f"bundle {folder}: not a complete bundle: no manifest. Do: {AGAIN}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"{path}: cannot be read: {error}. Do: {AGAIN}") from None


def _verify(folder: Path, manifest: Manifest) -> None:
    """Raise BenchError for a file that differs from the manifest, or a backbone file that it does not list."""
    for file in manifest.files:
        if wrong := _mismatch(folder, file):
            raise BenchError(f"bundle {folder}: {file.path} {wrong}. Do: {AGAIN}")
    listed = {folder / file.path for file in manifest.files}
    # Reading a data file verifies it against its card.
    for path in sorted(path for kind in ("backbones", "models") for path in (folder / kind).rglob("*")):
        if not path.is_dir() and path not in listed:
            raise BenchError(f"bundle {folder}: {path} is not in its manifest. Do: delete it, or {AGAIN}")


def _mismatch(folder: Path, file: File) -> str | None:
    """Say how a file differs from the manifest, as words that follow its name; None if it is intact."""
    from safetensors import SafetensorError, safe_open

    path = folder / file.path
    try:
        if not path.resolve().is_relative_to(folder):
            return "leads outside of it"
        if not path.is_file():
            return "is not there"
        if (size := path.stat().st_size) != file.size:
            return f"has {size} bytes, its manifest says {file.size}"
        if (got := sha256_of(path, path.stat().st_mtime_ns)) != file.sha256:
            return f"has SHA-256 {got[:8]}, its manifest says {file.sha256[:8]}"
        if path.name == "model.safetensors":
            safe_open(path, framework="np")
    except SafetensorError as error:
        return f"is no safetensors file ({error})"
    except (OSError, RuntimeError) as error:  # a loop of links raises either, by version of Python
        return f"cannot be read ({error})"
    return None
