"""Score a model on every window of a split; sums over all windows, never means of batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench.core.base import BenchError
from bench.core.record import Sample
from bench.train.device import out_of_memory
from bench.train.graph import Graph, replays
from bench.train.windows import Windows
from models.layers import Forecast

SERIES_PER_BATCH = {"cpu": 512, "cuda": 4096}
"""Kind of device -> most series (windows times channels) in an evaluation batch. Fixed: equal runs give equal bits."""


@dataclass(frozen=True)
class Errors:
    """Mean squared and mean absolute error in standardised units, over all windows, steps and channels."""

    mse: float
    mae: float
    windows: int
    channels: tuple[tuple[float, float], ...]
    """Both errors of each channel, to six digits."""


Observer = Callable[[Int[Tensor, "b"], Forecast, Forecast], None]
"""Is shown the windows, float32 forecasts and targets of each batch once, in order; it must not write into them.

It must not read them later either: the next batch may lie in the same memory.
"""
Scores = tuple[Forecast, Forecast, Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, "c 2"]]
"""Float32 forecasts and targets of a batch; in float64 sums of its squared and absolute errors, and both by channel."""
Scorer = Callable[[Int[Tensor, "b"]], Scores]


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    windows: Windows,
    precision: str,
    observers: Sequence[Observer] = (),
    score: Scorer | None = None,
) -> Errors:
    """Score every window in eval mode; sums are in float64. Halves the batch if memory runs out.

    `score`: the `scorer` of model, windows and precision, if they are evaluated more than once.
    """
    device, channels, batch = windows.series.device, windows.series.shape[1], whole_batch(windows)
    score = score or scorer(model, windows, precision)
    squared, absolute = torch.zeros(2, dtype=torch.float64, device=device)
    by_channel = torch.zeros(channels, 2, dtype=torch.float64, device=device)
    model.eval()
    first = 0
    while first < len(windows):
        index = torch.arange(first, min(first + batch, len(windows)), device=device)
        try:
            forecast, y, *sums = score(index)
        except Exception as problem:
            if not out_of_memory(problem) or batch == 1:
                raise
            batch = (batch + 1) // 2
            continue
        squared += sums[0]
        absolute += sums[1]
        by_channel += sums[2]
        for observer in observers:
            observer(index, forecast, y)
        first += len(index)
    values = len(windows) * windows.horizon
    each = tuple((float(f"{mse:.6g}"), float(f"{mae:.6g}")) for mse, mae in (by_channel / values).tolist())
    return Errors(squared.item() / (values * channels), absolute.item() / (values * channels), len(windows), each)


def scorer(model: nn.Module, windows: Windows, precision: str) -> Scorer:
    """Return a function that scores a batch of windows; where `replays` says so, it replays whole batches as a graph.

    A graph holds the kernels that run without it, so numbers are equal to the bit.
    """

    def score(index: Int[Tensor, "b"]) -> Scores:
        forecast, y = predict(model, windows, index, precision)
        error = forecast - y
        square, size = error.square(), error.abs()
        by_channel = torch.stack([square, size], dim=-1).sum((0, 1), dtype=torch.float64)
        return forecast, y, square.sum(dtype=torch.float64), size.sum(dtype=torch.float64), by_channel

    device = windows.series.device
    return Graph(score, whole_batch(windows), device) if replays(model, device) else score


def whole_batch(windows: Windows) -> int:
    """Return how many windows a whole batch has."""
    return min(len(windows), max(1, SERIES_PER_BATCH[windows.series.device.type] // windows.series.shape[1]))


@torch.inference_mode()
def sample(model: nn.Module, windows: Windows, precision: str) -> Sample:
    """Return the forecast of the last channel in the middle window of a split."""
    window = len(windows) // 2
    index = torch.tensor([window], device=windows.series.device)
    model.eval()
    forecast, truth = predict(model, windows, index, precision)
    parts = windows.contexts(index), truth, forecast
    last = [tuple(round(value, 4) for value in each[0, :, -1].tolist()) for each in parts]
    channel = windows.series.shape[1] - 1
    return Sample(window=window, channel=channel, past=last[0], truth=last[1], forecast=last[2])


def operations(work: Callable[[], object]) -> int:
    """Return the floating-point operations of the matrix products in `work`."""
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:  # it does not know every fused kernel; this has the same operations
        work()
    return counter.get_total_flops()


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return torch's autocast: on for precision bf16, off for float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def predict(model: nn.Module, windows: Windows, index: Int[Tensor, "b"], precision: str) -> tuple[Forecast, Forecast]:
    """Return float32 forecasts and the targets of these windows. A model with `reads_calendar` reads the calendar too.

    The model gets a copy of the contexts, and the targets are gathered after its forecast exists. Raises BenchError
    for a forecast that is no real floating-point tensor, or of another shape: broadcasting would hide it.
    """
    stamps = windows.gather_calendar(index) if getattr(model, "reads_calendar", False) else None
    with autocast(index.device, precision):
        forecast = forecast_of(model, windows.contexts(index), stamps, windows.horizon)
    return forecast.float(), windows.targets(index)


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
