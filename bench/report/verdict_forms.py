"""Verdicts as text, Markdown, LaTeX, CSV or JSON. No torch."""

from __future__ import annotations

import csv
import io
import json
import textwrap

from tabulate import tabulate

from bench.analysis.claims import Verdict
from bench.analysis.verdicts import Judged, Paper, tally
from bench.report.render import latex, markdown

COLUMNS = ("claim", "verdict", "ours", "paper", "interval", "evidence")
WIDTHS = (34, 22, 18, 12, 16, 36)
"""Of the columns as text, in characters; in LaTeX their shares of the line."""
TALLEST = 10
"""Claims on one printed page."""


def tell(rows: list[Judged], paper: Paper, form: str) -> str:
    """All verdicts as one of bench.report.render.SUFFIX."""
    forms = {"text": _as_text, "md": _as_markdown, "latex": _as_latex, "csv": _as_csv, "json": _as_json}
    return forms[form](rows, paper)


def _title(paper: Paper) -> str:
    return f"What {paper.title} claims, and what came out"


def _caption(rows: list[Judged], paper: Paper) -> str:
    said = tally(rows)
    return f"{said[:1].upper()}{said[1:]}. {paper.about}"


def _cells(row: Judged) -> list[str]:
    """One for each of COLUMNS."""
    verdict = ", ".join(filter(None, [row.verdict, row.scope, row.instead]))
    own = [row.ours, row.paper, row.interval, row.evidence]
    return [f"{row.claim} ({row.source})", verdict, *(cell or "-" for cell in own)]


def _untested(rows: list[Judged]) -> list[str]:
    return [f"{row.id} (suite {row.suite}): {row.missing}." for row in rows if row.verdict is Verdict.UNTESTED]


def _as_text(rows: list[Judged], paper: Paper) -> str:
    grid = tabulate(map(_cells, rows), COLUMNS, "grid", disable_numparse=True, maxcolwidths=list(WIDTHS))
    said = [_caption(rows, paper), *(["\nNot tested:"] if _untested(rows) else []), *_untested(rows)]
    words = [textwrap.fill(text, 118, replace_whitespace=False) for text in said]
    return "\n".join([_title(paper), "", grid, "", *words, ""])


def _as_markdown(rows: list[Judged], paper: Paper) -> str:
    body = [list(map(markdown, _cells(row))) for row in rows]
    grid = tabulate(body, COLUMNS, "pipe", disable_numparse=True)
    said = [f"### {_title(paper)}", grid, _caption(rows, paper)]
    untested = "\n".join(f"- {markdown(text)}" for text in _untested(rows))
    return "\n\n".join([*said, *(["Not tested:", untested] if untested else [])]) + "\n"


def _as_latex(rows: list[Judged], paper: Paper) -> str:
    """Floats of at most TALLEST claims; what is not tested follows as text."""
    floats = [_latex_float(rows, first, paper) for first in range(0, len(rows), TALLEST)]
    untested = " ".join(map(latex, ["Not tested:", *_untested(rows)]))
    said = [f"{{\\footnotesize\\noindent {untested}\\par}}"] if _untested(rows) else []
    return "\n".join(["% needs \\usepackage{booktabs}", *floats, *said, ""])


def _latex_float(rows: list[Judged], first: int, paper: Paper) -> str:
    shares = "".join(f"p{{{0.9 * width / sum(WIDTHS):.2f}\\linewidth}}" for width in WIDTHS)
    said = f"{_title(paper)}, continued." if first else f"{_title(paper)}. {_caption(rows, paper)}"
    return "\n".join(
        [
            r"\begin{table*}[t]",
            r"\centering\scriptsize\setlength{\tabcolsep}{3pt}",
            f"\\caption{{{latex(said)}}}",
            *([] if first else [r"\label{tab:claims}"]),
            f"\\begin{{tabular}}{{{shares}}}",
            r"\toprule",
            " & ".join(COLUMNS) + r" \\",
            r"\midrule",
            *(" & ".join(map(latex, _cells(row))) + r" \\" for row in rows[first : first + TALLEST]),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table*}",
        ]
    )


def _as_csv(rows: list[Judged], paper: Paper) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0].words()), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.words() for row in rows)
    return out.getvalue()


def _as_json(rows: list[Judged], paper: Paper) -> str:
    said = {"table": "claims", "title": _title(paper), "caption": _caption(rows, paper)}
    claims = [row.words() | {"runs": [str(entry.spec.path) for entry, _ in row.runs]} for row in rows]
    return json.dumps(said | {"claims": claims}, indent=1, ensure_ascii=False) + "\n"
