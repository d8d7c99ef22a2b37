"""Accuracy against what it costs, with the Pareto front. Pure; no torch."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, StrMethodFormatter

from bench.analysis.results import Results
from bench.report.figures.panels import Drawn, blank, drawn, key, named, pretrained_on, ratio_scale
from bench.report.figures.style import FAINT, Look, looks, narrow

COSTS = {
    "train_s": "Training time of a run (s)",
    "flops": "Floating-point operations of a forecast",
    "trainable": "Trained parameters",
}
"""Field of `Cost` -> label of its axis."""
CELL = ["dataset", "fraction", "horizon"]


def cost(planned: Results) -> Drawn | None:
    """Draw relative errors over training time, or operations, and over trained parameters; None for a single model."""
    names = looks(planned)
    if len(names) < 2:
        return None
    frame = planned.own[~planned.own.seen]
    common, left_out = _common(frame, list(names))
    lead = (
        "Test MSE relative to the geometric mean over the models drawn, geometric mean over cells (a data set at one "
        "horizon), against mean costs over the same cells. Line: the Pareto front, models that no other one beats in "
        "both; dashed: models that train nothing"
    )
    seen = [f"Not compared: {each}." for each in pretrained_on(planned.own)]
    if common.empty:
        return drawn(planned, "No cell is complete for two models: there is nothing to compare.", lead, *seen)
    cells, all_cells = (len(each.drop_duplicates(CELL)) for each in (common, frame))
    over = f"Over {cells} of {all_cells} cells, those complete for every model drawn ({len(common)} runs)."
    without = f"Left out, without such a cell: {named(left_out, len(left_out))}." if left_out else ""
    remaining = {name: look for name, look in names.items() if name not in left_out}
    measure, why = _first_measure(common)
    points = _points(common)
    figure = _figure(points, [measure, "trainable"], remaining)
    return drawn(planned, figure, lead, over, without, *seen, why, alt=_fronts(points, [measure, "trainable"]))


def _fronts(points: pd.DataFrame, measures: list[str]) -> str:
    """Say which models are on the Pareto front of each panel, cheapest first, with their relative errors."""
    fronts = {measure: pareto(points[measure], points.error) for measure in measures}
    listed = [
        f"{COSTS[measure].lower()}: {', '.join(f'{name} {points.error[name]:.2f}' for name in front)}"
        for measure, front in fronts.items()
    ]
    return f"On the Pareto front, cheapest first, with relative MSE, by {'; by '.join(listed)}."


def pareto(costs: pd.Series, errors: pd.Series) -> list[str]:
    """Return the models, cheapest first, that no other model equals in both measures and beats in one."""
    ordered = costs.sort_values(kind="stable")
    lowest = errors.groupby(costs).min()  # by cost, in ascending order
    front = lowest[lowest < lowest.cummin().shift(fill_value=np.inf)]
    return list(ordered.index[errors[ordered.index] == ordered.map(front)])


def _common(frame: pd.DataFrame, names: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """Return the runs of the cells that every remaining model completed, and the models left out.

    Models with the fewest complete cells are left out one by one until the others have a cell in common.
    """
    by_cell = frame.mse.gt(0).groupby([*(frame[field] for field in (*CELL, "title"))]).all()
    whole = by_cell.unstack(fill_value=False).reindex(columns=names, fill_value=False)
    while not whole.all(axis=1).any() and len(whole.columns) > 2:
        whole = whole.drop(columns=whole.sum().iloc[::-1].idxmin())
    cells = whole.index[whole.all(axis=1)]
    chosen = pd.MultiIndex.from_frame(frame[CELL]).isin(cells) & frame.title.isin(whole.columns).to_numpy()
    return frame[chosen], [name for name in names if name not in whole]


def _points(common: pd.DataFrame) -> pd.DataFrame:
    """Return the relative `error` and the mean of each cost, by model."""
    costs = pd.DataFrame([result.cost.model_dump(include=set(COSTS)) for result in common.result], index=common.index)
    means = pd.concat([common[[*CELL, "title", "mse"]], costs], axis=1).groupby([*CELL, "title"], sort=False).mean()
    errors = np.log(means.mse.unstack())
    relative = np.exp(errors.sub(errors.mean(axis=1), axis=0).mean())
    return means[list(COSTS)].groupby(level="title").mean().assign(error=relative)


def _first_measure(common: pd.DataFrame) -> tuple[str, str]:
    """Return the first panel's cost, one in which these runs compare, and the reason."""
    machines = Counter(" after ".join(reversed(result.where.machines)) for result in common.result)
    if len(machines) == 1 and not any(result.where.shared for result in common.result):
        return "train_s", f"All times are of {next(iter(machines))}."
    listed = ", ".join(f"{machine} ({count} runs)" for machine, count in machines.items())
    return "flops", f"Operations, and not times, which do not compare: the runs are of {listed}."


def _figure(points: pd.DataFrame, measures: list[str], looks: dict[str, Look]) -> Figure:
    """Draw a panel for each measure: a point for each model, a dashed line for one that trains nothing."""
    figure = blank(5.2 if narrow() else 3.0)
    panels = figure.subplots(*((len(measures), 1) if narrow() else (1, len(measures))), sharey=True)
    for axes, measure in zip(panels, measures, strict=True):
        # 1. Models, in the order of the legend.
        for name, look in looks.items():
            price, error = points.loc[name, [measure, "error"]]
            if price > 0:
                axes.plot(price, error, look.marker, color=look.colour, markersize=7, label=name)
            else:
                axes.axhline(error, color=look.colour, linewidth=0.8, linestyle=(0, (4, 3)), label=name)
        # 2. The front, and the scale.
        front = points.loc[pareto(points[measure], points.error)].query(f"{measure} > 0")
        axes.step(front[measure], front.error, where="post", color=FAINT, linewidth=0.9, label="Pareto front", zorder=1)
        axes.set(xscale="log", xlabel=COSTS[measure])
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}") if measure == "train_s" else EngFormatter(sep=""))
        axes.margins(x=0.1, y=0.12)
    for axes in panels if narrow() else panels[:1]:
        axes.set_ylabel("Relative MSE (1: mean of the models)")
    ratio_scale(panels[0])
    key(figure, panels[0].get_legend_handles_labels()[0])
    return figure
