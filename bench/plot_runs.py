"""Figures of single runs: sample forecasts, learning curves, spread over seeds. Pure; no torch."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, StrMethodFormatter

from bench.panels import (
    Drawn,
    across,
    blank,
    emptied,
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
from bench.planned import Planned
from bench.spec import Sample
from bench.style import FAINT, GRID, INK, SMALL, Look, looks
from bench.tables import grouped

SECTION_GAP = 0.08
"""Between two models of a row, of the steps that one shows."""
HIGHEST = 3.0
"""Where panels of validation losses end: single epochs may be a hundred times worse than the best."""
DEVIATIONS = (-30, -10, -3, -1, 0, 1, 3, 10, 30)
"""Percent that the axis of the spread over seeds may name."""
OLD = "recorded before\nsamples were"


def forecasts(planned: Planned, about: str) -> Drawn | None:
    """A row for each data set, a section of it for each model, the look-back cut to the length of the horizon."""
    frame = _with_results(planned)
    chosen = shortest(frame)
    chosen = chosen[chosen.seed == chosen.seed.iloc[0]]
    lead = (
        "One forecast of each model (colour), the truth (dark) and the end of the look-back (grey), at the shortest "
        "horizon. Nobody picked it: it is the window in the middle of the test part and the last channel, on the scale "
        "of the standardised channels; each row has a scale of its own"
    )
    runs = part(planned, chosen)
    samples = [result.sample for result in chosen.result if result is not None and result.sample]
    without = sum(chosen.why == "") - len(samples)
    old = f"{without} of the runs that are there were recorded before samples were." if without else ""
    caption = said(runs, about, lead, old)
    if not samples:
        return Drawn(words("No record of these runs holds a sample forecast."), caption)
    return Drawn(_forecasts(chosen, looks(planned)), caption)


def curves(planned: Planned, about: str) -> Drawn | None:
    """A panel for each data set at its shortest horizon, a line for each run; None where no model trains."""
    frame = _with_results(planned)
    chosen = shortest(frame)
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
    caption = said(runs, about, lead, f"Nothing to train: {named(still)}." if still else "")
    caption = caption.replace("mean over seeds", "seeds")  # every one is drawn
    if not any(run.curve for run in done.result):
        return Drawn(words("No run that trains is there: there are no curves."), caption)
    by_data = grouped(chosen, ["data"])
    figure, axes = panels(len(by_data), 1.75 if len(by_data) > 1 else 2.5)
    for axis, ((data,), own) in zip(axes, by_data, strict=True):
        axis.set_title(f"{data}, horizon {own.horizon.iloc[0]}")
        _draw_curves(axis, own[own.title.isin(shown)], shown)
    figure.supxlabel("Epoch", fontsize=7.5)
    figure.supylabel("Validation loss / that of the best epoch", fontsize=7.5)
    legend(figure, shown)
    return Drawn(settled(figure), caption)


def spread(planned: Planned, about: str) -> Drawn | None:
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
    caption = said(planned, about, lead)
    if frame.deviation.isna().all():
        return Drawn(words("No cell is complete over its seeds: there is no spread to show."), caption)
    by_data = grouped(frame, ["data"])
    figure, axes = panels(len(by_data), 0.165 * len(shown) + 0.45, share="x")
    for number, (axis, ((data,), own)) in enumerate(zip(axes, by_data, strict=True)):
        axis.set_title(data)
        _draw_spread(axis, own, shown, labelled=number % across(len(axes)) == 0)
    figure.supxlabel("MSE of a run, % above or below the mean over seeds", fontsize=7.5)
    return Drawn(settled(figure), caption)


def _with_results(planned: Planned) -> pd.DataFrame:
    return own_frame(planned).assign(result=[result for _, result in planned.runs])


def _forecasts(chosen: pd.DataFrame, shown: Mapping[str, Look]) -> Figure:
    by_data = grouped(chosen, ["data"])
    figure = blank(0.68 * len(by_data) + 0.55)
    axes = figure.subplots(len(by_data), 1, squeeze=False)[:, 0]
    for axis, ((data,), own) in zip(axes, by_data, strict=True):
        axis.set_ylabel(f"{data}\n{own.horizon.iloc[0]} steps", rotation=0, ha="right", va="center")
        _draw_forecasts(axis, own, shown)
    for number, (name, look) in enumerate(shown.items()):
        many = len(shown) > 8
        axes[0].text(
            (number + 0.5) / len(shown),
            1.06,
            textwrap.fill(name, 12, break_on_hyphens=False, break_long_words=False),
            transform=axes[0].transAxes,
            ha="left" if many else "center",
            va="bottom",
            rotation=35 if many else 0,
            color=look.colour,
            fontweight="bold",
            fontsize=SMALL,
        )
    return settled(figure)


def _draw_forecasts(axes: Axes, own: pd.DataFrame, shown: Mapping[str, Look]) -> None:
    """Sections beside each other on one axis; a model without a sample has the reason in its place."""
    horizon = int(own.horizon.iloc[0])
    by_title = {row.title: row for row in own.itertuples()}
    samples = {
        name: row.result.sample for name, row in by_title.items() if row.result is not None and row.result.sample
    }
    if not samples:
        return emptied(axes, "no sample of any model: " + ", ".join(dict.fromkeys(_why(r) for r in by_title.values())))
    past = min(horizon, max(len(sample.past) for sample in samples.values()))
    width = past + horizon
    for number, (name, look) in enumerate(shown.items()):
        start = number * width * (1 + SECTION_GAP)
        if name in samples:
            _draw_sample(axes, samples[name], start, past, look)
        elif name in by_title:
            middle = start + width / 2
            axes.text(
                middle,
                0.5,
                f"no sample:\n{_why(by_title[name])}",
                transform=axes.get_xaxis_transform(),
                ha="center",
                va="center",
                fontsize=SMALL,
                color=FAINT,
            )
    axes.set_xlim(-width * SECTION_GAP / 2, (len(shown) - SECTION_GAP / 2) * width * (1 + SECTION_GAP) - 0)
    axes.set_xticks([])
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.spines["bottom"].set_visible(False)
    return None


def _draw_sample(axes: Axes, sample: Sample, start: float, past: int, look: Look) -> None:
    """Forecast over truth; both begin at the last step of the look-back."""
    seen = sample.past[len(sample.past) - past :]
    ahead = start + past - 1 + np.arange(len(sample.truth) + 1)
    axes.axvline(start + past - 1, color=GRID, linewidth=0.8, zorder=0)
    axes.plot(start + np.arange(past), seen, color="#9a9a9a", linewidth=0.7)
    axes.plot(ahead, [seen[-1], *sample.truth], color=INK, linewidth=0.7)
    axes.plot(ahead[1:], sample.forecast, color=look.colour, linewidth=1.1)


def _why(row: object) -> str:
    """Why a run has no sample, in a word or two."""
    why = str(getattr(row, "why", ""))
    return why.partition(" (")[0] or OLD


def _draw_curves(axes: Axes, own: pd.DataFrame, shown: Mapping[str, Look]) -> None:
    drawn = [row for row in own.itertuples() if not row.why and row.result.curve]
    if not drawn:
        return emptied(axes, "no run that trains is there")
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
    return None


def _draw_spread(axes: Axes, own: pd.DataFrame, shown: Mapping[str, Look], labelled: bool) -> None:
    """A row for each model, named where `labelled`."""
    axes.set_xscale("symlog", linthresh=1, linscale=0.7)
    if own.deviation.isna().all():
        emptied(axes, "no cell is complete")
    else:
        axes.axvline(0, color=FAINT, linewidth=0.6, zorder=1)
        for row, (name, look) in enumerate(shown.items()):
            found = own[own.title == name].deviation.dropna()
            axes.plot(found, np.full(len(found), row), look.marker, color=look.colour, markersize=3.6, alpha=0.8)
            if found.empty:
                place = axes.get_yaxis_transform()
                axes.text(0.98, row, "not complete", transform=place, ha="right", va="center", color=FAINT)
    axes.xaxis.set_major_locator(FixedLocator(DEVIATIONS))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set(ylim=(len(shown) - 0.5, -0.5), yticks=range(len(shown)), yticklabels=list(shown) if labelled else [])
    axes.tick_params(axis="y", length=0)
