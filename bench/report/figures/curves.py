"""Figures of single runs: learning curves, spread over seeds. Pure; no torch."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import StrMethodFormatter, SymmetricalLogLocator

from bench.analysis.results import Results
from bench.report.figures.panels import Drawn, by_data, drawn, missing, named, own_frame, part, ratio_scale, shortest
from bench.report.figures.style import FAINT, SMALL, Look, looks

HIGHEST = 3.0
"""Panels of validation losses end here: single epochs may be a hundred times worse than the best."""


def curves(planned: Results) -> Drawn | None:
    """Draw a line for each run, a panel for each data set at its shortest horizon; None if no model trains."""
    # 1. Which models train.
    chosen = shortest(own_frame(planned))
    chosen = chosen.assign(curve=[() if row.why else row.result.curve for row in chosen.itertuples()])
    trained = chosen[chosen.curve.map(len) > 0]
    still = [name for name in chosen[chosen.why == ""].title.unique() if name not in set(trained.title)]
    models = {name: look for name, look in looks(planned).items() if name not in still}
    if not models:
        return None
    lead = (
        "Validation loss after each epoch relative to that of the run's best epoch (marked), at the shortest horizon, "
        f"a line for each seed; panels end at {HIGHEST:g}; models train with different losses, so only shapes compare"
    )
    nothing = f"Nothing to train: {named(still)}." if still else ""
    own = part(planned, chosen)
    if trained.empty:
        return drawn(own, "No run that trains is done: there are no curves.", lead, nothing, averaged=False)
    # 2. Panels.
    filled = set(trained.data)
    height = 1.75 if len(filled) > 1 else 2.5
    labels = ("Epoch", "Validation loss / that of the best epoch")
    why = "no run that trains is done"
    figure = by_data(chosen, filled, _draw_curves, models, height=height, labels=labels, why=why)
    return drawn(own, figure, lead, nothing, averaged=False)


def spread(planned: Results) -> Drawn | None:
    """Draw a dot for each run, a row for each model, a panel for each data set; None for a single seed."""
    frame = own_frame(planned)
    if frame.seed.nunique() < 2:
        return None
    cell = frame.groupby(["data", "horizon", "title"], sort=False).mse
    complete = cell.transform("count") == cell.transform("size")
    frame = frame.assign(deviation=(100 * (frame.mse / cell.transform("mean") - 1)).where(complete))
    lead = (
        "Test MSE of each run, percent above or below the mean of its cell (a model on a data set at one horizon), for "
        "cells with all seeds; one scale for all panels, linear within 1 %, logarithmic beyond"
    )
    if not complete.any():
        text = "No cell is complete over its seeds: there is no spread to draw."
        return drawn(planned, text, lead, averaged=False)
    height = 0.165 * frame.title.nunique() + 0.45
    labels = ("MSE of a run, % above or below the mean over seeds", "")
    filled, why = set(frame[complete].data), "no cell is complete"
    figure = by_data(frame, filled, _draw_spread, looks(planned), height=height, labels=labels, why=why, by_row=True)
    return drawn(planned, figure, lead, averaged=False)


def _draw_curves(axes: Axes, own: pd.DataFrame, looks: dict[str, Look]) -> None:
    """Draw a line for each run, its best epoch marked."""
    axes.set_title(f"{own.data.iloc[0]}, horizon {own.horizon.iloc[0]}")
    trained = own[own.curve.map(len) > 0]
    for row in trained.itertuples():
        look = looks[row.title]
        losses = pd.Series({epoch.epoch: epoch.val_loss for epoch in row.curve})
        axes.plot(losses / losses.min(), color=look.colour, linewidth=0.7, label=row.title)
        axes.plot(losses.idxmin(), 1, look.marker, color=look.colour, markersize=4, zorder=3, clip_on=False)
    axes.set_yscale("log")
    axes.set_ylim(top=min(HIGHEST, axes.get_ylim()[1]))
    ratio_scale(axes)
    ratio_scale(axes, "x")
    absent = [name for name in looks if name not in set(trained.title)]
    axes.set_xlabel(missing(absent) if absent else "", fontsize=SMALL, color=FAINT)


def _draw_spread(axes: Axes, own: pd.DataFrame, looks: dict[str, Look]) -> None:
    """Draw a row of dots for each model; name the rows of the first column of panels."""
    axes.set_xscale("symlog", linthresh=1, linscale=0.7)
    axes.xaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1, subs=(1, 3)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.axvline(0, color=FAINT, linewidth=0.6, zorder=1)
    for row, (name, look) in enumerate(looks.items()):
        dots = own[own.title == name].deviation.dropna()
        axes.plot(dots, np.full(len(dots), row), look.marker, color=look.colour, markersize=3.6, alpha=0.8, label=name)
        if dots.empty:
            side = axes.get_yaxis_transform()
            axes.text(0.98, row, "incomplete", transform=side, ha="right", va="center", color=FAINT, fontsize=SMALL)
    place = axes.get_subplotspec()
    labels = list(looks) if place and place.is_first_col() else []
    axes.set(ylim=(len(looks) - 0.5, -0.5), yticks=range(len(looks)), yticklabels=labels)
    axes.tick_params(axis="y", length=0)
