"""Forecast with the kept weights of a run: its test part again, or what follows a user's own rows."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn

from bench.core.base import BenchError
from bench.core.card import DatasetCard, cards
from bench.core.kept import Forecasts, load_forecasts
from bench.core.record import Evaluation, RunResult
from bench.core.store import Store
from bench.data.new_rows import new_rows
from bench.data.series import calendar_of, load_series
from bench.data.steps import Step
from bench.plan.own_code import watched
from bench.train.device import pick_device, seed_everything
from bench.train.evaluate import predict
from bench.train.execute import build, scored, windows_of
from bench.train.keep import Weights, read_weights
from bench.train.loop import store_frozen
from bench.train.windows import Windows
from bench.train.worker import as_new, check, load
from models.llm_blocks import prepare

SAME = 1e-6
"""Errors that differ by less, relative to the record's, are the record's."""


class TestedAgain(NamedTuple):
    """The test part of a run, forecast again by its kept weights."""

    evaluations: tuple[Evaluation, ...]
    forecasts: dict[str, Forecasts]
    """Data set -> its forecasts; empty if they were not asked for."""
    differ: tuple[str, ...]
    """The data sets on which MSE or MAE is another than in the record."""


def score_again(store: Store, result: RunResult, device: str, wanted: bool) -> TestedAgain:
    """Rebuild the model of a run, and score it on the run's test part; with the forecasts, if they are `wanted`.

    Raises BenchError where weights, data, language model or the user's own code are not those of the run.
    """
    spec, weights = result.spec, read_weights(store, result)
    for name in spec.task.datasets:
        if name not in cards() or cards()[name].digest != spec.task.cards[name]:
            raise BenchError(f"{name}: its card is gone or has changed since the run. Do: restore datasets/{name}.toml")
    check([spec])
    model = _rebuilt(weights, device)
    series = {name: load_series(cards()[name]) for name in spec.task.datasets}
    tests = {name: windows_of(spec, each, pick_device(device))["test"] for name, each in series.items()}
    with tempfile.TemporaryDirectory() as folder, watched(spec.model, spec.code):
        file = Path(folder) / "forecasts.npz" if wanted else None
        evaluations, _, _ = scored(model, tests, series, spec.train.precision, file)
        forecasts = {}
        if file:
            with file.open("rb") as kept:
                forecasts = dict(load_forecasts(kept, spec.task.datasets))
    pairs = [*zip(evaluations, result.evaluations, strict=True)]
    differ = tuple(now.dataset for now, then in pairs if not _same(now, then))
    return TestedAgain(evaluations, forecasts, differ)


def forecast_after(store: Store, result: RunResult, file: Path, device: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a user's own rows, and the model's forecast of the rows after them, both by stamp in original units.

    The rows are standardised as the run's training part was; the run's data are not read. Raises BenchError.
    """
    spec, weights = result.spec, read_weights(store, result)
    task, card = spec.task, weights.card
    rows = new_rows(file, card, weights.channels, task.context)
    if spec.backbone:
        prepare(spec.backbone)
    model = _rebuilt(weights, device)
    # 1. One window: the last rows, and room for a target that nobody knows.
    stamps = pd.Series(rows.index)
    last = (rows.to_numpy(np.float64)[-task.context :] - weights.mean) / weights.deviation
    calendar = calendar_of(stamps.iloc[-task.context :])
    place = pick_device(device)
    padded = (np.pad(each, ((0, task.horizon), (0, 0))).astype(np.float32) for each in (last, calendar))
    values, moments = (torch.from_numpy(each).to(place) for each in padded)
    window = Windows(values, 0, 1, task.context, task.horizon, moments)
    # 2. Its forecast.
    with torch.inference_mode(), watched(spec.model, spec.code):
        forecast, _ = predict(model, window, torch.zeros(1, dtype=torch.long, device=place), spec.train.precision)
    numbers = forecast[0].double().cpu().numpy() * weights.deviation + weights.mean
    after = pd.Index(Step.of_card(card.step).after(stamps, task.horizon), name="ds")
    return rows, pd.DataFrame(numbers, after, list(weights.channels))


def forecast_table(own: Forecasts, card: DatasetCard) -> pd.DataFrame:
    """Return every test forecast in original units: the last stamp read, the step, its stamp, and a column a channel.

    Of the first window the last stamp read is not among the forecast rows; it is one of the card's steps back.
    """
    windows, steps, channels = own.forecast.shape
    stamps = pd.DatetimeIndex(own.stamps)
    cutoffs = stamps[: windows - 1].insert(0, Step.of_card(card.step).before(pd.Series(stamps)))
    places = np.arange(windows)[:, None] + np.arange(steps)
    table = pd.DataFrame(own.in_units(own.forecast).reshape(-1, channels), columns=list(own.channels))
    table.insert(0, "ds", stamps[places.ravel()])
    table.insert(0, "step", np.tile(np.arange(1, steps + 1), windows))
    table.insert(0, "cutoff", cutoffs.repeat(steps))
    return table


def window_of(own: Forecasts, context: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return the past, the forecast and the truth of the middle window, by stamp in original units.

    The past is those of the look-back's rows that are themselves forecast by an earlier window.
    """
    window, steps = len(own.forecast) // 2, own.forecast.shape[1]
    stamps, values = pd.DatetimeIndex(own.stamps), own.in_units(own.rows)
    past, later = slice(max(0, window - context), window), slice(window, window + steps)
    numbers = values[past], own.in_units(own.forecast[window]), values[later]
    places = past, later, later
    parts = [pd.DataFrame(each, stamps[at], list(own.channels)) for each, at in zip(numbers, places, strict=True)]
    return parts[0], parts[1], parts[2]


def _rebuilt(weights: Weights, device: str) -> nn.Module:
    """Build the model of a run with its kept weights, as a worker builds it, in eval mode."""
    spec = weights.spec
    as_new()
    load([spec])
    with watched(spec.model, spec.code):
        seed_everything(spec.seed)
        model = build(spec, weights.card).to(pick_device(device))
        if any(parameter.requires_grad for parameter in model.parameters()):
            store_frozen(model, spec.train.precision)
        weights.put_into(model)
    return model.eval()


def _same(now: Evaluation, then: Evaluation) -> bool:
    pairs = (now.mse, then.mse), (now.mae, then.mae)
    return all(abs(here - there) <= SAME * max(there, SAME) for here, there in pairs)
