"""Prints a table or the verdicts, and writes whole reports, from the records alone. No torch."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from tabulate import tabulate

from bench.analysis.claims import Verdict
from bench.analysis.results import Results
from bench.analysis.verdicts import load_claims, tally
from bench.cli import RESULTS, filters_of
from bench.core.base import BenchError
from bench.core.store import Store
from bench.core.system import HOME
from bench.plan import suite as suites
from bench.plan.suite import Filters, Suite
from bench.report.contents import Review, read, read_backbone, review, tables_of, under, verdicts, with_others
from bench.report.methods import Section
from bench.report.render import SUFFIX, markdown, render
from bench.report.verdict_forms import tell
from models.llm_files import BACKBONES

REPORTS = HOME / "reports"


def report(arguments: argparse.Namespace) -> int:
    """Print or write; 1 if planned cells are missing, unless --partial."""
    store = Store(arguments.results)
    filters = filters_of(arguments)
    if arguments.table == "claims":
        complete = _print_claims(arguments, filters, store)
    else:
        chosen = suites.load_suite(arguments.suite) if arguments.suite else _default_suite(store, arguments.table)
        suite = under(filters, chosen)
        if arguments.table:
            planned = _print_table(arguments, suite, filters, store)
        else:
            planned = _write_report(arguments, suite, filters, store)
        complete = len(planned.done) == len(planned.runs)
        _say_what_is_missing(planned, complete)
        if not (complete or filters.backbone or arguments.table):
            _say_what_else_is_there(planned, with_others(suite, filters, store))
    return 0 if complete or arguments.partial else 1


def _print_table(arguments: argparse.Namespace, suite: Suite, filters: Filters, store: Store) -> Results:
    if arguments.table not in suite.tables:
        raise BenchError(f"suite {suite.name} has no table {arguments.table}; it has {', '.join(suite.tables)}")
    planned = read(suite, filters, store)
    tables = tables_of(arguments.table, planned, suite.about)
    print(f"suite {suite.name}, results from {arguments.results}", file=sys.stderr)
    texts = [render(table, arguments.format) for table in tables]
    several = arguments.format == "json" and len(texts) > 1
    print(f"[{','.join(texts)}]\n" if several else "\n".join(texts), end="")
    return planned


def _write_report(arguments: argparse.Namespace, suite: Suite, filters: Filters, store: Store) -> Results:
    folder = arguments.into or REPORTS / suite.name
    _make(folder)  # if that cannot be, it is said before anything is drawn
    made = review(suite, filters, store)
    if arguments.results != RESULTS:
        made = replace(made, words=f"{made.words} --results {shlex.quote(str(arguments.results))}".lstrip())
    pages = _write(made, arguments.results, folder)
    print(render(made.tables[0], arguments.format))
    if made.claims:
        print(f"Claims of the paper: {tally(made.claims)}\n")
    print("\n".join(f"wrote {page}" for page in pages))
    return made.planned


def _print_claims(arguments: argparse.Namespace, filters: Filters, store: Store) -> bool:
    """Print the verdict on each claim of the paper, or on those that stand on one suite; whether all are tested."""
    rows = verdicts(arguments.suite, filters, store)
    if not rows:
        raise BenchError(f"no claim stands on suite {arguments.suite}; leave --suite out for all of them")
    print(f"results from {arguments.results}", file=sys.stderr)
    print(tell(rows, load_claims()[0], arguments.format), end="")
    untested = sum(row.verdict is Verdict.UNTESTED for row in rows)
    if untested:
        print(
            f"{untested} of {len(rows)} claims are not tested; 'python -m bench plan' lists the runs", file=sys.stderr
        )
    return not untested


def _say_what_is_missing(planned: Results, complete: bool) -> None:
    if planned.refused:
        count = len(planned.refused)
        print(
            f"{count} recorded runs cannot be used; the first: {next(iter(planned.refused.values()))}", file=sys.stderr
        )
    if not complete:
        print("some planned cells are missing; 'python -m bench plan' lists them", file=sys.stderr)


def _say_what_else_is_there(planned: Results, others: dict[str, Results]) -> None:
    """Records of other language models, which a report without --backbone leaves out."""
    shown = {entry.spec.backbone for entry, _ in planned.runs if entry.spec.backbone}
    counts = {name: read_backbone(other) for name, other in others.items() if name not in shown}
    said = ", ".join(f"{name} ({count} runs)" for name, count in counts.items() if count)
    if shown and said:
        print(f"records of other language models are there too: {said}; --backbone shows them", file=sys.stderr)


def _default_suite(store: Store, table: str | None) -> Suite:
    """The suite that is called as the table; else paper if any of its runs is recorded, else quick."""
    if table in suites.suite_names():
        return suites.load_suite(table)
    paper = suites.load_suite("paper")
    for backbone in BACKBONES:
        if any((store.root / spec.path).exists() for spec in suites.plan(paper, Filters(backbone=backbone))):
            return paper
    return suites.load_suite("quick")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BenchError(f"{folder}: cannot be written: {error}") from None


def _write(made: Review, results: Path, folder: Path) -> list[Path]:
    """index.html, report.md, tables/ in every format and figures/; the pages a reader opens are returned.

    What an earlier report left in tables/ and figures/ is removed.
    """
    from bench.report.page import page  # a table alone needs no template

    try:
        for name in ("tables", "figures"):
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / name).mkdir()
        for form, suffix in SUFFIX.items():
            for table in made.tables:
                (folder / "tables" / f"{table.name}.{suffix}").write_text(render(table, form), encoding="utf-8")
            if made.claims:
                told = tell(made.claims, made.paper, form)
                (folder / "tables" / f"claims.{suffix}").write_text(told, encoding="utf-8")
        for picture in made.pictures:
            for suffix, content in picture.files.items():
                (folder / "figures" / f"{picture.name}.{suffix}").write_bytes(content)
        (folder / "report.md").write_text(_markdown(made), encoding="utf-8")
        (folder / "index.html").write_text(page(made, os.path.relpath(results, folder)), encoding="utf-8")
    except OSError as error:
        raise BenchError(f"{folder}: cannot be written: {error}") from None
    return [folder / "index.html", folder / "report.md"]


def _markdown(made: Review) -> str:
    """The report as a repository shows it; figures are linked."""
    parts = [f"# {made.suite.title}", made.suite.about]
    if made.claims:
        parts.append(tell(made.claims, made.paper, "md"))
    parts += [render(table, "md") for table in made.tables]
    parts += [
        f"### {picture.title}\n\n![{picture.title}](figures/{picture.name}.png)\n\n{picture.caption}"
        for picture in made.pictures
    ]
    return "\n\n".join(part.strip() for part in [*parts, *map(_section, made.methods)]) + "\n"


def _section(section: Section) -> str:
    body = [list(map(markdown, row)) for row in section.rows]
    grid = tabulate(body, section.headers, "pipe", disable_numparse=True) if body else ""
    return "\n\n".join(filter(None, [f"### {section.title}", *section.text, grid]))
