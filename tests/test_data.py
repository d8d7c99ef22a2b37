"""Splits, scaler and windows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.core.card import DatasetCard, cards
from bench.data.series import DataError, Series, load_series
from bench.train.windows import Windows, calendar, split_windows, standardized
from tests.builders import waves

ORACLE = {
    "ETTh1": [2785, 2689, 2545, 2161],
    "ETTh2": [2785, 2689, 2545, 2161],
    "ETTm1": [11425, 11329, 11185, 10801],
    "ETTm2": [11425, 11329, 11185, 10801],
    "Weather": [10444, 10348, 10204, 9820],
    "ECL": [5165, 5069, 4925, 4541],
    "Traffic": [3413, 3317, 3173, 2789],
    "Exchange": [1422, 1326, 1182, 798],
    "ILI": [170, 158, 146, 134],
}
"""Test windows by horizon, from the papers' official code with no batch dropped."""


@pytest.mark.parametrize("name", ORACLE)
def test_window_counts_equal_the_oracle(name: str) -> None:
    card = cards()[name]
    tensor = torch.zeros(card.rows, 1)
    counts = [len(split_windows(card, tensor, card.context, horizon)["test"]) for horizon in card.horizons]
    assert counts == ORACLE[name]


def _card(rows: int, split: tuple[float, float, float]) -> DatasetCard:
    return cards()["ETTh1"].model_copy(update={"rows": rows, "split": split})


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(60, 200),
    context=st.integers(1, 12),
    horizon=st.integers(1, 6),
    shares=st.sampled_from([(0.7, 0.1, 0.2), (0.6, 0.2, 0.2), (0.34, 0.33, 0.33)]),
)
def test_targets_of_a_part_cover_its_rows_and_never_leave_them(
    rows: int, context: int, horizon: int, shares: tuple[float, float, float]
) -> None:
    card = _card(rows, shares)
    tensor = torch.arange(rows, dtype=torch.float32)[:, None]
    parts = split_windows(card, tensor, context, horizon)
    for name, windows in parts.items():
        first, last = card.bounds()[name]
        index = torch.arange(len(windows))
        x, y = windows.contexts(index), windows.targets(index)
        assert x.shape == (len(windows), context, 1)
        assert y.shape == (len(windows), horizon, 1)
        assert torch.equal(torch.cat([x, y], 1).diff(dim=1), torch.ones(len(windows), context + horizon - 1, 1))
        targets = set(y.flatten().int().tolist())
        assert targets == set(range(first + (context if name == "train" else 0), last))
        starts = y[:, 0].flatten().int().tolist()
        assert len(starts) == len(set(starts))


def test_the_parts_follow_one_another_without_overlap_and_val_takes_the_rounding() -> None:
    assert cards()["ILI"].bounds() == {"train": (0, 676), "val": (676, 773), "test": (773, 966)}
    assert cards()["ETTh1"].bounds() == {"train": (0, 8640), "val": (8640, 11520), "test": (11520, 14400)}


def test_the_scaler_sees_the_training_rows_and_nothing_else(cpu: torch.device) -> None:
    values = waves(100, 3)
    card = _card(100, (0.6, 0.2, 0.2)).model_copy(update={"channels": 3})
    scaled = standardized(Series(card, values, np.zeros((100, 4)), ""), cpu)
    assert torch.allclose(scaled[:60].mean(0), torch.zeros(3), atol=1e-6)
    assert torch.allclose(scaled[:60].std(0, unbiased=False), torch.ones(3), atol=1e-6)
    changed = values.copy()
    changed[60:] += 1000 * np.random.default_rng(1).normal(size=(40, 3))
    assert torch.equal(standardized(Series(card, changed, np.zeros((100, 4)), ""), cpu)[:60], scaled[:60])


@pytest.mark.parametrize("constant", [5.0, 0.1])
def test_a_channel_that_is_constant_in_training_is_centred_only(constant: float, cpu: torch.device) -> None:
    """The standard deviation of 0.1, 0.1, ... is not 0 but for rounding."""
    values = waves(100, 2)
    values[:60, 0] = constant
    card = _card(100, (0.6, 0.2, 0.2)).model_copy(update={"channels": 2})
    scaled = standardized(Series(card, values, np.zeros((100, 4)), ""), cpu)
    assert torch.isfinite(scaled).all()
    assert torch.allclose(scaled[60:, 0], torch.tensor(values[60:, 0] - constant, dtype=torch.float32))


def test_few_shot_keeps_the_earliest_training_windows_and_all_others() -> None:
    card = cards()["ETTh1"]
    tensor = torch.zeros(card.rows, 1)
    whole, few = split_windows(card, tensor, 96, 96), split_windows(card, tensor, 96, 96, train_fraction=0.1)
    assert few["train"] == Windows(tensor, 0, int(0.1 * len(whole["train"])), 96, 96)
    assert (len(few["val"]), len(few["test"])) == (len(whole["val"]), len(whole["test"]))


def test_a_series_too_short_for_its_windows_is_refused_by_part() -> None:
    with pytest.raises(DataError, match=r"its val split of 2880 rows holds no window of context 96 and horizon 2881"):
        split_windows(cards()["ETTh1"], torch.zeros(17420, 1), 96, 2881)


def test_the_calendar_of_a_window_is_that_of_its_look_back(make_card: Callable[..., DatasetCard]) -> None:
    series = load_series(make_card(waves(200, 2)))  # hourly from 2020-01-01, a Wednesday
    part = split_windows(series.card, torch.zeros(200, 2), 32, 8, calendar=calendar(series, torch.device("cpu")))["val"]
    features = part.gather_calendar(torch.tensor([0, 5]))
    assert features.shape == (2, 32, 4)
    for window, start in ((0, 120 - 32), (1, 120 - 32 + 5)):
        stamps = pd.date_range("2020-01-01", periods=200, freq="h")[start : start + 32]
        expected = [[t.hour / 23, t.weekday() / 6, (t.day - 1) / 30, (t.day_of_year - 1) / 365] for t in stamps]
        assert np.allclose(features[window].numpy(), np.array(expected) - 0.5, atol=1e-6)
