"""Write a Sheet as text, Markdown, LaTeX, CSV or JSON. No torch."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jinja2
from tabulate import SEPARATING_LINE, tabulate

from bench.analysis.tables import MISSING, NOT_RUN, Table
from bench.cli import blocks
from bench.core.names import Format
from bench.core.text import harmless, printable, visible
from bench.report.sheet import Entry, Sheet, table_sheet

ASSETS = Path(__file__).parent / "assets"
SUFFIX: dict[Format, str] = {"text": "txt", "md": "md", "latex": "tex", "csv": "csv", "json": "json"}
"""Format -> ending of its files."""
TALLEST, TALLEST_WORDS = 46, 6
"""Most rows of numbers, and of words that wrap, on one printed page."""


def render(table: Table | Sheet, form: str, width: int | None = None) -> str:
    """Return the table in one of the formats of SUFFIX; no text in it can act on its reader's program.

    Text that would be wider than `width` characters is cut into blocks of columns.
    """
    sheet = _printable(table if isinstance(table, Sheet) else table_sheet(table))
    forms = {"md": _as_markdown, "latex": _as_latex, "csv": _as_csv, "json": _as_json}
    return _as_text(sheet, width or math.inf) if form == "text" else forms[form](sheet)


def rendered(tables: Sequence[Table | Sheet], form: Format, width: int | None = None) -> str:
    """Return tables one after the other, as `render` returns each; several in JSON as a list."""
    texts = [render(table, form, width) for table in tables]
    return f"[{','.join(texts)}]\n" if form == "json" and len(texts) > 1 else "\n".join(texts)


def _printable(sheet: Sheet) -> Sheet:
    """Return the sheet with every text printable; only the caption has several lines."""
    return replace(
        sheet,
        title=printable(sheet.title),
        headers=tuple(map(printable, sheet.headers)),
        rows=[[entry._replace(text=printable(entry.text)) for entry in row] for row in sheet.rows],
        caption=visible(sheet.caption),
        notes=list(map(printable, sheet.notes)),
        groups=[(printable(title), first, last) for title, first, last in sheet.groups],
        lines=visible(sheet.lines),
        content=visible(sheet.content),
        unrun=printable(sheet.unrun),
    )


def templates(filters: dict[str, Callable[..., Any]], **options: Any) -> jinja2.Environment:
    """Return the templates in assets/, with these filters."""
    options |= {"undefined": jinja2.StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(ASSETS), **options)
    environment.filters |= filters
    return environment


@dataclass(frozen=True)
class Style:
    """How a format prints the parts of an Entry."""

    escape: Callable[[str], str]
    best: str
    """Template of the text and its spread, as is `second`."""
    second: str
    spread: str
    partial: str
    dash: str
    note: str
    legend: str

    def show(self, entry: Entry) -> str:
        spread = self.spread.format(entry.spread) if entry.spread else ""
        template = self.partial if entry.partial else {"best": self.best, "second": self.second, "": "{}{}"}[entry.mark]
        text = template.format(self.escape(entry.text), spread) if entry.text else self.dash
        return text if entry.note is None else text + self.note.format(entry.note)

    def legends(self, sheet: Sheet) -> list[str]:
        """Return what the marks mean, what numbers in brackets are, and which rows are left out."""
        partial = any(entry.partial for row in sheet.rows for entry in row)
        unrun = f"Nobody has run: {self.escape(sheet.unrun)}." if sheet.unrun else ""
        return list(filter(None, [self.legend * sheet.marked, PARTIAL * partial, unrun]))

    def caption(self, sheet: Sheet) -> str:
        return " ".join([*self.legends(sheet), self.escape(sheet.caption)])


PARTIAL = "In brackets: the mean of the runs that are done, outside marks and summary."


MARKDOWN = str.maketrans({"&": "&amp;", "<": "&lt;", **{character: f"\\{character}" for character in "\\|`*"}})
"""Character that Markdown would read as HTML, a link, emphasis or the end of a cell -> its escape."""


def _markdown(text: str) -> str:
    """Escape a text for Markdown, underscores but within words."""
    return re.sub(r"(?<!\w)_|_(?!\w)|(?<=])[(\[]", r"\\\g<0>", printable(text, keep="\n").translate(MARKDOWN))


LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "→": r"$\to$",
        "±": r"$\pm$",
        **{character: f"\\{character}" for character in "&%$#_{}"},
    }
)
"""Character that LaTeX would read as a command -> its escape."""
TEXT_STYLE = Style(
    str,
    "{}{}*",
    "{}{}+",
    " ± {}",
    "({}{})",
    "-",
    "[{}]",
    "* best, + second, among the values there are, before rounding.",
)
MARKDOWN_STYLE = Style(
    _markdown,
    "**{}**{}",
    "<u>{}</u>{}",
    " ± {}",
    "({}{})",
    "–",
    " [{}]",
    legend="**Best**, <u>second</u>, among the values there are, before rounding.",
)
LATEX_STYLE = Style(
    lambda text: text.translate(LATEX),
    best=r"\textbf{{{}}}{}",
    second=r"\underline{{{}}}{}",
    spread=r" {{\tiny$\pm${}}}",
    partial=r"\textcolor{{gray}}{{({}{})}}",
    dash="--",
    note=r"\textsuperscript{{{}}}",
    legend="Best in bold, second underlined, among the values there are, before rounding.",
)


def _as_text(sheet: Sheet, width: float) -> str:
    if sheet.widths and sum(sheet.widths) + 3 * len(sheet.widths) + 1 > width:
        grids = _stacked(sheet, int(width))
    else:
        grids = [line for part in _parts(sheet, width) for line in (*_grid(part), "")]
    notes = [f"[{number}] {note}" for number, note in enumerate(sheet.notes, 1)]
    words = [
        line
        for text in (*TEXT_STYLE.legends(sheet), *notes, sheet.caption)
        for line in textwrap.wrap(text, int(min(width, 118)))
    ]
    return "\n".join([sheet.title, "", *grids, *words, ""])


def _stacked(sheet: Sheet, width: int) -> list[str]:
    """Return the lines of a table of words that does not fit: each row's label, and its columns below each other."""
    indent, lines = max(map(len, sheet.headers)) + 4, []
    for label, *entries in sheet.rows:
        lines += textwrap.wrap(TEXT_STYLE.show(label), width)
        for header, entry in zip(sheet.headers[1:], entries, strict=True):
            wrapper = textwrap.TextWrapper(width, f"  {header}".ljust(indent), " " * indent, break_on_hyphens=False)
            lines += wrapper.wrap(TEXT_STYLE.show(entry))
        lines.append("")
    return lines


def _parts(sheet: Sheet, width: float) -> list[Sheet]:
    """Return the sheet in parts that fit, each with the labels and some of the groups of columns."""
    if sheet.widths:  # words wrap
        return [sheet]
    rule = next(line for line in _grid(sheet) if re.fullmatch("[- ]*-", line))
    columns = [found.span() for found in re.finditer("-+", rule)]
    spans = [(first, last) for _, first, last in sheet.groups] or [(each, each) for each in range(1, len(columns))]
    widths = [columns[last][1] - columns[first][0] for first, last in spans]
    return [
        _columns_of(sheet, spans[part.start][0], spans[part.stop - 1][1])
        for part in blocks(widths, width - columns[0][1])
    ]


def _columns_of(sheet: Sheet, first: int, last: int) -> Sheet:
    """Return the sheet with the labels and these columns alone."""
    return replace(
        sheet,
        headers=(sheet.headers[0], *sheet.headers[first : last + 1]),
        rows=[[row[0], *row[first : last + 1]] for row in sheet.rows],
        groups=[(title, at - first + 1, end - first + 1) for title, at, end in sheet.groups if first <= at <= last],
    )


def _grid(sheet: Sheet) -> list[str]:
    """Return the lines of a table; where numbers are marked, an unmarked one leaves room for the mark."""
    room = " " if sheet.marked else ""
    rows: list[list[str]] = []
    for number, row in enumerate(sheet.rows):
        label, *cells = map(TEXT_STYLE.show, row)
        shown = (text + room * (entry.mark == "" < entry.text) for text, entry in zip(cells, row[1:], strict=True))
        rows += [[SEPARATING_LINE], [label, *shown]] if number in sheet.rules else [[label, *shown]]
    single = bool(sheet.groups) and all(first == last for _, first, last in sheet.groups)
    names = ["", *(title for title, *_ in sheet.groups)] if single else sheet.headers
    headers = [header + room for header in names]
    layout = {"maxcolwidths": list(sheet.widths)} if sheet.widths else {"colalign": _aligned(sheet)}
    form = "grid" if sheet.widths else "simple"
    grid = tabulate(rows, headers, form, disable_numparse=True, preserve_whitespace=True, **layout).splitlines()
    return grid if single else [*_text_titles(sheet, grid), *grid]


def _text_titles(sheet: Sheet, grid: list[str]) -> list[str]:
    """Return the lines of group titles; each title is centred over its columns and wraps to their width."""
    columns = [found.span() for found in re.finditer("-+", grid[1])]
    placed = []
    for title, first, last in sheet.groups:
        start, width = columns[first][0], columns[last][1] - columns[first][0]
        placed.append((start, width, textwrap.wrap(title, width)))
    height = max((len(wrapped) for *_, wrapped in placed), default=0)
    lines = [""] * height
    for start, width, wrapped in placed:
        for number, line in enumerate(wrapped, height - len(wrapped)):
            lines[number] = lines[number].ljust(start) + line.center(width).rstrip()
    return lines


def _as_markdown(sheet: Sheet) -> str:
    titles = ["", *(f"{title} " for title, first, last in sheet.groups for _ in range(first, last + 1))]
    headers = ["".join(both) for both in zip(titles, sheet.headers, strict=True)] if sheet.groups else sheet.headers
    body = [list(map(MARKDOWN_STYLE.show, row)) for row in sheet.rows]
    grid = tabulate(body, list(map(_markdown, headers)), "pipe", disable_numparse=True, colalign=_aligned(sheet))
    notes = "\n".join(f"{number}. {_markdown(note)}" for number, note in enumerate(sheet.notes, 1))
    parts = [f"### {_markdown(sheet.title)}", grid if headers else "", MARKDOWN_STYLE.caption(sheet), notes]
    return "\n\n".join(filter(None, parts)) + "\n"


def _aligned(sheet: Sheet) -> list[str]:
    """Return the alignment of each column: numbers to the right, words and labels to the left."""
    return ["left", *["left" if sheet.widths else "right"] * (len(sheet.headers) - 1)]


def _notes_with_one_hole(sheet: Sheet) -> tuple[Sheet, dict[int, str]]:
    """Return the sheet and number -> footnote, with one in place of all that say which runs are missing."""
    holes = {number for number, note in enumerate(sheet.notes, 1) if note == NOT_RUN or MISSING in note}
    first = min(holes, default=None)
    rows = [[entry._replace(note=first) if entry.note in holes else entry for entry in row] for row in sheet.rows]
    notes = {number: note for number, note in enumerate(sheet.notes, 1) if number not in holes}
    if first:
        notes[first] = "Runs are missing; the same table as text says which."
    return replace(sheet, rows=rows), dict(sorted(notes.items()))


def _as_latex(sheet: Sheet) -> str:
    sheet, notes = _notes_with_one_hole(sheet)
    environment = templates(
        {"escape": LATEX_STYLE.escape, "show": LATEX_STYLE.show},
        keep_trailing_newline=True,
        block_start_string="<%",  # LaTeX itself uses braces
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
    )
    shares = [f"p{{{0.9 * width / sum(sheet.widths):.2f}\\linewidth}}" for width in sheet.widths]
    return environment.get_template("table.tex").render(
        sheet=sheet,
        notes=notes,
        numbered=list(enumerate(sheet.rows)),
        tallest=TALLEST_WORDS if sheet.widths else TALLEST,
        caption=LATEX_STYLE.caption(sheet),
        columns="".join(shares) or "l" + "r" * (len(sheet.headers) - 1),
    )


def _as_csv(sheet: Sheet) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([map(harmless, line) for line in sheet.lines])
    return out.getvalue()


def _as_json(sheet: Sheet) -> str:
    return json.dumps(sheet.content, indent=1, ensure_ascii=False) + "\n"
