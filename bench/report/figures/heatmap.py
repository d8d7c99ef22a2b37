"""Errors relative to the best model of each row. Pure; no torch, and seaborn only to draw."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bench.analysis.results import METRICS, Results
from bench.analysis.tables import ERRORS
from bench.report.figures.panels import Drawn, blank, drawn, over_seeds, titled
from bench.report.figures.style import FAINT, HOLE, INK, SMALL, looks

DETAILED = 12
"""Give each horizon a row of its own up to this many rows; beyond, average over horizons."""
CLIPPED = 60
"""Percent at which the colours end."""
TALL = 5
"""Draw a colour bar from this many rows on; below, it does not fit."""
SIDE_BY_SIDE = 9
"""Put the two maps side by side up to this many models."""


def heatmap(planned: Results) -> Drawn | None:
    """Draw a map of MSE and one of MAE; None for a single model, which is always its own best."""
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
    gaps = errors["mse"].isna()
    if gaps.all(axis=None):
        return drawn(planned, "No cell is complete: there is nothing to compare.", lead)
    note = "Hatched: runs of the cell are missing. † The best model of the row among the complete ones."
    return drawn(planned, _figure(errors), lead, note if gaps.any(axis=None) else "")


def _with_rows(planned: Results) -> tuple[pd.DataFrame, str]:
    """Return the runs, each with the `row` of the map that it belongs to, and what a row is."""
    frame = titled(planned.frame)
    pairs = frame[frame.tested != frame.dataset]
    if len(pairs):
        what = "data set trained on → data set tested on, averaged over horizons"
        return pairs.assign(row=pairs.data + " → " + pairs.tested), what
    by_horizon = frame.assign(row=frame.data + " " + frame.horizon.astype(str))
    if by_horizon.row.nunique() <= DETAILED:
        return by_horizon, "data set and horizon"
    return frame.assign(row=frame.data), "data set, averaged over horizons"


def _figure(errors: dict[str, pd.DataFrame]) -> Figure:
    """Draw the maps side by side if they fit, else one above the other."""
    rows, columns = errors["mse"].shape
    beside = columns <= SIDE_BY_SIDE
    figure = blank((1 if beside else len(METRICS)) * (0.24 * rows + 1.0))
    panels = figure.subplots(*((1, len(METRICS)) if beside else (len(METRICS), 1)), squeeze=False).flat
    for axes, metric, title in zip(panels, METRICS, ERRORS, strict=True):
        _draw(axes, errors[metric])
        axes.set_title(title)
        axes.tick_params(labelleft=not beside or metric == METRICS[0], labelbottom=beside or metric == METRICS[-1])
    if rows >= TALL:
        bar = figure.colorbar(axes.collections[0], ax=list(figure.axes), extend="max", aspect=25, pad=0.02, shrink=0.9)
        bar.set_label("% above the best of the row")
        bar.outline.set_visible(False)
    return figure


def _draw(axes: Axes, errors: pd.DataFrame) -> None:
    """Draw a map: a coloured number for each complete cell, a hatched dash for each other one."""
    import seaborn

    # 1. Complete cells.
    best = errors.min(axis=1)
    above = 100 * (errors.div(best, axis=0) - 1)
    colours = {"vmin": 0, "vmax": CLIPPED, "cmap": "Blues", "cbar": False, "linewidths": 0.8, "linecolor": "white"}
    seaborn.heatmap(above, ax=axes, annot=above.map(_percent), fmt="", annot_kws={"fontsize": SMALL}, **colours)
    for text in axes.texts:
        text.set_fontweight("bold" if text.get_text() == "0" else "normal")
    # 2. Incomplete cells.
    for row, column in np.argwhere(above.isna().to_numpy()):
        place = (column + 0.03, row + 0.03)
        axes.add_patch(Rectangle(place, 0.94, 0.94, facecolor=HOLE, hatch="/////", linewidth=0))
        axes.text(column + 0.5, row + 0.5, "–", ha="center", va="center", fontsize=SMALL, color=INK)
    # 3. Errors of the best, labels.
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
    """Return a number short enough for a cell."""
    if value == 0:
        return "0"
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}" if value < 999.5 else f"{value / 1000:.1f}k"
