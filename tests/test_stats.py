"""Statistics against computations that share no code with them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis import stats
from tests.builders import python

MODELS = ["Logo-LLM", "Time-LLM-lite", "CALF-lite", "PatchTST", "iTransformer", "DLinear"]


def drawn(datasets: int, models: int = 5, seed: int = 0) -> pd.DataFrame:
    """Errors of data sets of different difficulty and of models that hardly differ; no two alike."""
    draws = np.random.default_rng(seed)
    errors = draws.uniform(0.2, 2.0, (datasets, 1)) * draws.uniform(0.7, 1.3, (datasets, models))
    return pd.DataFrame(errors, [f"set {i}" for i in range(datasets)], MODELS[:models])


def in_order(datasets: int, models: int = 5) -> pd.DataFrame:
    """Errors by which every data set ranks the models as they stand; no two differences are alike."""
    rows = [[(1 + model) * (1 + 0.1 * data) for model in range(models)] for data in range(datasets)]
    return pd.DataFrame(rows, columns=MODELS[:models])


# Ranks and tests


def test_mean_ranks_are_scipys_and_equal_errors_share_theirs() -> None:
    errors = drawn(7)
    errors.iloc[2] = [0.3, 0.1, 0.3, 0.2, 0.3]
    expected = np.mean([scipy.stats.rankdata(row) for row in errors.to_numpy()], axis=0)
    assert stats.mean_ranks(errors).to_dict() == pytest.approx(dict(zip(errors.columns, expected, strict=True)))


def test_a_data_set_that_one_model_lacks_is_left_out_for_all_and_the_sentence_says_so() -> None:
    errors = drawn(12)
    errors.iloc[3, 2] = math.nan
    found, expected = stats.compare(errors), stats.compare(errors.drop(errors.index[3]))
    assert found.datasets == 11
    assert found.ranks.equals(expected.ranks)
    assert stats.mean_ranks(errors).equals(expected.ranks)
    assert found.friedman == expected.friedman
    assert found.pairwise.equals(expected.pairwise)
    assert found.sentence == f"11 of 12 data sets are complete for every model. {expected.sentence}"


def test_friedmans_test_is_its_formula() -> None:
    """12 n / (k (k + 1)) (sum of squared mean ranks - k (k + 1)^2 / 4); for three models p = exp(-chi square / 2)."""
    errors = drawn(8, models=3)
    rows = errors.to_numpy().tolist()
    ranks = [sum(sorted(row).index(row[model]) + 1 for row in rows) / 8 for model in range(3)]
    chi_square = 12 * 8 / (3 * 4) * (sum(rank**2 for rank in ranks) - 3 * 4**2 / 4)
    assert stats.compare(errors).friedman == pytest.approx((chi_square, math.exp(-chi_square / 2)))


def signed_rank_p(differences: np.ndarray) -> float:
    """Two-sided and exact, by trying every sign."""
    ranks = scipy.stats.rankdata(np.abs(differences))
    middle = ranks.sum() / 2
    signs = np.array(list(itertools.product((0, 1), repeat=len(ranks))))
    apart = np.abs(signs @ ranks - middle)
    return float(np.mean(apart >= abs(ranks[differences > 0].sum() - middle) - 1e-9))


def holm(p_values: list[float]) -> list[float]:
    """The i-th smallest of m times m - i + 1, never below a smaller one's, at most 1."""
    adjusted, highest = [1.0] * len(p_values), 0.0
    for i, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - i) * p_values[place]))
        adjusted[place] = highest
    return adjusted


@pytest.mark.parametrize(("datasets", "models"), [(9, 5), (12, 4), (4, 3), (1, 2)])
def test_pairs_have_the_p_of_every_sign_tried_and_holms_steps(datasets: int, models: int) -> None:
    errors = drawn(datasets, models, seed=datasets) * np.linspace(1, 1.6, models)
    pairs = list(itertools.combinations(errors.columns, 2))
    expected = holm([signed_rank_p((errors[one] - errors[other]).to_numpy()) for one, other in pairs])
    assert datasets < 9 or len({p for p in expected if p < 0.5}) > 2, "nothing that steps could change"
    found = stats.compare(errors).pairwise
    assert list(found.columns) == list(found.index) == list(errors.columns)
    assert [found.loc[pair] for pair in pairs] == pytest.approx(expected)
    assert [found.loc[pair[::-1]] for pair in pairs] == pytest.approx(expected)
    assert (np.diag(found) == 1).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("datasets", [5, 14])
def test_models_with_equal_errors_everywhere_are_not_told_apart(datasets: int) -> None:
    """As two naive forecasts are where no season fits the look-back. The others' p is as if theirs were 1."""
    errors = drawn(datasets, 4).assign(PatchTST=lambda frame: frame["Logo-LLM"])
    found = stats.compare(errors).pairwise
    assert found.loc["Logo-LLM", "PatchTST"] == 1
    pairs = list(itertools.combinations(errors.columns, 2))
    alone = [
        1.0 if {*pair} == {"Logo-LLM", "PatchTST"} else signed_rank_p(np.subtract(*errors[[*pair]].to_numpy().T))
        for pair in pairs
    ]
    assert [found.loc[pair] for pair in pairs] == pytest.approx(holm(alone))


@pytest.mark.parametrize("datasets", range(1, 13))
def test_the_least_p_is_that_of_a_model_that_is_better_everywhere(datasets: int) -> None:
    differences = np.arange(1.0, datasets + 1)
    assert stats.least_p(datasets) == pytest.approx(signed_rank_p(differences))
    assert stats.least_p(datasets) == pytest.approx(scipy.stats.wilcoxon(differences).pvalue)


# What is said


def test_too_few_data_sets_are_said_in_place_of_a_star() -> None:
    found = stats.compare(in_order(4))
    assert found.sentence == (
        "With 4 data sets the smallest p that a Wilcoxon test can give is 0.125; after Holm over 10 pairs none can "
        "reach 0.05 (that takes 9 data sets): no significance is claimed."
    )
    assert found.pairwise.to_numpy().min() == 1


@pytest.mark.parametrize(("models", "needed"), [(2, 6), (3, 7), (5, 9), (6, 10)])
def test_models_in_the_same_order_everywhere_are_told_apart_from_the_data_sets_on_that_are_named(
    models: int, needed: int
) -> None:
    fewer, enough = stats.compare(in_order(needed - 1, models)), stats.compare(in_order(needed, models))
    assert f"(that takes {needed} data sets): no significance" in fewer.sentence
    assert (fewer.pairwise.to_numpy() >= 0.05).all()
    off_diagonal = ~np.eye(models, dtype=bool)
    assert (enough.pairwise.to_numpy()[off_diagonal] < 0.05).all()
    assert enough.sentence.count(" and ") == models * (models - 1) / 2


def test_the_sentence_names_who_is_told_apart_the_better_first_and_friedmans_p() -> None:
    errors = drawn(9, 3)
    errors["Logo-LLM"] = errors.max(axis=1) * 2
    found = stats.compare(errors)
    first, second = found.ranks.drop("Logo-LLM").sort_values().index
    p = found.pairwise.loc["Logo-LLM", first]
    assert p == pytest.approx(3 * 2 / 2**9)
    assert found.sentence == (
        f"Over 9 data sets Friedman's test gives p = {found.friedman[1]:.2g}; Wilcoxon's, after Holm over 3 pairs, "
        f"tells these apart at 0.05, better mean rank first: {first} and Logo-LLM (p = 0.012), {second} and Logo-LLM "
        "(p = 0.012)."
    )


def test_one_data_set_tells_nothing_apart_tied_or_not() -> None:
    found = stats.compare(pd.DataFrame({"A": [1.0], "B": [1.0], "C": [2.0]}))
    assert (found.pairwise.to_numpy() == 1).all()
    assert list(found.ranks) == [1.5, 1.5, 3]
    assert found.sentence.startswith("With 1 data set the smallest p")


@pytest.mark.filterwarnings("error")
def test_models_that_are_equal_everywhere_have_a_p_of_1() -> None:
    equal = pd.DataFrame(np.repeat(drawn(9, 1).to_numpy(), 3, axis=1), columns=list("ABC"))
    assert stats.compare(equal).friedman == (0.0, 1.0)
    assert "Friedman's test gives p = 1;" in stats.compare(equal).sentence
    assert math.isnan(stats.skill(np.array([0.0]), np.array([0.0])).value)
    assert stats.skill(np.array([0.0, 1.0]), np.array([1.0, 1.0])).value == 1


def test_where_nothing_is_told_apart_the_sentence_says_that() -> None:
    assert stats.compare(drawn(9)).sentence.endswith(", after Holm over 10 pairs, tells no two apart at 0.05.")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("errors", "datasets"),
    [(drawn(5, 1), 5), (drawn(0), 0), (drawn(4).assign(PatchTST=math.nan), 0)],
    ids=["one model", "no data set", "a model without results"],
)
def test_nothing_is_compared_where_there_is_nothing_to_compare(errors: pd.DataFrame, datasets: int) -> None:
    found = stats.compare(errors)
    assert found.datasets == datasets
    assert (found.friedman, found.pairwise) == (None, None)
    assert found.sentence.endswith("Nothing to compare: no significance is claimed.")


@pytest.mark.parametrize(("datasets", "models"), [(2, 5), (9, 2)])
def test_friedmans_test_takes_three_models_and_three_data_sets(datasets: int, models: int) -> None:
    found = stats.compare(drawn(datasets, models))
    assert found.friedman is None
    assert found.pairwise is not None
    assert "Friedman" not in found.sentence


# Against a reference


def test_wins_are_counted_and_ties_half() -> None:
    ours, theirs = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.2, 0.2, 0.2, 0.5])
    assert stats.win_probability(ours, theirs) == (1 + 0.5 + 0 + 1) / 4


positive = st.floats(0.01, 10)


@given(st.lists(st.tuples(positive, positive), min_size=1, max_size=9))
def test_what_one_wins_the_other_loses(pairs: list[tuple[float, float]]) -> None:
    ours, theirs = np.array(pairs).T
    counted = sum(one < other for one, other in pairs) + sum(one == other for one, other in pairs) / 2
    assert stats.win_probability(ours, theirs) == pytest.approx(counted / len(pairs))
    assert stats.win_probability(ours, theirs) + stats.win_probability(theirs, ours) == pytest.approx(1)


@given(st.lists(st.tuples(positive, positive), min_size=1, max_size=9))
def test_skill_is_one_less_the_geometric_mean_of_the_ratios(pairs: list[tuple[float, float]]) -> None:
    ours, theirs = np.array(pairs).T
    product = math.prod(one / other for one, other in pairs)
    assert stats.skill(ours, theirs).value == pytest.approx(1 - product ** (1 / len(pairs)))
    assert stats.skill(ours, theirs).value == pytest.approx(1 - scipy.stats.gmean(ours / theirs))
    assert stats.skill(0.8 * theirs, theirs).value == pytest.approx(0.2)


def test_a_missing_error_is_neither_a_win_nor_a_skill() -> None:
    ours, theirs = np.array([0.1, math.nan]), np.array([0.2, 0.2])
    assert math.isnan(stats.win_probability(ours, theirs))
    assert math.isnan(stats.skill(ours, theirs).value)


def test_skill_has_the_interval_of_the_mean_log_ratio() -> None:
    ours, theirs = drawn(9)[["Logo-LLM", "PatchTST"]].to_numpy().T
    found, logs = stats.skill(ours, theirs), np.log(ours / theirs)
    low, high = scipy.stats.t.interval(1 - 0.3 * 0.05, 8, loc=logs.mean(), scale=scipy.stats.sem(logs))
    assert (found.low, found.high) == pytest.approx((1 - math.exp(high), 1 - math.exp(low)))
    assert math.isnan(stats.skill(ours[:1], theirs[:1]).low)


def test_importing_the_statistics_imports_neither_scipy_nor_torch() -> None:
    check = "import sys, bench.analysis.stats; assert not {'scipy', 'scikit_posthocs', 'torch'} & sys.modules.keys()"
    assert python("-c", check).returncode == 0
