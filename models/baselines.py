"""These models are the floor under every table: the last value, the last season, and DLinear (arXiv 2205.13504)."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from models.kernels import is_plain
from models.layers import Forecast, Past
from models.options import DLinearOptions, NoOptions, Shape


class SeasonalNaive(nn.Module):
    """Forecast the last observed season, repeated. Nothing trains.

    Its context is one season where that is longer than the look-back (`Registered.reads_season`). Where the data set
    is too short for that, the season is longer than the context, and the last value is repeated instead.
    """

    def __init__(self, shape: Shape, options: NoOptions) -> None:
        super().__init__()
        self.horizon = shape.horizon
        self.season = shape.season if shape.season <= shape.context else 1

    def forward(self, x: Past) -> Forecast:
        times = -(-self.horizon // self.season)
        return repeat(x[:, -self.season :], "b l c -> b (times l) c", times=times)[:, : self.horizon]


class RepeatLast(SeasonalNaive):
    """Forecast the last observed value for every step of the horizon: a season of one step. Nothing trains."""

    def __init__(self, shape: Shape, options: NoOptions) -> None:
        super().__init__(replace(shape, season=1), options)


class DLinear(nn.Module):
    """Map trend (moving average) and remainder to the horizon by one linear layer each, shared by all channels.

    It follows Time-Series-Library with individual=False. Every weight starts at 1/context: training begins at the
    mean of the look-back.
    """

    capturable = True  # as a CUDA graph: bench/train/step.py

    def __init__(self, shape: Shape, options: DLinearOptions) -> None:
        super().__init__()
        self.kernel = options.kernel
        self.trend = nn.Linear(shape.context, shape.horizon)
        self.remainder = nn.Linear(shape.context, shape.horizon)
        for layer in (self.trend, self.remainder):
            nn.init.constant_(layer.weight, 1 / shape.context)
        averages = moving_average(torch.eye(shape.context)[None], options.kernel)[0].T
        self.register_buffer("averages", averages.contiguous(), persistent=False)  # times a series: its trend

    def forward(self, x: Past) -> Forecast:
        series = rearrange(x, "b l c -> b c l")
        batch, channels, context = series.shape
        if is_plain() or batch * channels <= context:
            trend = moving_average(series, self.kernel)
            forecast = self.trend(trend) + self.remainder(series - trend)
        else:  # one map in place of both: it costs a product with `context` rows and saves one with a row per series
            difference = self.trend.weight - self.remainder.weight
            weight = torch.addmm(self.remainder.weight, difference, self.get_buffer("averages"))
            forecast = F.linear(series, weight, self.trend.bias + self.remainder.bias)
        return rearrange(forecast, "b c h -> b h c")


def moving_average(series: Float[Tensor, "b c l"], kernel: int) -> Float[Tensor, "b c l"]:
    """Return the mean of the `kernel` values around each step; the first and last value repeat beyond the ends."""
    half = (kernel - 1) // 2
    padded = F.pad(series, (half, kernel - 1 - half), mode="replicate")
    return F.avg_pool1d(padded, kernel, stride=1)
