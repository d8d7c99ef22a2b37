"""Remember which records were verified, by the stamps of their files. No torch.

One text file for each folder of records, in the user's own cache folder: a results directory may be a stranger's, and
must not vouch for itself. A line is a record in brief. It counts while the record's file, the code that verified it and
every data set card are the same. The files hold no truth of their own and may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pydantic

from bench.core.card import cards
from bench.core.system import ROOT, write_whole

CACHE = "logo-llm-bench"
"""This project's folder among the user's caches."""
SETTLED = 2.0
"""Seconds for which a file must not have changed: within a tick of a file system's clock two contents share a stamp."""
FORGOTTEN = 60 * 24 * 3600.0
"""Seconds after which a file of the cache that was not written again is removed."""


class Brief(NamedTuple):
    """What is remembered of a record: texts without a line break or a tab."""

    stamp: str
    key: str
    """Of its run."""
    spec: str
    """The run, as JSON."""
    curve: str
    """As JSON."""
    text: str
    """The rest of the record, as JSON, without its large parts."""


def _code() -> str:
    """Return the SHA-256 of the code that verifies."""
    total = hashlib.sha256(pydantic.VERSION.encode())
    for path in sorted(path for room in ("bench/core", "models") for path in (ROOT / room).glob("*.py")):
        total.update(path.read_bytes())
    return total.hexdigest()


CODE = _code()
"""Of the files as they are imported; they may be others by the time a record is verified."""


def has_settled(status: os.stat_result) -> bool:
    """Return whether a later content of the file is bound to have another stamp."""
    return max(status.st_ctime, status.st_mtime) < time.time() - SETTLED


class Verified:
    """The verified records of one results directory. Whatever is wrong with the cache, nothing is remembered then."""

    def __init__(self, root: Path) -> None:
        verifier = [CODE, *(card.model_dump_json() for _, card in sorted(cards().items()))]
        self._verifier = hashlib.sha256("\n".join(verifier).encode()).hexdigest()[:16]
        self._root = os.path.realpath(root)
        caches = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))  # noqa: PTH111  (never raises)
        self._cache = (caches if caches.is_absolute() else Path(os.devnull)) / CACHE  # below /dev/null nothing can lie

    def stamp(self, status: os.stat_result) -> str:
        """Return a text that changes whenever the file, the code or a card does."""
        return f"{self._verifier} {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"

    def of(self, folder: str) -> dict[str, Brief]:
        """Return file name -> what is remembered of each record in this folder of the results directory."""
        with suppress(OSError, ValueError, TypeError):
            lines = self._file(folder).read_bytes().decode("utf-8", "surrogateescape")
            rows = (line.split("\t") for line in lines.split("\n")[:-1])
            return {name: Brief(*brief) for name, *brief in rows}
        return {}

    def add(self, folder: str, new: Mapping[str, Brief], names: Collection[str]) -> None:
        """Remember records that were verified, and forget those that are gone: `names` are the files in the folder."""
        kept = {name: brief for name, brief in {**self.of(folder), **new}.items() if name in names}
        lines = "".join("\t".join((name, *brief)) + "\n" for name, brief in kept.items())
        with suppress(OSError):
            self._cache.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_whole(self._file(folder), lines.encode("utf-8", "surrogateescape"))

    def tidy(self) -> None:
        """Remove what was remembered long ago."""
        with suppress(OSError):
            for path in self._cache.iterdir():
                if path.stat().st_mtime < time.time() - FORGOTTEN:
                    path.unlink()

    def _file(self, folder: str) -> Path:
        return self._cache / f"{hashlib.sha256(os.fsencode(f'{self._root}/{folder}')).hexdigest()[:24]}.tsv"
