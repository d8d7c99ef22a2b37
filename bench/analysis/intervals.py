"""Intervals and tests of a number: over data sets, over the seeds of one model or of two. Pure; no torch.

An interval is of 95 %. Its two p, of lying above and below zero, are doubled one-sided ones, so that `LEVEL` is the
level of a two-sided test; `above` is below LEVEL only if the whole interval is above zero.

Over data sets, the values are each data set's mean over seeds and horizons. They scatter by data set and by seed within
it, so Student's interval on them is the hierarchical one. Of a few skewed values it covers too little: 90 % for four of
an exponential distribution, where a percentile bootstrap covers 75 % (and 79 % for four normal ones). It is therefore
taken at `1 - STRICTNESS * LEVEL` (98.5 %), which covers at least 93 % of four to nine values, normal or exponential:
`python docs/coverage.py` prints the simulation, and a test holds it.

Over a single data set, the interval of a difference of two models is Welch's, over the seeds of each. It shows training
noise on one test period and says nothing of other data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

LEVEL = 0.05
"""Significance level of every test of the bench."""
STRICTNESS = 0.3
"""Share of LEVEL at which Student's interval over data sets is taken."""
POWER, MOST = 0.8, 1000
"""Probability with which enough values decide a claim, and the most values that are looked for."""
DECIMALS = 9
"""Values are rounded to these, so that equal ones have no scatter."""


@dataclass(frozen=True)
class Interval:
    """A number with its interval and the p of being above and below zero; NaN and 1 from a single value."""

    value: float
    low: float = math.nan
    high: float = math.nan
    above: float = 1.0
    below: float = 1.0
    over: str = ""
    effect: float = 0.0
    """Distance of the mean from zero, in standard deviations of one value; 0 if no number of values would show it."""
    freedom: float = 1.0
    """Degrees of freedom that each value after the first adds."""
    strictness: float = 1.0

    @property
    def unit(self) -> str:
        """What the interval is over."""
        return "data sets" if self.over.endswith("data sets") else "seeds"

    def enough(self, level: float, power: float = POWER) -> int | None:
        """Return how many values would be clear of zero at this level with this probability; None beyond MOST.

        They are taken to scatter as those of this interval do, around the same mean (noncentral t).
        """
        from scipy.special import nctdtr, stdtrit

        if math.isinf(self.effect):
            return 2
        for count in range(2, MOST + 1) if self.effect else ():
            degrees = self.freedom * (count - 1)
            reach = stdtrit(degrees, 1 - self.strictness * level / 2)
            if nctdtr(degrees, self.effect * math.sqrt(count), reach) <= 1 - power:
                return count
        return None

    def words(self, form: str) -> str:
        """Return the bounds in this number format; empty without bounds."""
        return "" if math.isnan(self.low) else f"[{self.low:{form}}, {self.high:{form}}] over {self.over}"


def over_datasets(values: Sequence[float]) -> Interval:
    """Return the mean of one value per data set, with Student's interval at the stricter level."""
    return _over(values, STRICTNESS, "data sets")


def over_seeds(values: Sequence[float]) -> Interval:
    """Return the mean of one value per seed, with Student's interval: training noise on one test period."""
    return _over(values, 1.0, "seeds")


def between_seeds(ours: np.ndarray, theirs: np.ndarray) -> Interval:
    """Return by how many percent our errors are above theirs, with Welch's interval over the seeds of both.

    `ours` and `theirs`: errors `[seeds, cells]` on one data set. They are taken in units of the rival's mean error in
    the cell, so that all cells weigh alike, and averaged over cells.
    """
    samples = [100 * (errors / theirs.mean(0)).mean(-1).round(DECIMALS) for errors in (ours, theirs)]
    counts = [len(sample) for sample in samples]
    value = float(round(samples[0].mean() - samples[1].mean(), DECIMALS))
    if min(counts) < 2:
        return Interval(value)
    variances = [float(sample.var(ddof=1)) for sample in samples]
    total, errors = sum(variances), [variance / count for variance, count in zip(variances, counts, strict=True)]
    parts = sum(error**2 / (count - 1) for error, count in zip(errors, counts, strict=True))
    degrees = sum(errors) ** 2 / parts if parts else 1.0
    found = _student(value, math.sqrt(sum(errors)), degrees, f"{counts[0]} and {counts[1]} seeds")
    effect = abs(value) / math.sqrt(total) if total else found.effect
    freedom = total**2 / sum(variance**2 for variance in variances) if total else 1.0
    return replace(found, effect=effect, freedom=freedom)


def ratio_of_means(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """Return by how many percent our mean error over data sets is above theirs, with its interval (delta method)."""
    one, other = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    ratio = one.mean() / other.mean()
    return over_datasets(100 * (ratio - 1 + (one - ratio * other) / other.mean()))


def holm(p: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p of each test of a family."""
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(np.sort(p) * np.arange(len(p), 0, -1))
    return pd.Series(np.minimum(steps, 1), index=order).sort_index().tolist()


def at_least(count: int, p: Sequence[float]) -> float:
    """Return the p of at least `count` of these hypotheses' alternatives being true (Benjamini and Heller, 2008)."""
    return min(1.0, (len(p) - count + 1) * sorted(p)[count - 1])


def _over(values: Sequence[float], strictness: float, unit: str) -> Interval:
    """Return the mean with Student's interval; NaN and p of 1 from a single value."""
    found, n = np.asarray(values, dtype=float), len(values)
    mean = float(found.mean())
    if n < 2:
        return Interval(mean)
    scatter = round(float(found.std(ddof=1)), DECIMALS)
    interval = _student(mean, scatter / math.sqrt(n), n - 1, f"{n} {unit}", strictness)
    return replace(interval, effect=abs(mean) / scatter) if scatter else interval


def _student(value: float, error: float, degrees: float, over: str, strictness: float = 1.0) -> Interval:
    """Return Student's interval at 1 - strictness * LEVEL; each p is divided by the strictness.

    Without a standard error a value that is not zero is certain: its p is 0, and its effect infinite.
    """
    from scipy.special import stdtr, stdtrit  # Student's distribution; scipy.stats takes fifty times as long

    reach = error * float(stdtrit(degrees, 1 - strictness * LEVEL / 2)) if error else 0.0
    certain = math.copysign(math.inf, value) if round(value, DECIMALS) else 0.0
    score = value / error if error else certain
    above, below = (min(1.0, 2 * float(stdtr(degrees, side)) / strictness) for side in (-score, score))
    return Interval(value, value - reach, value + reach, above, below, over, abs(certain), 1.0, strictness)
