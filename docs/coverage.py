"""How often are intervals and verdicts wrong, and how often do they find an effect? Prints docs/verdicts.md's tables.

1. Coverage over data sets: a sample holds one value per data set, the mean of three seeds that scatter half as much as
   data sets do. Two data sets may be one series at two rates, as ETTh1 and ETTm1 are: then they correlate by 0.8.
2. Coverage over the seeds of two models on one data set, whose errors may scatter unlike.
3. Verdicts: on claims of three kinds and made-up errors, before the correction for many claims, which only makes
   verdicts rarer. A number as argument: how many worlds of each kind are made up (default: 400, some minutes).

The random numbers are fixed.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import bootstrap, t
from tabulate import tabulate

from bench.analysis.claims import KINDS, Claim, Verdict
from bench.analysis.intervals import STRICTNESS, between_seeds, over_datasets

Bounds = tuple[np.ndarray, np.ndarray]
SAMPLES, SEEDS, NOISE = 4000, 3, 0.5
TESTED = 16
"""The paper's claims that have a p."""
POPULATIONS: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "exponential": lambda rng, shape: rng.exponential(size=shape) - 1,
    "log-normal": lambda rng, shape: np.exp(rng.standard_normal(shape)) - np.exp(0.5),
    "normal, in pairs": lambda rng, shape: in_pairs(rng.standard_normal(shape)),
}
"""Name -> draws of data sets' differences, of true mean zero; the skewness is 0, 2, 6 and 0."""


def in_pairs(values: np.ndarray) -> np.ndarray:
    """Make the second data set correlate with the first, and the fourth with the third, by 0.8."""
    for one, other in ((0, 1), (2, 3))[: values.shape[1] // 2]:
        values[:, other] = 0.8 * values[:, one] + 0.6 * values[:, other]
    return values


def student(strictness: float) -> Callable[[np.ndarray], Bounds]:
    def bounds(values: np.ndarray) -> Bounds:
        n, mean = values.shape[1], values.mean(1)
        reach = t.isf(strictness * 0.025, n - 1) * values.std(1, ddof=1) / np.sqrt(n)
        return mean - reach, mean + reach

    return bounds


def resampled(method: str) -> Callable[[np.ndarray], Bounds]:
    def bounds(values: np.ndarray) -> Bounds:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            found = bootstrap((values,), np.mean, axis=1, method=method, n_resamples=500, rng=0, batch=50)
        return found.confidence_interval.low, found.confidence_interval.high

    return bounds


METHODS = {
    "percentile bootstrap": resampled("percentile"),
    "BCa bootstrap": resampled("BCa"),
    "Student at 95 %": student(1),
    f"Student at {100 - 5 * STRICTNESS:g} % (ours)": student(STRICTNESS),
    f"ours, the first of {TESTED} claims": student(STRICTNESS / TESTED),
}


def coverage() -> list[dict[str, str]]:
    """Return the share of intervals that hold the true mean, in percent, by population, data sets and method."""
    rows = []
    for population, draw in POPULATIONS.items():
        for n in (3, 4, 7, 9):
            rng = np.random.default_rng(n)
            values = draw(rng, (SAMPLES, n)) + NOISE * rng.standard_normal((SAMPLES, n, SEEDS)).mean(2)
            own = over_datasets(values[0])
            np.testing.assert_allclose((own.low, own.high), np.ravel(student(STRICTNESS)(values[:1])))
            row: dict[str, str] = {"differences of data sets": population, "data sets": str(n)}
            for name, method in METHODS.items():
                low, high = method(values)
                row[name] = f"{100 * np.mean((low <= 0) & (high >= 0)):.1f}"
            rows.append(row)
    return rows


def between() -> list[dict[str, str]]:
    """Return the share of intervals between two models' seeds that hold the true difference, in percent."""
    rows = []
    for counts in ((3, 3), (5, 5), (2, 2), (2, 5)):
        for scatter in (1.0, 0.1, 0.0):
            rng, held = np.random.default_rng(0), Counter[str]()
            for _ in range(SAMPLES):
                ours = 1 + 0.01 * rng.standard_normal((counts[0], 1))
                theirs = 1 + 0.01 * scatter * rng.standard_normal((counts[1], 1))
                pairs, found = ours - theirs.T, between_seeds(ours, theirs)
                held["range over all pairs"] += pairs.min() <= 0 <= pairs.max()
                held["Welch (ours)"] += found.low <= 0 <= found.high
            shares = {name: f"{100 * count / SAMPLES:.1f}" for name, count in held.items()}
            rows.append({"seeds": f"{counts[0]} and {counts[1]}", "scatter": f"1 to {scatter:g}", **shares})
    return rows


def made_up(
    rng: np.random.Generator, n: int, effect: float, by_dataset: float, by_seed: float, population: str = "normal"
) -> pd.DataFrame:
    """Return errors of two models around 1: ours differs by `effect` percent on average, by data set, and by seed."""
    names = ["dataset", "horizon", "fraction", "tested", "seed"]
    index = pd.MultiIndex.from_product([range(n), range(4), [1.0], [0], range(SEEDS)], names=names)
    shape = (n, 4, SEEDS)
    own = effect + by_dataset * POPULATIONS[population](rng, (1, n)).reshape(n, 1, 1)
    ours = 1 + (own + by_seed * rng.standard_normal(shape)) / 100
    theirs = 1 + by_seed * rng.standard_normal(shape) / 100
    table = pd.DataFrame({"ours": ours.ravel(), "theirs": theirs.ravel()}, index=index)
    runs = table.rename_axis("side", axis=1).stack().rename("mse").reset_index()
    return runs.assign(tested=runs.dataset)


def claim(kind: str, **fields: object) -> Claim:
    return KINDS[kind](id=kind, text="", short="", source="", kind=kind, suite="", model="ours", **fields)


CLAIMS = {
    "lower than": claim("lower_than", rivals=["theirs"]),
    "lower than, with a number": claim("lower_than", rivals=["theirs"], printed=-5.0),
    "best on 5 of 9": claim("best_count", rivals=["theirs"], printed=5, of=9),
}
WORLDS: dict[str, tuple[Any, ...]] = {
    "no difference": (0.0, 0.0, 1.0),
    "none on average": (0.0, 5.0, 1.0),
    "none on average, skewed": (0.0, 5.0, 1.0, "exponential"),
    "2 % better": (-2.0, 2.0, 1.0),
    "5 % better": (-5.0, 2.0, 1.0),
    "5 % worse": (5.0, 2.0, 1.0),
}
"""Name -> effect, scatter by data set and by seed of each error, in percent, and the population of data sets."""


def verdicts(worlds: int) -> list[dict[str, str]]:
    """Return the share of each verdict in percent, by claim and world."""
    rows = []
    for title, judged in CLAIMS.items():
        for n in (9,) if "of 9" in title else (1, 4, 9):
            for world, truth in WORLDS.items():
                rng = np.random.default_rng(0)
                counts: Counter[Verdict] = Counter(
                    judged.judge(made_up(rng, n, *truth)).verdict()[0] for _ in range(worlds)
                )
                shares = {
                    str(verdict): f"{100 * counts[verdict] / worlds:.1f}" for verdict in Verdict if counts.total()
                }
                rows.append({"claim": title, "data sets": str(n), "truth": world, **shares})
    return rows


def main(worlds: str = "400") -> None:
    for rows in (coverage(), between(), verdicts(int(worlds))):
        print(tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True), "\n")


if __name__ == "__main__":
    print(__doc__) if "--help" in sys.argv else main(*sys.argv[1:])
