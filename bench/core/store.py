"""One JSON file per run. Written whole or not at all, by one process; read back by spec. No torch."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from bench.core.base import BenchError, parse_json
from bench.core.card import cards
from bench.core.record import RunResult
from bench.core.spec import RunSpec
from bench.core.system import write_whole
from models.llm_files import BACKBONES

Status = str
"""done, failed or missing."""
WORK = ".work"
"""Folder of the results directory for what is not finished: one folder per run in flight, and the file of claims."""


class UnusableRecord(BenchError):
    """A record that is there but is damaged, or of another run, protocol, data or weights."""


class Store:
    """The results directory: results/<dataset>/h<H>/<model>/s<seed>-<key8>.json."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._claims: int | None = None
        self._opened: tuple[int, int] | None = None

    def get(self, spec: RunSpec) -> RunResult | None:
        """The record of this very spec; None if there is none. One of another run or other data is refused by name."""
        path = self.root / spec.path
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BenchError(f"{path}: cannot be read: {error}; move it away and run again") from None
        except UnicodeDecodeError as error:
            raise UnusableRecord(f"{path}: is no text: {error}; move it away and run again") from None
        try:
            result = parse_json(RunResult, text, str(path))
        except BenchError as error:
            raise UnusableRecord(f"{error}; move it away and run again") from None
        if foreign := _foreign(result, spec):
            raise UnusableRecord(f"{path}: {foreign}; move it away and run again")
        return result

    def status(self, spec: RunSpec) -> Status:
        result = self.get(spec)
        return result.status if result else "missing"

    def stamp(self, spec: RunSpec) -> tuple[int, int] | None:
        """Changes whenever the record is written; None while there is none."""
        try:
            found = (self.root / spec.path).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino

    def open(self) -> None:
        """Get ready to write. Raises BenchError, before anything is trained, where that cannot be."""
        try:
            work = self.root / WORK
            work.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=work) as probe:
                probe.write(b"probe")
            self._claims = os.open(work / "claims", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self._opened = _identity(self.root)
        except OSError as error:
            raise BenchError(
                f"results directory {self.root}: cannot be written: {error}; choose another --results"
            ) from None

    def close(self) -> None:
        """Give all claims back."""
        if self._claims is not None:
            os.close(self._claims)
        self._claims = self._opened = None

    def claim(self, spec: RunSpec) -> bool:
        """Take a run for this process; False while another process has it. The system gives it back if this one dies.

        A claim is a lock on one byte of a file, on any machine that shares the directory.
        """
        assert self._claims is not None, "open the store first"
        try:
            fcntl.lockf(self._claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _byte(spec))
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            raise BenchError(
                f"results directory {self.root}: its file system has no locks ({error}); choose another --results"
            ) from None
        return True

    def release(self, spec: RunSpec) -> None:
        """Give a claim back."""
        assert self._claims is not None
        fcntl.lockf(self._claims, fcntl.LOCK_UN, 1, _byte(spec))

    def work(self, spec: RunSpec) -> Path:
        """Folder of a run in flight. Only who has the claim writes there."""
        return self.root / WORK / spec.key

    def clear(self, spec: RunSpec) -> None:
        """Remove what a run in flight has left; needs the claim."""
        shutil.rmtree(self.work(spec), ignore_errors=True)

    def leftovers(self) -> set[str]:
        """Keys of the runs that have a folder for work: in flight somewhere, or broken off."""
        try:
            return {entry.name for entry in (self.root / WORK).iterdir() if entry.is_dir()}
        except OSError:
            return set()

    def put(self, result: RunResult) -> Path:
        """Write the record under a temporary name, flush it to the disk, then rename it into place.

        Raises BenchError where that cannot be; the record is then kept with the system's temporary files.
        """
        path = self.root / result.spec.path
        text = result.model_dump_json(indent=1) + "\n"
        try:
            if self._opened and self._opened != _identity(self.root):
                raise OSError("it is not the directory any more that the command began with")
            work = self.work(result.spec)
            work.mkdir(parents=True, exist_ok=True)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, text.encode(), work / f"record-{os.getpid()}.json")
            finally:
                with contextlib.suppress(OSError):  # a checkpoint lies there too
                    work.rmdir()
        except OSError as error:
            kept = _rescue(text, path.name)
            raise BenchError(
                f"{path}: cannot be written: {error}; free the disk or choose another --results{kept}"
            ) from None
        return path


def _foreign(result: RunResult, spec: RunSpec) -> str | None:
    """Why a record is none of this spec; None if it is."""
    if result.spec.protocol != spec.protocol:
        return f"is a record of protocol {result.spec.protocol}; this is protocol {spec.protocol}"
    if result.spec != spec:
        return "holds the record of another run"
    if result.status == "failed":
        return None
    tested = spec.task.datasets
    if tuple(each.dataset for each in result.evaluations) != tested:
        return f"has no errors on {', '.join(tested)}"
    for name in tested:
        card, found = cards()[name], result.where.data_sha256.get(name, "")
        if found not in card.sha256:
            return f"its data of {name} have SHA-256 {found[:8]!r}, the card says {card.sha256[0][:8]!r}"
    backbone = spec.backbone
    if backbone and result.where.backbone_sha256 != BACKBONES[backbone].sha256:
        return f"its weights of {backbone} are other ones"
    return None


def _byte(spec: RunSpec) -> int:
    """The byte that stands for a run."""
    return int(spec.key[:15], 16)


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _rescue(text: str, name: str) -> str:
    """Keep a record that could not be put where it belongs; says where, if it could be kept."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", prefix="unsaved-", suffix=f"-{name}", delete=False
        ) as file:
            file.write(text)
    except OSError:
        return ""
    return f"; the record is kept as {file.name}"
