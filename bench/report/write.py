"""Print a table or the verdicts, and write whole reports, from the records alone. No torch."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from bench.analysis.claims import Verdict
from bench.analysis.results import Results
from bench.analysis.verdicts import blocks, load_claims, tally
from bench.cli import RESULTS, command, filters_of, require_results, width
from bench.core.base import BenchError
from bench.core.reading import summary_of
from bench.core.store import Store
from bench.core.system import HOME, uncollected, write_whole, writing
from bench.plan import suite as suites
from bench.plan.language_model import choose, recorded, usable
from bench.plan.suite import Filters, Suite
from bench.report.answer import answer
from bench.report.contents import Review, default_suite, metrics_of, review, tables_named, under, verdicts
from bench.report.embedded import FOLDER
from bench.report.render import MARKDOWN_STYLE, SUFFIX, render, rendered
from bench.report.sheet import section_sheet, table_sheet, verdicts_sheets
from bench.report.shelf import MARK, is_report, shelved, write_index

REPORTS = HOME / "reports"
FOLDERS = ("tables", "figures", FOLDER)
"""What a report replaces, besides its two pages."""


@uncollected()
def report(arguments: argparse.Namespace) -> int:
    """Print a table or write a report; return 1 if planned cells are missing, unless --partial."""
    if arguments.table and arguments.into:
        raise BenchError("--into: is of a whole report. Do: leave out --table, or send what is printed to a file")
    store = Store(arguments.results)
    filters = filters_of(arguments)
    if arguments.table == "claims":
        complete = _print_claims(arguments, filters, store)
        return 0 if complete or arguments.partial else 1
    chosen = suites.load_suite(arguments.suite) if arguments.suite else default_suite(store, arguments.table)
    suite = under(filters, chosen)
    language, line = choose(suite, filters, store)
    require_results(arguments.results)
    output = _print_table if arguments.table else _write_report
    planned = output(arguments, suite, filters, store)
    if line:
        print(line, file=sys.stderr)
    if refused := list(planned.refused.values()):
        print(summary_of(refused), file=sys.stderr)
    if missing := len(planned.runs) - len(planned.done):
        words = command("run", arguments.suite or suite.name, language, arguments.results)
        print(f"report: {missing} of {len(planned.runs)} planned runs are missing. Do: {words}", file=sys.stderr)
        if line and not arguments.table:
            _note_other_backbones(suite, filters, store, str(language.backbone))
    return 0 if not missing or arguments.partial else 1


def _print_table(arguments: argparse.Namespace, suite: Suite, filters: Filters, store: Store) -> Results:
    planned, tables = tables_named(arguments.table, suite, filters, store, arguments.metric)
    print(f"suite {suite.name}, results from {arguments.results}", file=sys.stderr)
    print(rendered(tables, arguments.format, width()), end="")
    return planned


def _write_report(arguments: argparse.Namespace, suite: Suite, filters: Filters, store: Store) -> Results:
    part = "-part" if filters.listed.keys() - {"backbone"} else ""  # it does not replace the report of the whole suite
    folder = arguments.into or REPORTS / f"{suite.name}{part}"
    with writing(folder, "choose another --into"):
        _begin(folder)  # a folder that cannot be written is refused before drawing starts
        content = review(suite, filters, store, metrics_of(arguments.metric))
        further = {"results": arguments.results != RESULTS and arguments.results, "into": arguments.into}
        words = [f"--{name} {shlex.quote(str(path))}" for name, path in further.items() if path]
        content = replace(content, words=" ".join(filter(None, [content.words, *words])))
        pages = _write(content, arguments.results, folder)
        if folder.absolute().parent == REPORTS:
            pages += filter(None, [write_index(REPORTS)])
    print(rendered(content.tables[:1], arguments.format, width()))
    if content.claims:
        print("\n".join(f"{title}: {tally(rows)}" for title, rows in blocks(content.claims).items()), end="\n\n")
    print("\n".join(f"wrote {page}" for page in pages))
    return content.planned


def _begin(folder: Path) -> None:
    """Make the folder of a report. Raises BenchError for one that holds other files where the report's would be."""
    folder.mkdir(parents=True, exist_ok=True)
    if is_report(folder):
        return
    if others := [name for name in ("index.html", "report.md", *FOLDERS) if (folder / name).exists()]:
        cause = f"{others[0]} there is not of a report, which would replace it"
        raise BenchError(f"{folder}: {cause}. Do: choose another --into")
    write_whole(folder / "index.html", f"<!doctype html>{MARK}<title>This report is being written.</title>\n".encode())


def _print_claims(arguments: argparse.Namespace, filters: Filters, store: Store) -> bool:
    """Print the verdicts on the claims of one suite, or on all claims; return whether every claim is tested."""
    require_results(arguments.results)
    rows = verdicts(arguments.suite, filters, store)
    print(f"results from {arguments.results}", file=sys.stderr)
    sheets = verdicts_sheets(rows, load_claims()[0])
    print(rendered(sheets, arguments.format, width()), end="")
    if untested := [row.suite for row in rows if row.verdict is Verdict.UNTESTED]:
        first, *others = dict.fromkeys(untested)
        more = f", of the suites {', '.join([first, *others])}" if others else ""
        words = command("run", first, filters, arguments.results)
        print(f"claims: {len(untested)} of {len(rows)} are not tested{more}. Do: {words}", file=sys.stderr)
    return not untested


def _note_other_backbones(suite: Suite, filters: Filters, store: Store, used: str) -> None:
    """Name the language models whose records a report without --backbone leaves out."""
    counts = {name: recorded(suite, filters, store, name) for name in usable(suite) if name != used}
    if listed := ", ".join(f"{name} ({count} runs)" for name, count in counts.items() if count):
        print(f"records of other language models are left out: {listed}. Do: --backbone NAME", file=sys.stderr)


def _write(content: Review, results: Path, folder: Path) -> list[Path]:
    """Write index.html with its runs, report.md, tables/ (in every format) and figures/ anew; return the two pages."""
    from bench.report.page import page  # only a whole report needs the page

    for name in FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()
    # 1. Tables and figures.
    sheets = [*verdicts_sheets(content.claims, content.paper), *map(table_sheet, content.tables)]
    for sheet in sheets:
        for form, suffix in SUFFIX.items():
            (folder / "tables" / f"{sheet.name}.{suffix}").write_text(render(sheet, form), encoding="utf-8")
    for picture in content.pictures:
        for suffix, drawing in picture.files.items():
            (folder / "figures" / f"{picture.name}.{suffix}").write_bytes(drawing)
    # 2. The two pages; report.md links the figures, index.html the reports of other suites.
    beside = shelved(REPORTS, folder.name) if folder.absolute().parent == REPORTS else []
    words = MARKDOWN_STYLE.escape
    parts = [f"# {words(content.suite.question or content.suite.title)}"]
    parts += [words(sentence) for sentence in answer(content.claims, content.tables)]
    parts += [words(content.suite.about), *(render(sheet, "md") for sheet in sheets)]
    parts += [
        f"### {picture.title}\n\n![{words(picture.alt)}](figures/{picture.name}.png)\n\n{words(picture.caption)}"
        for picture in content.pictures
    ]
    parts += [render(section_sheet(section), "md") for section in content.methods]
    made = page(content, os.path.relpath(results, folder), beside)
    for name, text in made.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    if not made.files:
        (folder / FOLDER).rmdir()
    pages = {
        folder / "index.html": made.html,
        folder / "report.md": "\n\n".join(part.strip() for part in parts) + "\n",
    }
    for path, text in pages.items():
        write_whole(path, text.encode())
    return list(pages)
