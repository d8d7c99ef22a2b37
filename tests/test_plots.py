"""Figures from generated records: holes stay holes, numbers are those of the records, the same bytes every time."""

from __future__ import annotations

import math
import zlib

import numpy as np

from bench.planned import Planned
from bench.spec import Cost, Epoch, Evaluation, Layer, RunResult, RunSpec, Sample
from bench.suite import Filters, entries, load_suite
from tests.test_tables import WHERE

LEVEL = {"logo_llm": 1.0, "time_llm_lite": 1.12, "calf_lite": 1.06, "patchtst": 0.97, "itransformer": 1.01}
LEVEL |= {"dlinear": 1.09, "seasonal_naive": 1.45, "repeat_last": 2.2}
SCALE = {"ILI": 2.1, "ETTh2": 0.36, "ETTm2": 0.27, "Exchange": 0.3, "Weather": 0.24, "ECL": 0.19, "Traffic": 0.55}
SECONDS = {"logo_llm": 1100, "time_llm_lite": 2600, "calf_lite": 800, "patchtst": 400, "itransformer": 40, "dlinear": 4}


def record(spec: RunSpec, variant: str = "") -> RunResult:
    """A run with numbers as they might come out, drawn anew for each spec and the same every time."""
    task = spec.task
    same = f"{task.dataset} {spec.model} {variant}"
    cell, run = (np.random.default_rng(zlib.crc32(text.encode())) for text in (same, f"{same} {task} {spec.seed}"))
    trains = spec.model in SECONDS or spec.model not in LEVEL
    level = LEVEL.get(spec.model, 1.03) * math.exp(cell.normal(0, 0.06)) * (task.horizon / 96) ** 0.16
    level *= task.train_fraction**-0.1 * math.exp(run.normal(0, 0.008) if trains else 0)
    evaluations = tuple(
        Evaluation(
            dataset=name, mse=SCALE.get(name, 0.4) * level, mae=(SCALE.get(name, 0.4) * level) ** 0.5 * 0.6, windows=9
        )
        for name in (task.dataset, *task.test_on)
    )
    curve, best = _curve(spec, run) if trains else ((), None)
    seconds = SECONDS.get(spec.model, 90) * run.uniform(0.8, 1.2) if trains else 0.0
    return RunResult(
        spec=spec,
        status="done",
        evaluations=evaluations,
        layers=_layers(spec, run) if task.probe else (),
        sample=_sample(spec, run),
        best_epoch=best,
        curve=curve,
        cost=Cost(
            train_s=seconds,
            total_s=seconds + 2,
            steps=len(curve) * 10,
            samples_per_s=None,
            infer_ms=1,
            peak_mb=None,
            params=10**6,
            trainable=int(2e3 * seconds),
            flops=10**9,
        ),
        where=WHERE,
    )


def _curve(spec: RunSpec, run: np.random.Generator) -> tuple[tuple[Epoch, ...], int]:
    count = 100 if spec.model == "patchtst" else 10
    losses = 0.3 * (1 + np.exp(-np.arange(count) / 2) + 0.003 * np.arange(count) + abs(run.normal(0, 0.01, count)))
    curve = [
        Epoch(epoch=number, train_loss=loss, val_loss=loss, lr=1e-3, seconds=1) for number, loss in enumerate(losses, 1)
    ]
    return tuple(curve), int(losses.argmin()) + 1


def _layers(spec: RunSpec, run: np.random.Generator) -> tuple[Layer, ...]:
    pretrained = not str(spec.options["backbone"]).endswith("-random")
    return tuple(
        Layer(
            block=block,
            stage=stage,
            local_r2=1 - 0.03 * block * (1 + pretrained) + run.normal(0, 0.01),
            trend_r2=0.7 + 0.02 * block + 0.02 * (stage == "trained") + run.normal(0, 0.01),
            local_share=0.3,
            trend_share=0.3,
            slow_power=0.3,
        )
        for stage in ("untrained", "trained")
        for block in range(int(spec.options["blocks"]) + 1)
    )


def _sample(spec: RunSpec, run: np.random.Generator) -> Sample:
    task = spec.task
    phase = zlib.crc32(task.dataset.encode()) % 24
    steps = np.arange(task.context + task.horizon)
    noise = np.random.default_rng(phase).normal(0, 0.25, len(steps))
    series = np.sin((steps + phase) * np.pi / 12) + 0.01 * steps + noise
    past, truth = series[: task.context], series[task.context :]
    forecast = (truth - noise[task.context :]) * run.uniform(0.6, 1) + run.normal(0, 0.1)
    if spec.model == "repeat_last":
        forecast = np.full(task.horizon, past[-1])
    return Sample(
        window=7,
        channel=0,
        past=tuple(past.round(4)),
        truth=tuple(truth.round(4)),
        forecast=tuple(forecast.round(4)),
    )


def complete(suite: str, **filters: tuple) -> Planned:
    """Every run of the suite under the filters is there."""
    planned = entries(load_suite(suite), Filters(backbone="smollm2-135m", **filters))
    return Planned([(entry, record(entry.spec, entry.variant)) for entry in planned])
