"""Training in processes of this machine, one run at a time each: a crash or a hang takes one run with it. No torch."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from bench.core.base import BenchError
from bench.core.jobs import Event, Job, Lost, Progress
from bench.core.record import RunResult, Where
from bench.core.spec import RunSpec
from bench.core.system import cores


class Workers:
    """So many worker processes (None: one for each GPU, or one on the CPU), which share cores and GPUs evenly.

    `device` as on the command line. Raises BenchError for one that is not there.
    """

    def __init__(self, device: str, jobs: int | None = None) -> None:
        if importlib.util.find_spec("torch") is None:
            raise ModuleNotFoundError(name="torch")  # said once here, and not by each process
        self.threads = max(1, cores() // jobs) if jobs and jobs > 1 else None
        self.devices = [device]
        self.workers = [self._new(0)]
        self.problem: Exception | None = None
        self.where: Where
        try:
            self.devices, self.where = self._ask("hello")
            self.slots = jobs or len(self.devices)
            if self.slots > 1 and not self.threads:  # known only now
                self.threads = max(1, cores() // self.slots)
                self.workers[0].kill()
                self.workers[0] = self._new(0)
            self.workers += [self._new(number) for number in range(1, self.slots)]
            self.where = self.where.model_copy(update={"sharing": sharing(self.slots, self.devices)})
        except BaseException:
            self.close()
            raise

    def check(self, specs: Sequence[RunSpec]) -> None:
        """Look at everything that concerns more than one run. Raises BenchError."""
        self._ask("check", specs)

    def start(self, job: Job) -> None:
        free = next(worker for worker in self.workers if worker.job is None)
        free.job = job
        free.send("run", job)

    def events(self, timeout: float) -> list[Event]:
        """Errors that concern all runs are raised once nothing else is left to be told."""
        busy = {worker.pipe: worker for worker in self.workers if worker.job is not None}
        found = []
        told = wait(list(busy), 0 if self.problem else timeout)
        for pipe, worker in busy.items():
            if worker.job is None or not (pipe in told or worker.dead):
                continue
            key, what = worker.job.spec.key, worker.receive()
            if not isinstance(what, Progress):
                worker.job = None
            lame = isinstance(what, RunResult) and what.status == "failed" and worker.device != "cpu"
            if isinstance(what, Lost) or lame:  # a failed kernel leaves a GPU unusable for its process
                self._replace(worker)
            if isinstance(what, RunResult):
                shared = what.where.model_copy(update={"sharing": self.where.sharing})
                what = what.model_copy(update={"where": shared})
            if isinstance(what, Exception):
                self.problem = what
            else:
                found.append(Event(key, what))
        if self.problem and not found:
            raise self.problem
        return found

    def stop(self, key: str) -> None:
        for worker in self.workers:
            if worker.job is not None and worker.job.spec.key == key:
                self._replace(worker)

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()

    def _new(self, number: int) -> _Worker:
        return _Worker(self.devices[number % len(self.devices)], self.threads)

    def _replace(self, worker: _Worker) -> None:
        worker.kill()
        number = self.workers.index(worker)
        self.workers[number] = self._new(number)

    def _ask(self, what: str, about: Any = None) -> Any:
        """Of the first worker."""
        self.workers[0].send(what, about)
        answer = self.workers[0].receive()
        if isinstance(answer, Lost):
            raise BenchError(f"a worker process could not {what}: {answer.why}; the lines above may say more")
        if isinstance(answer, Exception):
            raise answer
        return answer


def sharing(slots: int, devices: Sequence[str]) -> int | None:
    """Runs on the fullest of these GPUs, of so many at once in all; None for a CPU."""
    return math.ceil(slots / len(devices)) if devices[0] != "cpu" else None


class _Worker:
    """The driver's end of one process."""

    def __init__(self, device: str, threads: int | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.device = device
        self.job: Job | None = None
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, device, threads))
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited: Ctrl-C is the driver's affair
        self.process.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()

    @property
    def dead(self) -> bool:
        """Its children may hold its end of the pipe open."""
        return self.process.exitcode is not None

    def send(self, what: str, about: Any = None) -> None:
        with contextlib.suppress(OSError):  # that it is dead shows when its answer is read
            self.pipe.send((what, about))

    def receive(self) -> Any:
        """Its next message; Lost if it is dead."""
        try:
            if not self.dead or self.pipe.poll():
                return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(timeout=2)
        ended = self.process.exitcode
        return Lost("its process has closed its connection" if ended is None else _end(ended))

    def kill(self) -> None:
        """With the processes that its models have started."""
        assert self.process.pid
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it may not have its group yet
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join(timeout=5)
        self.pipe.close()


def _end(code: int) -> str:
    if code >= 0:
        return f"its process ended by itself (exit code {code})"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    likely = ": out of memory, most likely" if name == "SIGKILL" else ""
    return f"its process was killed ({name}{likely})"


def _work(pipe: Connection, device: str, threads: int | None) -> None:
    """A worker's life: answer until the driver is gone."""
    os.setsid()  # a group of its own, which ends with it
    threading.Thread(target=_die_with_the_driver, daemon=True).start()
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    from bench.train.worker import check, greet, train

    while True:
        try:
            what, about = pipe.recv()
        except EOFError:
            return
        try:
            match what:
                case "hello":
                    pipe.send(greet(device))
                case "check":
                    check(about)
                    pipe.send(None)
                case _:
                    pipe.send(train(about, device, pipe.send))
        except BenchError as error:
            pipe.send(BenchError(str(error)))


def _die_with_the_driver() -> None:
    driver = multiprocessing.parent_process()
    assert driver is not None
    driver.join()
    os.killpg(os.getpid(), signal.SIGKILL)
