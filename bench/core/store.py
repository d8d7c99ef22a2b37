"""Store one JSON file per run, with the files that the run keeps beside it: written whole or not at all, by one
process; read by spec. No torch."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from bench.core.base import BenchError
from bench.core.card import cards
from bench.core.names import What
from bench.core.reading import Reader, Recorded, UnusableRecord, foreign, read_record
from bench.core.record import SUFFIX, RunResult
from bench.core.spec import RunSpec
from bench.core.system import keep_end, write_whole, writing

WORK = ".work"
"""Folder in the results directory for unfinished runs: one folder per run, and the file of claims."""
LOG = 1 << 20
"""Most bytes of what a user's own model printed that are kept beside its record."""


class Store:
    """The results directory: results/<dataset>/h<H>/<model>/s<seed>-<key8>.json, and beside it .log of users' own
    models, and what a run keeps."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._claims: int | None = None
        self._opened: os.stat_result | None = None
        self._name = secrets.token_hex(4)

    def get(self, spec: RunSpec) -> RunResult | None:
        """Return the record of this spec; None if it is missing. Raises UnusableRecord for another record."""
        path = self.root / spec.path
        result = read_record(path, self.root)
        if result and (reason := foreign(result, spec)):
            raise UnusableRecord(path, reason)
        return result

    def several(self, specs: Iterable[RunSpec]) -> Iterator[RunResult | UnusableRecord | None]:
        """Yield what `get` returns of each spec, or the error that it raises; large parts are read when asked for."""
        with Reader(self.root) as reader:
            yield from map(reader.get, specs)

    def everything(self, datasets: Iterable[str] = ("*",)) -> Iterator[RunResult | UnusableRecord]:
        """Yield every record of runs trained on these data sets (default: all); for one that cannot be used, why.

        Each is checked as `get` checks it, and against its own path and today's cards, which a plan would have named.
        """
        digests = {name: card.digest for name, card in cards().items()}
        with Reader(self.root) as reader:
            for path in sorted(path for name in datasets for path in self.root.glob(f"{name}/h*/*/s*.json")):
                found = reader.at(path, digests)
                if found is not None:  # else it was removed a moment ago
                    yield found

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
        with writing(f"results directory {self.root}", "choose another --results"):
            work = self.root / WORK
            work.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=work) as probe:
                probe.write(b"probe")
            self._claims = os.open(work / "claims", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self._opened = self.root.stat()

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
        """Return a new file for what a user's own model prints while it runs, in the folder of the unfinished run.

        It begins with what an earlier command left there, whose worker may not be dead yet: what that one still prints
        goes into its own file, which is removed.
        """
        path = self._log_in_work(spec)
        with writing(path):
            path.parent.mkdir(exist_ok=True)
            earlier = sorted(path.parent.glob("log-*"), key=lambda each: each.stat().st_mtime)
            path.write_bytes(b"".join(each.read_bytes() for each in earlier))
            for each in earlier:
                each.unlink()
        return path

    def _log_in_work(self, spec: RunSpec) -> Path:
        return self.work(spec).absolute() / f"log-{self._name}"

    def keep_log(self, spec: RunSpec) -> Path | None:
        """Put what a user's own model printed, at most its last MiB, where its record is written next, in place of what
        it printed before; return the file, or None if nothing was printed. Needs the claim.

        It comes before the record: a run that is killed in between is done again, and so is its log.
        """
        log, kept = self._log_in_work(spec), (self.root / spec.path).with_suffix(".log")
        with contextlib.suppress(OSError):  # what cannot be kept costs no record
            size = log.stat().st_size
            kept.unlink(missing_ok=True)
            if size > LOG:
                keep_end(log, LOG)
            kept.parent.mkdir(parents=True, exist_ok=True)
            log.replace(kept) if size else log.unlink()
            return kept if size else None
        return None

    def keeps(self, result: RunResult, what: What) -> bool:
        """Return whether a run keeps this and its file is there, of the size that the record says. Reads no content."""
        path = (self.root / result.spec.path).with_suffix(SUFFIX[what])
        with contextlib.suppress(OSError):
            return path.stat().st_size in [each.bytes for each in result.kept if each.what == what]
        return False

    def to_keep(self, spec: RunSpec, what: What) -> Path:
        """Return where a run writes what it is to keep, in its folder; `put` moves it. Raises BenchError."""
        path = self._kept_in_work(spec, what)
        with writing(path):
            path.parent.mkdir(exist_ok=True)
        return path

    def _kept_in_work(self, spec: RunSpec, what: What) -> Path:
        return self.work(spec).absolute() / f"kept{SUFFIX[what]}"

    def _move_kept(self, result: RunResult, path: Path, scratch: Path) -> None:
        """Move what a run keeps beside its record, which is written next.

        An earlier record of the run first stops naming its own files: at no moment does a record name a file that is
        not there, or another one.
        """
        with contextlib.suppress(UnusableRecord):  # it is about to be replaced
            earlier = read_record(path, self.root) if result.kept else None
            if earlier and earlier.kept:
                text = earlier.model_copy(update={"kept": ()}).model_dump_json(indent=1) + "\n"
                write_whole(path, text.encode(), scratch)
        for each in result.kept:
            self._kept_in_work(result.spec, each.what).replace(path.with_suffix(SUFFIX[each.what]))

    def clear(self, spec: RunSpec) -> None:
        """Remove the folder of an unfinished run; needs the claim."""
        shutil.rmtree(self.work(spec), ignore_errors=True)

    def leftovers(self) -> set[str]:
        """Return the keys of the unfinished runs: running somewhere, or interrupted."""
        return {folder.name for folder in (self.root / WORK).glob("*/")}

    def put(self, result: RunResult) -> Path:
        """Write a record whole, after moving beside it what the run keeps, and return its path.

        Raises BenchError, and then keeps the record among the temporary files. Files that an earlier record of the run
        named and this one does not are removed.
        """
        if isinstance(result, Recorded):
            raise TypeError(f"{result.spec.path}: a record in brief is not written")
        path = self.root / result.spec.path
        text = result.model_dump_json(indent=1) + "\n"
        try:
            if self._opened and not os.path.samestat(self._opened, self.root.stat()):
                raise OSError("it is not the directory any more that the command began with")
            work = self.work(result.spec)
            work.mkdir(parents=True, exist_ok=True)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                scratch = work / f"record-{os.getpid()}.json"
                self._move_kept(result, path, scratch)
                write_whole(path, text.encode(), scratch)
                for what in SUFFIX.keys() - {each.what for each in result.kept}:
                    path.with_suffix(SUFFIX[what]).unlink(missing_ok=True)
            finally:
                with contextlib.suppress(OSError):  # not empty: it holds a checkpoint
                    work.rmdir()
        except OSError as error:
            remedy = f"free the disk or choose another --results{_rescue(text, path.name)}"
            raise BenchError(f"{path}: cannot be written: {error}. Do: {remedy}") from None
        return path


def raise_unusable(found: Iterable[RunResult | UnusableRecord | None]) -> Iterator[RunResult | None]:
    """Yield these records. Raises the first UnusableRecord among them."""
    for each in found:
        if isinstance(each, UnusableRecord):
            raise each
        yield each


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
