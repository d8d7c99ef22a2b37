"""The figures of a report: which a suite has, and how they become files. Pure; no torch."""

from __future__ import annotations

import gc
import io
import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.text import Text

from bench.analysis.results import Results
from bench.core.text import printable
from bench.plan.suite import Suite
from bench.report.figures.cost import cost
from bench.report.figures.curves import curves, spread
from bench.report.figures.forecasts import forecasts
from bench.report.figures.heatmap import heatmap
from bench.report.figures.layers import layers
from bench.report.figures.lines import few_shot, horizons
from bench.report.figures.panels import Drawn
from bench.report.figures.ranks import ranks
from bench.report.figures.style import NARROW, WIDE, WIDTH, styled
from bench.report.figures.variants import variants

COORDINATES = re.compile(rb'(?<= [dxy]=")[^"]*')
LONG = re.compile(rb"\d+\.\d{2,}")


class Plot(NamedTuple):
    """A figure in memory."""

    name: str
    """The name of its files, without suffix."""
    title: str
    caption: str
    """What is drawn, over how many runs; which runs are missing, and why."""
    alt: str
    """What it shows, for those who do not see it."""
    figure: Figure
    narrow: Figure
    """The same for a telephone."""


class Picture(NamedTuple):
    """A figure as files."""

    name: str
    title: str
    caption: str
    files: dict[str, bytes]
    """Suffix (svg, pdf, png) -> content."""
    alt: str
    """What it shows, for those who do not see it."""
    narrow: bytes
    """The SVG for a telephone."""


class Kind(NamedTuple):
    """A kind of figure, which suites with any of these tables have, unless it makes no sense for the planned runs."""

    title: str
    tables: frozenset[str]
    build: Callable[[Results], Drawn | None]


PLOTS = {
    "ranks": Kind("Mean ranks of the models", frozenset({"main", "ranks"}), ranks),
    "heatmap": Kind("Errors relative to the best model", frozenset({"main", "zero_shot"}), heatmap),
    "horizons": Kind("Errors by horizon", frozenset({"full"}), horizons),
    "few_shot": Kind("Errors by share of the training windows", frozenset({"few_shot"}), few_shot),
    "variants": Kind("What a change to the models does", frozenset({"ablation", "losses"}), variants),
    "layers": Kind("What each block holds, and errors by tap", frozenset({"layers", "taps"}), layers),
    "cost": Kind("Accuracy against cost", frozenset({"main"}), cost),
    "spread": Kind("Spread over seeds", frozenset({"seeds"}), spread),
    "forecasts": Kind("Sample forecasts", frozenset({"main"}), forecasts),
    "curves": Kind("Learning curves", frozenset({"main", "few_shot"}), curves),
}


def plots(planned: Results, suite: Suite) -> Iterator[Plot]:
    """Draw the figures that belong to the suite's tables, except those that make no sense for its planned runs."""
    for name, kind in PLOTS.items():
        if kind.tables & set(suite.tables):
            wide, narrow = (_drawn(kind, planned, width) for width in (WIDE, NARROW))
            if wide and narrow:
                yield Plot(name, kind.title, wide.caption, wide.alt, wide.figure, narrow.figure)


def _drawn(kind: Kind, planned: Results, width: float) -> Drawn | None:
    """Draw a figure at a width; None if it makes no sense."""
    token = WIDTH.set(width)
    try:
        with styled():
            return kind.build(planned)
    finally:
        WIDTH.reset(token)


def pictures(plots: Iterable[Plot]) -> list[Picture]:
    """Turn figures into files, the same bytes for the same figure, and free the figures.

    Parts of a figure refer to each other, and a command with many records suspends the garbage collector: here it
    visits, once, what was made so far, and after each figure only what is new.
    """
    gc.collect(0)
    found = []
    for plot in plots:
        found.append(_picture(plot))
        gc.collect(0)
    return found


def _picture(plot: Plot) -> Picture:
    """Draw by each format's own canvas: `savefig` would draw everything twice."""
    pdf, png = io.BytesIO(), io.BytesIO()
    wide, narrow = _svg(plot.figure, plot.name), _svg(plot.narrow, f"{plot.name} narrow")
    undated = {"CreationDate": None, "Creator": None, "Producer": None}
    with styled():
        plot.figure.set_dpi(matplotlib.rcParams["figure.dpi"])  # drawing as SVG has changed it
        FigureCanvasAgg(plot.figure).print_png(png, metadata={"Software": None})
        FigureCanvasPdf(plot.figure).print_pdf(pdf, metadata=undated)
    for figure in (plot.figure, plot.narrow):
        figure.clear()
    files = {"svg": wide, "pdf": pdf.getvalue(), "png": png.getvalue()}
    return Picture(plot.name, plot.title, plot.caption, files, plot.alt, narrow)


def _svg(figure: Figure, salt: str) -> bytes:
    """Draw as SVG, with printable texts and ids that `salt` makes."""
    svg = io.BytesIO()
    for text in figure.findobj(Text):
        text.set_text(printable(text.get_text(), keep="\n"))
    with styled(), matplotlib.rc_context({"svg.hashsalt": salt}):
        FigureCanvasSVG(figure).print_svg(svg, metadata={"Date": None, "Creator": None})
    return COORDINATES.sub(_shorter, svg.getvalue())


def _shorter(found: re.Match[bytes]) -> bytes:
    """Round coordinates to a tenth of a point, those of curves (letters, small circles) to a hundredth."""
    text, digits = found[0], 2 if b"C" in found[0] or b"Q" in found[0] else 1
    text = LONG.sub(lambda number: f"{float(number[0]):.{digits}f}".encode(), text)
    return text if digits == 2 else text.replace(b" \nL ", b" ")  # a line goes on until another command
