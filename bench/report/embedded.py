"""The runs of a page as JSON that page.js unpacks: values without names, what several share once. Pure; no torch.

Runs are numbered cell by cell. Those of a small page are part of it; those of a large one lie in files beside it,
`PART` runs in each, which the page loads when a number is opened. A browser reads no JSON beside a page that is itself
a file, but it runs a script: each file calls `addRuns`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bench.analysis.results import State, run_title
from bench.core.grouping import gathered
from bench.core.record import Cost, RunResult
from bench.core.text import visible
from bench.plan.suite import PlannedRun, Suite, load_suite
from bench.report.contents import Review
from models.llm_files import BACKBONES

CURVE = 30
"""Epochs of a run's curve that its small drawing needs at most, besides the best and the last."""
PARTS = ("task", "options", "train")
"""Parts of a run's settings that many runs share; the rest is one part more."""
EMBEDDED = 1_000_000
"""Most characters of runs that are part of the page itself."""
PART = 1000
"""Runs in each file beside the page."""
FOLDER = "page-runs"
"""Folder of these files, beside the page."""


class Behind(NamedTuple):
    """A run behind the numbers of a page."""

    entry: PlannedRun
    result: RunResult | None
    state: State

    @property
    def seed(self) -> int:
        return self.entry.spec.seed

    @property
    def file(self) -> str:
        """Name of its record."""
        return self.entry.spec.path.name


@dataclass(frozen=True)
class Cell:
    """Runs that differ in their seed alone, and what they share."""

    title: str
    folder: str
    """Of the records, below the results directory."""
    command: str
    """Repeats a run once its seed is added."""
    several: bool
    """Whether the command repeats other variants and shares of the windows too."""
    settings: tuple[str, ...]
    """Parts of the settings, each as JSON."""
    runs: list[Behind] = field(default_factory=list)

    @property
    def states(self) -> Counter[str]:
        """State -> number of runs."""
        return Counter(run.state.status for run in self.runs)


def cells_of(review: Review) -> list[Cell]:
    """Return the cells of the planned runs, then those of runs of other suites that the verdicts use."""
    planned, suite = review.planned, review.suite
    variants = gathered((entry.spec.cell, entry.variant) for entry, _ in planned.runs)
    others = {name: load_suite(name) for name in {row.suite for row in review.claims if row.runs}}
    listed: Iterator[tuple[Behind, Suite, str]] = itertools.chain(
        ((Behind(entry, result, planned.state(entry, result)), suite, "") for entry, result in planned.runs),
        (
            (Behind(entry, result, State(result.status)), others[row.suite], f" · suite {row.suite}")
            for row in review.claims
            for entry, result in row.runs
        ),
    )
    cells: dict[tuple[Any, ...], Cell] = {}
    seen = set()
    for run, planner, place in listed:
        spec, variant = run.entry
        if spec.key in seen:
            continue
        seen.add(spec.key)
        titles = variant if place else " = ".join(variants[spec.cell])
        if (spec.cell, titles, place) not in cells:
            cells[spec.cell, titles, place] = _cell(run.entry, planner, titles, place)
        cells[spec.cell, titles, place].runs.append(run)
    return list(cells.values())


def _cell(entry: PlannedRun, suite: Suite, variant: str, place: str) -> Cell:
    """Return the cell of a run that this suite plans, without its runs."""
    spec = entry.spec
    own = [each for each in suite.variant if each.models is None or spec.model in each.models]
    settings = spec.model_dump(mode="json", exclude={"seed"})
    parts = [{name: settings.pop(name)} for name in PARTS] + [settings]
    return Cell(
        title=f"{run_title(spec.model, variant)} · {entry.what}{place}",
        folder=str(spec.path.parent),
        command=_command(entry, suite),
        several=len(own) > 1 or len(suite.fractions) > 1,
        settings=tuple(map(json.dumps, parts)),
    )


def embedded(cells: list[Cell], lists: Iterable[tuple[str, ...]]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the data of a page for page.js: the runs of these cells, and the lists of them that numbers open (each of
    run keys); and name -> text of each file beside the page, none if the page is small."""
    shared = _Shared()
    rows = (_row(number, run, shared) for number, cell in enumerate(cells) for run in cell.runs)
    parts = [_json(part) for part in iter(lambda: list(itertools.islice(rows, PART)), [])]
    runs = [run for cell in cells for run in cell.runs]
    numbers = {run.entry.spec.key: number for number, run in enumerate(runs)}
    opened = [[numbers[key] for key in keys] for keys in lists]
    data = {
        "cells": [shared.cell(each) for each in cells],
        "cost": list(Cost.model_fields),
        "lists": [[_ranges(own), Counter(runs[number].state.status for number in own)] for own in opened],
        "part": PART,
        **{name: list(map(json.loads, values)) for name, values in shared.values.items()},
    }
    if sum(map(len, parts)) <= EMBEDDED:
        return data | {"runs": [run for part in parts for run in json.loads(part)]}, {}
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode())
    made, files = digest.hexdigest()[:16], {}
    for number in range(len(parts)):  # `pop`: many megabytes are held once
        files[f"{FOLDER}/{number}.js"] = f'addRuns("{made}", {number * PART}, {parts.pop(0)});\n'
    return data | {"made": made}, files


class _Shared:
    """Values that several runs share, each of them once."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, int]] = {"settings": {}, "where": {}}

    def number(self, name: str, text: str) -> int:
        return self.values[name].setdefault(text, len(self.values[name]))

    def cell(self, cell: Cell) -> list[Any]:
        """Return what page.js knows of a cell."""
        settings = [self.number("settings", part) for part in cell.settings]
        return [cell.title, cell.folder, cell.command, cell.several, settings]


def _json(rows: list[list[Any]]) -> str:
    return json.dumps(visible(rows), separators=(",", ":"), allow_nan=False)


def _ranges(numbers: list[int]) -> list[int]:
    """Return the first number and the length of each range of consecutive numbers, one after the other."""
    ranges: list[int] = []
    for number in numbers:
        if ranges and ranges[-2] + ranges[-1] == number:
            ranges[-1] += 1
        else:
            ranges += [number, 1]
    return ranges


def _row(cell: int, run: Behind, shared: _Shared) -> list[Any]:
    """Return what was measured of a run of this cell, in the order that page.js knows."""
    row = [cell, run.seed, run.state.status, run.state.why, run.file]
    result = run.result
    if result is None:
        return row
    where = json.dumps(result.where.model_dump(mode="json", exclude={"date"}))
    return [
        *row,
        result.where.date,
        [[each.dataset, _short(each.mse, 7), _short(each.mae, 7), each.windows] for each in result.evaluations],
        result.best_epoch,
        _curve(result),
        [_short(value, 4) for value in result.cost.model_dump().values()] if result.cost else [],
        shared.number("where", where),
    ]


def _curve(result: RunResult) -> list[list[Any]]:
    """Return epochs and their validation losses: evenly at most CURVE of them, and the best."""
    epochs = {epoch.epoch: epoch.val_loss for epoch in result.curve}
    kept = list(epochs)[:: -(-len(epochs) // CURVE) or 1]
    kept = sorted({*kept, *list(epochs)[-1:], *([result.best_epoch] if result.best_epoch in epochs else [])})
    return [kept, [_short(epochs[epoch], 4) for epoch in kept]]


def _command(entry: PlannedRun, suite: Suite) -> str:
    """Return the command that repeats a cell, up to its seed.

    A suite swaps in random twins itself, so it gets the pretrained name.
    """
    spec, backbone = entry.spec, []
    if spec.backbone:
        swapped = any(variant.random for variant in suite.variant if variant.title == entry.variant)
        backbone = ["--backbone", BACKBONES[spec.backbone].shape if swapped else spec.backbone]
    task = ["--datasets", spec.task.dataset, "--horizons", str(spec.task.horizon)]
    words = ["--suite", suite.name, *backbone, "--models", spec.model, *task, "--seeds"]
    return f"python -m bench run {shlex.join(words)}"


def _short(value: float | None, digits: int) -> float | None:
    """Round a float to this number of significant digits; leave whole numbers unchanged."""
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value
