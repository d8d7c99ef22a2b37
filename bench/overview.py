"""What `list`, `plan` and `show` print: rows and texts about models, data sets, suites and runs. No torch."""

from __future__ import annotations

import importlib.util
import json
import textwrap
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bench.core.base import BenchError
from bench.core.card import DatasetCard, cards
from bench.core.record import SUFFIX, Further, RunResult
from bench.core.spec import RunSpec
from bench.core.store import Store, raise_unusable
from bench.core.system import THREADS, cpu_name, free_memory, this_device
from bench.data.series import file_of
from bench.grid.display import duration_text
from bench.plan import suite as suites
from bench.plan.capacity import makespan, slots
from bench.plan.estimate import Basis, Estimate, Estimates, records_of
from bench.plan.language_model import choose
from bench.plan.suite import Filters, PlannedRun
from models import LIBRARIES, MODELS, QUICK
from models.llm_files import BACKBONES, locate

Row = dict[str, str]
Measure = Callable[[RunSpec], Estimate]
Thing = TypeVar("Thing")
SOURCES: dict[Basis, str] = {
    "records": "from records of other seeds",
    "scaled": "scaled from other runs of the model",
    "timed": "from a few timed steps, all epochs counted",
}
UNKNOWN: dict[Basis, str] = {
    "not known yet": "time not known yet. Do: plan with --measure, which times a few steps of each",
    "not timed": "could not be timed; their rows say why",
}


def listings(store: Store) -> dict[str, list[tuple[str, ...]]]:
    """Return what there is and what is ready on this machine: title -> rows, the first of them names the columns.

    Runs are counted with the language model that `store` has most records of, as `plan` does.
    """
    listed: dict[str, list[tuple[str, ...]]] = {
        "Models": [("name", "title", "here", "follows")],
        "Data sets": [("name", "rows x channels", "step", "look-back", "horizons", "here", "title")],
        "Backbones": [("name", "blocks x width", "here", "title")],
        "Suites": [("name", "runs", "title")],
    }
    for name, model in MODELS.items():
        here = _here(locate, model.weights) if model.weights else "yes"
        listed["Models"].append((name, model.title, here, model.follows))
    for prefix, library in LIBRARIES.items():
        here = "yes" if importlib.util.find_spec(library.package.name) else "no"
        listed["Models"].append((f"{prefix}:Class", f"of {library.package.name}", here, library.follows))
    for name, card in cards().items():
        size, horizons = f"{card.rows} x {card.width}", " ".join(map(str, card.horizons))
        here = _here(lambda each: file_of(each).is_file(), card)
        listed["Data sets"].append((name, size, card.step, str(card.context), horizons, here, card.title))
    for name, each in BACKBONES.items():
        listed["Backbones"].append((name, f"{each.blocks} x {each.width}", _here(locate, each), each.title))
    for suite in map(suites.load_suite, suites.suite_names()):
        filters, _ = choose(suite, Filters(), store)
        listed["Suites"].append((suite.name, str(len(suites.plan(suite, filters))), suite.title))
    return listed


def _here(look: Callable[[Thing], object], thing: Thing) -> str:
    """Return `yes` where `look` finds the thing; it returns False or raises BenchError where it does not."""
    try:
        return "no" if look(thing) is False else "yes"
    except BenchError:
        return "no"


@dataclass(frozen=True)
class Remaining:
    """The state of each run, and an estimate of each one that is not done."""

    states: dict[str, str]
    """Run key -> done, failed or missing."""
    estimates: tuple[Estimate, ...]


def plan_rows(
    entries: list[PlannedRun], store: Store, measure: Measure | None = None, threads: int = THREADS
) -> tuple[list[Row], Remaining]:
    """Return a row per data set, horizon, model and variant: the state of each seed, and what one run takes.

    Runs have `threads` threads each. `measure` times runs of which no record tells; whatever a model raises in it is
    written in the model's row.
    """
    # 1. The state of every run, and the records to estimate from.
    specs = {entry.spec.key: entry.spec for entry in entries}
    results = dict(zip(specs, raise_unusable(store.several(specs.values())), strict=True))
    states = {key: result.status if result else "missing" for key, result in results.items()}
    records = records_of(store.root, {entry.spec.model for entry in entries})
    estimates = Estimates(this_device(), [*records, *filter(None, results.values())], threads=threads)
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
    return rows, Remaining(states, tuple(remaining.values()))


def one_cell(entries: list[PlannedRun]) -> bool:
    """Tell whether all runs are of one model (variant), data set and horizon."""
    return len({(entry.who, entry.what) for entry in entries}) == 1


def counts(entries: list[PlannedRun], states: dict[str, str]) -> tuple[list[list[str]], list[str]]:
    """Return rows and header of a table of models by data sets: how many of the planned runs are done, as 4/12."""
    cells: dict[str, dict[str, dict[str, str]]] = {}
    for entry in entries:
        data = entry.what.rpartition(" h")[0]
        cells.setdefault(entry.who, {}).setdefault(data, {})[entry.spec.key] = states[entry.spec.key]
    names = list(dict.fromkeys(data for row in cells.values() for data in row))
    rows = [[who, *(_count(row.get(name, {}).values()) for name in names)] for who, row in cells.items()]
    return rows, ["", *names]


def _count(states: Collection[str]) -> str:
    """Return `4/12`, the failed ones after it; a dash where nothing is planned."""
    found = Counter(states)
    failed = f", {found['failed']} failed" if found["failed"] else ""
    return f"{found['done']}/{len(states)}{failed}" if states else "-"


def _measured(measure: Measure, spec: RunSpec) -> Estimate:
    try:
        return measure(spec)
    except (Exception, SystemExit, GeneratorExit) as error:  # whatever a user's model raises concerns its own row only
        return Estimate(None, None, "not timed", f": {textwrap.shorten(str(error) or type(error).__name__, 100)}")


def plan_summary(remaining: Remaining, jobs: int | None = None, threads: int = THREADS) -> str:
    """Write the number of runs in each state, and the time and memory that the runs not done need.

    On a CPU as many run at once as cores and free memory allow, `jobs` at most; on GPUs, whose number is not known
    here, one after the other.
    """
    states, estimates = Counter(remaining.states.values()), remaining.estimates
    lines = [f"{states.total()} runs: {states['done']} done, {states['failed']} failed, {states['missing']} missing"]
    bases = Counter(each.basis for each in estimates)
    if any(each.seconds is not None for each in estimates):
        sources = ", ".join(f"{bases[basis]} {text}" for basis, text in SOURCES.items() if bases[basis])
        on_cpu = (device := this_device()) == cpu_name()
        at_once, free = (slots(jobs, threads), free_memory()) if on_cpu else (1, None)
        time, most, most_mb = makespan(estimates, at_once, free)
        how = f"with {most} runs at once" if most > 1 else "one after the other"
        memory = f", up to {most_mb:.0f} MiB at once" if most_mb else ""
        lines.append(f"left: about {duration_text(time)} {how} on {device}{memory} ({sources})")
    lines += [f"{bases[basis]} runs: {text}" for basis, text in UNKNOWN.items() if bases[basis]]
    return "\n".join(lines)


def run_text(entry: PlannedRun, result: RunResult | None, path: Path) -> str:
    """Return one run for people, its numbers rounded: result, curve, settings, provenance."""
    spec = entry.spec
    lines = [f"{entry.label}  ({path})"]
    if result is None:
        lines.append("  not run")
    elif result.status == "failed":
        lines.append(f"  failed: {result.error}")
        lines += [f"    {line}" for line in (result.traceback or "").splitlines()]
    else:
        for each in result.evaluations:
            lines.append(f"  test on {each.dataset}: mse {each.mse:.4f}  mae {each.mae:.4f}  {each.windows} windows")
            lines += _further(each.further) if each.further else []
        lines += [
            f"  block {each.block}{' normed' * each.normed} {each.stage}: local R2 {each.local_r2:.3f}  "
            f"trend R2 {each.trend_r2:.3f}  shares {each.local_share:.3f} {each.trend_share:.3f}  "
            f"slow power {each.slow_power:.3f}"
            for each in result.layers
        ]
        lines += [
            f"  epoch {each.epoch}: train {each.train_loss:.4f}  val {each.val_loss:.4f}  lr {each.lr:.2e}  "
            f"{each.seconds:.1f} s" + ("  <- best" if each.epoch == result.best_epoch else "")
            for each in result.curve
        ]
    lines += [
        f"  keeps    {each.what}: {path.with_suffix(SUFFIX[each.what]).name}, {each.bytes / 2**20:.2f} MiB"
        for each in (result.kept if result else ())
    ]
    parts = spec.model_dump(mode="json", include={"task", "options", "train"})
    parts |= result.model_dump(mode="json", include={"cost", "where"}) if result else {}
    lines += [f"  {name:<9}{_flat(values)}" for name, values in parts.items() if values is not None]
    return "\n".join(lines) + "\n"


def _further(errors: Further) -> list[str]:
    """Return a line of errors on each scale; those that are not defined say so."""
    shared = {"mase": errors.mase}
    scales = {"standardised": errors.standardised.model_dump() | shared, "original units": errors.original.model_dump()}
    return [
        f"    {scale}: "
        + "  ".join(f"{name} {'not defined' if value is None else f'{value:.4g}'}" for name, value in found.items())
        for scale, found in scales.items()
    ]


def _flat(values: dict[str, object]) -> str:
    return "  ".join(f"{key}={_rounded(value)}" for key, value in values.items())


def _rounded(value: object) -> str:
    """Return a setting or a cost as text; of a fraction four digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)


def next_commands(card: DatasetCard) -> list[str]:
    """Return the commands that run and report the small model at every horizon of a card."""
    words = f"--datasets {card.name} --models {QUICK}"
    return [f"python -m bench run --suite quick {words}", f"python -m bench.report --suite quick --table main {words}"]
