"""Estimate how long a run takes and how much memory, from records of this device. No torch.

The basis of an estimate, best first: *records* of the same cell with other seeds; the nearest cell of the same model,
*scaled* by the work of a run (`Work.total`); a few steps *timed* here (bench/train/measure.py, `plan --measure`).
Without any of them a run's time is *not known yet*.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal, NamedTuple

from bench.core.base import BenchError
from bench.core.card import cards
from bench.core.reading import read_record
from bench.core.record import RunResult
from bench.core.spec import RunSpec
from bench.core.system import THREADS, cpu_name

RECORDS_PER_TASK = 2
WIDER = 2
"""A cell with at most this many times the series per step of a model's known cells takes no more memory than they."""
Basis = Literal["records", "scaled", "timed", "not known yet", "not timed"]


@dataclass(frozen=True)
class Estimate:
    """Seconds and peak memory (MiB) of one run; None where they are not known."""

    seconds: float | None
    peak_mb: float | None
    basis: Basis
    error: str = ""
    """Why the run could not be timed."""


class Work(NamedTuple):
    """The windows that a run passes through its model, counted in windows of its own data set's channels."""

    steps: int
    """Optimiser steps that the run is allowed."""
    trained: float
    scored: float
    """Windows of the validation part, once an epoch, and of every test part."""
    channels: int

    @property
    def total(self) -> float:
        """A training window counts three times: one pass forward, and one backward that costs as much as two."""
        return self.channels * (3 * self.trained + self.scored)


def work(spec: RunSpec, share: float = 1.0) -> Work:
    """Count the windows of a run that takes this share of its allowed steps (0 where nothing trains)."""
    task, config, own = spec.task, spec.train, cards()[spec.task.dataset]
    if task.probe == "states":  # as many tokens are read of any data set
        return Work(1, 0.0, 1.0, 1)
    train, val = (own.windows(part, task.context, task.horizon, task.train_fraction) for part in ("train", "val"))
    per_epoch = max(1, math.ceil(train / config.batch))
    steps = min(config.epochs * per_epoch, config.max_steps or math.inf)
    epochs = share * steps / per_epoch
    validations = max(1.0, epochs) if epochs else 0.0  # an epoch that `max_steps` cuts short is validated too
    tests = (cards()[name] for name in task.datasets)
    tested = sum(card.windows("test", task.context, task.horizon) * card.width for card in tests) / own.width
    return Work(int(steps), epochs * train, validations * val + tested, own.width)


CellKey = tuple[bytes, bytes]
"""`RunSpec.cell`."""


class Cell(NamedTuple):
    """Runs that differ in their seed only."""

    spec: RunSpec
    steps: int
    """Optimiser steps that each is allowed."""
    runs: dict[int, tuple[float, float]]
    """Seed -> seconds that the run takes alone, and the share of its allowed steps that it took."""


class Estimates:
    """Estimates for one device, from its records: `sharing` runs take turns on a GPU; on a CPU each has `threads`."""

    def __init__(
        self, device: str, records: Iterable[RunResult], sharing: int | None = None, threads: int = THREADS
    ) -> None:
        self.device, self.sharing, self.threads = device, sharing or 1, threads
        self._cells: dict[str, dict[CellKey, Cell]] = defaultdict(dict)  # kind -> cell -> its runs
        self._peaks: dict[str, dict[CellKey, tuple[int, float]]] = defaultdict(dict)  # kind -> cell -> series, MiB
        self._answers: dict[str, dict[CellKey, Estimate]] = defaultdict(dict)  # kind -> cell -> estimate
        for record in records:
            self.learn(record)

    def learn(self, result: RunResult) -> None:
        """Take in a run that has ended; one that failed, ran elsewhere or on a data set that is gone is ignored."""
        spec, cost = result.spec, result.cost
        here = result.where.devices == (self.device,) and cards().keys() >= {*spec.task.datasets}
        if result.status != "done" or cost is None or not here:
            return
        if cost.peak_mb is not None:
            self.learn_peak(spec, cost.peak_mb)
        self._answers.pop(_kind(spec), None)
        # A record with other threads, or that does not say how many runs shared its GPU, tells of memory alone.
        as_now = int(result.where.threads == self.threads)
        if at_once := as_now if self.device == cpu_name() else result.where.sharing:
            cells = self._cells[_kind(spec)]
            own = cells.get(spec.cell) or cells.setdefault(spec.cell, Cell(spec, work(spec).steps, {}))
            own.runs[spec.seed] = cost.total_s / at_once, cost.steps / own.steps

    def learn_peak(self, spec: RunSpec, peak_mb: float) -> None:
        """Take in the MiB that a run takes at most, also of one that has not ended."""
        self._answers.pop(_kind(spec), None)
        peaks, cell = self._peaks[_kind(spec)], spec.cell
        _, before = peaks.get(cell, (0, 0.0))
        peaks[cell] = _series(spec), max(before, peak_mb)

    def of(self, spec: RunSpec) -> Estimate:
        """Estimate one run; the answer is kept until a run of the model is learned."""
        cell, answers = spec.cell, self._answers[_kind(spec)]
        if cell not in answers:
            answers[cell] = self._answer(spec, cell)
        return answers[cell]

    def _answer(self, spec: RunSpec, cell: CellKey) -> Estimate:
        cells, peaks = self._cells[_kind(spec)], self._peaks[_kind(spec)]
        widest, largest = (max(each) for each in zip(*peaks.values(), strict=True)) if peaks else (0, None)
        # Narrow data tell nothing of the memory that much wider data take.
        peak_mb = peaks[cell][1] if cell in peaks else largest if _series(spec) <= WIDER * widest else None
        if not cells:
            return Estimate(None, peak_mb, "not known yet")
        near = cells.get(cell) or min(cells.values(), key=lambda other: _distance(spec, other.spec))
        seconds, share = (median(each) for each in zip(*near.runs.values(), strict=True))
        ratio = 1.0 if cell in cells else work(spec, share).total / work(near.spec, share).total
        return Estimate(seconds * ratio * self.sharing, peak_mb, "records" if cell in cells else "scaled")


def _distance(spec: RunSpec, other: RunSpec) -> tuple[bool, bool, float]:
    """Return how unlike two runs of a model are: options and precision, then context, then values per step."""
    settings = (spec.options, spec.train.precision) != (other.options, other.train.precision)
    return settings, spec.task.context != other.task.context, abs(math.log(_values(spec) / _values(other)))


def _values(spec: RunSpec) -> int:
    """Count the values of one training step: series, by rows that are read or forecast."""
    return _series(spec) * (spec.task.context + spec.task.horizon)


def _series(spec: RunSpec) -> int:
    """Count the series of one training step: windows, by channels."""
    return spec.train.batch * cards()[spec.task.dataset].width


def _kind(spec: RunSpec) -> str:
    """Return which runs can tell of each other: those of a model, apart from those that only probe it."""
    return spec.model + " states" * (spec.task.probe == "states")


def records_of(root: Path, models: Iterable[str]) -> list[RunResult]:
    """Return the newest `RECORDS_PER_TASK` records of each model, data set and horizon, without damaged files."""
    found = []
    for folder in sorted(path for name in {*models} for path in root.glob(f"*/h*/{name.replace(':', '.')}")):
        newest = sorted(folder.glob("s*.json"), key=lambda path: path.lstat().st_mtime, reverse=True)
        for path in newest[:RECORDS_PER_TASK]:
            with suppress(BenchError):
                found.append(read_record(path, root))
    return [record for record in found if record and not record.fault]
