"""Sample forecasts of all models beside each other. Pure; no torch."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.analysis.results import Results
from bench.analysis.tables import grouped
from bench.core.record import Sample
from bench.report.figures.panels import Drawn, blank, foot, own_frame, part, said, settled, shortest, words
from bench.report.figures.style import FAINT, GRID, INK, PAST, SMALL, Look, looks

FILLED = 0.93
"""Of the width of a section; the rest is the gap to the next one."""
UPRIGHT = 8
"""So many names have room beside each other; more are slanted."""
OLD = "none in\nits record"


def forecasts(planned: Results) -> Drawn:
    """A row for each data set at its shortest horizon, a section of it for each model; the first seed."""
    chosen = shortest(own_frame(planned).assign(result=[result for _, result in planned.runs]))
    chosen = chosen[chosen.seed == chosen.seed.iloc[0]]
    runs = part(planned, chosen)
    lead = (
        "One forecast of each model (colour), the truth (dark) and the end of the look-back (grey), at the shortest "
        "horizon. Nobody picked it: it is the window in the middle of the test part and the last channel, on the scale "
        "of the standardised channels; each row has a scale of its own"
    )
    old = sum(why == OLD for why in map(_why, chosen.itertuples()))
    caption = said(runs, lead, f"{old} of the records hold no sample." if old else "")
    if all(map(_why, chosen.itertuples())):
        return Drawn(words("No record of these runs holds a sample forecast."), caption)
    return Drawn(_figure(chosen, looks(planned)), caption)


def _why(row: pd.Series) -> str:
    """Why a run has no sample; empty if it has one."""
    if row.status != "done":
        return "not run" if row.status == "missing" else str(row.status)
    return "" if row.result.sample else OLD


def _figure(chosen: pd.DataFrame, shown: Mapping[str, Look]) -> Figure:
    sampled = {data for data, own in chosen.groupby("data") if not all(map(_why, own.itertuples()))}
    by_data = grouped(chosen[chosen.data.isin(sampled)], ["data"])
    figure = blank(0.68 * len(by_data) + 0.55)
    axes = figure.subplots(len(by_data), 1, squeeze=False)[:, 0]
    for axis, ((data,), own) in zip(axes, by_data, strict=True):
        axis.set_ylabel(f"{data}\n{own.horizon.iloc[0]} steps", rotation=0, ha="right", va="center")
        _draw(axis, own, shown)
    upright = len(shown) <= UPRIGHT
    for number, (name, look) in enumerate(shown.items()):
        axes[0].text(
            (number + 0.5) / len(shown),
            1.06,
            textwrap.fill(name, 12, break_on_hyphens=False, break_long_words=False),
            transform=axes[0].transAxes,
            ha="center" if upright else "left",
            va="bottom",
            rotation=0 if upright else 35,
            color=look.colour,
            fontweight="bold",
            fontsize=SMALL,
        )
    gone = [data for data in chosen.data.unique() if data not in sampled]
    if gone:
        figure.supxlabel(foot("", gone, "no model has a sample").lstrip(), fontsize=SMALL, color=FAINT)
    return settled(figure)


def _draw(axes: Axes, own: pd.DataFrame, shown: Mapping[str, Look]) -> None:
    """Sections of width 1 on one axis; a model without a sample has the reason in its place."""
    runs = {row.title: row for row in own.itertuples()}
    gaps = {name: _why(row) for name, row in runs.items()}
    for start, (name, look) in enumerate(shown.items()):
        if name in runs and not gaps[name]:
            _draw_sample(axes, runs[name].result.sample, start, look.colour)
        else:
            place, text = axes.get_xaxis_transform(), f"no sample:\n{gaps.get(name, 'not planned')}"
            axes.text(start + 0.5, 0.5, text, transform=place, ha="center", va="center", fontsize=SMALL, color=FAINT)
    axes.set_xlim(0, len(shown))
    axes.set_xticks([])
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.spines["bottom"].set_visible(False)


def _draw_sample(axes: Axes, sample: Sample, start: int, colour: str) -> None:
    """The look-back, cut to the length of the horizon; the truth, which goes on from it; the forecast."""
    horizon = len(sample.truth)
    past = sample.past[-horizon:]
    steps = len(past) + horizon
    x = start + (1 - FILLED) / 2 + FILLED * np.arange(steps) / (steps - 1)
    first = len(past)
    axes.axvline(x[first - 1], color=GRID, linewidth=0.8, zorder=0)
    axes.plot(x[:first], past, color=PAST, linewidth=0.7)
    axes.plot(x[first - 1 :], [past[-1], *sample.truth], color=INK, linewidth=0.7)
    axes.plot(x[first:], sample.forecast, color=colour, linewidth=1.1, gid="forecast")
