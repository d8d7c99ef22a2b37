"""The record of a run: its errors, curve, cost and provenance. No torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bench.core.base import Frozen, Positive
from bench.core.card import cards
from bench.core.spec import RunSpec

Error = Annotated[float, Field(ge=0, le=1e12)]
"""A mean error; beyond this bound nothing is left of a forecast, and the run counts as failed."""
Amount = Annotated[float, Field(ge=0, le=1e15)]
Count = Annotated[int, Field(ge=0, le=10**18)]
TRACEBACK = 10_000
"""Most characters of a traceback in a record."""
Share = Annotated[float, Field(le=1.01)]
"""A share, or an R2, which has no lower bound; rounding may carry it over 1."""


class Evaluation(Frozen):
    """Errors on the test split of one data set, in units of its standardised channels."""

    dataset: str
    mse: Error
    mae: Error
    windows: Positive
    channels: tuple[tuple[Error, Error], ...] = ()
    """MSE and MAE of each channel, to six digits; empty in old records."""


class Epoch(Frozen):
    epoch: Positive
    train_loss: float
    val_loss: float
    lr: Amount
    seconds: Amount


class Cost(Frozen):
    """The time, memory and size of a run."""

    train_s: Amount
    """Seconds of all epochs with their validation."""
    total_s: Amount
    """Seconds from loading the data to the last test window."""
    steps: Count
    samples_per_s: Amount | None
    """Training windows per second, without validation; None if nothing trains."""
    infer_ms: Amount | None
    """Milliseconds per test window, in the evaluation's batches; None if nothing was tested."""
    peak_mb: Amount | None
    """Peak memory in MiB: allocated on the GPU, or resident in the process; None if unknown."""
    params: Count
    trainable: Count
    flops: Count
    """Floating-point operations of one forecast for one window (all channels)."""
    micro_batch: Positive | None = None
    """Windows that pass through the model at once in training; None if nothing trains."""


def machine(device: str, threads: int) -> str:
    """Return the name of a machine in records. Times on different machines do not compare."""
    return f"{device}, {threads} thread{'s' if threads > 1 else ''}"


class Where(Frozen):
    """The provenance of a run: date, code, versions, machine, data and weights."""

    date: str
    git: str | None
    dirty: bool | None
    versions: dict[str, str]
    device: str
    threads: Positive
    data_sha256: dict[str, str]
    backbone_sha256: str | None
    resumed: tuple[str, ...] = ()
    """Machines of the run's earlier parts, if it was interrupted and went on from its checkpoint."""
    sharing: Positive | None = None
    """Runs at once on this run's GPU, itself included. None on a CPU (runs share no threads) and in old records."""

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
    past: tuple[float, ...]
    """The context."""
    truth: tuple[float, ...]
    forecast: tuple[float, ...]


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
    error: str | None = None
    traceback: Annotated[str, Field(max_length=TRACEBACK)] | None = None
    """The end of the traceback of `error`; None if the process was lost, or the record is old."""

    @property
    def epoch_s(self) -> float:
        """Seconds of the fastest training epoch, with its validation (the first warms up); 0 if nothing trains."""
        return min((epoch.seconds for epoch in self.curve), default=0.0)

    @property
    def fault(self) -> str | None:
        """What no run can have written, though each field by itself is in order; None if all fits together."""
        faults = self._faults_of_a_failure() if self.status == "failed" else self._faults_of_a_success()
        return next((text for text, present in faults.items() if present), None)

    def _faults_of_a_failure(self) -> dict[str, bool]:
        return {
            "is failed without a reason": not self.error,
            "is failed and has errors": bool(self.evaluations or self.layers),
        }

    def _faults_of_a_success(self) -> dict[str, bool]:
        task, cost, epochs = self.spec.task, self.cost, len(self.curve)
        probed = {"states": {"untrained"}, "training": {"untrained", "trained"}, False: set()}[task.probe]
        scored = () if task.probe == "states" else task.datasets
        known = {name: card for name, card in cards().items() if name in task.datasets}
        counts = {name: card.windows("test", task.context, task.horizon) for name, card in known.items()}
        widths = {name: {0, card.width} for name, card in known.items()}
        return {
            "is done and has a reason for a failure": bool(self.error or self.traceback),
            "is done without a cost": cost is None,
            "trains more than it has": cost is not None and cost.trainable > cost.params,
            f"has no errors on {', '.join(scored)}": [each.dataset for each in self.evaluations] != [*scored],
            "has errors of a mean beyond its root mean square": any(
                each.mae**2 > each.mse * 1.0001 + 1e-12 for each in self.evaluations
            ),
            "has errors over another number of windows than the test part holds": any(
                each.windows != counts.get(each.dataset, each.windows) for each in self.evaluations
            ),
            "has errors of another number of channels than the data": any(
                len(each.channels) not in widths.get(each.dataset, {len(each.channels)}) for each in self.evaluations
            ),
            "has a curve whose epochs are not counted": [each.epoch for each in self.curve] != [*range(1, epochs + 1)],
            "has a longer curve than it may train": epochs > self.spec.train.epochs,
            "has its best epoch outside its curve": not (
                1 <= self.best_epoch <= epochs if self.best_epoch else not epochs
            ),
            "does not hold the probes that it was to make": {layer.stage for layer in self.layers} != probed,
            "has a sample of another length": self.sample is not None
            and (len(self.sample.past), len(self.sample.truth), len(self.sample.forecast))
            != (task.context, task.horizon, task.horizon),
        }
