"""`bench perf` times our training loop and plain ones, each kind in a process of its own, in turns.

A machine whose speed drifts slows both loops alike. Data have the shape of the data set's card and random values, and
language models have random weights: neither changes the cost of a step.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bench.core.base import BenchError
from bench.core.card import cards
from bench.core.schedule import StepPlan
from bench.core.spec import RunSpec
from bench.core.system import cores
from bench.perf.plain import PLAIN, train_plainly, validate_plainly
from bench.plan import registry
from bench.train.device import keep_freed_memory, peak_mb, pick_device, reset_peak, wait
from bench.train.evaluate import Errors, autocast, evaluate, operations, scorer, whole_batch
from bench.train.graph import WARM_UP, Graph
from bench.train.loop import store_frozen, train_epoch
from bench.train.step import Stepper
from bench.train.windows import Windows
from bench.train.worker import use_threads
from models.kernels import plain
from models.llm_blocks import Blocks

LoopName = Literal["ours", "plain"]
Part = Literal["start", "round", "end"]
"""What a process is asked for; `start` is answered when it is warm."""
LIMIT = 600
"""Seconds after which a process that has not answered is given up."""
Measurement = dict[str, float]
"""Name of a figure -> its value, in seconds, operations (per second), MiB or windows."""
VARIANTS = {
    "0 workers": (0, "float32"),
    "workers": (min(10, cores()), "float32"),
    "bf16": (0, "bf16"),
}
"""Name of a plain loop -> processes that load its data (one per core, at most Time-Series-Library's ten); precision."""


@contextmanager
def process_of(
    loop: LoopName, spec: RunSpec, device: str, threads: int, seconds: float
) -> Iterator[Callable[[Part], Measurement]]:
    """Start one loop in a new process; yield a function that makes it measure one part, first of all its `start`.

    `seconds` is about how long one measurement may take. Leaving the context ends the process. The function raises
    BenchError if the loop fails or its process is killed.
    """
    context = multiprocessing.get_context("spawn")
    pipe, end_of_child = context.Pipe()
    process = context.Process(target=_serve, args=(end_of_child, loop, spec, device, threads, seconds, time.time()))
    process.start()
    end_of_child.close()
    name = f"perf: {spec.model} on {spec.task.dataset}, the {loop} loop"

    def measure(part: Part) -> Measurement:
        try:
            if part != "start":
                pipe.send(part)
            if not pipe.poll(LIMIT):
                raise BenchError(f"{name}: no answer in {LIMIT} s. Do: try --no-plain, or a smaller --batch")
            answer: Measurement | str = pipe.recv()
        except (EOFError, OSError):
            raise BenchError(f"{name}: its process was killed, for memory most likely. Do: try --no-plain") from None
        if isinstance(answer, str):
            raise BenchError(f"{name} failed: {answer}. Do: mend the model, or name others with --models")
        return answer

    try:
        yield measure
    finally:
        process.terminate()
        process.join()


def _serve(
    pipe: Connection, loop: LoopName, spec: RunSpec, device: str, threads: int, seconds: float, began: float
) -> None:
    """Build the loop, answer with nothing, then answer every part's name with its measurement or an error's text."""
    try:
        use_threads(threads)
        with plain() if loop == "plain" else nullcontext():
            measured = (_Ours if loop == "ours" else _Plain)(spec, pick_device(device), seconds)
            measured.start_s = time.time() - began
            pipe.send({})
            while True:
                pipe.send(getattr(measured, pipe.recv())())
    except (EOFError, KeyboardInterrupt):  # nobody asks any more
        pass
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}")


class _Loop:
    """A model's options and random windows of its data set's shape; subclasses measure a training loop on them."""

    start_s = 0.0
    """Seconds from the start of the process to the end of the first steps."""

    def __init__(self, spec: RunSpec, device: torch.device, seconds: float) -> None:
        self.device, self.seconds, self.config = device, seconds, spec.train
        self.has_peak = reset_peak(device)
        torch.manual_seed(spec.seed)
        card, size = cards()[spec.task.dataset], (spec.task.context, spec.task.horizon)
        series = torch.randn(card.rows, card.width).cumsum(0)  # random walks
        series = ((series - series.mean(0)) / series.std(0)).to(device)
        calendar = torch.rand(card.rows, 4).to(device)
        self.windows, self.val = (
            Windows(series, first, card.windows(part, *size), *size, calendar)
            for part, first in (("train", 0), ("val", card.bounds()["val"][0] - size[0]))
        )
        self.plan = StepPlan(self.config, len(self.windows))
        self.shape = card.shape(*size)
        self.model_class = registry.load(spec.model)
        self.options = registry.make_options(spec.model, self.model_class, spec.options)

    def positions(self, steps: int) -> Tensor:
        """Draw the positions of the windows of `steps` batches."""
        return torch.randint(len(self.windows), (steps * self.config.batch,))

    def peak(self) -> Measurement:
        return {"peak_mb": peak_mb(self.device)} if self.has_peak else {}

    def steps_per_round(self, step_s: float) -> int:
        """Return how many steps of `step_s` seconds to time: an epoch's, or as many as fit; at least 2."""
        return max(2, min(self.plan.per_epoch, int(self.seconds / step_s)))

    def part_of(self, val: Windows, steps: int) -> Windows:
        """Return the share of the validation windows that belongs to `steps` steps of an epoch."""
        return replace(val, count=max(1, round(len(val) * min(1.0, steps / self.plan.per_epoch))))


class _Ours(_Loop):
    """Our training loop: micro-batches, on a GPU as a CUDA graph, frozen weights in the run's precision."""

    def __init__(self, spec: RunSpec, device: torch.device, seconds: float) -> None:
        super().__init__(spec, device, seconds)
        # 1. Build the model and its optimiser step.
        keep_freed_memory()
        self.model = self.model_class(self.shape, self.options).to(device)
        store_frozen(self.model, self.config.precision)
        self.take_step = Stepper(self.model, self.windows, self.config)
        # 2. Warm up: the first steps are slow, and note the input of the language model's blocks.
        self.blocks = next((part for part in self.model.modules() if isinstance(part, Blocks)), None)
        self.inputs_of_blocks: tuple[Any, ...] = ()
        if self.blocks:
            self.blocks.register_forward_pre_hook(self._note_inputs)
        self.zero = torch.zeros(1, device=device)
        self.first = WARM_UP + 1 if device.type == "cuda" else 1
        self._loop(self.first)
        self.peak_of_steps = self.peak()
        # 3. Run the blocks alone as the step does: in a graph and compiled, if the step is.
        self.take_blocks: Callable[[Tensor], Tensor] = self._blocks_step
        if self.blocks and self.take_step.graph:
            self.take_blocks = Graph(self._blocks_step, 1, device, self.take_step.graph.compiled)
            _timed(partial(self.take_blocks, self.zero), self.first, device)
        self.steps = self.steps_per_round(self._loop(1))
        self.validate = self._evaluation(self.part_of(self.val, self.steps))

    def round(self) -> Measurement:
        """Time an epoch, the loop without model and optimiser, the blocks alone, and matrix products beside them."""
        times = {"step_s": self._loop(self.steps)}
        validation_s = _timed(self.validate, 1, self.device)
        times["epoch_s"] = (times["step_s"] + validation_s / self.steps) * self.plan.per_epoch
        times["outside_s"] = self._loop(max(self.steps, 100), self._gather_only)
        ceiling = self._ceiling()
        if self.blocks:
            times["blocks_s"] = _timed(partial(self.take_blocks, self.zero), self.steps, self.device)
        return {**times, "ceiling": (ceiling + self._ceiling()) / 2}

    def end(self) -> Measurement:
        """Measure once: inference, memory, steps without a graph, and floating-point operations per step."""
        # 1. Time the evaluation of two batches and read the peak memory.
        evaluated = replace(self.windows, count=min(len(self.windows), 2 * whole_batch(self.windows)))
        figures = {"infer_s": _timed(self._evaluation(evaluated), 1, self.device) / len(evaluated)}
        figures |= {"micro_batch": self.take_step.micro_batch, "start_s": self.start_s}
        figures |= self.peak() if self.device.type == "cpu" else self.peak_of_steps  # without the blocks' own graph
        # 2. Time the same steps with kernels launched one by one.
        if self.take_step.graph:
            one_by_one = Stepper(self.model, self.windows, self.config, graphs=False)
            self._loop(WARM_UP, one_by_one)
            figures["one_by_one_s"] = self._loop(self.steps_per_round(self._loop(1, one_by_one)), one_by_one)
        # 3. Count operations, forward and backward.
        self.model.train()
        index = self.positions(1).to(self.device)
        figures["step_flops"] = operations(lambda: self.take_step._in_micro_batches(index))
        if self.blocks:
            figures["blocks_flops"] = operations(partial(self._blocks_step, self.zero))
        return figures

    def _loop(self, steps: int, take_step: Callable[[Tensor, float], Tensor] | None = None) -> float:
        """Return seconds per step of the training loop."""
        self.model.train()
        wait(self.device)
        started = time.perf_counter()
        batches = self.positions(steps).to(self.device).split(self.config.batch)
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        train_epoch(take_step or self.take_step, self.plan, 0, batches, loss, lambda done: None)
        loss.item()  # waits for the device
        return (time.perf_counter() - started) / steps

    def _ceiling(self) -> float:
        return _ceiling(self.config.precision, self.device, min(0.5, self.seconds / 4))

    def _evaluation(self, windows: Windows) -> Callable[[], Errors]:
        """Return a function that scores the windows, by now as a graph where validation becomes one."""
        score = scorer(self.model, windows, self.config.precision)
        again = partial(evaluate, self.model, windows, self.config.precision, score=score)
        if isinstance(score, Graph):
            _timed(again, self.first, self.device)
        return again

    def _gather_only(self, index: Tensor, lr: float) -> Tensor:
        x, _ = self.windows.contexts(index), self.windows.targets(index)
        if getattr(self.model, "reads_calendar", False):
            self.windows.gather_calendar(index)
        return x[0, 0, 0]

    def _note_inputs(self, blocks: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Note what the blocks read, with fresh values in place of the tokens, to time the blocks alone on it."""
        if blocks.training and not self.inputs_of_blocks:
            tokens, *rest = inputs
            self.inputs_of_blocks = (torch.randn(tokens.shape, device=self.device), *rest)

    def _blocks_step(self, zero: Tensor) -> Tensor:
        """Run the blocks forward and backward; takes and returns a tensor, as a training step does."""
        assert self.blocks is not None
        tokens, *rest = self.inputs_of_blocks
        with autocast(self.device, self.config.precision):
            state = self.blocks(tokens.requires_grad_(), *rest)[-1]
        state.backward(torch.ones_like(state))
        tokens.grad = None
        return zero


class _Plain(_Loop):
    """Training loops as peers write them, on one model. Use it under `plain()`."""

    def __init__(self, spec: RunSpec, device: torch.device, seconds: float) -> None:
        super().__init__(spec, device, seconds)
        self.variants = {
            name: (workers, self.config.model_copy(update={"precision": precision}))
            for name, (workers, precision) in VARIANTS.items()
            if precision in ("float32", self.config.precision)
        }
        self.model = PLAIN.get(self.model_class, self.model_class)(self.shape, self.options).to(device)
        by_precision: dict[str, int] = {}
        for name, (workers, config) in self.variants.items():
            step_s = self._epoch(name, 3)["step_s"]  # with workers, too: the process that they are forked from starts
            if not workers:  # steps that wait for workers do not tell how long a step is
                by_precision[config.precision] = self.steps_per_round(step_s)
        self.steps = {name: by_precision[config.precision] for name, (_, config) in self.variants.items()}

    def round(self) -> Measurement:
        """Time an epoch of each loop."""
        return {
            f"{name} {figure}": seconds
            for name, steps in self.steps.items()
            for figure, seconds in self._epoch(name, steps).items()
        }

    def end(self) -> Measurement:
        return {**self.peak(), "start_s": self.start_s}

    def _epoch(self, name: str, steps: int) -> Measurement:
        """Return seconds per step without the first, and of a whole epoch with validation, by the time of `steps`.

        The start of workers is part of an epoch, once.
        """
        workers, config = self.variants[name]
        ends = [time.perf_counter()]
        for _ in train_plainly(self.model, self.windows, config, self.positions(steps).tolist(), workers):
            wait(self.device)
            ends.append(time.perf_counter())
        validate_plainly(self.model, self.part_of(self.val, steps), config, workers)
        validation_s = (time.perf_counter() - ends[-1]) * self.plan.per_epoch / steps
        step_s = (ends[-1] - ends[1]) / (steps - 1)
        return {"step_s": step_s, "epoch_s": ends[1] - ends[0] + step_s * (self.plan.per_epoch - 1) + validation_s}


def _ceiling(precision: str, device: torch.device, seconds: float) -> float:
    """Return the operations per second that matrix products sustain for some time; the better of two sizes.

    The best single product would mislead: on shared machines the matrix units run three times as fast for moments. The
    larger size is left out where one product would take twenty times as long as is given.
    """
    best = 0.0
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    for rows, inner, columns in ((3072, 768, 3072), (4096, 4096, 4096)):
        if best and 2 * rows * inner * columns / best > 20 * seconds:
            continue
        a = torch.randn(rows, inner, device=device).to(dtype)
        b = torch.randn(inner, columns, device=device).to(dtype)
        product = partial(torch.mm, a, b, out=a @ b)
        times = max(1, int(seconds / _timed(product, 1, device)))
        best = max(best, 2 * rows * inner * columns / _timed(product, times, device))
    return best


def _timed(work: Callable[[], object], times: int, device: torch.device) -> float:
    """Return seconds per call."""
    wait(device)
    started = time.perf_counter()
    for _ in range(times):
        work()
    wait(device)
    return (time.perf_counter() - started) / times
