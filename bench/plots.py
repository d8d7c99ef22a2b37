"""Planned runs + their records -> the figures of a report, with captions. Pure; no torch."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Plot:
    """A figure as it is drawn."""

    name: str
    """What its files are called."""
    title: str
    caption: str
    """What is shown, over what, with how many runs; what is not there, and why."""
    figure: Figure


@dataclass(frozen=True)
class Picture:
    """A figure as files."""

    name: str
    title: str
    caption: str
    files: dict[str, bytes]
    """By suffix: svg, pdf, png."""
