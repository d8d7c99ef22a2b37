"""Fetch data files and published weights onto this machine and verify them. The only module that uses the network."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from huggingface_hub import constants, get_session, hf_hub_download

from bench.core.base import BenchError
from bench.core.card import DatasetCard
from bench.data.series import data_dir, file_of
from models.llm_files import BackboneError, Published, locate, sha256_of, verified


def fetch_data(card: DatasetCard) -> str:
    """Fetch the card's file unless it is there, and verify it.

    Returns one line on what was done; an interrupted download resumes. Raises BenchError for no answer or another file.
    """
    source, path = card.source, file_of(card)
    if fetched := not path.is_file():
        if source.repo is None:
            raise BenchError(f"{card.name}: no file {path}, and its card names no repository. Do: put the file there")
        options = {"repo_type": "dataset", "revision": source.revision, "local_dir": data_dir()}
        _download(card.name, source.repo, [source.path], str(path), **options)
    got = sha256_of(path, path.stat().st_mtime_ns)
    if got not in card.sha256:
        remedy = ". Do: delete it and fetch again" if source.repo else ". Do: put the card's file there"
        if fetched:
            path.unlink()
            remedy = "; the repository holds another version, deleted here. Do: put the card's file there"
        raise BenchError(f"{card.name}: {path} has SHA-256 {got[:8]}, its card says {card.sha256[0][:8]}{remedy}")
    return f"{card.name}: {'fetched and' if fetched else 'here,'} verified ({path})"


def fetch_weights(weights: Published) -> str:
    """Fetch the files of published weights into the Hugging Face cache as `fetch_data` fetches a card's file."""
    try:
        locate(weights)
        how = "here"
    except BackboneError:
        if weights.repo is None:
            raise
        _download(weights.name, weights.repo, weights.files, "the cache at HF_HOME", revision=weights.revision)
        how = "fetched"
    paths = verified(weights)
    return f"{weights.name}: {how}, verified" if paths else f"{weights.name}: random weights, nothing to fetch"


def _download(name: str, repo: str, files: Iterable[str], destination: str, **options: Any) -> None:
    """Download `files` of `repo`; `destination` tells the user where to put them by hand."""
    if reason := _hub_silence():
        cause = f"could not reach {repo} at {constants.ENDPOINT} ({reason})"
        raise BenchError(f"{name}: {cause}. Do: check the network, or bring the file to {destination} by hand")
    try:
        for file in files:
            hf_hub_download(repo, file, **options)
    except Exception as error:  # the hub client and its transports raise many types
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise BenchError(f"{name}: {repo} at {constants.ENDPOINT} failed ({reason}). Do: try again") from None


@lru_cache
def _hub_silence() -> str | None:
    """Return why the hub does not answer, else None. Asked once: its client would retry half a minute for each file."""
    if constants.is_offline_mode():
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=10)
    except Exception as error:  # each HTTP client raises its own types
        return str(error) or type(error).__name__
    return None
