"""Ranks, skill and tests of errors over data sets. Pure; no torch, and scipy is imported by its callers only.

Horizons of one data set are not independent samples: average them first, so that data sets are what is tested.
With too few data sets for a test to reach its level, the sentence of a comparison says so.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.analysis.intervals import LEVEL, Interval, holm, over_datasets


@dataclass(frozen=True, eq=False)
class Comparison:
    """The tests of models against each other, over the data sets that are complete for all of them."""

    datasets: int
    ranks: pd.Series
    """Mean rank of each model, 1 the best; NaN without a complete data set."""
    friedman: tuple[float, float] | None
    """Statistic (chi square, ties corrected) and p; None for fewer than three models or data sets."""
    pairwise: pd.DataFrame | None
    """p of Wilcoxon's signed-rank test, after Holm over all pairs; 1 on the diagonal; None without a pair."""
    sentence: str
    """What the tests show, or why they cannot show anything."""


def comparable(errors: pd.DataFrame) -> pd.DataFrame:
    """Drop models (columns) known on fewer than half as many data sets (rows) as the median model.

    Comparisons are over data sets complete for every model: one model that has hardly been run would undo them all. Of
    two models none is dropped.
    """
    known = errors.notna().sum()
    return errors.loc[:, known >= known.median() / 2] if len(known) > 2 else errors


def mean_ranks(errors: pd.DataFrame) -> pd.Series:
    """Return each model's (column's) mean rank over complete data sets (rows); 1 is the least error, ties share."""
    return errors.dropna().rank(axis=1).mean()


def win_probability(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the share of data sets on which our error is smaller, a tie counting half; NaN if an error is missing."""
    return float(np.mean((1 - np.sign(ours - theirs)) / 2))


def skill(errors: np.ndarray, reference: np.ndarray) -> Interval:
    """Return 1 - geometric mean over data sets of error / reference error: 0 equals the reference, 1 is no error.

    As fev's skill score, but no ratio is clipped; NaN if an error is missing. The interval is that of the mean log
    ratio (`over_datasets`); NaN bounds for fewer than three data sets: over two it would be without end.
    """
    with np.errstate(divide="ignore", invalid="ignore"):  # an error of 0 is a skill of 1, 0 / 0 is none
        found = over_datasets(np.log(errors / reference))
        value, low, high = (float(1 - np.exp(log)) for log in (found.value, found.high, found.low))
    if len(errors) < 3:
        low = high = math.nan
    return Interval(value, low, high, over=found.over)


def compare(errors: pd.DataFrame) -> Comparison:
    """Apply Friedman's test, and Wilcoxon's with Holm's correction (Demsar, JMLR 7, 2006).

    `errors`: data sets (index) by models (columns), averaged over horizons. Incomplete data sets are dropped, and the
    sentence says so.
    """
    whole, ranks = errors.dropna(), mean_ranks(errors)
    n, models = whole.shape
    enough = n >= 3 and models >= 3
    friedman = _friedman(whole) if enough else None
    pairwise = _pairwise(whole) if n and models >= 2 else None
    sentence = _incomplete(len(errors), n) + _sentence(n, ranks, friedman, pairwise)
    return Comparison(n, ranks, friedman, pairwise, sentence)


def least_p(datasets: int) -> float:
    """Return the smallest two-sided p that Wilcoxon's exact signed-rank test can give: all signs alike."""
    return min(1.0, 2 / 2**datasets)


def datasets_needed(pairs: int) -> int:
    """Return the fewest data sets with which Holm's first step over this many pairs can go below LEVEL."""
    return next(n for n in itertools.count(1) if pairs * least_p(n) < LEVEL)


def _friedman(errors: pd.DataFrame) -> tuple[float, float]:
    from scipy.stats import friedmanchisquare

    with np.errstate(invalid="ignore"):  # equal errors everywhere: 0 / 0, where nothing differs
        found = friedmanchisquare(*errors.to_numpy().T)
    return (0.0, 1.0) if math.isnan(found.statistic) else (float(found.statistic), float(found.pvalue))


def _pairwise(errors: pd.DataFrame) -> pd.DataFrame:
    """Return exact p up to 50 data sets (13 with ties), else p by the normal approximation."""
    if len(errors) == 1:  # p is 1 whatever the errors; scipy refuses if they are tied
        return pd.DataFrame(1.0, errors.columns, errors.columns)
    from scipy.stats import wilcoxon

    pairs = list(itertools.combinations(errors.columns, 2))
    with np.errstate(invalid="ignore"):  # two models with equal errors everywhere: 0 / 0, and p = NaN or 1
        found = holm([wilcoxon(errors[one], errors[other]).pvalue for one, other in pairs])
    table = pd.DataFrame(1.0, errors.columns, errors.columns)
    for (one, other), p in zip(pairs, found, strict=True):
        table.loc[one, other] = table.loc[other, one] = p
    return table.fillna(1.0)


def _incomplete(datasets: int, complete: int) -> str:
    be = "is" if 1 in (complete, datasets) else "are"
    sentence = f"{complete} of {_count(datasets, 'data set')} {be} complete for every model. "
    return sentence if complete < datasets else ""


def _sentence(n: int, ranks: pd.Series, friedman: tuple[float, float] | None, pairwise: pd.DataFrame | None) -> str:
    """Say what the tests show, or why they cannot show anything."""
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
    which = (
        f"these apart at {LEVEL:g}, better mean rank first: {', '.join(apart)}"
        if apart
        else f"no two apart at {LEVEL:g}"
    )
    first = f"Friedman's test gives p = {friedman[1]:.2g}; " if friedman else ""
    return f"Over {_count(n, 'data set')} {first}Wilcoxon's, after Holm over {pairs}, tells {which}."


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
