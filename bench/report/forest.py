"""Draw a claim's numbers as a small forest plot: ours, its interval, the paper's number, the claimed side. No torch."""

from __future__ import annotations

import math

from markupsafe import Markup, escape

from bench.analysis.claims import Forest

WIDTH, ROW, RIM = 220.0, 14.0, 8.0
"""Size of the drawing and of a row in it, and the room at either end, in units of the drawing."""


def forest_plot(forest: Forest, words: str) -> Markup:
    """Return an inline SVG that classes of the page's style colour; `words` is its alternative text.

    Each estimate has a row: a line over its interval and a dot at its value. The claimed side is shaded; a tick through
    all rows is the paper's number. The scale is the plot's own.
    """
    # 1. The scale.
    estimates = list(forest.estimates.values())
    marks = [each for one in estimates for each in (one.value, one.low, one.high)]
    marks += [*forest.claimed, math.nan if forest.printed is None else forest.printed]
    finite = [mark for mark in marks if math.isfinite(mark)]
    low, high = min(finite), max(finite)
    scale = (WIDTH - 2 * RIM) / ((high - low) or 1.0)

    def place(mark: float) -> float:
        return min(WIDTH, max(0.0, RIM + (mark - low) * scale)) if math.isfinite(mark) else WIDTH * (mark > 0)

    # 2. What all rows share, then the rows.
    height = ROW * len(estimates) + 4
    first, last = map(place, forest.claimed)
    parts = [f'<rect class="claimed" x="{first:.1f}" y="0" width="{last - first:.1f}" height="{height:.0f}"/>']
    parts += [_upright("bound", place(end), height) for end in forest.claimed if math.isfinite(end)]
    if forest.printed is not None:
        parts.append(_upright("printed", place(forest.printed), height))
    for row, each in enumerate(estimates):
        y = 2 + ROW * (row + 0.5)
        if math.isfinite(each.low):
            ends = f'x1="{place(each.low):.1f}" x2="{place(each.high):.1f}"'
            parts.append(f'<line class="interval" {ends} y1="{y:.0f}" y2="{y:.0f}"/>')
        parts.append(f'<circle class="estimate" cx="{place(each.value):.1f}" cy="{y:.0f}" r="3.5"/>')
    size = f'viewBox="0 0 {WIDTH:.0f} {height:.0f}" width="{WIDTH:.0f}" height="{height:.0f}"'
    return Markup(f'<svg class="forest" {size} role="img" aria-label="{escape(words)}">{"".join(parts)}</svg>')


def _upright(kind: str, x: float, height: float) -> str:
    return f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height:.0f}"/>'
