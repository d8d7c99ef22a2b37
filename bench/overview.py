"""What `list`, `plan` and `show` print: rows and texts about models, data sets, suites and runs. No torch."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.core.base import BenchError
from bench.core.card import DatasetCard, cards, longest_horizon
from bench.core.record import RunResult
from bench.core.store import Store
from bench.core.system import this_device
from bench.data.series import file_of
from bench.grid.display import duration_text
from bench.plan import suite as suites
from bench.plan.estimate import Estimates, records_of
from bench.plan.settings import SUITES
from bench.plan.suite import PlannedRun
from models import MODELS, QUICK
from models.llm_files import BACKBONES, BackboneError, locate

Row = dict[str, str]


def model_rows() -> list[Row]:
    return [{"name": name, "title": entry.title, "follows": entry.follows} for name, entry in MODELS.items()]


def dataset_rows() -> list[Row]:
    rows = []
    for name, card in cards().items():
        try:
            here = "yes" if file_of(card).is_file() else "no"
        except BenchError:
            here = "no"
        rows.append(
            {
                "name": name,
                "rows x channels": f"{card.rows} x {card.width}",
                "step": card.step,
                "look-back": str(card.context),
                "horizons": " ".join(map(str, card.horizons)),
                "here": here,
                "title": card.title,
            }
        )
    return rows


def backbone_rows() -> list[Row]:
    rows = []
    for name, backbone in BACKBONES.items():
        try:
            locate(backbone)
            here = "yes"
        except BackboneError:
            here = "no"
        size = f"{backbone.blocks} x {backbone.width}"
        rows.append({"name": name, "blocks x width": size, "here": here, "title": backbone.title})
    return rows


def suite_rows() -> list[Row]:
    rows = []
    for name in suites.suite_names():
        suite = suites.load_suite(name)
        rows.append({"name": name, "runs": str(len(suites.plan(suite))), "title": suite.title})
    return rows


@dataclass(frozen=True)
class Left:
    """How many runs are in each state, and what those not done will take."""

    counts: Counter[str]
    seconds: float
    peak_mb: float
    bases: Counter[str]
    """How many of the estimates stand on what."""


def plan_rows(entries: list[PlannedRun], store: Store) -> tuple[list[Row], Left]:
    """One row per data set, horizon, model and variant: the state of its seeds, and what one run of it takes."""
    results = {entry.spec.key: store.get(entry.spec) for entry in entries}
    states = {key: result.status if result else "missing" for key, result in results.items()}
    known = records_of(store.root, dict.fromkeys(entry.spec.model for entry in entries))
    estimates = Estimates(this_device(), [*known, *filter(None, results.values())])
    seeds: dict[tuple[str, str], list[str]] = {}
    runs = {}
    for entry in entries:
        seeds.setdefault((entry.what, entry.who), []).append(f"{entry.spec.seed} {states[entry.spec.key]}")
        runs[entry.what, entry.who] = entry.spec
    rows = []
    for cell, spec in runs.items():
        each = estimates.of(spec)
        size = {"a run takes": duration_text(each.seconds), "MiB": f"{each.peak_mb:.0f}", "by": each.basis}
        rows.append({"task": cell[0], "model": cell[1], "seeds": ", ".join(seeds[cell])} | size)
    todo = [entry.spec for entry in {entry.spec.key: entry for entry in entries}.values()]
    left = [estimates.of(spec) for spec in todo if states[spec.key] != "done"]
    total, peak = sum(each.seconds for each in left), max((each.peak_mb for each in left), default=0.0)
    return rows, Left(Counter(states.values()), total, peak, Counter(each.basis for each in left))


def plan_summary(left: Left) -> str:
    counts = left.counts
    lines = [f"{counts.total()} runs: {counts['done']} done, {counts['failed']} failed, {counts['missing']} missing"]
    if left.bases:
        bases = {
            "measured": "measured here with other seeds",
            "scaled": "scaled from runs here",
            "operations": "rough, from operations alone",
        }
        stand = ", ".join(f"{left.bases[basis]} {words}" for basis, words in bases.items() if left.bases[basis])
        lines.append(
            f"left: about {duration_text(left.seconds)} one after the other on {this_device()}, up to "
            f"{left.peak_mb:.0f} MiB at once ({stand})"
        )
    return "\n".join(lines)


def run_text(entry: PlannedRun, result: RunResult | None, path: Path) -> str:
    """One run for people: result, curve, settings, provenance."""
    spec = entry.spec
    lines = [f"{entry.label}  ({path})"]
    if result is None:
        lines.append("  not run")
    elif result.status == "failed":
        lines.append(f"  failed: {result.error}")
    else:
        for each in result.evaluations:
            lines.append(f"  test on {each.dataset}: mse {each.mse:.6f}  mae {each.mae:.6f}  {each.windows} windows")
        for layer in result.layers:
            lines.append(
                f"  block {layer.block} {layer.stage}: local R2 {layer.local_r2:.3f}  trend R2 {layer.trend_r2:.3f}  "
                f"shares {layer.local_share:.3f} {layer.trend_share:.3f}  slow power {layer.slow_power:.3f}"
            )
        for epoch in result.curve:
            best = "  <- best" if epoch.epoch == result.best_epoch else ""
            lines.append(
                f"  epoch {epoch.epoch}: train {epoch.train_loss:.5f}  val {epoch.val_loss:.5f}  "
                f"lr {epoch.lr:.2e}  {epoch.seconds:.1f} s{best}"
            )
    lines.append(f"  task     {_flat(spec.task.model_dump(mode='json'))}")
    lines.append(f"  options  {_flat(spec.options)}")
    lines.append(f"  train    {_flat(spec.train.model_dump(mode='json'))}")
    if result is not None:
        if result.cost:
            lines.append(f"  cost     {_flat(result.cost.model_dump(mode='json'))}")
        lines.append(f"  where    {_flat(result.where.model_dump(mode='json'))}")
    return "\n".join(lines) + "\n"


def _flat(values: Mapping[str, object]) -> str:
    return "  ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in values.items()
    )


def next_commands(card: DatasetCard) -> list[str]:
    """Run and report; under the horizons of `quick` that the parts can hold, or under the card's own."""
    wanted = tomllib.loads((SUITES / "quick.toml").read_text(encoding="utf-8"))["horizons"]
    fitting = [str(horizon) for horizon in wanted if horizon <= longest_horizon(card, card.context)]
    words = f"--suite {'quick' if fitting else 'paper'} {{}}--datasets {card.name} --models {QUICK}"
    if fitting and len(fitting) < len(wanted):
        words += " --horizons " + " ".join(fitting)
    return [f"python -m bench run {words.format('')}", f"python -m bench.report {words.format('--table main ')}"]
