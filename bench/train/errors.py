"""Add up the further errors of a test while it is scored: RMSE, MASE, WAPE, sMAPE, on both scales."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bench.core.kept import ZERO, seasonal_errors
from bench.core.record import Further, Scaled
from bench.data.series import Series
from bench.train.windows import Windows, scaling
from models.layers import Forecast


class FurtherErrors:
    """The sums behind `Further` over the windows of a test, to be shown each batch of it once; they stay on the device.

    bench.core.record has the definitions. What depends on the truth alone is taken from the series, not from windows.
    """

    def __init__(self, series: Series, windows: Windows) -> None:
        device = windows.series.device
        first, count, horizon = windows.first + windows.context, len(windows), windows.horizon
        mean, deviation = scaling(series)
        starts = first + np.arange(count)
        self.seasonal = seasonal_errors(series.values, series.card.season, starts) / deviation
        """The divisor of MASE `[window, channel]`, standardised; NaN where there is none."""
        # 1. The sum of all abs(y) `[scale, channel]`: each row as often as windows forecast it.
        rows = series.values[first : first + count + horizon - 1]
        place = np.arange(len(rows))
        often = np.minimum(place, count - 1) - np.maximum(place - horizon + 1, 0) + 1
        self.truth = np.stack([often @ np.abs((rows - mean) / deviation), often @ np.abs(rows)])
        self.deviation, self.values = deviation, count * horizon
        # 2. What each batch is compared with, and the sums.
        self.inverse = torch.from_numpy(np.nan_to_num(1 / self.seasonal)).to(device)
        self.scales = [_on(device, np.zeros_like(mean), np.ones_like(mean)), _on(device, mean, deviation)]
        self.absolute, self.squared = torch.zeros(2, len(mean), dtype=torch.float64, device=device)
        self.scaled = torch.zeros((), dtype=torch.float64, device=device)
        self.shares = torch.zeros(
            2, 2, dtype=torch.float64, device=device
        )  # by scale: sum of sMAPE, values that have one

    def __call__(self, index: Int[Tensor, "b"], forecast: Forecast, truth: Forecast) -> None:
        """Add a batch of windows."""
        error = (forecast - truth).abs_()
        by_window = error.sum(1).double()
        self.absolute += by_window.sum(0)
        self.squared += torch.linalg.vector_norm(error, dim=1).double().square().sum(0)
        self.scaled += (by_window * self.inverse[index]).sum()
        for at, (mean, deviation, least) in enumerate(self.scales):
            if at:
                forecast, truth, error = (
                    torch.addcmul(mean, forecast, deviation),
                    torch.addcmul(mean, truth, deviation),
                    error * deviation,
                )
            size = forecast.abs().add_(truth.abs())
            has = size > least
            share = error.div(size).masked_fill_(~has, 0)
            self.shares[at] += torch.stack([share.sum(1).double().sum(), has.sum().double()])

    def result(self) -> Further:
        """Return the errors over all windows that were shown."""
        absolute, squared = self.absolute.cpu().numpy(), self.squared.cpu().numpy()
        everything = self.values * len(absolute)
        scales = []
        for at, unit in enumerate((np.ones_like(self.deviation), self.deviation)):
            total, share, count = (absolute * unit).sum(), *self.shares[at].tolist()
            scales.append(
                Scaled(
                    mae=_ratio(total, everything),
                    rmse=_ratio(math.sqrt((squared * unit**2).sum()), math.sqrt(everything)),
                    wape=_ratio(total, self.truth[at].sum()),
                    smape=_ratio(2 * share, count),
                )
            )
        defined = int(np.isfinite(self.seasonal).sum()) * (self.values // len(self.seasonal))
        return Further(standardised=scales[0], original=scales[1], mase=_ratio(self.scaled.item(), defined))


def _on(
    device: torch.device, mean: np.ndarray, deviation: np.ndarray
) -> tuple[Float[Tensor, "c"], Float[Tensor, "c"], Float[Tensor, "c"]]:
    """Return mean and deviation of a scale, and below which size its values count as 0."""
    parts = mean, deviation, ZERO * (np.abs(mean) + deviation)
    return tuple(torch.from_numpy(part.astype(np.float32)).to(device) for part in parts)  # type: ignore[return-value]


def _ratio(total: float, by: float) -> float | None:
    """Return a quotient; None where it is not defined, or beyond what a record holds."""
    return float(total / by) if by > 0 and math.isfinite(total / by) else None
