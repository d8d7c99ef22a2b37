"""Errors relative to the best model of each row. Pure; no torch, and seaborn only where it draws."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bench.analysis.results import METRICS, Results
from bench.analysis.tables import ERRORS, run_title, shared
from bench.report.figures.panels import Drawn, blank, over_seeds, said, settled, words
from bench.report.figures.style import FAINT, HOLE, INK, SMALL, looks

DETAILED = 12
"""With so many rows or fewer each horizon has one of its own."""
CLIPPED = 60
"""Percent at which the colours end."""
DARK = 0.6
"""The share of that from which on the numbers are white."""
TALL = 5
"""So many rows give a bar of colours room beside them; the numbers say all, it is a help."""
SIDE_BY_SIDE = 9
"""So many models leave room for two maps beside each other."""


def heatmap(planned: Results) -> Drawn | None:
    """MSE and MAE; None for one model, which is always its own best."""
    frame, row = _with_rows(planned)
    names = list(looks(planned))
    if len(names) < 2:
        return None
    errors = {metric: over_seeds(frame, ["row", "title"], metric)["mean"].unstack() for metric in METRICS}
    errors = {metric: each.reindex(index=frame.row.unique(), columns=names) for metric, each in errors.items()}
    lead = (
        f"Test errors on standardised channels by {row}: percent above the best model of the row (0, in bold), whose "
        f"error is printed to the right; colours end at {CLIPPED} %"
    )
    holes = errors["mse"].isna()
    if holes.all(axis=None):
        return Drawn(words("No cell is complete: there is nothing to compare."), said(planned, lead))
    gaps = (
        "Hatched: a run of the cell is not there. † The best of the row is the best of the models that are there, and "
        "another may be better."
    )
    return Drawn(_figure(errors), said(planned, lead, gaps if holes.any(axis=None) else ""))


def _with_rows(planned: Results) -> tuple[pd.DataFrame, str]:
    """The runs with the `row` that they belong to, and what a row is."""
    frame = planned.frame()
    data = [shared(*pair) for pair in zip(frame.dataset, frame.fraction, strict=True)]
    titles = [run_title(*pair) for pair in zip(frame.model, frame.variant, strict=True)]
    frame = frame.assign(row=data, title=titles)
    pairs = frame[frame.tested != frame.dataset]
    if len(pairs):
        what = "data set trained on → data set tested on, averaged over horizons"
        return pairs.assign(row=pairs.row + " → " + pairs.tested), what
    by_horizon = frame.assign(row=frame.row + " " + frame.horizon.astype(str))
    if by_horizon.row.nunique() <= DETAILED:
        return by_horizon, "data set and horizon"
    return frame, "data set, averaged over horizons"


def _figure(errors: dict[str, pd.DataFrame]) -> Figure:
    """Beside each other where there is room, else one over the other."""
    rows, columns = errors["mse"].shape
    beside = columns <= SIDE_BY_SIDE
    figure = blank((1 if beside else len(METRICS)) * (0.24 * rows + 1.0))
    axes = figure.subplots(*((1, len(METRICS)) if beside else (len(METRICS), 1)), squeeze=False).flat
    for axis, metric, title in zip(axes, METRICS, ERRORS, strict=True):
        _draw(axis, errors[metric])
        axis.set_title(title)
        axis.tick_params(labelleft=not beside or metric == METRICS[0], labelbottom=beside or metric == METRICS[-1])
    if rows >= TALL:
        bar = figure.colorbar(axis.collections[0], ax=list(figure.axes), extend="max", aspect=25, pad=0.02, shrink=0.9)
        bar.set_label("% above the best of the row")
        bar.outline.set_visible(False)
    return settled(figure)


def _draw(axes: Axes, errors: pd.DataFrame) -> None:
    import seaborn

    best = errors.min(axis=1)
    above = 100 * (errors.div(best, axis=0) - 1)
    seaborn.heatmap(above, ax=axes, vmin=0, vmax=CLIPPED, cmap="Blues", cbar=False, linewidths=0.8, linecolor="white")
    for (row, column), value in np.ndenumerate(above.to_numpy()):
        gap = bool(np.isnan(value))
        if gap:
            place = (column + 0.03, row + 0.03)
            axes.add_patch(Rectangle(place, 0.94, 0.94, facecolor=HOLE, hatch="/////", linewidth=0))
        axes.text(
            column + 0.5,
            row + 0.5,
            "–" if gap else _percent(value),
            ha="center",
            va="center",
            fontsize=SMALL,
            color="white" if value > DARK * CLIPPED else INK,
            fontweight="bold" if value == 0 else "normal",
        )
    edge = errors.shape[1] + 0.15
    for row, value in enumerate(best):
        axes.text(edge, row + 0.5, "" if np.isnan(value) else f"{value:.3f}", va="center", color=FAINT, fontsize=SMALL)
    axes.text(edge, -0.12, "best", va="bottom", color=FAINT, fontsize=SMALL)
    labels = [f"{row} †" if gap else row for row, gap in errors.isna().any(axis=1).items()]
    axes.set(xlabel="", ylabel="")
    axes.set_yticks(np.arange(len(labels)) + 0.5, labels, rotation=0)
    axes.set_xticks(np.arange(errors.shape[1]) + 0.5, errors.columns, rotation=40, ha="right", rotation_mode="anchor")
    axes.tick_params(length=0)


def _percent(value: float) -> str:
    """As short as a cell is narrow."""
    if value == 0:
        return "0"
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}" if value < 999.5 else f"{value / 1000:.1f}k"
