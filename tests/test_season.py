"""Seasonal naive reads one season where that is longer than the look-back: a run of its own on the same windows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from bench.analysis.results import Results
from bench.core.card import DatasetCard, cards
from bench.core.spec import RunSpec
from bench.data.series import load_series
from bench.plan.suite import Filters, Suite, entries, load_suite, plan
from bench.report.methods import methods
from bench.train.execute import run_one, windows_of
from bench.train.windows import standardized
from tests.builders import waves

MakeCard = Callable[..., DatasetCard]
NAIVE, LAST = "seasonal_naive", "repeat_last"
CONTEXT, SEASON, TRAIN = 36, 52, 240


@pytest.fixture
def yearly(make_card: MakeCard, monkeypatch: pytest.MonkeyPatch) -> Callable[..., DatasetCard]:
    """Return a function that makes data like ILI: rows of a year longer than the look-back, 240 of 400 to train on."""

    def make(season: int = SEASON, name: str = "Yearly", rows: int = 400) -> DatasetCard:
        year = np.sin(2 * np.pi * np.arange(rows)[:, None] / season)
        card = make_card(5 * year + waves(rows, 2, seed=len(name)), name)
        card = card.model_copy(update={"season": season, "context": CONTEXT, "horizons": (24, 60)})
        monkeypatch.setitem(cards(), name, card)
        return card

    return make


def contexts(suite: Suite, *datasets: str, models: tuple[str, ...] = (NAIVE,)) -> dict[int, int]:
    """Return horizon -> the context of the models' runs."""
    specs = plan(suite, Filters(models=models, datasets=datasets, seeds=(2021,)))
    return {spec.task.horizon: spec.task.context for spec in specs}


def both(card: DatasetCard, horizon: int) -> tuple[RunSpec, RunSpec]:
    """Return the runs of seasonal naive and of repeat last on this data set."""
    filters = Filters(models=(NAIVE, LAST), datasets=(card.name,), horizons=(horizon,), seeds=(2021,))
    naive, last = plan(load_suite("paper"), filters)
    return naive, last


@pytest.mark.parametrize("horizon", [24, 60])
def test_its_forecasts_are_those_over_the_whole_history_on_the_windows_of_all_models(
    horizon: int, yearly: Callable[..., DatasetCard], cpu: torch.device
) -> None:
    card = yearly()
    specs = both(card, horizon)
    assert [spec.task.context for spec in specs] == [SEASON, CONTEXT]
    # 1. Validation and test windows of both begin their forecast at the same row.
    series = load_series(card)
    cut = [windows_of(spec, series, cpu) for spec in specs]
    for part in ("val", "test"):
        begins = [each[part].first + each[part].context for each in cut]
        assert begins == [card.bounds()[part][0]] * 2
        index = torch.arange(len(cut[0][part]))
        assert torch.equal(*(each[part].targets(index) for each in cut))
    # 2. Errors are those of a seasonal naive forecast that reads the whole history.
    history = standardized(series, cpu).double().numpy()
    first, last = card.bounds()["test"]
    rows = np.arange(first, last - horizon + 1)[:, None] + np.arange(horizon)
    seasons = np.arange(horizon) // SEASON + 1  # how many seasons before the target its forecast lies
    error = history[rows] - history[rows - SEASON * seasons]
    naive, repeated = (run_one(spec, cpu) for spec in specs)
    assert naive.evaluations[0].mse == pytest.approx(np.square(error).mean(), rel=1e-5)
    assert naive.evaluations[0].mae == pytest.approx(np.abs(error).mean(), rel=1e-5)
    # 3. It is no longer repeat last, on the same window.
    assert naive.evaluations[0].windows == repeated.evaluations[0].windows == len(rows)
    assert naive.evaluations[0].mse < 0.5 * repeated.evaluations[0].mse
    assert naive.sample and repeated.sample
    assert naive.sample.truth == repeated.sample.truth
    assert naive.sample.past[-CONTEXT:] == repeated.sample.past
    assert (naive.fault, repeated.fault) == (None, None)


def test_only_its_context_changes_and_only_where_a_season_is_longer_than_the_look_back() -> None:
    for suite in ("paper", "lookback_336", "few_shot", "zero_shot", "quick"):
        specs = plan(load_suite(suite), Filters(seeds=(2021,)))
        usual = {(spec.task.dataset, spec.task.horizon): spec.task for spec in specs if spec.model == LAST}
        changed = {}
        for spec in specs:
            task = usual[spec.task.dataset, spec.task.horizon].model_copy(
                update={"context": spec.task.context, "train_fraction": spec.task.train_fraction}
            )
            assert spec.task == task
            if spec.task.context != usual[spec.task.dataset, spec.task.horizon].context:
                changed[spec.model, spec.task.dataset] = spec.task.context
        longer = {(NAIVE, "ILI"): 52, (NAIVE, "Weather"): 144} if suite in ("paper", "few_shot") else {}
        assert changed == longer, suite


def test_where_the_rows_hold_no_season_it_reads_the_look_back_and_repeats_the_last_value(
    yearly: Callable[..., DatasetCard], cpu: torch.device
) -> None:
    paper = load_suite("paper")
    card = yearly(season=TRAIN - 40)
    assert contexts(paper, card.name) == {24: TRAIN - 40, 60: CONTEXT}, "40 rows are left to forecast"
    naive, last = (run_one(spec, cpu) for spec in both(card, 60))
    assert naive.evaluations[0] == last.evaluations[0]
    few = paper.model_copy(update={"fractions": (0.05,)})
    assert contexts(few, card.name) == {24: CONTEXT, 60: CONTEXT}, "5 % of 17 windows are none"


def test_the_season_is_that_of_the_data_set_trained_on_and_every_data_set_tested_on_holds_it(
    yearly: Callable[..., DatasetCard], cpu: torch.device
) -> None:
    card, other, short = yearly(), yearly(30, "Other"), yearly(30, "Short", rows=180)
    to = load_suite("paper").model_copy(update={"transfer": {"Yearly": ("Other",), "Other": ("Yearly",)}})
    assert contexts(to, card.name) == {24: SEASON, 60: SEASON}
    assert contexts(to, other.name) == {24: CONTEXT, 60: CONTEXT}
    (spec, *_) = plan(to, Filters(models=(NAIVE,), datasets=(card.name,), seeds=(2021,)))
    assert [each.windows for each in run_one(spec, cpu).evaluations] == [80 - 24 + 1] * 2
    to = to.model_copy(update={"transfer": {"Yearly": ("Short",)}})
    assert contexts(to, card.name) == {24: SEASON, 60: CONTEXT}, f"{short.name}: 108 rows to train on"


def test_reports_name_the_look_back_of_the_table_and_the_season_once() -> None:
    suite = load_suite("paper")
    filters = Filters(models=("dlinear", NAIVE), datasets=("ETTh1", "Weather", "ILI"), seeds=(2021,))
    planned = Results([(entry, None) for entry in entries(suite, filters)])
    lengths = "144 steps on Weather, 52 steps on ILI"
    said = f"Seasonal naive reads one season where that is longer than the look-back: {lengths}."
    assert "look-back 96 (ILI 36);" in planned.lead()
    assert planned.common("About.").startswith(said)
    (data,) = (section for section in methods(suite, planned) if section.title == "Data")
    assert data.text == (said,)
    at = data.headers.index("Look-back")
    assert [row[at] for row in data.rows] == ["96", "96", "36"]
    without = Results([run for run in planned.runs if run[0].spec.model != NAIVE])
    assert "season" not in without.common("About.")
