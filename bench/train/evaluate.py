"""Errors over every window of a part, as sums; never means of batches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bench.core.base import BenchError
from bench.core.record import Sample
from bench.train.device import out_of_memory
from bench.train.windows import Windows

Forecast = Float[Tensor, "b h c"]
SERIES_PER_BATCH = {"cpu": 512, "cuda": 4096}
"""An evaluation batch holds this many series (windows times channels), fewer where memory runs out. Fixed: equal runs
are equal to the bit."""


@dataclass(frozen=True)
class Errors:
    """Mean squared and mean absolute error on the standardised scale, over all windows, steps and channels."""

    mse: float
    mae: float
    windows: int

    def of(self, loss: str) -> float:
        """What a validation score is for a training loss: MSE for `mse`, else MAE."""
        return self.mse if loss == "mse" else self.mae


@torch.inference_mode()
def evaluate(model: nn.Module, windows: Windows, precision: str) -> Errors:
    """Score every window in eval mode, with sums in float64."""
    device = windows.series.device
    channels = windows.series.shape[1]
    batch = max(1, SERIES_PER_BATCH[device.type] // channels)
    squared = torch.zeros((), dtype=torch.float64, device=device)
    absolute = torch.zeros((), dtype=torch.float64, device=device)
    model.eval()
    first = 0
    while first < len(windows):
        index = torch.arange(first, min(first + batch, len(windows)), device=device)
        try:
            with autocast(device, precision):
                forecast, y = predict(model, windows, index)
            error = forecast.float() - y
        except Exception as problem:
            if not out_of_memory(problem) or batch == 1:
                raise
            batch = (batch + 1) // 2
            continue
        squared += error.square().sum(dtype=torch.float64)
        absolute += error.abs().sum(dtype=torch.float64)
        first += len(index)
    values = len(windows) * windows.horizon * channels
    return Errors(squared.item() / values, absolute.item() / values, len(windows))


@torch.inference_mode()
def sample(model: nn.Module, windows: Windows, precision: str) -> Sample:
    """The forecast of the last channel in the window in the middle of a part."""
    device, window = windows.series.device, len(windows) // 2
    index = torch.tensor([window], device=device)
    model.eval()
    with autocast(device, precision):
        forecast, truth = predict(model, windows, index)
    past, _ = windows.gather(index)
    last = [tuple(round(value, 4) for value in each[0, :, -1].tolist()) for each in (past, truth, forecast.float())]
    channel = windows.series.shape[1] - 1
    return Sample(window=window, channel=channel, past=last[0], truth=last[1], forecast=last[2])


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 arithmetic where it is safe, if the run asks for it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def predict(model: nn.Module, windows: Windows, index: Int[Tensor, "b"]) -> tuple[Forecast, Forecast]:
    """Forecasts and targets of these windows. A model with `reads_calendar` is given the look-back's calendar too.

    Raises BenchError for a forecast of another shape than its target's; broadcasting would hide it.
    """
    x, y = windows.gather(index)
    reads_calendar = getattr(model, "reads_calendar", False)
    forecast = model(x, windows.gather_calendar(index)) if reads_calendar else model(x)
    shape = tuple(getattr(forecast, "shape", ()))
    if shape != tuple(y.shape):
        raise BenchError(
            f"model {type(model).__name__}: its forecast has shape {shape}, "
            f"expected [batch, horizon, channels] = {tuple(y.shape)}"
        )
    return forecast, y
