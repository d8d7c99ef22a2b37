"""What a report of a suite says: verdicts, tables, figures, methods. Pure; no torch."""

from __future__ import annotations

from dataclasses import dataclass

from bench.planned import Planned
from bench.plots import Picture
from bench.suite import Suite
from bench.tables import Table
from bench.verdicts import Paper, Row


@dataclass(frozen=True)
class Section:
    """A part of the methods: paragraphs, then a table of words if there is one."""

    title: str
    text: tuple[str, ...]
    headers: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Review:
    """Everything that a report says of a suite."""

    suite: Suite
    planned: Planned
    paper: Paper
    claims: list[Row]
    """Verdicts on the paper's claims that stand on this suite; empty where none does."""
    tables: list[Table]
    pictures: list[Picture]
    methods: list[Section]
