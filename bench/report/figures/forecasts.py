"""Sample forecasts of all models side by side. Pure; no torch."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.analysis.results import Results
from bench.core.record import Sample
from bench.report.figures.panels import Drawn, blank, drawn, foot, shortest
from bench.report.figures.style import FAINT, GRID, INK, PAST, SMALL, Look, looks, narrow

FILLED = 0.93
"""The share of a section's width that is drawn on; the rest is the gap to the next section."""
UPRIGHT = 8
"""Slant the names of more models than this."""
OLD = "none in\nits record"


def forecasts(planned: Results) -> Drawn:
    """Draw the first seed's samples: a row for each data set at its shortest horizon, a section for each model."""
    chosen = shortest(planned.own)
    chosen = chosen[chosen.seed == chosen.seed.iloc[0]]
    chosen = chosen.assign(gap=[_gap(row) for row in chosen.itertuples()])
    lead = (
        "One forecast of each model (colour), the truth (dark) and the end of the look-back (grey), at the shortest "
        "horizon. The window is fixed, not picked: the middle one of the test part, last channel, on the scale of the "
        "standardised channels; each row has a scale of its own"
    )
    old = (chosen.gap == OLD).sum()
    none = chosen.gap.all()
    draw = _column if narrow() else _figure
    figure = "No record of these runs holds a sample forecast." if none else draw(chosen, looks(planned))
    more = f"{old} of the records hold no sample." if old else ""
    return drawn(planned.part(chosen), figure, lead, more, alt=_nearest(chosen[(chosen.gap == "") & ~chosen.seen]))


def _nearest(sampled: pd.DataFrame) -> str:
    """Say whose drawn forecast is nearest to the truth on each data set."""
    distances = [
        np.square(np.subtract(row.result.sample.forecast, row.result.sample.truth)).mean()
        for row in sampled.itertuples()
    ]
    least = sampled.assign(distance=distances).sort_values("distance", kind="stable").drop_duplicates("data")
    listed = [f"{row.title} on {row.data} (MSE {row.distance:.2g})" for row in least.sort_index().itertuples()]
    return f"Nearest to the truth in these windows: {', '.join(listed) or 'no model that has not seen them'}."


def _column(chosen: pd.DataFrame, looks: dict[str, Look]) -> Figure:
    """Draw a panel for each model, below each other, of the data set of which most models have a sample."""
    counts = chosen[chosen.gap == ""].data.value_counts(sort=False)
    own = chosen[(chosen.data == counts.idxmax()) & (chosen.gap == "")]
    figure = blank(0.62 * len(own) + 0.3)
    panels = figure.subplots(len(own), 1, squeeze=False)[:, 0]
    for axes, row in zip(panels, own.itertuples(), strict=True):
        _draw_sample(axes, row.result.sample, 0, looks[row.title].colour)
        title = textwrap.fill(row.title, 14, break_on_hyphens=False, break_long_words=False)
        axes.set_ylabel(title, rotation=0, ha="right", va="center", color=looks[row.title].colour, fontsize=SMALL)
        axes.set(xlim=(0, 1), xticks=[])
        axes.yaxis.set_major_locator(MaxNLocator(3))
    panels[0].set_title(f"{own.data.iloc[0]}, {own.horizon.iloc[0]} steps")
    others = [data for data in counts.index if data != own.data.iloc[0]]
    empty = [data for data in chosen.data.unique() if data not in counts.index]
    notes = [(others, "in the wide figure"), (empty, "no model has a sample")]
    figure.supxlabel("\n".join(foot("", *note) for note in notes if note[0]), fontsize=SMALL, color=FAINT)
    return figure


def _gap(row: pd.Series) -> str:
    """Return why a run has no sample; empty if it has one."""
    if row.why:
        return str(row.why.partition(" (")[0])
    return "" if row.result.sample else OLD


def _figure(chosen: pd.DataFrame, looks: dict[str, Look]) -> Figure:
    # 1. A row for each data set with a sample.
    sampled = chosen[chosen.gap == ""].data.unique()
    figure = blank(0.68 * len(sampled) + 0.55)
    panels = figure.subplots(len(sampled), 1, squeeze=False)[:, 0]
    rows = chosen[chosen.data.isin(sampled)].groupby("data", sort=False)
    for axes, (data, own) in zip(panels, rows, strict=True):
        axes.set_ylabel(f"{data}\n{own.horizon.iloc[0]} steps", rotation=0, ha="right", va="center")
        _draw(axes, own, looks)
    # 2. Names of the models above the first row.
    side, slant = ("center", 0) if len(looks) <= UPRIGHT else ("left", 35)
    place = {"transform": panels[0].transAxes, "ha": side, "va": "bottom", "rotation": slant}
    for number, (name, look) in enumerate(looks.items()):
        title = textwrap.fill(name, 12, break_on_hyphens=False, break_long_words=False)
        x = (number + 0.5) / len(looks)
        panels[0].text(x, 1.06, title, color=look.colour, fontweight="bold", fontsize=SMALL, **place)
    # 3. Data sets without a row.
    empty = [data for data in chosen.data.unique() if data not in sampled]
    if empty:
        figure.supxlabel(foot("", empty, "no model has a sample"), fontsize=SMALL, color=FAINT)
    return figure


def _draw(axes: Axes, own: pd.DataFrame, looks: dict[str, Look]) -> None:
    """Draw sections of width 1, a model's sample in each or the reason why it has none."""
    runs = {row.title: row for row in own.itertuples()}
    for start, (name, look) in enumerate(looks.items()):
        gap = runs[name].gap if name in runs else "not planned"
        if not gap:
            _draw_sample(axes, runs[name].result.sample, start, look.colour)
        else:
            place, text = axes.get_xaxis_transform(), f"no sample:\n{gap}"
            axes.text(start + 0.5, 0.5, text, transform=place, ha="center", va="center", fontsize=SMALL, color=FAINT)
    axes.set(xlim=(0, len(looks)), xticks=[])
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.spines["bottom"].set_visible(False)


def _draw_sample(axes: Axes, sample: Sample, start: int, colour: str) -> None:
    """Draw the look-back, cut to the length of the horizon; the truth, joined to it; the forecast."""
    horizon = len(sample.truth)
    past = sample.past[-horizon:]
    first, steps = len(past), len(past) + horizon
    x = start + (1 - FILLED) / 2 + FILLED * np.arange(steps) / (steps - 1)
    axes.axvline(x[first - 1], color=GRID, linewidth=0.8, zorder=0)
    axes.plot(x[:first], past, color=PAST, linewidth=0.7)
    axes.plot(x[first - 1 :], [past[-1], *sample.truth], color=INK, linewidth=0.7)
    axes.plot(x[first:], sample.forecast, color=colour, linewidth=1.1, gid="forecast")
