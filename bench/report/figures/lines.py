"""Errors by horizon, relative to the best, and by share of the training windows: a line per model. Pure; no torch."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bench.analysis.results import Results
from bench.report.figures.panels import ENDLESS, Drawn, by_panel, drawn, missing, over_seeds, pretrained_on, ratio_scale
from bench.report.figures.style import FAINT, SMALL, WIDTH, Look, looks

HIGHEST = 1.6
"""Panels of relative errors end here, so that the models near the best are told apart."""
APART = 0.2
"""Inches over which the models at one place are spread, so that they do not cover each other."""


def horizons(planned: Results) -> Drawn:
    """Draw the error over the horizon, relative to the best model there, a panel for each data set."""
    frame = planned.own[~planned.own.seen].assign(x=lambda rows: rows.horizon)
    best = over_seeds(frame, ["data", "x", "title"])["mean"].groupby(level=["data", "x"]).min().rename("best")
    frame = frame.join(best, on=["data", "x"])
    above = (frame.mse / frame.best).where(frame.best > 0, ENDLESS)  # above a best error of 0
    frame = frame.assign(mse=above.mask(frame.mse == frame.best, 1).where(frame.mse.notna()))
    what = f"Test MSE by horizon, relative to that of the best model that is complete there (1), up to {HIGHEST:g}"
    return _lines(what, ("Horizon (steps)", "MSE / that of the best model"), frame, planned, HIGHEST)


def few_shot(planned: Results) -> Drawn | None:
    """Draw the error over the share of training windows, a panel for each data set; None for a single share."""
    frame = planned.own[~planned.own.seen].assign(x=lambda rows: 100 * rows.fraction, data=lambda rows: rows.dataset)
    if frame.x.nunique() < 2:
        return None
    what = "Test MSE on standardised channels by share of the training windows, averaged over horizons"
    return _lines(what, ("Share of the training windows (%)", "MSE (standardised channels)"), frame, planned)


def _lines(
    what: str, labels: tuple[str, str], frame: pd.DataFrame, planned: Results, highest: float = math.inf
) -> Drawn:
    """Draw lines over the column `x` of the frame; panels end at `highest`."""
    means = over_seeds(frame, ["data", "x", "title"])["mean"]
    bars = ", with bars from the least to the largest seed" if frame.seed.nunique() > 1 else ""
    lead = f"{what}{bars}; logarithmic, each panel on a scale of its own"
    without = [f"Not drawn: {each}." for each in pretrained_on(planned.own)]
    if means.isna().all():
        return drawn(planned, "No cell is complete: there is nothing to draw.", lead, *without)
    gaps = "A line breaks where runs are missing; the panel names them." if means.isna().any() else ""
    filled = means.dropna().index.unique("data")
    height = 1.9 if len(filled) > 1 else 2.6
    draw = partial(_draw, highest=highest)
    figure = by_panel(frame, filled, draw, looks(planned), height=height, labels=labels, why="no cell is complete")
    return drawn(planned, figure, lead, gaps, *without, alt=_leaders(means.dropna()))


def _leaders(means: pd.Series) -> str:
    """Say which model has the lowest error at the first and the last place of each data set."""
    sentences = []
    for data, own in means.groupby(level="data", sort=False):
        places = sorted(own.index.unique("x"))
        ends = [
            f"{own.xs(place, level='x').idxmin()[1]} at {place:g}" for place in dict.fromkeys(places[:1] + places[-1:])
        ]
        sentences.append(f"{data}: {' and '.join(ends)}")
    return f"Lowest MSE of the models complete there: {'; '.join(sentences)}."


def _draw(axes: Axes, own: pd.DataFrame, looks: dict[str, Look], highest: float) -> None:
    """Draw a line for each model, broken where its cell is incomplete; name these cells, and those above, below."""
    # 1. Lines, side by side at each place.
    cells = over_seeds(own, ["title", "x"])
    places = sorted(own.x.unique())
    panel_width = WIDTH.get() * axes.get_position().width
    reach = min(0.4, APART / panel_width * len(places)) / 2
    offsets = np.linspace(-reach, reach, len(looks)) if len(looks) > 1 else [0.0]
    for (name, look), offset in zip(looks.items(), offsets, strict=True):
        line = cells[cells.index.get_level_values("title") == name].droplevel("title").reindex(places)
        bars = [(line["mean"] - line["min"]).clip(lower=0), (line["max"] - line["mean"]).clip(lower=0)]  # rounding
        x = np.arange(len(places)) + offset
        axes.errorbar(x, line["mean"], yerr=bars, color=look.colour, marker=look.marker, elinewidth=0.7, label=name)
    axes.set(xlim=(-0.5, len(places) - 0.5))
    axes.set_xticks(range(len(places)), [f"{place:g}" for place in places])
    axes.grid(False, axis="x")
    axes.set_ylim(top=min(highest, axes.get_ylim()[1]))
    ratio_scale(axes)
    # 2. Cells that cannot be seen.
    unseen = {"missing": cells["mean"].isna(), "above": cells["mean"] > highest}
    notes = [missing(names, at, what) for what, cell in unseen.items() for at, names in _places(cell).items()]
    axes.set_xlabel("\n".join(notes), fontsize=SMALL, color=FAINT)


def _places(cells: pd.Series) -> dict[str, list[str]]:
    """Return places (empty: everywhere) -> models whose cells are true there."""
    models: dict[str, list[str]] = {}
    for name, own in cells.groupby(level="title", sort=False):
        at = [f"{place:g}" for place in sorted(own[own].index.get_level_values("x"))]
        if at:
            models.setdefault("" if len(at) == len(own) else ", ".join(at), []).append(str(name))
    return models
