"""The record of a run: its errors, curve, cost and provenance. No torch."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from bench.core.base import Frozen, Positive, Sha256
from bench.core.card import DatasetCard, cards
from bench.core.names import Metric, What
from bench.core.schedule import StepPlan
from bench.core.spec import RunSpec, Task
from models import MODELS

VERSIONS = ("python", "torch", "transformers", "numpy")
"""Names of the versions that a record holds."""
LARGEST = 3.41e38
"""No number of float32, in which errors and losses are taken, is larger."""


FIRST_YEAR = 2026
"""No record is older."""


def _utc(text: str) -> str:
    """Refuse a text that is no time in UTC, to the second, as `provenance` writes it."""
    read = datetime.datetime.fromisoformat(text).isoformat(timespec="seconds") if text.endswith("+00:00") else ""
    if read != text or int(text[:4]) < FIRST_YEAR:
        raise ValueError("must be a time such as 2026-01-01T00:00:00+00:00")
    return text


Faults = Iterator[tuple[str, bool]]
"""What no run can have written, each with whether it is there. What follows may rely on the absence of those before."""
Line = Annotated[str, Field(max_length=300, pattern=r"\S")]
"""A short text that is not blank."""
Error = Annotated[float, Field(ge=0, le=1e12)]
"""A mean error; beyond this bound nothing is left of a forecast, and the run counts as failed."""
Real = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Amount = Annotated[float, Field(ge=0, le=1e15)]
Measured = Annotated[float, Field(gt=0, le=1e15)]
Count = Annotated[int, Field(ge=0, le=10**18)]
TRACEBACK = 10_000
"""Most characters of a traceback in a record."""
Share = Annotated[float, Field(ge=-1e6, le=1.01)]
"""A share, or an R2, which may be far below zero; rounding may carry it over 1."""


Mean = Annotated[float, Field(ge=0, le=1e300)]
"""A mean error in the units of a data file, or a ratio of two, which may be large where the divisor is small."""


class Scaled(Frozen):
    """Further errors over all windows, steps and channels on one scale; None where an error is not defined.

    With truth y, forecast f and error e = f - y, as gluonts (`gluonts.ev`, which GIFT-Eval calls) and fev
    (`fev.metrics`) define them:

    - MAE, the mean of abs(e), and RMSE, the root of the mean of e^2;
    - WAPE (gluonts: ND), the sum of abs(e) over the sum of abs(y); not defined where all y are 0;
    - sMAPE, the mean of 2 abs(e) / (abs(y) + abs(f)), from 0 to 2 (utilsforecast prints half of it). A value whose
      truth and forecast are both 0 has no sMAPE and takes no part, as in fev.

    They pool the channels. In original units those of large numbers therefore weigh most. On the standardised scale
    values lie around 0, so that WAPE and sMAPE mean little there.
    """

    mae: Mean | None
    rmse: Mean | None
    wape: Mean | None
    smape: Annotated[float, Field(ge=0, le=2.001)] | None


class Further(Frozen):
    """Errors beyond MSE and MAE on the test split of one data set, as `Scaled` and `mase` define them."""

    standardised: Scaled
    original: Scaled
    """In the units of the data file."""
    mase: Mean | None
    """The mean of abs(e) / q, the same on both scales. q is, for each window and channel, the mean absolute difference
    of values one season (of the card) apart over all rows before the first forecast row: the history that gluonts and
    fev have at that point. Where q is 0, or the history is no longer than a season, a window has no MASE and takes no
    part; None if no window has one."""

    def faults(self, mse: float, mae: float) -> Faults:
        """Yield what no test with this MSE and MAE can have found."""
        own = self.standardised.rmse, self.standardised.mae
        yield (
            "has further errors that are not those of its MSE and MAE",
            any(each is None for each in own)
            or not all(
                math.isclose(each or 0, error, rel_tol=1e-4, abs_tol=1e-6)
                for each, error in zip(own, (math.sqrt(mse), mae), strict=True)
            ),
        )


ORIGINAL: dict[Metric, str] = {"wape": "wape", "smape": "smape", "mae_original": "mae", "rmse_original": "rmse"}
"""Error that tables show in original units -> its field in `Scaled`."""


class Evaluation(Frozen):
    """Errors on the test split of one data set, in units of its standardised channels."""

    dataset: str
    mse: Error
    mae: Error
    windows: Positive
    channels: tuple[tuple[Error, Error], ...] = ()
    """MSE and MAE of each channel, to six digits; empty in old records."""
    further: Further | None = None
    """None in records that were made before these were measured."""

    def error(self, metric: Metric) -> float | None:
        """Return an error as tables show it; None if it is not defined, or the record is older than its measurement.

        WAPE and sMAPE are those in original units, where they mean something; the others are standardised, unless
        `_original` ends their name.
        """
        if metric in ("mse", "mae"):
            return self.mse if metric == "mse" else self.mae
        if metric == "rmse":
            return math.sqrt(self.mse)
        if self.further is None:
            return None
        return self.further.mase if metric == "mase" else getattr(self.further.original, ORIGINAL[metric])

    def faults(self, task: Task, card: DatasetCard | None) -> Faults:
        """Yield what no test on this data set can have found."""
        both, width = [(self.mse, self.mae), *self.channels], card.width if card else len(self.channels) or 1
        values = self.windows * task.horizon * width
        yield (
            "has errors over another number of windows than the test part holds",
            card is not None and self.windows != card.windows("test", task.context, task.horizon),
        )
        yield "has errors of another number of channels than the data", len(self.channels) not in (0, width)
        yield (
            "has errors of a mean beyond its root mean square",
            any(mae * mae > mse * 1.0001 + 1e-12 for mse, mae in both),
        )
        yield (
            "has errors whose squares are larger than their sum allows",
            any(mse > mae * mae * values * 1.0001 + 1e-12 for mse, mae in both),
        )
        yield (
            "has errors that are not the means of its channels'",
            any(
                abs(math.fsum(each) / width - mean) > 1e-5 * mean + 1e-12
                for each, mean in zip(zip(*self.channels, strict=True), both[0], strict=False)
            ),
        )
        if self.further:
            yield from self.further.faults(self.mse, self.mae)


class Epoch(Frozen):
    epoch: Positive
    train_loss: Real
    val_loss: Annotated[float, Field(ge=0, le=LARGEST)]
    lr: Amount
    seconds: Measured


class Cost(Frozen):
    """The time, memory and size of a run."""

    train_s: Amount
    """Seconds of all epochs with their validation."""
    total_s: Measured
    """Seconds from loading the data to the last test window."""
    steps: Count
    samples_per_s: Measured | None
    """Training windows per second, without validation; None if nothing trains."""
    infer_ms: Measured | None
    """Milliseconds per test window, in the evaluation's batches; None if nothing was tested."""
    peak_mb: Measured | None
    """Peak memory in MiB: allocated on the GPU, or resident in the process; None if unknown."""
    params: Count
    trainable: Count
    flops: Count
    """Floating-point operations of one forecast for one window (all channels)."""
    micro_batch: Positive | None = None
    """Windows that pass through the model at once in training; None if nothing trains, or the record is old."""

    def faults(self, spec: RunSpec, curve: tuple[Epoch, ...], tested: int) -> Faults:
        """Yield what no run with this curve and so many tested windows can have cost."""
        known, parts = MODELS.get(spec.model), self.train_s + (self.infer_ms or 0) / 1000 * tested
        yield "trains more than it has", self.trainable > self.params
        yield (
            "has the size of a model that trains where its own does not, or the reverse",
            known is not None
            and (self.params > 0, self.trainable > 0, self.flops > 0) != (known.computes, known.trains, known.computes),
        )
        yield (
            "has steps or a speed without a curve, or the reverse",
            {self.steps > 0, self.samples_per_s is not None, self.micro_batch is not None or bool(curve)}
            != {bool(curve)},
        )
        yield "has larger micro-batches than batches", (self.micro_batch or 0) > spec.train.batch
        yield "has a time per tested window without one, or the reverse", (self.infer_ms is None) != (tested == 0)
        yield (
            "has another time of training than its epochs",
            not math.isclose(self.train_s, math.fsum(each.seconds for each in curve), rel_tol=1e-9),
        )
        yield "took less time than training and test", parts > self.total_s * (1 + 1e-9)


def machine(device: str, threads: int) -> str:
    """Return the name of a machine in records. Times on different machines do not compare."""
    return f"{device}, {threads} thread{'s' if threads > 1 else ''}"


class Where(Frozen):
    """The provenance of a run: date, code, versions, machine, data and weights."""

    date: Annotated[str, Field(max_length=25), AfterValidator(_utc)]
    git: Annotated[str, Field(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")] | None
    dirty: bool | None
    versions: dict[str, Line]
    device: Line
    threads: Positive
    data_sha256: dict[str, Sha256]
    backbone_sha256: Sha256 | None
    resumed: tuple[Annotated[str, Field(max_length=320, pattern=r"\S, [1-9][0-9]* threads?$")], ...] = ()
    """Machines of the run's earlier parts, if it was interrupted and went on from its checkpoint."""
    weights_sha256: Sha256 | None = None
    """Of the weights of a forecaster that comes pretrained (models/forecaster_files.py)."""
    sharing: Positive | None = None
    """Runs at once on this run's GPU, itself included. None on a CPU (runs share no threads) and in old records."""

    def faults(self, spec: RunSpec, done: bool) -> Faults:
        """Yield what no run of this spec can come from; one whose process was lost read nothing that is known."""
        read = self.data_sha256.keys()
        yield "names other versions than those of a run", self.versions.keys() != {*VERSIONS}
        yield "names other data than its task", read != {*spec.task.datasets} and (done or len(read) > 0)
        yield (
            "names weights of a language model that it does not read",
            spec.backbone is None and bool(self.backbone_sha256),
        )
        yield (
            "names weights of a model that does not come pretrained",
            bool(self.weights_sha256) and not (spec.model in MODELS and MODELS[spec.model].weights),
        )
        yield "has a commit without its state, or the reverse", (self.git is None) != (self.dirty is None)
        yield "names a machine of its earlier parts twice", len({*self.resumed}) < len(self.resumed)

    @property
    def machines(self) -> tuple[str, ...]:
        """Every machine of the run once, in the order of use."""
        own = machine(self.device, self.threads)
        as_used = f"{own} shared by {self.sharing} runs" if self.shared else own
        return tuple(dict.fromkeys(as_used if name == own else name for name in (*self.resumed, own)))

    @property
    def shared(self) -> bool:
        """Whether other runs are known to have slowed this one down."""
        return (self.sharing or 1) > 1

    @property
    def devices(self) -> tuple[str, ...]:
        """Every device of the run once, in the order of use. (`resumed` has names made by `machine`.)"""
        return tuple(dict.fromkeys((*(name.rpartition(", ")[0] for name in self.resumed), self.device)))


class Layer(Frozen):
    """How well the state after one block tells a window's local change and its slow trend (bench/train/probes.py)."""

    block: Count
    """The block's number; 0 is the input of the first block."""
    normed: bool
    """Whether the state is read behind the final norm, which only the last block has; else before it."""
    stage: Literal["untrained", "trained"]
    """Before or after this run's training; the backbone's weights may be pretrained either way."""
    local_r2: Share
    trend_r2: Share
    local_share: Share
    trend_share: Share
    slow_power: Share


class Sample(Frozen):
    """One forecast, chosen by a rule: the middle window of the run's own test split, the last channel. Values are in
    units of the standardised channel, to four decimals."""

    window: Count
    """The position of the window in the test split."""
    channel: Count
    past: tuple[Real, ...]
    """The context."""
    truth: tuple[Real, ...]
    forecast: tuple[Real, ...]

    def faults(self, task: Task, card: DatasetCard | None) -> Faults:
        """Yield what no forecast of this task can be."""
        lengths = len(self.past), len(self.truth), len(self.forecast)
        yield "has a sample of another length", lengths != (task.context, task.horizon, task.horizon)
        yield (
            "has a sample of another window or channel than the rule chooses",
            card is not None
            and (self.window, self.channel) != (card.windows("test", task.context, task.horizon) // 2, card.width - 1),
        )


SUFFIX: dict[What, str] = {"forecasts": ".forecasts.npz", "weights": ".weights.safetensors"}
"""What a run keeps -> the end of the file's name, in the place of the record's `.json`."""


class Kept(Frozen):
    """A file that a run keeps beside its record."""

    what: What
    bytes: Annotated[int, Field(gt=0, le=10**15)]
    sha256: Sha256


class RunResult(Frozen):
    """The record of one run, as written to disk."""

    spec: RunSpec
    status: Literal["done", "failed"]
    evaluations: tuple[Evaluation, ...] = ()
    layers: tuple[Layer, ...] = ()
    """Empty unless the task asks for probes."""
    sample: Sample | None = None
    """None if the run failed, the record is old, or the model cannot forecast a single window."""
    best_epoch: Positive | None = None
    curve: tuple[Epoch, ...] = ()
    cost: Cost | None = None
    where: Where
    error: Annotated[str, Field(max_length=3 * TRACEBACK, pattern=r"\S")] | None = None
    traceback: Annotated[str, Field(max_length=TRACEBACK, pattern=r"\S")] | None = None
    """The end of the traceback of `error`; None if the process was lost, or the record is old."""
    kept: tuple[Kept, ...] = ()
    """The files beside the record. Nothing but `predict` and what reads forecasts needs them."""

    @property
    def epochs(self) -> int:
        """The number of training epochs."""
        return len(self.curve)

    @property
    def epoch_s(self) -> float:
        """Seconds of the fastest training epoch, with its validation (the first warms up); 0 if nothing trains."""
        return min((epoch.seconds for epoch in self.curve), default=0.0)

    def channels_on(self, dataset: str) -> tuple[tuple[Error, Error], ...]:
        """Return MSE and MAE of each channel of a data set that the run is tested on; none if the record is old."""
        return next(each.channels for each in self.evaluations if each.dataset == dataset)

    @property
    def fault(self) -> str | None:
        """What no run can have written, though each field by itself is in order; None if all fits together."""
        parts = self._faults_of_a_failure() if self.status == "failed" else self._faults_of_a_success()
        faults = chain(parts, self.where.faults(self.spec, self.status == "done"))
        return next((text for text, present in faults if present), None)

    def _faults_of_a_failure(self) -> Faults:
        yield "is failed without a reason", not self.error
        yield "is failed and has errors", bool(self.evaluations or self.layers)
        yield "is failed and keeps files", bool(self.kept)
        outcome = self.sample, self.best_epoch, self.cost, self.curve or None, self.where.resumed or None
        yield "is failed and has the outcome of a training", any(each is not None for each in outcome)

    def _faults_of_a_success(self) -> Faults:
        task, tested = self.spec.task, sum(each.windows for each in self.evaluations)
        scored = () if task.probe == "states" else task.datasets
        known = cards()
        yield "is done and has a reason for a failure", self.error is not None or self.traceback is not None
        kept = [each.what for each in self.kept]
        yield "keeps a file twice", len({*kept}) < len(kept)
        yield "keeps forecasts of nothing", "forecasts" in kept and not scored
        yield f"has no errors on {', '.join(scored)}", [each.dataset for each in self.evaluations] != [*scored]
        for each in self.evaluations:
            yield from each.faults(task, known.get(each.dataset))
        yield "is done without a cost", self.cost is None
        if self.cost:
            yield from self.cost.faults(self.spec, self.curve, tested)
        yield from self._faults_of_the_curve(known.get(task.dataset))
        yield "does not hold the probes that it was to make", not self._as_probed()
        if self.sample:
            yield from self.sample.faults(task, known.get(task.dataset))
            yield "has a sample that its errors rule out", not self._as_scored(self.sample)

    def _faults_of_the_curve(self, card: DatasetCard | None) -> Faults:
        task, curve, model = self.spec.task, self.curve, MODELS.get(self.spec.model)
        scores, trains = [each.val_loss for each in curve], task.probe != "states" and (model is None or model.trains)
        best = scores.index(min(scores)) + 1 if scores else None
        yield "has a curve whose epochs are not counted", [each.epoch for each in curve] != [*range(1, len(curve) + 1)]
        yield "has a negative loss", model is not None and any(each.train_loss < 0 for each in curve)
        yield "has a longer curve than it may train", len(curve) > self.spec.train.epochs
        yield (
            "has a curve where nothing trains, or none where its model does",
            not (trains == bool(curve) or (model is None and not curve)),
        )
        yield "has another best epoch than its curve", self.best_epoch != best
        yield "has resumed a training that it did not make", bool(self.where.resumed) and not curve
        if card is None or not curve:
            return
        windows = card.windows("train", task.context, task.horizon, task.train_fraction)
        yield "has a curve on data that hold no window to train on", windows < 1
        plan = StepPlan(self.spec.train, windows, self.spec.code is not None)
        per_epoch, total = plan.per_epoch, plan.total
        yield "has a curve that ends where its training does not", plan.ends_after(scores) != len(curve)
        yield (
            "has other learning rates than its schedule",
            not all(
                math.isclose(each.lr, plan.lr(min(each.epoch * per_epoch, total) - 1), rel_tol=1e-9, abs_tol=1e-15)
                for each in curve
            ),
        )
        if self.cost:
            steps, speed = min(len(curve) * per_epoch, total), self.cost.samples_per_s or 0
            yield "has other steps than its epochs", self.cost.steps != steps
            yield "trained more slowly than its epochs", speed * self.cost.train_s < plan.windows(steps) * (1 - 1e-9)

    def _as_probed(self) -> bool:
        """Whether `layers` are those that the task asks for: stage by stage, block by block, the normed state last."""
        stages = {"states": ("untrained",), "training": ("untrained", "trained"), False: ()}[self.spec.task.probe]
        places: list[tuple[int, bool]] = []
        with suppress(LookupError, TypeError, AttributeError):  # a spec that no suite plans
            options = MODELS[self.spec.model].options(**self.spec.options) if stages else None
            places = [(block, False) for block in range(options.deepest + 1)] if options else []
            places += [(options.deepest, True)] if options and options.final_norm else []
        made = [(layer.stage, layer.block, layer.normed) for layer in self.layers]
        return made == [(stage, *place) for stage in stages for place in places] and bool(places) == bool(stages)

    def _as_scored(self, sample: Sample) -> bool:
        """Whether the squared error of the sample is within the sum over all windows; rounded, and in other batches."""
        if not self.evaluations or self.spec.code:
            return True
        own, width = self.evaluations[0], sample.channel + 1
        mean = own.channels[-1][0] if own.channels else own.mse * width
        most = math.sqrt(mean * own.windows * self.spec.task.horizon)
        return math.dist(sample.truth, sample.forecast) <= 1.1 * most + 1e-3 * math.sqrt(self.spec.task.horizon)
