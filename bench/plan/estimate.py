"""How long a run will take and how much memory: from runs measured on this machine, else from operations. No torch.

Three bases, best first. *Measured*: runs of the same cell with other seeds. *Scaled*: runs of the model in other cells;
the median of what the nearest took over what the prior says of them corrects the prior, so that what it has wrong alike
for all runs of a model cancels. *Operations*: the prior alone. It is

    seconds = start + passes x overhead + windows x (operations / speed + numbers kept / bandwidth)
    MiB     = process + data + weights with gradients and Adam's moments + numbers kept of what passes at once

over operations, numbers and weights counted layer by layer for the shape of the model. A pass is a micro-batch in
training or a batch in evaluation. The constants here were fitted to 130 runs on a CPU; those of a GPU to a step each of
four models on an H200, whose times they miss by a factor of 1.6 at most.

Runs that share a GPU take turns on it (docs/speed.md): each takes as much longer as there are of them.
"""

from __future__ import annotations

import heapq
import math
import os
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from pathlib import Path
from statistics import median
from typing import Literal, NamedTuple

import numpy as np

from bench.core.base import BenchError, Option, parse_json
from bench.core.card import DatasetCard, cards
from bench.core.record import Cost, RunResult
from bench.core.spec import RunSpec
from bench.core.system import cpu_name
from bench.plan.operations import Size, size_of
from models.options import Shape

NEAREST = 5
"""So many records of a model correct its prior."""
RECORDS_PER_MODEL = 50
BEST_SHARE = 0.3
"""Without a record: the best epoch, from which early stopping counts its patience, over the epochs allowed."""
FLOAT32 = 0.35
"""Speed of a model in float32 over that of one in bf16: slower products, in smaller matrices."""
BYTES_KEPT = {"float32": 6, "bf16": 4}
"""Per number kept, with the gradients that meet it."""
BYTES_TRAINED, BYTES_FROZEN, BYTES_OF_DATA = 20, 4, 20
"""Per weight (gradient, two moments and the best epoch's copy with it), and per value of the data set."""
LANGUAGE_MODEL_MB = 250
"""What transformers and a vocabulary add to a process."""
IN_PIECES = 0.4
"""The share of what it keeps that PatchTST still keeps where its layers work in pieces (models/layers.py)."""


class Machine(NamedTuple):
    """A kind of device. Its series are those of bench/train/step.py, bench/train/evaluate.py and models/layers.py."""

    speed: float
    """Operations per second in bf16."""
    bandwidth: float
    """Numbers kept per second: written, read, freed."""
    start_s: float
    pass_s: float
    base_mb: float
    series_per_pass: int
    series_per_batch: int
    series_per_piece: int


GPU = Machine(4e14, 4e11, 2.0, 1.5e-3, 100, 32768, 4096, 32768)


@cache
def cpu() -> Machine:
    """This machine's cores, as many as torch takes; together they reach a part of what each could."""
    cores = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    return Machine(0.8 * cores * core_speed(), 4e8, 0.05, 1e-3, 400, 1024, 512, 4096)


def core_speed() -> float:
    """Operations per second of one core in float32 matrix products, the best of a twentieth of a second.

    The matrices are too small for numpy to take several threads: those wait for one another, where a core is busy a
    thousand times as long as the product takes.
    """
    side = 64
    matrix = np.ones((side, side), dtype=np.float32)
    best, end = math.inf, time.perf_counter() + 0.05
    while (started := time.perf_counter()) < end:
        np.matmul(matrix, matrix)
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best


@dataclass(frozen=True)
class Estimate:
    seconds: float
    peak_mb: float
    basis: Literal["measured", "scaled", "operations"]


Forecast = tuple[str, int, int, tuple[tuple[str, Option], ...]]
"""Data set, look-back, horizon and options: what the operations of one window depend on."""


class Known(NamedTuple):
    """What a finished run says of its model."""

    forecast: Forecast
    per_step: float
    """Operations of one optimiser step, by which runs are near one another."""
    slower: float | None
    """Its seconds over what the prior says of as many epochs; None where they are not known to be its own."""
    larger: float | None
    operations: float
    """Those that torch counted over those counted here."""
    best_share: float | None
    """Its best epoch over the epochs it was allowed; None where `max_steps` cut it or nothing trains."""


class Estimates:
    """Of runs on one device, from records of that device; `sharing` of them at once, where it is a GPU."""

    def __init__(self, device: str, records: Iterable[RunResult], sharing: int | None = None) -> None:
        self.device, self.sharing = device, sharing or 1
        self._costs: dict[str, dict[int, Cost]] = defaultdict(dict)  # by cell and seed
        self._known: dict[str, dict[str, Known]] = defaultdict(dict)  # by model and run
        self._answers: dict[str, dict[str, Estimate]] = defaultdict(dict)
        for record in records:
            self.learn(record)

    @property
    def machine(self) -> Machine:
        return cpu() if self.device == cpu_name() else GPU

    def learn(self, result: RunResult) -> None:
        """Take in a run that has ended; one that failed, or ran elsewhere, tells nothing."""
        if result.status != "done" or result.cost is None or result.where.device != self.device:
            return
        spec, seconds = result.spec, self._alone(result, result.cost)
        if seconds is not None:
            self._costs[_cell(spec)][spec.seed] = result.cost.model_copy(update={"total_s": seconds})
        self._answers.pop(spec.model, None)
        with suppress(KeyError, TypeError):  # a data set that has gone, options of an earlier version
            self._known[spec.model][spec.key] = _compared(result, result.cost, seconds, self.machine)

    def _alone(self, result: RunResult, cost: Cost) -> float | None:
        """Seconds that a run would have taken alone; None where that is not known."""
        if self.machine is not GPU:
            return cost.total_s
        return cost.total_s / result.where.sharing if result.where.sharing else None

    def of(self, spec: RunSpec) -> Estimate:
        cell, answers = _cell(spec), self._answers[spec.model]
        if cell not in answers:
            answers[cell] = self._answer(spec, list(self._costs.get(cell, {}).values()))
        return answers[cell]

    def _answer(self, spec: RunSpec, same: list[Cost]) -> Estimate:
        near = self._near(spec)
        operations = near[0].operations if near else 1.0
        seconds = _seconds(spec, self.machine, _epochs(spec, near), operations)
        seconds *= _median((each.slower for each in near), 1.0) * self.sharing
        peak_mb = _peak_mb(spec, self.machine) * _median((each.larger for each in near), 1.0)
        if not same:
            return Estimate(seconds, peak_mb, "scaled" if near else "operations")
        peaks = [cost.peak_mb for cost in same if cost.peak_mb is not None]
        return Estimate(median(cost.total_s for cost in same) * self.sharing, max(peaks, default=peak_mb), "measured")

    def _near(self, spec: RunSpec) -> list[Known]:
        """Records of the model: of the same forecast, of about as many operations per step, of the same data set."""
        forecast, here = _forecast(spec), math.log(_per_step(spec))

        def distance(known: Known) -> tuple[bool, float, bool]:
            apart = round(abs(math.log(known.per_step) - here), 1)
            return known.forecast != forecast, apart, known.forecast[0] != forecast[0]

        return heapq.nsmallest(NEAREST, self._known[spec.model].values(), key=distance)


def _compared(result: RunResult, cost: Cost, took: float | None, machine: Machine) -> Known:
    """Raises KeyError and TypeError where the data set or the options are no longer known."""
    spec = result.spec
    counted = _own_size(spec).forward
    operations = cost.flops / counted if counted and cost.flops else 1.0
    seconds = _seconds(spec, machine, len(result.curve), operations)
    cut = spec.train.max_steps is not None and cost.steps >= spec.train.max_steps
    return Known(
        forecast=_forecast(spec),
        per_step=_per_step(spec),
        slower=took / seconds if took is not None else None,
        larger=cost.peak_mb / _peak_mb(spec, machine) if cost.peak_mb else None,
        operations=operations,
        best_share=result.best_epoch / spec.train.epochs if result.best_epoch and not cut else None,
    )


def _cell(spec: RunSpec) -> str:
    return spec.model_copy(update={"seed": 0}).key


def _forecast(spec: RunSpec) -> Forecast:
    return spec.task.dataset, spec.task.context, spec.task.horizon, tuple(sorted(spec.options.items()))


def _median(values: Iterable[float | None], otherwise: float) -> float:
    there = [value for value in values if value is not None]
    return median(there) if there else otherwise


def _epochs(spec: RunSpec, near: list[Known]) -> float:
    """How many epochs early stopping is expected to leave."""
    allowed = spec.train.epochs
    best = _median((each.best_share for each in near), BEST_SHARE) * allowed
    return min(allowed, best + spec.train.patience)


def _per_step(spec: RunSpec) -> float:
    return max(1.0, _own_size(spec).training * spec.train.batch)


def _windows(card: DatasetCard, part: str, spec: RunSpec) -> int:
    """As bench.train.windows.split_windows counts them."""
    first, last = card.bounds()[part]
    if part != "train":
        return max(0, last - first - spec.task.horizon + 1)
    return max(0, int((last - first - spec.task.context - spec.task.horizon + 1) * spec.task.train_fraction))


def _seconds(spec: RunSpec, machine: Machine, epochs: float, operations: float) -> float:
    """What the prior says of a run of so many epochs whose operations are this multiple of those counted."""
    card, size, config = cards()[spec.task.dataset], _own_size(spec), spec.train
    speed = machine.speed * (FLOAT32 if config.precision == "float32" else 1.0) / operations
    seconds = machine.start_s
    scored = [(card, _windows(card, "test", spec))]
    scored += [(cards()[name], _windows(cards()[name], "test", spec)) for name in spec.task.test_on]
    if size.trained:
        windows = _windows(card, "train", spec)
        per_epoch = max(1, math.ceil(windows / config.batch))
        steps = min(per_epoch * epochs, config.max_steps or math.inf)
        seen = min(windows * epochs, steps * config.batch)
        passes = steps * math.ceil(min(config.batch, windows) / _at_once(spec, machine))
        seconds += passes * (machine.pass_s + 3 * size.shared / speed)
        seconds += seen * ((size.training - 3 * size.shared) / speed + 3 * size.kept / machine.bandwidth)
        scored.append((card, math.ceil(steps / per_epoch) * _windows(card, "val", spec)))
    for tested, count in scored:
        size = _size_on(tested, spec)
        batches = math.ceil(count / max(1, machine.series_per_batch // tested.width))
        seconds += batches * (machine.pass_s + size.shared / speed)
        seconds += count * ((size.forward - size.shared) / speed + size.kept / machine.bandwidth)
    return seconds


def _peak_mb(spec: RunSpec, machine: Machine) -> float:
    card, size = cards()[spec.task.dataset], _own_size(spec)
    at_once = _at_once(spec, machine)
    in_piece = machine.series_per_piece / card.width
    if spec.model == "patchtst" and at_once > in_piece:
        at_once = in_piece + IN_PIECES * (at_once - in_piece)
    held = at_once * size.kept * BYTES_KEPT[spec.train.precision] + card.rows * card.width * BYTES_OF_DATA
    held += size.trained * BYTES_TRAINED + size.frozen * BYTES_FROZEN
    return machine.base_mb + LANGUAGE_MODEL_MB * (spec.backbone is not None) + held / 2**20


def _at_once(spec: RunSpec, machine: Machine) -> float:
    """Windows in one pass of training; a model with batch norm is never split."""
    fits = max(1, machine.series_per_pass // cards()[spec.task.dataset].width)
    return spec.train.batch if spec.model == "patchtst" else min(spec.train.batch, fits)


def _own_size(spec: RunSpec) -> Size:
    return _size_on(cards()[spec.task.dataset], spec)


def _size_on(card: DatasetCard, spec: RunSpec) -> Size:
    shape = Shape(spec.task.context, spec.task.horizon, card.width, card.season, card.about)
    return _cached_size(spec.model, tuple(sorted(spec.options.items())), shape)


@cache
def _cached_size(model: str, given: tuple[tuple[str, Option], ...], shape: Shape) -> Size:
    return size_of(model, dict(given), shape)


def records_of(root: Path, models: Iterable[str]) -> list[RunResult]:
    """Up to `RECORDS_PER_MODEL` records of each model below the results directory; damaged files are passed over.

    The newest of every data set and horizon come first: old ones may be of slower code or another machine.
    """
    found: list[RunResult] = []
    for model in dict.fromkeys(models):
        folders = root.glob(f"*/h*/{model.replace(':', '.')}")
        files = [sorted(folder.glob("s*.json"), key=_modified, reverse=True) for folder in folders]
        mixed = [path for each in zip_longest(*files) for path in each if path]
        found += filter(None, map(_read, mixed[:RECORDS_PER_MODEL]))
    return found


def _modified(path: Path) -> float:
    return path.stat().st_mtime


def _read(path: Path) -> RunResult | None:
    try:
        return parse_json(RunResult, path.read_text(encoding="utf-8"), str(path))
    except (BenchError, OSError, UnicodeDecodeError):
        return None
