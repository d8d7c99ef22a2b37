"""The kinds of claims of the Logo-LLM paper (suites/claims.toml), and what each finds in the runs. Pure; no torch.

A kind computes a Finding: the number, its interval, and the p of two statements, that the claim is true and that it is
false. verdicts.py gathers the runs, corrects the p of all claims for their number, and reads a verdict off them:

  holds          the p of being true is below LEVEL
  holds in part  so is that of a part of it, by itself: of some data sets, or of some horizons of a single one; of a
                 claim on an average, the average must lean there too (`LEANING`). Parts that are clearly false are
                 named. Also a claim that holds, but over fewer data sets, horizons, seeds or models than claimed
  does not hold  the p of being false is below LEVEL
  inconclusive   none of these: the interval contains the other side, or does not exclude it with enough certainty
  not tested     no data set is complete, or the filters leave out what is compared; `missing` names it

What is counted or measured instead of estimated (parameters, seconds) has no p; its whole range decides. A data set
counts only if every planned run of every compared model on it is done. Intervals: bench/analysis/intervals.py.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field

from bench.analysis.intervals import (
    LEVEL,
    MOST,
    POWER,
    Interval,
    at_least,
    between_seeds,
    holm,
    over_datasets,
    over_seeds,
    ratio_of_means,
)
from bench.core.base import Frozen, Positive
from bench.core.record import Cost, RunResult
from bench.core.spec import Fraction
from bench.core.text import first_few
from bench.plan import registry
from models import PROPOSED

BELOW_ZERO, ABOVE_ZERO = (-math.inf, 0.0), (0.0, math.inf)
"""Claimed sides."""
LEANING = 2 * LEVEL
"""An average leans to the claimed side if the p of the claim is below this: the test has LEVEL on that side alone."""


class Verdict(StrEnum):
    HOLDS = "holds"
    PART = "holds in part"
    OPEN = "inconclusive"
    FAILS = "does not hold"
    UNTESTED = "not tested"


class Part(NamedTuple):
    """A part of a claim: the p of its being true and of its being false, corrected for the number of parts, and its
    interval in words."""

    true: float
    false: float
    interval: str


class Forest(NamedTuple):
    """What a finding measured, as numbers on one axis: a forest plot."""

    estimates: dict[str, Interval]
    """Part of the claim (empty: all of it) -> its number and interval."""
    form: str
    """Number format and unit of the axis, as `{:+.1f} %`."""
    claimed: tuple[float, float]
    """The ends of the claimed side; infinite where it has none."""
    printed: float | None = None
    """The paper's number."""


@dataclass(frozen=True)
class Finding:
    """Our number and its interval in words, and the evidence for and against a claim."""

    ours: str = ""
    interval: str = ""
    true: float = 1.0
    """The p of the claim being true, as evidence against its opposite; doubled, as of a two-sided test."""
    false: float = 1.0
    parts: Mapping[str, Part] = field(default_factory=dict)
    listed: bool = False
    """The claim lists separate statements, so that one of them being false leaves the others."""
    scope: str = ""
    """The part of the claim that `true` is about; empty: all of it."""
    remark: str = ""
    forest: Forest | None = None
    counted: Verdict | None = None
    """The verdict, if it comes from a count or a measurement, or if nothing can be tested."""
    leans_on: tuple[Interval, ...] = ()
    """The intervals that would all be clear of zero if the claim were decided as its numbers lean."""
    sharing: int = 1
    """Tests that share the level of one of these."""

    @property
    def p(self) -> float | None:
        """The p of the claim as one test of two sides; None if it was not tested."""
        return None if self.counted else min(self.true, self.false)

    def needed(self, times: float) -> str:
        """Say how many data sets or seeds would decide it, if they came out as these did; a correction multiplies p."""
        known = [each for each in self.leans_on if each.over]
        if not known or len(known) < len(self.leans_on):
            return ""
        unit = known[0].unit
        power = 1 - (1 - POWER) / len(known)  # so that all of them are clear with probability POWER
        counts = [each.enough(LEVEL / times / self.sharing, power) for each in known]
        if None in counts:
            return f"not even {MOST} {unit} like these would decide it"
        return f"some {max(filter(None, counts))} {unit} like these would decide it"

    def verdict(self, times: float = 1.0, parts_times: float = 1.0) -> tuple[Verdict, str, str]:
        """Return the verdict, its scope and its interval; a correction multiplies the p of claim and parts."""
        if self.counted:
            return self.counted, self.scope, self.interval
        # 1. The claim as a whole.
        if self.true * times < LEVEL:
            return (Verdict.PART if self.scope else Verdict.HOLDS), self.scope, self.interval
        # 2. Its parts.
        clear = [name for name, part in self.parts.items() if part.true * parts_times < LEVEL]
        lost = [name for name, part in self.parts.items() if part.false * parts_times < LEVEL]
        if clear and (self.listed or self.true < LEANING):
            scope = f"on {', '.join(clear)}" + (f"; clearly not on {', '.join(lost)}" if lost else "")
            return Verdict.PART, scope, "; ".join(f"{name} {self.parts[name].interval}" for name in clear + lost)
        return (Verdict.FAILS if self.false * times < LEVEL else Verdict.OPEN), "", self.interval


def _errors(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return errors: rows by dataset, horizon, fraction, tested, seed; columns by side. Only transfers, if any."""
    transfers, cell = runs[runs.tested != runs.dataset], ["dataset", "horizon", "fraction", "tested", "seed"]
    return _by_side(runs if transfers.empty else transfers, metric, cell)


def _costs(runs: pd.DataFrame, measure: Callable[[RunResult, Cost], float]) -> pd.DataFrame:
    """Return means over seeds: rows by dataset, horizon; columns by side."""
    values = [measure(result, result.cost) if result.cost else math.nan for result in runs.result]
    return _by_side(runs.assign(value=values), "value", ["dataset", "horizon"])


def _by_side(runs: pd.DataFrame, column: str, keys: list[str]) -> pd.DataFrame:
    """Average a column: index by `keys`, columns by side."""
    return pd.DataFrame(runs.groupby([*keys, "side"])[column].mean().unstack())


class Claim(Frozen, ABC):
    """A claim on cells of a suite; its kind adds what is compared and how it is judged."""

    id: str
    text: str
    short: str
    """The claim in a few words, for a sentence that lists several."""
    source: str
    kind: str
    suite: str
    added: bool = False
    """The claim is not the paper's but was added here, and is counted apart."""
    model: str = PROPOSED
    datasets: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """None: all data sets of the suite."""
    fraction: Fraction | None = None
    all_horizons: ClassVar[bool] = False
    """Whether the paper's number is the mean over all horizons and cannot be judged by fewer."""
    has_p: ClassVar[bool] = True
    """Whether it is tested, and not counted or measured."""
    on_papers_shapes: ClassVar[bool] = False
    """Whether our number is of the paper's own language model and look-back, whatever was run."""

    @property
    def others(self) -> tuple[str, ...]:
        """Models that the claimed one is compared with."""
        return ()

    @property
    def variants(self) -> tuple[str, ...]:
        """Variants that are compared with each model's first one."""
        return ()

    @property
    def paper(self) -> str:
        """The paper's number."""
        return ""

    @abstractmethod
    def judge(self, runs: pd.DataFrame) -> Finding:
        """Find what these rows of `Results.frame`, of complete data sets, say of the claim.

        Column `side` has the model, or the variant that is compared with the model's first one.
        """


class Versus(Claim):
    rivals: Annotated[tuple[str, ...], Field(min_length=1)]
    metric: Literal["mse", "mae"] = "mse"

    @property
    def others(self) -> tuple[str, ...]:
        return self.rivals

    def against(self, table: pd.DataFrame) -> dict[str, Interval]:
        """Return rival -> percent by which the model's error is above the rival's."""
        return {rival: difference(table, self.model, rival) for rival in self.rivals if rival in table}

    def part(self, found: Mapping[str, Interval]) -> Part:
        """Return how a part of the claim stands, by its differences to each rival."""
        return Part(lower_than_all(found), above_any(found), found[deciding(found)].words("+.1f"))


def deciding(found: Mapping[str, Interval]) -> str:
    """Return the rival whose p counts, for the claim or, if that is smaller, against it; of equals the nearest one."""
    if above_any(found) < lower_than_all(found):
        return min(found, key=lambda rival: (found[rival].above, -found[rival].value))
    return max(found, key=lambda rival: (found[rival].below, found[rival].value))


def lower_than_all(found: Mapping[str, Interval]) -> float:
    """Return the p of being below every rival: the largest of the p, as each of them must hold."""
    return max(each.below for each in found.values())


def above_any(found: Mapping[str, Interval]) -> float:
    """Return the p of being above at least one rival, corrected for their number (Bonferroni)."""
    return at_least(1, [each.above for each in found.values()])


def leaning(found: Mapping[str, Interval]) -> dict[str, Any]:
    """Return what the comparison with these rivals leans on: all of them if all have higher errors, else the one that
    is most clearly lower."""
    if max(each.value for each in found.values()) < 0:
        return {"leans_on": tuple(found.values())}
    return {"leans_on": (min(found.values(), key=lambda each: each.above),), "sharing": len(found)}


class BestCount(Versus):
    """The model has the lowest error on at least `printed` of `of` data sets.

    The tests are of partial conjunctions: on how many data sets it is clearly first, and on how many clearly not. First
    on more than `printed` is first on `printed` too, so that the smallest p of these counts (Hochberg's step up, for
    independent data sets). While data sets are missing it is not tested, unless the complete ones decide it.
    """

    printed: Positive
    of: Positive

    @property
    def paper(self) -> str:
        return f"{self.printed} of {self.of}"

    def judge(self, runs: pd.DataFrame) -> Finding:
        table = _errors(runs, self.metric)
        found = [self.against(part) for _, part in table.groupby(level="dataset")]
        first = sum(all(each.value <= 0 for each in rivals.values()) for rivals in found)
        unknown = [1.0] * (self.of - len(found))
        ahead, behind = [*map(lower_than_all, found), *unknown], [*map(above_any, found), *unknown]
        least, lost = (
            max((count for count in range(1, self.of + 1) if at_least(count, p) < LEVEL), default=0)
            for p in (ahead, behind)
        )
        most = self.of - lost
        true = min(at_least(count, ahead) for count in range(self.printed, self.of + 1))
        false = min(at_least(count, behind) for count in range(self.of - self.printed + 1, self.of + 1))
        remark = f"first on {first} of the {len(found)} data sets that are complete"
        if unknown and min(true, false) >= LEVEL:
            return Finding(remark=f"undecided: {remark}", counted=Verdict.UNTESTED)
        words = f"[{least}, {most}] of {self.of} data sets"
        forest = Forest({"": Interval(first, least, most)}, "{:.0f}", (self.printed, self.of), self.printed)
        return Finding(f"{first} of {len(found)}", words, true, false, forest=forest)


class LowerThan(Versus):
    """The model's mean error over data sets is lower than every rival's, in percent.

    With `printed`, both averages must say so: the mean of the percentages, and the ratio of the mean errors. If the
    error is lower, but its interval lies above `printed`, the claim holds in part.
    """

    printed: Annotated[float, Field(lt=0)] | None = None

    @property
    def paper(self) -> str:
        return "" if self.printed is None else f"{self.printed:+.1f} %"

    def judge(self, runs: pd.DataFrame) -> Finding:
        table = _errors(runs, self.metric)
        found = self.against(table)
        rival = deciding(found)
        least, true, false = found[rival], lower_than_all(found), above_any(found)
        ours, interval, scope, remarks = f"{least.value:+.1f} %", least.words("+.1f"), "", []
        leans = leaning(found)
        if self.printed is not None:
            ratios = {name: ratio(table, self.model, name) for name in found}
            ours += f" (ratio of mean errors {ratios[rival].value:+.1f} %)"
            interval = "; ratio ".join(filter(None, [interval, ratios[rival].words("+.1f")]))
            each = [(true, false), (lower_than_all(ratios), above_any(ratios))]
            if len({_side(*p) for p in each}) > 1:
                remarks.append("the two averages disagree")
            true, false = (max(p) for p in zip(*each, strict=True))
            also = leaning(ratios)
            # Averages that lean to different sides are not decided by more of the same.
            leans = leans | {"leans_on": leans["leans_on"] + also["leans_on"]} if leans.keys() == also.keys() else {}
            scope = "lower, but clearly by less than printed" if least.low > self.printed else ""
            remarks += ["by more than printed"] if least.high < self.printed else []
        parts = {name: self.part(self.against(part)) for name, part in parts_of(table).items()}
        ours += f" against {registry.title(rival)}"
        forest = Forest({"": least}, "{:+.1f} %", BELOW_ZERO, self.printed)
        remark = "; ".join(remarks)
        return Finding(ours, interval, true, false, _corrected(parts), False, scope, remark, forest, **leans)


class Ahead(Versus):
    """The model's error is lower than every rival's on each data set; every one of them is a statement of its own."""

    def judge(self, runs: pd.DataFrame) -> Finding:
        found = {name: self.against(part) for name, part in _errors(runs, self.metric).groupby(level="dataset")}
        names = runs.dataset.unique().tolist()
        rivals = {name: deciding(found[name]) for name in names}
        least = {name: found[name][rivals[name]] for name in names}
        parts = {name: self.part(found[name]) for name in names}
        each = [f"{name} {least[name].value:+.1f} % against {registry.title(rivals[name])}" for name in names]
        intervals = [f"{name} {part.interval}" for name, part in parts.items() if part.interval]
        first = sum(all(each.value < 0 for each in differences.values()) for differences in found.values())
        return Finding(
            f"{first} of {len(names)}: {', '.join(each)}",
            "; ".join(intervals),
            max(part.true for part in parts.values()),
            at_least(1, [part.false for part in parts.values()]),
            _corrected(parts) if len(names) > 1 else {},
            listed=True,
            forest=Forest(least, "{:+.1f} %", BELOW_ZERO),
            **leaning({f"{name} {rival}": each for name in names for rival, each in found[name].items()}),
        )


class Value(Claim):
    """The model's error equals `printed`, within a share of it (`tolerance`) on either side."""

    metric: Literal["mse", "mae"] = "mse"
    datasets: Annotated[tuple[str, ...], Field(min_length=1, max_length=1)]
    printed: Annotated[float, Field(gt=0)]
    runner_up: Annotated[float, Field(gt=0)]
    tolerance: Annotated[float, Field(ge=0)]
    all_horizons: ClassVar[bool] = True

    @property
    def paper(self) -> str:
        return f"{self.printed:.3f} (next {self.runner_up:.3f})"

    def judge(self, runs: pd.DataFrame) -> Finding:
        seeds = _errors(runs, self.metric)[self.model].groupby(level="seed").mean()
        low, high = (over_seeds(seeds - self.printed * (1 + sign * self.tolerance)) for sign in (-1, 1))
        true, false = max(low.above, high.below), min(low.below, high.above)
        found = over_seeds(seeds)
        better = "better than printed" if found.high < self.printed * (1 - self.tolerance) else ""
        claimed = (self.printed * (1 - self.tolerance), self.printed * (1 + self.tolerance))
        forest = Forest({"": found}, "{:.3f}", claimed, self.printed)
        beyond = [each for each, outside in ((low, low.value < 0), (high, high.value > 0)) if outside]
        leans_on = tuple(beyond or (low, high))
        words = f"{found.value:.3f}", found.words(".3f")
        return Finding(*words, true, false, remark=better, forest=forest, leans_on=leans_on)


class AboutVariant(Claim):
    variant: str

    @property
    def variants(self) -> tuple[str, ...]:
        return (self.variant,)


class VariantWorse(AboutVariant):
    """The variant's mean error is higher than that of the model's first variant, by data set, in percent."""

    metric: Literal["mse", "mae"] = "mse"

    def judge(self, runs: pd.DataFrame) -> Finding:
        table = _errors(runs, self.metric)
        found = difference(table, self.variant, self.model)
        each = {name: difference(part, self.variant, self.model) for name, part in parts_of(table).items()}
        parts = {name: Part(part.above, part.below, part.words("+.1f")) for name, part in each.items()}
        forest = Forest({"": found}, "{:+.1f} %", ABOVE_ZERO)
        words = f"{found.value:+.1f} %", found.words("+.1f")
        return Finding(*words, found.above, found.below, _corrected(parts), forest=forest, leans_on=(found,))


class TrainableShare(Claim):
    """The share of trained parameters of the paper's own shapes is below this one at every horizon. In part: at some.

    The shapes are counted once (`counts`; a test counts them again); the runs' language model stands beside them.
    """

    has_p: ClassVar[bool] = False
    on_papers_shapes: ClassVar[bool] = True
    below: Annotated[float, Field(gt=0, lt=1)]
    counts: Annotated[dict[str, tuple[Positive, Positive]], Field(min_length=1)]
    """Horizon -> parameters that train and all parameters, with the paper's backbone."""

    def judge(self, runs: pd.DataFrame) -> Finding:
        counted = {f"horizon {horizon}": [100 * trained / all_] for horizon, (trained, all_) in self.counts.items()}
        found = _below(100 * self.below, "{:.1f} %", float(np.mean(list(counted.values()))), counted)
        here = _costs(runs, lambda result, cost: 100 * cost.trainable / cost.params)[self.model]
        remark = f"counted on the paper's shapes; of the models run here {here.min():.1f} to {here.max():.1f} % train"
        return replace(found, remark=remark)


class Faster(Claim):
    """Every training epoch, with its validation, takes less time than each of the rival on the same task.

    Not tested unless all runs are of one machine that they did not share.
    """

    has_p: ClassVar[bool] = False
    rival: str

    @property
    def others(self) -> tuple[str, ...]:
        return (self.rival,)

    def judge(self, runs: pd.DataFrame) -> Finding:
        if any(result.where.shared for result in runs.result):
            remark = "the runs shared a GPU with others; repeat them one at a time"
            return Finding(remark=remark, counted=Verdict.UNTESTED)
        machines = {name for result in runs.result for name in result.where.machines}
        if len(machines) > 1:
            remark = f"the runs are of several machines: {'; '.join(sorted(machines))}"
            return Finding(remark=remark, counted=Verdict.UNTESTED)
        seconds: dict[str, dict[str, list[float]]] = {}
        for run in runs.itertuples():
            epochs = seconds.setdefault(f"{run.dataset} at horizon {run.horizon}", {}).setdefault(run.side, [])
            epochs += [epoch.seconds for epoch in run.result.curve]
        fastest = _costs(runs, lambda result, cost: result.epoch_s)
        ratios = {
            cell: [ours / theirs for ours in sides[self.model] for theirs in sides[self.rival]]
            for cell, sides in seconds.items()
        }
        of_rival = f" of {registry.title(self.rival)}'s time"
        found = _below(1, "{:.2f}", (fastest[self.model] / fastest[self.rival]).mean(), ratios, of_rival)
        return replace(found, remark=f"epochs on {', '.join(machines)}")


class LayerTrend(AboutVariant):
    """A probe's score changes in this direction from the first block to the last, and more than in the random twin.

    States are of blocks alone, before the final norm and without training. The change is that of a straight line
    through all blocks; over a single data set its interval is over seeds, which draw the input layer and the twin.
    """

    measure: Literal["local_r2", "trend_r2"]
    direction: Literal["falls", "rises"]

    def judge(self, runs: pd.DataFrame) -> Finding:
        changes = []
        for result in runs.result:
            blocks = [each for each in result.layers if each.stage == "untrained" and each.block and not each.normed]
            if len(blocks) < 2:
                return Finding(remark="it needs probes of two blocks or more", counted=Verdict.UNTESTED)
            slope = np.polyfit([each.block for each in blocks], [getattr(each, self.measure) for each in blocks], 1)[0]
            changes.append(slope * (blocks[-1].block - blocks[0].block))
        table = _by_side(runs.assign(change=changes), "change", ["dataset", "seed"])
        ours, twin = table[self.model], table[self.variant]
        found, more = _over(ours), _over(ours - twin)
        towards, away = ("above", "below") if self.direction == "rises" else ("below", "above")
        true = max(getattr(found, towards), getattr(more, towards))
        false = at_least(1, [getattr(found, away), getattr(more, away)])
        remark = f"beyond the twin {more.value:+.3f} {more.words('+.3f')}".rstrip()
        words = f"{found.value:+.3f} R2, twin {twin.groupby(level='dataset').mean().mean():+.3f}"
        claimed = ABOVE_ZERO if self.direction == "rises" else BELOW_ZERO
        forest = Forest({"": found, "beyond the twin": more}, "{:+.3f}", claimed)
        sign = 1 if self.direction == "rises" else -1
        against = [each for each in (found, more) if sign * each.value < 0]
        leans: dict[str, Any] = {"leans_on": (found, more)}
        if against:
            leans = {"leans_on": (min(against, key=lambda each: getattr(each, away)),), "sharing": 2}
        return Finding(words, found.words("+.3f"), true, false, remark=remark, forest=forest, **leans)


KINDS: dict[str, type[Claim]] = {
    "best_count": BestCount,
    "lower_than": LowerThan,
    "ahead": Ahead,
    "value": Value,
    "variant_worse": VariantWorse,
    "trainable_share": TrainableShare,
    "faster": Faster,
    "layer_trend": LayerTrend,
}


def parts_of(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return name -> rows of the parts of a claim: its data sets, else the horizons of the only one; one is none."""
    for level in ("dataset", "horizon"):
        if len(names := table.index.unique(level)) > 1:
            prefix = "" if level == "dataset" else "horizon "
            return {f"{prefix}{name}": table.xs(name, level=level, drop_level=False) for name in names}
    return {}


def difference(table: pd.DataFrame, one: str, other: str) -> Interval:
    """Return the percent by which one side's error is above the other's, horizons averaged first.

    Over data sets if there are several, else over the seeds of both.
    """
    errors = table[[one, other]].groupby(level=["dataset", "fraction", "tested", "seed"]).mean()
    if len(errors.index.unique("dataset")) == 1:
        return between_seeds(*(errors[side].unstack("seed").to_numpy().T for side in (one, other)))
    cells = errors.groupby(level=["dataset", "fraction", "tested"]).mean()
    return over_datasets((100 * (cells[one] / cells[other] - 1)).groupby(level="dataset").mean())


def ratio(table: pd.DataFrame, one: str, other: str) -> Interval:
    """Return the percent by which one side's mean error over data sets is above the other's."""
    errors = table[[one, other]].groupby(level="dataset").mean()
    if len(errors) > 1:
        return ratio_of_means(errors[one], errors[other])
    return difference(table, one, other)


def _over(values: pd.Series) -> Interval:
    """Return the mean over data sets, else over the seeds of the single one."""
    by_dataset = values.groupby(level="dataset").mean()
    return over_datasets(by_dataset) if len(by_dataset) > 1 else over_seeds(values)


def _corrected(parts: Mapping[str, Part]) -> dict[str, Part]:
    """Correct both p of parts for their number (Holm)."""
    true, false = (holm([getattr(part, side) for part in parts.values()]) for side in ("true", "false"))
    found = zip(parts.items(), true, false, strict=True)
    return {name: Part(p_true, p_false, part.interval) for (name, part), p_true, p_false in found}


def _side(true: float, false: float) -> int:
    return 1 if true < LEVEL else -1 if false < LEVEL else 0


def _below(limit: float, form: str, value: float, measured: Mapping[str, Sequence[float]], more: str = "") -> Finding:
    """Return the finding on whether all that was measured, by part, is below the limit, with its range.

    `more`: what our number in words says behind the number.
    """
    clear = [name for name, values in measured.items() if max(values) < limit]
    every = [value for values in measured.values() for value in values]
    low, high = (form.partition(" ")[0].format(value) for value in (min(every), max(every)))
    interval = f"[{low}, {high}] over {len(every)} values: {first_few(measured, most=4)}"
    if len(clear) == len(measured):
        verdict, scope = Verdict.HOLDS, ""
    elif clear:
        verdict, scope = Verdict.PART, f"on {', '.join(clear)}"
    else:
        verdict, scope = (Verdict.FAILS if min(every) >= limit else Verdict.OPEN), ""
    forest = Forest({"": Interval(value, min(every), max(every))}, form, (0.0, limit))
    return Finding(form.format(value) + more, interval, scope=scope, counted=verdict, forest=forest)
