"""The table of ranks against scipy and computations by hand; and what it says where there is too little to say."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import gmean, rankdata, wilcoxon

from bench.analysis.ranks import COLUMNS, errors_by_dataset, ranks_table
from bench.analysis.results import METRICS, Results
from bench.core.record import Evaluation, RunResult
from bench.plan.suite import Filters, PlannedRun, entries, load_suite
from tests.builders import complete, record

MODELS = ("patchtst", "dlinear", "seasonal_naive")
TITLES = ["PatchTST", "DLinear", "Seasonal naive"]
DATASETS = ("ETTm1", "ETTm2", "ETTh1", "ETTh2", "Weather", "ECL", "Traffic", "Exchange")


def drawn(models: tuple[str, ...] = MODELS, datasets: tuple[str, ...] = DATASETS) -> Results:
    """Records with errors that follow no rule; a model has less of it the earlier it is named."""
    draws = np.random.default_rng(0)
    runs: list[tuple[PlannedRun, RunResult | None]] = []
    for entry in entries(load_suite("paper"), Filters(models=models, datasets=datasets, seeds=(2021, 2022))):
        scale = 1 + models.index(entry.spec.model)
        errors = {metric: scale * draws.uniform(0.5, 1) for metric in METRICS}
        evaluation = Evaluation(dataset=entry.spec.task.dataset, windows=1, **errors)
        runs.append((entry, record(entry.spec).model_copy(update={"evaluations": (evaluation,)})))
    return Results(runs)


def averaged(planned: Results, metric: str) -> np.ndarray:
    """Data sets by models, over seeds and horizons, in a plain loop."""
    found: dict[tuple[str, str], list[float]] = {}
    for entry, result in planned.runs:
        assert result is not None
        key = (entry.spec.task.dataset, entry.spec.model)
        found.setdefault(key, []).append(getattr(result.evaluations[0], metric))
    models = list(dict.fromkeys(model for _, model in found))
    return np.array([[np.mean(found[name, model]) for model in models] for name in dict.fromkeys(n for n, _ in found)])


def columns(planned: Results, group: int) -> dict[str, dict[str, float | None]]:
    """By model, the numbers of one error's columns."""
    table = ranks_table(planned)[0]
    first = group * len(COLUMNS)
    return {
        label: dict(zip(COLUMNS, (cell.value for cell in cells[first : first + len(COLUMNS)]), strict=True))
        for label, cells in table.rows
    }


@pytest.mark.parametrize("group", range(len(METRICS)))
def test_ranks_wins_and_skill_agree_with_scipy_and_with_counting(group: int) -> None:
    planned = drawn()
    errors, found = averaged(planned, METRICS[group]), columns(planned, group)
    assert list(found) == TITLES
    naive = errors[:, TITLES.index("Seasonal naive")]
    for i, title in enumerate(TITLES):
        assert found[title]["Rank"] == pytest.approx(rankdata(errors, axis=1).mean(axis=0)[i])
        wins = [np.mean(errors[:, i] < errors[:, j]) for j in range(len(TITLES)) if j != i]
        assert found[title]["Wins %"] == pytest.approx(100 * np.mean(wins))
        if title != "Seasonal naive":
            assert found[title]["Over naive %"] == pytest.approx(100 * np.mean(errors[:, i] < naive))
            assert found[title]["Skill %"] == pytest.approx(100 * (1 - gmean(errors[:, i] / naive)))
            low, skill, high = (found[title][name] for name in ("from", "Skill %", "to"))
            assert low < skill < high


def test_a_model_is_not_compared_with_itself_and_none_with_a_naive_one_that_is_not_planned() -> None:
    nothing = {"Over naive %": None, "Skill %": None, "from": None, "to": None}
    assert nothing.items() <= columns(drawn(), 0)["Seasonal naive"].items()
    without = columns(drawn(models=MODELS[:2]), 0)
    assert all(nothing.items() <= values.items() for values in without.values())
    assert all(cell.note is None for _, cells in ranks_table(drawn())[0].rows for cell in cells)


def test_one_model_alone_has_a_rank_and_wins_over_nobody() -> None:
    assert columns(drawn(models=("dlinear",)), 0) == {
        "DLinear": {"Rank": 1, "Wins %": None, "Over naive %": None, "Skill %": None, "from": None, "to": None}
    }


def test_one_data_set_has_a_skill_without_an_interval() -> None:
    found = columns(drawn(datasets=("ILI",)), 0)["PatchTST"]
    assert found["Skill %"] is not None
    assert (found["from"], found["to"]) == (None, None)


def test_the_p_of_each_pair_is_shown_where_there_are_data_sets_enough_to_tell() -> None:
    planned = drawn()
    _, pairs = ranks_table(planned)
    errors = averaged(planned, "mse")
    by_pair = {
        frozenset((TITLES[i], TITLES[j])): wilcoxon(errors[:, i], errors[:, j]).pvalue
        for i, j in itertools.combinations(range(3), 2)
    }
    steps = sorted(by_pair.values())
    holm = [min(1, max((3 - k) * steps[k] for k in range(rank + 1))) for rank in range(3)]
    expected = {pair: holm[steps.index(p)] for pair, p in by_pair.items()}
    rows = dict(pairs.rows)
    for i, title in enumerate(TITLES):
        cells = rows[f"MSE: {title}"]
        assert cells[i].value is None
        for j, other in enumerate(TITLES):
            if i != j:
                assert cells[j].value == pytest.approx(expected[frozenset((title, other))])
    assert "tells these apart at 0.05" in ranks_table(planned)[0].caption


def test_too_few_data_sets_are_said_in_place_of_the_p_of_pairs() -> None:
    (table,) = ranks_table(drawn(datasets=DATASETS[:5]))
    assert table.caption.endswith("no significance is claimed.")
    assert complete(table)


def test_a_data_set_that_one_model_lacks_counts_for_none_and_is_said() -> None:
    whole = drawn()
    first = whole.runs[0][0].spec.task.dataset
    holed = Results([(entry, None if i == 0 else result) for i, (entry, result) in enumerate(whole.runs)])
    without = Results([(entry, result) for entry, result in whole.runs if entry.spec.task.dataset != first])
    assert columns(holed, 0) == columns(without, 0)
    assert "7 of 8 data sets are complete for every model." in ranks_table(holed)[0].caption
    keys = {key for _, cells in ranks_table(holed)[0].rows for cell in cells for key in cell.runs}
    assert keys == {entry.spec.key for entry, _ in without.runs}


def test_without_a_complete_data_set_every_number_is_a_hole() -> None:
    nothing = Results([(entry, None) for entry, _ in drawn().runs])
    (table,) = ranks_table(nothing)
    assert not complete(table)
    assert all(cell.value is None and cell.note == 1 for _, cells in table.rows for cell in cells)


def test_errors_by_data_set_keep_the_order_of_the_plan() -> None:
    planned = drawn()
    frame = errors_by_dataset(planned, "mae")
    assert list(frame.columns) == TITLES
    assert list(frame.index) == list(dict.fromkeys(entry.spec.task.dataset for entry, _ in planned.runs))
    assert isinstance(frame, pd.DataFrame)
    assert frame.to_numpy() == pytest.approx(averaged(planned, "mae"))
