"""The floor under every table: the last value, the last season, and one linear layer (DLinear, arXiv 2205.13504)."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange, repeat
from torch import nn

from models.layers import Forecast, Windows
from models.options import DLinearOptions, NoOptions, Shape


class RepeatLast(nn.Module):
    """The last observed value, for every step of the horizon. Trains nothing."""

    def __init__(self, shape: Shape, options: NoOptions) -> None:
        super().__init__()
        self.horizon = shape.horizon

    def forward(self, x: Windows) -> Forecast:
        return repeat(x[:, -1], "b c -> b h c", h=self.horizon)


class SeasonalNaive(nn.Module):
    """The last observed season, repeated. Trains nothing.

    A season longer than the look-back (Weather at 96, ILI at 36) cannot be seen; the last value is repeated then, as
    for data without a season.
    """

    def __init__(self, shape: Shape, options: NoOptions) -> None:
        super().__init__()
        self.horizon = shape.horizon
        self.season = shape.season if shape.season <= shape.context else 1

    def forward(self, x: Windows) -> Forecast:
        times = -(-self.horizon // self.season)
        return repeat(x[:, -self.season :], "b l c -> b (times l) c", times=times)[:, : self.horizon]


class DLinear(nn.Module):
    """Trend (moving average) and remainder, each mapped to the horizon by one linear layer shared by all channels.

    Faithful to the code of Time-Series-Library with individual=False, including the start: every weight 1/context, so
    that training begins at the mean of the look-back.
    """

    capturable = True  # as a CUDA graph: bench/train/step.py

    def __init__(self, shape: Shape, options: DLinearOptions) -> None:
        super().__init__()
        self.kernel = options.kernel
        self.trend = nn.Linear(shape.context, shape.horizon)
        self.remainder = nn.Linear(shape.context, shape.horizon)
        for layer in (self.trend, self.remainder):
            nn.init.constant_(layer.weight, 1 / shape.context)

    def forward(self, x: Windows) -> Forecast:
        series = rearrange(x, "b l c -> b c l")
        half = (self.kernel - 1) // 2
        padded = F.pad(series, (half, self.kernel - 1 - half), mode="replicate")
        trend = F.avg_pool1d(padded, self.kernel, stride=1)
        forecast = self.trend(trend) + self.remainder(series - trend)
        return rearrange(forecast, "b c h -> b h c")
