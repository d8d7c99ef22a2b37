"""What `bench perf` times: our loop and the plain one, each in a process of its own, taking turns.

So a machine whose speed drifts slows both. Data have the shape of the card and random values; language models have
random weights. Neither changes what a step costs.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench.core.base import BenchError
from bench.core.card import cards
from bench.core.spec import RunSpec
from bench.perf.plain import PLAIN, train_plainly
from bench.plan import registry
from bench.train.device import keep_freed_memory, peak_mb, pick_device, reset_peak
from bench.train.evaluate import SERIES_PER_BATCH, autocast, evaluate
from bench.train.loop import store_frozen, train_epoch
from bench.train.schedule import StepPlan
from bench.train.step import WARM_UP, Graph, Stepper
from bench.train.windows import Windows
from models.kernels import plain
from models.llm_blocks import Blocks

Loop = Literal["ours", "plain"]
Reading = dict[str, float]


@dataclass(frozen=True)
class Job:
    """What one process measures. `seconds`: about how long a measurement may take."""

    spec: RunSpec
    device: str
    seconds: float


class Loops:
    """One process per loop, each waiting for its turn."""

    def __init__(self, job: Job, loops: tuple[Loop, ...]) -> None:
        self.job, self.loops = job, loops
        self.pipes: dict[Loop, Connection] = {}
        self.running: list[SpawnProcess] = []

    def __enter__(self) -> Loops:
        context = multiprocessing.get_context("spawn")
        for loop in self.loops:
            self.pipes[loop], theirs = context.Pipe()
            process = context.Process(target=_work, args=(self.job, loop, theirs))
            process.start()
            theirs.close()
            self.running.append(process)
            try:
                self.ask(loop, "ready")  # built and warm before the next starts: none disturbs another's turn
            except BaseException:
                self.__exit__()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.running:
            process.terminate()
            process.join()

    def ask(self, loop: Loop, what: str) -> Reading:
        name = f"perf: {self.job.spec.model} on {self.job.spec.task.dataset}, the {loop} loop"
        try:
            self.pipes[loop].send(what)
            answer = self.pipes[loop].recv()
        except (EOFError, OSError):
            raise BenchError(f"{name}: its process was killed, for memory most likely; try --no-plain") from None
        if isinstance(answer, str):
            raise BenchError(f"{name} failed: {answer}")
        reading: Reading = answer
        return reading


def _work(job: Job, loop: Loop, pipe: Connection) -> None:
    try:
        device = pick_device(job.device)
        made: _Ours | _Plain = _Ours(job, device) if loop == "ours" else _Plain(job, device)
        while True:
            match pipe.recv():
                case "ready":
                    pipe.send({})
                case "round":
                    pipe.send(made.round())
                case _:
                    pipe.send(made.end())
    except (EOFError, KeyboardInterrupt):
        pass
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}")


class _Measured:
    """A model on random windows of its data set's shape."""

    def __init__(self, job: Job, device: torch.device) -> None:
        self.job, self.device, self.config = job, device, job.spec.train
        self.peak_known = reset_peak(device)
        torch.manual_seed(job.spec.seed)
        self.windows = _windows(job.spec, device)
        task = job.spec.task
        self.shape = cards()[task.dataset].shape(task.context, task.horizon)
        self.options = registry.make_options(job.spec.model, registry.load(job.spec.model), job.spec.options)

    def positions(self, steps: int) -> Tensor:
        """Of the windows of so many batches, at random."""
        return torch.randint(len(self.windows), (steps * self.config.batch,))

    def peak(self) -> Reading:
        return {"peak_mb": peak_mb(self.device)} if self.peak_known else {}

    def steps_in(self, seconds_a_step: float) -> int:
        return max(2, min(300, int(self.job.seconds / seconds_a_step)))


class _Ours(_Measured):
    def __init__(self, job: Job, device: torch.device) -> None:
        super().__init__(job, device)
        keep_freed_memory()
        self.model = registry.load(job.spec.model)(self.shape, self.options).to(device)
        store_frozen(self.model, self.config.precision)
        self.plan = StepPlan(self.config, len(self.windows))
        self.take_step = Stepper(self.model, self.windows, self.config)
        self.blocks = next((part for part in self.model.modules() if isinstance(part, Blocks)), None)
        self.blocks_reads: tuple[Any, ...] = ()
        if self.blocks:
            self.blocks.register_forward_pre_hook(self._remember)
        self.nothing = torch.zeros(1, device=device)
        first = WARM_UP + 1 if device.type == "cuda" else 1
        self._loop(first)
        self.peak_of_steps = self.peak()
        self.take_blocks: Callable[[Tensor], Tensor] = self._blocks_step
        if self.blocks and self.take_step.graph:
            self.take_blocks = Graph(self._blocks_step, 1, device, compiled=True)  # as they are in the step's
            _timed(self._blocks_alone, first, device)
        self.steps = self.steps_in(self._loop(1))

    def round(self) -> Reading:
        reading = {"step_s": self._loop(self.steps), "outside_s": self._loop(max(self.steps, 100), self._gather_only)}
        before = _ceiling(self.config.precision, self.device)
        if self.blocks:
            reading["blocks_s"] = _timed(self._blocks_alone, self.steps, self.device)
        after = _ceiling(self.config.precision, self.device)
        return {**reading, "ceiling": (before + after) / 2}

    def end(self) -> Reading:
        evaluated = 2 * max(1, SERIES_PER_BATCH[self.device.type] // self.shape.channels)
        started = time.perf_counter()
        evaluate(self.model, replace(self.windows, count=evaluated), self.config.precision)
        reading = {"infer_s": (time.perf_counter() - started) / evaluated, "micro_batch": self.take_step.micro_batch}
        reading |= self.peak() if self.device.type == "cpu" else self.peak_of_steps  # without the blocks' own graph
        if self.take_step.graph:
            one_by_one = Stepper(self.model, self.windows, self.config, graphs=False)
            self._loop(WARM_UP, one_by_one)
            reading["one_by_one_s"] = self._loop(self.steps, one_by_one)
        self.model.train()
        index = self.positions(1).to(self.device)
        reading["step_flops"] = _flops(lambda: self.take_step._in_micro_batches(index))
        if self.blocks:
            reading["blocks_flops"] = _flops(partial(self._blocks_step, self.nothing))
        return reading

    def _loop(self, steps: int, take_step: Callable[[Tensor, float], Tensor] | None = None) -> float:
        """Seconds a step of the training loop."""
        self.model.train()
        _wait(self.device)
        started = time.perf_counter()
        batches = self.positions(steps).to(self.device).split(self.config.batch)
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        train_epoch(take_step or self.take_step, self.plan, 0, batches, loss, lambda done: None)
        loss.item()  # waits for the device
        return (time.perf_counter() - started) / steps

    def _gather_only(self, index: Tensor, lr: float) -> Tensor:
        x, _ = self.windows.gather(index)
        if getattr(self.model, "reads_calendar", False):
            self.windows.gather_calendar(index)
        return x[0, 0, 0]

    def _remember(self, blocks: nn.Module, reads: tuple[Any, ...]) -> None:
        """What the blocks were given, with fresh values: they are measured on it alone."""
        if blocks.training and not self.blocks_reads:
            tokens, *rest = reads
            self.blocks_reads = (torch.randn(tokens.shape, device=self.device), *rest)

    def _blocks_alone(self) -> None:
        self.take_blocks(self.nothing)

    def _blocks_step(self, nothing: Tensor) -> Tensor:
        """The blocks forward and backward, in the form of a training step."""
        assert self.blocks is not None
        tokens, *rest = self.blocks_reads
        with autocast(self.device, self.config.precision):
            read = self.blocks(tokens.requires_grad_(), *rest)[-1]
        read.backward(torch.ones_like(read))
        tokens.grad = None
        return nothing


class _Plain(_Measured):
    def __init__(self, job: Job, device: torch.device) -> None:
        super().__init__(job, device)
        self.config = self.config.model_copy(update={"precision": "float32"})
        model_class = registry.load(job.spec.model)
        model_class = PLAIN.get(model_class, model_class)
        with plain():
            self.model = model_class(self.shape, self.options).to(device)
            self.steps = self.steps_in(self._loop(1))

    def round(self) -> Reading:
        with plain():
            return {"step_s": self._loop(self.steps)}

    def end(self) -> Reading:
        return self.peak()

    def _loop(self, steps: int) -> float:
        """Seconds a step, without the start of the workers and the first step."""
        workers = min(10, os.cpu_count() or 1)
        ends = []
        for _ in train_plainly(self.model, self.windows, self.config, self.positions(steps + 1).tolist(), workers):
            _wait(self.device)
            ends.append(time.perf_counter())
        return (ends[-1] - ends[0]) / (len(ends) - 1)


def _windows(spec: RunSpec, device: torch.device) -> Windows:
    """A random walk per channel, with as many rows and channels as the data set."""
    card, task = cards()[spec.task.dataset], spec.task
    series = torch.randn(card.rows, card.width).cumsum(0)
    series = (series - series.mean(0)) / series.std(0)
    count = card.windows("train", task.context, task.horizon)
    return Windows(series.to(device), 0, count, task.context, task.horizon, torch.rand(card.rows, 4).to(device))


def _ceiling(precision: str, device: torch.device) -> float:
    """Operations per second that matrix products sustain for half a second, of two sizes the better, in this precision.

    Not the best single product: on shared machines the matrix units now and then run three times as fast for moments.
    """
    best = 0.0
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    for rows, inner, columns in ((3072, 768, 3072), (4096, 4096, 4096)):
        left = torch.randn(rows, inner, device=device).to(dtype)
        right = torch.randn(inner, columns, device=device).to(dtype)
        out = left @ right
        product = partial(torch.mm, left, right, out=out)
        times = max(1, int(0.5 / _timed(product, 1, device)))
        best = max(best, 2 * rows * inner * columns / _timed(product, times, device))
    return best


def _flops(work: Callable[[], object]) -> float:
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:  # not every fused kernel is known to the counter
        work()
    return float(counter.get_total_flops())


def _timed(work: Callable[[], object], times: int, device: torch.device) -> float:
    """Seconds per call."""
    _wait(device)
    started = time.perf_counter()
    for _ in range(times):
        work()
    _wait(device)
    return (time.perf_counter() - started) / times


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
