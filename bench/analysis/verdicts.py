"""suites/claims.toml + records -> a verdict on each claim, as text, Markdown, LaTeX, CSV or JSON. Pure; no torch."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pandas as pd
from pydantic import Field

from bench.analysis.claims import KINDS, Claim, Finding, Forest, Verdict, Versus
from bench.analysis.intervals import LEVEL, holm
from bench.analysis.published import strength
from bench.analysis.results import Results, look_backs
from bench.core.base import BenchError, Frozen, Positive, UnknownName, parse, read_toml
from bench.core.record import RunResult
from bench.core.spec import RunSpec
from bench.core.text import first_few
from bench.plan import registry
from bench.plan import suite as suites
from bench.plan.settings import CLAIMS
from bench.plan.suite import Filters, PlannedRun, Suite
from models.llm_files import BACKBONES

INTERVALS = (
    "Intervals are of 95 %: over data sets Student's t at a stricter level, as a few skewed values are covered too "
    "little (p is divided by 0.3 for it); over seeds they show training noise on one test period. Verdicts are "
    "corrected for the number of claims (Holm); docs/verdicts.md says how they are found."
)
"""What a caption says of intervals and verdicts."""
ReadSuite = Callable[[Suite, Filters], Results]
"""Pairs the planned runs of a suite with their records."""


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
            raise BenchError(f"{place}: there are two of this id. Do: rename one")
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
    short: str
    """The claim in a few words."""
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
    reader: str = ""
    """Language model that is not the paper's; a part of `instead`."""
    instead: str = ""
    """Language model and look-backs that are not the paper's."""
    ours: str = ""
    paper: str = ""
    interval: str = ""
    rivals: str = ""
    """How strong each rival is: its distance from its published values at the same look-back."""
    evidence: str = ""
    needed: str = ""
    """How many data sets or seeds would decide it, if it is inconclusive; a part of `evidence` too."""
    missing: str = ""
    """Why it is not tested, or which runs are missing."""
    forest: Forest | None = None
    """The numbers of `ours`, `interval` and `paper`."""
    runs: tuple[tuple[PlannedRun, RunResult], ...] = ()
    """The runs behind the verdict."""

    @property
    def judgement(self) -> str:
        """The verdict, the one before the correction if that was another, its scope, and what is not the paper's."""
        before = f"{self.raw} before correction" if self.raw is not self.verdict else ""
        return ", ".join(filter(None, [self.verdict, before, self.scope, self.instead]))

    @property
    def test(self) -> str:
        """The interval and both p."""
        p = "" if self.p is None else f"p {self.p:g}, corrected {self.p_corrected:g}"
        return "; ".join(filter(None, [self.interval, p]))

    def words(self) -> dict[str, object]:
        """Return the fields that are words and p."""
        return {name: value for name, value in vars(self).items() if name not in ("runs", "forest")}

    def numbers(self) -> dict[str, object]:
        """Return the numbers that a forest plot draws: the paper's, and each part's with its interval."""
        if not self.forest:
            return {"printed": None, "estimates": []}
        found = self.forest.estimates.items()
        rows = [{"part": part, "value": each.value, "low": each.low, "high": each.high} for part, each in found]
        finite = [{name: None if value != value else value for name, value in row.items()} for row in rows]
        return {"printed": self.forest.printed, "estimates": finite}


class SuiteRuns(NamedTuple):
    """The runs of one suite: all planned ones, and those within the filters with their records."""

    suite: Suite
    full: Results = Results([])
    """For one seed, without records."""
    chosen: Results = Results([])
    refusal: str = ""
    """Why the suite cannot be planned with these filters."""


def judged(claims: list[Claim], paper: Paper, filters: Filters, read: ReadSuite) -> list[Judged]:
    """Judge every claim on its own suite. Raises BenchError for filters that do not fit the suite `paper` either."""
    # 1. Refuse filters that the suite `paper` would refuse; read each suite once.
    main = suites.load_suite("paper")
    suites.entries(main, filters.model_copy(update={"seeds": main.seeds[:1]}))
    names = _unique(claim.suite for claim in claims)
    runs = {name: _suite_runs(suites.load_suite(name), filters, read) for name in names}
    # 2. Judge each by itself, then correct for their number.
    return _corrected([_judged(claim, paper, filters, runs[claim.suite]) for claim in claims])


class Found(NamedTuple):
    """A claim and what was found of it, before the correction for the number of claims."""

    row: Judged
    finding: Finding
    missing: str = ""
    """The part of the claim that missing runs and filters leave; empty: all of it."""

    def judged(self, p: float | None = None, family: int = 1, undecided: int = 1) -> Judged:
        """Return the claim with its verdict; `p` is the finding's after correction for the `family` of claims, if any.

        `undecided`: claims that are not decided, by whose number the next p to be clear is multiplied.
        """
        raw, *_ = self._verdict(1.0, 1.0)
        times = p / self.finding.p if p is not None and self.finding.p else 1.0
        verdict, scope, interval = self._verdict(times, family)
        needed = self.finding.needed(undecided) if verdict is Verdict.OPEN else ""
        evidence = "; ".join(filter(None, [self.row.evidence, needed]))
        row = replace(self.row, verdict=verdict, raw=raw, scope=scope, interval=interval, evidence=evidence)
        return replace(row, p=_rounded(self.finding.p), p_corrected=_rounded(p), needed=needed)

    def _verdict(self, times: float, parts_times: float) -> tuple[Verdict, str, str]:
        """Return verdict, scope and interval; what holds where not all of the claim is there, holds in part."""
        verdict, scope, interval = self.finding.verdict(times, parts_times)
        part = Verdict.PART if verdict is Verdict.HOLDS and self.missing else verdict
        return part, ", ".join(filter(None, [scope, self.missing])), interval


def _rounded(p: float | None) -> float | None:
    """Return p with two significant digits, or with as many as show on which side of LEVEL it is."""
    if p is None:
        return None
    return next(each for digits in range(2, 18) if ((each := float(f"{p:.{digits}g}")) < LEVEL) == (p < LEVEL))


def _corrected(found: list[Found]) -> list[Judged]:
    """Return the verdicts after correction for the number of all claims of a block that can have a p, tested or not.

    The p of claims are corrected by Holm's method; those of parts, which a claim has several of, are multiplied
    (Bonferroni), so that no part is named by the rejection of another claim's.
    """
    rows = {each.row.id: each.judged() for each in found}
    for added in (False, True):
        family = [each for each in found if each.row.added is added and KINDS[each.row.kind].has_p]
        claims = holm([1.0 if each.finding.p is None else each.finding.p for each in family])
        undecided = sum(p >= LEVEL for p in claims)
        for each, p in zip(family, claims, strict=True):
            if each.finding.p is not None:
                rows[each.row.id] = each.judged(p, len(family), undecided)
    return list(rows.values())


def _suite_runs(suite: Suite, filters: Filters, read: ReadSuite) -> SuiteRuns:
    """Read a suite under the filters, cut to the names that it has, because it would refuse others."""
    try:
        entries = suites.entries(suite, Filters(seeds=suite.seeds[:1], backbone=filters.backbone))
    except BenchError as error:
        return SuiteRuns(suite, refusal=str(error))
    full = Results([(entry, None) for entry in entries])
    chosen = full.own
    columns = {"models": "model", "datasets": "dataset", "horizons": "horizon"}
    for name, column in columns.items():
        if wanted := getattr(filters, name):
            chosen = chosen[chosen[column].isin(wanted)]
    cut = {name: tuple(chosen[column].unique().tolist()) for name, column in columns.items()}
    return SuiteRuns(suite, full, Results([]) if chosen.empty else read(suite, filters.model_copy(update=cut)))


def _judged(claim: Claim, paper: Paper, filters: Filters, runs: SuiteRuns) -> Found:
    # 1. Keep the runs of the data sets that are complete.
    full, chosen = _compared(claim, runs.full), _compared(claim, runs.chosen)
    complete, missing, sides = _complete(chosen), _missing(chosen), set(chosen.side)
    counted = chosen[chosen.dataset.isin(complete)]
    # 2. Judge, if there is something to compare.
    untested = partial(Finding, counted=Verdict.UNTESTED)
    if runs.refusal:
        finding = untested(remark=runs.refusal)
    elif not {claim.model, *claim.variants} <= sides or (claim.others and not sides & set(claim.others)):
        finding = untested(remark="the filters leave out what it is about")
    elif not complete:
        finding = untested(remark=f"no data set is complete: {missing}")
    elif claim.all_horizons and _horizons(full, complete) != _horizons(chosen, complete):
        finding = untested(remark="the paper's number is the mean over all horizons")
    else:
        finding = claim.judge(counted)
    # 3. Say it in words.
    row = Judged(
        claim.id, claim.text, claim.short, claim.source, claim.suite, claim.kind, claim.added, paper=claim.paper
    )
    if finding.counted is Verdict.UNTESTED:
        return Found(replace(row, missing=finding.remark), finding)
    once = _once(counted)
    specs = [entry.spec for entry in once.entry]
    reader = "" if claim.on_papers_shapes else _reader(paper, specs)
    row = replace(
        row,
        reader=reader,
        instead="" if claim.on_papers_shapes else ", ".join(filter(None, [reader, _look_backs(paper, specs)])),
        ours=finding.ours,
        forest=finding.forest,
        rivals=_strengths(claim, counted) if isinstance(claim, Versus) else "",
        evidence="; ".join(filter(None, [f"{len(once)} runs", *_setup(specs), finding.remark, missing])),
        missing=missing,
        runs=tuple(zip(once.entry, once.result, strict=True)),
    )
    return Found(row, finding, _scope(claim, full, chosen, filters, runs.suite))


def _strengths(claim: Versus, counted: pd.DataFrame) -> str:
    """Say how far each rival's errors are from its published ones at the same look-back, and which have none."""
    known, unknown = [], []
    for rival in (name for name in claim.rivals if name in set(counted.side)):
        apart, cells = strength(rival, claim.metric, counted[counted.side == rival])
        if cells:
            known.append(f"{registry.title(rival)} {apart:+.1f} % from published over {cells} cells")
        else:
            unknown.append(registry.title(rival))
    none = f"no published value at this look-back: {', '.join(unknown)}" if unknown else ""
    return "; ".join(filter(None, [*known, none]))


def _compared(claim: Claim, planned: Results) -> pd.DataFrame:
    """Return the rows of the runs that the claim compares, with their `side`, as `Claim.judge` takes them."""
    frame = planned.frame.assign(side=planned.frame.model.where(planned.frame.usual, planned.frame.variant))
    own = (frame.model == claim.model) & (frame.usual | frame.variant.isin(claim.variants))
    chosen = own | (frame.usual & frame.model.isin(claim.others))
    if claim.datasets:
        chosen &= frame.dataset.isin(claim.datasets)
    if claim.fraction:
        chosen &= frame.fraction == claim.fraction
    return frame[chosen]


def _once(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row per run."""
    return frame[frame.tested == frame.dataset]


def _horizons(frame: pd.DataFrame, datasets: list[str]) -> list[int]:
    return sorted(frame.horizon[frame.dataset.isin(datasets)].unique().tolist())


def _complete(frame: pd.DataFrame) -> list[str]:
    """Return the data sets of which every run is done."""
    done = frame.status.eq("done").groupby(frame.dataset, sort=False).all()
    return list(done.index[done])


def _missing(frame: pd.DataFrame) -> str:
    """Say how many runs are missing, and name the first ones; empty if none is."""
    runs = _once(frame)
    absent = [
        f"{run.entry.label} {textwrap.shorten(run.why, 80, placeholder=' ...)')}"
        for run in runs[runs.status != "done"].itertuples()
    ]
    return f"{len(absent)} of {len(runs)} runs are not there: {first_few(absent, '; ')}" if absent else ""


def _scope(claim: Claim, full: pd.DataFrame, chosen: pd.DataFrame, filters: Filters, suite: Suite) -> str:
    """Say to which part of the claim missing runs or filters narrow the verdict; empty if to none."""
    if claim.on_papers_shapes:
        return ""
    complete, claimed, parts = _complete(chosen), full.dataset.nunique(), []
    if len(complete) < claimed:
        parts.append(f"over {first_few(complete)} only ({len(complete)} of {claimed} data sets)")
    if (horizons := _horizons(chosen, complete)) != _horizons(full, complete):
        parts.append(f"horizon {', '.join(map(str, horizons))} only")
    if filters.seeds and len(set(filters.seeds)) < len(set(suite.seeds)):
        parts.append(f"seed {', '.join(map(str, filters.seeds))} only")
    if gone := [registry.title(name) for name in claim.others if name not in set(chosen.side)]:
        parts.append(f"without {', '.join(gone)}")
    return ", ".join(parts)


def _setup(specs: list[RunSpec]) -> list[str]:
    """Name the language models and look-backs of the runs."""
    models = [f"{_short(name)}, {'' if BACKBONES[name].pretrained else 'NOT '}pretrained" for name in _read(specs)]
    return [*models, f"look-back {', '.join(map(str, sorted(look_backs(specs))))}"]


def _reader(paper: Paper, specs: list[RunSpec]) -> str:
    """Name the language model if it is not the paper's."""
    names = _read(specs)
    return f"with {_short(names[0])} for {_short(paper.backbone)}" if names and paper.backbone not in names else ""


def _look_backs(paper: Paper, specs: list[RunSpec]) -> str:
    """Name the look-backs that are not the paper's."""
    others = {context: names for context, names in look_backs(specs).items() if context != paper.context}
    return ", ".join(f"look-back {context} on {', '.join(names)}" for context, names in others.items())


def _read(specs: list[RunSpec]) -> tuple[str, ...]:
    """Return the names of the language models that these runs read."""
    return _unique(spec.backbone for spec in specs if spec.backbone)


def _short(backbone: str) -> str:
    """Return the title of a language model without what it says in brackets."""
    return BACKBONES[backbone].title.partition(" (")[0]


def _unique(items: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(items))


def blocks(rows: Iterable[Judged]) -> dict[str, list[Judged]]:
    """Return title -> claims: the paper's own, then those that were added here; blocks without a claim are left out."""
    found: dict[str, list[Judged]] = {"The paper's claims": [], "Added here, not claimed by the paper": []}
    for row in rows:
        list(found.values())[row.added].append(row)
    return {title: claims for title, claims in found.items() if claims}


def tally(rows: Sequence[Judged]) -> str:
    """Count the claims of each verdict."""
    counts, parts = (Counter(row.verdict for row in some) for some in (rows, [row for row in rows if row.scope]))
    narrower = {verdict: f" ({parts[verdict]} over part of what is claimed)" for verdict in parts}
    return ", ".join(f"{verdict}: {counts[verdict]}{narrower.get(verdict, '')}" for verdict in Verdict)
