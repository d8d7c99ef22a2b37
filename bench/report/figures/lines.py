"""Errors by horizon and by share of the training windows, a line for each model. Pure; no torch."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bench.analysis.results import Results
from bench.report.figures.panels import Drawn, by_data, drawn, missing, over_seeds, own_frame, ratio_scale
from bench.report.figures.style import FAINT, SMALL, WIDTH, Look, looks

APART = 0.2
"""Inches over which the models at one place are spread, so that they do not cover each other."""


def horizons(planned: Results) -> Drawn:
    """Draw the error over the horizon, a panel for each data set."""
    frame = own_frame(planned).assign(x=lambda rows: rows.horizon)
    return _lines("horizon", "Horizon (steps)", frame, planned)


def few_shot(planned: Results) -> Drawn | None:
    """Draw the error over the share of training windows, a panel for each data set; None for a single share."""
    frame = own_frame(planned).assign(x=lambda rows: 100 * rows.fraction, data=lambda rows: rows.dataset)
    if frame.x.nunique() < 2:
        return None
    by = "share of the training windows, averaged over horizons"
    return _lines(by, "Share of the training windows (%)", frame, planned)


def _lines(by: str, label: str, frame: pd.DataFrame, planned: Results) -> Drawn:
    """Draw lines over the column `x` of the frame."""
    means = over_seeds(frame, ["data", "x", "title"])["mean"]
    bars = ", with bars from the least to the largest seed" if frame.seed.nunique() > 1 else ""
    lead = f"Test MSE on standardised channels by {by}{bars}; logarithmic, each panel on a scale of its own"
    if means.isna().all():
        return drawn(planned, "No cell is complete: there is nothing to draw.", lead)
    gaps = "A line breaks where runs are missing; the panel names them." if means.isna().any() else ""
    filled = means.dropna().index.unique("data")
    height = 1.9 if len(filled) > 1 else 2.6
    labels = (label, "MSE (standardised channels)")
    figure = by_data(frame, filled, _draw, looks(planned), height=height, labels=labels, why="no cell is complete")
    return drawn(planned, figure, lead, gaps)


def _draw(axes: Axes, own: pd.DataFrame, looks: dict[str, Look]) -> None:
    """Draw a line for each model, broken where its cell is incomplete, and name these cells below."""
    # 1. Lines, side by side at each place.
    cells = over_seeds(own, ["title", "x"])
    places = sorted(own.x.unique())
    panel_width = WIDTH * axes.get_position().width
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
    ratio_scale(axes)
    # 2. Incomplete cells: places (empty: everywhere) -> models.
    gaps: dict[str, list[str]] = {}
    for name, means in cells["mean"].groupby(level="title", sort=False):
        at = [f"{place:g}" for place in sorted(means[means.isna()].index.get_level_values("x"))]
        if at:
            gaps.setdefault("" if len(at) == len(means) else ", ".join(at), []).append(str(name))
    axes.set_xlabel("\n".join(missing(names, at) for at, names in gaps.items()), fontsize=SMALL, color=FAINT)
