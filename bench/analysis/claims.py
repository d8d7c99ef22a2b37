"""The kinds of claims of the Logo-LLM paper (suites/claims.toml), and how each is judged. Pure; no torch.

A claim's kind defines what is computed and when it counts as true; verdicts.py gathers the runs. A data set counts
only if every planned run of every compared model on it is done. Intervals resample data sets (bootstrap of the mean,
95 %); for a single data set they are the range over seeds, over all pairs of seeds if two models are compared. The
verdicts:

  holds          as claimed on all data sets claimed, and the interval does not reach the other side
  holds in part  the claimed side, but the interval reaches the other one, or (see each kind) only a part is true; also
                 a claim that holds, but over fewer data sets, horizons, seeds or models than claimed (`scope`)
  does not hold  the other side; over fewer data sets than claimed, `scope` names them
  not tested     no data set is complete, or the filters leave out what is compared; `missing` names it
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from bench.analysis.stats import bootstrap
from bench.core.base import Frozen, Positive
from bench.core.record import Cost, RunResult
from bench.plan import registry
from bench.plan.settings import Fraction
from models import PROPOSED


class Verdict(StrEnum):
    HOLDS = "holds"
    PART = "holds in part"
    FAILS = "does not hold"
    UNTESTED = "not tested"


@dataclass(frozen=True)
class Finding:
    """The verdict of a kind on the runs, our number and its interval in words, and a remark."""

    verdict: Verdict
    ours: str = ""
    interval: str = ""
    remark: str = ""


@dataclass(frozen=True)
class Interval:
    """A number with its interval; NaN bounds for one data set and one seed."""

    value: float
    low: float
    high: float
    over: str = ""

    def clear(self, sign: int) -> bool:
        """Tell whether the number and its interval are above zero (`sign` 1), or below (-1)."""
        return min(sign * self.value, sign * self.low, sign * self.high) > 0 and not math.isnan(self.low)

    def words(self, form: str) -> str:
        """Return the bounds in this number format; empty without bounds."""
        return "" if math.isnan(self.low) else f"[{self.low:{form}}, {self.high:{form}}] over {self.over}"


def _errors(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Average over horizons: rows by dataset, fraction, tested, seed; columns by side. Only transfers, if any."""
    transfers = runs[runs.tested != runs.dataset]
    return _by_side(runs if transfers.empty else transfers, metric, ["dataset", "fraction", "tested", "seed"])


def _costs(runs: pd.DataFrame, measure: Callable[[RunResult, Cost], float]) -> pd.DataFrame:
    """Return means over seeds: rows by dataset, horizon; columns by side."""
    values = [measure(result, result.cost) if result.cost else math.nan for result in runs.result]
    return _by_side(runs.assign(value=values), "value", ["dataset", "horizon"])


def _by_side(runs: pd.DataFrame, column: str, keys: list[str]) -> pd.DataFrame:
    """Average a column: index by `keys`, columns by side."""
    return pd.DataFrame(runs.groupby([*keys, "side"])[column].mean().unstack())


class Claim(Frozen, ABC):
    """A claim of the paper on cells of a suite; its kind adds what is compared and how it is judged."""

    id: str
    text: str
    source: str
    kind: str
    suite: str
    model: str = PROPOSED
    datasets: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """None: all data sets of the suite."""
    fraction: Fraction | None = None
    all_horizons: ClassVar[bool] = False
    """Whether the paper's number is the mean over all horizons and cannot be judged by fewer."""

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
        """Judge the claim by these rows of `Results.frame`, of complete data sets.

        Column `side` has the model, or the variant that is compared with the model's first one.
        """


class Versus(Claim):
    rivals: Annotated[tuple[str, ...], Field(min_length=1)]
    metric: Literal["mse", "mae"] = "mse"

    @property
    def others(self) -> tuple[str, ...]:
        return self.rivals

    def against(self, table: pd.DataFrame) -> tuple[str, dict[str, Interval]]:
        """Return the best rival, and rival -> percent by which the model's error is above the rival's."""
        found = {rival: _difference(table, self.model, rival) for rival in self.rivals if rival in table}
        return max(found, key=lambda rival: found[rival].value), found


class BestCount(Versus):
    """The model has the lowest error on `printed` data sets (ties count). In part: on fewer, but the interval reaches
    `printed`. While data sets are missing it is not tested, unless the complete ones decide it."""

    printed: Positive
    of: Positive

    @property
    def paper(self) -> str:
        return f"{self.printed} of {self.of}"

    def judge(self, runs: pd.DataFrame) -> Finding:
        means = _errors(runs, self.metric).groupby(level="dataset").mean()
        first = means[self.model].eq(means.min(axis=1)).astype(float)
        n, won = len(first), round(first.sum())
        share = _interval(first)
        found = Interval(n * share.value, n * share.low, n * share.high, share.over)
        if won >= self.printed:
            verdict = Verdict.HOLDS
        elif won + self.of - n >= self.printed:
            return Finding(Verdict.UNTESTED, remark=f"undecided: best on {won} of the {n} data sets that are complete")
        else:
            verdict = Verdict.PART if n >= self.of and found.high >= self.printed else Verdict.FAILS
        return Finding(verdict, f"{won} of {n}", found.words(".1f"))


class LowerThan(Versus):
    """The model's mean error is lower than every rival's, by data set, in percent. In part: also if it is lower by less
    than `printed` and the interval does not reach `printed`."""

    printed: Annotated[float, Field(lt=0)] | None = None

    @property
    def paper(self) -> str:
        return "" if self.printed is None else f"{self.printed:+.1f} %"

    def judge(self, runs: pd.DataFrame) -> Finding:
        nearest, found = self.against(_errors(runs, self.metric))
        least = found[nearest]
        reached = self.printed is None or least.value <= self.printed or least.low <= self.printed
        holds = reached and all(each.clear(-1) for each in found.values())
        verdict = _grade(holds, least.value < 0)
        return Finding(verdict, f"{least.value:+.1f} % against {registry.title(nearest)}", least.words("+.1f"))


class Ahead(Versus):
    """The model's error is lower than every rival's on each data set for all seeds. In part: on some, or for some."""

    def judge(self, runs: pd.DataFrame) -> Finding:
        table = _errors(runs, self.metric)
        names = list(dict.fromkeys(table.index.get_level_values("dataset")))
        compared = {name: self.against(table.loc[[name]]) for name in names}
        least = {name: found[nearest] for name, (nearest, found) in compared.items()}
        clear = all(each.clear(-1) for _, found in compared.values() for each in found.values())
        ahead = [name for name in names if least[name].value < 0]
        verdict = _grade(clear, bool(ahead))
        each = [f"{name} {least[name].value:+.1f} % against {registry.title(compared[name][0])}" for name in names]
        intervals = [f"{name} {words}" for name in names if (words := least[name].words("+.1f"))]
        return Finding(verdict, f"{len(ahead)} of {len(names)}: {', '.join(each)}", "; ".join(intervals))


class Value(Claim):
    """The model's error is at most `printed`, plus a share of it (`tolerance`). In part: above, but the best seed
    reaches the limit, or the mean is below the paper's error of the next model."""

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
        seeds = _errors(runs, self.metric)[self.model]
        low, high = (seeds.min(), seeds.max()) if len(seeds) > 1 else (math.nan, math.nan)
        found, limit = Interval(seeds.mean(), low, high, f"{len(seeds)} seeds"), self.printed * (1 + self.tolerance)
        near = found.low <= limit or found.value < self.runner_up
        verdict = _grade(found.value <= limit, near)
        return Finding(verdict, f"{found.value:.3f}", found.words(".3f"))


class AboutVariant(Claim):
    variant: str

    @property
    def variants(self) -> tuple[str, ...]:
        return (self.variant,)


class VariantWorse(AboutVariant):
    """The variant's mean error is higher than that of the model's first variant, by data set, in percent."""

    metric: Literal["mse", "mae"] = "mse"

    def judge(self, runs: pd.DataFrame) -> Finding:
        found = _difference(_errors(runs, self.metric), self.variant, self.model)
        verdict = _grade(found.clear(1), found.value > 0)
        return Finding(verdict, f"{found.value:+.1f} %", found.words("+.1f"))


class TrainableShare(Claim):
    """The share of trained parameters is below this one at every horizon. In part: at some."""

    below: Annotated[float, Field(gt=0, lt=1)]

    def judge(self, runs: pd.DataFrame) -> Finding:
        shares = _costs(runs, lambda result, cost: 100 * cost.trainable / cost.params)[self.model]
        return _everywhere(shares, 100 * self.below, "{:.1f} %")


class Faster(Claim):
    """The fastest training epoch, with its validation, takes fewer seconds at every horizon. In part: at some.

    Not tested unless all runs are of one machine that they did not share.
    """

    rival: str

    @property
    def others(self) -> tuple[str, ...]:
        return (self.rival,)

    def judge(self, runs: pd.DataFrame) -> Finding:
        if any(result.where.shared for result in runs.result):
            return Finding(Verdict.UNTESTED, remark="the runs shared a GPU with others; repeat them one at a time")
        machines = {name for result in runs.result for name in result.where.machines}
        if len(machines) > 1:
            return Finding(Verdict.UNTESTED, remark=f"the runs are of several machines: {'; '.join(sorted(machines))}")
        seconds = _costs(runs, lambda result, cost: result.epoch_s)
        ratios = seconds[self.model] / seconds[self.rival]
        return _everywhere(ratios, 1, "{:.2f} of " + registry.title(self.rival) + "'s time")


class LayerTrend(AboutVariant):
    """A probe's score changes in this direction from the first block to the last, after training, and more than in the
    random twin. In part: the direction is right."""

    measure: Literal["local_r2", "trend_r2"]
    direction: Literal["falls", "rises"]

    def judge(self, runs: pd.DataFrame) -> Finding:
        changes = []
        for result in runs.result:
            read = {x.block: getattr(x, self.measure) for x in result.layers if x.stage == "trained" and x.block > 0}
            if len(read) < 2:
                return Finding(Verdict.UNTESTED, remark="it needs probes of two blocks or more")
            changes.append(np.polyfit(list(read), list(read.values()), 1)[0] * (max(read) - min(read)))
        table = _by_side(runs.assign(change=changes), "change", ["dataset", "seed"])
        ours, twin = table[self.model], table[self.variant]
        found = _interval(ours.groupby(level="dataset").mean(), ours.min(), ours.max(), len(ours))
        gaps = (ours.min() - twin.max(), ours.max() - twin.min(), len(ours))
        more = _interval((ours - twin).groupby(level="dataset").mean(), *gaps)
        sign = 1 if self.direction == "rises" else -1
        holds = found.clear(sign) and more.clear(sign)
        verdict = _grade(holds, sign * found.value > 0)
        remark = f"beyond the twin {more.value:+.3f} {more.words('+.3f')}".rstrip()
        return Finding(verdict, f"{found.value:+.3f} R2, twin {twin.mean():+.3f}", found.words("+.3f"), remark)


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


def _difference(table: pd.DataFrame, one: str, other: str) -> Interval:
    """Return the percent by which one side's error is above the other's: by cell, by data set, then over data sets."""
    cells = table[[one, other]].groupby(level=["dataset", "fraction", "tested"]).mean()
    by_dataset = (100 * (cells[one] / cells[other] - 1)).groupby(level="dataset").mean()
    seeds = table.index.unique("seed")
    ours, theirs = table[one].unstack("seed"), table[other].unstack("seed")
    pairs = [float((100 * (ours[i] / theirs[j] - 1)).mean()) for i in seeds for j in seeds]
    return _interval(by_dataset, min(pairs), max(pairs), len(seeds))


def _interval(by_dataset: pd.Series, low: float = math.nan, high: float = math.nan, seeds: int = 1) -> Interval:
    """Return the mean over data sets with its bootstrap interval; for one data set with the range over seeds."""
    value = float(by_dataset.mean())
    if len(by_dataset) > 1:
        return Interval(value, *bootstrap(by_dataset.to_numpy(), np.mean), f"{len(by_dataset)} data sets")
    return Interval(value, low, high, f"{seeds} seeds") if seeds > 1 else Interval(value, math.nan, math.nan)


def _grade(holds: bool, in_part: bool) -> Verdict:
    return Verdict.HOLDS if holds else Verdict.PART if in_part else Verdict.FAILS


def _everywhere(values: pd.Series, limit: float, form: str) -> Finding:
    """Return a finding that holds if all horizons are below the limit, in part if some are; with their range."""
    below = values.lt(limit)
    verdict = _grade(below.all(), below.any())
    low, high = (form.partition(" ")[0].format(value) for value in (values.min(), values.max()))
    return Finding(verdict, form.format(values.mean()), f"[{low}, {high}] over {len(values)} horizons")
