"""Mean ranks over data sets: a critical-difference diagram, or dots where tests can tell nothing. Pure; no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.analysis.ranks import errors_by_dataset, tests_sentence
from bench.analysis.results import METRICS, Results
from bench.analysis.stats import LEVEL, Comparison, compare, datasets_needed
from bench.analysis.tables import ERRORS
from bench.report.figures.panels import Drawn, blank, said, settled, words
from bench.report.figures.style import FAINT, INK, SMALL, Look, looks

STEP, BAR = 0.34, 0.2
"""Between the labels of a diagram and between its bars, as they stand to the unit of its vertical axis."""


def ranks(planned: Results) -> Drawn | None:
    """MSE and MAE; None for one model, which has no rank."""
    shown = looks(planned)
    if len(shown) < 2:
        return None
    errors = {metric: errors_by_dataset(planned, metric) for metric in METRICS}
    compared = {metric: compare(errors[metric]) for metric in METRICS}
    complete, pairs = compared["mse"].datasets, math.comb(len(shown), 2)
    lead = "Mean rank of each model over data sets, 1 the best; errors averaged over horizons first"
    tests = tests_sentence(compared)
    if not complete:
        text = "No data set is complete for every model: there are no mean ranks."
        return Drawn(words(text), said(planned, lead, tests))
    if complete < datasets_needed(pairs):
        caption = said(planned, f"{lead}; small: ranks on single data sets", tests)
        return Drawn(_dots(errors, compared, shown), caption)
    bars = (
        f"A bar joins models of which no two differ (Wilcoxon's test at {LEVEL:g} after Holm over {pairs} pairs); its "
        "dots mark which ones."
    )
    return Drawn(_diagrams(compared, shown), said(planned, lead, bars, tests))


def cliques(alike: pd.DataFrame) -> list[list[str]]:
    """The largest groups of two or more (in the order of the index) whose members are all alike, pair by pair."""
    names = list(alike.index)

    def grown(group: list[str], candidates: list[str], excluded: list[str]) -> list[list[str]]:
        if not candidates and not excluded:
            return [group]
        found = []
        for name in list(candidates):
            near = [other for other in names if other != name and alike.at[name, other]]
            found += grown([*group, name], [n for n in candidates if n in near], [n for n in excluded if n in near])
            candidates = [n for n in candidates if n != name]
            excluded = [*excluded, name]
        return found

    return [group for group in grown([], names, []) if len(group) > 1]


def _dots(errors: dict[str, pd.DataFrame], compared: dict[str, Comparison], shown: Mapping[str, Look]) -> Figure:
    """A row for each model, the best mean rank by MSE first."""
    order = list(compared["mse"].ranks.sort_values(kind="stable").index)
    figure = blank(0.21 * len(order) + 0.75)
    axes = figure.subplots(1, len(METRICS), sharey=True)
    for axis, metric, title in zip(axes, METRICS, ERRORS, strict=True):
        every = errors[metric].dropna().rank(axis=1)
        for row, name in enumerate(order):
            look, mean = shown[name], compared[metric].ranks[name]
            axis.plot(every[name], np.full(len(every), row), "o", color=look.colour, alpha=0.3, markersize=4)
            axis.plot(mean, row, look.marker, color=look.colour, markersize=7, label=name)
            axis.text(1.01, row, f"{mean:.2f}", transform=axis.get_yaxis_transform(), va="center", fontsize=SMALL)
        axis.set(title=title, xlim=(0.7, len(order) + 0.3), ylim=(len(order) - 0.5, -0.5), xlabel="Mean rank (1: best)")
        axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        axis.set_yticks(range(len(order)), order)
        axis.tick_params(axis="y", length=0)
    return settled(figure)


def _diagrams(compared: dict[str, Comparison], shown: Mapping[str, Look]) -> Figure:
    """MSE over MAE."""
    groups = {metric: _groups(compared[metric]) for metric in METRICS}
    heights = [BAR * len(groups[metric]) + STEP * math.ceil(len(shown) / 2) + 0.85 for metric in METRICS]
    figure = blank(0.55 * sum(heights) + 0.3)
    axes = figure.subplots(len(METRICS), 1, height_ratios=heights)
    for axis, metric, title, height in zip(axes, METRICS, ERRORS, heights, strict=True):
        _draw_diagram(axis, compared[metric].ranks.sort_values(kind="stable"), groups[metric], shown)
        axis.set_ylim(0.55 - height, 0.55)
        axis.set_title(title)
    return settled(figure)


def _groups(comparison: Comparison) -> list[list[str]]:
    """Models of which no two differ, the best first."""
    assert comparison.pairwise is not None, "there are enough data sets"
    order = comparison.ranks.sort_values(kind="stable").index
    return cliques(comparison.pairwise.loc[order, order] >= LEVEL)


def _draw_diagram(axes: Axes, ordered: pd.Series, groups: list[list[str]], shown: Mapping[str, Look]) -> None:
    """The axis of ranks, the best at the left; bars below it; a label for each model, half of them on each side."""
    count = len(ordered)
    axes.set_axis_off()
    margin = 0.06 * count
    axes.set_xlim(1 - margin, count + margin)
    axes.plot([1, count], [0, 0], color=INK, linewidth=0.8)
    for rank in range(1, count + 1):
        axes.plot([rank, rank], [0, 0.08], color=INK, linewidth=0.8)
        axes.text(rank, 0.13, str(rank), ha="center", va="bottom", fontsize=SMALL)
    for number, group in enumerate(groups, 1):
        height = np.full(len(group), -BAR * (number + 0.3))
        axes.plot(ordered[group], height, "-o", color=INK, linewidth=2.2, markersize=3.6, gid="bar")
    half = math.ceil(count / 2)
    deep = -BAR * (len(groups) + 1.5)
    for number, (name, rank) in enumerate(ordered.items()):
        left = number < half
        depth = deep - STEP * (number if left else count - 1 - number)
        edge = 1 - margin if left else count + margin
        look = shown[str(name)]
        axes.plot([rank, rank, edge], [0, depth, depth], color=FAINT, linewidth=0.6, zorder=1)
        axes.plot(rank, 0, look.marker, color=look.colour, markersize=6, zorder=4, label=name)
        label = f"{name}  {rank:.2f}" if left else f"{rank:.2f}  {name}"
        axes.text(edge, depth, f" {label} ", ha="right" if left else "left", va="center", color=look.colour)
