"""The record of a run: its errors, curve, cost and provenance. No torch."""

from __future__ import annotations

from typing import Literal

from bench.core.base import Frozen, Positive
from bench.core.spec import RunSpec


class Evaluation(Frozen):
    """Errors on the test part of one data set, on the scale of its standardised channels."""

    dataset: str
    mse: float
    mae: float
    windows: int


class Epoch(Frozen):
    epoch: int
    train_loss: float
    val_loss: float
    lr: float
    seconds: float


class Cost(Frozen):
    """What a run took."""

    train_s: float
    """All epochs with their validation."""
    total_s: float
    """From loading the data to the last test window."""
    steps: int
    samples_per_s: float | None
    """Training windows per second, validation left out; None where nothing trains."""
    infer_ms: float
    """Milliseconds per test window, in the evaluation's batches."""
    peak_mb: float | None
    """Most memory during the run in MiB: allocated on the GPU, or resident in the process; None where unknown."""
    params: int
    trainable: int
    flops: int
    """Floating-point operations of one forecast for one window (all channels)."""
    micro_batch: int | None = None
    """Windows that passed through the model at once in training; None where nothing trains."""


def machine(device: str, threads: int) -> str:
    """What times are taken on; those of different machines do not compare."""
    return f"{device}, {threads} thread{'s' if threads > 1 else ''}"


class Where(Frozen):
    """What a number was made with."""

    date: str
    git: str | None
    dirty: bool | None
    versions: dict[str, str]
    device: str
    threads: int
    data_sha256: dict[str, str]
    backbone_sha256: str | None
    resumed: tuple[str, ...] = ()
    """Machines of the earlier parts of a run that was interrupted and went on from its checkpoint."""
    sharing: Positive | None = None
    """Runs that the command kept at once on the GPU of this one, itself counted. None on a CPU, where each has its own
    threads, and in records from before this was noted."""

    @property
    def machines(self) -> tuple[str, ...]:
        """Each once, in the order that the run was on them."""
        own = machine(self.device, self.threads)
        as_used = f"{own} shared by {self.sharing} runs" if self.shared else own
        return tuple(dict.fromkeys(as_used if name == own else name for name in (*self.resumed, own)))

    @property
    def shared(self) -> bool:
        """Whether the times of this run are known to hold those of others."""
        return (self.sharing or 1) > 1

    @property
    def devices(self) -> tuple[str, ...]:
        """Of the machines, each once."""
        return tuple(dict.fromkeys(name.rpartition(", ")[0] for name in self.machines))


class Layer(Frozen):
    """What the state after one block holds of a window's local change and of its slow trend (bench/train/probes.py)."""

    block: int
    """0: the input of the first block."""
    stage: Literal["untrained", "trained"]
    """Before or after this run's training; the backbone's own weights may be pretrained either way."""
    local_r2: float
    trend_r2: float
    local_share: float
    trend_share: float
    slow_power: float


class Sample(Frozen):
    """One forecast, chosen by rule so that nobody picked it: the window in the middle of the run's own test part, the
    last channel; on the scale of the standardised channels, to four decimals."""

    window: int
    """Its position among the test windows."""
    channel: int
    past: tuple[float, ...]
    """The look-back."""
    truth: tuple[float, ...]
    forecast: tuple[float, ...]


class RunResult(Frozen):
    """The record of one run, as written to disk."""

    spec: RunSpec
    status: Literal["done", "failed"]
    evaluations: tuple[Evaluation, ...] = ()
    layers: tuple[Layer, ...] = ()
    """Where the task asks for probes."""
    sample: Sample | None = None
    """None where the run failed, was recorded before samples were, or its model cannot take a single window."""
    best_epoch: int | None = None
    curve: tuple[Epoch, ...] = ()
    cost: Cost | None = None
    where: Where
    error: str | None = None

    @property
    def epoch_s(self) -> float:
        """Seconds of the fastest training epoch, with its validation (the first warms up); 0 where nothing trains."""
        return min((epoch.seconds for epoch in self.curve), default=0.0)
