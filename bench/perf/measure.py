"""`python -m bench perf`: our training loop against the loop as peers write it, and against the hardware's limit."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from tabulate import tabulate

from bench.core.base import BenchError
from bench.core.card import cards
from bench.core.record import Cost, Evaluation, RunResult, Where
from bench.core.spec import RunSpec
from bench.core.system import HOME
from bench.perf.timing import Job, Loop, Loops, Reading
from bench.plan.suite import Filters, load_suite, plan
from bench.train.device import pick_device, provenance
from models import MODELS
from models.llm_files import BACKBONES

SECONDS = 2.0
"""About how long one measurement of one loop may take."""
REPORTED = 10_000
GRID_OF = 100


@dataclass(frozen=True)
class Row:
    """One model on this machine. Steps are whole batches; times are medians over rounds."""

    model: str
    backbone: str | None
    dataset: str
    horizon: int
    batch: int
    micro_batch: int
    precision: str
    ms_step: float
    windows_per_s: float
    plain_ms_step: float | None
    speedup: float | None
    """Median over rounds of plain over ours."""
    speedups: tuple[float, ...]
    tflops: float
    """Reached in a training step, matrix products alone counted."""
    ceiling_tflops: float
    """What matrix products sustain in the same precision, measured next to the steps."""
    ceiling_share: float
    backbone_share: float | None
    """The same for the language model's blocks alone, forward and backward."""
    outside_share: float
    """Of a step's time, what is neither the model nor the optimiser: gathering windows, the loop, progress."""
    one_by_one_ms: float | None
    """A step whose kernels are launched one by one, where ours are a CUDA graph."""
    infer_ms: float
    """Per window, in evaluation's batches."""
    peak_mb: float | None
    plain_peak_mb: float | None


def measure(spec: RunSpec, device: str, with_plain: bool, rounds: int, seconds: float) -> Row:
    """Both loops of one model in turns. Raises BenchError if a process fails."""
    job = Job(spec, device, seconds)
    loops: tuple[Loop, ...] = ("ours", "plain") if with_plain else ("ours",)
    readings: dict[Loop, list[Reading]] = {loop: [] for loop in loops}
    with Loops(job, loops) as processes:
        for _ in range(rounds):
            for loop in loops:
                readings[loop].append(processes.ask(loop, "round"))
        ends = {loop: processes.ask(loop, "end") for loop in loops}
    return _row(spec, readings, ends)


def _row(spec: RunSpec, readings: dict[Loop, list[Reading]], ends: dict[Loop, Reading]) -> Row:
    ours, end = readings["ours"], ends["ours"]
    slow = readings.get("plain", [])

    def median(of: Callable[[Reading], float]) -> float:
        return statistics.median(map(of, ours))

    speedups = tuple(theirs["step_s"] / mine["step_s"] for mine, theirs in zip(ours, slow, strict=False))
    step_s = median(lambda reading: reading["step_s"])
    has_blocks = "blocks_s" in ours[0]
    return Row(
        model=spec.model,
        backbone=spec.backbone,
        dataset=spec.task.dataset,
        horizon=spec.task.horizon,
        batch=spec.train.batch,
        micro_batch=int(end["micro_batch"]),
        precision=spec.train.precision,
        ms_step=1000 * step_s,
        windows_per_s=spec.train.batch / step_s,
        plain_ms_step=1000 * statistics.median(each["step_s"] for each in slow) if slow else None,
        speedup=statistics.median(speedups) if speedups else None,
        speedups=speedups,
        tflops=end["step_flops"] / step_s / 1e12,
        ceiling_tflops=median(lambda reading: reading["ceiling"]) / 1e12,
        ceiling_share=median(lambda reading: end["step_flops"] / reading["step_s"] / reading["ceiling"]),
        backbone_share=median(lambda reading: end["blocks_flops"] / reading["blocks_s"] / reading["ceiling"])
        if has_blocks
        else None,
        outside_share=median(lambda reading: reading["outside_s"] / reading["step_s"]),
        one_by_one_ms=1000 * end["one_by_one_s"] if "one_by_one_s" in end else None,
        infer_ms=1000 * end["infer_s"],
        peak_mb=end.get("peak_mb"),
        plain_peak_mb=ends["plain"].get("peak_mb") if "plain" in ends else None,
    )


def perf_specs(suite: str, filters: Filters, batch: int | None) -> list[RunSpec]:
    """One spec for each model that trains and each task: the suite's, with this batch, random weights, one seed."""
    specs: dict[tuple[str, str], RunSpec] = {}
    for spec in plan(load_suite(suite), filters):
        options = dict(spec.options)
        if spec.backbone and not spec.backbone.endswith("-random"):
            options["backbone"] = f"{spec.backbone}-random"
        train = spec.train.model_copy(update={"batch": batch or spec.train.batch})
        specs.setdefault(
            (spec.model, spec.task.model_dump_json()), spec.model_copy(update={"options": options, "train": train})
        )
    measurable = [spec for spec in specs.values() if spec.model not in MODELS or MODELS[spec.model].trains]
    if not measurable:
        raise BenchError("perf: these models train nothing. Do: name another model")
    return measurable


def perf(specs: list[RunSpec], device: str, with_plain: bool, rounds: int, console: Console) -> dict[str, Any]:
    """Measure everything; the whole outcome as plain data."""
    where = provenance(pick_device(device), {}, None)
    rows = []
    for spec in specs:
        with console.status(f"{spec.model} on {spec.task.dataset} {spec.task.horizon}"):
            rows.append(measure(spec, device, with_plain, rounds, SECONDS))
    with console.status("report and --help"):
        commands = {
            f"report over {REPORTED:,} results, s": report_seconds(),
            "a run in a grid besides its model, ms": 1000 * overhead_seconds(),
            "--help, s": _seconds("bench", "--help"),
        }
    return {
        "where": where.model_dump(mode="json"),
        "rounds": rounds,
        "rows": [asdict(row) for row in rows],
        "commands": commands,
    }


def perf_text(measured: dict[str, Any]) -> str:
    """The table for people."""
    columns = {
        "model": lambda row: row["model"],
        "data": lambda row: f"{row['dataset']} {row['horizon']}",
        "type": lambda row: row["precision"],
        "batch": lambda row: (
            row["batch"] if row["micro_batch"] == row["batch"] else f"{row['batch']}/{row['micro_batch']}"
        ),
        "ms/step": lambda row: _number(row["ms_step"], 1),
        "windows/s": lambda row: _number(row["windows_per_s"], 1),
        "plain ms": lambda row: _number(row["plain_ms_step"], 1),
        "speed-up": lambda row: _range(row["speedup"], row["speedups"]),
        "TFLOP/s": lambda row: _number(row["tflops"], 3),
        "ceiling": lambda row: _number(row["ceiling_tflops"], 3),
        "reached": lambda row: _percent(row["ceiling_share"]),
        "backbone": lambda row: _percent(row["backbone_share"]),
        "outside": lambda row: _percent(row["outside_share"]),
        "infer ms": lambda row: _number(row["infer_ms"], 2),
        "peak MiB": lambda row: _number(row["peak_mb"], 0),
        "plain MiB": lambda row: _number(row["plain_peak_mb"], 0),
    }
    rows = measured["rows"]
    if graphs := any(row["one_by_one_ms"] for row in rows):
        columns["no graph"] = lambda row: _number(row["one_by_one_ms"], 1)
    table = [{title: cell(row) for title, cell in columns.items()} for row in rows]
    where = measured["where"]
    threads = f"{where['threads']} thread{'s' if where['threads'] > 1 else ''}"
    lines = [
        tabulate(table, headers="keys", disable_numparse=True, stralign="right"),
        "",
        f"{where['device']}, {threads}, torch {where['versions']['torch']}, commit {where['git']}"
        f"{' (changed)' if where['dirty'] else ''}; medians of {measured['rounds']} rounds, loops in turns.",
        "plain: Dataset, DataLoader with workers, float32, eager attention, the loss read at each step.",
        "reached, backbone: of the fastest matrix product measured beside (ceiling), by a training step and by the",
        "language model's blocks in it; outside: of a step, neither model nor optimiser; batch a/b: in pieces of b.",
        *(["no graph: ms/step of ours with its kernels launched one by one."] if graphs else []),
        *(f"{name}: {seconds:.2f}" for name, seconds in measured["commands"].items()),
    ]
    return "\n".join(lines)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _range(median: float | None, all_of_them: tuple[float, ...]) -> str:
    return "-" if median is None else f"{median:.2f} ({min(all_of_them):.2f}-{max(all_of_them):.2f})"


def report_seconds() -> float:
    """A main table over invented results of the suite `paper`, from the command line."""
    suite = load_suite("paper")
    cells = len(plan(suite, Filters(seeds=(0,))))
    seeds = tuple(range(REPORTED // cells + 1))
    nowhere = Where(
        date="", git=None, dirty=None, versions={}, device="none", threads=1, data_sha256={}, backbone_sha256=None
    )
    cost = Cost(
        train_s=1, total_s=1, steps=1, samples_per_s=1, infer_ms=1, peak_mb=1, params=1, trainable=1, flops=1
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for number, spec in enumerate(plan(suite, Filters(seeds=seeds))[:REPORTED]):
            backbone = BACKBONES.get(spec.backbone or "")
            where = nowhere.model_copy(
                update={
                    "data_sha256": {spec.task.dataset: cards()[spec.task.dataset].sha256[0]},
                    "backbone_sha256": backbone and backbone.sha256,
                }
            )
            evaluation = Evaluation(dataset=spec.task.dataset, mse=number % 7 + 1, mae=number % 5 + 1, windows=1)
            result = RunResult(spec=spec, status="done", evaluations=(evaluation,), cost=cost, where=where)
            path = Path(folder, spec.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(result.model_dump_json())
        names = [str(seed) for seed in seeds]
        return _seconds("bench.report", "--table", "main", "--suite", "paper", "--results", folder, "--seeds", *names)


def overhead_seconds() -> float:
    """What a run costs besides data and model: the longer of two grids over the shorter, from the command line."""
    words = ["run", "--suite", "quick", "--models", "repeat_last", "--horizons", "24", "--device", "cpu"]
    taken = []
    for count in (1, 1 + GRID_OF):
        with tempfile.TemporaryDirectory() as folder:
            seconds = _seconds("bench", *words, "--results", folder, "--seeds", *map(str, range(count)))
            records = [RunResult.model_validate_json(path.read_text()) for path in Path(folder).rglob("s*.json")]
            taken.append(seconds - sum(record.cost.total_s for record in records if record.cost))
    return (taken[1] - taken[0]) / GRID_OF


def _seconds(module: str, *words: str) -> float:
    """Wall time of a command of ours, the start of Python included. One that fails is not timed."""
    started = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-m", module, *words], cwd=HOME, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - started
    if ended.returncode not in (0, 1):  # 1: cells are missing
        raise BenchError(f"perf: python -m {module} failed: {ended.stderr.strip()[-200:]}")
    return seconds
