"""What can be said of errors over seeds and data sets. Pure; no torch, and scipy only where it is called.

Seeds of one run give a spread. Horizons of one data set are not independent samples: average them first, so that what
is resampled and tested here are data sets. A test that cannot reach its level with so few of them says so in words.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

LEVEL = 0.05
"""Of every test here."""


@dataclass(frozen=True)
class Spread:
    """Of one number over seeds."""

    mean: float
    std: float
    """With n - 1; NaN for fewer than two values."""
    n: int


@dataclass(frozen=True, eq=False)
class Comparison:
    """Models side by side over the data sets that are complete for all of them."""

    datasets: int
    ranks: pd.Series
    """Mean rank of each model, 1 the best; NaN without a complete data set."""
    friedman: tuple[float, float] | None
    """Statistic (chi square, ties corrected) and p; None for fewer than three models or data sets."""
    pairwise: pd.DataFrame | None
    """p of Wilcoxon's signed-rank test, after Holm over all pairs; 1 on the diagonal; None without a pair."""
    critical_difference: float | None
    """Mean ranks closer than this do not differ by Nemenyi's test at LEVEL; None where `friedman` is."""
    sentence: str
    """What can be said."""


def spread(values: Sequence[float] | np.ndarray | pd.Series) -> Spread:
    """Mean and standard deviation; a NaN among the values makes both NaN."""
    found = pd.Series(values, dtype=float)
    return Spread(float(found.mean(skipna=False)), float(found.std(skipna=False)), len(found))


def bootstrap(
    values: np.ndarray,
    statistic: Callable[[np.ndarray], float],
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of a statistic over resampled items of the first axis (data sets); NaN for fewer than two.

    Paired errors stay paired as rows: `bootstrap(np.stack([ours, theirs], axis=1), lambda rows: skill(*rows.T))`.
    With a handful of data sets such an interval is too narrow; it shows how much hangs on single ones.
    """
    n = len(values)
    if n < 2:
        return math.nan, math.nan
    chosen = np.random.default_rng(seed).integers(n, size=(draws, n))
    found = [statistic(values[rows]) for rows in chosen]
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_ranks(errors: pd.DataFrame) -> pd.Series:
    """Of models (columns) over the data sets (index) complete for all; 1 the least error, equal errors share ranks."""
    return errors.dropna().rank(axis=1).mean()


def win_probability(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Share of data sets on which our error is the smaller one, a tie counting half; NaN if one is missing."""
    return float(np.mean((1 - np.sign(ours - theirs)) / 2))


def skill(errors: np.ndarray, reference: np.ndarray) -> float:
    """1 - geometric mean over data sets of error / reference error: 0 is no better than the reference, 1 no error.

    As fev's skill score, but no ratio is clipped; NaN if an error is missing.
    """
    with np.errstate(divide="ignore", invalid="ignore"):  # an error of 0 is a skill of 1, 0 / 0 is none
        return float(1 - np.exp(np.log(errors / reference).mean()))


def compare(errors: pd.DataFrame) -> Comparison:
    """Friedman's test, Wilcoxon's with Holm's correction and Nemenyi's critical difference (Demsar, JMLR 7, 2006).

    `errors`: data sets (index) by models (columns), one error each, horizons averaged; incomplete data sets are left
    out, and the sentence says so.
    """
    whole = errors.dropna()
    n, models = whole.shape
    ranks = mean_ranks(whole)
    enough = n >= 3 and models >= 3
    friedman = _friedman(whole) if enough else None
    pairwise = _pairwise(whole) if n and models >= 2 else None
    return Comparison(
        datasets=n,
        ranks=ranks,
        friedman=friedman,
        pairwise=pairwise,
        critical_difference=critical_difference(models, n) if enough else None,
        sentence=_left_out(len(errors), n) + _sentence(n, ranks, friedman, pairwise),
    )


def critical_difference(models: int, datasets: int) -> float:
    """Nemenyi's, between mean ranks, at LEVEL."""
    from scipy.stats import studentized_range

    quantile = studentized_range.ppf(1 - LEVEL, models, np.inf) / math.sqrt(2)
    return float(quantile * math.sqrt(models * (models + 1) / (6 * datasets)))


def least_p(datasets: int) -> float:
    """The smallest two-sided p of Wilcoxon's exact signed-rank test: all signs alike, one way or the other."""
    return min(1.0, 2 / 2**datasets)


def datasets_needed(pairs: int) -> int:
    """The fewest data sets with which Holm's first step over so many pairs can go below LEVEL."""
    return next(n for n in itertools.count(1) if pairs * least_p(n) < LEVEL)


def _friedman(errors: pd.DataFrame) -> tuple[float, float]:
    from scipy.stats import friedmanchisquare

    with np.errstate(invalid="ignore"):  # equal errors everywhere: 0 / 0, where nothing differs
        found = friedmanchisquare(*errors.to_numpy().T)
    return (0.0, 1.0) if math.isnan(found.statistic) else (float(found.statistic), float(found.pvalue))


def _pairwise(errors: pd.DataFrame) -> pd.DataFrame:
    """Exact p up to 50 data sets (up to 13 with ties), else by the normal approximation."""
    if len(errors) == 1:  # p is 1 whatever the errors; scipy refuses if they are tied
        return pd.DataFrame(1.0, errors.columns, errors.columns)
    from scikit_posthocs import posthoc_wilcoxon

    long = errors.melt(var_name="model", value_name="error")
    with np.errstate(invalid="ignore"):  # two models with equal errors everywhere: 0 / 0, and p = NaN or 1
        return posthoc_wilcoxon(long, val_col="error", group_col="model", p_adjust="holm").fillna(1.0)


def _left_out(datasets: int, complete: int) -> str:
    be = "is" if 1 in (complete, datasets) else "are"
    which = f"{complete} of {_count(datasets, 'data set')} {be} complete for every model. "
    return which if complete < datasets else ""


def _sentence(n: int, ranks: pd.Series, friedman: tuple[float, float] | None, pairwise: pd.DataFrame | None) -> str:
    """What the tests say, or why they cannot say anything."""
    if pairwise is None:
        return "Nothing to compare: no significance is claimed."
    over = list(itertools.combinations(ranks.sort_values(kind="stable").index, 2))
    pairs = _count(len(over), "pair")
    if len(over) * least_p(n) >= LEVEL:
        return (
            f"With {_count(n, 'data set')} the smallest p that a Wilcoxon test can give is {least_p(n):.3g}; after "
            f"Holm over {pairs} none can reach {LEVEL:g} (that takes {datasets_needed(len(over))} data sets): no "
            "significance is claimed."
        )
    found = [(one, other, pairwise.at[one, other]) for one, other in over]
    apart = [f"{one} and {other} (p = {p:.2g})" for one, other, p in found if p < LEVEL]
    told = (
        f"these apart at {LEVEL:g}, better mean rank first: {', '.join(apart)}"
        if apart
        else f"no two apart at {LEVEL:g}"
    )
    first = f"Friedman's test gives p = {friedman[1]:.2g}; " if friedman else ""
    return f"Over {_count(n, 'data set')} {first}Wilcoxon's, after Holm over {pairs}, tells {told}."


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
