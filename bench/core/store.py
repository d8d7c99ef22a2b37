"""Store one JSON file per run: written whole or not at all, by one process; read by spec. No torch."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from bench.core.base import BenchError, parse, read_regular
from bench.core.card import cards
from bench.core.record import RunResult
from bench.core.spec import RunSpec
from bench.core.system import keep_end, write_whole
from models.llm_files import BACKBONES

WORK = ".work"
"""Folder in the results directory for unfinished runs: one folder per run, and the file of claims."""
LARGEST = 32 << 20
"""Most bytes of a record."""
LOG = 1 << 20
"""Most bytes of what a user's own model printed that are kept beside its record."""


class UnusableRecord(BenchError):
    """A record that exists but is damaged, or belongs to another run, protocol, data or weights."""

    def __init__(self, path: Path, reason: str, remedy: str = "move it away and run again") -> None:
        super().__init__(f"{path}: {reason}. Do: {remedy}")
        self.path, self.reason, self.remedy = path, reason, remedy


class Store:
    """The results directory: results/<dataset>/h<H>/<model>/s<seed>-<key8>.json, and .log of users' own models."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._claims: int | None = None
        self._opened: os.stat_result | None = None

    def get(self, spec: RunSpec) -> RunResult | None:
        """Return the record of this spec; None if it is missing. Raises UnusableRecord for another record."""
        path = self.root / spec.path
        result = read_record(path, self.root)
        if result is None:
            return None
        if foreign := _foreign(result, spec):
            raise UnusableRecord(path, foreign)
        return result

    def status(self, spec: RunSpec) -> str:
        """Return done, failed or missing."""
        result = self.get(spec)
        return result.status if result else "missing"

    def stamp(self, spec: RunSpec) -> tuple[int, int] | None:
        """Return a value that changes whenever the record is written; None while it is missing."""
        with contextlib.suppress(OSError):
            found = (self.root / spec.path).stat()
            return found.st_mtime_ns, found.st_ino
        return None

    def open(self) -> None:
        """Prepare the directory for writing. Raises BenchError if that fails, before anything is trained."""
        try:
            work = self.root / WORK
            work.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=work) as probe:
                probe.write(b"probe")
            self._claims = os.open(work / "claims", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self._opened = self.root.stat()
        except OSError as error:
            cause = f"cannot be written: {error}"
            raise BenchError(f"results directory {self.root}: {cause}. Do: choose another --results") from None

    def close(self) -> None:
        """Release all claims."""
        if self._claims is not None:
            os.close(self._claims)
        self._claims = self._opened = None

    def claim(self, spec: RunSpec) -> bool:
        """Claim a run for this process; return False while another process has it.

        A claim locks one byte of a file, on all machines that share it, until this process releases it or dies.
        """
        assert self._claims is not None, "open the store first"
        try:
            fcntl.lockf(self._claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _byte(spec))
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            cause = f"its file system has no locks ({error})"
            raise BenchError(f"results directory {self.root}: {cause}. Do: choose another --results") from None
        return True

    def release(self, spec: RunSpec) -> None:
        """Release the claim on a run."""
        assert self._claims is not None
        fcntl.lockf(self._claims, fcntl.LOCK_UN, 1, _byte(spec))

    def work(self, spec: RunSpec) -> Path:
        """Return the folder of an unfinished run. Only the process with the claim writes there."""
        return self.root / WORK / spec.key

    def log(self, spec: RunSpec) -> Path:
        """Return a file for what a user's own model prints while it runs, in the folder of the unfinished run."""
        path = self.work(spec).absolute() / "log"
        try:
            path.parent.mkdir(exist_ok=True)
            path.touch()
        except OSError as error:
            raise BenchError(
                f"{path}: cannot be written: {error}. Do: free the disk or choose another --results"
            ) from None
        return path

    def keep_log(self, spec: RunSpec) -> Path | None:
        """Put what a user's own model printed, at most its last MiB, beside its record in place of what it printed
        before; return the file, or None if nothing was printed. Needs the claim."""
        log, kept = self.work(spec) / "log", (self.root / spec.path).with_suffix(".log")
        with contextlib.suppress(OSError):  # what cannot be kept costs no record
            size = log.stat().st_size
            kept.unlink(missing_ok=True)
            if size > LOG:
                keep_end(log, LOG)
            log.replace(kept) if size else log.unlink()
            with contextlib.suppress(OSError):  # not empty: it holds a checkpoint
                log.parent.rmdir()
            return kept if size else None
        return None

    def clear(self, spec: RunSpec) -> None:
        """Remove the folder of an unfinished run; needs the claim."""
        shutil.rmtree(self.work(spec), ignore_errors=True)

    def leftovers(self) -> set[str]:
        """Return the keys of the unfinished runs: running somewhere, or interrupted."""
        return {folder.name for folder in (self.root / WORK).glob("*/")}

    def put(self, result: RunResult) -> Path:
        """Write a record whole and return its path, or raise BenchError and keep it among the temporary files."""
        path = self.root / result.spec.path
        text = result.model_dump_json(indent=1) + "\n"
        try:
            if self._opened and not os.path.samestat(self._opened, self.root.stat()):
                raise OSError("it is not the directory any more that the command began with")
            work = self.work(result.spec)
            work.mkdir(parents=True, exist_ok=True)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, text.encode(), work / f"record-{os.getpid()}.json")
            finally:
                with contextlib.suppress(OSError):  # not empty: it holds a checkpoint
                    work.rmdir()
        except OSError as error:
            remedy = f"free the disk or choose another --results{_rescue(text, path.name)}"
            raise BenchError(f"{path}: cannot be written: {error}. Do: {remedy}") from None
        return path


def read_record(path: Path, root: Path) -> RunResult | None:
    """Read a record below a results directory; None if there is none.

    Raises UnusableRecord for what is no record: never blocks, never follows a link out of the directory. Raises
    BenchError if the directory itself cannot be read.
    """
    try:
        path.lstat()  # most records of a plan are missing, and this says so a hundred times as fast as the next line
        found = path.resolve(strict=True)
        if not found.is_relative_to(root.resolve()):
            raise BenchError("is a link out of the results directory")
        return parse(RunResult, read_regular(found, LARGEST).decode(), str(path), remedy="")
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError) as error:
        if not os.access(root, os.R_OK | os.X_OK) or not root.is_dir():
            cause = f"cannot be read: {error}"
            raise BenchError(f"results directory {root}: {cause}. Do: choose another --results") from None
        raise UnusableRecord(path, f"cannot be read: {error}") from None
    except (UnicodeDecodeError, BenchError) as error:
        raise UnusableRecord(path, str(error).removeprefix(f"{path}: ")) from None


def _foreign(result: RunResult, spec: RunSpec) -> str | None:
    """Return why a record does not belong to this spec; None if it does."""
    if result.spec.protocol != spec.protocol:
        return f"is a record of protocol {result.spec.protocol}; this is protocol {spec.protocol}"
    if result.spec != spec:
        return "holds the record of another run"
    if fault := result.fault:
        return fault
    for name, found in result.where.data_sha256.items():
        if found not in (card := cards()[name]).sha256:
            return f"its data of {name} have SHA-256 {found[:8]!r}, the card says {card.sha256[0][:8]!r}"
    weights = BACKBONES.get(spec.backbone or "")  # a user's own model may name one that is none
    known = result.status == "done" or result.where.backbone_sha256  # a process that was lost did not tell
    if known and result.where.backbone_sha256 != (weights and weights.sha256):
        return f"its weights of {spec.backbone} are other ones"
    return None


def _byte(spec: RunSpec) -> int:
    """Return the position of the byte in the file of claims that stands for a run."""
    return int(spec.key[:15], 16)


def _rescue(text: str, name: str) -> str:
    """Keep a record among the temporary files, and return the end of an error message that names the file."""
    with contextlib.suppress(OSError):
        descriptor, kept = tempfile.mkstemp(prefix="unsaved-", suffix=f"-{name}")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        return f"; the record is kept as {kept}"
    return ""
