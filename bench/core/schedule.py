"""The number of steps of a training run, the learning rate of each, and when training ends. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from bench.core.spec import TrainConfig


@dataclass(frozen=True)
class StepPlan:
    """The steps of a training run with `train_windows` windows per epoch; an epoch's last batch may be small."""

    config: TrainConfig
    train_windows: int
    joins_single: bool = False
    """Whether a last batch of a single window joins the batch before, for models that read statistics of a batch."""

    @cached_property
    def per_epoch(self) -> int:
        return len(self.batch_sizes)

    @cached_property
    def batch_sizes(self) -> list[int]:
        """The number of windows in each batch of an epoch."""
        return sizes_of(self.train_windows, self.config.batch, self.joins_single)

    @cached_property
    def total(self) -> int:
        full = self.per_epoch * self.config.epochs
        return min(full, self.config.max_steps or full)

    def windows(self, steps: int) -> int:
        """Return the number of windows in the first `steps` steps."""
        epochs, rest = divmod(steps, self.per_epoch)
        return epochs * self.train_windows + rest * self.config.batch

    def lr(self, step: int) -> float:
        """Return the learning rate of a step (from 0). All schedules but onecycle change between epochs only."""
        config, epoch = self.config, step // self.per_epoch
        match config.schedule:
            case "constant":
                factor = 1.0
            case "halve":
                factor = 0.5 ** max(0, epoch - 1)
            case "decay":
                factor = 0.9 ** max(0, epoch - 3)
            case "cosine":
                factor = (1 + math.cos(math.pi * epoch / config.period)) / 2
            case "onecycle":
                factor = _onecycle(step, self.total, config.rise)
        return config.lr * factor

    def ends_after(self, scores: Sequence[float]) -> int | None:
        """Return the epoch after which training with these validation scores ends; None if it goes on."""
        best, last = 0, math.ceil(self.total / self.per_epoch)
        for epoch, score in enumerate(scores, 1):
            best = epoch if not best or score < scores[best - 1] else best
            if epoch - best >= self.config.patience or epoch == last:
                return epoch
        return None


def sizes_of(windows: int, size: int, joins_single: bool) -> list[int]:
    """Cut `windows` into batches of `size` and a rest; return the length of each. `joins_single` as in StepPlan."""
    whole, rest = divmod(windows, size)
    if rest == 1 and whole and joins_single:
        return [size] * (whole - 1) + [size + 1]
    return [size] * whole + [rest] * (rest > 0)


def _onecycle(step: int, total: int, rise: float) -> float:
    """Return the factor of torch's OneCycleLR: from 1/25 to 1, then to 1/250,000, on cosines. Momentum stays."""
    peak = rise * total - 1
    if step <= peak:
        share, low, high = step / peak if peak > 0 else 1.0, 1 / 25, 1.0
    else:
        share, low, high = (step - peak) / (total - 1 - peak), 1.0, 1 / 25e4
    return high + (low - high) * (1 + math.cos(math.pi * min(share, 1.0))) / 2
