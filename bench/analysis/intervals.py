"""Intervals and tests of a number: over data sets, over the pairs of seeds of two models, over seeds. Pure; no torch.

An interval is of 95 %. Its two p, of lying above and below zero, are doubled one-sided ones, so that `LEVEL` is the
level of a two-sided test; `above` is below LEVEL only if the whole interval is above zero.

Over data sets, the values are each data set's mean over seeds and horizons. They scatter by data set and by seed within
it, so Student's interval on them is the hierarchical one. Of a few skewed values it covers too little: 90 % for four of
an exponential distribution, where a percentile bootstrap covers 75 % (and 79 % for four normal ones). It is therefore
taken at `1 - STRICTNESS * LEVEL` (98.5 %), which covers at least 93 % of four to nine values, normal or exponential:
`python docs/coverage.py` prints the simulation, and a test holds it.

Over a single data set, the interval of a difference is the range over all pairs of seeds (with three seeds each a 90 %
interval, whatever the distribution), and its p is that of Welch's t test besides. It shows training noise on one test
period and says nothing of other data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
    return _student(np.asarray(values, dtype=float), STRICTNESS, f"{len(values)} data sets")


def over_seeds(values: Sequence[float]) -> Interval:
    """Return the mean of one value per seed, with Student's interval: training noise on one test period."""
    return _student(np.asarray(values, dtype=float), 1.0, f"{len(values)} seeds")


def over_pairs(ours: np.ndarray, theirs: np.ndarray) -> Interval:
    """Return by how many percent our errors are above theirs, with the range over all pairs of seeds.

    `ours` and `theirs`: errors `[seeds, cells]` on one data set. The percentage is taken by cell, then averaged. A p is
    Welch's, or 1 where some pair lies on the other side.
    """
    value = float(100 * (ours.mean(0) / theirs.mean(0) - 1).mean())
    if min(len(ours), len(theirs)) < 2:
        return Interval(value)
    pairs = 100 * (ours[:, None] / theirs[None] - 1).mean(-1)
    low, high = float(pairs.min()), float(pairs.max())
    # The test is on errors in units of the rival's mean error, so that all cells weigh alike.
    seeds = [(errors / theirs.mean(0)).mean(-1).round(DECIMALS) for errors in (ours, theirs)]
    above, below = _welch(seeds, "greater") if low > 0 else 1.0, _welch(seeds, "less") if high < 0 else 1.0
    variances = [float(sample.var(ddof=1)) for sample in seeds]
    total = sum(variances)
    apart = low > 0 or high < 0  # else more seeds only widen the range
    effect = abs(float(seeds[0].mean() - seeds[1].mean())) / math.sqrt(total) if total else math.inf
    freedom = total**2 / sum(each**2 for each in variances) if total else 1.0
    over = f"all pairs of {len(ours)} and {len(theirs)} seeds"
    return Interval(value, low, high, above, below, over, effect if apart else 0.0, freedom)


def _welch(samples: Sequence[np.ndarray], alternative: str) -> float:
    """Return the doubled one-sided p of Welch's t test that the first mean differs so; 0 if nothing scatters."""
    from scipy.stats import ttest_ind_from_stats

    described = [x for sample in samples for x in (sample.mean(), sample.std(ddof=1), len(sample))]
    if not described[1] + described[4]:
        return 0.0
    return min(1.0, 2 * float(ttest_ind_from_stats(*described, equal_var=False, alternative=alternative).pvalue))


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


def _student(values: np.ndarray, strictness: float, over: str) -> Interval:
    """Return the mean with Student's interval at 1 - strictness * LEVEL; each p is divided by the strictness."""
    from scipy.special import stdtr, stdtrit  # Student's distribution; scipy.stats takes fifty times as long

    mean, n = float(values.mean()), len(values)
    if n < 2:
        return Interval(mean)
    scatter = float(values.round(DECIMALS).std(ddof=1))
    error = scatter / math.sqrt(n)
    reach = error * float(stdtrit(n - 1, 1 - strictness * LEVEL / 2))
    score = mean / error if error else math.inf * np.sign(round(mean, DECIMALS)) if round(mean, DECIMALS) else 0.0
    above, below = (min(1.0, 2 * float(stdtr(n - 1, side)) / strictness) for side in (-score, score))
    effect = abs(mean) / scatter if scatter else abs(score)
    return Interval(mean, mean - reach, mean + reach, above, below, over, effect, strictness=strictness)
