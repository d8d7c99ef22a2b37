"""suites/claims.toml + records -> a verdict on each claim, as text, Markdown, LaTeX, CSV or JSON. Pure; no torch."""

from __future__ import annotations

import textwrap
import tomllib
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from bench.analysis.claims import KINDS, Claim, Evidence, Finding, Verdict
from bench.analysis.results import Results
from bench.core.base import BenchError, Frozen, Positive, UnknownName, parse
from bench.core.record import RunResult
from bench.plan import registry
from bench.plan import suite as suites
from bench.plan.settings import CLAIMS
from bench.plan.suite import Filters, PlannedRun, Suite
from models.llm_files import BACKBONES

Reader = Callable[[Suite, Filters], Results]
"""The planned runs of a suite with their records."""


class Run(NamedTuple):
    """A planned run with its side of a comparison, its record, and why there is no number of it, if there is none."""

    side: str
    entry: PlannedRun
    result: RunResult | None = None
    why: str = ""


Sided = list[Run]
NAMED = 3
"""So many of the runs that are not there, and of the data sets that are, are named."""


class Paper(Frozen):
    """What all claims have in common."""

    title: str
    backbone: str
    context: Positive
    """Look-back."""
    about: str
    """What a caption must say of how our runs differ."""


class ClaimsFile(Frozen):
    paper: Paper
    claim: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)]


def load_claims(path: Path = CLAIMS) -> tuple[Paper, list[Claim]]:
    """Every claim of the file. Raises BenchError for what is misspelt, missing or not in the suite it names."""
    try:
        file = parse(ClaimsFile, tomllib.loads(path.read_text(encoding="utf-8")), str(path))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BenchError(f"{path}: cannot be read: {error}") from None
    if file.paper.backbone not in BACKBONES:
        raise UnknownName("backbone", file.paper.backbone, list(BACKBONES), f"{path}: paper")
    claims: dict[str, Claim] = {}
    for number, values in enumerate(file.claim, 1):
        place = f"{path}: claim {values.get('id', number)}"
        kind = values.get("kind")
        if kind not in KINDS:
            raise UnknownName("kind of claim", str(kind), list(KINDS), place)
        claim = parse(KINDS[kind], values, place)
        _check(claim, place)
        if claim.id in claims:
            raise BenchError(f"{place}: there are two of this id")
        claims[claim.id] = claim
    return file.paper, list(claims.values())


def _check(claim: Claim, place: str) -> None:
    """What a claim names must be in its suite."""
    if claim.suite not in suites.suite_names():
        raise UnknownName("suite", claim.suite, suites.suite_names(), place)
    suite = suites.load_suite(claim.suite)
    titles = [variant.title for variant in suite.variant if not variant.models or claim.model in variant.models]
    named = {
        "model": ((claim.model, *claim.others), suite.models),
        "data set": (claim.datasets or (), suite.datasets),
        "variant": (claim.variants, titles),
        "share of the windows": ([claim.fraction] if claim.fraction else [], suite.fractions),
    }
    for what, (names, known) in named.items():
        for name in names:
            if name not in known:
                raise UnknownName(what, str(name), list(map(str, known)), f"{place}: suite {suite.name}")


@dataclass(frozen=True)
class Judged:
    """A claim and what came out, in words."""

    id: str
    claim: str
    source: str
    suite: str
    kind: str
    verdict: Verdict
    scope: str
    """Over which part of what is claimed; empty: over all of it."""
    instead: str
    """Language model and look-back where they are not the paper's."""
    ours: str
    paper: str
    interval: str
    evidence: str
    missing: str
    """Why it is not tested, or which runs are not there."""
    runs: tuple[tuple[PlannedRun, RunResult], ...] = ()
    """What the verdict stands on."""

    def words(self) -> dict[str, str]:
        """All but the runs."""
        return {name: value for name, value in vars(self).items() if name != "runs"}


@dataclass(frozen=True)
class Reading:
    """What a suite plans and what the filters leave of it, with the records."""

    suite: Suite
    full: list[PlannedRun]
    """For one seed."""
    left: Results
    refusal: str = ""
    """Why the suite cannot be planned so."""


def judged(claims: list[Claim], paper: Paper, filters: Filters, read: Reader) -> list[Judged]:
    """Every claim on its own suite. Raises BenchError for filters that would not fit the suite `paper` either."""
    main = suites.load_suite("paper")
    of_one_seed = filters.model_copy(update={"seeds": main.seeds[:1]})
    known = [entry.spec for entry in suites.entries(main, of_one_seed)]
    named = {
        "models": filters.models and _unique(spec.model for spec in known),
        "datasets": filters.datasets and _unique(spec.task.dataset for spec in known),
    }
    filters = filters.model_copy(update=named)
    names = _unique(claim.suite for claim in claims)
    readings = {name: _reading(suites.load_suite(name), filters, read) for name in names}
    return [_row(claim, paper, filters, readings[claim.suite]) for claim in claims]


def _reading(suite: Suite, filters: Filters, read: Reader) -> Reading:
    """The filters are cut to what the suite has, as it would refuse the rest."""
    try:
        full = suites.entries(suite, Filters(seeds=suite.seeds[:1], backbone=filters.backbone))
    except BenchError as error:
        return Reading(suite, [], Results([]), str(error))
    left = [entry.spec for entry in full if _passes(entry, filters)]
    if not left:
        return Reading(suite, full, Results([]))
    cut = {
        "models": _unique(spec.model for spec in left),
        "datasets": _unique(spec.task.dataset for spec in left),
        "horizons": _unique(spec.task.horizon for spec in left),
    }
    return Reading(suite, full, read(suite, filters.model_copy(update=cut)))


def _passes(entry: PlannedRun, filters: Filters) -> bool:
    task = entry.spec.task
    return (
        (not filters.models or entry.spec.model in filters.models)
        and (not filters.datasets or task.dataset in filters.datasets)
        and (not filters.horizons or task.horizon in filters.horizons)
    )


def _row(claim: Claim, paper: Paper, filters: Filters, reading: Reading) -> Judged:
    full = _sided(claim, Results([(entry, None) for entry in reading.full]))
    left = _sided(claim, reading.left)
    whole = _whole(left)
    counted = [(run.side, run.entry, run.result) for run in left if run.result and run.entry.spec.task.dataset in whole]
    scope = _scope(claim, full, left, filters, reading.suite)
    missing = _missing(left)
    sides = {run.side for run in left}
    if reading.refusal:
        finding = Finding(Verdict.UNTESTED, remark=reading.refusal)
    elif not {claim.model, *claim.variants} <= sides or (claim.others and not sides & set(claim.others)):
        finding = Finding(Verdict.UNTESTED, remark="the filters leave out what it is about")
    elif not whole:
        finding = Finding(Verdict.UNTESTED, remark=f"no data set is complete: {missing}")
    else:
        every = _horizons(full, whole) == _horizons(left, whole)
        finding = claim.judge(Evidence([(side, result) for side, _, result in counted], every))
    tested = finding.verdict is not Verdict.UNTESTED
    results = [result for _, _, result in counted]
    basis = [f"{len(counted)} runs", *_made_with(results), finding.remark, missing]
    return Judged(
        id=claim.id,
        claim=claim.text,
        source=claim.source,
        suite=claim.suite,
        kind=claim.kind,
        verdict=Verdict.PART if finding.verdict is Verdict.HOLDS and scope else finding.verdict,
        scope=scope if tested else "",
        instead=_instead(paper, results) if tested else "",
        ours=finding.ours,
        paper=claim.paper,
        interval=finding.interval,
        evidence="; ".join(filter(None, basis)) if tested else "",
        missing=missing if tested else finding.remark,
        runs=tuple((entry, result) for _, entry, result in counted) if tested else (),
    )


def _sided(claim: Claim, planned: Results) -> Sided:
    """The runs that the claim compares. A side is a model, or the variant beside the claimed model's first one."""
    first: dict[str, str] = {}
    for entry, _ in planned.runs:
        first.setdefault(entry.spec.model, entry.variant)
    chosen = []
    for entry, result in planned.runs:
        spec, usual = entry.spec, entry.variant == first[entry.spec.model]
        own = spec.model == claim.model and (usual or entry.variant in claim.variants)
        if (
            (own or (usual and spec.model in claim.others))
            and (claim.datasets is None or spec.task.dataset in claim.datasets)
            and claim.fraction in (None, spec.task.train_fraction)
        ):
            side = spec.model if usual else entry.variant
            chosen.append(Run(side, entry, result, planned.absent(entry, result)))
    return chosen


def _datasets(runs: Sided) -> tuple[str, ...]:
    return _unique(run.entry.spec.task.dataset for run in runs)


def _horizons(runs: Sided, datasets: Collection[str]) -> list[int]:
    tasks = [run.entry.spec.task for run in runs]
    return sorted({task.horizon for task in tasks if task.dataset in datasets})


def _whole(left: Sided) -> list[str]:
    """The data sets of which every run is done."""
    gaps = {run.entry.spec.task.dataset for run in left if run.why}
    return [name for name in _datasets(left) if name not in gaps]


def _missing(left: Sided) -> str:
    absent = [f"{run.entry.label} {textwrap.shorten(run.why, 80, placeholder=' ...)')}" for run in left if run.why]
    more = f" and {len(absent) - NAMED} more" if len(absent) > NAMED else ""
    return f"{len(absent)} of {len(left)} runs are not there: {'; '.join(absent[:NAMED])}{more}" if absent else ""


def _scope(claim: Claim, full: Sided, left: Sided, filters: Filters, suite: Suite) -> str:
    """To what the verdict is narrower than the claim, by missing runs or by filters."""
    asked, whole, parts = _datasets(full), _whole(left), []
    if len(whole) < len(asked):
        more = f" and {len(whole) - NAMED} more" if len(whole) > NAMED else ""
        parts.append(f"over {', '.join(whole[:NAMED])}{more} only ({len(whole)} of {len(asked)} data sets)")
    if _horizons(left, whole) != _horizons(full, whole):
        parts.append(f"horizon {', '.join(map(str, _horizons(left, whole)))} only")
    if filters.seeds and len(set(filters.seeds)) < len(set(suite.seeds)):
        parts.append(f"seed {', '.join(map(str, filters.seeds))} only")
    if gone := set(claim.others) - {run.side for run in left}:
        parts.append(f"without {', '.join(registry.title(name) for name in claim.others if name in gone)}")
    return ", ".join(parts)


def _made_with(results: list[RunResult]) -> list[str]:
    """Language models and look-backs of the runs."""
    names = _unique(result.spec.backbone for result in results if result.spec.backbone)
    models = [f"{_short(name)}, {'' if BACKBONES[name].pretrained else 'NOT '}pretrained" for name in names]
    contexts = sorted({result.spec.task.context for result in results})
    return [*models, f"look-back {', '.join(map(str, contexts))}"]


def _instead(paper: Paper, results: list[RunResult]) -> str:
    """What of that is not the paper's."""
    names = _unique(result.spec.backbone for result in results if result.spec.backbone)
    parts = [f"with {_short(names[0])} for {_short(paper.backbone)}"] if names and paper.backbone not in names else []
    tasks = [result.spec.task for result in results if result.spec.task.context != paper.context]
    for context in _unique(task.context for task in tasks):
        where = ", ".join(_unique(task.dataset for task in tasks if task.context == context))
        parts.append(f"look-back {context} on {where}")
    return ", ".join(parts)


def _short(backbone: str) -> str:
    return BACKBONES[backbone].title.partition(" (")[0]


def _unique(items: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(items))


def tally(rows: list[Judged]) -> str:
    """How many of each verdict."""
    counts, parts = (Counter(row.verdict for row in some) for some in (rows, [row for row in rows if row.scope]))
    narrower = {verdict: f" ({parts[verdict]} over part of what is claimed)" for verdict in parts}
    return ", ".join(f"{verdict}: {counts[verdict]}{narrower.get(verdict, '')}" for verdict in Verdict)
