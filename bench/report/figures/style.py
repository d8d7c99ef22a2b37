"""The look of figures: sizes, fonts, colours; a colour and a marker for each model. Pure; no torch."""

from __future__ import annotations

import itertools
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import NamedTuple

import matplotlib.style

from bench.analysis.results import Results
from models import MODELS

WIDE, NARROW = 7.0, 3.2
"""Inches: two columns of a journal page; a telephone, where a point is 1.6 of its 400 pixels."""
SMALL = 7.0
"""Points; no text is smaller."""
WIDTH = ContextVar("width", default=WIDE)
"""Width in inches that figures are drawn at now."""
INK, FAINT, PAST = "#222222", "#6e6e6e", "#9a9a9a"
GRID, HOLE, EMPTY = "#e3e3e3", "#ededed", "#f7f7f7"


def _group(name: str, **values: object) -> dict[str, object]:
    """Return settings of one group, as `matplotlib.rc` takes them."""
    return {f"{name}.{key}": value for key, value in values.items()}


TICKS = {"labelsize": SMALL, "color": "#8c8c8c", "labelcolor": INK, "major.size": 2.5, "major.width": 0.6}
STYLE = {
    **_group("font", family="sans-serif", size=7.5),
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],  # the first comes with matplotlib
    **_group("axes", titlesize=8, titleweight="bold", titlelocation="left", titlepad=4, labelsize=7.5, labelcolor=INK),
    **_group("axes", edgecolor="#8c8c8c", linewidth=0.6, grid=True, axisbelow=True),
    **_group("axes.spines", top=False, right=False),
    **_group("grid", color=GRID, linewidth=0.5),
    **_group("text", color=INK, hinting="none"),
    **_group("xtick", **TICKS),
    **_group("ytick", **TICKS),
    **_group("lines", linewidth=1.1, markersize=5, markeredgecolor="white", markeredgewidth=0.35),
    **_group("hatch", linewidth=0.5, color="#b5b5b5"),
    **_group("legend", fontsize=7.5, frameon=False),
    "figure.dpi": 150,
    "text.parse_math": False,  # a title may hold dollar signs
    "svg.fonttype": "none",  # text stays text: it can be searched, read aloud and set in another font
    "pdf.fonttype": 42,  # TrueType; journals refuse Type 3
}
# Okabe and Ito's colours, which colour-blind readers can tell apart; without yellow, too light for a line.
COLOURS = ("#D55E00", "#E69F00", "#CC79A7", "#0072B2", "#56B4E9", "#009E73", "#000000", "#8A8A8A")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<")
# Tol's muted colours, for a user's own models and for variants.
FURTHER_COLOURS = ("#332288", "#882255", "#117733", "#999933", "#44AA99", "#AA4499", "#661100", "#6699CC")
FURTHER_MARKERS = ("p", ">", "*", "h", "d", "8", "H", "o", "s", "^", "v")


class Look(NamedTuple):
    colour: str
    marker: str


def narrow() -> bool:
    """Return whether figures are drawn for a telephone now: panels below each other."""
    return WIDTH.get() < WIDE


def letters(of_wide: int) -> int:
    """Return how many letters fit where this many fit into a wide figure."""
    return int(of_wide * WIDTH.get() / WIDE)


def styled() -> AbstractContextManager[None]:
    """Return a context with matplotlib's defaults and STYLE over them, whatever the reader's own settings are."""
    return matplotlib.style.context(["default", STYLE])


def looks(planned: Results) -> dict[str, Look]:
    """Return title -> look, in planned order.

    The first variant of each of the first registered models, as far as COLOURS go, looks the same in every suite; other
    titles take further looks in turn, which repeat if they run out.
    """
    cycle = itertools.cycle
    registered = dict(zip(MODELS, zip(COLOURS, MARKERS, strict=True), strict=False))
    further = zip(cycle(FURTHER_COLOURS), cycle(FURTHER_MARKERS), strict=False)
    taken: dict[str, Look] = {}
    for name, model in planned.own.drop_duplicates("title").set_index("title").model.items():
        taken[name] = Look(*(registered.pop(model, None) or next(further)))
    return taken
