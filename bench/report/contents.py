"""What a report of a suite says, put together from its records. Pure; no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.analysis.published import published_table
from bench.analysis.ranks import ranks_table
from bench.analysis.results import Results
from bench.analysis.tables import TABLES as OWN_TABLES
from bench.analysis.tables import Builder, Table
from bench.analysis.verdicts import Judged, Paper, judged, load_claims
from bench.core.store import Store
from bench.plan import suite as suites
from bench.plan.suite import Filters, Suite
from bench.report.methods import Section, methods
from models.llm_files import BACKBONES

if TYPE_CHECKING:
    from bench.report.figures.catalogue import Picture

TABLES: dict[str, Builder] = {**OWN_TABLES, "ranks": ranks_table, "published": published_table}


@dataclass(frozen=True)
class Review:
    """Everything that a report says of a suite."""

    suite: Suite
    words: str
    """What was typed besides the suite's name."""
    planned: Results
    paper: Paper
    claims: list[Judged]
    """Verdicts on the paper's claims that stand on this suite, on all of them for the suite `paper`."""
    tables: list[Table]
    pictures: list[Picture]
    methods: list[Section]


def review(suite: Suite, filters: Filters, store: Store) -> Review:
    """Of the runs that the filters leave."""
    # Drawing takes a second to import, and printing a table does not need it.
    from bench.report.figures.catalogue import pictures, plots

    planned = read(suite, filters, store)
    return Review(
        suite=suite,
        words=filters.words,
        planned=planned,
        paper=load_claims()[0],
        claims=verdicts(None if suite.name == "paper" else suite.name, filters, store),
        tables=[table for name in suite.tables for table in tables_of(name, planned, suite.about)],
        pictures=pictures(plots(planned, suite)),
        methods=methods(suite, planned),
    )


def tables_of(name: str, planned: Results, about: str) -> list[Table]:
    """What TABLES builds, with what the suite says of itself in every caption."""
    common = planned.common(about)
    return [replace(table, common=common) for table in TABLES[name](planned)]


def verdicts(suite: str | None, filters: Filters, store: Store) -> list[Judged]:
    """On the claims that stand on this suite, or on all."""
    paper, claims = load_claims()
    chosen = [claim for claim in claims if suite in (None, claim.suite)]
    return judged(chosen, paper, filters, lambda suite, filters: read(suite, filters, store)) if chosen else []


def under(filters: Filters, suite: Suite) -> Suite:
    """The suite, saying in every caption what narrows it."""
    about = f"{suite.about} Under the filters {filters.words}."
    return suite.model_copy(update={"about": about}) if filters.words else suite


def read(suite: Suite, filters: Filters, store: Store) -> Results:
    """The suite's runs with their records.

    Where no --backbone is given and no run with the suite's own is done, that of the most runs is taken; the caption
    names it.
    """
    own = _read(suite, filters, store, filters.backbone or suite.backbone)
    if filters.backbone or read_backbone(own):
        return own
    others = with_others(suite, filters, store)
    return max(others.values(), key=read_backbone) if any(map(read_backbone, others.values())) else own


def with_others(suite: Suite, filters: Filters, store: Store) -> dict[str, Results]:
    """The suite with each other language model that it could be run with."""
    names = [name for name, backbone in BACKBONES.items() if backbone.pretrained or not suite.variant]
    return {name: _read(suite, filters, store, name) for name in names if name != suite.backbone}


def read_backbone(planned: Results) -> int:
    """How many runs that read a language model are done."""
    return sum(result.spec.backbone is not None for result in planned.done)


def _read(suite: Suite, filters: Filters, store: Store, backbone: str) -> Results:
    return Results.read(suites.entries(suite, filters.model_copy(update={"backbone": backbone})), store)
