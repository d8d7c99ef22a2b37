"""What is committed as measured: reports, the parts of README and docs/results.md that show them, and the notebook.

`python -m tests.committed` makes all of it anew from results/, as it must be after new records.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
from functools import cache

import nbformat
from nbclient import NotebookClient

from bench.analysis.claims import Verdict
from bench.analysis.results import Results
from bench.analysis.tables import Table
from bench.analysis.verdicts import Judged, blocks, tally
from bench.core.base import ROOT
from bench.core.store import Store
from bench.plan.suite import Filters, load_suite
from bench.report import __main__ as report
from bench.report.answer import answer
from bench.report.contents import read, tables_of, verdicts
from bench.report.render import render

RESULTS, REPORTS = ROOT / "results", ROOT / "reports"
README, FOUND = ROOT / "README.md", ROOT / "docs" / "results.md"
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
ILI = Filters(datasets=("ILI",))
REPORTED = {
    "paper": Filters(),
    "ablation": Filters(models=("logo_llm",), datasets=("ILI",)),
    "taps": ILI,
    "layers": Filters(),
    "few_shot": ILI,
    "lookback_336": Filters(datasets=("ETTm1", "ETTm2", "ETTh1", "ETTh2", "Weather", "Exchange", "ILI")),
    "zoo": Filters(),
    "efficiency": Filters(),
}
"""What narrows the committed report of each suite."""
SHOWN = re.compile(r"(<!-- python -m tests\.committed -->\n).*?(<!-- end -->\n)", re.DOTALL)


def findings() -> str:
    """The answer that the page of the suite `paper` begins with, as README shows it."""
    planned, main = _main()
    first, *others = answer(judged(), [main])
    runs = f"{len(planned.done)} of {len(planned.runs)} runs of the main table are done."
    return "".join(
        textwrap.fill(f"- {text}", 100, subsequent_indent="  ") + "\n" for text in (f"{first} {runs}", *others)
    )


@cache
def judged() -> list[Judged]:
    """The verdicts on all claims."""
    return verdicts(None, Filters(), Store(RESULTS))


@cache
def _main() -> tuple[Results, Table]:
    """The runs of the suite `paper`, and its main table."""
    paper = load_suite("paper")
    planned = read(paper, Filters(), Store(RESULTS))
    (main,) = tables_of("main", planned, paper.about)
    return planned, main


def shown() -> str:
    """The main table and the verdicts, as docs/results.md shows them."""
    planned, main = _main()
    latest = max(result.where.date for result in planned.done)[:10]
    lines = [f"By the runs up to {latest}, after correction for the number of claims ([how](verdicts.md)):", ""]
    titled = blocks(judged())
    for title, rows in titled.items():
        lines += [textwrap.fill(f"- {title}: {tally(rows)}.", 120, subsequent_indent="  ")]
    lines += ["", "| claim | verdict | ours | paper | interval, p, what would decide it |", "|---|---|---|---|---|"]
    for row in (row for rows in titled.values() for row in rows if row.verdict is not Verdict.UNTESTED):
        words = ", ".join(filter(None, [row.verdict, row.scope]))
        test = "; ".join(filter(None, [row.test, row.evidence if row.p is None else row.needed])) or "-"
        lines += [f"| {row.claim} | {words} | {row.ours or '-'} | {row.paper or '-'} | {test} |"]
    about = "`python -m bench.report --table main` prints, from the committed records and without torch:"
    return "\n".join([*lines, "", about, "", f"```\n{render(main, 'text')}```", ""])


def executed() -> nbformat.NotebookNode:
    """The notebook with what its cells print and draw now; no times, no versions."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    kernel = notebook.metadata
    done = NotebookClient(notebook, timeout=120, record_timing=False, resources={"metadata": {"path": ROOT / "docs"}})
    done.execute()
    notebook.metadata = {"kernelspec": kernel["kernelspec"], "language_info": {"name": "python"}}
    return notebook


def main() -> int:
    os.chdir(ROOT)  # pages name the folder that they are written to
    for suite, filters in REPORTED.items():
        if code := report.main(["--suite", suite, "--partial", "--into", f"reports/{suite}", *filters.words.split()]):
            return code
    for path, made in {README: findings(), FOUND: shown()}.items():
        path.write_text(
            SHOWN.sub(lambda found, made=made: found[1] + made + found[2], path.read_text("utf-8")), "utf-8"
        )
    nbformat.write(executed(), NOTEBOOK)
    return 0


if __name__ == "__main__":
    sys.exit(main())
