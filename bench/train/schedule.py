"""The number of steps of a training run, and the learning rate of each."""

from __future__ import annotations

import math
from collections.abc import Callable
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

    @property
    def per_epoch(self) -> int:
        return len(self.batch_sizes)

    @cached_property
    def batch_sizes(self) -> list[int]:
        """The number of windows in each batch of an epoch."""
        return sizes_of(self.train_windows, self.config.batch, self.joins_single)

    @property
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
        factors: dict[str, Callable[[], float]] = {
            "constant": lambda: 1.0,
            "halve": lambda: 0.5 ** max(0, epoch - 1),
            "decay": lambda: 0.9 ** max(0, epoch - 3),
            "cosine": lambda: (1 + math.cos(math.pi * epoch / config.period)) / 2,
            "onecycle": lambda: _onecycle(step, self.total, config.rise),
        }
        return config.lr * factors[config.schedule]()


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
