"""Errors by horizon and by share of the training windows, a line for each model. Pure; no torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bench.analysis.results import Results
from bench.report.figures.panels import (
    Drawn,
    across,
    foot,
    legend,
    missing_from,
    over_seeds,
    own_frame,
    panels,
    ratio_scale,
    said,
    settled,
    words,
)
from bench.report.figures.style import FAINT, SMALL, WIDTH, Look, looks

APART = 0.2
"""Inches over which the models at one place are spread, so that they do not cover each other."""


def horizons(planned: Results) -> Drawn:
    """A panel for each data set."""
    frame = own_frame(planned).assign(x=lambda rows: rows.horizon)
    return _by("horizon", "Horizon (steps)", frame, planned)


def few_shot(planned: Results) -> Drawn | None:
    """A panel for each data set; None where only one share is planned."""
    frame = own_frame(planned).assign(x=lambda rows: 100 * rows.fraction, data=lambda rows: rows.dataset)
    if frame.x.nunique() < 2:
        return None
    by = "share of the training windows, averaged over horizons"
    return _by(by, "Share of the training windows (%)", frame, planned)


def _by(by: str, label: str, frame: pd.DataFrame, planned: Results) -> Drawn:
    """Lines over the column `x` of the frame."""
    shown = looks(planned)
    found = over_seeds(frame, ["data", "x", "title"])
    bars = ", with bars from the least to the largest seed" if frame.seed.nunique() > 1 else ""
    lead = f"Test MSE on standardised channels by {by}{bars}; logarithmic, each panel on a scale of its own"
    holes = found["mean"].isna()
    if holes.all():
        return Drawn(words("No cell is complete: there is nothing to draw."), said(planned, lead))
    gaps = "A line breaks where a run is not there; the panel names it." if holes.any() else ""
    there = found.dropna().index.unique("data")
    names = [name for name in frame.data.unique() if name in there]
    figure, axes = panels(len(names), 1.9 if len(names) > 1 else 2.6)
    for axis, name in zip(axes, names, strict=True):
        axis.set_title(name)
        _draw(axis, found.loc[name], shown, APART * across(len(names)) / WIDTH)
    gone = [name for name in frame.data.unique() if name not in there]
    figure.supxlabel(foot(label, gone, "no cell is complete"), fontsize=7.5)
    figure.supylabel("MSE (standardised channels)", fontsize=7.5)
    legend(figure, shown)
    return Drawn(settled(figure), said(planned, lead, gaps))


def _draw(axes: Axes, found: pd.DataFrame, shown: Mapping[str, Look], apart: float) -> None:
    """A line for each model, broken at holes, which the panel names; `apart`: of the panel's width."""
    places = sorted(found.index.unique("x"))
    reach = min(0.4, apart * len(places)) / 2
    offsets = np.linspace(-reach, reach, len(shown)) if len(shown) > 1 else [0.0]
    for (name, look), offset in zip(shown.items(), offsets, strict=True):
        own = found[found.index.get_level_values("title") == name].droplevel("title").reindex(places)
        axes.errorbar(
            np.arange(len(places)) + offset,
            own["mean"],
            yerr=[(own["mean"] - own["min"]).clip(lower=0), (own["max"] - own["mean"]).clip(lower=0)],  # rounding
            color=look.colour,
            marker=look.marker,
            elinewidth=0.7,
            label=name,
        )
    axes.set_xticks(range(len(places)), [f"{place:g}" for place in places])
    axes.set_xlim(-0.5, len(places) - 0.5)
    axes.grid(False, axis="x")
    ratio_scale(axes)
    axes.set_xlabel("\n".join(_missing(found["mean"])), fontsize=SMALL, color=FAINT)


def _missing(means: pd.Series) -> list[str]:
    """Which models are not complete, and where."""
    gaps: dict[str, list[str]] = {}
    for name, own in means.groupby(level="title", sort=False):
        missing = [f"{place:g}" for place in sorted(own[own.isna()].index.get_level_values("x"))]
        if missing:
            gaps.setdefault("" if len(missing) == len(own) else ", ".join(missing), []).append(str(name))
    return [missing_from(names, where) for where, names in gaps.items()]
