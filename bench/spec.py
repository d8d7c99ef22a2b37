"""What a data set, a task and a run are, and how a run is identified.

Everything here is frozen and refuses unknown fields. The identity of a run is the SHA-256 of its spec's canonical
JSON: every field that can change a number is in the spec, nothing else is.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

ROOT = Path(__file__).resolve().parent.parent
"""The project: bench/, models/, datasets/, results/, reports/."""

PROTOCOL = 1
"""Raised when splits, scaling, metrics or the training loop change meaning; older results then count as missing."""

Option = bool | int | float | str | None
Positive = Annotated[int, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
MODEL_NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)*(:[A-Za-z_]\w*)?")


class BenchError(Exception):
    """Something the user can mend: one line naming the thing, the place and the remedy; exit code 2."""


class UnknownName(BenchError):
    """A name that no table holds, with the nearest ones that do exist."""

    def __init__(self, kind: str, name: str, known: list[str], place: str = "") -> None:
        at = f"{place}: " if place else ""
        super().__init__(f"{at}no {kind} {name!r}; {nearest(name, known)}")


def nearest(name: str, known: list[str]) -> str:
    """`nearest: a, b` where some known name is close, else the whole list."""
    by_folded = {known_name.casefold(): known_name for known_name in known}
    close = difflib.get_close_matches(name.casefold(), list(by_folded), n=3, cutoff=0.5)
    if close:
        return "nearest: " + ", ".join(by_folded[folded] for folded in close)
    return "known: " + (", ".join(known) or "none")


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Parsed = TypeVar("Parsed", bound=Frozen)


def parse(kind: type[Parsed], values: object, place: str) -> Parsed:
    """Validate `values` as `kind`; the first thing wrong becomes one line that names `place` and the field."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise _first_line(kind, error, place) from None


def parse_json(kind: type[Parsed], text: str, place: str) -> Parsed:
    """As `parse`, from JSON text."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise _first_line(kind, error, place) from None


def _first_line(kind: type[Frozen], error: ValidationError, place: str) -> BenchError:
    first = min(
        error.errors(), key=lambda each: each["type"] != "extra_forbidden"
    )  # a misspelt key hides a missing one
    where = ".".join(str(part) for part in first["loc"]) or "the whole of it"
    if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
        return UnknownName("key", where, list(kind.model_fields), place)
    given = "" if first["type"] == "missing" else f", got {str(first['input'])[:60]!r}"
    message = first["msg"].removeprefix("Value error, ")
    return BenchError(f"{place}: {where}: {message[:1].lower()}{message[1:]}{given}")


class Source(Frozen):
    """Where the file of a data set is: below the data directory, or inside an installed Python package."""

    path: str
    package: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")] | None = None
    repo: str | None = None
    revision: str = "main"

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts or "\\" in path or not pure.parts:
            raise ValueError("must be a relative path without '..'")
        return path


class DatasetCard(Frozen):
    """One data set: its file, how the papers cut it and what they ask of it. Data about data, read from TOML."""

    name: str
    title: str
    about: str
    """One sentence for people and for prompts."""
    license: str
    sha256: Annotated[tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")], ...], Field(min_length=1)]
    """Accepted hashes of the file's exact bytes; several where versions circulate that hold the same numbers."""
    stamp: str
    step: Annotated[str, Field(pattern=r"^[1-9][0-9]*(s|min|h|D)$")]
    irregular_steps: Annotated[int, Field(ge=0)] = 0
    """How many steps of the authors' own file differ from `step` (duplicate stamps and gaps)."""
    rows: Positive
    channels: Positive | Annotated[tuple[str, ...], Field(min_length=1)]
    """Column names in order, or only their number where circulating copies damage the names."""
    season: Positive
    split: tuple[float, float, float]
    """Train, val and test in rows, or as shares of the rows that sum to 1 (val takes the rounding)."""
    context: Positive
    horizons: Annotated[tuple[Positive, ...], Field(min_length=1)]
    notes: str = ""
    source: Source

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError("must be letters, digits, '_' or '-', beginning with a letter")
        return name

    @field_validator("channels")
    @classmethod
    def _each_once(cls, channels: int | tuple[str, ...]) -> int | tuple[str, ...]:
        if isinstance(channels, tuple) and len(set(channels)) < len(channels):
            raise ValueError("must name each column once")
        return channels

    @model_validator(mode="after")
    def _split_fits(self) -> DatasetCard:
        shares = abs(sum(self.split) - 1) < 1e-9
        whole = all(part == int(part) for part in self.split) and sum(self.split) <= self.rows
        if min(self.split) <= 0 or not (shares or whole):
            raise ValueError(f"split must be three row counts within {self.rows} rows, or three shares that sum to 1")
        return self

    @property
    def width(self) -> int:
        """Number of channels."""
        return self.channels if isinstance(self.channels, int) else len(self.channels)

    def bounds(self) -> dict[str, tuple[int, int]]:
        """First and one-past-last row of each part: `{"train": (0, a), "val": (a, b), "test": (b, c)}`."""
        train, val, test = self.split
        if abs(train + val + test - 1) < 1e-9:
            n_train, n_test = int(self.rows * train), int(self.rows * test)
            n_val = self.rows - n_train - n_test
        else:
            n_train, n_val, n_test = int(train), int(val), int(test)
        return {
            "train": (0, n_train),
            "val": (n_train, n_train + n_val),
            "test": (n_train + n_val, n_train + n_val + n_test),
        }

    @property
    def digest(self) -> str:
        """Twelve hex digits over the fields that can change a number; part of every task on this data set."""
        return digest(
            self.model_dump(mode="json", exclude={"title", "license", "notes", "source", "context", "horizons"})
        )[:12]


class Task(Frozen):
    """What is asked: this many future steps from that many past ones, on this data set."""

    dataset: str
    context: Positive
    horizon: Positive
    train_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the training windows that is used, the earliest first (few-shot)."""
    test_on: tuple[str, ...] = ()
    """Other data sets that the trained model is tested on besides its own (zero-shot)."""
    probe: bool = False
    """Also measure what each block of the model's backbone holds, before and after training (bench/probes.py)."""
    cards: dict[str, str]
    """Digest of the card of `dataset` and of each in `test_on`: an edited card makes a new task."""


class TrainConfig(Frozen):
    """How a model is trained. Selection is on the validation part, with the metric of the loss."""

    epochs: Positive
    batch: Positive
    """Windows (all channels) per optimiser step."""
    lr: Annotated[float, Field(gt=0)]
    schedule: Literal["constant", "halve", "decay", "cosine", "onecycle"] = "constant"
    """As the official codes run: halve, times 0.5 an epoch from the third on ("type1"); decay, times 0.9 an epoch from
    the fifth on ("type3"); cosine over `period` epochs; onecycle by step, rising for the share `rise` of all steps."""
    period: Positive = 10
    rise: Annotated[float, Field(gt=0, lt=1)] = 0.3
    loss: Literal["mse", "l1", "smooth_l1"] = "mse"
    patience: Positive = 3
    """Epochs without a better validation score before training stops."""
    clip: Annotated[float, Field(gt=0)] | None = None
    """Largest norm of the gradient."""
    precision: Literal["float32", "bf16"] = "float32"
    """bf16: autocast, frozen weights stored in bf16; what trains stays in float32."""
    max_steps: Positive | None = None
    """Most optimiser steps over all epochs; the epoch it cuts short is still validated."""


class RunSpec(Frozen):
    """One run: everything that can change its numbers, and nothing else."""

    task: Task
    model: Annotated[str, Field(pattern=f"^{MODEL_NAME.pattern}$")]
    options: dict[str, Option]
    """Hyper-parameters with defaults resolved; for a user's own model only what the suite sets."""
    train: TrainConfig
    seed: Seed
    code: str | None = None
    """SHA-256 of the file of a user's own model; None for the registry's models, which PROTOCOL covers."""
    protocol: int = PROTOCOL

    @property
    def key(self) -> str:
        return digest(self.model_dump(mode="json"))

    @property
    def path(self) -> PurePosixPath:
        """Where its record lies below the results directory."""
        model = self.model.replace(":", ".")
        return PurePosixPath(self.task.dataset, f"h{self.task.horizon}", model, f"s{self.seed}-{self.key[:8]}.json")


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
    """What the state after one block holds of a window's local change and of its slow trend (bench/probes.py)."""

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


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value` (sorted keys, no blanks)."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
