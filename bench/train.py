"""The one training loop: train part in, best weights on the validation part out. It never sees the test part."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.data import Windows
from bench.metrics import evaluate
from bench.spec import Epoch, TrainConfig
from bench.step import Stepper


class TrainingDiverged(Exception):
    """The loss is no longer a number."""


@dataclass(frozen=True)
class Progress:
    """How far a training run is; `epoch` is None until the first one has ended."""

    step: int
    steps: int
    epoch: Epoch | None


@dataclass(frozen=True)
class Fit:
    """What training did; the model holds the weights of `best_epoch`."""

    curve: tuple[Epoch, ...]
    best_epoch: int | None
    steps: int
    windows: int
    seconds: float
    """In training steps, validation left out."""
    micro_batch: int | None
    """Windows passed through the model at once; None where nothing trains."""


def fit(
    model: nn.Module,
    train: Windows,
    val: Windows,
    config: TrainConfig,
    seed: int,
    report: Callable[[Progress], None],
) -> Fit:
    """Train in place, stop on validation, restore the best epoch's weights.

    Every epoch visits every training window once, in an order drawn from `seed`; the last batch may be small. Losses
    add up on the device and are read once an epoch. Raises TrainingDiverged.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return Fit((), None, 0, 0, 0.0, None)
    store_frozen(model, config.precision)
    take_step = Stepper(model, train, config)
    order = torch.Generator().manual_seed(seed)
    plan = StepPlan.of(config, len(train))
    best: list[Tensor] = []
    best_epoch, best_score = 0, math.inf
    curve: list[Epoch] = []
    step, seen, seconds = 0, 0, 0.0

    def progress(done: int) -> None:
        report(Progress(done, plan.total, curve[-1] if curve else None))

    while step < plan.total and len(curve) - best_epoch < config.patience:
        started = time.perf_counter()
        model.train()
        batches = torch.randperm(len(train), generator=order).to(train.series.device).split(config.batch)
        batches = batches[: plan.total - step]
        train_loss = train_epoch(take_step, plan, step, batches, progress)
        step += len(batches)
        seen, seconds = seen + sum(map(len, batches)), seconds + time.perf_counter() - started
        if not math.isfinite(train_loss):
            raise TrainingDiverged(f"the training loss is {train_loss} in epoch {len(curve) + 1}")
        score = evaluate(model, val, config.precision).of(config.loss)
        if not math.isfinite(score):
            raise TrainingDiverged(f"the validation score is {score} after epoch {len(curve) + 1}")
        lr = plan.lr(step - 1)
        curve.append(
            Epoch(
                epoch=len(curve) + 1,
                train_loss=train_loss,
                val_loss=score,
                lr=lr,
                seconds=time.perf_counter() - started,
            )
        )
        progress(step)
        if score < best_score:
            best_epoch, best_score = len(curve), score
            best = [state.detach().clone() for state in _state(model)]
    with torch.no_grad():
        for state, kept in zip(_state(model), best, strict=True):
            state.copy_(kept)
    return Fit(tuple(curve), best_epoch, step, seen, seconds, take_step.micro_batch)


def train_epoch(
    take_step: Callable[[Tensor, float], Tensor],
    plan: StepPlan,
    step: int,
    batches: Sequence[Tensor],
    report: Callable[[int], None],
) -> float:
    """One step for each batch, from the step with this number; the mean loss over their windows.

    Nothing is read from the device before the end.
    """
    total = torch.zeros((), dtype=torch.float64, device=batches[0].device)
    for index in batches:
        total += take_step(index, plan.lr(step)) * len(index)
        step += 1
        report(step)
    return total.item() / sum(len(index) for index in batches)


@dataclass(frozen=True)
class StepPlan:
    """How many steps there are, and the learning rate of each."""

    config: TrainConfig
    per_epoch: int
    full: int
    """Steps if no epoch is cut; the horizon of onecycle unless max_steps is less."""

    @classmethod
    def of(cls, config: TrainConfig, windows: int) -> StepPlan:
        per_epoch = math.ceil(windows / config.batch)
        return cls(config, per_epoch, per_epoch * config.epochs)

    @property
    def total(self) -> int:
        return min(self.full, self.config.max_steps or self.full)

    def lr(self, step: int) -> float:
        """Of the step with this number, from 0. All but onecycle change between epochs only."""
        config, epoch = self.config, step // self.per_epoch
        match config.schedule:
            case "halve":
                factor = 0.5 ** max(0, epoch - 1)
            case "decay":
                factor = 0.9 ** max(0, epoch - 3)
            case "cosine":
                factor = (1 + math.cos(math.pi * epoch / config.period)) / 2
            case "onecycle":
                factor = _onecycle(step, self.total, config.rise)
            case _:
                factor = 1.0
        return config.lr * factor


def _onecycle(step: int, total: int, rise: float) -> float:
    """The rate of torch's OneCycleLR (cosine arms): from 1/25 up to 1, then down to 1/250,000. Momentum stays."""
    peak = rise * total - 1
    start, end = 1 / 25, 1 / 25e4
    if step <= peak:
        share, low, high = step / peak if peak > 0 else 1.0, start, 1.0
    else:
        share, low, high = (step - peak) / (total - 1 - peak), 1.0, end
    return high + (low - high) * (1 + math.cos(math.pi * min(share, 1.0))) / 2


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
