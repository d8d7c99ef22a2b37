"""Intervals and tests of claims: parity with other implementations, agreement of p and interval, coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttest_ind

from bench.analysis.intervals import (
    LEVEL,
    MOST,
    POWER,
    STRICTNESS,
    Interval,
    at_least,
    between_seeds,
    holm,
    over_datasets,
    over_seeds,
    ratio_of_means,
)

NUMBERS = st.floats(-100, 100).map(lambda x: round(x, 3))
PROBABILITIES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@pytest.mark.parametrize(("interval", "level"), [(over_datasets, 1 - STRICTNESS * LEVEL), (over_seeds, 1 - LEVEL)])
def test_an_interval_of_a_mean_is_scipys_at_its_level(interval, level) -> None:  # type: ignore[no-untyped-def]
    values = np.array([-3.1, 0.4, 2.2, -5.0, 1.0])
    found = interval(values)
    expected = scipy.stats.t.interval(level, 4, loc=values.mean(), scale=scipy.stats.sem(values))
    assert (found.value, found.low, found.high) == pytest.approx((values.mean(), *expected))


@given(st.lists(NUMBERS, min_size=2, max_size=9))
def test_p_is_below_the_level_exactly_if_the_interval_lies_on_one_side(values: list[float]) -> None:
    for found in (over_datasets(values), over_seeds(values)):
        if min(abs(found.low), abs(found.high)) > 1e-9:
            assert (found.above < LEVEL) == (found.low > 0)
            assert (found.below < LEVEL) == (found.high < 0)
        assert found.low <= found.value <= found.high


def test_one_value_has_no_interval_and_equal_values_have_a_certain_one() -> None:
    assert math.isnan(over_datasets([3.0]).low)
    assert over_datasets([3.0]).above == 1
    assert over_datasets([3.0, 3.0]).above == 0
    assert over_datasets([0.0, 0.0]).above == over_datasets([0.0, 0.0]).below == 1
    assert over_seeds([0.1] * 3).enough(LEVEL) == 2, "the last bits of a mean are no scatter"


def test_between_the_seeds_of_two_models_interval_and_p_are_welchs() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(1.2, 0.02, (3, 1)), rng.normal(1.0, 0.04, (4, 1))
    found = between_seeds(ours, theirs)
    tested = scipy.stats.ttest_ind(ours[:, 0], theirs[:, 0], equal_var=False)
    bounds = [100 * bound / theirs.mean() for bound in tested.confidence_interval(1 - LEVEL)]
    assert (found.low, found.high) == pytest.approx(tuple(bounds), rel=1e-6)
    assert found.value == pytest.approx(100 * (ours.mean() / theirs.mean() - 1))
    _, p, _ = ttest_ind(ours[:, 0], theirs[:, 0], usevar="unequal")
    assert (found.above, found.over) == (pytest.approx(p, rel=1e-5), "3 and 4 seeds")
    assert found.below == 1


@given(st.lists(st.floats(0.5, 2).map(lambda x: round(x, 3)), min_size=12, max_size=12))
def test_between_seeds_p_is_small_exactly_if_the_interval_lies_on_one_side(errors: list[float]) -> None:
    found = between_seeds(*np.reshape(errors, (2, 3, 2)))
    if min(abs(found.low), abs(found.high)) > 1e-6:
        assert (found.above < LEVEL) == (found.low > 0)
        assert (found.below < LEVEL) == (found.high < 0)


def test_equal_models_differ_by_nothing_and_models_without_scatter_certainly() -> None:
    equal = between_seeds(np.full((3, 1), 0.1 * 3), np.full((3, 1), 0.3))
    assert (equal.value, equal.low, equal.high, equal.above, equal.below) == (0, 0, 0, 1, 1)
    assert equal.enough(LEVEL) is None
    apart = between_seeds(np.full((3, 1), 0.31), np.full((3, 1), 0.3))
    assert (apart.above, apart.below, apart.enough(LEVEL)) == (0, 1, 2)
    assert between_seeds(np.full((1, 1), 0.31), np.full((3, 1), 0.3)).above == 1, "a single seed tells nothing"


@pytest.mark.parametrize("scatter", [1.0, 0.1, 0.0])
@pytest.mark.parametrize("counts", [(3, 3), (3, 5)])
def test_an_interval_between_seeds_covers_the_true_difference(counts: tuple[int, int], scatter: float) -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        samples = (
            1 + 0.01 * each * rng.standard_normal((count, 1)) for count, each in zip(counts, (1, scatter), strict=True)
        )
        found = between_seeds(*samples)
        held += found.low <= 0 <= found.high
    assert held / 1000 >= 0.93


def test_the_ratio_of_mean_errors_has_the_interval_of_the_jackknife() -> None:
    rng = np.random.default_rng(0)
    n, theirs = 60, rng.gamma(4, size=60)
    ours = theirs * rng.normal(0.95, 0.1, n)
    found = ratio_of_means(ours, theirs)
    left_out = [100 * (np.delete(ours, i).mean() / np.delete(theirs, i).mean() - 1) for i in range(n)]
    error = math.sqrt((n - 1) / n * np.sum((left_out - np.mean(left_out)) ** 2))
    assert found.value == pytest.approx(100 * (ours.sum() / theirs.sum() - 1))
    assert found.high - found.value == pytest.approx(error * scipy.stats.t.isf(STRICTNESS * LEVEL / 2, n - 1), rel=0.03)


@settings(max_examples=25, deadline=None)
@given(PROBABILITIES)
def test_holm_equals_statsmodels(p: list[float]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gc.collect", lambda: 0)  # statsmodels asks for a collection each time: 0.2 s
        expected = multipletests(p, method="holm")[1].tolist()
    assert holm(p) == pytest.approx(expected)


@given(PROBABILITIES)
def test_at_least_one_is_bonferronis_and_all_is_the_largest(p: list[float]) -> None:
    assert at_least(1, p) == pytest.approx(min(1, len(p) * min(p)))
    assert at_least(len(p), p) == max(p)


@pytest.mark.parametrize("seeds_scatter", [0.0, 0.5])
@pytest.mark.parametrize("population", ["normal", "exponential"])
@pytest.mark.parametrize("n", [3, 4, 7, 9])
def test_an_interval_over_data_sets_covers_the_true_mean(n: int, population: str, seeds_scatter: float) -> None:
    """Each of n data sets has a true difference of its own, and three seeds that scatter around it."""
    rng = np.random.default_rng(n)
    held = 0
    for _ in range(1200):
        true = rng.standard_normal(n) if population == "normal" else rng.exponential(size=n) - 1
        found = over_datasets((true[:, None] + seeds_scatter * rng.standard_normal((n, 3))).mean(1))
        held += found.low <= 0 <= found.high
    assert held / 1200 >= 0.925  # 93 %, less 0.5 for the simulation's own noise


@pytest.mark.parametrize("effect", [0.15, 0.4, 1.0, 2.5])
@pytest.mark.parametrize("level", [0.05, 0.05 / 12])
def test_enough_values_are_as_many_as_statsmodels_solves_for(effect: float, level: float) -> None:
    found = Interval(effect, over="3 seeds", effect=effect)
    solved = TTestPower().solve_power(effect_size=effect, alpha=level, power=POWER, alternative="two-sided")
    assert found.enough(level) == math.ceil(solved)


def test_enough_data_sets_decide_as_often_as_said_and_one_less_does_not() -> None:
    values = np.array([-3.0, 1.5, -6.0, -2.5, -0.5])
    count = over_datasets(values).enough(LEVEL)
    assert count is not None and count > len(values)
    rng = np.random.default_rng(0)
    drawn = rng.normal(values.mean(), values.std(ddof=1), (20_000, count))
    share = np.mean([over_datasets(sample).below < LEVEL for sample in drawn[:4000]])
    fewer = np.mean([over_datasets(sample).below < LEVEL for sample in drawn[:4000, 1:]])
    assert fewer - 0.02 < POWER < share + 0.02


def test_enough_pairs_of_seeds_follow_welchs_test() -> None:
    rng = np.random.default_rng(1)
    ours, theirs = np.array([[1.0], [1.01], [1.02]]), np.array([[1.03], [1.07], [1.05]])
    found = between_seeds(ours, theirs)
    count = found.enough(LEVEL / 10)
    assert found.unit == "seeds" and count is not None and found.below > LEVEL / 10
    means, scatters = (ours.mean(), theirs.mean()), (ours.std(ddof=1), theirs.std(ddof=1))
    drawn = [rng.normal(mean, scatter, (4000, count)) for mean, scatter in zip(means, scatters, strict=True)]
    share = (scipy.stats.ttest_ind(*drawn, axis=1, equal_var=False).pvalue < LEVEL / 10).mean()
    assert share == pytest.approx(POWER, abs=0.06)


def test_no_number_of_values_is_enough_without_a_difference() -> None:
    assert over_datasets([1.0, -1.0]).enough(LEVEL) is None
    assert over_datasets([1.0, 200.0, -199.0]).enough(LEVEL) is None, f"more than {MOST}"
    assert over_datasets([2.0]).enough(LEVEL) is None
    assert over_datasets([2.0, 2.0, 2.0]).enough(LEVEL) == 2
