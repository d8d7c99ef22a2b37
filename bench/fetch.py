"""Brings data files and backbones to this machine and verifies them. The only module that uses the network."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from bench.spec import BenchError, DatasetCard
from models.pretrained import Backbone, BackboneError, locate

UNREACHABLE = (HfHubHTTPError, LocalEntryNotFoundError, OSError)


def fetch_data(card: DatasetCard, path: Path) -> str:
    """Have the card's file at `path` (which ends in the card's source path), verified; one line on what was done.

    Downloads resume where they broke off. Raises BenchError naming what could not be reached or does not fit.
    """
    if path.is_file():
        _verify(path, card.sha256, card.name)
        return f"{card.name}: here, verified ({path})"
    if card.source.repo is None:
        raise BenchError(f"{card.name}: no file {path}, and its card names no place to fetch it from; put it there")
    into = path.parents[len(PurePosixPath(card.source.path).parts) - 1]
    try:
        hf_hub_download(
            card.source.repo, card.source.path, repo_type="dataset", revision=card.source.revision, local_dir=into
        )
    except UNREACHABLE as error:
        raise BenchError(_unreachable(card.name, f"{card.source.repo} on huggingface.co", error, str(path))) from None
    try:
        _verify(path, card.sha256, card.name)
    except BenchError:
        path.unlink()
        raise
    return f"{card.name}: fetched and verified ({path})"


def fetch_backbone(backbone: Backbone) -> str:
    """Have the backbone's files in the Hugging Face cache, verified; one line that says what was done."""
    try:
        paths, how = locate(backbone), "here"
    except BackboneError:
        if backbone.repo is None:
            raise
        try:
            for name in backbone.files:
                hf_hub_download(backbone.repo, name, revision=backbone.revision)
        except UNREACHABLE as error:
            place = f"{backbone.repo} on huggingface.co"
            raise BenchError(_unreachable(backbone.name, place, error, "HF_HOME")) from None
        paths, how = locate(backbone), "fetched"
    for name, path in paths.items():
        _verify(path, [backbone.files[name]], backbone.name)
    return f"{backbone.name}: {how}, verified" if paths else f"{backbone.name}: random weights, nothing to fetch"


def _verify(path: Path, accepted: Iterable[str], name: str) -> None:
    with path.open("rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    wanted = list(accepted)
    if got not in wanted:
        raise BenchError(f"{name}: {path} has SHA-256 {got[:8]}, expected {wanted[0][:8]}; delete it and fetch again")


def _unreachable(name: str, place: str, error: Exception, instead: str) -> str:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return (
        f"{name}: could not reach {place} ({reason[:120]}); check the network, or bring the file to {instead} by hand"
    )
