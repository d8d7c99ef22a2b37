"""Remember which records were verified, by the stamps of their files. No torch.

One SQLite file for each results directory, in the user's own cache folder: a results directory may be a stranger's,
and must not vouch for itself. It holds no truth of its own and may be deleted at any time. A record counts as verified
while its file, the code that verifies and every data set card are the same.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pydantic

from bench.core.card import cards
from bench.core.system import ROOT

WORTH = 1000
"""Least records that must have been read anew before they are remembered; fewer are read in a moment."""
CACHE = "logo-llm-bench"
"""This project's folder among the user's caches."""
SETTLED = 2.0
"""Seconds for which a file must not have changed: within a tick of a file system's clock two contents share a stamp."""


class Brief(NamedTuple):
    """What is remembered of a record."""

    stamp: str
    key: str
    """Of its run."""
    spec: str
    """The run, as JSON."""
    curve: str
    """As JSON."""
    text: str
    """The rest of the record, as JSON, without its large parts."""


def stamp_of(status: os.stat_result) -> str:
    """Return a text that changes whenever a file's content is written or replaced."""
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def has_settled(status: os.stat_result) -> bool:
    """Return whether a later content of the file is bound to have another stamp."""
    return max(status.st_ctime, status.st_mtime) < time.time() - SETTLED


class Verified:
    """The verified records of one results directory. Whatever is wrong with the file, nothing is remembered then."""

    def __init__(self, root: Path) -> None:
        name = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:24]
        caches = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))  # noqa: PTH111  (never raises)
        self._path = caches / CACHE / f"{name}.sqlite"
        self._base = self._opened() if self._path.is_file() else None
        self._new: list[tuple[str, str, Brief]] = []

    def of(self, folder: str) -> dict[str, Brief]:
        """Return file name -> what is remembered of each record in this folder of the results directory."""
        with suppress(sqlite3.Error):
            query = "SELECT name, stamp, key, spec, curve, text FROM record WHERE folder = ?"
            rows = self._base.execute(query, (folder,)).fetchall() if self._base else []
            return {name: Brief(*brief) for name, *brief in rows}
        return {}

    def add(self, folder: str, name: str, brief: Brief) -> None:
        """Remember a record that was verified."""
        self._new.append((folder, name, brief))

    def close(self, listed: Mapping[str, set[str]]) -> None:
        """Write what is new, if it is worth it, and forget records that are gone from these folders (-> file names)."""
        with suppress(sqlite3.Error, OSError):
            if len(self._new) >= WORTH and self._path.is_absolute():  # else nobody knows the user's folder
                self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._base = self._base or self._opened()
                if self._base:
                    self._write(self._base, listed)
        if self._base:
            self._base.close()

    def _write(self, base: sqlite3.Connection, listed: Mapping[str, set[str]]) -> None:
        gone = [(folder, name) for folder, names in listed.items() for name in self.of(folder).keys() - names]
        with base:
            base.executemany("DELETE FROM record WHERE folder = ? AND name = ?", gone)
            rows = ((folder, name, *brief) for folder, name, brief in self._new)
            base.executemany("REPLACE INTO record VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def _opened(self) -> sqlite3.Connection | None:
        """Open the file, made anew if other code or cards verified its records, or if it is damaged."""
        for _ in range(2):
            try:
                base = sqlite3.connect(self._path)
                if base.execute("PRAGMA user_version").fetchone()[0] != _fingerprint():
                    _make(base)
                return base
            except sqlite3.OperationalError:  # another process writes it, or it cannot be written
                return None
            except sqlite3.DatabaseError:
                self._path.unlink(missing_ok=True)
        return None


def _make(base: sqlite3.Connection) -> None:
    base.executescript(
        "BEGIN; DROP TABLE IF EXISTS record; CREATE TABLE record (folder TEXT, name TEXT, stamp TEXT, key TEXT,"
        " spec TEXT, curve TEXT, text TEXT, UNIQUE (folder, name));"
        f" PRAGMA user_version = {_fingerprint()}; COMMIT"
    )


def _fingerprint() -> int:
    """Return a number (31 bits) of everything but the files that the verification of a record depends on."""
    known = [_code(), *(card.model_dump_json() for _, card in sorted(cards().items()))]
    return int(hashlib.sha256("\n".join(known).encode()).hexdigest()[:8], 16) >> 1


@lru_cache
def _code() -> str:
    """Return the SHA-256 of the code that verifies."""
    total = hashlib.sha256(pydantic.VERSION.encode())
    for path in sorted(path for room in ("bench/core", "models") for path in (ROOT / room).glob("*.py")):
        total.update(path.read_bytes())
    return total.hexdigest()
