"""Tables as text, Markdown, LaTeX, CSV or JSON. Pure; no torch."""

from __future__ import annotations

import csv
import io
import json
import textwrap

from tabulate import tabulate

from bench.analysis.tables import Cell, Group, Table
from bench.core.names import Format

SUFFIX: dict[Format, str] = {"text": "txt", "md": "md", "latex": "tex", "csv": "csv", "json": "json"}
"""What a table can be written as, and how such files end."""
TALLEST = 50
"""Lines of a table on one printed page."""


def render(table: Table, form: str) -> str:
    """As one of SUFFIX."""
    forms = {"text": _as_text, "md": _as_markdown, "latex": _as_latex, "csv": _as_csv, "json": _as_json}
    return forms[form](table)


def _lines(table: Table) -> list[tuple[str, list[Cell]]]:
    return table.rows + table.summary


def _rules(table: Table) -> set[int]:
    """Numbers of the lines that a rule stands before."""
    return {*table.rules, *([len(table.rows)] if table.summary else [])}


def _plain(cell: Cell) -> str:
    return f"{cell.value:{'+' if cell.signed else ''}.{cell.digits}f}"


def _spread(cell: Cell, form: str) -> str:
    return "" if cell.spread is None else form.format(f"{cell.spread:.{cell.digits}f}")


def _dash(cell: Cell, dash: str, note: str) -> str:
    """What stands where there is no number, with its footnote if it has one."""
    return dash if cell.note is None else dash + note.format(cell.note)


def _as_text(table: Table) -> str:
    """Fixed columns: a group's title stands over its columns, in as many lines as it needs."""
    marks = {"best": "*", "second": "+", "": " "}

    def show(cell: Cell) -> str:
        if cell.value is None:
            return _dash(cell, "-", "[{}]")
        return _plain(cell) + _spread(cell, " ± {}") + marks[cell.mark]

    body = [(label, [show(cell) for cell in cells]) for label, cells in _lines(table)]
    first = max(len(label) for label, _ in [*body, ("First places", [])])
    width = max(8, *(len(text) + 1 for _, cells in body for text in cells), *(len(name) + 2 for name in table.columns))
    spans = [(textwrap.wrap(group.title, len(group.columns) * width - 2), len(group.columns)) for group in table.groups]
    height = max(len(title) for title, _ in spans)
    padded = [([""] * (height - len(title)) + title, span * width - 2) for title, span in spans]
    heads = [" " * first + "".join(f"  {title[i]:^{span}}" for title, span in padded) for i in range(height)]
    heads.append(" " * first + "".join(f"{name + ' ':>{width}}" for name in table.columns))
    rule = "-" * len(heads[-1])
    grid = [*heads, rule]
    for number, (label, cells) in enumerate(body):
        grid += [rule] if number in _rules(table) else []
        grid.append(f"{label:<{first}}" + "".join(f"{text:>{width}}" for text in cells))
    notes = [f"[{number}] {note}" for number, note in enumerate(table.notes, 1)]
    legend = ["* best, + second."] if table.marked else []
    words = [line for text in (*notes, table.whole_caption) for line in textwrap.wrap(text, 118)]
    return "\n".join([table.title, "", *(line.rstrip() for line in grid), "", *legend, *words, ""])


def _as_markdown(table: Table) -> str:
    wrap = {"best": "**{}**", "second": "<u>{}</u>", "": "{}"}

    def show(cell: Cell) -> str:
        if cell.value is None:
            return _dash(cell, "–", " [{}]")
        return wrap[cell.mark].format(_plain(cell)) + _spread(cell, " ± {}")

    titles = [f"{group.title} {column}".strip() for group in table.groups for column in group.columns]
    headers = ["", *map(markdown, titles)]
    body = [[markdown(label), *map(show, cells)] for label, cells in _lines(table)]
    align = ["left", *["right"] * (len(headers) - 1)]
    grid = tabulate(body, headers, "pipe", disable_numparse=True, colalign=align)
    notes = "".join(f"\n{number}. {markdown(note)}" for number, note in enumerate(table.notes, 1))
    legend = "**Best**, <u>second</u>. " if table.marked else ""
    return f"### {table.title}\n\n{grid}\n\n{legend}{table.whole_caption}\n{notes and notes + chr(10)}"


def _as_latex(table: Table) -> str:
    """Floats over both columns of a page, no wider than it and at most TALLEST lines each; footnotes follow as text."""
    wrap = {"best": r"\textbf{{{}}}", "second": r"\underline{{{}}}", "": "{}"}

    def show(cell: Cell) -> str:
        if cell.value is None:
            return _dash(cell, "--", r"\textsuperscript{{{}}}")
        return wrap[cell.mark].format(_plain(cell)) + _spread(cell, r" {{\tiny$\pm${}}}")

    lines = [" & ".join([latex(label), *map(show, cells)]) + r" \\" for label, cells in _lines(table)]
    floats = []
    for first in range(0, len(lines), TALLEST):
        body = []
        for number, line in enumerate(lines[first : first + TALLEST], first):
            body += [r"\midrule", line] if number in _rules(table) and number > first else [line]
        floats += _latex_float(table, body, continued=first > 0)
    notes = " ".join(
        f"\\textsuperscript{{{number}}}~{latex(note.rstrip('.'))}." for number, note in enumerate(table.notes, 1)
    )
    said = [f"{{\\footnotesize\\noindent Notes to Table~\\ref{{tab:{table.name}}}: {notes}\\par}}"] if notes else []
    return "\n".join(["% needs \\usepackage{booktabs,graphicx}", *floats, *said, ""])


def _latex_float(table: Table, body: list[str], continued: bool) -> list[str]:
    legend = " Best in bold, second underlined." if table.marked else ""
    caption = f"{latex(table.title)}. {latex(table.whole_caption)}{legend}"
    fits = r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%"
    return [
        r"\begin{table*}[t]",
        r"\centering\scriptsize\setlength{\tabcolsep}{3pt}",
        f"\\caption{{{latex(table.title)}, continued.}}" if continued else f"\\caption{{{caption}}}",
        *([] if continued else [f"\\label{{tab:{table.name}}}"]),
        fits,
        f"\\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"\toprule",
        *_latex_titles(table.groups),
        " & ".join(["", *map(latex, table.columns)]) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table*}",
    ]


def _latex_titles(groups: list[Group]) -> list[str]:
    """Each group's title over its columns, with a rule under it."""
    titles, rules, column = [""], [], 2
    for group in groups:
        last = column + len(group.columns) - 1
        titles.append(f"\\multicolumn{{{len(group.columns)}}}{{c}}{{{latex(group.title)}}}")
        rules.append(f"\\cmidrule(lr){{{column}-{last}}}")
        column = last + 1
    return [" & ".join(titles) + r" \\", " ".join(rules)] if any(group.title for group in groups) else []


def markdown(text: str) -> str:
    """The text with what Markdown would take for a cell's end or for HTML escaped."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def latex(text: str) -> str:
    """The text with what LaTeX would take for a command escaped."""
    special = {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "→": r"$\to$",
        "±": r"$\pm$",
    }
    special |= {character: f"\\{character}" for character in "&%$#_{}"}
    return "".join(special.get(character, character) for character in text)


def _keys(table: Table) -> list[list[str]]:
    """Group and name of each column of numbers."""
    ends = ("", "_std") if table.spreads else ("",)
    columns = [(group.key, column.lower().replace(" ", "_")) for group in table.groups for column in group.columns]
    return [[key, name + end] for key, name in columns for end in ends]


def _numbers(table: Table, cells: list[Cell]) -> list[float | None]:
    """A row's numbers, in the order of `_keys`."""
    return [number for cell in cells for number in ([cell.value, cell.spread] if table.spreads else [cell.value])]


def _as_csv(table: Table) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["row", *("_".join(filter(None, key)) for key in _keys(table))])
    for label, cells in _lines(table):
        writer.writerow([label, *("" if number is None else repr(number) for number in _numbers(table, cells))])
    return out.getvalue()


def _as_json(table: Table) -> str:
    return (
        json.dumps(
            {
                "table": table.name,
                "title": table.title,
                "caption": table.whole_caption,
                "columns": _keys(table),
                "rows": {label: _numbers(table, cells) for label, cells in table.rows},
                "summary": {label: _numbers(table, cells) for label, cells in table.summary},
                "notes": table.notes,
            },
            indent=1,
        )
        + "\n"
    )
