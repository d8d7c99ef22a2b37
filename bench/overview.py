"""What `list`, `plan` and `show` print: rows and texts about models, data sets, suites and runs. No torch."""

from __future__ import annotations

import json
import textwrap
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.core.base import BenchError
from bench.core.card import DatasetCard, cards, longest_horizon
from bench.core.record import RunResult
from bench.core.spec import RunSpec
from bench.core.store import Store
from bench.core.system import this_device
from bench.data.series import file_of
from bench.grid.display import duration_text
from bench.plan import suite as suites
from bench.plan.estimate import Basis, Estimate, Estimates, records_of
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
class Remaining:
    """The number of runs in each state, and an estimate of each run that is not done."""

    states: Counter[str]
    estimates: tuple[Estimate, ...]


def plan_rows(
    entries: list[PlannedRun], store: Store, measure: Callable[[RunSpec], Estimate] | None = None
) -> tuple[list[Row], Remaining]:
    """Return a row per data set, horizon, model and variant: the state of each seed, and what one run takes.

    `measure` times runs of which no record tells; whatever a model raises in it is written in the model's row.
    """
    # 1. The state of every run, and the records to estimate from.
    results = {entry.spec.key: store.get(entry.spec) for entry in entries}
    states = {key: result.status if result else "missing" for key, result in results.items()}
    records = records_of(store.root, {entry.spec.model for entry in entries})
    estimates = Estimates(this_device(), [*records, *filter(None, results.values())])
    groups: dict[tuple[str, str], dict[str, RunSpec]] = {}
    for entry in entries:
        groups.setdefault((entry.what, entry.who), {})[entry.spec.key] = entry.spec
    # 2. One estimate for each row.
    rows = []
    remaining: dict[str, Estimate] = {}
    for (task, model), specs in groups.items():
        todo = [key for key in specs if states[key] != "done"]
        first = next(iter(specs.values()))
        each = estimates.of(first)
        if measure and todo and each.seconds is None:
            each = _measured(measure, first)
        seeds = ", ".join(f"{spec.seed} {states[key]}" for key, spec in specs.items())
        seconds = "?" if each.seconds is None else duration_text(each.seconds)
        size = {"a run takes": seconds, "MiB": "?" if each.peak_mb is None else f"{each.peak_mb:.0f}"}
        rows.append({"task": task, "model": model, "seeds": seeds, **size, "by": each.basis + each.error})
        remaining |= dict.fromkeys(todo, each)
    return rows, Remaining(Counter(states.values()), tuple(remaining.values()))


def _measured(measure: Callable[[RunSpec], Estimate], spec: RunSpec) -> Estimate:
    try:
        return measure(spec)
    except Exception as error:  # whatever a user's model raises concerns its own row only
        return Estimate(None, None, "not timed", f": {textwrap.shorten(str(error) or type(error).__name__, 100)}")


def plan_summary(remaining: Remaining) -> str:
    """Write the number of runs in each state, and the time and memory that the runs not done need."""
    states, estimates = remaining.states, remaining.estimates
    lines = [f"{states.total()} runs: {states['done']} done, {states['failed']} failed, {states['missing']} missing"]
    bases = Counter(each.basis for each in estimates)
    words: dict[Basis, str] = {
        "records": "from records of other seeds",
        "scaled": "scaled from other runs of the model",
        "timed": "from a few timed steps, all epochs counted",
    }
    seconds = [each.seconds for each in estimates if each.seconds is not None]
    if seconds:
        sources = ", ".join(f"{bases[basis]} {text}" for basis, text in words.items() if bases[basis])
        peak = max((each.peak_mb for each in estimates if each.peak_mb is not None), default=None)
        memory = f", up to {peak:.0f} MiB at once" if peak is not None else ""
        lines.append(
            f"left: about {duration_text(sum(seconds))} one after the other on {this_device()}{memory} ({sources})"
        )
    if bases["not known yet"]:
        lines.append(
            f"{bases['not known yet']} runs: time not known yet. Do: add --measure, which times a few steps of each"
        )
    if bases["not timed"]:
        lines.append(f"{bases['not timed']} runs: could not be timed; their rows say why")
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
