"""Every committed record is a planned run of clean code; reports and README are those of the records.

After new records: `python -m tests.committed`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import pytest

from bench.analysis.verdicts import load_claims
from bench.core.base import ROOT, BenchError, parse
from bench.core.record import RunResult
from bench.core.store import Store
from bench.plan.suite import Filters, load_suite, plan, suite_names
from bench.report.contents import claims_of, read, tables_of, under
from bench.report.render import SUFFIX, render
from bench.report.sheet import verdicts_sheets
from models.llm_files import BACKBONES
from tests.committed import FOUND, README, REPORTED, REPORTS, RESULTS, SHOWN, findings, judged, shown


def git(*words: str) -> list[str] | None:
    """The lines that git prints; None where there is no repository."""
    ended = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return ended.stdout.splitlines() if ended.returncode == 0 else None


RECORDS = [ROOT / path for path in git("ls-files", "results") or []]
pytestmark = pytest.mark.skipif(
    git("status", "--porcelain", "results", "reports") != [], reason="results/ or reports/ are not as committed"
)


@lru_cache
def planned() -> frozenset[str]:
    """Paths of every run that any suite plans with any language model."""
    found = set()
    for name in suite_names():
        for backbone in BACKBONES:
            try:
                found |= {str(spec.path) for spec in plan(load_suite(name), Filters(backbone=backbone))}
            except BenchError:  # a suite that compares with a random twin takes none as its own
                continue
    return frozenset(found)


def test_there_are_records() -> None:
    assert len(RECORDS) > 200


def test_every_record_is_a_planned_run_that_ended_well_on_clean_code() -> None:
    for path in RECORDS:
        result = parse(RunResult, path.read_text(encoding="utf-8"), str(path))
        assert str(path.relative_to(RESULTS)) in planned(), f"{path}: no suite plans it"
        assert Store(RESULTS).get(result.spec) == result
        assert result.status == "done", path
        assert result.where.git and result.where.dirty is False, path


def test_the_reports_that_are_committed_are_known_here() -> None:
    assert {path.split("/")[1] for path in git("ls-files", "reports") or []} == {*REPORTED, "index.html"}


@pytest.mark.parametrize("suite", REPORTED)
def test_the_committed_tables_and_verdicts_are_those_of_the_committed_records(suite: str) -> None:
    folder, filters = REPORTS / suite / "tables", REPORTED[suite]
    chosen = under(filters, load_suite(suite))
    planned = read(chosen, filters, Store(RESULTS))
    expected = {
        f"{table.name}.{suffix}": render(table, form)
        for name in chosen.tables
        for table in tables_of(name, planned, chosen.about)
        if table.rows
        for form, suffix in SUFFIX.items()
    }
    rows = judged() if suite == "paper" else claims_of(suite, filters, Store(RESULTS))
    for sheet in verdicts_sheets(rows, load_claims()[0]):
        expected |= {f"{sheet.name}.{suffix}": render(sheet, form) for form, suffix in SUFFIX.items()}
    assert {path.name for path in folder.iterdir()} == set(expected)
    for name, text in expected.items():
        assert (folder / name).read_text(encoding="utf-8") == text, f"{folder / name} is not that of results/"


@pytest.mark.parametrize(("path", "make"), [(README, findings), (FOUND, shown)], ids=["README", "docs/results.md"])
def test_findings_verdicts_and_the_main_table_are_shown_as_they_are(path: Path, make: Callable[[], str]) -> None:
    text = path.read_text(encoding="utf-8")
    found = SHOWN.search(text)
    assert found and found[0] == found[1] + make() + found[2]
    assert path == README or (REPORTS / "paper" / "tables" / "main.txt").read_text(encoding="utf-8") in text
