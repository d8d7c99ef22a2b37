"""What a report of a suite says, put together from its records. Pure; no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench import suite as suites
from bench.methods import Section, methods
from bench.planned import Planned
from bench.published import published_table
from bench.ranks import ranks_table
from bench.store import Store
from bench.suite import Entry, Filters, Suite
from bench.tables import TABLES as OWN_TABLES
from bench.tables import Builder, Table
from bench.verdicts import Paper, Row, judged, load_claims
from models.pretrained import BACKBONES

if TYPE_CHECKING:
    from bench.plots import Picture

TABLES: dict[str, Builder] = {**OWN_TABLES, "ranks": ranks_table, "published": published_table}


@dataclass(frozen=True)
class Review:
    """Everything that a report says of a suite."""

    suite: Suite
    filters: str
    """The words that narrow it; empty: nothing does."""
    planned: Planned
    paper: Paper
    claims: list[Row]
    """Verdicts on the paper's claims that stand on this suite, on all of them for the suite `paper`."""
    tables: list[Table]
    pictures: list[Picture]
    methods: list[Section]


def review(suite: Suite, filters: Filters, store: Store) -> Review:
    """Of the runs that the filters leave."""
    from bench.plots import pictures, plots  # drawing takes a second to import, and printing a table does not need it

    planned = read(suite, filters, store)
    if filters.words:
        suite = suite.model_copy(update={"about": f"{suite.about} Under the filters {filters.words}."})
    return Review(
        suite=suite,
        filters=filters.words,
        planned=planned,
        paper=load_claims()[0],
        claims=verdicts(None if suite.name == "paper" else suite.name, filters, store),
        tables=[table for name in suite.tables for table in tables_of(name, planned, suite.about)],
        pictures=pictures(plots(planned, suite)),
        methods=methods(suite, planned),
    )


def tables_of(name: str, planned: Planned, about: str) -> list[Table]:
    """What TABLES builds, with what the suite says of itself in every caption."""
    common = planned.made(about)
    return [replace(table, common=common) for table in TABLES[name](planned)]


def verdicts(suite: str | None, filters: Filters, store: Store) -> list[Row]:
    """On the claims that stand on this suite, or on all."""
    paper, claims = load_claims()
    chosen = [claim for claim in claims if suite in (None, claim.suite)]
    return judged(chosen, paper, filters, lambda suite, filters: read(suite, filters, store)) if chosen else []


def read(suite: Suite, filters: Filters, store: Store) -> Planned:
    """The suite's runs with their records.

    Where no --backbone is given and none of the suite's own backbone is recorded, that of the most records is taken;
    the caption names it.
    """
    if filters.backbone:
        candidates = [filters.backbone]
    else:
        others = [name for name, backbone in BACKBONES.items() if backbone.pretrained or not suite.variant]
        candidates = list(dict.fromkeys([suite.backbone, *others]))
    best: list[Entry] = []
    most = -1
    for name in candidates:
        plan = suites.entries(suite, filters.model_copy(update={"backbone": name}))
        count = sum("backbone" in entry.spec.options and (store.root / entry.spec.path).exists() for entry in plan)
        if count > most:
            best, most = plan, count
        if count and name == candidates[0]:
            break
    return Planned.read(best, store)
