"""Score a model on every window of a split; sums over all windows, never means of batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bench.core.base import BenchError
from bench.core.record import Sample
from bench.train.device import out_of_memory
from bench.train.graph import Graph, replays
from bench.train.windows import Windows
from models.layers import Forecast

SERIES_PER_BATCH = {"cpu": 512, "cuda": 4096}
"""Kind of device -> most series (windows times channels) in an evaluation batch. Fixed: equal runs give equal bits.

On a GPU 4,096 series of a dozen tokens are 49 thousand rows of every matrix product, and of 585 windows of seven
channels iTransformer makes 6 thousand: more than one tile for each of some hundred multiprocessors. More series would
not fill it better, and since a graph launches a batch at once, they would save no launches either; but their states
take 1 GiB per 4,096 (13 tokens of width 768, 7 states, float32), beside what training holds.
"""


@dataclass(frozen=True)
class Errors:
    """Mean squared and mean absolute error in standardised units, over all windows, steps and channels."""

    mse: float
    mae: float
    windows: int
    channels: tuple[tuple[float, float], ...]
    """Both errors of each channel, to six digits."""


Observer = Callable[[Int[Tensor, "b"], Forecast, Forecast], None]
"""Is shown the windows, float32 forecasts and targets of each batch once, in order.

It must not write into them, nor read them later: the next batch may lie in the same memory.
"""
Sums = tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, "c 2"]]
"""Squared and absolute errors of a batch in float64, and both for each channel."""


def evaluate(model: nn.Module, windows: Windows, precision: str, observers: Sequence[Observer] = ()) -> Errors:
    """Score every window once; see `Scorer`."""
    return Scorer(model, windows, precision)(observers)


class Scorer:
    """Scores a model on every window of a split in eval mode, as often as it is called; sums are in float64.

    On a GPU, batches of a model with `capturable` are replayed as a CUDA graph from the fourth of the whole size on; a
    smaller one, the split's last, is taken as it is. The graph holds the same kernels, and numbers are the same to the
    bit. If memory runs out, the batch is halved for good, and the smaller size gets a graph of its own.
    """

    def __init__(self, model: nn.Module, windows: Windows, precision: str, graphs: bool = True) -> None:
        self.model, self.windows, self.precision, self.graphs = model, windows, precision, graphs
        self.device = windows.series.device
        self._set_batch(min(len(windows), max(1, SERIES_PER_BATCH[self.device.type] // windows.series.shape[1])))

    @torch.inference_mode()
    def __call__(self, observers: Sequence[Observer] = ()) -> Errors:
        """Return the errors over all windows, and show each batch to the observers."""
        count, channels = len(self.windows), self.windows.series.shape[1]
        squared, absolute = torch.zeros(2, dtype=torch.float64, device=self.device)
        by_channel = torch.zeros(channels, 2, dtype=torch.float64, device=self.device)
        self.model.eval()
        first = 0
        while first < count:
            index = torch.arange(first, min(first + self.batch, count), device=self.device)
            try:
                forecast, y, sums = (self.graph or self._score)(index)
            except Exception as problem:
                if not out_of_memory(problem) or self.batch == 1:
                    raise
                self._set_batch((self.batch + 1) // 2)
                continue
            for total, of_batch in zip((squared, absolute, by_channel), sums, strict=True):
                total.add_(of_batch)
            for observer in observers:
                observer(index, forecast, y)
            first += len(index)
        values = count * self.windows.horizon
        each = tuple((float(f"{mse:.6g}"), float(f"{mae:.6g}")) for mse, mae in (by_channel / values).tolist())
        return Errors(squared.item() / (values * channels), absolute.item() / (values * channels), count, each)

    def _set_batch(self, batch: int) -> None:
        """Take batches of this many windows from now on; a graph of another size is given up, with its memory."""
        replayed = self.graphs and replays(self.model, self.device)
        self.batch, self.graph = batch, Graph(self._score, batch, self.device) if replayed else None

    def _score(self, index: Int[Tensor, "b"]) -> tuple[Forecast, Forecast, Sums]:
        """Return forecasts and targets of the windows `index`, in float32, and the sums of their errors."""
        with autocast(self.device, self.precision):
            forecast, y = predict(self.model, self.windows, index)
        forecast = forecast.float()
        error = forecast - y
        square, size = error.square(), error.abs()
        by_channel = torch.stack([square, size], dim=-1).sum((0, 1), dtype=torch.float64)
        return forecast, y, (square.sum(dtype=torch.float64), size.sum(dtype=torch.float64), by_channel)


@torch.inference_mode()
def sample(model: nn.Module, windows: Windows, precision: str) -> Sample:
    """Return the forecast of the last channel in the middle window of a split."""
    device, window = windows.series.device, len(windows) // 2
    index = torch.tensor([window], device=device)
    model.eval()
    with autocast(device, precision):
        forecast, truth = predict(model, windows, index)
    shown = (windows.contexts(index), truth, forecast.float())
    last = [tuple(round(value, 4) for value in each[0, :, -1].tolist()) for each in shown]
    channel = windows.series.shape[1] - 1
    return Sample(window=window, channel=channel, past=last[0], truth=last[1], forecast=last[2])


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return torch's autocast: on for precision bf16, off for float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def predict(model: nn.Module, windows: Windows, index: Int[Tensor, "b"]) -> tuple[Forecast, Forecast]:
    """Return forecasts and targets of the windows `index`. A model with `reads_calendar` reads the calendar too.

    The model gets a copy of the contexts, and the targets are gathered after its forecast exists. Raises BenchError
    for a forecast that is no real floating-point tensor, or of another shape: broadcasting would hide it.
    """
    stamps = windows.gather_calendar(index) if getattr(model, "reads_calendar", False) else None
    return forecast_of(model, windows.contexts(index), stamps, windows.horizon), windows.targets(index)


def forecast_of(
    model: nn.Module, x: Float[Tensor, "b l c"], stamps: Float[Tensor, "b l 4"] | None, horizon: int
) -> Forecast:
    """Return a model's forecast of contexts, and of their calendar if there is one. Raises BenchError as `predict`."""
    forecast = model(x) if stamps is None else model(x, stamps)
    if fault := _fault(forecast, (len(x), horizon, x.shape[2])):
        raise BenchError(f"model {type(model).__name__}: {fault}")
    return forecast


def _fault(forecast: object, expected: tuple[int, int, int]) -> str | None:
    """Return what is wrong with a forecast that should have the shape `expected`; None if nothing is."""
    if not isinstance(forecast, Tensor):
        kind = type(forecast).__name__
        returned = "None" if forecast is None else f"an {kind}" if kind[0].lower() in "aeiou" else f"a {kind}"
        return f"forward returned {returned}; return the forecast tensor alone"
    if not forecast.is_floating_point():
        return f"forecast is {forecast.dtype}; a real floating-point tensor is expected"
    if tuple(forecast.shape) != expected:
        return f"its forecast has shape {tuple(forecast.shape)}, expected [batch, horizon, channels] = {expected}"
    return None
