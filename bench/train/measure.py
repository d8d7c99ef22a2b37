"""Time a few steps of a run, for `plan --measure`: the estimate of a run that no record tells of."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from bench.core.card import cards
from bench.core.spec import RunSpec
from bench.core.system import THREADS
from bench.data.series import load_series
from bench.plan.estimate import Estimate, work
from bench.train.device import peak_mb, pick_device, reset_peak, seed_everything
from bench.train.evaluate import evaluate, scorer, whole_batch
from bench.train.execute import build, windows_of
from bench.train.graph import WARM_UP, replays
from bench.train.loop import store_frozen
from bench.train.step import Stepper
from bench.train.worker import as_new, check, load, use_threads

SECONDS = 0.5
"""About how long steps are timed."""


def measure(spec: RunSpec) -> Estimate:
    """Estimate seconds and peak memory of a run, all its epochs counted, from a few of its steps and a test batch.

    Data and backbone must be here: raises BenchError, and whatever the model raises.
    """
    if spec.task.probe == "states":
        return Estimate(None, None, "not timed", ": it takes no steps")
    # 1. Build the run as a worker does.
    check([spec])
    load([spec])
    use_threads(THREADS)
    as_new()
    device = pick_device("auto")
    peak_known = reset_peak(device)
    began = time.perf_counter()
    seed_everything(spec.seed)
    series, config = load_series(cards()[spec.task.dataset]), spec.train
    parts = windows_of(spec, series, device)
    model = build(spec, series.card).to(device)
    trains = any(parameter.requires_grad for parameter in model.parameters())
    windows, seconds = work(spec, share=float(trains)), time.perf_counter() - began
    # 2. Time training steps, where anything trains.
    if trains:
        store_frozen(model, config.precision)
        step = Stepper(model, parts["train"], config)
        batches = itertools.cycle(torch.randperm(len(parts["train"])).to(device).split(config.batch))

        def train_batch() -> int:
            batch = next(batches)
            step(batch, config.lr).item()  # waits for a GPU
            return len(batch)

        model.train()
        seconds += windows.trained * _per_window(train_batch, warm_up=WARM_UP + 1 if step.graph else 2)
    # 3. Time an evaluation batch.
    batch = replace(parts["test"], count=whole_batch(parts["test"]))
    score = scorer(model, batch, config.precision)
    seconds += windows.scored * _per_window(
        lambda: evaluate(model, batch, config.precision, score=score).windows,
        warm_up=WARM_UP + 1 if replays(model, device) else 1,
    )
    return Estimate(seconds, peak_mb(device) if peak_known else None, "timed")


def _per_window(step: Callable[[], int], warm_up: int) -> float:
    """Return the seconds per window of a step that returns how many windows it took."""
    for _ in range(warm_up):
        step()
    windows, began = 0, time.perf_counter()
    while not windows or time.perf_counter() - began < SECONDS:
        windows += step()
    return (time.perf_counter() - began) / windows
