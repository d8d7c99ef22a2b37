"""Parts that figures share: frames of runs, panels, legends, logarithmic axes, captions. Pure; no torch."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from bench.analysis.results import STATES, Results
from bench.core.grouping import gathered
from bench.report.figures.style import FAINT, WIDTH, Look, letters, narrow

ENDLESS = 1e9
"""How far any error is above one of 0: finite, so that it can be drawn."""
MODELS_NAMED, REASONS_NAMED, REASON_LENGTH = 4, 2, 90
"""A caption names at most this many models, gives this many reasons, each of this many letters."""


class Drawn(NamedTuple):
    """A figure, its caption, and its alternative text: what it shows."""

    figure: Figure
    caption: str
    alt: str


def drawn(planned: Results, figure: Figure | str, lead: str, *more: str, alt: str = "", averaged: bool = True) -> Drawn:
    """Return a figure, or words that only say why nothing can be drawn, with its caption and alternative text.

    The caption says what is drawn (`lead`), at which look-back, over which seeds; `more`; which runs are missing.
    """
    if isinstance(figure, str):
        alt, text = figure, textwrap.fill(figure, letters(95))
        figure = blank(0.9)
        figure.text(0.5, 0.5, text, ha="center", va="center", color=FAINT)
    elif engine := figure.get_layout_engine():
        engine.execute(figure)  # once, so that the parts stand at the same places in every format
    figure.set_layout_engine("none")
    caption = " ".join(filter(None, [planned.lead(lead, averaged), *more, _runs_done(planned)]))
    return Drawn(figure, caption, alt)


def shortest(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of each data set's shortest horizon, at its largest share of training windows."""
    whole = frame[frame.fraction == frame.groupby("dataset").fraction.transform("max")]
    return whole[whole.horizon == whole.groupby("dataset").horizon.transform("min")]


def over_seeds(frame: pd.DataFrame, keys: list[str], metric: str = "mse") -> pd.DataFrame:
    """Return mean, min and max over seeds by `keys`, horizons averaged first; NaN if any run is missing."""
    by_seed = frame.groupby([*keys, "seed"], sort=False)[metric].agg(["mean", "count", "size"])
    means = by_seed["mean"].where(by_seed["count"] == by_seed["size"]).groupby(level=keys, sort=False)
    return means.agg(["mean", "min", "max"]).where(means.count() == means.size(), math.nan, axis=0)


def of_the_done(frame: pd.DataFrame, keys: list[str], metric: str = "mse") -> pd.DataFrame:
    """Return the mean over the seeds that are done by `keys`, horizons averaged first; NaN if a horizon has none."""
    by_horizon = frame.groupby([*keys, "horizon"], sort=False)[metric].mean().groupby(level=keys, sort=False)
    return by_horizon.agg(["mean"]).where(by_horizon.count() == by_horizon.size(), math.nan, axis=0)


def pretrained_on(frame: pd.DataFrame) -> list[str]:
    """Say of each model which of these data sets it was pretrained on; their errors are compared with none."""
    seen = frame[frame.seen].groupby("title", sort=False).tested.unique()
    return [f"{title} was pretrained on {', '.join(names)}" for title, names in seen.items()]


def blank(height: float) -> Figure:
    """Return an empty figure as wide as WIDTH says and `height` inches high, on a canvas of its own."""
    figure = Figure(figsize=(WIDTH.get(), height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def by_panel(
    frame: pd.DataFrame,
    filled: Collection[str],
    draw: Callable[[Axes, pd.DataFrame, dict[str, Look]], None],
    looks: dict[str, Look],
    *,
    height: float,
    labels: tuple[str, str],
    why: str,
    by: str = "data",
    by_row: bool = False,
) -> Figure:
    """Draw a panel, `height` inches high, for each value of the column `by` in `filled`; name the others at the foot.

    `labels`: of the horizontal and of the vertical axes; `why`: the reason at the foot. `by_row`: models are rows over
    one horizontal axis, which all panels share, and need no legend.
    """
    # 1. Panels side by side: up to three, but two for four.
    names = [name for name in frame[by].unique() if name in filled]
    columns = 1 if narrow() else {1: 1, 2: 2, 4: 2}.get(len(names), 3)
    rows = math.ceil(len(names) / columns)
    figure = blank(height * rows + 0.25)
    for number, name in enumerate(names, 1):
        axes = figure.add_subplot(rows, columns, number, sharex=figure.axes[0] if by_row and number > 1 else None)
        axes.set_title(textwrap.fill(name, letters(75) // columns))
        draw(axes, frame[frame[by] == name], looks)
    # 2. Labels, values without a panel, legend.
    empty = [name for name in frame[by].unique() if name not in filled]
    figure.supxlabel(foot(labels[0], empty, why), fontsize=7.5)
    figure.supylabel(labels[1], fontsize=7.5)
    if not by_row:
        key(figure, [Line2D([], [], color=look.colour, marker=look.marker, label=name) for name, look in looks.items()])
    return figure


def foot(label: str, empty: Collection[str], why: str) -> str:
    """Return the label below all panels, with the data sets that have no panel."""
    names = f"No panel ({why}): {', '.join(empty)}" if empty else ""
    return "\n".join(textwrap.fill(text, letters(110)) for text in (label, names) if text)


def key(figure: Figure, handles: Sequence[Artist]) -> None:
    """Put a legend above all panels and make the figure higher by as much."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = max(1, min(len(handles), int(WIDTH.get() * 72 / (4.4 * longest + 34))))
    rows = math.ceil(len(handles) / columns)
    figure.set_figheight(figure.get_figheight() + 0.17 * rows)
    figure.legend(handles=handles, loc="outside upper center", ncols=math.ceil(len(handles) / rows))


def ratio_scale(axes: Axes, which: str = "y") -> None:
    """Make an axis logarithmic, with a few plain numbers on it; call this last, once the limits are set."""
    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    low, high = getattr(axes, f"get_{which}lim")()
    # Within a decade, powers of ten are too few: even steps are easier to read.
    axis.set_major_locator(
        LogLocator(subs=(1, 3)) if high > 10 * low else MaxNLocator(5, steps=(1, 2, 5, 10), min_n_ticks=3)
    )
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(NullLocator())


def missing(names: Iterable[str], at: str = "", what: str = "missing") -> str:
    """Return the note under a panel that names the models missing from it, or those of which something else is so."""
    return textwrap.fill(f"{what}{f' at {at}' if at else ''}: {named(names)}", 42, break_on_hyphens=False)


def named(names: Iterable[str], most: int = MODELS_NAMED) -> str:
    """List names, only the first two if there are more than `most`; variants in brackets: their titles hold commas."""
    listed = [f"{model} ({variant})" if variant else model for model, _, variant in (n.partition(", ") for n in names)]
    return ", ".join(listed) if len(listed) <= most else f"{', '.join(listed[:2])} and {len(listed) - 2} more"


def _runs_done(planned: Results) -> str:
    """Return how many runs are done, which are missing, and why."""
    frame = planned.own
    absent = frame[frame.why != ""]
    if absent.empty:
        return f"All {len(frame)} runs are done." if len(frame) > 1 else "Its one run is done."
    # 1. How many, of each kind.
    kinds = absent.status.map(STATES).value_counts(sort=False)
    counted = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    # 2. Which models on which data sets.
    titles = frame.title.unique()
    together = gathered(
        (tuple(title for title in titles if title in own), str(data))
        for data, own in ((data, set(rows.title)) for data, rows in absent.groupby("data", sort=False))
    )
    count = len(titles)
    cells = "; ".join(
        f"{'every model' if len(names) == count > 1 else named(names)} on {', '.join(datasets)}"
        for names, datasets in together.items()
    )
    # 3. The first reasons.
    reasons = [
        f"{row.title} on {row.data} {row.horizon}, seed {row.seed}: "
        + textwrap.shorten(row.why, REASON_LENGTH, placeholder=" …)")
        for row in absent[absent.why.str.contains(" (", regex=False)].head(REASONS_NAMED).itertuples()
    ]
    done = f"{len(frame) - len(absent)} of {len(frame)} runs are done; missing: {counted}: {cells}"
    return " ".join(f"{sentence}." for sentence in [done, *reasons])
