"""Figures of single runs: learning curves, spread over seeds. Pure; no torch."""

from __future__ import annotations

import itertools
import math
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import StrMethodFormatter, SymmetricalLogLocator

from bench.analysis.results import Results
from bench.core.record import RunResult
from bench.report.figures.panels import Drawn, by_panel, drawn, missing, named, ratio_scale, shortest
from bench.report.figures.style import COLOURS, FAINT, FURTHER_COLOURS, MARKERS, SMALL, Look, looks, narrow

POINTS = 30
"""Most points of a line."""
SEEDS = 10
"""Most seeds of a cell whose curves are drawn, the first ones."""
DOTS = 50
"""Most runs of a row that are drawn as dots, evenly by their rank."""
CROWDED = 10
"""Percent beyond which the spread's axis has numbers at powers of ten alone."""
HIGHEST = 3.0
"""Panels of validation losses end here: single epochs may be a hundred times worse than the best."""


def curves(planned: Results) -> Drawn | None:
    """Draw a panel for each model, a colour for each data set at its shortest horizon; None if none trains."""
    # 1. Which models train.
    chosen = shortest(planned.own)
    chosen = chosen.assign(losses=[_losses(row.result) for row in chosen.itertuples()])
    trained = chosen[chosen.losses.map(len) > 0]
    still = [name for name in chosen[chosen.why == ""].title.unique() if name not in set(trained.title)]
    models = [name for name in looks(planned) if name not in still]
    if not models:
        return None
    seeds = f"the first {SEEDS} seeds" if chosen.seed.nunique() > SEEDS else "seeds"
    lead = (
        "Validation loss after each epoch relative to that of the run's best epoch, at each data set's shortest "
        f"horizon: thin lines for {seeds}, a thick one for their mean as far as all of them go; markers at the best "
        f"epochs; panels end at {HIGHEST:g}; models train with different losses, so only shapes compare"
    )
    nothing = f"Nothing to train: {named(still)}." if still else ""
    own = planned.part(chosen)
    if trained.empty:
        return drawn(own, "No run that trains is done: there are no curves.", lead, nothing, averaged=False)
    # 2. Panels.
    chosen = chosen[chosen.title.isin(models)]
    colours = itertools.cycle(zip(COLOURS + FURTHER_COLOURS, itertools.cycle(MARKERS), strict=False))
    datasets = {name: Look(*look) for name, look in zip(chosen.data.unique(), colours, strict=False)}
    labels, why = ("Epoch", "Validation loss / that of the best epoch"), "no run that trains is done"
    height, filled = (1.75 if trained.title.nunique() > 1 else 2.5), set(trained.title)
    figure = by_panel(chosen, filled, _draw_curves, datasets, height=height, labels=labels, why=why, by="title")
    return drawn(own, figure, lead, nothing, alt=_best_epochs(trained), averaged=False)


def _losses(result: RunResult | None) -> tuple[float, ...]:
    return tuple(epoch.val_loss for epoch in result.curve) if result else ()


def _best_epochs(trained: pd.DataFrame) -> str:
    """Say in which epochs each model was best."""
    best = trained.assign(best=[row.result.best_epoch for row in trained.itertuples()])
    ends = best.groupby("title", sort=False).best.agg(["min", "max"]).astype(int)
    return f"Best epochs: {', '.join(f'{name} {low} to {high}' for name, low, high in ends.itertuples())}."


def spread(planned: Results) -> Drawn | None:
    """Draw a dot for each run, a row for each model, a panel for each data set; None for a single seed."""
    frame = planned.own[["data", "horizon", "title", "seed", "mse"]]
    if frame.seed.nunique() < 2:
        return None
    cell = frame.groupby(["data", "horizon", "title"], sort=False).mse
    complete = cell.transform("count") == cell.transform("size")
    frame = frame.assign(deviation=(100 * (frame.mse / cell.transform("mean") - 1)).where(complete))
    lead = (
        "Test MSE of each run, percent above or below the mean of its cell (a model on a data set at one horizon), for "
        "cells with all seeds; one scale for all panels, linear between the dotted lines at 1 %, logarithmic beyond"
    )
    if not complete.any():
        text = "No cell is complete over its seeds: there is no spread to draw."
        return drawn(planned, text, lead, averaged=False)
    if (frame[complete].groupby(["data", "title"], sort=False).size() > DOTS).any():
        lead += f"; where a row has more than {DOTS} runs, {DOTS} of them, evenly by their rank"
    height = 0.165 * frame.title.nunique() + 0.45
    long, short = (
        "lower than the mean of its cell (%)  ←  0: as the mean  →  higher (%)",
        "% lower  ←  0: mean  →  % higher",
    )
    labels = (short if narrow() else long, "")
    filled, why = set(frame[complete].data), "no cell is complete"
    size = frame.deviation.abs().sort_values(ascending=False, kind="stable").dropna()
    draw = partial(_draw_spread, steps=(1,) if size.iloc[0] > CROWDED else (1, 3))
    figure = by_panel(frame, filled, draw, looks(planned), height=height, labels=labels, why=why, by_row=True)
    widest = frame.loc[size[size >= 0.05].index].drop_duplicates("title")  # less is rounding
    far = ", ".join(f"{row.title} {row.deviation:+.1f} % ({row.data} {row.horizon})" for row in widest.itertuples())
    alt = f"Farthest from the mean of its cell: {far or 'no run, all seeds agree'}."
    return drawn(planned, figure, lead, alt=alt, averaged=False)


def _draw_curves(axes: Axes, own: pd.DataFrame, datasets: dict[str, Look]) -> None:
    """Draw a thin line for each run, its best epoch marked, and a thick one for each data set's mean."""
    trained = own[own.losses.map(len) > 0]
    for data, runs in trained.groupby("data", sort=False):
        look = datasets[str(data)]
        epochs = list(itertools.zip_longest(*runs.losses, fillvalue=math.nan))
        seeds = pd.DataFrame(epochs, index=range(1, len(epochs) + 1), columns=runs.seed)
        seeds = seeds / seeds.min()
        for seed, losses in itertools.islice(seeds.items(), SEEDS):
            axes.plot(_thinned(losses.dropna()), color=look.colour, linewidth=0.5, alpha=0.6, gid=f"seed {seed}")
            axes.plot(losses.idxmin(), 1, look.marker, color=look.colour, markersize=3.5, zorder=3, clip_on=False)
        if len(seeds.columns) > 1:
            axes.plot(
                _thinned(seeds.dropna().mean(axis=1)), color=look.colour, linewidth=1.5, gid="mean", label=str(data)
            )
    axes.set_yscale("log")
    axes.set_ylim(top=min(HIGHEST, axes.get_ylim()[1]))
    ratio_scale(axes)
    ratio_scale(axes, "x")
    absent = [name for name in datasets if name not in set(trained.data)]
    axes.set_xlabel(missing(absent) if absent else "", fontsize=SMALL, color=FAINT)


def _thinned(losses: pd.Series) -> pd.Series:
    """Return at most POINTS of a curve, close together where it begins, with its least and its last."""
    if len(losses) <= POINTS:
        return losses
    kept = np.geomspace(1, len(losses), POINTS - 2).round().astype(int) - 1
    return losses.iloc[sorted({*kept.tolist(), int(losses.argmin()), len(losses) - 1})]


def _draw_spread(axes: Axes, own: pd.DataFrame, looks: dict[str, Look], steps: tuple[int, ...]) -> None:
    """Draw a row of dots for each model; name the rows of the first column of panels."""
    axes.set_xscale("symlog", linthresh=1, linscale=0.7)
    axes.xaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1, subs=steps))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.axvline(0, color=FAINT, linewidth=0.6, zorder=1)
    for end in (-1, 1):
        axes.axvline(end, color=FAINT, linewidth=0.6, linestyle=(0, (1, 2)), zorder=1, gid="linear")
    for row, (name, look) in enumerate(looks.items()):
        dots = own[own.title == name].deviation.dropna()
        if len(dots) > DOTS:
            dots = dots.sort_values().iloc[np.linspace(0, len(dots) - 1, DOTS).astype(int)]
        axes.plot(dots, np.full(len(dots), row), look.marker, color=look.colour, markersize=3.6, alpha=0.8, label=name)
        if dots.empty:
            side = axes.get_yaxis_transform()
            axes.text(0.98, row, "incomplete", transform=side, ha="right", va="center", color=FAINT, fontsize=SMALL)
    place = axes.get_subplotspec()
    labels = list(looks) if place and (place.is_first_col() or narrow()) else []
    axes.set(ylim=(len(looks) - 0.5, -0.5), yticks=range(len(looks)), yticklabels=labels)
    axes.tick_params(axis="y", length=0)
