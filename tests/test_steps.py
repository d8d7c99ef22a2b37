"""Steps: fixed times, months and business days are parsed, inferred, verified, said in words and filled up."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.core.base import BenchError, parse
from bench.core.card import DatasetCard, cards
from bench.data.series import DataError, load_series
from bench.data.steps import SEASONS, Step, inferred_step

WriteSeries = Callable[..., DatasetCard]


@pytest.fixture
def write_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteSeries:
    """Writes one channel below these stamps, and makes its card."""
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))

    def make(stamps: pd.Series, step: str, **changes: object) -> DatasetCard:
        form = "%Y-%m-%d %H:%M:%S" + (".%f" if stamps.dt.microsecond.any() else "")
        content = pd.DataFrame({"date": stamps.dt.strftime(form), "load": range(len(stamps))}).to_csv(index=False)
        (tmp_path / "toy.csv").write_text(content)
        fields = cards()["ETTh1"].model_dump() | {
            "name": "Toy", "sha256": [hashlib.sha256(content.encode()).hexdigest()], "step": step, "rows": len(stamps),
            "channels": ["load"], "split": (0.6, 0.2, 0.2), "source": {"path": "toy.csv"},
        }  # fmt: skip
        return parse(DatasetCard, fields | changes, "toy.toml")

    return make


def stamps(first: str, rows: int, frequency: str) -> pd.Series:
    return pd.Series(pd.date_range(first, periods=rows, freq=frequency, unit="us"))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("15min", "15min"), ("60min", "1h"), ("24h", "1D"), ("168h", "7D"), ("1000ms", "1s"), ("20ms", "20ms"),
        ("250us", "250us"), ("1500ms", "1500ms"), ("W", "7D"), ("2W", "14D"), ("W-SUN", "7D"), ("D", "1D"), ("h", "1h"),
        ("H", "1h"), ("T", "1min"), ("MS", "1M"), ("ME", "1M"), ("M", "1M"), ("BME", "1M"), ("2MS", "2M"), ("QS", "3M"),
        ("QE", "3M"), ("Q", "3M"), ("QS-FEB", "3M"), ("2QS", "6M"), ("YS", "12M"), ("YE", "12M"), ("A", "12M"),
        ("YE-JUN", "12M"), ("B", "1B"), ("1B", "1B"), ("12M", "12M"),
    ],
)  # fmt: skip
def test_steps_have_one_word_each_and_those_of_pandas_are_understood(text: str, word: str) -> None:
    step = Step.parse(text)
    assert str(step) == word
    assert Step.parse(word) == step


@pytest.mark.parametrize("text", ["", "0h", "2B", "1 h", "fortnight", "-1D", "1.5h", "99999999D", "10000M", "SME", "m"])
def test_other_words_are_no_steps(text: str) -> None:
    assert Step.parse(text) is None


@pytest.mark.parametrize("step", ["1M", "3M", "12M", "1B", "20ms", "250us", "9999999D", "9999M"])
def test_a_card_takes_calendar_and_short_steps(step: str) -> None:
    assert parse(DatasetCard, cards()["ETTh1"].model_dump() | {"step": step}, "toy.toml").step == step
    assert Step.parse(step) is not None


@pytest.mark.parametrize("step", ["2B", "0M", "1Q", "MS", "10000M", "99999999D"])
def test_a_card_takes_no_other_words(step: str) -> None:
    with pytest.raises(BenchError, match="step"):
        parse(DatasetCard, cards()["ETTh1"].model_dump() | {"step": step}, "toy.toml")


REGULAR = {
    "month start": ("1940-01-01", "MS", "1M"),
    "month end": ("1940-01-31", "ME", "1M"),
    "last business day": ("1940-01-31", "BME", "1M"),
    "first business day": ("1940-01-01", "BMS", "1M"),
    "quarter": ("1800-01-01", "QS", "3M"),
    "quarter from February": ("1800-02-01", "QS-FEB", "3M"),
    "quarter end": ("1800-03-31", "QE", "3M"),
    "half-year": ("1800-06-30", "2QE", "6M"),
    "year": ("1000-01-01", "YS", "12M"),
    "year end in February": ("1000-02-28", "YE-FEB", "12M"),
    "ten years": ("1000-01-01", "10YS", "120M"),
    "business day": ("2010-01-01", "B", "1B"),
    "day": ("2010-01-01", "D", "1D"),
    "week": ("2010-01-03", "W", "7D"),
    "four weeks": ("2010-01-03", "28D", "28D"),
    "twenty milliseconds": ("2020-01-01", "20ms", "20ms"),
    "beyond nanoseconds": ("2300-01-01", "h", "1h"),
}


@pytest.mark.parametrize("case", REGULAR)
def test_regular_stamps_are_inferred_and_verified_and_give_calendar_features(
    write_series: WriteSeries, case: str
) -> None:
    first, frequency, word = REGULAR[case]
    regular = stamps(first, 120, frequency)
    step, odd = inferred_step(regular)
    assert str(step) == word
    assert not odd.any()
    calendar = load_series(write_series(regular, word)).calendar
    assert calendar.shape == (120, 4)
    assert np.abs(calendar).max() <= 0.5  # so finite, too


@pytest.mark.parametrize("case", REGULAR)
def test_a_missing_row_is_found_named_and_can_be_filled(write_series: WriteSeries, case: str) -> None:
    first, frequency, word = REGULAR[case]
    regular = stamps(first, 120, frequency)
    cut = regular.drop([50, 51, 90]).reset_index(drop=True)
    step, odd = inferred_step(cut)
    assert str(step) == word
    assert np.flatnonzero(odd).tolist() == [50, 88]
    assert step.missing(cut, np.flatnonzero(odd)).tolist() == regular[[50, 51, 90]].tolist()
    with pytest.raises(DataError, match=f"2 steps that are not {word}"):
        load_series(write_series(cut, word))
    assert load_series(write_series(cut, word, irregular_steps=2)).values.shape == (117, 1)


def test_a_day_of_the_month_may_be_any_if_it_is_told_but_follows_a_pattern_if_it_is_inferred() -> None:
    moved = stamps("2000-01-15", 60, "MS") + pd.Timedelta("14D")
    moved[30] += pd.Timedelta("3D")
    step, odd = inferred_step(moved)
    assert (str(step), np.flatnonzero(odd).tolist()) == ("1M", [30])
    assert not step.odd(moved).any()


def test_the_thirtieth_is_clamped_to_february() -> None:
    months = pd.date_range("2000-01-01", periods=60, freq="MS")
    days = pd.Series([month.replace(day=min(30, month.days_in_month)) for month in months])
    assert not inferred_step(days)[1].any()


def test_a_weekend_between_business_days_is_odd() -> None:
    days = pd.concat([stamps("2010-01-01", 100, "B"), pd.Series([pd.Timestamp("2010-02-06")])]).sort_values()
    step, odd = inferred_step(days.reset_index(drop=True))
    assert str(step) == "1B"
    assert odd[days.reset_index(drop=True).tolist().index(pd.Timestamp("2010-02-06"))]


@pytest.mark.parametrize(
    ("step", "length", "words"),
    [
        ("1h", 3, "3 h"), ("1h", 27, "1 day 3 h"), ("15min", 6, "1 h 30 min"), ("1D", 1, "1 day"), ("7D", 1, "7 days"),
        ("20ms", 3, "60 ms"), ("1M", 1, "1 month"), ("3M", 2, "6 months"), ("1B", 1, "1 business day"),
        ("1B", 2, "2 business days"),
    ],
)  # fmt: skip
def test_lengths_are_said_for_people(step: str, length: int, words: str) -> None:
    parsed = Step.parse(step)
    assert parsed is not None
    assert parsed.say(length * parsed.size) == words


def test_seasons_by_convention_are_of_words_that_cards_take() -> None:
    assert {word: str(Step.parse(word)) for word in SEASONS} == {word: word for word in SEASONS}
    assert [SEASONS[word] for word in ("1M", "3M", "6M", "12M", "1B")] == [12, 4, 2, 1, 5]
