"""Train in processes of this machine, one run at a time in each: a crash or a hang ends only its own run. No torch.

A user's own model may change its whole process and start others. It therefore has a process to itself for each run,
which ends with the run, as all do that the model started.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from bench.core.base import BenchError
from bench.core.jobs import Job, Lost, Progress
from bench.core.record import RunResult
from bench.core.store import LOG
from bench.core.system import THREADS, free_memory, keep_end
from bench.grid.engine import Engine
from bench.grid.process import Worker
from bench.plan.capacity import slots


class Workers(Engine):
    """Run up to `jobs` worker processes (None: one for each GPU; without a GPU, as many as the cores allow).

    `device` is the value of --device; each run has `threads` threads. Raises BenchError for a device that does not
    exist.
    """

    def __init__(self, device: str, jobs: int | None = None, threads: int = THREADS) -> None:
        if importlib.util.find_spec("torch") is None:
            raise ModuleNotFoundError(name="torch")  # one error here, instead of one in each process
        self.threads, self.devices = threads, [device]
        self.workers = [self._new(0)]
        try:
            self.devices, where = self._ask("greet")  # the devices decide the number of workers
            self.slots = slots(jobs, threads) if self.on_cpu else jobs or len(self.devices)
            self._describe(where, sharing=sharing(self.slots, self.devices))
        except BaseException:
            self.close()
            raise

    @property
    def on_cpu(self) -> bool:
        return self.devices[0] == "cpu"

    def start(self, job: Job) -> None:
        free = next((worker for worker in self.workers if worker.job is None), None)
        if free is None:
            free = self._new(len(self.workers))
            self.workers.append(free)
        if job.spec.own and free.used:
            free = self._replace(free)
        free.job, free.used = job, True
        free.send("train", job)

    def stop(self, key: str) -> None:
        for worker in self.workers:
            if worker.job is not None and worker.job.spec.key == key:
                self._replace(worker)

    def free_memory(self) -> float | None:
        return free_memory() if self.on_cpu else None

    def memory(self, key: str) -> tuple[float, float] | None:
        return next((each.memory() for each in self.workers if each.job and each.job.spec.key == key), None)

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()

    def _messages(self, timeout: float) -> Iterator[tuple[str, Any]]:
        busy = [(worker, worker.job) for worker in self.workers if worker.job is not None]
        ready = wait([worker.pipe for worker, _ in busy], timeout)
        for worker, job in busy:
            if job.log:
                _shorten(job.log)
            if worker.pipe not in ready and not worker.dead:
                continue
            message = worker.receive()
            ended = not isinstance(message, Progress)
            if ended:
                worker.job = None
            # A failed kernel makes the GPU unusable for its process; a user's own model may have changed anything.
            failed_on_gpu = isinstance(message, RunResult) and message.status == "failed" and worker.device != "cpu"
            if isinstance(message, Lost) or failed_on_gpu or (ended and job.spec.own):
                self._replace(worker)
            yield job.spec.key, message

    def _answer(self, what: str, about: Any) -> Any:
        if what != "load":
            self.workers[0].send(what, about)
            return self.workers[0].receive()
        apart = self._new(0)
        try:
            apart.send(what, about)
            answer = apart.receive()
        finally:
            apart.kill()
        if isinstance(answer, Lost):
            model = about[0].model
            remedy = f"python -c 'import {model.partition(':')[0]}' shows more"
            return BenchError(f"model {model}: while it was imported, {answer.why}. Do: {remedy}")
        return answer

    def _new(self, number: int) -> Worker:
        return Worker(self.devices[number % len(self.devices)], self.threads)

    def _replace(self, worker: Worker) -> Worker:
        worker.kill()
        number = self.workers.index(worker)
        self.workers[number] = self._new(number)
        return self.workers[number]


def sharing(slots: int, devices: Sequence[str]) -> int | None:
    """Return the number of runs on the GPU with the most runs if `slots` runs use these GPUs; None for a CPU."""
    return math.ceil(slots / len(devices)) if devices[0] != "cpu" else None


def _shorten(log: Path) -> None:
    """Cut a log that is growing without end. The driver looks once in a second: what is written in between is more."""
    with contextlib.suppress(OSError):
        if log.stat().st_size > 4 * LOG:
            keep_end(log, LOG)
