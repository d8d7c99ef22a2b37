"""A Sheet is a table of formatted words: a table of numbers, the verdicts, or a section of the methods. No torch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bench.analysis.claims import Verdict
from bench.analysis.tables import Cell, Table
from bench.analysis.verdicts import INTERVALS, Judged, Paper, blocks, tally
from bench.report.methods import Section

VERDICT_WIDTHS = {"claim": 34, "verdict": 22, "ours": 18, "paper": 12, "interval": 16, "evidence": 36}
"""Column of the verdicts -> width in characters."""


class Entry(NamedTuple):
    """One cell of a Sheet; an empty text is printed as a dash."""

    text: str
    mark: str = ""
    """`best`, `second` or nothing."""
    spread: str = ""
    """Formatted standard deviation over seeds."""
    note: int | None = None
    """Number of its footnote, from 1."""
    partial: bool = False
    """The text is the mean of some of the runs alone, or of a model that was pretrained on the data set."""


@dataclass(frozen=True)
class Sheet:
    """A table that each renderer of bench.report.render can print; the first column holds the rows' labels."""

    name: str
    title: str
    headers: tuple[str, ...]
    rows: list[list[Entry]]
    caption: str
    notes: list[str] = field(default_factory=list)
    groups: list[tuple[str, int, int]] = field(default_factory=list)
    """Title, first and last column of each group, from 1; column 0 holds the labels."""
    rules: frozenset[int] = frozenset()
    """Numbers of the rows that follow a rule, from 0."""
    widths: tuple[int, ...] = ()
    """Width of each column in characters, where words wrap; empty for columns of numbers."""
    marked: bool = False
    """The best and second values are marked."""
    unrun: str = ""
    """Rows that are left out, because nobody has run anything of them; CSV and JSON have them."""
    lines: list[list[Any]] = field(default_factory=list)
    """Header and rows of the CSV file."""
    content: dict[str, Any] = field(default_factory=dict)
    """Content of the JSON file."""


def table_sheet(table: Table) -> Sheet:
    """Return the Sheet of a table of numbers: for people the folded one, in CSV and JSON every row."""
    folded = table.folded()
    lasts = itertools.accumulate(len(group.columns) for group in table.groups)
    spans = [(each.title, last - len(each.columns) + 1, last) for each, last in zip(table.groups, lasts, strict=True)]
    ends = ("", "_std") if table.spreads else ("",)
    columns = [(group.key, column.lower().replace(" ", "_")) for group in table.groups for column in group.columns]
    keys = [[key, name + end] for key, name in columns for end in ends]
    numbers = [[label, *numbers_of(cells, table.spreads)] for label, cells in table.rows + table.summary]
    values = {label: row for label, *row in numbers}
    return Sheet(
        table.name,
        table.title,
        ("", *table.columns),
        [[Entry(label), *map(entry_of, cells)] for label, cells in folded.rows + folded.summary],
        table.whole_caption,
        folded.notes,
        spans if any(group.title for group in table.groups) else [],
        frozenset([*folded.rules, *([len(folded.rows)] if table.summary else [])]),
        marked=table.marked,
        unrun=folded.unrun,
        lines=[["row", *("_".join(filter(None, key)) for key in keys)], *numbers],
        content={
            "table": table.name,
            "title": table.title,
            "caption": table.whole_caption,
            "columns": keys,
            "rows": {label: values[label] for label, _ in table.rows},
            "summary": {label: values[label] for label, _ in table.summary},
            "partial": [
                {"row": label, "column": list(column), "mean": cell.partial, "runs": cell.count}
                for label, cells in table.rows
                for column, cell in zip(columns, cells, strict=True)
                if cell.partial is not None
            ],
            "notes": table.notes,
        },
    )


def entry_of(cell: Cell) -> Entry:
    """Return the formatted cell; a missing value has an empty text, or that of the mean of the runs that are done."""
    number = cell.partial if cell.value is None else cell.value
    text = "" if number is None else f"{number:{'+' if cell.signed else ''}.{cell.digits}f}"
    spread = "" if cell.spread is None else f"{cell.spread:.{cell.digits}f}"
    note, partial = (cell.note, cell.partial is not None) if cell.value is None else (None, False)
    return Entry(text, cell.mark, spread, note, partial)


def numbers_of(cells: list[Cell], spreads: bool) -> Iterator[float | None]:
    """Yield the values of a row, each followed by its spread if `spreads`."""
    for cell in cells:
        yield from (cell.value, cell.spread) if spreads else (cell.value,)


def verdicts_sheets(rows: list[Judged], paper: Paper) -> list[Sheet]:
    """Return a Sheet of verdicts for the paper's claims and one for those added here, each with its own tally."""
    names = {False: "claims", True: "claims_added"}
    return [_verdicts_sheet(names[own[0].added], title, own, paper) for title, own in blocks(rows).items()]


def _verdicts_sheet(name: str, title: str, rows: list[Judged], paper: Paper) -> Sheet:
    """Return the Sheet of one block; a claim that is not tested has a footnote with what is missing."""
    title, counts = f"{title}: {paper.title}", tally(rows)
    caption = f"{counts[:1].upper()}{counts[1:]}. {INTERVALS} {paper.about}"
    untested = [row for row in rows if row.verdict is Verdict.UNTESTED]
    numbers = {row.id: number for number, row in enumerate(untested, 1)}
    entries = [
        [
            Entry(f"{row.claim} ({row.source})"),
            Entry(row.judgement, note=numbers.get(row.id)),
            *map(Entry, (row.ours, row.paper, row.test, "; ".join(filter(None, [row.rivals, row.evidence])))),
        ]
        for row in rows
    ]
    claims = [row.words() | row.numbers() | {"runs": [str(entry.spec.path) for entry, _ in row.runs]} for row in rows]
    return Sheet(
        name,
        title,
        tuple(VERDICT_WIDTHS),
        entries,
        caption,
        [f"Not tested: {row.id} (suite {row.suite}): {row.missing}." for row in untested],
        widths=tuple(VERDICT_WIDTHS.values()),
        lines=[list(rows[0].words()), *(list(row.words().values()) for row in rows)],
        content={"table": name, "title": title, "caption": caption, "claims": claims},
    )


def section_sheet(section: Section) -> Sheet:
    """Return the Sheet of a section of the methods: its table of words, with its paragraphs as the caption."""
    rows = [list(map(Entry, row)) for row in section.rows]
    name, caption = section.title.lower(), "\n\n".join(section.text)
    return Sheet(name, section.title, section.headers, rows, caption, widths=(24,) * len(section.headers))
