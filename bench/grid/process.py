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
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.core.jobs import Job, Lost

MARK = "BENCH_WORKER"
"""Environment variable of a worker and of all processes that are started in it; its value is different in each."""


class Worker:
    """The driver's end of one process."""

    def __init__(self, device: str, threads: int | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.device = device
        self.job: Job | None = None
        self.used = False
        """Whether a run was begun in it."""
        self.mark = secrets.token_hex(16)
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, device, threads))
        resource_tracker.ensure_running()  # now: it serves all workers, and must not bear the mark of one
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited: only the driver sees Ctrl-C
        os.environ[MARK] = self.mark
        try:
            self.process.start()
        finally:
            del os.environ[MARK]
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()

    @property
    def dead(self) -> bool:
        """Tell whether the process ended; its children may still hold the pipe open."""
        return self.process.exitcode is not None

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
        if code >= 0:
            return Lost(f"its process ended by itself (exit code {code})")
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        likely = " (out of memory, or by somebody)" if name == "SIGKILL" else ""
        return Lost(f"its process was killed by {name}{likely}")

    def kill(self) -> None:
        """Kill the process and every process that its models started."""
        assert self.process.pid
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it may not have its own group yet
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        _kill_marked(self.mark)
        self.process.join(timeout=5)
        self.pipe.close()


def _work(pipe: Connection, device: str, threads: int | None) -> None:
    """Answer the driver's questions until the driver is gone. Runs in the worker process."""
    os.setsid()  # the process leads its own group, so that its children die with it
    threading.Thread(target=_die_with_the_driver, args=(os.environ[MARK],), daemon=True).start()
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    from bench.train.worker import answer

    with contextlib.suppress(EOFError):
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
    _kill_marked(mark)
    os.killpg(os.getpid(), signal.SIGKILL)


def _kill_marked(mark: str) -> None:
    """Kill the other processes that bear the mark of a worker, whatever their group or session.

    A process that was started with another environment is not found, and on systems without /proc none is.
    """
    wanted = f"{MARK}={mark}".encode()
    for _ in range(10):  # one of them may be starting another
        found = [pid for pid in _processes() if pid != os.getpid() and wanted in _environment(pid)]
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def _processes() -> list[int]:
    try:
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    except OSError:
        return []


def _environment(pid: int) -> list[bytes]:
    """Return the variables that a process began with; none of a process that is gone, or is somebody else's."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
