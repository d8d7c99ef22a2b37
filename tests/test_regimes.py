"""The table by regime, and the features that it bins channels by."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import gmean, rankdata

from bench.analysis import regimes
from bench.analysis.regimes import CUTS, features, regimes_table
from bench.analysis.results import Results
from bench.core.base import ROOT
from bench.core.card import cards
from bench.core.record import RunResult
from bench.plan.suite import Filters, PlannedRun, entries, load_suite
from tests.builders import record

MODELS = ("patchtst", "dlinear", "seasonal_naive")
TITLES = ("PatchTST", "DLinear", "Seasonal naive")


def of_channel(entry: PlannedRun, channel: int) -> tuple[float, float]:
    """Errors of a channel: any rule that orders models otherwise on each."""
    mse = 1 + math.sin(7 * channel + 3 * MODELS.index(entry.spec.model) + entry.spec.seed) / 2
    mse += entry.spec.task.horizon / 1000
    return mse, mse / 3


def recorded(entry: PlannedRun, channels: bool = True) -> RunResult:
    result = record(entry.spec)
    (evaluation,) = result.evaluations
    width = cards()[entry.spec.task.dataset].width if channels else 0
    errors = tuple(of_channel(entry, channel) for channel in range(width))
    return result.model_copy(update={"evaluations": (evaluation.model_copy(update={"channels": errors}),)})


def planned(without: str = "") -> Results:
    chosen = Filters(models=MODELS, datasets=("ETTh1", "ILI"), seeds=(2021, 2022))
    runs = entries(load_suite("paper"), chosen)
    return Results([(entry, recorded(entry, entry.spec.task.dataset != without)) for entry in runs])


def test_ranks_and_skill_are_those_of_the_channels_on_each_side_of_a_cut() -> None:
    results = planned()
    mse, mae = regimes_table(results)
    means: dict[tuple[str, int], list[float]] = {}
    for name in ("ETTh1", "ILI"):
        for channel in range(7):
            own = [
                [of_channel(e, channel)[0] for e, _ in results.runs if (e.spec.task.dataset, e.spec.model) == (name, m)]
                for m in MODELS
            ]
            means[name, channel] = [float(np.mean(each)) for each in own]
    kinds = features().set_index(["dataset", "channel"])
    found = {label.partition(" (")[0]: [cell.value for cell in cells] for label, cells in mse.rows}
    assert len(found) == 2 * len(CUTS)
    for feature, cut in CUTS.items():
        for side, above in (("<", False), (">=", True)):
            own = np.array([each for key, each in means.items() if (kinds.loc[key, feature] >= cut) == above])
            ranks = np.mean([rankdata(row) for row in own], axis=0)
            skills = [100 * (1 - gmean(own[:, i] / own[:, 2])) for i in range(3)]
            expected = [x for pair in zip(ranks, skills, strict=True) for x in pair]
            line = found[f"{feature.replace('_', ' ')} {side} {cut:g}"]
            assert line[:5] == pytest.approx(expected[:5])
            assert line[5] is None  # the reference against itself
    assert [label for label, _ in mae.rows] == [label for label, _ in mse.rows]
    assert mse.rows[0][0].endswith(" channels, 2 data sets)") and mse.notes == ["Over channels of ETTh1, ILI."]


def test_a_data_set_without_errors_of_channels_is_left_out_and_named() -> None:
    for table in regimes_table(planned(without="ETTh1")):
        assert all(label.endswith(", 1 data set)") for label, _ in table.rows)
        over, left_out = table.notes
        assert (over, left_out.partition(": ")[2]) == ("Over channels of ILI.", "ETTh1.")
    nothing = Results([(entry, None) for entry, _ in planned().runs])
    assert [table.rows for table in regimes_table(nothing)] == [[], []]
    seen = entries(load_suite("paper"), Filters(models=("fracast",), datasets=("ILI",)))
    assert [table.rows for table in regimes_table(Results([(entry, None) for entry in seen]))] == [[], []]


def test_every_channel_of_the_data_at_hand_is_described() -> None:
    known = features()
    assert not known.duplicated(["dataset", "channel"]).any()
    for name, own in known.groupby("dataset"):
        assert list(own.channel) == list(range(cards()[name].width))
    assert known[list(CUTS)].apply(lambda column: column.between(0, 1).all()).all()
    for feature, cut in CUTS.items():
        assert 0.2 < (known[feature] < cut).mean() < 0.8 or feature == "unit_root_p"


@pytest.fixture(scope="module")
def described():  # type: ignore[no-untyped-def]
    spec = importlib.util.spec_from_file_location("features", ROOT / "docs" / "features.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.described


def test_features_tell_trend_season_noise_and_a_random_walk_apart(described) -> None:  # type: ignore[no-untyped-def]
    draw, time = np.random.default_rng(0), np.arange(2000)
    noise = draw.normal(size=2000)
    season = described(np.sin(2 * np.pi * time / 24) * 3 + noise, 24)
    slope = described(time / 100 + noise, 24)
    white = described(noise, 24)
    walk = described(np.cumsum(noise), 24)
    # Var of the sine is 9 / 2 beside a noise of 1, of the slope 400 / 12: what STL should find, but for what it fits of
    # the noise.
    assert season["season"] == pytest.approx(1 - 1 / (1 + 4.5), abs=0.06) and season["trend"] < 0.3
    assert slope["trend"] == pytest.approx(1 - 1 / (1 + 100 / 3), abs=0.06) and slope["season"] < 0.3
    assert white["entropy"] > 0.9 > season["entropy"] and white["unit_root_p"] < 0.01
    assert walk["unit_root_p"] > 0.05 and walk["trend"] > 0.9 and walk["entropy"] < 0.6


def test_a_checkout_without_features_has_an_empty_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regimes, "FILE", "nothing.csv")
    assert [table.rows for table in regimes_table(planned())] == [[], []]
    assert isinstance(features(), pd.DataFrame)
