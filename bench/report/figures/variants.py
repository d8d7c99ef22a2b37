"""Variants of models against the first one: what a change does to the error. Pure; no torch."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.analysis.results import Results
from bench.analysis.tables import grouped, run_title
from bench.report.figures.panels import Drawn, blank, key, over_seeds, own_frame, said, settled, words
from bench.report.figures.style import FAINT, INK, SMALL, looks

DATASETS = ("o", "s", "^", "D", "v", "P", "X", "<", "*", ">", "d", "p")
"""Their markers, over and over where there are more."""


NAMED = 3
"""So many data sets that are not complete are named rather than counted."""


def variants(planned: Results) -> Drawn | None:
    """A row for each variant but the first, a marker for each data set; None where no model has two variants."""
    frame = own_frame(planned)
    changes = _changes(frame)
    if changes.empty:
        return None
    firsts = frame.drop_duplicates("model")
    lead = (
        "Change of the test MSE (horizons averaged first) against the first variant of each model "
        f"({', '.join(firsts.variant.unique())}); a marker for each data set, a bar at their mean where all are there"
    )
    caption = said(planned, lead)
    if changes.isna().all(axis=None):
        return Drawn(words("No variant is complete on any data set beside the first one."), caption)
    colours = {row.model: looks(planned)[row.title].colour for row in firsts.itertuples()}
    return Drawn(_figure(changes, colours), caption)


def _changes(frame: pd.DataFrame) -> pd.DataFrame:
    """In percent, by model and variant (index) and data set; NaN where either has a hole."""
    means = over_seeds(frame, ["model", "variant", "data"])["mean"].unstack()[list(frame.data.unique())]
    rows = {}
    for (model,), own in grouped(frame, ["model"]):
        first, *others = own.variant.unique()
        for variant in others:
            rows[model, variant] = 100 * (means.loc[(model, variant)] / means.loc[(model, first)] - 1)
    return pd.DataFrame(rows).T


def _figure(changes: pd.DataFrame, colours: dict[str, str]) -> Figure:
    """Rows by model, under its name where it has several."""
    rows: list[tuple[str, tuple[str, str] | None]] = []
    for model in changes.index.unique(level=0):
        own = [(model, variant) for _, variant in changes.loc[[model]].index]
        rows += [(run_title(model), None)] if len(own) > 1 else []
        rows += [
            (variant if len(own) > 1 else f"{run_title(model)}: {variant}", (model, variant)) for _, variant in own
        ]
    figure = blank(0.19 * len(rows) + 0.5)
    axes = figure.subplots()
    axes.axvline(0, color=FAINT, linewidth=0.8, zorder=1)
    for place, (_, which) in enumerate(rows):
        if which:
            _draw(axes, changes.loc[which], place, colours[which[0]])
    axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel="Change of MSE (%)")
    axes.set_yticks(range(len(rows)), [label for label, _ in rows])
    for label, (_, which) in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("normal" if which else "bold")
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    markers = [DATASETS[number % len(DATASETS)] for number in range(len(changes.columns))]
    key(
        figure,
        [
            Line2D([], [], color=FAINT, marker=marker, linestyle="none", label=str(data))
            for marker, data in zip(markers, changes.columns, strict=True)
        ],
    )
    return settled(figure)


def _draw(axes: Axes, change: pd.Series, place: int, colour: str) -> None:
    """Its data sets, and their mean unless one is missing, which is then named."""
    for number, value in enumerate(change):
        axes.plot(value, place, DATASETS[number % len(DATASETS)], color=colour, alpha=0.8, markersize=5)
    missing = list(change.index[change.isna()])
    if missing:
        which = ", ".join(missing) if len(missing) <= NAMED else f"{len(missing)} of {len(change)} data sets"
        where = axes.get_yaxis_transform()
        axes.text(0.995, place, f"no {which}", transform=where, ha="right", va="center", color=FAINT, fontsize=SMALL)
    else:
        axes.plot([change.mean()] * 2, [place - 0.38, place + 0.38], color=INK, linewidth=1.6, gid="mean")
