"""A worker process, and all processes that are started in it: begun, listened to and killed by the driver. No torch."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import multiprocessing
import os
import secrets
import signal
import sys
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.core.base import BenchError
from bench.core.jobs import Job, Lost

MARK = "BENCH_WORKER"
"""Environment variable of a worker and of all processes that are started in it; its value is different in each."""
START = "forkserver" if sys.platform == "linux" else "spawn"
"""How a worker starts: forked, in milliseconds, from one process that has imported torch; macOS cannot fork that."""
IMPORTED = ["bench.train.worker", "torch._dynamo", "bench.grid.frozen"]
"""Modules that are imported once for all workers; torch's optimisers import the second, which takes two seconds."""
ORPHANED = 255
"""The exit code that multiprocessing gives all workers once the process that they are forked from is gone."""
SET_NAME, SET_CHILD_SUBREAPER = 15, 36
"""Options of Linux' prctl: a process's name, which its forks have too; that orphans among descendants are its own."""


class Worker:
    """The driver's end of one process."""

    def __init__(self, device: str, threads: int) -> None:
        self.device = device
        self.job: Job | None = None
        self.used = False
        """Whether a run was begun in it."""
        self.mark = secrets.token_hex(16)
        if getattr(main := sys.modules["__main__"], "__file__", None) == "<stdin>":
            del main.__file__  # else the process would look for this file
        variables = {**os.environ, MARK: self.mark, "OMP_NUM_THREADS": str(threads)}
        context: Any = multiprocessing.get_context(START)
        context.set_forkserver_preload(IMPORTED)
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, device, threads, variables))
        with _environment_with(PYTHONWARNINGS="ignore:resource_tracker"):  # of what killed workers leave to it
            resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited: only the driver sees Ctrl-C
        try:
            self.process.start()
        except (OSError, EOFError) as error:  # EOFError: the process that forks could not
            cause = f"a worker process could not be started ({error or 'it ended at once'})"
            raise BenchError(f"{cause}. Do: end other processes, or lower --jobs, and start it again") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()

    @property
    def dead(self) -> bool:
        """Tell whether the process ended; its children may still hold the pipe open."""
        code = self.process.exitcode
        return code is not None and not (code == ORPHANED and _has_mark(self.process.pid or 0, self.mark))

    def send(self, what: str, about: Any) -> None:
        with contextlib.suppress(OSError):  # `receive` notices that the process is dead
            self.pipe.send((what, about))

    def receive(self) -> Any:
        """Return the next message; Lost if the process is dead."""
        try:
            if not self.dead or self.pipe.poll():
                return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(timeout=2)
        code = self.process.exitcode
        if code is None:
            return Lost("its process has closed its connection")
        if code == ORPHANED:
            return Lost("its process has ended, or was killed")
        if code >= 0:
            return Lost(f"its process ended by itself (exit code {code})")
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        likely = " (out of memory, or by somebody)" if name == "SIGKILL" else ""
        return Lost(f"its process was killed by {name}{likely}")

    def memory(self) -> tuple[float, float] | None:
        """Return the MiB that the process holds now and held at most in its run; None where the system does not say."""
        try:
            lines = Path(f"/proc/{self.process.pid}/status").read_text("utf-8", "replace").splitlines()
            facts = dict(line.split(":", 1) for line in lines)
            now, most = (int(facts[name].split()[0]) / 2**10 for name in ("VmRSS", "VmHWM"))
            return now, most
        except (OSError, KeyError):  # one that has ended holds no memory
            return None

    def kill(self) -> None:
        """Kill the process and every process that its models started."""
        worker = self.process.pid
        assert worker
        _kill_all_of(0 if self.dead else worker, self.mark)  # the number of a dead one may be another's by now
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it may not have its own group yet
            os.killpg(worker, signal.SIGKILL)
        self.process.kill()
        self.process.join(timeout=5)
        self.pipe.close()


@contextlib.contextmanager
def _environment_with(**variables: str) -> Iterator[None]:
    """Set environment variables for a process that is started within."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _work(pipe: Connection, device: str, threads: int, variables: dict[str, str]) -> None:
    """Answer the driver's questions until the driver is gone. Runs in the worker process, with these variables."""
    os.setsid()  # the process leads its own group, so that its children die with it
    os.environ.clear()
    os.environ.update(variables)
    with contextlib.suppress(AttributeError):  # only Linux has it
        ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1)
        ctypes.CDLL(None).prctl(SET_NAME, variables[MARK][:15].encode())
    threading.Thread(target=_die_with_the_driver, args=(os.environ[MARK],), daemon=True).start()
    from bench.grid import frozen  # noqa: F401  (where workers are forked, it was imported before)
    from bench.train.worker import answer, use_threads

    use_threads(threads)  # OMP_NUM_THREADS is read when torch is imported
    with contextlib.suppress(EOFError, ConnectionError):  # the driver is gone; a run's log is no place to say so
        while True:
            what, about = pipe.recv()
            if what == "load":
                _print_into(Path(os.devnull))
            elif what == "train" and about.log:
                _print_into(about.log)
            reply = answer(what, about, device, pipe.send)
            _flush()
            pipe.send(reply)


def _print_into(file: Path) -> None:
    """Append to a file all that this process and its children print from here on, and where a signal struck it."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        os.dup2(descriptor, number)
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    faulthandler.enable(descriptor)


def _flush() -> None:
    """Write out what Python and the C library still hold of the output; the process may be killed next."""
    with contextlib.suppress(Exception):  # a model may have closed or replaced them
        sys.stdout.flush()
        sys.stderr.flush()
        ctypes.CDLL(None).fflush(None)


def _die_with_the_driver(mark: str) -> None:
    driver = multiprocessing.parent_process()
    assert driver is not None
    driver.join()
    _kill_all_of(os.getpid(), mark)
    os.killpg(os.getpid(), signal.SIGKILL)


def _kill_all_of(worker: int, mark: str) -> None:
    """Kill a worker, unless it is this process, and all that descend from it or bear its mark, whatever their session.

    One that was started with another environment, or forked and renamed, is not found once its worker is gone; on
    systems without /proc none is.
    """
    for _ in range(10):  # one of them may be starting another
        found = _of(worker, mark) - {os.getpid()}
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def _of(worker: int, mark: str) -> set[int]:
    """Return the processes that descend from a worker or bear its mark."""
    every = _processes()
    found = {pid for pid in every if pid == worker or _has_mark(pid, mark)}
    while more := {pid for pid, parent in every.items() if parent in found} - found:
        found |= more
    return found


def _processes() -> dict[int, int]:
    """Return process -> its parent, for all that are alive."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = entry.read_text("utf-8", "replace").rpartition(")")[2].split()[:2]
            if state != "Z":
                found[int(entry.parent.name)] = int(parent)
    return found


def _has_mark(pid: int, mark: str) -> bool:
    """Tell whether a process has this mark, as its name (a fork) or in its environment (what it started)."""
    with contextlib.suppress(OSError):
        if Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").strip() == mark[:15]:
            return True
        return f"{MARK}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return False
