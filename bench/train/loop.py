"""The one training loop: train part in, best weights on the validation part out. It never sees the test part."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.base import BenchError, Frozen, Positive, parse_json
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
    """The loss is no longer a number."""


def _nobody(progress: Progress) -> None:
    """Progress that nobody asked for."""


@dataclass(frozen=True)
class Watch:
    """Who is told how far a run is, and where it is saved meanwhile."""

    report: Callable[[Progress], None] = _nobody
    checkpoint: Checkpoint | None = None


@dataclass(frozen=True)
class Fit:
    """What training did; the model holds the weights of `best_epoch`."""

    curve: tuple[Epoch, ...] = ()
    best_epoch: int | None = None
    steps: int = 0
    windows: int = 0
    seconds: float = 0.0
    """In training steps, validation left out."""
    micro_batch: int | None = None
    """Windows passed through the model at once; None where nothing trains."""
    machines: tuple[str, ...] = ()
    """Those of earlier parts, where training went on from a checkpoint ..."""
    before: float = 0.0
    """... and how many seconds, validation included, those took."""


def fit(
    model: nn.Module,
    train: Windows,
    val: Windows,
    config: TrainConfig,
    seed: int,
    watch: Watch = Watch(),
) -> Fit:
    """Train in place, stop on validation, restore the best epoch's weights.

    Every epoch visits every training window once, in an order drawn from `seed`; the last batch may be small. Losses
    add up on the device and are read once an epoch. Goes on from the checkpoint that `watch` names, if it is there.
    Raises TrainingDiverged, and what a checkpoint raises.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return Fit()
    store_frozen(model, config.precision)
    training = _Training(model, train, config, seed)
    if watch.checkpoint:
        training.restore(watch.checkpoint)
    while not training.over:
        training.epoch(watch)
        training.validate(val, watch)
    return training.end()


def train_epoch(
    take_step: Callable[[Tensor, float], Tensor],
    plan: StepPlan,
    step: int,
    batches: Sequence[Tensor],
    loss: Tensor,
    report: Callable[[int], None],
) -> None:
    """One step for each batch, from the step with this number, each adding its windows' losses to `loss`.

    Nothing is read from the device.
    """
    for index in batches:
        loss += take_step(index, plan.lr(step)) * len(index)
        step += 1
        report(step)


class _Training:
    """A model in training, and everything that training changes: what a checkpoint holds."""

    def __init__(self, model: nn.Module, train: Windows, config: TrainConfig, seed: int) -> None:
        self.model, self.train, self.config = model, train, config
        self.device = train.series.device
        self.take_step = Stepper(model, train, config)
        self.plan = StepPlan(config, len(train))
        self.order = torch.Generator().manual_seed(seed)
        self.step, self.seconds = 0, 0.0
        self.curve: list[Epoch] = []
        self.best: list[Tensor] = []
        self.best_epoch = 0
        self.machines: tuple[str, ...] = ()
        self.before = 0.0
        self._begin_epoch()

    @property
    def over(self) -> bool:
        return self.step >= self.plan.total or len(self.curve) - self.best_epoch >= self.config.patience

    @property
    def first_step(self) -> int:
        """Of the epoch that is going on."""
        return len(self.curve) * self.plan.per_epoch

    def epoch(self, watch: Watch) -> None:
        """The steps of one epoch, or those that are left of it."""

        def after_step(step: int) -> None:
            self.step = step
            self._tell(watch)

        self.model.train()
        batches = torch.randperm(len(self.train), generator=self.order).to(self.device).split(self.config.batch)
        batches = batches[self.step - self.first_step : self.plan.total - self.first_step]
        train_epoch(self.take_step, self.plan, self.step, batches, self.loss, after_step)
        if not math.isfinite(self.loss.item()):
            raise TrainingDiverged(f"the training loss is {self.loss.item()} in epoch {len(self.curve) + 1}")
        self.seconds += time.perf_counter() - self.epoch_began

    def validate(self, val: Windows, watch: Watch) -> None:
        """Score the epoch that has ended; keep its weights if no other was better."""
        number = len(self.curve) + 1
        score = evaluate(self.model, val, self.config.precision).of(self.config.loss)
        if not math.isfinite(score):
            raise TrainingDiverged(f"the validation score is {score} after epoch {number}")
        if not self.best or score < self.curve[self.best_epoch - 1].val_loss:
            self.best_epoch = number
            self.best = [state.detach().clone() for state in _state(self.model)]
        self.curve.append(
            Epoch(
                epoch=number,
                train_loss=self.loss.item() / (self.plan.windows(self.step) - self.plan.windows(self.first_step)),
                val_loss=score,
                lr=self.plan.lr(self.step - 1),
                seconds=time.perf_counter() - self.epoch_began,
            )
        )
        self._begin_epoch()
        self._tell(watch)

    @torch.no_grad()
    def end(self) -> Fit:
        """Put the best epoch's weights back."""
        for state, kept in zip(_state(self.model), self.best, strict=True):
            state.copy_(kept)
        return Fit(
            tuple(self.curve),
            self.best_epoch,
            self.step,
            self.plan.windows(self.step),
            self.seconds,
            self.take_step.micro_batch,
            self.machines,
            self.before,
        )

    def _begin_epoch(self) -> None:
        self.order_at_start = self.order.get_state()
        self.loss = torch.zeros((), dtype=torch.float64, device=self.device)
        self.epoch_began = time.perf_counter()

    def _tell(self, watch: Watch) -> None:
        watch.report(Progress(self.step, self.plan.total, self.curve[-1] if self.curve else None))
        if watch.checkpoint:
            watch.checkpoint.keep(self._saved)

    def _saved(self) -> State:
        drawn, tensors = random_state(self.device)
        facts = _Facts(
            step=self.step,
            seconds=self.seconds,
            epoch_seconds=time.perf_counter() - self.epoch_began,
            curve=tuple(self.curve),
            best_epoch=self.best_epoch,
            micro_batch=self.take_step.micro_batch,
            machines=tuple(dict.fromkeys((*self.machines, machine(device_name(self.device), torch.get_num_threads())))),
            drawn=drawn,
        )
        tensors |= {"order": self.order_at_start, "loss": self.loss}
        tensors |= {f"state.{number}": tensor for number, tensor in enumerate(_state(self.model))}
        tensors |= {f"best.{number}": tensor for number, tensor in enumerate(self.best)}
        for number, moments in self.take_step.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{number}.{name}": tensor for name, tensor in moments.items()}
        return State(facts.model_dump_json(), tensors)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Be where the checkpoint says, if there is one. Raises BenchError for one that fits no such run."""
        saved = checkpoint.load()
        if saved is None:
            return
        try:
            self._restore(parse_json(_Facts, saved.facts, "facts"), saved.tensors)
        except (BenchError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise checkpoint.damaged(error) from None

    @torch.no_grad()
    def _restore(self, facts: _Facts, tensors: Mapping[str, Tensor]) -> None:
        self.step, self.seconds, self.curve = facts.step, facts.seconds, list(facts.curve)
        self.best_epoch, self.machines = facts.best_epoch, facts.machines
        self.before = facts.epoch_seconds + sum(epoch.seconds for epoch in facts.curve)
        self.take_step.micro_batch = facts.micro_batch
        state = _state(self.model)
        for number, tensor in enumerate(state):
            tensor.copy_(tensors[f"state.{number}"])
        if self.best_epoch:
            self.best = [tensors[f"best.{number}"].to(each.device) for number, each in enumerate(state)]
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("adam."):
                _, position, moment = name.split(".")
                moments.setdefault(int(position), {})[moment] = tensor
        optimizer = self.take_step.optimizer
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
        self.order.set_state(tensors["order"])
        self._begin_epoch()
        self.loss.copy_(tensors["loss"])
        self.epoch_began -= facts.epoch_seconds
        set_random_state(facts.drawn, tensors, self.device)


class _Facts(Frozen):
    """What of a training run is no tensor."""

    step: int
    seconds: float
    epoch_seconds: float
    curve: tuple[Epoch, ...]
    best_epoch: int
    micro_batch: Positive
    machines: tuple[str, ...]
    """Those that the run was made on so far."""
    drawn: dict[str, Any]
    """Where the generators stand that are not torch's."""


def store_frozen(model: nn.Module, precision: str) -> None:
    """Keep frozen matrices in bf16 where the arithmetic is bf16: no cast at each use, half the memory."""
    if precision == "bf16":
        for parameter in model.parameters():
            if not parameter.requires_grad and parameter.ndim > 1:
                parameter.data = parameter.data.to(torch.bfloat16)


def _state(model: nn.Module) -> list[Tensor]:
    """What training changes: trainable parameters and persistent buffers (batch norm's running statistics)."""
    kept = model.state_dict().keys()
    buffers = [buffer for name, buffer in model.named_buffers() if name in kept]
    return [parameter for parameter in model.parameters() if parameter.requires_grad] + buffers
