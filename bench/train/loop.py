"""The one training loop: fits on the train split, selects on the validation split, never sees the test split."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.base import BenchError, Frozen, Positive, parse
from bench.core.jobs import Progress
from bench.core.record import Epoch, machine
from bench.core.schedule import StepPlan
from bench.core.spec import TrainConfig
from bench.train.checkpoint import Checkpoint, State
from bench.train.device import device_name, random_state, set_random_state
from bench.train.evaluate import Scorer, evaluate, scorer
from bench.train.step import Stepper
from bench.train.windows import Windows


class TrainingDiverged(Exception):
    """A loss or score is not a finite number."""


@dataclass(frozen=True)
class Watch:
    """Receives a run's progress after every step, and saves the run in a checkpoint."""

    report: Callable[[Progress], None] = lambda progress: None
    checkpoint: Checkpoint | None = None


class Fit(Frozen, frozen=False):
    """What a training has done so far. At its end it is the outcome: the model has the weights of `best_epoch`."""

    curve: tuple[Epoch, ...] = ()
    best_epoch: int | None = None
    steps: int = 0
    windows: int = 0
    """Training windows that passed, over all steps."""
    seconds: float = 0.0
    """Seconds in training steps, without validation."""
    micro_batch: Positive | None = None
    """Windows that pass through the model at once; None if nothing trains."""
    machines: tuple[str, ...] = ()
    """Machines of earlier parts, if training went on from a checkpoint."""
    before: float = 0.0
    """Seconds of the earlier parts, validation included."""
    drawn: dict[str, Any] = {}
    """In a checkpoint: states of the generators of Python and numpy."""


def fit(
    model: nn.Module,
    train: Windows,
    val: Windows,
    config: TrainConfig,
    seed: int,
    watch: Watch = Watch(),
    joins_single: bool = False,
) -> Fit:
    """Train in place, stop early on validation, restore the best epoch's weights.

    Every epoch visits every training window once, in an order drawn from `seed`; its last batch may be small, but for
    `joins_single` (see StepPlan). Losses add up on the device and are read once per epoch. Training goes on from the
    checkpoint in `watch` if there is one. Raises TrainingDiverged, CheckpointError and OutOfTime.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return Fit()
    store_frozen(model, config.precision)
    training = _Training(model, train, config, seed, watch, joins_single)
    if watch.checkpoint and (saved := watch.checkpoint.load()):
        try:
            training.restore(parse(Fit, saved.facts, "facts"), saved.tensors)
        except (BenchError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise watch.checkpoint.damaged(error) from None
    score = scorer(model, val, config.precision)
    while not training.over:
        training.epoch()
        training.validate(val, score)
    return training.end()


def train_epoch(
    take_step: Callable[[Tensor, float], Tensor],
    plan: StepPlan,
    step: int,
    batches: Sequence[Tensor],
    loss: Tensor,
    report: Callable[[int], None],
) -> None:
    """Take a step per batch, from number `step` on; add each window's loss to `loss`. Reads nothing from the device."""
    for number, index in enumerate(batches, step):
        loss += take_step(index, plan.lr(number)) * len(index)
        report(number + 1)


class _Training:
    """A model in training, with all state that training changes (the content of a checkpoint); `so_far` is a part."""

    def __init__(
        self, model: nn.Module, train: Windows, config: TrainConfig, seed: int, watch: Watch, joins_single: bool
    ) -> None:
        self.model, self.train, self.config, self.watch = model, train, config, watch
        self.device = train.series.device
        self.take_step = Stepper(model, train, config)
        self.plan = StepPlan(config, len(train), joins_single)
        self.order = torch.Generator().manual_seed(seed)
        self.so_far = Fit()
        self.best: dict[str, Tensor] = {}
        self._begin_epoch()

    @property
    def over(self) -> bool:
        """Whether the last epoch has been validated, or enough epochs without a better score."""
        return self.plan.ends_after([epoch.val_loss for epoch in self.so_far.curve]) is not None

    @property
    def first_step(self) -> int:
        """The first step of the running epoch."""
        return len(self.so_far.curve) * self.plan.per_epoch

    def batches(self) -> Sequence[Tensor]:
        """Draw the batches of an epoch."""
        order = torch.randperm(len(self.train), generator=self.order)
        return order.to(self.device).split(self.plan.batch_sizes)

    def epoch(self) -> None:
        """Take the (remaining) steps of one epoch."""
        self.model.train()
        # 1. Draw the batches, and skip those that an earlier part has trained.
        batches = self.batches()[self.so_far.steps - self.first_step : self.plan.total - self.first_step]
        # 2. Train.
        train_epoch(self.take_step, self.plan, self.so_far.steps, batches, self.loss, self._after)
        # 3. Read the loss from the device.
        if not math.isfinite(self.loss.item()):
            raise TrainingDiverged(f"the training loss is {self.loss.item()} in epoch {len(self.so_far.curve) + 1}")
        self.so_far.seconds += time.perf_counter() - self.epoch_began

    def validate(self, val: Windows, score_batch: Scorer) -> None:
        """Score the finished epoch, and keep its weights if it is the best so far."""
        # 1. Score.
        now = self.so_far
        number = len(now.curve) + 1
        errors = evaluate(self.model, val, self.config.precision, score=score_batch)
        score = errors.mse if self.config.loss == "mse" else errors.mae
        if not math.isfinite(score):
            raise TrainingDiverged(f"the validation score is {score} after epoch {number}")
        # 2. Keep the weights of the best epoch.
        if not now.best_epoch or score < now.curve[now.best_epoch - 1].val_loss:
            now.best_epoch = number
            self.best = {name: each.detach().clone() for name, each in changed_by_training(self.model).items()}
        # 3. Note the epoch, and begin the next.
        windows = self.plan.windows(now.steps) - self.plan.windows(self.first_step)
        seconds = time.perf_counter() - self.epoch_began
        loss, lr = self.loss.item() / windows, self.plan.lr(now.steps - 1)
        now.curve += (Epoch(epoch=number, train_loss=loss, val_loss=score, lr=lr, seconds=seconds),)
        self._begin_epoch()
        self._after(now.steps)

    @torch.no_grad()
    def end(self) -> Fit:
        """Restore the best epoch's weights, and return the outcome."""
        for name, each in changed_by_training(self.model).items():
            each.copy_(self.best[name])
        self.so_far.windows = self.plan.windows(self.so_far.steps)
        self.so_far.micro_batch = self.take_step.micro_batch
        self.take_step.graph = None  # the test needs its memory
        return self.so_far

    def _begin_epoch(self) -> None:
        self.order_at_start = self.order.get_state()
        self.loss = torch.zeros((), dtype=torch.float64, device=self.device)
        self.epoch_began = time.perf_counter()

    def _after(self, steps: int) -> None:
        """Note that so many steps are done, report it, and save it if a save is due."""
        self.so_far.steps, curve = steps, self.so_far.curve
        self.watch.report(Progress(steps, self.plan.total, curve[-1] if curve else None))
        if self.watch.checkpoint:
            self.watch.checkpoint.keep(self._saved)

    def _saved(self) -> State:
        drawn, tensors = random_state(self.device)
        here = machine(device_name(self.device), torch.get_num_threads())
        now = self.so_far
        passed = time.perf_counter() - self.epoch_began + sum(epoch.seconds for epoch in now.curve)
        machines, micro_batch = tuple(dict.fromkeys((*now.machines, here))), self.take_step.micro_batch
        parts = {"machines": machines, "micro_batch": micro_batch, "before": passed, "drawn": drawn}
        tensors |= {"order": self.order_at_start, "loss": self.loss}
        tensors |= {f"state.{name}": tensor for name, tensor in changed_by_training(self.model).items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        for number, moments in self.take_step.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{number}.{name}": tensor for name, tensor in moments.items()}
        return State(now.model_copy(update=parts).model_dump_json(), tensors)

    @torch.no_grad()
    def restore(self, facts: Fit, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what was saved. An error of any type means that it does not fit this run."""
        # 1. Facts.
        self.so_far = facts
        self.take_step.micro_batch = facts.micro_batch or 1
        # 2. Weights, and the best epoch's weights.
        for name, each in changed_by_training(self.model).items():
            each.copy_(tensors[f"state.{name}"])
            if facts.best_epoch:
                self.best[name] = tensors[f"best.{name}"].to(each.device)
        # 3. The optimiser's moments.
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("adam."):
                _, position, moment = name.split(".")
                moments.setdefault(int(position), {})[moment] = tensor
        optimizer = self.take_step.optimizer
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
        # 4. The running epoch: its order, loss and time.
        self.order.set_state(tensors["order"])
        self._begin_epoch()
        self.loss.copy_(tensors["loss"])
        self.epoch_began -= facts.before - sum(epoch.seconds for epoch in facts.curve)
        # 5. Last, since the steps above may draw: the random generators.
        set_random_state(facts.drawn, tensors, self.device)


def store_frozen(model: nn.Module, precision: str) -> None:
    """Store frozen matrices in bf16 if the precision is bf16: no cast at each use, half the memory."""
    if precision == "bf16":
        for parameter in model.parameters():
            if not parameter.requires_grad and parameter.ndim > 1:
                parameter.data = parameter.data.to(torch.bfloat16)


def changed_by_training(model: nn.Module) -> dict[str, Tensor]:
    """Return name -> tensor of all that training changes: trainable parameters, then persistent buffers (batch norm's
    running statistics)."""
    persistent = model.state_dict().keys()
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in persistent}
    return {name: each for name, each in model.named_parameters() if each.requires_grad} | buffers
