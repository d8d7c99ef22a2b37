"""What plan, table and report take over a large grid of invented records (`bench perf --records`). No torch."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from bench import cli
from bench.core.base import BenchError
from bench.core.card import cards
from bench.core.record import Cost, Epoch, Evaluation, Further, RunResult, Sample, Scaled, Where
from bench.core.schedule import StepPlan
from bench.core.spec import RunSpec
from bench.core.system import HOME, cpu_name
from bench.plan.suite import MOST_RUNS, Filters, load_suite, plan
from models import MODELS
from models.llm_files import BACKBONES

SHARE = 5
"""Planned runs for each record, at most `MOST_RUNS`."""
WHOLE = 0.55
"""Share of the records that the first runs of the plan get; the others lie scattered over the rest of the plan."""
FAILED = 20
"""Every so many-th record is of a run that failed."""


def write_grid(folder: Path, runs: int, records: int) -> Path:
    """Write a suite of at most `runs` planned runs, and below `results/` so many records; return the suite's file.

    The suite is `paper` with more seeds. Its first data sets are complete, and of every other cell some seeds are done,
    as after a part of a grid of several machines. Raises BenchError for more records than runs.
    """
    cells = len(plan(load_suite("paper"), Filters(seeds=(0,))))
    seeds = list(range(max(1, runs // cells)))
    if records > cells * len(seeds):
        raise BenchError(f"{records} records of {cells * len(seeds)} runs. Do: ask for fewer")
    suite = folder / "grid.toml"
    suite.write_text(f'base = "paper"\ntitle = "A large grid"\nabout = "Invented errors."\nseeds = {seeds}\n')
    planned = plan(load_suite(str(suite)))
    first = int(records * WHOLE)
    scattered = np.linspace(first, len(planned), records - first, endpoint=False).astype(int)
    for number in (*range(first), *map(int, scattered)):
        path = folder / "results" / planned[number].path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(invented(planned[number], number).model_dump_json(indent=1) + "\n")
    return suite


def invented(spec: RunSpec, number: int) -> RunResult:
    """Return a record as of a run of this spec, with errors drawn by its number; some runs have failed."""
    card, task = cards()[spec.task.dataset], spec.task
    weights = BACKBONES[spec.backbone].sha256 if spec.backbone else None
    where = _where().model_copy(update={"data_sha256": {card.name: card.sha256[0]}, "backbone_sha256": weights})
    if number % FAILED == FAILED - 1:
        return RunResult(spec=spec, status="failed", error="RuntimeError: out of memory", where=where)
    rng = np.random.default_rng(number)
    curve = tuple(_curve(spec, rng))
    windows = card.windows("test", task.context, task.horizon)
    channels = [(float(f"{mse:.6g}"), float(f"{0.8 * mse**0.5:.6g}")) for mse in rng.uniform(0.2, 0.6, card.width)]
    mse, mae = (float(np.mean(each)) for each in zip(*channels, strict=True))
    scaled = Scaled(mae=mae, rmse=mse**0.5, wape=rng.uniform(0.1, 1), smape=rng.uniform(0.1, 1))
    further = Further(standardised=scaled, original=scaled, mase=rng.uniform(0.5, 2))
    series = rng.normal(size=task.context + task.horizon).round(4).tolist()
    truth = series[task.context :]
    return RunResult(
        spec=spec,
        status="done",
        evaluations=(
            Evaluation(dataset=card.name, mse=mse, mae=mae, windows=windows, channels=channels, further=further),
        ),
        sample=Sample(
            window=windows // 2,
            channel=card.width - 1,
            past=series[: task.context],
            truth=truth,
            forecast=[round(each + 0.1, 4) for each in truth],
        ),
        best_epoch=min(curve, key=lambda each: each.val_loss).epoch if curve else None,
        curve=curve,
        cost=_cost(spec, curve, windows, rng),
        where=where,
    )


def _cost(spec: RunSpec, curve: Sequence[Epoch], windows: int, rng: np.random.Generator) -> Cost:
    """Return what a run with this curve took; `windows` of them were tested."""
    steps, train_s, model = _steps(spec), float(sum(each.seconds for each in curve)), MODELS[spec.model]
    return Cost(
        train_s=train_s,
        total_s=train_s + windows / 1000 + rng.uniform(1, 2),
        steps=min(len(curve) * steps.per_epoch, steps.total),
        samples_per_s=1e9 if model.trains else None,
        infer_ms=1,
        peak_mb=rng.uniform(400, 500),
        params=model.computes * 10_000,
        trainable=model.trains * 1_000,
        flops=model.computes * 10_000,
        micro_batch=spec.train.batch if model.trains else None,
    )


def _steps(spec: RunSpec) -> StepPlan:
    task = spec.task
    windows = cards()[task.dataset].windows("train", task.context, task.horizon, task.train_fraction)
    return StepPlan(spec.train, windows, spec.code is not None)


def _curve(spec: RunSpec, rng: np.random.Generator) -> Iterator[Epoch]:
    """Yield epochs with falling losses up to one by the draw, rising ones after it, until training ends."""
    if not MODELS[spec.model].trains:
        return
    steps, best = _steps(spec), int(rng.integers(1, 6))
    scores: list[float] = []
    while not scores or steps.ends_after(scores) is None:
        epoch = len(scores) + 1
        scores.append(0.4 + abs(epoch - best) / 50 + rng.uniform(0, 0.001))
        lr = steps.lr(min(epoch * steps.per_epoch, steps.total) - 1)
        yield Epoch(epoch=epoch, train_loss=0.5 / epoch, val_loss=scores[-1], lr=lr, seconds=rng.uniform(1, 2))


@lru_cache
def _where() -> Where:
    """Return the provenance that all invented records share."""
    return Where(
        date="2026-01-01T00:00:00+00:00",
        git="0" * 40,
        dirty=False,
        versions={"python": "3", "torch": "2", "transformers": "5", "numpy": "2"},
        device=cpu_name(),
        threads=2,
        data_sha256={},
        backbone_sha256=None,
    )


def perf_records(records: int) -> dict[str, Any]:
    """Measure commands over a grid of which a fifth has a record, each in a process of its own: seconds and peak MiB.

    The first reads every record anew; it remembers which it has verified, in a cache folder that is made for this.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        suite = write_grid(folder, min(MOST_RUNS, SHARE * records), records)
        runs = len(plan(load_suite(str(suite))))
        words = ["--suite", str(suite), "--results", str(folder / "results")]
        commands = {
            "plan, the first time": ["bench", "plan", *words],
            "plan": ["bench", "plan", *words],
            "report --table main": ["bench.report", "--table", "main", *words],
            "report": ["bench.report", *words, "--into", str(folder / "report")],
        }
        figures = {name: taken(command, folder) for name, command in commands.items()}
        page_mb = (folder / "report" / "index.html").stat().st_size / 1e6
    return {"device": cpu_name(), "runs": runs, "records": records, "commands": figures, "page_mb": page_mb}


def taken(words: list[str], cache: Path | None = None) -> dict[str, float]:
    """Return the seconds and the peak MiB of `python -m words`, by default with the user's own cache folder.

    The peak is never below this process's own (112 MiB): Linux counts from the fork. Raises BenchError if it fails.
    """
    environment = os.environ | ({"XDG_CACHE_HOME": str(cache)} if cache else {})
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        started, command = time.perf_counter(), [sys.executable, "-m", *words]
        process = subprocess.Popen(command, cwd=HOME, env=environment, stdout=subprocess.DEVNULL, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        seconds, process.returncode = time.perf_counter() - started, os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read().strip()
        if process.returncode and not (process.returncode == 1 and "runs are missing" in text):
            raise BenchError(f"perf: {' '.join(['python', *command[1:4]])} failed: {text[-200:]}")
    return {"seconds": seconds, "peak_mb": used.ru_maxrss / 1024}


def records_text(measured: Mapping[str, Any]) -> str:
    """Return what `perf_records` measured as a table."""
    rows = [[name, f"{each['seconds']:.1f}", f"{each['peak_mb']:.0f}"] for name, each in measured["commands"].items()]
    grid = "{records} records of {runs} planned runs, on {device}; the report's page has {page_mb:.2f} MB"
    return f"{grid.format_map(measured)}\n\n{cli.words_table(rows, ['Command', 'Seconds', 'Peak, MiB'])}"
