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
from bench.core.spec import TrainConfig
from bench.train.checkpoint import Checkpoint, State
from bench.train.device import device_name, random_state, set_random_state
from bench.train.evaluate import evaluate
from bench.train.schedule import StepPlan
from bench.train.step import Stepper
from bench.train.windows import Windows


class TrainingDiverged(Exception):
    """A loss or score is not a finite number."""


@dataclass(frozen=True)
class Watch:
    """Receives a run's progress after every step, and saves the run in a checkpoint."""

    report: Callable[[Progress], None] = lambda progress: None
    checkpoint: Checkpoint | None = None


class Fit(Frozen):
    """The outcome of training; the model has the weights of `best_epoch`."""

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


class _Facts(Fit):
    """The part of a training's state that is not tensors."""

    epoch_seconds: float
    """Seconds since the running epoch began."""
    drawn: dict[str, Any]
    """States of the generators of Python and numpy."""


def fit(
    model: nn.Module,
    train: Windows,
    val: Windows,
    config: TrainConfig,
    seed: int,
    watch: Watch = Watch(),
) -> Fit:
    """Train in place, stop early on validation, restore the best epoch's weights.

    Every epoch visits every training window once, in an order drawn from `seed`; its last batch may be small. Losses
    add up on the device and are read once per epoch. Training goes on from the checkpoint in `watch` if there is one.
    Raises TrainingDiverged, CheckpointError and OutOfTime.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return Fit()
    store_frozen(model, config.precision)
    training = _Training(model, train, config, seed, watch)
    training.restore()
    while not training.over:
        training.epoch()
        training.validate(val)
    return training.end()


def train_epoch(
    take_step: Callable[[Tensor, float], Tensor],
    plan: StepPlan,
    step: int,
    batches: Sequence[Tensor],
    loss: Tensor,
    report: Callable[[int], None],
) -> None:
    """Take one step per batch, the first with number `step`, and add the loss of every window to `loss`.

    Reads nothing from the device.
    """
    for index in batches:
        loss += take_step(index, plan.lr(step)) * len(index)
        step += 1
        report(step)


class _Training:
    """A model in training, with all state that training changes (the content of a checkpoint)."""

    def __init__(self, model: nn.Module, train: Windows, config: TrainConfig, seed: int, watch: Watch) -> None:
        self.model, self.train, self.config, self.watch = model, train, config, watch
        self.device = train.series.device
        self.take_step = Stepper(model, train, config)
        self.plan = StepPlan(config, len(train))
        self.order = torch.Generator().manual_seed(seed)
        self.step, self.seconds, self.before = 0, 0.0, 0.0
        self.curve: list[Epoch] = []
        self.best: list[Tensor] = []
        self.best_epoch = 0
        self.machines: tuple[str, ...] = ()
        self._begin_epoch()

    @property
    def over(self) -> bool:
        return self.step >= self.plan.total or len(self.curve) - self.best_epoch >= self.config.patience

    @property
    def first_step(self) -> int:
        """The first step of the running epoch."""
        return len(self.curve) * self.plan.per_epoch

    def epoch(self) -> None:
        """Take the (remaining) steps of one epoch."""

        def after_step(step: int) -> None:
            self.step = step
            self._after_change()

        self.model.train()
        # 1. Draw the order of all windows, and skip the batches that an earlier part has trained.
        batches = torch.randperm(len(self.train), generator=self.order).to(self.device).split(self.config.batch)
        batches = batches[self.step - self.first_step : self.plan.total - self.first_step]
        # 2. Train.
        train_epoch(self.take_step, self.plan, self.step, batches, self.loss, after_step)
        # 3. Read the loss from the device.
        if not math.isfinite(self.loss.item()):
            raise TrainingDiverged(f"the training loss is {self.loss.item()} in epoch {len(self.curve) + 1}")
        self.seconds += time.perf_counter() - self.epoch_began

    def validate(self, val: Windows) -> None:
        """Score the finished epoch, and keep its weights if it is the best so far."""
        # 1. Score.
        number = len(self.curve) + 1
        score = evaluate(self.model, val, self.config.precision).of(self.config.loss)
        if not math.isfinite(score):
            raise TrainingDiverged(f"the validation score is {score} after epoch {number}")
        # 2. Keep the weights of the best epoch.
        if not self.best or score < self.curve[self.best_epoch - 1].val_loss:
            self.best_epoch = number
            self.best = [state.detach().clone() for state in _state(self.model)]
        # 3. Note the epoch, and begin the next.
        windows = self.plan.windows(self.step) - self.plan.windows(self.first_step)
        seconds = time.perf_counter() - self.epoch_began
        loss, lr = self.loss.item() / windows, self.plan.lr(self.step - 1)
        self.curve.append(Epoch(epoch=number, train_loss=loss, val_loss=score, lr=lr, seconds=seconds))
        self._begin_epoch()
        self._after_change()

    @torch.no_grad()
    def end(self) -> Fit:
        """Restore the best epoch's weights, and return the outcome."""
        for state, best in zip(_state(self.model), self.best, strict=True):
            state.copy_(best)
        return self._fit()

    def _fit(self) -> Fit:
        return Fit(
            curve=tuple(self.curve),
            best_epoch=self.best_epoch,
            steps=self.step,
            windows=self.plan.windows(self.step),
            seconds=self.seconds,
            micro_batch=self.take_step.micro_batch,
            machines=self.machines,
            before=self.before,
        )

    def _begin_epoch(self) -> None:
        self.order_at_start = self.order.get_state()
        self.loss = torch.zeros((), dtype=torch.float64, device=self.device)
        self.epoch_began = time.perf_counter()

    def _after_change(self) -> None:
        self.watch.report(Progress(self.step, self.plan.total, self.curve[-1] if self.curve else None))
        if self.watch.checkpoint:
            self.watch.checkpoint.keep(self._saved)

    def _saved(self) -> State:
        drawn, tensors = random_state(self.device)
        here = machine(device_name(self.device), torch.get_num_threads())
        changed = {
            "machines": tuple(dict.fromkeys((*self.machines, here))),
            "epoch_seconds": time.perf_counter() - self.epoch_began,
            "drawn": drawn,
        }
        tensors |= {"order": self.order_at_start, "loss": self.loss}
        tensors |= {f"state.{number}": tensor for number, tensor in enumerate(_state(self.model))}
        tensors |= {f"best.{number}": tensor for number, tensor in enumerate(self.best)}
        for number, moments in self.take_step.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{number}.{name}": tensor for name, tensor in moments.items()}
        return State(_Facts(**dict(self._fit()) | changed).model_dump_json(), tensors)

    def restore(self) -> None:
        """Go on from the checkpoint, if there is one. Raises CheckpointError for one that does not fit this run."""
        if not self.watch.checkpoint or not (saved := self.watch.checkpoint.load()):
            return
        try:
            self._restore(parse(_Facts, saved.facts, "facts"), saved.tensors)
        except (BenchError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise self.watch.checkpoint.damaged(error) from None

    @torch.no_grad()
    def _restore(self, facts: _Facts, tensors: Mapping[str, Tensor]) -> None:
        # 1. Facts.
        self.step, self.seconds, self.curve = facts.steps, facts.seconds, list(facts.curve)
        self.best_epoch, self.machines = facts.best_epoch or 0, facts.machines
        self.before = facts.epoch_seconds + sum(epoch.seconds for epoch in facts.curve)
        self.take_step.micro_batch = facts.micro_batch or 1
        # 2. Weights, and the best epoch's weights.
        state = _state(self.model)
        for number, tensor in enumerate(state):
            tensor.copy_(tensors[f"state.{number}"])
        if self.best_epoch:
            self.best = [tensors[f"best.{number}"].to(each.device) for number, each in enumerate(state)]
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
        self.epoch_began -= facts.epoch_seconds
        # 5. Last, since the steps above may draw: the random generators.
        set_random_state(facts.drawn, tensors, self.device)


def store_frozen(model: nn.Module, precision: str) -> None:
    """Store frozen matrices in bf16 if the precision is bf16: no cast at each use, half the memory."""
    if precision == "bf16":
        for parameter in model.parameters():
            if not parameter.requires_grad and parameter.ndim > 1:
                parameter.data = parameter.data.to(torch.bfloat16)


def _state(model: nn.Module) -> list[Tensor]:
    """Return all that training changes: trainable parameters, persistent buffers (batch norm's running statistics)."""
    persistent = model.state_dict().keys()
    buffers = [buffer for name, buffer in model.named_buffers() if name in persistent]
    return [parameter for parameter in model.parameters() if parameter.requires_grad] + buffers
