"""Mean ranks over data sets: a critical-difference diagram, or dots if tests cannot decide. Pure; no torch."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.analysis.ranks import errors_by_dataset, tests_sentence
from bench.analysis.results import ERRORS, Results
from bench.analysis.stats import LEVEL, Comparison, compare, datasets_needed
from bench.core.names import Metric
from bench.report.figures.panels import Drawn, blank, drawn
from bench.report.figures.style import FAINT, INK, SMALL, Look, looks, narrow


def ranks(planned: Results) -> Drawn | None:
    """Draw mean ranks by each error; None for a single model."""
    models = looks(planned)
    if len(models) < 2:
        return None
    errors = {metric: errors_by_dataset(planned, metric) for metric in planned.metrics}
    models = {name: look for name, look in models.items() if name in errors[planned.metrics[0]]}
    compared = {metric: compare(errors[metric]) for metric in planned.metrics}
    complete, pairs = compared[planned.metrics[0]].datasets, math.comb(len(models), 2)
    lead = "Mean rank of each model over data sets, 1 the best; errors averaged over horizons first"
    tests = tests_sentence(compared)
    if not complete:
        return drawn(planned, "No data set is complete for every model: there are no mean ranks.", lead, tests)
    if complete < datasets_needed(pairs):
        lead += "; small: ranks on single data sets"
        return drawn(planned, _dots(errors, compared, models), lead, tests, alt=_order(compared))
    bars = (
        f"A bar joins models of which no two differ (Wilcoxon's test at {LEVEL:g} after Holm over {pairs} pairs); its "
        "dots mark which ones."
    )
    return drawn(planned, _diagrams(compared, models), lead, bars, tests, alt=_order(compared))


def _order(compared: dict[Metric, Comparison]) -> str:
    """Say the mean ranks, the best first."""
    listed = []
    for metric, found in compared.items():
        ranks = found.ranks.sort_values(kind="stable")
        listed.append(f"{ERRORS[metric]}: {', '.join(f'{name} {rank:.2f}' for name, rank in ranks.items())}")
    return f"Mean ranks by {'; by '.join(listed)}."


def draw_diagram(axes: Axes, mean_ranks: pd.Series, pairwise: pd.DataFrame, looks: dict[str, Look]) -> None:
    """Draw a critical-difference diagram, the best model at the left, from mean ranks and p-values of pairs."""
    import scikit_posthocs

    order = mean_ranks.sort_values(kind="stable").index
    margin = 0.06 * len(order)
    artists = scikit_posthocs.critical_difference_diagram(
        mean_ranks[order],
        pairwise.loc[order, order],
        alpha=LEVEL,
        ax=axes,
        label_fmt_left="{label}  {rank:.2f} ",
        label_fmt_right=" {rank:.2f}  {label}",
        text_h_margin=margin,
        elbow_props={"linewidth": 0.6, "zorder": 1},
        marker_props={"s": 0},  # markers of the models' own shapes follow
        crossbar_props={"color": INK, "linewidth": 2.2, "marker": "o", "markersize": 3.6, "gid": "bar"},
        color_palette={name: look.colour for name, look in looks.items()},
    )
    for (bar,) in artists["crossbars"]:
        bar.set_xdata(np.sort(bar.get_xdata()))  # the library walks a set: another order in every process
    for elbow in artists["elbows"]:
        elbow.set_color(FAINT)
    for name in order:
        axes.plot(mean_ranks[name], 0, looks[name].marker, color=looks[name].colour, markersize=6, zorder=4, label=name)
    axes.set_xlim(1 - margin, len(order) + margin)
    axes.spines["top"].set(visible=True, bounds=(1, len(order)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(False)


def _dots(errors: dict[Metric, pd.DataFrame], compared: dict[Metric, Comparison], looks: dict[str, Look]) -> Figure:
    """Draw a row for each model, the best mean rank by the first error first."""
    metrics = [*compared]
    order = list(compared[metrics[0]].ranks.sort_values(kind="stable").index)
    figure = blank((0.21 * len(order) + 0.75) * (len(metrics) if narrow() else 1))
    panels = figure.subplots(*((len(metrics), 1) if narrow() else (1, len(metrics))), sharey=True, squeeze=False).flat
    for axes, metric in zip(panels, metrics, strict=True):
        every = errors[metric].dropna().rank(axis=1)
        for row, name in enumerate(order):
            look, mean = looks[name], compared[metric].ranks[name]
            axes.plot(every[name], np.full(len(every), row), "o", color=look.colour, alpha=0.3, markersize=4)
            axes.plot(mean, row, look.marker, color=look.colour, markersize=7, label=name)
            axes.text(1.01, row, f"{mean:.2f}", transform=axes.get_yaxis_transform(), va="center", fontsize=SMALL)
        axes.set(
            title=ERRORS[metric],
            xlim=(0.7, len(order) + 0.3),
            ylim=(len(order) - 0.5, -0.5),
            xlabel="Mean rank (1: best)",
        )
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        axes.set_yticks(range(len(order)), order)
        axes.tick_params(axis="y", length=0)
    return figure


def _diagrams(compared: dict[Metric, Comparison], looks: dict[str, Look]) -> Figure:
    """Draw a diagram for each error, one above the other."""
    figure = blank(len(compared) * (0.15 * len(looks) + 0.9))
    panels = figure.subplots(len(compared), 1, squeeze=False)[:, 0]
    for axes, (metric, found) in zip(panels, compared.items(), strict=True):
        pairwise = found.pairwise
        assert pairwise is not None, "there are enough data sets"
        draw_diagram(axes, found.ranks, pairwise, looks)
        axes.set_title(ERRORS[metric])
    return figure
