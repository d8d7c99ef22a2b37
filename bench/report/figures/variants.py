"""What a change to a model does to its error: variants against the first one. Pure; no torch."""

from __future__ import annotations

import itertools
import textwrap

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.analysis.results import Results, run_title
from bench.report.figures.panels import Drawn, blank, drawn, key, over_seeds
from bench.report.figures.style import FAINT, INK, SMALL, letters, looks, narrow

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", "*", ">", "d", "p")
"""Markers of data sets, repeated if there are more data sets."""
NAMED = 3
"""A row names at most this many missing data sets; beyond, it counts them."""


def variants(planned: Results) -> Drawn | None:
    """Draw a row for each variant but the first, a marker for each data set; None if no model has two variants."""
    frame = planned.own
    changes = _changes(frame)
    if changes.empty:
        return None
    firsts = frame.drop_duplicates("model")
    lead = (
        "Change of the test MSE (horizons averaged first) against the first variant of each model "
        f"({', '.join(firsts.variant.unique())}); a marker for each data set, a bar at their mean unless one is missing"
    )
    if changes.isna().all(axis=None):
        return drawn(planned, "No variant is complete on any data set beside the first one.", lead)
    colours = {row.model: looks(planned)[row.title].colour for row in firsts.itertuples()}
    return drawn(planned, _figure(changes, colours), lead, alt=_means(changes))


def _means(changes: pd.DataFrame) -> str:
    """Say the mean change of each variant that is complete."""
    whole = changes.dropna().mean(axis=1)
    listed = [f"{run_title(model)}, {variant} {change:+.1f} %" for (model, variant), change in whole.items()]
    return f"Mean change of MSE: {'; '.join(listed) or 'no variant is complete on all data sets'}."


def _changes(frame: pd.DataFrame) -> pd.DataFrame:
    """Return percent by model and variant (index) and data set; NaN if either variant is incomplete."""
    means = over_seeds(frame, ["model", "variant", "data"])["mean"].unstack()[list(frame.data.unique())]
    rows = {}
    for model, own in frame.groupby("model", sort=False):
        first, *others = own.variant.unique()
        for variant in others:
            rows[model, variant] = 100 * (means.loc[(model, variant)] / means.loc[(model, first)] - 1)
    return pd.DataFrame(rows).T


def _figure(changes: pd.DataFrame, colours: dict[str, str]) -> Figure:
    """Draw all rows; several variants of a model stand below its name."""
    # 1. Rows: a label, and the variant's changes or, for the name of a model, None.
    rows: list[tuple[str, str, pd.Series | None]] = []
    for model, own in changes.groupby(level=0, sort=False):
        rows += [(run_title(model), model, None)] if len(own) > 1 else []
        prefix = "" if len(own) > 1 else f"{run_title(model)}: "
        rows += [(prefix + variant, model, change) for (_, variant), change in own.iterrows()]
    # 2. Markers.
    shapes = dict(zip(changes.columns, itertools.cycle(MARKERS), strict=False))
    figure = blank(0.19 * len(rows) + 0.5)
    axes = figure.subplots()
    axes.axvline(0, color=FAINT, linewidth=0.8, zorder=1)
    for place, (_, model, change) in enumerate(rows):
        if change is not None:
            _draw(axes, change, place, colours[model], shapes)
    # 3. Labels and legend.
    axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel="Change of MSE (%)")
    axes.set_yticks(range(len(rows)), [textwrap.shorten(label, letters(70), placeholder="…") for label, _, _ in rows])
    for label, (_, _, change) in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if change is None else "normal")
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    handles = [
        Line2D([], [], color=FAINT, marker=shape, linestyle="none", label=data) for data, shape in shapes.items()
    ]
    key(figure, handles)
    return figure


def _draw(axes: Axes, change: pd.Series, place: int, colour: str, shapes: dict[str, str]) -> None:
    """Draw a row: each data set, and either their mean or the names of the missing ones."""
    for data, value in change.items():
        axes.plot(value, place, shapes[data], color=colour, alpha=0.8, markersize=5)
    absent = list(change.index[change.isna()])
    if absent:
        named = len(absent) <= NAMED and not narrow()
        which = f"missing: {', '.join(absent)}" if named else f"{len(absent)} of {len(change)} missing"
        side = axes.get_yaxis_transform()
        axes.text(1.01, place, which, transform=side, va="center", color=FAINT, fontsize=SMALL)
    else:
        axes.plot([change.mean()] * 2, [place - 0.38, place + 0.38], color=INK, linewidth=1.6, gid="mean")
