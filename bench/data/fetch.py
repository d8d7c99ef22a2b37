"""Brings data files and backbones to this machine and verifies them. The only module that uses the network."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path, PurePosixPath

from huggingface_hub import constants, get_session, hf_hub_download

from bench.core.base import BenchError
from bench.core.card import DatasetCard
from models.llm_files import Backbone, BackboneError, locate, sha256_of, verified


def fetch_data(card: DatasetCard, path: Path) -> str:
    """Have the card's file at `path` (which ends in the card's source path), verified; one line on what was done.

    Downloads resume where they broke off. Raises BenchError naming what could not be reached or does not fit.
    """
    if path.is_file():
        if wrong := _mismatch(path, card):
            raise BenchError(f"{wrong}; delete it and fetch again")
        return f"{card.name}: here, verified ({path})"
    if card.source.repo is None:
        raise BenchError(f"{card.name}: no file {path}, and its card names no place to fetch it from; put it there")
    into = path.parents[len(PurePosixPath(card.source.path).parts) - 1]
    _require_hub(card.name, card.source.repo, str(path))
    try:
        hf_hub_download(
            card.source.repo, card.source.path, repo_type="dataset", revision=card.source.revision, local_dir=into
        )
    except Exception as error:  # the hub client and its transports raise what they like
        raise _failed(card.name, card.source.repo, error) from None
    if wrong := _mismatch(path, card):
        path.unlink()
        raise BenchError(f"{wrong}; it was deleted: the repository holds another version than the card")
    return f"{card.name}: fetched and verified ({path})"


def fetch_backbone(backbone: Backbone) -> str:
    """Have the backbone's files in the Hugging Face cache, verified; one line that says what was done."""
    try:
        locate(backbone)
        how = "here"
    except BackboneError:
        if backbone.repo is None:
            raise
        _require_hub(backbone.name, backbone.repo, "the cache at HF_HOME")
        try:
            for name in backbone.files:
                hf_hub_download(backbone.repo, name, revision=backbone.revision)
        except Exception as error:  # the hub client and its transports raise what they like
            raise _failed(backbone.name, backbone.repo, error) from None
        how = "fetched"
    paths = verified(backbone)
    return f"{backbone.name}: {how}, verified" if paths else f"{backbone.name}: random weights, nothing to fetch"


def _mismatch(path: Path, card: DatasetCard) -> str | None:
    """What to say of a file whose hash its card does not list; None if it does."""
    got = sha256_of(path, path.stat().st_mtime_ns)
    if got in card.sha256:
        return None
    return f"{card.name}: {path} has SHA-256 {got[:8]}, its card says {card.sha256[0][:8]}"


def _require_hub(name: str, repo: str, instead: str) -> None:
    """Ask once whether the hub answers at all: without network its client would try for half a minute a file."""
    reason = _hub_silence()
    if reason:
        raise BenchError(
            f"{name}: could not reach {repo} at {constants.ENDPOINT} ({reason}); check the network, or bring the file "
            f"to {instead} by hand"
        )


@lru_cache
def _hub_silence() -> str | None:
    """Why the hub does not answer; None if it does."""
    if constants.is_offline_mode():
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=10)
    except Exception as error:  # whatever the HTTP client of the day raises
        return str(error) or type(error).__name__
    return None


def _failed(name: str, repo: str, error: Exception) -> BenchError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return BenchError(f"{name}: {repo} at {constants.ENDPOINT} did not give the file ({reason[:160]}); try again")
