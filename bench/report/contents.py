"""Put together the contents of a suite's report from its records. Pure; no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.analysis.published import published_table
from bench.analysis.ranks import ranks_table
from bench.analysis.regimes import regimes_table
from bench.analysis.results import METRICS, Results, read
from bench.analysis.tables import TABLES as OWN_TABLES
from bench.analysis.tables import Builder, Table
from bench.analysis.verdicts import Judged, Paper, judged, load_claims
from bench.core.base import BenchError
from bench.core.names import Metric
from bench.core.store import Store
from bench.plan import suite as suites
from bench.plan.suite import Filters, Suite
from bench.report.methods import Section, methods
from models.llm_files import BACKBONES

if TYPE_CHECKING:
    from bench.report.figures.catalogue import Picture

TABLES: dict[str, Builder] = {
    **OWN_TABLES,
    "ranks": ranks_table,
    "regimes": regimes_table,
    "published": published_table,
}


@dataclass(frozen=True)
class Review:
    """The contents of one suite's report."""

    suite: Suite
    words: str
    """Filters on the command line, without the suite's name."""
    planned: Results
    paper: Paper
    claims: list[Judged]
    """Verdicts on the claims that this suite tests; the suite `paper` has the verdicts on all claims."""
    tables: list[Table]
    pictures: list[Picture]
    methods: list[Section]


def review(suite: Suite, filters: Filters, store: Store, metrics: tuple[Metric, ...]) -> Review:
    """Read the suite's runs that pass the filters, and make every part of its report; claims are on MSE whatever the
    metrics of its tables and figures are."""
    # Importing the figures takes a second, and printing a table does not need them.
    from bench.report.figures.catalogue import pictures, plots

    planned = read(suite, filters, store, metrics)
    return Review(
        suite=suite,
        words=filters.words,
        planned=planned,
        paper=load_claims()[0],
        claims=claims_of(suite.name, filters, store),
        tables=[table for name in suite.tables for table in tables_of(name, planned, suite.about) if table.rows],
        pictures=pictures(plots(planned, suite)),
        methods=methods(suite, planned),
    )


def tables_of(name: str, planned: Results, about: str) -> list[Table]:
    """Build the tables of one name; every caption ends with the runs' provenance and `about`."""
    common = planned.common(about)
    return [replace(table, common=common) for table in TABLES[name](planned)]


def metrics_of(metric: Metric | None) -> tuple[Metric, ...]:
    """Return the errors that are shown: the paper's, unless one is chosen."""
    return (metric,) if metric else METRICS


def tables_named(
    name: str, suite: Suite, filters: Filters, store: Store, metric: Metric | None
) -> tuple[Results, list[Table]]:
    """Return the suite's runs that pass the filters, and its tables of one name, of one error if `metric` names it.

    Raises BenchError for a table that is none of the suite's.
    """
    if name not in suite.tables:
        listed = ", ".join(suite.tables)
        raise BenchError(f"table {name}: not a table of suite {suite.name}. Do: choose one of {listed}")
    planned = read(suite, filters, store, metrics_of(metric))
    return planned, tables_of(name, planned, suite.about)


def verdicts(suite: str | None, filters: Filters, store: Store) -> list[Judged]:
    """Judge the claims that this suite tests; None judges every claim. Raises BenchError for a suite without any.

    All claims are judged in any case, because the correction is for their number.
    """
    paper, claims = load_claims()
    if suite not in (None, *(claim.suite for claim in claims)):
        raise BenchError(f"suite {suite}: no claim stands on it. Do: leave it out for all claims")
    rows = judged(claims, paper, filters, lambda suite, filters: read(suite, filters, store))
    return [row for row in rows if suite in (None, row.suite)]


def claims_of(name: str, filters: Filters, store: Store) -> list[Judged]:
    """Return the verdicts that the report of a suite shows: that of `paper` has all."""
    if name not in [claim.suite for claim in load_claims()[1]]:
        return []
    return verdicts(None if name == "paper" else name, filters, store)


def under(filters: Filters, suite: Suite) -> Suite:
    """Return the suite with the filters named in `about`, which every caption repeats."""
    about = f"{suite.about} Under the filters {filters.words}."
    return suite.model_copy(update={"about": about}) if filters.words else suite


def default_suite(store: Store, table: str | None) -> Suite:
    """Return the suite named as the table; else paper if any of its runs is recorded, else quick."""
    if table in suites.suite_names():
        return suites.load_suite(table)
    paper = suites.load_suite("paper")
    specs = (spec for backbone in BACKBONES for spec in suites.plan(paper, Filters(backbone=backbone)))
    return paper if any((store.root / spec.path).exists() for spec in specs) else suites.load_suite("quick")
