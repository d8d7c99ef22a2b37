"""Accuracy against what it costs, with the Pareto front. Pure; no torch."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, StrMethodFormatter
from matplotlib.transforms import Bbox

from bench.analysis.results import Results
from bench.report.figures.panels import Drawn, blank, legend, named, own_frame, ratio_scale, said, settled, words
from bench.report.figures.style import FAINT, Look, looks

COSTS = {
    "train_s": "Training time of a run (s)",
    "flops": "Floating-point operations of a forecast",
    "trainable": "Trained parameters",
}
CELL = ["dataset", "fraction", "horizon"]
NAMED = 10
"""So many models have their names beside their points; more have a legend."""
TEXT, LETTER = 7.0, 0.6
"""Points of a name beside a point, and the mean width of its letters, of their size."""
AROUND = (
    *((side, lift) for lift in (0, 5, -5) for side in (1, -1)),
    *((side, lift) for lift in (10, -10, 20, -20) for side in (0, 0.7, -0.7)),
)
"""Where a name may stand: to the side of its point (1: right of it, -1: left), so many points above its middle."""


def cost(planned: Results) -> Drawn | None:
    """Relative error over training time and over trained parameters; None for one model, which has none.

    Where times do not compare, operations stand in their place.
    """
    shown = looks(planned)
    if len(shown) < 2:
        return None
    frame = own_frame(planned).assign(result=[result for _, result in planned.runs])
    common, left_out = _common(frame, list(shown))
    lead = (
        "Test MSE relative to the geometric mean over the models shown, geometric mean over cells (a data set at one "
        "horizon), against mean costs over the same cells. Line: the Pareto front, models that no other one beats in "
        "both; dashed: models that train nothing"
    )
    if common.empty:
        text = "No cell is complete for two models: there is nothing to compare."
        return Drawn(words(text), said(planned, lead))
    cells, all_cells = (len(each.drop_duplicates(CELL)) for each in (common, frame))
    over = f"Over {cells} of {all_cells} cells, those complete for every model shown ({len(common)} runs)."
    without = f"Left out, without such a cell: {named(left_out, math.inf)}." if left_out else ""
    remaining = {name: look for name, look in shown.items() if name not in left_out}
    measure, why = _first(common)
    figure = _figure(_points(common), [measure, "trainable"], remaining)
    return Drawn(figure, said(planned, lead, over, without, why))


def pareto(costs: pd.Series, errors: pd.Series) -> list[str]:
    """Models that no other one is at least as good as in both and better in one, by cost."""
    front = [
        name
        for name in costs.index
        if not (
            (costs <= costs[name]) & (errors <= errors[name]) & ((costs < costs[name]) | (errors < errors[name]))
        ).any()
    ]
    return list(costs[front].sort_values(kind="stable").index)


def _common(frame: pd.DataFrame, names: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """The runs of the cells that are complete for every model left, and the models left out.

    Those with the fewest complete cells are left out one by one until the others have a cell in common.
    """
    whole = (
        frame.mse.notna().groupby([*(frame[key] for key in (*CELL, "title"))]).all().unstack().reindex(columns=names)
    )
    whole = whole.fillna(False).astype(bool)
    while not whole.all(axis=1).any() and len(whole.columns) > 2:
        whole = whole.drop(columns=whole.sum().iloc[::-1].idxmin())
    cells = whole.index[whole.all(axis=1)]
    chosen = pd.MultiIndex.from_frame(frame[CELL]).isin(cells) & frame.title.isin(whole.columns).to_numpy()
    return frame[chosen], [name for name in names if name not in whole]


def _points(common: pd.DataFrame) -> pd.DataFrame:
    """By model: `error`, relative; and each cost."""
    costs = pd.DataFrame([result.cost.model_dump(include=set(COSTS)) for result in common.result], index=common.index)
    means = pd.concat([common[[*CELL, "title", "mse"]], costs], axis=1).groupby([*CELL, "title"], sort=False).mean()
    errors = np.log(means.mse.unstack())
    relative = np.exp(errors.sub(errors.mean(axis=1), axis=0).mean())
    return means[list(COSTS)].groupby(level="title").mean().assign(error=relative)


def _first(common: pd.DataFrame) -> tuple[str, str]:
    """What a run costs, in a measure in which these runs compare; and why it is that one."""
    machines = Counter(" after ".join(reversed(result.where.machines)) for result in common.result)
    if len(machines) == 1 and not any(result.where.shared for result in common.result):
        return "train_s", f"All times are of {next(iter(machines))}."
    listed = ", ".join(f"{machine} ({count} runs)" for machine, count in machines.items())
    return "flops", f"Operations, and not times, which do not compare: the runs are of {listed}."


def _figure(points: pd.DataFrame, measures: Sequence[str], shown: Mapping[str, Look]) -> Figure:
    figure = blank(3.0)
    axes = figure.subplots(1, len(measures), sharey=True)
    for axis, measure in zip(axes, measures, strict=True):
        axis.set_xlabel(COSTS[measure])
        axis.set_xscale("log")
        trained = points[points[measure] > 0]
        for name, point in points[points[measure] == 0].iterrows():
            axis.axhline(point.error, color=shown[str(name)].colour, linewidth=0.8, linestyle=(0, (4, 3)), label=name)
        front = points.loc[pareto(points[measure], points.error)].query(f"{measure} > 0")
        axis.step(front[measure], front.error, where="post", color=FAINT, linewidth=0.9, gid="front", zorder=1)
        for name, point in trained.iterrows():
            look = shown[str(name)]
            axis.plot(point[measure], point.error, look.marker, color=look.colour, markersize=7, label=name)
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}") if measure == "train_s" else EngFormatter(sep=""))
        axis.margins(x=0.1, y=0.12)
        low, high = axis.get_xlim()
        axis.set_xlim(low, high * (high / low) ** 0.2)  # names stand to the right of points
    axes[0].set_ylabel("Relative MSE (1: mean of the models)")
    ratio_scale(axes[0])
    if len(shown) > NAMED:
        legend(figure, shown)
        return settled(figure)
    settled(figure)
    for axis, measure in zip(axes, measures, strict=True):
        _label(axis, points, measure, shown)
    return figure


def _label(axes: Axes, points: pd.DataFrame, measure: str, shown: Mapping[str, Look]) -> None:
    """Names beside the points, or over the lines, where they cover no point, no other name and not the frame."""
    unit = axes.figure.dpi / 72
    frame = axes.get_window_extent()
    trained = points[points[measure] > 0].sort_values("error")
    centres = {str(name): axes.transData.transform((point[measure], point.error)) for name, point in trained.iterrows()}
    taken = [_box(centre, (0, 0), 9 * unit, 9 * unit) for centre in centres.values()]
    steps = next(line for line in axes.lines if line.get_gid() == "front").get_path()
    corners = axes.transData.transform(steps.vertices)
    taken += [Bbox([*ends]).padded(unit) for ends in itertools.pairwise(corners)]
    for name in points.index[points[measure] == 0]:
        line = axes.transData.transform((trained[measure].max(), points.error[name]))[1]
        anchors = [
            ((x, line), (side, way * 6.5 * unit)) for way in (1, -1) for x, side in ((frame.x1, -1), (frame.x0, 1))
        ]
        _place(axes, str(name), shown[name].colour, anchors, taken)
    for name, centre in centres.items():
        _place(axes, name, shown[name].colour, [(centre, (side, way * unit)) for side, way in AROUND], taken)


def _place(axes: Axes, name: str, colour: str, anchors: list, taken: list[Bbox]) -> None:
    """At the first of the anchors where it covers least of what is taken; it then is."""
    unit = axes.figure.dpi / 72
    width, height = LETTER * len(name) * TEXT * unit, 1.1 * TEXT * unit
    frame = axes.get_window_extent()
    boxes = [
        _box(centre, (side * (width / 2 + 7 * unit * abs(side)), lift), width, height)
        for centre, (side, lift) in anchors
    ]
    inside = [box for box in boxes if frame.x0 <= box.x0 and box.x1 <= frame.x1] or boxes
    box = min(inside, key=lambda each: each.count_overlaps(taken))
    taken.append(box)
    x, y = axes.transAxes.inverted().transform(((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2))
    axes.text(x, y, name, transform=axes.transAxes, ha="center", va="center", color=colour, fontsize=TEXT)


def _box(centre: np.ndarray | tuple[float, float], offset: tuple[float, float], width: float, height: float) -> Bbox:
    x, y = centre[0] + offset[0], centre[1] + offset[1]
    return Bbox.from_extents(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
