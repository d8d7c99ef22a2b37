"""Turn a verified series into a standardised tensor on the device, and gather windows of it by index."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bench.core.card import DatasetCard
from bench.data.series import DataError, Series


@dataclass(frozen=True)
class Windows:
    """Every window of one split of a series: positions in a standardised tensor that is on the device once.

    Window i has `context` rows of input from row `first + i` on, and the `horizon` rows after them as target.
    """

    series: Float[Tensor, "row channel"]
    first: int
    count: int
    context: int
    horizon: int
    calendar: Float[Tensor, "row 4"] | None = None
    """Calendar features of every row, for models that read them."""

    def __len__(self) -> int:
        return self.count

    def contexts(self, index: Int[Tensor, "b"]) -> Float[Tensor, "b l c"]:
        """Return a copy of the contexts of the windows `index`; no row of a target lies in its memory."""
        return _rows(self.series, self.first + index, self.context)

    def targets(self, index: Int[Tensor, "b"]) -> Float[Tensor, "b h c"]:
        """Return a copy of the targets of the windows `index`."""
        return _rows(self.series, self.first + index + self.context, self.horizon)

    def gather_calendar(self, index: Int[Tensor, "b"]) -> Float[Tensor, "b l 4"]:
        """Return the calendar features of the contexts of the windows `index`."""
        assert self.calendar is not None, "these windows were cut without a calendar"
        return _rows(self.calendar, self.first + index, self.context)


def _rows(table: Float[Tensor, "row k"], starts: Int[Tensor, "b"], length: int) -> Float[Tensor, "b n k"]:
    """Return `length` rows from each start on. (On a CPU, much faster than indexing with a matrix.)"""
    wanted = starts[:, None] + torch.arange(length, device=table.device)
    return table.index_select(0, wanted.flatten()).view(len(starts), length, -1)


def standardized(series: Series, device: torch.device) -> Float[Tensor, "row channel"]:
    """Return the series, each channel minus its mean and divided by its (population) standard deviation, in float32.

    Mean and deviation come from the whole train split; a channel that is constant there is only centred.
    """
    mean, spread = scaling(series)
    return torch.from_numpy(((series.values - mean) / spread).astype(np.float32)).to(device)


def scaling(series: Series) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the (population) standard deviation of each channel over the train split, 1 for a constant.

    Both are `[channel]`, in the units of the file.
    """
    first, last = series.card.bounds()["train"]
    train = series.values[first:last]
    spread = np.where(np.ptp(train, axis=0) == 0, 1.0, train.std(axis=0))  # std of a constant is not always exactly 0
    return train.mean(axis=0), spread


def calendar(series: Series, device: torch.device) -> Float[Tensor, "row 4"]:
    """Return the calendar features of every row (hour of day, day of week, of month, of year), in float32."""
    return torch.from_numpy(series.calendar.astype(np.float32)).to(device)


def split_windows(
    card: DatasetCard,
    tensor: Float[Tensor, "row channel"],
    context: int,
    horizon: int,
    train_fraction: float = 1.0,
    calendar: Float[Tensor, "row 4"] | None = None,
) -> dict[str, Windows]:
    """Return split -> windows. Windows of val and test may look back into the split before.

    `train_fraction` keeps the earliest share of the training windows. Raises DataError for a split without a window.
    """
    parts = {}
    for name, (first, last) in card.bounds().items():
        start = first if name == "train" else first - context
        count = card.windows(name, context, horizon, train_fraction)
        if count < 1 or start < 0:
            problem = f"its {name} split of {last - first} rows holds no window of context {context} and horizon"
            raise DataError(f"{card.name}: {problem} {horizon}. Do: choose a shorter horizon or another split")
        parts[name] = Windows(tensor, start, count, context, horizon, calendar)
    return parts
