"""`python -m bench.report` prints tables and writes whole reports from the records alone. No torch.

python -m bench.report --table main                  print one table
python -m bench.report --suite quick                 every table and figure, and index.html, into reports/quick/
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import get_args

from bench.cli import Parser, add_filters, add_results, guarded, program
from bench.core.names import Format, Metric, TableName


def main(words: list[str] | None = None) -> int:
    return guarded(_parser(), words, _report)


EXAMPLES = ("python -m bench.report --table main", "python -m bench.report --suite paper --models logo_llm patchtst")


def _parser() -> argparse.ArgumentParser:
    about = "Tables and reports from the records alone; no torch."
    parser = Parser(program("bench.report"), EXAMPLES, description=about)
    parser.add_argument(
        "--table", choices=[*get_args(TableName), "claims"], help="print this table; without it, write a whole report"
    )
    parser.add_argument("--suite", help="default: the table's namesake; else paper if it has results, else quick")
    parser.add_argument("--format", choices=get_args(Format), default="text", help="of what is printed (default: text)")
    parser.add_argument(
        "--metric",
        choices=get_args(Metric),
        help="the error of tables and figures (default: mse and mae); wape, smape and *_original in original units",
    )
    parser.add_argument("--partial", action="store_true", help="exit 0 although cells are missing")
    parser.add_argument(
        "--into",
        type=Path,
        metavar="DIR",
        help="folder of a whole report (default: reports/SUITE, or reports/SUITE-part under filters)",
    )
    add_results(parser)
    add_filters(parser)
    return parser


def _report(arguments: argparse.Namespace) -> int:
    from bench.report.write import report

    return report(arguments)


if __name__ == "__main__":
    sys.exit(main())
