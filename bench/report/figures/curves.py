"""Figures of single runs: learning curves, spread over seeds. Pure; no torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, StrMethodFormatter

from bench.analysis.results import Results
from bench.analysis.tables import grouped
from bench.report.figures.panels import (
    Drawn,
    across,
    foot,
    legend,
    missing_from,
    named,
    own_frame,
    panels,
    part,
    ratio_scale,
    said,
    settled,
    shortest,
    words,
)
from bench.report.figures.style import FAINT, SMALL, Look, looks

HIGHEST = 3.0
"""Where panels of validation losses end: single epochs may be a hundred times worse than the best."""
DEVIATIONS = (-30, -10, -3, -1, 0, 1, 3, 10, 30)
"""Percent that the axis of the spread over seeds may name."""


def curves(planned: Results) -> Drawn | None:
    """A panel for each data set at its shortest horizon, a line for each run; None where no model trains."""
    chosen = shortest(own_frame(planned).assign(result=[result for _, result in planned.runs]))
    runs = part(planned, chosen)
    done = chosen[chosen.why == ""]
    still = [name for name, own in done.groupby("title", sort=False) if not any(run.curve for run in own.result)]
    shown = {name: look for name, look in looks(planned).items() if name not in still}
    if not shown:
        return None
    lead = (
        "Validation loss after each epoch relative to that of the run's best epoch (marked), at the shortest horizon, "
        f"a line for each seed; panels end at {HIGHEST:g}; models train with different losses, so only shapes compare"
    )
    caption = said(runs, lead, f"Nothing to train: {named(still)}." if still else "", averaged=False)
    if not any(run.curve for run in done.result):
        return Drawn(words("No run that trains is there: there are no curves."), caption)
    trained = {data for data, own in chosen.groupby("data") if any(run and run.curve for run in own.result)}
    by_data = grouped(chosen[chosen.data.isin(trained)], ["data"])
    figure, axes = panels(len(by_data), 1.75 if len(by_data) > 1 else 2.5)
    for axis, ((data,), own) in zip(axes, by_data, strict=True):
        axis.set_title(f"{data}, horizon {own.horizon.iloc[0]}")
        _draw_curves(axis, own[own.title.isin(shown)], shown)
    gone = [data for data in chosen.data.unique() if data not in trained]
    figure.supxlabel(foot("Epoch", gone, "no run that trains is there"), fontsize=7.5)
    figure.supylabel("Validation loss / that of the best epoch", fontsize=7.5)
    legend(figure, shown)
    return Drawn(settled(figure), caption)


def spread(planned: Results) -> Drawn | None:
    """A panel for each data set, a row for each model, a dot for each run; None for a single seed."""
    frame = own_frame(planned)
    if frame.seed.nunique() < 2:
        return None
    shown = looks(planned)
    cell = frame.groupby(["data", "horizon", "title"], sort=False).mse
    frame = frame.assign(
        deviation=(100 * (frame.mse / cell.transform("mean") - 1)).where(
            cell.transform("count") == cell.transform("size")
        )
    )
    lead = (
        "Test MSE of each run, percent above or below the mean of its cell (a model on a data set at one horizon), for "
        "cells of which all seeds are there; one scale for all panels, linear within 1 %, logarithmic beyond"
    )
    caption = said(planned, lead, averaged=False)
    if frame.deviation.isna().all():
        return Drawn(words("No cell is complete over its seeds: there is no spread to show."), caption)
    there = set(frame[frame.deviation.notna()].data)
    by_data = grouped(frame[frame.data.isin(there)], ["data"])
    figure, axes = panels(len(by_data), 0.165 * len(shown) + 0.45, one_scale=True)
    for number, (axis, ((data,), own)) in enumerate(zip(axes, by_data, strict=True)):
        axis.set_title(data)
        _draw_spread(axis, own, shown, labelled=number % across(len(axes)) == 0)
    gone = [data for data in frame.data.unique() if data not in there]
    label = "MSE of a run, % above or below the mean over seeds"
    figure.supxlabel(foot(label, gone, "no cell is complete"), fontsize=7.5)
    return Drawn(settled(figure), caption)


def _draw_curves(axes: Axes, own: pd.DataFrame, shown: Mapping[str, Look]) -> None:
    """A line for each run that is there, its best epoch marked."""
    drawn = [row for row in own.itertuples() if not row.why and row.result.curve]
    for row in drawn:
        look = shown[row.title]
        losses = np.array([epoch.val_loss for epoch in row.result.curve])
        best = int(losses.argmin())
        epochs = [epoch.epoch for epoch in row.result.curve]
        axes.plot(epochs, losses / losses[best], color=look.colour, linewidth=0.7, label=row.title)
        axes.plot(epochs[best], 1, look.marker, color=look.colour, markersize=4, zorder=3, clip_on=False)
    ratio_scale(axes, highest=HIGHEST)
    ratio_scale(axes, "x")
    gone = [name for name in shown if name not in {row.title for row in drawn}]
    axes.set_xlabel(missing_from(gone) if gone else "", fontsize=SMALL, color=FAINT)


def _draw_spread(axes: Axes, own: pd.DataFrame, shown: Mapping[str, Look], labelled: bool) -> None:
    """A row for each model, named where `labelled`."""
    axes.set_xscale("symlog", linthresh=1, linscale=0.7)
    axes.axvline(0, color=FAINT, linewidth=0.6, zorder=1)
    for row, (name, look) in enumerate(shown.items()):
        found = own[own.title == name].deviation.dropna()
        axes.plot(
            found, np.full(len(found), row), look.marker, color=look.colour, markersize=3.6, alpha=0.8, label=name
        )
        if found.empty:
            place = axes.get_yaxis_transform()
            axes.text(0.98, row, "not complete", transform=place, ha="right", va="center", color=FAINT)
    axes.xaxis.set_major_locator(FixedLocator(DEVIATIONS))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set(ylim=(len(shown) - 0.5, -0.5), yticks=range(len(shown)), yticklabels=list(shown) if labelled else [])
    axes.tick_params(axis="y", length=0)
