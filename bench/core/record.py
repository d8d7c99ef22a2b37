"""The record of a run: its errors, curve, cost and provenance. No torch."""

from __future__ import annotations

from typing import Literal

from bench.core.base import Frozen, Positive
from bench.core.spec import RunSpec


class Evaluation(Frozen):
    """Errors on the test split of one data set, in units of its standardised channels."""

    dataset: str
    mse: float
    mae: float
    windows: int
    channels: tuple[tuple[float, float], ...] = ()
    """MSE and MAE of each channel, to six digits; empty in old records."""


class Epoch(Frozen):
    epoch: int
    train_loss: float
    val_loss: float
    lr: float
    seconds: float


class Cost(Frozen):
    """The time, memory and size of a run."""

    train_s: float
    """Seconds of all epochs with their validation."""
    total_s: float
    """Seconds from loading the data to the last test window."""
    steps: int
    samples_per_s: float | None
    """Training windows per second, without validation; None if nothing trains."""
    infer_ms: float | None
    """Milliseconds per test window, in the evaluation's batches; None if nothing was tested."""
    peak_mb: float | None
    """Peak memory in MiB: allocated on the GPU, or resident in the process; None if unknown."""
    params: int
    trainable: int
    flops: int
    """Floating-point operations of one forecast for one window (all channels)."""
    micro_batch: int | None = None
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
    threads: int
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

    block: int
    """The block's number; 0 is the input of the first block."""
    normed: bool
    """Whether the state is read behind the final norm, which only the last block has; else before it."""
    stage: Literal["untrained", "trained"]
    """Before or after this run's training; the backbone's weights may be pretrained either way."""
    local_r2: float
    trend_r2: float
    local_share: float
    trend_share: float
    slow_power: float


class Sample(Frozen):
    """One forecast, chosen by a rule: the middle window of the run's own test split, the last channel. Values are in
    units of the standardised channel, to four decimals."""

    window: int
    """The position of the window in the test split."""
    channel: int
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
    best_epoch: int | None = None
    curve: tuple[Epoch, ...] = ()
    cost: Cost | None = None
    where: Where
    error: str | None = None

    @property
    def epoch_s(self) -> float:
        """Seconds of the fastest training epoch, with its validation (the first warms up); 0 if nothing trains."""
        return min((epoch.seconds for epoch in self.curve), default=0.0)
