"""Errors of kept forecasts: overall, of each channel, of each step of the horizon. Numpy alone; nothing is trained.

    own = read_forecasts(store, result)["ETTh1"]
    errors_of(own, original=True).by_step["mase"]     # [step]

`bench.core.record.Scaled` and `Further` define the errors; a test's own (bench/train/errors.py) are the same.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bench.core.kept import ZERO, Forecasts

PIECE = 1 << 22
"""About how many forecast values are compared at once."""


class ErrorsOf(NamedTuple):
    """Metric (as in `--metric`, without `_original`) -> its error; NaN where it is not defined."""

    overall: dict[str, float]
    by_channel: dict[str, np.ndarray]
    """Each `[channel]`."""
    by_step: dict[str, np.ndarray]
    """Each `[step]`."""


def errors_of(own: Forecasts, original: bool = False) -> ErrorsOf:
    """Return all errors of a run's forecasts on one data set, standardised or in `original` units.

    Each error pools what it is over: overall all windows, steps and channels. MASE is the same on both scales.
    """
    windows, steps, channels = own.forecast.shape
    sums = {name: np.zeros((steps, channels)) for name in ("squared", "absolute", "truth", "share", "shares", "scaled")}
    scale = own.deviation if original else np.ones(channels)
    least = ZERO * ((np.abs(own.mean) + own.deviation) if original else scale)
    # 1. Add up over windows, some at a time.
    size = max(1, PIECE // (steps * channels))
    for first in range(0, windows, size):
        piece = slice(first, first + size)
        truth, forecast = own.truth[piece].astype(np.float64), own.forecast[piece].astype(np.float64)
        if original:
            truth, forecast = own.in_units(truth), own.in_units(forecast)
        error = np.abs(forecast - truth)
        both = np.abs(truth) + np.abs(forecast)
        has = both > least
        sums["squared"] += (error**2).sum(0)
        sums["absolute"] += error.sum(0)
        sums["truth"] += np.abs(truth).sum(0)
        sums["share"] += np.divide(2 * error, both, out=np.zeros_like(error), where=has).sum(0)
        sums["shares"] += has.sum(0)
        sums["scaled"] += np.nan_to_num(error / (own.seasonal[piece, None, :] * scale)).sum(0)
    # 2. Divide.
    counts = {"values": np.full((steps, channels), float(windows)), "scales": np.zeros((steps, channels))}
    counts["scales"] += np.isfinite(own.seasonal).sum(0)
    overall, by_channel, by_step = (_divided(sums | counts, axis) for axis in (None, 0, 1))
    return ErrorsOf({name: float(each) for name, each in overall.items()}, by_channel, by_step)


def _divided(sums: dict[str, np.ndarray], axis: int | None) -> dict[str, np.ndarray]:
    """Return metric -> error, of sums `[step, channel]` that are added up along an axis (None: both)."""
    total = {name: each.sum(axis) for name, each in sums.items()}
    parts = {
        "mse": ("squared", "values"),
        "mae": ("absolute", "values"),
        "rmse": ("squared", "values"),
        "mase": ("scaled", "scales"),
        "wape": ("absolute", "truth"),
        "smape": ("share", "shares"),
    }
    with np.errstate(divide="ignore", invalid="ignore"):
        found = {name: total[above] / total[below] for name, (above, below) in parts.items()}
    found["rmse"] = np.sqrt(found["rmse"])
    return {name: np.where(np.isfinite(found[name]), found[name], np.nan) for name in parts}
