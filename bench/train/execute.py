"""One run from its spec to its record. The only place that touches the test part, once, after training."""

from __future__ import annotations

import math
import time

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench.core.card import DatasetCard, cards
from bench.core.record import Cost, Evaluation, RunResult, Where
from bench.core.spec import RunSpec
from bench.data.series import DataError, Series, load_series
from bench.plan import registry
from bench.train.checkpoint import CheckpointError, OutOfTime
from bench.train.device import build_digest, peak_mb, provenance, reset_peak, seed_everything
from bench.train.evaluate import autocast, evaluate, predict, sample
from bench.train.loop import Fit, TrainingDiverged, Watch, fit
from bench.train.probes import probe
from bench.train.windows import Windows, calendar, split_windows, standardized
from models.llm_files import BackboneError, find


def run_one(spec: RunSpec, device: torch.device, watch: Watch = Watch()) -> RunResult:  # noqa: B008  (frozen)
    """Train and test what `spec` says; a model's failure comes back as a record with its error.

    Data, backbone and checkpoint errors are raised: they concern more than this run. So is OutOfTime.
    """
    series = {name: load_series(_card(spec, name)) for name in spec.task.datasets}
    where = provenance(
        device,
        {name: each.sha256 for name, each in series.items()},
        find(spec.backbone).sha256 if spec.backbone else None,
    )
    try:
        return _run(spec, device, series, where, watch)
    except (BackboneError, DataError, CheckpointError, OutOfTime):
        raise
    except Exception as error:  # whatever a model raises ends its own run, not the grid
        text = " ".join(str(error).split()).encode("utf-8", "backslashreplace").decode() or "no message"
        return RunResult(spec=spec, status="failed", where=where, error=f"{type(error).__name__}: {text}"[:2000])


def _run(
    spec: RunSpec,
    device: torch.device,
    series: dict[str, Series],
    where: Where,
    watch: Watch,
) -> RunResult:
    started = time.perf_counter()
    peak_known = reset_peak(device)
    task = spec.task
    own = series[task.dataset]
    parts = _windows(spec, own, device, task.train_fraction)
    seed_everything(spec.seed)
    model = build(spec, own).to(device)
    measured = probe(model, parts["train"], parts["val"], spec.train.precision, "untrained") if task.probe else ()
    trained = fit(model, parts["train"], parts["val"], spec.train, spec.seed, watch)
    if task.probe:
        measured += probe(model, parts["train"], parts["val"], spec.train.precision, "trained")
    flops = _flops(model, parts["val"], spec.train.precision)
    tested = time.perf_counter()
    evaluations = []
    for name, tested_series in series.items():
        test = parts["test"] if name == task.dataset else _windows(spec, tested_series, device)["test"]
        errors = evaluate(model, test, spec.train.precision)
        if not math.isfinite(errors.mse):
            raise TrainingDiverged(f"the test error on {name} is {errors.mse}")
        evaluations.append(Evaluation(dataset=name, mse=errors.mse, mae=errors.mae, windows=errors.windows))
    finished = time.perf_counter()
    try:
        shown = sample(model, parts["test"], spec.train.precision)
    except Exception:  # a model that cannot take a single window: what is scored counts all the same
        shown = None
    return RunResult(
        spec=spec,
        status="done",
        evaluations=tuple(evaluations),
        layers=measured,
        sample=shown,
        best_epoch=trained.best_epoch,
        curve=trained.curve,
        cost=Cost(
            train_s=sum(epoch.seconds for epoch in trained.curve),
            total_s=finished - started + trained.before,
            steps=trained.steps,
            samples_per_s=_speed(trained),
            infer_ms=1000 * (finished - tested) / sum(each.windows for each in evaluations),
            peak_mb=peak_mb(device) if peak_known else None,
            params=sum(parameter.numel() for parameter in model.parameters()),
            trainable=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
            flops=flops,
            micro_batch=trained.micro_batch,
        ),
        where=where.model_copy(update={"resumed": trained.machines}),
    )


def identity(spec: RunSpec, device: torch.device) -> str:
    """What must be the same for a run to go on from its checkpoint bit for bit."""
    return f"{spec.key} {build_digest()} {device.type}"


def _windows(spec: RunSpec, series: Series, device: torch.device, train_fraction: float = 1.0) -> dict[str, Windows]:
    """The parts of a series on the device, standardised by its own train part."""
    task, tensor = spec.task, standardized(series, device)
    return split_windows(series.card, tensor, task.context, task.horizon, train_fraction, calendar(series, device))


def build(spec: RunSpec, series: Series) -> nn.Module:
    """The untrained model of a spec; its weights come from torch's current seed."""
    card = series.card
    model_class = registry.load(spec.model)
    model: nn.Module = model_class(
        card.shape(spec.task.context, spec.task.horizon), registry.make_options(spec.model, model_class, spec.options)
    )
    return model


def _card(spec: RunSpec, name: str) -> DatasetCard:
    card = cards()[name]
    if card.digest != spec.task.cards.get(name):
        raise DataError(f"{name}: its card has changed since this run was planned; plan again")
    return card


def _speed(trained: Fit) -> float | None:
    return trained.windows / trained.seconds if trained.seconds else None


def _flops(model: nn.Module, windows: Windows, precision: str) -> int:
    """Of one forecast for one window."""
    device = windows.series.device
    model.eval()
    counter = FlopCounterMode(display=False)
    # Not every fused attention kernel is known to the counter; the plain one has the same operations.
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), counter, autocast(device, precision):
        predict(model, windows, torch.zeros(1, dtype=torch.long, device=device))
    return counter.get_total_flops()
