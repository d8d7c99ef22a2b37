"""suites/claims.toml + records -> a verdict on each claim, as text, Markdown, LaTeX, CSV or JSON. Pure; no torch."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from bench.analysis.claims import KINDS, Claim, Evidence, Finding, Verdict, Versus
from bench.analysis.intervals import holm
from bench.analysis.published import strength
from bench.analysis.results import Results, State, first_few
from bench.core.base import BenchError, Frozen, Positive, UnknownName, parse, read_toml
from bench.core.record import RunResult
from bench.plan import registry
from bench.plan import suite as suites
from bench.plan.settings import CLAIMS
from bench.plan.suite import Filters, PlannedRun, Suite
from models.llm_files import BACKBONES

ReadSuite = Callable[[Suite, Filters], Results]
"""Pairs the planned runs of a suite with their records."""


class ComparedRun(NamedTuple):
    """A planned run with its side of a comparison, its record if there is one, and its state."""

    side: str
    entry: PlannedRun
    result: RunResult | None
    state: State

    @property
    def dataset(self) -> str:
        return self.entry.spec.task.dataset


class Paper(Frozen):
    """The paper whose claims are judged."""

    title: str
    backbone: str
    context: Positive
    """Look-back in steps."""
    about: str
    """How our runs differ from the paper's, for a caption."""


class ClaimsFile(Frozen):
    paper: Paper
    claim: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)]


def load_claims(path: Path = CLAIMS) -> tuple[Paper, list[Claim]]:
    """Read every claim of the file. Raises BenchError if a name is misspelt, missing or not in the claim's suite."""
    file = parse(ClaimsFile, read_toml(path), str(path))
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
    """Refuse a claim that names something its suite does not have."""
    if claim.suite not in suites.suite_names():
        raise UnknownName("suite", claim.suite, suites.suite_names(), place)
    suite = suites.load_suite(claim.suite)
    titles = [variant.title for variant in suite.variant if not variant.models or claim.model in variant.models]
    fractions = [claim.fraction] if claim.fraction else []
    for kind, names, available in (
        ("model", (claim.model, *claim.others), suite.models),
        ("data set", claim.datasets or (), suite.datasets),
        ("variant", claim.variants, titles),
        ("share of the windows", map(str, fractions), map(str, suite.fractions)),
    ):
        listed = list(available)
        for name in names:
            if name not in listed:
                raise UnknownName(kind, name, listed, f"{place}: suite {suite.name}")


@dataclass(frozen=True)
class Judged:
    """A claim and its verdict, in words."""

    id: str
    claim: str
    source: str
    suite: str
    kind: str
    added: bool
    """The claim is not the paper's: it was added here."""
    verdict: Verdict = Verdict.UNTESTED
    """After Holm's correction over the claims of its block."""
    raw: Verdict = Verdict.UNTESTED
    """Without that correction."""
    p: float | None = None
    """Of the claim as one test of two sides; None if it is counted, measured or not tested."""
    p_corrected: float | None = None
    scope: str = ""
    """The part of the claim that the verdict is about; empty: all of it."""
    instead: str = ""
    """Language model and look-backs that are not the paper's."""
    ours: str = ""
    paper: str = ""
    interval: str = ""
    rivals: str = ""
    """How strong each rival is: its distance from its published values at the same look-back."""
    evidence: str = ""
    missing: str = ""
    """Why it is not tested, or which runs are missing."""
    runs: tuple[tuple[PlannedRun, RunResult], ...] = ()
    """The runs behind the verdict."""

    def words(self) -> dict[str, str]:
        """Return all fields but the runs."""
        return {name: value for name, value in vars(self).items() if name != "runs"}


@dataclass(frozen=True)
class SuiteRuns:
    """The runs of one suite: all planned ones, and those within the filters with their records."""

    suite: Suite
    full: Results
    """For one seed, without records."""
    chosen: Results = field(default_factory=lambda: Results([]))
    refusal: str = ""
    """Why the suite cannot be planned with these filters."""


def judged(claims: list[Claim], paper: Paper, filters: Filters, read: ReadSuite) -> list[Judged]:
    """Judge every claim on its own suite. Raises BenchError for filters that do not fit the suite `paper` either."""
    # 1. Spell the filters as the suite `paper` would.
    main = suites.load_suite("paper")
    specs = [entry.spec for entry in suites.entries(main, filters.model_copy(update={"seeds": main.seeds[:1]}))]
    spelled = {
        "models": filters.models and _unique(spec.model for spec in specs),
        "datasets": filters.datasets and _unique(spec.task.dataset for spec in specs),
    }
    filters = filters.model_copy(update=spelled)
    # 2. Read each suite once.
    names = _unique(claim.suite for claim in claims)
    runs = {name: _suite_runs(suites.load_suite(name), filters, read) for name in names}
    # 3. Judge each by itself, then correct for their number.
    return _corrected([_judged(claim, paper, filters, runs[claim.suite]) for claim in claims])


@dataclass(frozen=True)
class Found:
    """A claim and what was found of it, before the correction for the number of claims."""

    row: Judged
    finding: Finding
    missing: str = ""
    """The part of the claim that missing runs and filters leave; empty: all of it."""

    def judged(self, p: float | None = None, best_part: float | None = None) -> Judged:
        """Return the claim with its verdict; `p` and `best_part` are corrected ones, if it was tested."""
        raw, _ = self._verdict()
        verdict, scope = self._verdict(p, best_part)
        uncorrected = _rounded(self.finding.p)
        return replace(self.row, verdict=verdict, raw=raw, scope=scope, p=uncorrected, p_corrected=_rounded(p))

    def _verdict(self, p: float | None = None, best_part: float | None = None) -> tuple[Verdict, str]:
        """Return verdict and scope; what holds where not all of the claim is there, holds in part."""
        verdict, scope = self.finding.verdict(p, best_part)
        whole = ", ".join(filter(None, [scope, self.missing]))
        return (Verdict.PART if verdict is Verdict.HOLDS and self.missing else verdict), whole


def _rounded(p: float | None) -> float | None:
    return None if p is None else float(f"{p:.2g}")


def _corrected(found: list[Found]) -> list[Judged]:
    """Return the verdicts after Holm's correction, over the tested claims of each block and over their best parts."""
    rows = {each.row.id: each.judged() for each in found}
    for added in (False, True):
        family = [(each, p) for each in found if each.row.added is added and (p := each.finding.p) is not None]
        claims, parts = holm([p for _, p in family]), holm([each.finding.best_part for each, _ in family])
        for (each, _), p, best_part in zip(family, claims, parts, strict=True):
            rows[each.row.id] = each.judged(p, best_part)
    return list(rows.values())


def _suite_runs(suite: Suite, filters: Filters, read: ReadSuite) -> SuiteRuns:
    """Read a suite under the filters, cut to the names that it has, because it would refuse others."""
    try:
        entries = suites.entries(suite, Filters(seeds=suite.seeds[:1], backbone=filters.backbone))
    except BenchError as error:
        return SuiteRuns(suite, Results([]), refusal=str(error))
    full = Results([(entry, None) for entry in entries])
    chosen = [
        (spec.model, spec.task.dataset, spec.task.horizon)
        for spec, _ in entries
        if (not filters.models or spec.model in filters.models)
        and (not filters.datasets or spec.task.dataset in filters.datasets)
        and (not filters.horizons or spec.task.horizon in filters.horizons)
    ]
    if not chosen:
        return SuiteRuns(suite, full)
    cut = dict(zip(("models", "datasets", "horizons"), map(_unique, zip(*chosen, strict=True)), strict=True))
    return SuiteRuns(suite, full, read(suite, filters.model_copy(update=cut)))


def _judged(claim: Claim, paper: Paper, filters: Filters, runs: SuiteRuns) -> Found:
    # 1. Keep the runs of the data sets that are complete.
    full, chosen = _compared(claim, runs.full), _compared(claim, runs.chosen)
    complete, missing = _complete(chosen), _missing(chosen)
    counted = [(run.side, run.entry, run.result) for run in chosen if run.result and run.dataset in complete]
    # 2. Judge, if there is something to compare.
    sides = {run.side for run in chosen}
    if runs.refusal:
        finding = Finding(remark=runs.refusal, counted=Verdict.UNTESTED)
    elif not {claim.model, *claim.variants} <= sides or (claim.others and not sides & set(claim.others)):
        finding = Finding(remark="the filters leave out what it is about", counted=Verdict.UNTESTED)
    elif not complete:
        finding = Finding(remark=f"no data set is complete: {missing}", counted=Verdict.UNTESTED)
    else:
        every = _horizons(full, complete) == _horizons(chosen, complete)
        finding = claim.judge(Evidence([(side, result) for side, _, result in counted], every))
    # 3. Say it in words.
    row = Judged(
        id=claim.id,
        claim=claim.text,
        source=claim.source,
        suite=claim.suite,
        kind=claim.kind,
        added=claim.added,
        ours=finding.ours,
        paper=claim.paper,
        interval=finding.interval,
        missing=finding.remark,
    )
    if finding.counted is Verdict.UNTESTED:
        return Found(row, finding)
    results = [result for _, _, result in counted]
    row = replace(
        row,
        instead=_instead(paper, results),
        rivals="; ".join(_strengths(claim, counted)),
        evidence="; ".join(filter(None, [f"{len(counted)} runs", *_setup(results), finding.remark, missing])),
        missing=missing,
        runs=tuple((entry, result) for _, entry, result in counted),
    )
    return Found(row, finding, _scope(claim, full, chosen, filters, runs.suite))


def _strengths(claim: Claim, counted: list[tuple[str, PlannedRun, RunResult]]) -> Iterator[str]:
    """Say how strong each rival in errors is."""
    if not isinstance(claim, Versus):
        return
    for rival in claim.rivals:
        results = [result for side, _, result in counted if side == rival]
        if results:
            yield strength(rival, claim.metric, results)


def _compared(claim: Claim, planned: Results) -> list[ComparedRun]:
    """Return the runs that the claim compares. A side is a model, or the variant beside the claimed model's first."""
    first: dict[str, str] = {}
    chosen = []
    for entry, result in planned.runs:
        spec = entry.spec
        usual = entry.variant == first.setdefault(spec.model, entry.variant)
        own = spec.model == claim.model and (usual or entry.variant in claim.variants)
        if (
            (own or (usual and spec.model in claim.others))
            and (claim.datasets is None or spec.task.dataset in claim.datasets)
            and claim.fraction in (None, spec.task.train_fraction)
        ):
            side = spec.model if usual else entry.variant
            chosen.append(ComparedRun(side, entry, result, planned.state(entry, result)))
    return chosen


def _horizons(runs: list[ComparedRun], datasets: Collection[str]) -> list[int]:
    return sorted({run.entry.spec.task.horizon for run in runs if run.dataset in datasets})


def _complete(runs: list[ComparedRun]) -> list[str]:
    """Return the data sets of which every run is done."""
    gaps = {run.dataset for run in runs if run.state.status != "done"}
    return [name for name in _unique(run.dataset for run in runs) if name not in gaps]


def _missing(runs: list[ComparedRun]) -> str:
    """Say how many runs are missing, and name the first ones; empty if none is."""
    absent = [
        f"{run.entry.label} {textwrap.shorten(run.state.why, 80, placeholder=' ...)')}"
        for run in runs
        if run.state.status != "done"
    ]
    return f"{len(absent)} of {len(runs)} runs are not there: {first_few(absent, '; ')}" if absent else ""


def _scope(claim: Claim, full: list[ComparedRun], chosen: list[ComparedRun], filters: Filters, suite: Suite) -> str:
    """Say to which part of the claim missing runs or filters narrow the verdict; empty if to none."""
    claimed, complete, parts = _unique(run.dataset for run in full), _complete(chosen), []
    if len(complete) < len(claimed):
        parts.append(f"over {first_few(complete)} only ({len(complete)} of {len(claimed)} data sets)")
    if (horizons := _horizons(chosen, complete)) != _horizons(full, complete):
        parts.append(f"horizon {', '.join(map(str, horizons))} only")
    if filters.seeds and len(set(filters.seeds)) < len(set(suite.seeds)):
        parts.append(f"seed {', '.join(map(str, filters.seeds))} only")
    if gone := [registry.title(name) for name in claim.others if name not in {run.side for run in chosen}]:
        parts.append(f"without {', '.join(gone)}")
    return ", ".join(parts)


def _setup(results: list[RunResult]) -> list[str]:
    """Name the language models and look-backs of the runs."""
    models = [f"{_short(name)}, {'' if BACKBONES[name].pretrained else 'NOT '}pretrained" for name in _read(results)]
    contexts = sorted({result.spec.task.context for result in results})
    return [*models, f"look-back {', '.join(map(str, contexts))}"]


def _instead(paper: Paper, results: list[RunResult]) -> str:
    """Name the language model and the look-backs that are not the paper's."""
    names = _read(results)
    parts = [f"with {_short(names[0])} for {_short(paper.backbone)}"] if names and paper.backbone not in names else []
    datasets: dict[int, dict[str, None]] = {}
    for result in results:
        datasets.setdefault(result.spec.task.context, {})[result.spec.task.dataset] = None
    others = [(context, names) for context, names in datasets.items() if context != paper.context]
    return ", ".join(parts + [f"look-back {context} on {', '.join(names)}" for context, names in others])


def _read(results: list[RunResult]) -> tuple[str, ...]:
    """Return the names of the language models that these runs read."""
    return _unique(result.spec.backbone for result in results if result.spec.backbone)


def _short(backbone: str) -> str:
    """Return the title of a language model without what it says in brackets."""
    return BACKBONES[backbone].title.partition(" (")[0]


def _unique(items: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(items))


def tally(rows: Iterable[Judged]) -> str:
    """Count the claims of each verdict."""
    rows = list(rows)
    counts, parts = (Counter(row.verdict for row in some) for some in (rows, [row for row in rows if row.scope]))
    narrower = {verdict: f" ({parts[verdict]} over part of what is claimed)" for verdict in parts}
    return ", ".join(f"{verdict}: {counts[verdict]}{narrower.get(verdict, '')}" for verdict in Verdict)
