"""What is committed as measured: reports, and README's part that shows them.

`python -m tests.committed` makes all of it anew from results/, as it must be after new records.
"""

from __future__ import annotations

import re
import sys
import textwrap

from bench.analysis.claims import Verdict
from bench.analysis.verdicts import tally
from bench.core.base import ROOT
from bench.core.store import Store
from bench.plan.suite import Filters, load_suite
from bench.report import __main__ as report
from bench.report.contents import read, tables_of, verdicts
from bench.report.render import render

RESULTS, REPORTS, README = ROOT / "results", ROOT / "reports", ROOT / "README.md"
ILI = Filters(datasets=("ILI",))
REPORTED = {
    "paper": Filters(),
    "ablation": Filters(models=("logo_llm",), datasets=("ILI",)),
    "layers": ILI,
    "few_shot": ILI,
    "lookback_336": ILI,
    "efficiency": Filters(),
}
"""What narrows the committed report of each suite."""
SHOWN = re.compile(r"(<!-- python -m tests\.committed -->\n).*?(<!-- end -->\n)", re.DOTALL)


def shown() -> str:
    """The main table and the verdicts, as README shows them."""
    rows = verdicts(None, Filters(), Store(RESULTS))
    paper = load_suite("paper")
    planned = read(paper, Filters(), Store(RESULTS))
    (main,) = tables_of("main", planned, paper.about)
    latest = max(result.where.date for result in planned.done)[:10]
    said = f"Of {len(rows)} claims that are judged, by the runs up to {latest}: {tally(rows)}."
    return "\n".join(
        [
            textwrap.fill(said, 120),
            "`python -m bench.report --table main` prints, from the committed records and without torch:",
            "",
            f"```\n{render(main, 'text')}```",
            "",
            "| claim | verdict | ours | paper | interval |",
            "|---|---|---|---|---|",
            *(
                f"| {row.claim} | {', '.join(filter(None, [row.verdict, row.scope]))} | {row.ours or '-'} "
                f"| {row.paper or '-'} | {row.interval or '-'} |"
                for row in rows
                if row.verdict is not Verdict.UNTESTED
            ),
            "",
        ]
    )


def main() -> int:
    for suite, filters in REPORTED.items():
        if code := report.main(["--suite", suite, "--partial", *filters.words.split()]):
            return code
    README.write_text(SHOWN.sub(lambda found: found[1] + shown() + found[2], README.read_text("utf-8")), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
