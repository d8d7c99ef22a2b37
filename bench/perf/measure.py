"""`python -m bench perf` measures our training loop against the loop as peers write it and the hardware's limit."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from tabulate import tabulate

from bench.core.base import BenchError
from bench.core.record import RunResult, machine
from bench.core.spec import RunSpec
from bench.perf.grids import taken
from bench.perf.timing import VARIANTS, LoopName, Measurement, Part, process_of
from bench.plan.suite import Filters, load_suite, plan
from bench.train.device import pick_device, provenance
from models import MODELS

SECONDS = {"cpu": 4.0, "cuda": 0.5}
"""Kind of device -> seconds that one measurement of one loop may take, about."""
ROUNDS = {"cpu": 5, "cuda": 3}
"""Kind of device -> turns of each loop."""
GRID_OF = 100
"""Runs of the timed grid."""

TIMES = {
    "ms_step": ("ms/step", ",.1f"),
    "one_by_one_ms": ("no graph", ",.1f"),
    "epoch_s": ("epoch, s", ",.2f"),
    **{f"{name} epoch_s": (name, ",.2f") for name in VARIANTS},
    "speedup": ("speed-up", ".2f"),
    "step_speedup": ("by step", ".2f"),
    "start_s": ("start, s", ",.1f"),
    "infer_ms": ("infer ms", ",.2f"),
}
"""Figure -> its column in the table of times, and the format of its values there."""
LIMITS = {
    "windows_per_s": ("windows/s", ",.1f"),
    "tflops": ("TFLOP/s", ",.3f"),
    "ceiling_tflops": ("ceiling", ",.3f"),
    "ceiling_share": ("reached", ".1%"),
    "backbone_share": ("backbone", ".1%"),
    "outside_share": ("outside", ".1%"),
    "peak_mb": ("peak MiB", ",.0f"),
    "plain_peak_mb": ("plain MiB", ",.0f"),
}
"""Figure -> its column in the table of the hardware's limits, and the format of its values there."""


def measure(
    specs: Sequence[RunSpec], device: str, threads: int, with_plain: bool, rounds: int, seconds: float
) -> Iterator[dict[str, Any]]:
    """Yield a row of `perf` for each spec: our loop and, if asked for, plain ones, in turns. Raises BenchError.

    Our loops of all specs start at once, then all plain ones; when all are warm, they are timed one after the other.
    """
    loops: tuple[LoopName, ...] = ("ours", "plain") if with_plain else ("ours",)
    started: list[dict[LoopName, Callable[[Part], Measurement]]] = [{} for _ in specs]
    with ExitStack() as stack:
        for loop in loops:
            for spec, ask in zip(specs, started, strict=True):
                ask[loop] = stack.enter_context(process_of(loop, spec, device, threads, seconds))
            for ask in started:
                ask[loop]("start")
        for spec, ask in zip(specs, started, strict=True):
            turns = [{loop: ask[loop]("round") for loop in loops} for _ in range(rounds)]
            ends = {loop: ask[loop]("end") for loop in loops}
            yield _timing(spec, {loop: [turn[loop] for turn in turns] for loop in loops}, ends)


def _timing(
    spec: RunSpec, rounds: dict[LoopName, list[Measurement]], ends: dict[LoopName, Measurement]
) -> dict[str, Any]:
    """Reduce the measurements of every round and of the end, by loop, to one model's figures; None stands for no value.

    Steps are whole batches, epochs hold all training and validation windows, times are medians over rounds, and of
    operations only matrix products are counted. `speedups` are, by round, the epoch's time of the plain loop that is
    fastest in that round over ours; `step_speedup` is the same of steps. `ceiling_tflops` is what matrix products
    sustain in the same precision, measured next to the steps; `backbone_share` of it is reached by the language model's
    blocks alone, forward and backward. `outside_share` of a step's time is spent outside model and optimiser: gathering
    windows, the loop, progress. `one_by_one_ms` is a step whose kernels are launched one by one, if ours are a CUDA
    graph. `infer_ms` is per window, in evaluation's batches.
    """
    ours = pd.DataFrame(rounds["ours"], columns=["step_s", "epoch_s", "outside_s", "blocks_s", "ceiling"], dtype=float)
    plain = pd.DataFrame(rounds.get("plain", []), dtype=float)
    end, step_s = ends["ours"], ours.step_s.median()
    speedups, by_step = (
        (plain.filter(regex=f" {figure}$").min(axis=1) / ours[figure]).dropna() for figure in ("epoch_s", "step_s")
    )
    return {
        "model": spec.model,
        "backbone": spec.backbone,
        "dataset": spec.task.dataset,
        "horizon": spec.task.horizon,
        "batch": spec.train.batch,
        "micro_batch": int(end["micro_batch"]),
        "precision": spec.train.precision,
        "ms_step": 1000 * step_s,
        "epoch_s": ours.epoch_s.median(),
        "windows_per_s": spec.train.batch / step_s,
        **{figure: plain[figure].median() for figure in plain},
        "speedup": _median(speedups),
        "speedups": tuple(speedups),
        "step_speedup": _median(by_step),
        "tflops": end["step_flops"] / step_s / 1e12,
        "ceiling_tflops": ours.ceiling.median() / 1e12,
        "ceiling_share": (end["step_flops"] / ours.step_s / ours.ceiling).median(),
        "backbone_share": _median(end.get("blocks_flops", 0) / ours.blocks_s / ours.ceiling),
        "outside_share": (ours.outside_s / ours.step_s).median(),
        "one_by_one_ms": 1000 * end["one_by_one_s"] if "one_by_one_s" in end else None,
        "infer_ms": 1000 * end["infer_s"],
        "start_s": end["start_s"],
        "peak_mb": end.get("peak_mb"),
        "plain_peak_mb": ends.get("plain", {}).get("peak_mb"),
    }


def _median(values: pd.Series) -> float | None:
    """Return the median of the values that are there, None without any."""
    return values.median() if values.notna().any() else None


def perf_specs(suite: str, filters: Filters, batch: int | None) -> list[RunSpec]:
    """Return one spec per trained model and task of the suite, with random weights and `batch` windows per step.

    Of each data set it is the shortest horizon, unless the filters name horizons.
    """
    specs: dict[tuple[str, ...], RunSpec] = {}
    for spec in sorted(plan(load_suite(suite), filters), key=lambda spec: spec.task.horizon):
        if spec.model in MODELS and not MODELS[spec.model].trains:
            continue
        twin = {"backbone": spec.backbone.removesuffix("-random") + "-random"} if spec.backbone else {}
        train = spec.train.model_copy(update={"batch": batch or spec.train.batch})
        timed = spec.model_copy(update={"options": {**spec.options, **twin}, "train": train})
        which = spec.task.model_dump_json() if filters.horizons else spec.task.dataset
        specs.setdefault((spec.model, which), timed)  # one seed of each
    if not specs:
        raise BenchError("perf: these models train nothing. Do: name another model")
    return list(specs.values())


def perf(
    specs: list[RunSpec], device: str, threads: int, with_plain: bool, rounds: int | None, console: Console
) -> dict[str, Any]:
    """Measure every spec and two commands; return the JSON document of `--json`."""
    chosen = pick_device(device)
    where, kind = provenance(chosen, {}, None).model_copy(update={"threads": threads}), chosen.type
    seconds, rounds = SECONDS[kind], rounds or ROUNDS[kind]
    rows = []
    # A compiler needs a minute for each model on a GPU, and one core. A CPU has no cores, and no memory, to spare.
    for group in [specs] if kind == "cuda" else [[spec] for spec in specs]:
        with console.status(", ".join(f"{spec.model} on {spec.task.dataset} {spec.task.horizon}" for spec in group)):
            for row in measure(group, device, threads, with_plain, rounds, seconds):
                rows.append(row)
                done = f"{row['model']} on {row['dataset']} {row['horizon']}: {row['ms_step']:,.2f} ms/step"
                console.print(done, markup=False, highlight=False)
    with console.status("a grid and --help"):
        commands = {
            "a run in a grid besides its model, ms": 1000 * overhead_seconds(),
            "--help, s": taken(["bench", "--help"])["seconds"],
        }
    return {"where": where.model_dump(mode="json"), "rounds": rounds, "rows": rows, "commands": commands}


def perf_text(measured: dict[str, Any]) -> str:
    """Return both tables, their legends and the commands' times as text."""
    rows, where = measured["rows"], measured["where"]
    has_graphs = any(row["one_by_one_ms"] for row in rows)
    lines = [
        _table(rows, TIMES),
        "",
        f"{machine(where['device'], where['threads'])}, torch {where['versions']['torch']}, commit {where['git']}"
        f"{' (changed)' if where['dirty'] else ''}; medians of {measured['rounds']} rounds, loops in turns.",
        "epoch: with validation; a long one by a part of it. Beside it plain loops: Dataset, DataLoader, eager",
        "attention, the loss read at each step; in float32 with data loaded by the process itself or by",
        f"{VARIANTS['workers'][0]} workers, or in bf16 by autocast. speed-up: the best plain loop's epoch over ours",
        "(least to most over rounds); by step: without validation and the start of workers. start: of our",
        "process, to the end of its first steps.",
        *(["no graph: ms/step of ours with its kernels launched one by one."] if has_graphs else []),
        "",
        _table(rows, LIMITS),
        "",
        "reached, backbone: of the fastest matrix product measured beside (ceiling), by a training step and by the",
        "language model's blocks in it; outside: of a step, neither model nor optimiser; batch a/b: in pieces of b.",
        *(f"{name}: {seconds:.2f}" for name, seconds in measured["commands"].items()),
    ]
    return "\n".join(lines)


def _table(rows: list[dict[str, Any]], columns: dict[str, tuple[str, str]]) -> str:
    """Return a table with a column for each figure that any row has; a dash stands for one that a row lacks."""
    shown = {figure: column for figure, column in columns.items() if any(row.get(figure) is not None for row in rows)}
    return tabulate([_cells(row, shown) for row in rows], headers="keys", disable_numparse=True, stralign="right")


def _cells(row: dict[str, Any], columns: dict[str, tuple[str, str]]) -> dict[str, str]:
    """Return column title -> text of one row."""
    pieces = "" if row["micro_batch"] == row["batch"] else f"/{row['micro_batch']}"
    cells = {"model": row["model"], "data": f"{row['dataset']} {row['horizon']}", "type": row["precision"]}
    cells["batch"] = f"{row['batch']}{pieces}"
    for figure, (title, form) in columns.items():
        cells[title] = "-" if row.get(figure) is None else format(row[figure], form).replace("%", " %")
    if "speed-up" in cells and row["speedups"]:
        cells["speed-up"] += f" ({min(row['speedups']):.2f}-{max(row['speedups']):.2f})"
    return cells


def overhead_seconds() -> float:
    """Return the seconds per run outside data and model: a grid of 1 + `GRID_OF` runs against a grid of one."""
    words = ["run", "--suite", "quick", "--models", "repeat_last", "--horizons", "24", "--device", "cpu", "--jobs", "1"]
    besides = []
    for count in (1, 1 + GRID_OF):
        with tempfile.TemporaryDirectory() as folder:
            seconds = taken(["bench", *words, "--results", folder, "--seeds", *map(str, range(count))])["seconds"]
            records = [RunResult.model_validate_json(path.read_text()) for path in Path(folder).rglob("s*.json")]
            besides.append(seconds - sum(record.cost.total_s for record in records if record.cost))
    return (besides[1] - besides[0]) / GRID_OF
