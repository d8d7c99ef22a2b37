"""`python -m bench.report`: tables from the records alone. No torch.

python -m bench.report --table main                  print one table
python -m bench.report --suite quick                 write every table and report.md into reports/quick/
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench import suite as suites
from bench.claims import Verdict
from bench.cli import Parser, add_filters, add_results, filters_of, guarded
from bench.planned import Planned
from bench.published import published_table
from bench.render import SUFFIX, render
from bench.spec import ROOT, BenchError
from bench.store import Store
from bench.suite import Entry, Filters, Suite
from bench.tables import TABLES as OWN_TABLES
from bench.tables import Builder, Table
from bench.verdicts import judged, load_claims, tell
from models.pretrained import BACKBONES

REPORTS = ROOT / "reports"
TABLES: dict[str, Builder] = {**OWN_TABLES, "published": published_table}


def main(arguments: list[str] | None = None) -> int:
    return guarded(_parser(), arguments, _report)


def _parser() -> argparse.ArgumentParser:
    parser = Parser("python -m bench.report", description="Tables from the records alone; no torch.")
    parser.add_argument(
        "--table", choices=[*TABLES, "claims"], help="print this table; without it, write a whole report"
    )
    parser.add_argument("--suite", help="default: the one named as the table; else paper if it has results, else quick")
    parser.add_argument("--format", choices=list(SUFFIX), default="text")
    parser.add_argument("--partial", action="store_true", help="exit 0 although cells are missing")
    add_results(parser)
    add_filters(parser)
    return parser


def _report(arguments: argparse.Namespace) -> int:
    """Print or write; 1 if planned cells are missing, unless --partial."""
    store = Store(arguments.results)
    filters = filters_of(arguments)
    if arguments.table == "claims":
        return _claims(arguments, filters, store)
    suite = suites.load_suite(arguments.suite) if arguments.suite else _default_suite(store, arguments.table)
    wanted = (arguments.table,) if arguments.table else suite.tables
    for name in wanted:
        if name not in suite.tables:
            raise BenchError(f"suite {suite.name} has no table {name}; it has {', '.join(suite.tables)}")
    planned = _planned(suite, filters, store)
    made = {name: TABLES[name](planned, suite.about) for name in wanted}
    tables = [table for part in made.values() for table in part]
    if arguments.table:
        print(f"suite {suite.name}, results from {arguments.results}", file=sys.stderr)
    else:
        print(f"wrote {_write(suite, tables)}\n")
    print(_joined([render(table, arguments.format) for table in made[wanted[0]]], arguments.format), end="")
    complete = all(table.complete for table in tables)
    if not complete:
        print("some planned cells are missing; 'python -m bench plan' lists them", file=sys.stderr)
    return 0 if complete or arguments.partial else 1


def _claims(arguments: argparse.Namespace, filters: Filters, store: Store) -> int:
    """Print the verdict on each claim of the paper, or on those that stand on one suite; 1 if any is not tested."""
    paper, claims = load_claims()
    if arguments.suite:
        claims = [claim for claim in claims if claim.suite == arguments.suite]
    if not claims:
        raise BenchError(f"no claim stands on suite {arguments.suite}; leave --suite out for all of them")
    rows = judged(claims, paper, filters, lambda suite, filters: _planned(suite, filters, store))
    print(f"results from {arguments.results}", file=sys.stderr)
    print(tell(rows, paper, arguments.format), end="")
    untested = sum(row.verdict is Verdict.UNTESTED for row in rows)
    if untested:
        print(
            f"{untested} of {len(rows)} claims are not tested; 'python -m bench plan' lists the runs", file=sys.stderr
        )
    return 0 if not untested or arguments.partial else 1


def _joined(texts: list[str], form: str) -> str:
    """One text; several tables in JSON become a list."""
    return f"[{','.join(texts)}]\n" if form == "json" and len(texts) > 1 else "\n".join(texts)


def _default_suite(store: Store, table: str | None) -> Suite:
    """The suite that is called as the table; else paper if any of its runs is recorded, else quick."""
    if table in suites.suite_names():
        return suites.load_suite(table)
    paper = suites.load_suite("paper")
    for backbone in BACKBONES:
        if any((store.root / spec.path).exists() for spec in suites.plan(paper, Filters(backbone=backbone))):
            return paper
    return suites.load_suite("quick")


def _planned(suite: Suite, filters: Filters, store: Store) -> Planned:
    """The suite's runs with their records.

    Where no --backbone is given and none of the suite's own backbone is recorded, that of the most records is taken;
    the caption names it.
    """
    if filters.backbone:
        candidates = [filters.backbone]
    else:
        others = [name for name, backbone in BACKBONES.items() if backbone.pretrained or not suite.variant]
        candidates = list(dict.fromkeys([suite.backbone, *others]))
    best, most = None, -1
    for name in candidates:
        plan = suites.entries(suite, filters.model_copy(update={"backbone": name}))
        count = sum(_reads_backbone_and_exists(entry, store) for entry in plan)
        if count > most:
            best, most = plan, count
        if count and name == candidates[0]:
            break
    return Planned([(entry, store.get(entry.spec)) for entry in best or []])


def _reads_backbone_and_exists(entry: Entry, store: Store) -> bool:
    return "backbone" in entry.spec.options and (store.root / entry.spec.path).exists()


def _write(suite: Suite, tables: list[Table]) -> Path:
    """reports/<suite>/: report.md and every table in every format."""
    folder = REPORTS / suite.name
    try:
        (folder / "tables").mkdir(parents=True, exist_ok=True)
        for table in tables:
            for form, suffix in SUFFIX.items():
                (folder / "tables" / f"{table.name}.{suffix}").write_text(render(table, form), encoding="utf-8")
        page = folder / "report.md"
        body = "\n".join(render(table, "md") for table in tables)
        page.write_text(f"# {suite.title}\n\n{body}", encoding="utf-8")
    except OSError as error:
        raise BenchError(f"{folder}: cannot be written: {error}") from None
    return page


if __name__ == "__main__":
    sys.exit(main())
