"""The plot of `bench predict`: the end of the look-back and the forecast, a panel for each channel. Pure; no torch."""

from __future__ import annotations

from pathlib import Path

import matplotlib.dates as mdates
import pandas as pd
from matplotlib.figure import Figure

from bench.core.base import BenchError
from bench.core.text import printable
from bench.report.figures.style import COLOURS, FAINT, GRID, INK, PAST, SMALL, WIDE, styled

MOST_PANELS = 8
"""Channels that are drawn; of more, the first ones."""


def plot_forecast(path: Path, title: str, past: pd.DataFrame, forecast: pd.DataFrame, truth: pd.DataFrame) -> None:
    """Draw the past (grey), the forecast (colour) and the truth (dark; empty if nobody knows it), and save the figure.

    All have a column for each channel, by stamp, in original units. Raises BenchError for a file that cannot be
    written, or of no kind that matplotlib knows.
    """
    names = [*forecast.columns][:MOST_PANELS]
    with styled():
        figure = Figure(figsize=(WIDE, 0.95 * len(names) + 0.7), layout="constrained")
        panels = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
        for axes, name in zip(panels, names, strict=True):
            axes.axvline(forecast.index[0], color=GRID, linewidth=0.8, zorder=0)
            axes.plot(past.index, past[name], color=PAST, linewidth=0.8, label="look-back")
            if len(truth):
                axes.plot(truth.index, truth[name], color=INK, linewidth=0.8, label="truth")
            axes.plot(forecast.index, forecast[name], color=COLOURS[0], label="forecast")
            axes.set_title(printable(str(name)), fontweight="normal")
        locator = mdates.AutoDateLocator()
        panels[-1].xaxis.set(major_locator=locator, major_formatter=mdates.ConciseDateFormatter(locator))
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
        figure.suptitle(printable(title), x=0.01, ha="left", fontsize=8, fontweight="bold")
        if left := forecast.shape[1] - len(names):
            figure.supxlabel(f"{left} more channels are not drawn", fontsize=SMALL, color=FAINT)
        try:
            figure.savefig(path)
        except (OSError, ValueError) as error:
            raise BenchError(f"--plot {path}: cannot be written: {error}. Do: name a .png, .svg or .pdf") from None
