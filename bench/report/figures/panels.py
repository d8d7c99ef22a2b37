"""What figures are made of: panels, legends, ticks, means over complete cells, sentences on runs. Pure; no torch."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter, NullLocator, StrMethodFormatter

from bench.analysis.results import Results
from bench.analysis.tables import run_title, shared
from bench.report.figures.style import EMPTY, FAINT, SMALL, WIDTH, Look

TITLES_NAMED, REASONS_NAMED, REASON_LENGTH = 4, 2, 90
"""So many models are named rather than counted, so many failures told, in so many letters."""
TICKS = (
    (1,),
    (1, 3),
    (1, 2, 5),
    (1, 1.5, 2, 3, 5, 7),
    (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8),
    (1, 1.1, 1.2, 1.3, 1.4, 1.6, 1.8, 2, 2.2, 2.5, 2.8, 3.2, 3.6, 4, 4.5, 5, 5.5, 6, 6.5, 7, 7.5, 8, 9),
)
"""Steps of a logarithmic axis, coarse to fine."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A figure and what is to be said under it."""

    figure: Figure
    caption: str


def own_frame(planned: Results) -> pd.DataFrame:
    """`Results.own` with the titles of models (`title`) and of data sets (`data`)."""
    frame = planned.own()
    titles = [run_title(*pair) for pair in zip(frame.model, frame.variant, strict=True)]
    data = [shared(*pair) for pair in zip(frame.dataset, frame.fraction, strict=True)]
    return frame.assign(title=titles, data=data)


def part(planned: Results, frame: pd.DataFrame) -> Results:
    """The runs of these rows only."""
    keys = set(zip(frame.key, frame.variant, strict=True))
    runs = [(entry, result) for entry, result in planned.runs if (entry.spec.key, entry.variant) in keys]
    return Results(runs, planned.refused)


def shortest(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of each data set's shortest horizon, at its largest share of training windows."""
    whole = frame[frame.fraction == frame.groupby("dataset").fraction.transform("max")]
    return whole[whole.horizon == whole.groupby("dataset").horizon.transform("min")]


def over_seeds(frame: pd.DataFrame, keys: list[str], metric: str = "mse") -> pd.DataFrame:
    """Mean, least and largest over seeds (horizons averaged first), by `keys`; NaN unless every run is there."""
    by_seed = frame.groupby([*keys, "seed"], sort=False)[metric].agg(["mean", "count", "size"])
    means = by_seed["mean"].where(by_seed["count"] == by_seed["size"]).groupby(level=keys, sort=False)
    found = means.agg(["mean", "min", "max"])
    return found.where(means.count() == means.size(), math.nan, axis=0)


def panels(count: int, height: float, one_scale: bool = False) -> tuple[Figure, list[Axes]]:
    """So many axes on a page's width, each so many inches high; `one_scale`: all with the same horizontal one."""
    columns = across(count)
    rows = math.ceil(count / columns)
    figure = blank(height * rows + 0.25)
    axes: list[Axes] = []
    for number in range(count):
        first = axes[0] if axes and one_scale else None
        axes.append(figure.add_subplot(rows, columns, number + 1, sharex=first))
    return figure, axes


def across(count: int) -> int:
    """How many of so many panels stand beside each other."""
    return {1: 1, 2: 2, 4: 2}.get(count, 3)


def blank(height: float) -> Figure:
    """An empty figure of a page's width that arranges its parts itself, on a canvas of its own."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def settled(figure: Figure) -> Figure:
    """The same with its parts where they now are: one arrangement for all formats."""
    engine = figure.get_layout_engine()
    assert engine is not None, "blank() sets one"
    engine.execute(figure)
    figure.set_layout_engine("none")
    return figure


def foot(label: str, gone: Iterable[str], why: str) -> str:
    """What stands under all panels: the label of their horizontal axis, and which data sets have no panel."""
    names = ", ".join(gone)
    return f"{label}\n{textwrap.fill(f'No panel ({why}): {names}', 110)}" if names else label


def words(text: str) -> Figure:
    """A figure of which there is nothing to draw says so."""
    figure = blank(0.9)
    figure.text(0.5, 0.5, textwrap.fill(text, 95), ha="center", va="center", color=FAINT)
    figure.set_layout_engine("none")
    return figure


def emptied(axes: Axes, text: str) -> None:
    """A panel of which there is nothing to draw says so."""
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set_facecolor(EMPTY)
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=FAINT, fontsize=SMALL)


def legend(figure: Figure, shown: Mapping[str, Look]) -> None:
    """One for all panels, above them."""
    key(figure, [Line2D([], [], color=look.colour, marker=look.marker, label=name) for name, look in shown.items()])


def key(figure: Figure, handles: list[Line2D]) -> None:
    """What labelled lines and markers stand for, above all panels, by which the figure grows."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = max(1, min(len(handles), int(WIDTH * 72 / (4.4 * longest + 34))))
    rows = math.ceil(len(handles) / columns)
    figure.set_figheight(figure.get_figheight() + 0.17 * rows)
    figure.legend(handles=handles, loc="outside upper center", ncols=math.ceil(len(handles) / rows))


def ratio_scale(axes: Axes, which: str = "y", highest: float = math.inf) -> None:
    """A logarithmic axis with a handful of plain numbers on it, however short it is, that ends at `highest`."""
    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    low, high = getattr(axes, f"get_{which}lim")()
    high = min(high, highest)
    getattr(axes, f"set_{which}lim")(low, high)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in TICKS:
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) >= 3:
            break
    else:
        inside = [tick for tick in MaxNLocator(4).tick_values(low, high) if low <= tick <= high]
    axis.set_major_locator(FixedLocator(inside))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def said(planned: Results, lead: str, *more: str, averaged: bool = True) -> str:
    """A caption: what is shown, at which look-back, over which seeds; more of that; which runs are there."""
    return " ".join(filter(None, [planned.lead(lead, averaged), *more, _told(planned)]))


def missing_from(names: Iterable[str], where: str = "") -> str:
    """Under a panel: models that are not in it, or not there."""
    return textwrap.fill(f"no {named(names)}{f' at {where}' if where else ''}", 42, break_on_hyphens=False)


def _told(planned: Results) -> str:
    """How many of the runs are there, which are not, and why."""
    frame = own_frame(planned)
    absent = frame[frame.why != ""]
    if absent.empty:
        return f"All {len(frame)} runs are there." if len(frame) > 1 else "Its one run is there."
    kinds = absent.status.replace("missing", "not run").value_counts(sort=False)
    counted = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    where = "; ".join(f"{who} on {', '.join(data)}" for who, data in _absent(frame, absent))
    reasons = [
        f"{row.title} on {row.data} {row.horizon}, seed {row.seed}: "
        + textwrap.shorten(row.why, REASON_LENGTH, placeholder=" …)")
        for row in absent[absent.why.str.contains(" (", regex=False)].head(REASONS_NAMED).itertuples()
    ]
    sentences = [f"{len(frame) - len(absent)} of {len(frame)} runs are there; {counted}, of: {where}", *reasons]
    return " ".join(f"{sentence}." for sentence in sentences)


def _absent(frame: pd.DataFrame, absent: pd.DataFrame) -> Iterator[tuple[str, list[str]]]:
    """Models by name, and the data sets on which these lack runs."""
    titles = list(frame.title.unique())
    together: dict[tuple[str, ...], list[str]] = {}
    for data, rows in absent.groupby("data", sort=False):
        together.setdefault(tuple(name for name in titles if name in set(rows.title)), []).append(str(data))
    for names, datasets in together.items():
        if len(names) == len(titles) > 1:
            yield "every model", datasets
        else:
            yield named(names), datasets


def named(names: Iterable[str], most: float = TITLES_NAMED) -> str:
    """So many names, or how many there are; a variant in brackets, for its title holds a comma."""
    listed = [f"{model} ({variant})" if variant else model for model, _, variant in (n.partition(", ") for n in names)]
    return ", ".join(listed) if len(listed) <= most else f"{len(listed)} models or variants"
