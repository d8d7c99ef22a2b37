"""Do one run, from its spec to its record. Only this module reads the test split, once, after training."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from bench.core.card import DatasetCard, cards
from bench.core.names import What
from bench.core.record import Cost, Evaluation, Kept, Layer, RunResult, Where
from bench.core.spec import RunSpec
from bench.data.series import DataError, Series, load_series
from bench.plan import registry
from bench.plan.own_code import CodeChanged, raised_at, trace_of, watched
from bench.train.checkpoint import CheckpointError, OutOfTime
from bench.train.device import build_digest, peak_mb, provenance, reset_peak, seed_everything
from bench.train.errors import FurtherErrors
from bench.train.evaluate import evaluate, operations, predict, sample
from bench.train.keep import Aside, ForecastWriter, KeepError, write_weights
from bench.train.loop import Fit, TrainingDiverged, Watch, fit
from bench.train.probes import probe
from bench.train.windows import Windows, calendar, split_windows, standardized
from models import MODELS
from models.llm_files import BackboneError, find


def run_one(
    spec: RunSpec,
    device: torch.device,
    watch: Watch = Watch(),  # noqa: B008  (frozen)
    keep: Mapping[What, Path] = MappingProxyType({}),
) -> RunResult:
    """Train and test the model of `spec`. If the model fails, the record has status failed and its error.

    `keep`: what to keep -> the file to write it into. Raises errors of data, backbone, checkpoint, kept files and
    edited code, which concern more than this run, and OutOfTime.
    """
    for name in spec.task.datasets:
        if cards()[name].digest != spec.task.cards.get(name):
            raise DataError(f"{name}: its card has changed since this run was planned. Do: plan again")
    series = {name: load_series(cards()[name]) for name in spec.task.datasets}
    backbone_sha256 = find(spec.backbone).sha256 if spec.backbone else None
    own = MODELS[spec.model].weights if spec.model in MODELS else None
    data_sha256 = {name: each.sha256 for name, each in series.items()}
    where = provenance(device, data_sha256, backbone_sha256, own.sha256 if own else None)
    try:
        with watched(spec.model, spec.code):
            registry.load(spec.model)
        with watched(spec.model, spec.code):  # from here on files may be edited; what is imported later is compared
            return _run(spec, device, series, where, watch, keep)
    except (BackboneError, DataError, CheckpointError, KeepError, CodeChanged, OutOfTime):
        raise
    except BaseException as error:  # whatever a model raises, SystemExit too, ends its own run only
        return _failure(spec, where, error)


def _failure(spec: RunSpec, where: Where, error: BaseException) -> RunResult:
    """Return the record of a run that ended by an error, with the last frame in a file of the user's own."""
    trace = traceback.TracebackException.from_exception(error)  # its texts exist even if those of the error raise
    text = " ".join(str(trace).split()) or "no message"
    place = raised_at(error) if spec.own else ""
    reason = " ".join(f"{type(error).__name__}: {text}".split())[: 2000 - len(place)] + place
    reason = reason.encode("utf-8", "backslashreplace").decode()
    return RunResult(spec=spec, status="failed", where=where, error=reason, traceback=trace_of(error))


def _run(
    spec: RunSpec,
    device: torch.device,
    series: dict[str, Series],
    where: Where,
    watch: Watch,
    keep: Mapping[What, Path],
) -> RunResult:
    started = time.perf_counter()
    peak_known = reset_peak(device)
    task, precision = spec.task, spec.train.precision
    # 1. Cut the windows, build the model.
    parts = windows_of(spec, series[task.dataset], device)
    seed_everything(spec.seed)
    model = build(spec, series[task.dataset].card).to(device)
    # 2. Train, or probe only.
    trained, layers = _trained(spec, model, parts, watch)
    flops = _flops(model, parts["val"], precision)
    # 3. Test on every data set of the task.
    tests = {
        name: parts["test"] if name == task.dataset else windows_of(spec, each, device)["test"]
        for name, each in ({} if task.probe == "states" else series).items()
    }
    test_started = time.perf_counter()
    evaluations, kept, aside = scored(model, tests, series, precision, keep.get("forecasts"))
    finished, count = time.perf_counter() - aside, sum(each.windows for each in evaluations)
    total_s, infer_ms = finished - started + trained.before, 1000 * (finished - test_started) / count if count else None
    # 4. Keep the weights if asked, and always one forecast.
    peak = peak_mb(device) if peak_known else None
    if "weights" in keep:
        kept += (write_weights(keep["weights"], model, spec, series[task.dataset]),)
    forecast = None
    with contextlib.suppress(Exception):  # a model that cannot forecast a single window keeps its scores
        forecast = sample(model, parts["test"], precision)
    # 5. Write the record.
    return RunResult(
        spec=spec,
        status="done",
        evaluations=evaluations,
        layers=layers,
        sample=forecast,
        best_epoch=trained.best_epoch,
        curve=trained.curve,
        cost=_cost(model, trained, total_s=total_s, infer_ms=infer_ms, peak_mb=peak, flops=flops),
        where=where.model_copy(update={"resumed": trained.machines}),
        kept=kept,
    )


def _trained(
    spec: RunSpec, model: nn.Module, parts: Mapping[str, Windows], watch: Watch
) -> tuple[Fit, tuple[Layer, ...]]:
    """Train a model, with probes before and after if the task asks for them; or probe its states only."""
    probed, precision = spec.task.probe, spec.train.precision
    layers = probe(model, parts["train"], parts["val"], precision, "untrained") if probed else ()
    if probed == "states":
        return Fit(), layers
    joins_single = spec.code is not None  # a user's own model may read statistics of a batch
    trained = fit(model, parts["train"], parts["val"], spec.train, spec.seed, watch, joins_single)
    if probed == "training":
        layers += probe(model, parts["train"], parts["val"], precision, "trained")
    return trained, layers


def _cost(model: nn.Module, trained: Fit, **measured: Any) -> Cost:
    """Return what a run has cost, by its model, its training and what else was measured."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return Cost(
        train_s=sum(epoch.seconds for epoch in trained.curve),
        steps=trained.steps,
        samples_per_s=trained.windows / trained.seconds if trained.seconds else None,
        params=sum(size for size, _ in sizes),
        trainable=sum(size for size, trains in sizes if trains),
        micro_batch=trained.micro_batch,
        **measured,
    )


def scored(
    model: nn.Module,
    tests: Mapping[str, Windows],
    series: Mapping[str, Series],
    precision: str,
    file: Path | None = None,
) -> tuple[tuple[Evaluation, ...], tuple[Kept, ...], float]:
    """Score a model on data set -> test windows, and write the forecasts into `file` if there is one.

    Return the errors, the entry of the file, and the seconds that further errors and the file took.
    """
    evaluations = []
    out = ForecastWriter(file, tests) if file and tests else None
    aside = 0.0
    for name, windows in tests.items():
        clock = Aside(windows.series.device)
        began = time.perf_counter()
        further = FurtherErrors(series[name], windows)
        with out.of(name, series[name], windows, further.seasonal) if out else contextlib.nullcontext() as take:
            aside += time.perf_counter() - began
            observers = [clock(each) for each in (further, take) if each]
            errors = evaluate(model, windows, precision, observers)
        if not math.isfinite(errors.mse):
            raise TrainingDiverged(f"the test error on {name} is {errors.mse}")
        evaluations.append(Evaluation(dataset=name, **dataclasses.asdict(errors), further=further.result()))
        aside += clock.seconds
    began = time.perf_counter()
    kept = (out.kept(),) if out else ()
    return tuple(evaluations), kept, aside + time.perf_counter() - began


def identity(spec: RunSpec, device: torch.device) -> str:
    """Return what must be equal for a run to go on from its checkpoint bit for bit."""
    return f"{spec.key} {build_digest()} {device.type}"


def windows_of(spec: RunSpec, series: Series, device: torch.device) -> dict[str, Windows]:
    """Return split -> windows of a series, on the device, standardised by the series' own train split."""
    task, tensor, stamps = spec.task, standardized(series, device), calendar(series, device)
    return split_windows(series.card, tensor, task.context, task.horizon, task.train_fraction, stamps)


def build(spec: RunSpec, card: DatasetCard) -> nn.Module:
    """Build the untrained model of a spec; its weights are drawn from torch's current state."""
    model_class = registry.load(spec.model)
    options = registry.make_options(spec.model, model_class, spec.options)
    return model_class(card.shape(spec.task.context, spec.task.horizon), options)


def _flops(model: nn.Module, windows: Windows, precision: str) -> int:
    """Count the floating-point operations of one forecast for one window."""
    index = torch.zeros(1, dtype=torch.long, device=windows.series.device)
    model.eval()
    with torch.inference_mode():
        return operations(lambda: predict(model, windows, index, precision))
