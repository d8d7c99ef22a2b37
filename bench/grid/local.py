"""Train in processes of this machine, one run at a time in each: a crash or a hang ends only its own run. No torch."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from bench.core.jobs import Job, Lost, Progress
from bench.core.record import RunResult
from bench.core.system import cores
from bench.grid.engine import Engine


class Workers(Engine):
    """Run `jobs` worker processes that share cores and GPUs evenly (None: one for each GPU, or one on the CPU).

    `device` is the value of --device. Raises BenchError for a device that does not exist.
    """

    def __init__(self, device: str, jobs: int | None = None) -> None:
        if importlib.util.find_spec("torch") is None:
            raise ModuleNotFoundError(name="torch")  # one error here, instead of one in each process
        self.threads = max(1, cores() // jobs) if jobs and jobs > 1 else None
        self.devices = [device]
        self.workers = [self._new(0)]
        try:
            # 1. Ask the first worker for the devices; they decide the number of workers.
            self.devices, where = self._ask("greet")
            self.slots = jobs or len(self.devices)
            # 2. Restart the first worker if only now its number of threads can be decided.
            if self.slots > 1 and not self.threads:
                self.threads = max(1, cores() // self.slots)
                self._replace(self.workers[0])
            # 3. Start the others.
            self.workers += [self._new(number) for number in range(1, self.slots)]
            self._describe(where, sharing=sharing(self.slots, self.devices))
        except BaseException:
            self.close()
            raise

    def start(self, job: Job) -> None:
        free = next(worker for worker in self.workers if worker.job is None)
        free.job = job
        free.send("train", job)

    def stop(self, key: str) -> None:
        for worker in self.workers:
            if worker.job is not None and worker.job.spec.key == key:
                self._replace(worker)

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()

    def _messages(self, timeout: float) -> Iterator[tuple[str, Any]]:
        busy = [(worker, worker.job) for worker in self.workers if worker.job is not None]
        ready = wait([worker.pipe for worker, _ in busy], timeout)
        for worker, job in busy:
            if worker.pipe not in ready and not worker.dead:
                continue
            message = worker.receive()
            if not isinstance(message, Progress):
                worker.job = None
            failed_on_gpu = isinstance(message, RunResult) and message.status == "failed" and worker.device != "cpu"
            if isinstance(message, Lost) or failed_on_gpu:  # a failed kernel makes the GPU unusable for its process
                self._replace(worker)
            yield job.spec.key, message

    def _answer(self, what: str, about: Any) -> Any:
        self.workers[0].send(what, about)
        return self.workers[0].receive()

    def _new(self, number: int) -> _Worker:
        return _Worker(self.devices[number % len(self.devices)], self.threads)

    def _replace(self, worker: _Worker) -> None:
        worker.kill()
        number = self.workers.index(worker)
        self.workers[number] = self._new(number)


def sharing(slots: int, devices: Sequence[str]) -> int | None:
    """Return the number of runs on the GPU with the most runs if `slots` runs use these GPUs; None for a CPU."""
    return math.ceil(slots / len(devices)) if devices[0] != "cpu" else None


class _Worker:
    """The driver's end of one process."""

    def __init__(self, device: str, threads: int | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.device = device
        self.job: Job | None = None
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, device, threads))
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited: only the driver sees Ctrl-C
        self.process.start()
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
        likely = ": out of memory, most likely" if name == "SIGKILL" else ""
        return Lost(f"its process was killed ({name}{likely})")

    def kill(self) -> None:
        """Kill the process and every process that its models started."""
        assert self.process.pid
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it may not have its own group yet
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join(timeout=5)
        self.pipe.close()


def _work(pipe: Connection, device: str, threads: int | None) -> None:
    """Answer the driver's questions until the driver is gone. Runs in the worker process."""
    os.setsid()  # the process leads its own group, so that its children die with it
    threading.Thread(target=_die_with_the_driver, daemon=True).start()
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    from bench.train.worker import answer

    with contextlib.suppress(EOFError):
        while True:
            what, about = pipe.recv()
            pipe.send(answer(what, about, device, pipe.send))


def _die_with_the_driver() -> None:
    driver = multiprocessing.parent_process()
    assert driver is not None
    driver.join()
    os.killpg(os.getpid(), signal.SIGKILL)
