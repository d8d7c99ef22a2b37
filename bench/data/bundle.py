"""A folder with all that planned runs read, for machines without network: data files, language models cut to size.

`DIR/data` is laid out as the data directory; the file of a data set that comes in a Python package lies in
`DIR/data/<package>`. `DIR/backbones/<name>` has model.safetensors: as many blocks as the runs ask for, final norm and
positions, word embeddings where a run reads them; and the tokenizer where one reads a prompt. `DIR/manifest.json` is
written last and names every file with its hash: without it a folder is no bundle.

No number changes by running from a bundle. A tensor is stored in bf16 where that is exact (the copy of SmolLM2 is bf16
as it is), else in float32. There is one exception, the frozen matrices of blocks that every planned run rounds to bf16
itself before it first reads them (loop.store_frozen): precision bf16, no probe, and not Time-LLM-lite, which
reads its prompt when it is built. Such a bundle says so, and refuses any other run.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, field_validator

from bench.core.base import BenchError, Frozen, parse_json
from bench.core.card import DatasetCard, cards
from bench.core.spec import RunSpec
from bench.core.system import write_whole
from bench.data.series import data_dir, file_of
from models import MODELS
from models.llm_files import BackboneError, bundle_dir, find, sha256_of

MANIFEST = "manifest.json"
AGAIN = "make it again with 'python -m bench fetch --into'"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class File(Frozen):
    path: str
    size: Annotated[int, Field(ge=0)]
    sha256: Sha256

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        top, *below = PurePosixPath(path).parts or ("",)
        if top not in ("data", "backbones") or not below or ".." in below or "\\" in path or not path.isprintable():
            raise ValueError("must be a relative path below data or backbones, without '..'")
        return path


class Cut(Frozen):
    """What is held, or read, of a pretrained backbone."""

    name: str
    sha256: Sha256
    """Of the original's weights."""
    blocks: Annotated[int, Field(ge=0)]
    words: bool
    tokenizer: bool
    rounded: bool
    """Held: frozen matrices are no longer exact. Read: that makes no difference to these runs."""


class Manifest(Frozen):
    format: Literal[1]
    files: tuple[File, ...]
    backbones: tuple[Cut, ...]


def make_bundle(specs: list[RunSpec], folder: Path) -> list[str]:
    """Fetch what these runs read, verify it, cut it to size and write it to `folder`; lines that say what was done.

    A bundle that is there is replaced. Raises BenchError; the folder then has no manifest, and no file
    of this making.
    """
    from bench.data.fetch import fetch_backbone, fetch_data  # its import settles whether the hub may be asked

    if bundle_dir() or data_dir().resolve().is_relative_to(folder.resolve()):
        raise BenchError(
            f"bundle {folder}: would be made of a bundle; unset BENCH_BUNDLE, or BENCH_DATA if it lies there"
        )
    read, data = _read_of_backbones(specs), _read_of_data(specs)
    for card in data:
        fetch_data(card, file_of(card))
    for cut in read:
        fetch_backbone(find(cut.name))
    made: list[File] = []
    try:
        _remove_older(folder)
        return _fill(folder, data, read, made)
    except BaseException as error:
        for file in made:
            (folder / file.path).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise BenchError(f"bundle {folder}: {error}; free the disk, or choose another folder") from None
        raise


def use_bundle(folder: Path, specs: list[RunSpec]) -> None:
    """Have this process and its children read data and backbones from `folder`, and leave the network alone.

    Before that every file is verified, and that the bundle holds what these runs read. Raises BenchError.
    """
    folder = folder.resolve()
    manifest = _manifest(folder)
    _verify(folder, manifest)
    listed = {file.path: file.sha256 for file in manifest.files}
    for card in _read_of_data(specs):
        if listed.get(_data_path(card)) not in card.sha256:
            raise BenchError(f"{card.name}: no file that fits its card in bundle {folder}; {AGAIN} for these runs")
    held = {cut.name: cut for cut in manifest.backbones}
    for cut in _read_of_backbones(specs):
        if lacking := _lacking(held.get(cut.name), cut):
            raise BackboneError(f"backbone {cut.name}: {lacking} in bundle {folder}; {AGAIN} for these runs")
    os.environ.update(BENCH_BUNDLE=str(folder), BENCH_DATA=str(folder / "data"), HF_HUB_OFFLINE="1")


def _read_of_data(specs: list[RunSpec]) -> list[DatasetCard]:
    names = dict.fromkeys(name for spec in specs for name in spec.task.datasets)
    return [cards()[name] for name in names]


def _read_of_backbones(specs: list[RunSpec]) -> list[Cut]:
    """What all runs together read of each pretrained backbone."""
    read: dict[str, Cut] = {}
    for cut in filter(None, map(_read_by, specs)):
        other = read.get(cut.name, cut)
        read[cut.name] = Cut(
            name=cut.name,
            sha256=cut.sha256,
            blocks=max(cut.blocks, other.blocks),
            words=cut.words or other.words,
            tokenizer=cut.tokenizer or other.tokenizer,
            rounded=cut.rounded and other.rounded,
        )
    return [read[name] for name in sorted(read)]


def _read_by(spec: RunSpec) -> Cut | None:
    """None where a run reads no backbone, or one with random weights. A user's own model may read all of its."""
    options, known = spec.options, MODELS.get(spec.model)
    if spec.backbone is None or not find(spec.backbone).pretrained:
        return None
    backbone = find(spec.backbone)
    reads_blocks = known is None or options.get("reader", "blocks") == "blocks"
    reads_prompt = known is None or known.reads_prompt
    return Cut(
        name=backbone.name,
        sha256=backbone.sha256 or "",
        blocks=backbone.blocks if known is None else int(options["blocks"] or 0) if reads_blocks else 0,
        words=known is None or known.reads_words,
        tokenizer=reads_blocks and reads_prompt,
        rounded=not reads_blocks or (not reads_prompt and spec.train.precision == "bf16" and not spec.task.probe),
    )


def _lacking(held: Cut | None, read: Cut) -> str | None:
    """What the runs read and the bundle does not hold; None if it holds all."""
    if held is None or held.sha256 != read.sha256:
        return "not the weights that this code reads" if held else "nothing of it"
    if held.blocks < read.blocks:
        return f"{held.blocks} blocks, {read.blocks} asked for,"
    if read.words > held.words or read.tokenizer > held.tokenizer:
        return "no word embeddings" if read.words > held.words else "no tokenizer"
    return "matrices rounded to bf16, float32 asked for," if held.rounded > read.rounded else None


def _remove_older(folder: Path) -> None:
    """Take an older bundle away, its manifest first; a folder with anything else in it is refused."""
    try:
        older = _manifest(folder)
    except BenchError:
        if any(not path.is_dir() for path in folder.rglob("*")):
            raise BenchError(f"bundle {folder}: not empty, and no bundle; empty it, or choose another folder") from None
        return
    (folder / MANIFEST).unlink()
    for path in (folder / file.path for file in older.files):
        if path.parent.resolve().is_relative_to(folder.resolve()):
            path.unlink(missing_ok=True)


def _fill(folder: Path, data: list[DatasetCard], read: list[Cut], made: list[File]) -> list[str]:
    """Write everything, the manifest last, each file noted in `made` once it is there; one line for each thing."""
    from models.llm_blocks import tokenizer_files

    lines, held = [], []
    for card in data:
        if _data_path(card) not in (file.path for file in made):
            made.append(_put(folder, _data_path(card), file_of(card).read_bytes()))
        lines.append(f"{card.name}: {_data_path(card)}")
    for wanted in read:
        place = f"backbones/{wanted.name}"
        weights, cut = _cut(wanted)
        made.append(_put(folder, f"{place}/model.safetensors", weights))
        for path in tokenizer_files(cut.name) if cut.tokenizer else ():
            made.append(_put(folder, f"{place}/{path.name}", path.read_bytes()))
        held.append(cut)
        parts = (f"{cut.blocks} blocks", "word embeddings" * cut.words, "tokenizer" * cut.tokenizer)
        lines.append(f"{cut.name}: {place}, {', '.join(filter(None, parts))}")
    manifest = Manifest(format=1, files=tuple(made), backbones=tuple(held))
    _write(folder / MANIFEST, manifest.model_dump_json(indent=1).encode() + b"\n")
    return [*lines, f"{folder}: {len(made)} files, {sum(file.size for file in made) / 2**20:.1f} MiB"]


def _cut(wanted: Cut) -> tuple[bytes, Cut]:
    """A safetensors file with what is wanted of a backbone, by the original's names; and what it holds."""
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


def _put(folder: Path, path: str, content: bytes) -> File:
    _write(folder / path, content)
    return File(path=path, size=len(content), sha256=hashlib.sha256(content).hexdigest())


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)


def _data_path(card: DatasetCard) -> str:
    """Where bench.data.series looks for it below the bundle."""
    return PurePosixPath("data", card.source.package or "", card.source.path).as_posix()


def _manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    try:
        return parse_json(Manifest, path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise BenchError(f"bundle {folder}: not a complete bundle: no manifest; {AGAIN}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"{path}: cannot be read: {error}; {AGAIN}") from None
    except BenchError as error:
        raise BenchError(f"{error}; {AGAIN}") from None


def _verify(folder: Path, manifest: Manifest) -> None:
    for file in manifest.files:
        try:
            wrong = _mismatch(folder, file)
        except (OSError, RuntimeError) as error:  # a loop of links is either, by version of Python
            wrong = f"cannot be read ({error})"
        if wrong:
            raise BenchError(f"bundle {folder}: {file.path} {wrong}; {AGAIN}")
    listed = {folder / file.path for file in manifest.files}
    for path in sorted((folder / "backbones").rglob("*")):  # data files are held against their cards when they are read
        if not path.is_dir() and path not in listed:
            raise BenchError(f"bundle {folder}: {path} is not in its manifest; delete it, or {AGAIN}")


def _mismatch(folder: Path, file: File) -> str | None:
    """What is wrong with a file of a bundle; None if it is what the manifest says, and weights can be read."""
    from safetensors import SafetensorError, safe_open

    path = folder / file.path
    if not path.resolve().is_relative_to(folder):
        return "leads outside of it"
    if not path.is_file():
        return "is not there"
    if (size := path.stat().st_size) != file.size:
        return f"has {size} bytes, its manifest says {file.size}"
    if (got := sha256_of(path, path.stat().st_mtime_ns)) != file.sha256:
        return f"has SHA-256 {got[:8]}, its manifest says {file.sha256[:8]}"
    if path.name == "model.safetensors":
        try:
            with safe_open(path, framework="np"):
                pass
        except SafetensorError as error:
            return f"is no safetensors file ({error})"
    return None
