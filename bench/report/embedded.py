"""The runs of a page as JSON that page.js unpacks: values without names, what several share once. Pure; no torch."""

from __future__ import annotations

import json
import shlex
from typing import Any

from bench.analysis.results import State, run_title
from bench.core.record import Cost, RunResult
from bench.plan.suite import PlannedRun, Suite, load_suite
from bench.report.contents import Review
from bench.report.grouping import gathered
from models.llm_files import BACKBONES

CURVE = 30
"""Epochs of a run's curve that its small drawing needs at most, besides the best and the last."""
PARTS = ("task", "options", "train")
"""Parts of a run's settings that many runs share; the rest is one part more."""


def runs_of(review: Review) -> dict[str, dict[str, Any]]:
    """Return key -> run: the planned runs, then runs of other suites that the verdicts use."""
    planned, suite = review.planned, review.suite
    variants = gathered((entry.spec.key, entry.variant) for entry, _ in planned.runs)
    others = {name: load_suite(name) for name in {row.suite for row in review.claims if row.runs}}
    listed = [
        (entry, result, suite, planned.state(entry, result), " = ".join(variants[entry.spec.key]), "")
        for entry, result in planned.runs
    ]
    listed += [
        (entry, result, others[row.suite], State(result.status), entry.variant, f" · suite {row.suite}")
        for row in review.claims
        for entry, result in row.runs
    ]
    found: dict[str, dict[str, Any]] = {}
    for entry, result, planner, state, variant, place in listed:
        if entry.spec.key not in found:
            title = f"{run_title(entry.spec.model, variant)} · {entry.what}{place}"
            found[entry.spec.key] = _run(entry, result, planner, title, state)
    return found


def _run(entry: PlannedRun, result: RunResult | None, suite: Suite, title: str, state: State) -> dict[str, Any]:
    """Return a run that this suite plans: its cell, which its other seeds share, and what was measured."""
    spec = entry.spec
    own = [variant for variant in suite.variant if variant.models is None or spec.model in variant.models]
    settings = spec.model_dump(mode="json", exclude={"seed"})
    parts = [{name: settings.pop(name)} for name in PARTS] + [settings]
    several = len(own) > 1 or len(suite.fractions) > 1
    cell = (title, str(spec.path.parent), _command(entry, suite), several, *map(json.dumps, parts))
    run = {"cell": cell, "seed": spec.seed, "state": state.status, "why": state.why, "file": spec.path.name}
    if result:
        cost = result.cost.model_dump() if result.cost else {}
        run |= {
            "date": result.where.date,
            "errors": [
                [each.dataset, _short(each.mse, 7), _short(each.mae, 7), each.windows] for each in result.evaluations
            ],
            "best": result.best_epoch,
            "curve": _curve(result),
            "cost": [_short(value, 4) for value in cost.values()],
            "where": json.dumps(result.where.model_dump(mode="json", exclude={"date"})),
        }
    return run


def _curve(result: RunResult) -> list[list[Any]]:
    """Return epochs and their validation losses: evenly at most CURVE of them, and the best."""
    epochs = {epoch.epoch: epoch.val_loss for epoch in result.curve}
    kept = list(epochs)[:: -(-len(epochs) // CURVE) or 1]
    kept = sorted({*kept, *list(epochs)[-1:], *([result.best_epoch] if result.best_epoch in epochs else [])})
    return [kept, [_short(epochs[epoch], 4) for epoch in kept]]


def packed(runs: dict[str, dict[str, Any]], cells: list[tuple[Any, ...]]) -> dict[str, Any]:
    """Return the runs as page.js unpacks them: values without names, and what several runs share once."""
    shared: dict[str, dict[str, int]] = {"settings": {}, "where": {}}

    def numbered(name: str, text: str) -> int:
        return shared[name].setdefault(text, len(shared[name]))

    places = {cell: number for number, cell in enumerate(cells)}
    numbers = [
        run | {"cell": places[run["cell"]]} | {name: numbered(name, run[name]) for name in ("where",) if name in run}
        for run in runs.values()
    ]
    return {
        "cells": [[*cell[:4], [numbered("settings", part) for part in cell[4:]]] for cell in cells],
        "runs": [list(run.values()) for run in numbers],
        "cost": list(Cost.model_fields),
        **{name: list(map(json.loads, values)) for name, values in shared.items()},
    }


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
