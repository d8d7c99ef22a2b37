"""Runs specs one after another in this process, recording each as it ends, with live progress."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from bench import registry
from bench.data import split_windows
from bench.execute import run_one
from bench.machine import keep_freed_memory
from bench.series import load_series
from bench.spec import RunResult, RunSpec
from bench.store import Store
from bench.suite import Entry, cards
from bench.train import Progress
from models.backbone import prepare
from models.pretrained import find, locate

Rerun = Literal["missing", "failed", "all"]
RERUN: dict[Rerun, tuple[str, ...]] = {
    "missing": ("missing", "failed"),  # a failure is never an answer: it is tried again
    "failed": ("failed",),
    "all": ("missing", "failed", "done"),
}


@dataclass(frozen=True)
class Tally:
    """How a grid went."""

    done: int
    failed: int
    kept: int
    """Found done already."""


def run_all(entries: list[Entry], store: Store, device: torch.device, rerun: Rerun, console: Console) -> Tally:
    """Run, each once, what `rerun` selects, in order; each record is on disk before the next run starts.

    Everything that concerns more than one run (data, backbones, models, the results directory) is checked before the
    first. Raises BenchError or BackboneError then.
    """
    planned: dict[str, Entry] = {}
    for entry in entries:
        planned.setdefault(entry.spec.key, entry)
    todo = [entry for entry in planned.values() if store.status(entry.spec) in RERUN[rerun]]
    if not todo:
        return Tally(0, 0, len(planned))
    store.check_writable()
    keep_freed_memory()
    check_ready([entry.spec for entry in todo], console)
    failed = 0
    with _display(console, len(todo)) as display:
        for entry in todo:
            display.start(entry)
            started = time.perf_counter()
            result = run_one(entry.spec, device, display.update)
            store.put(result)
            failed += result.status == "failed"
            display.finish(entry, result, time.perf_counter() - started)
    return Tally(len(todo) - failed, failed, len(planned) - len(todo))


def check_ready(specs: list[RunSpec], console: Console) -> None:
    """Verify every data file and that it holds windows, import every model, verify (and convert) every backbone."""
    for spec in specs:
        task = spec.task
        for card in (cards()[name] for name in (task.dataset, *task.test_on)):
            load_series(card)
            split_windows(card, torch.empty(card.rows, 1), task.context, task.horizon, task.train_fraction)
    backbones = sorted({str(spec.options["backbone"]) for spec in specs if "backbone" in spec.options})
    for backbone in backbones:
        locate(find(backbone))
    for model in dict.fromkeys(spec.model for spec in specs):
        registry.load(model)
    for backbone in backbones:
        with console.status(f"reading {backbone} (converted once, half a minute)"):
            prepare(backbone)


def _display(console: Console, runs: int) -> _Display:
    return _Bars(console, runs) if console.is_terminal else _Display(console, runs)


class _Display:
    """One line per finished run: all there is where nobody watches."""

    def __init__(self, console: Console, runs: int) -> None:
        self.console, self.runs, self.finished = console, runs, 0

    def __enter__(self) -> _Display:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def start(self, entry: Entry) -> None:
        pass

    def update(self, progress: Progress) -> None:
        pass

    def finish(self, entry: Entry, result: RunResult, seconds: float) -> None:
        self.finished += 1
        if result.status == "failed":
            outcome = f"failed: {result.error}"
        else:
            outcome = "  ".join(f"mse {each.mse:.4f}  mae {each.mae:.4f}" for each in result.evaluations)
        count = f"[{self.finished:>{len(str(self.runs))}}/{self.runs}]"
        self.console.print(
            f"{count} {entry.label:<34} {outcome}  {seconds:.1f} s", markup=False, highlight=False, soft_wrap=True
        )


class _Bars(_Display):
    """The same lines above two live bars: the grid, and the run in flight with epoch, losses and time left."""

    def __init__(self, console: Console, runs: int) -> None:
        super().__init__(console, runs)
        self.bars = Bars(
            TextColumn("{task.description:<34}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=console,
        )  # fmt: skip
        self.grid = self.bars.add_task("all runs", total=runs, note="")
        self.run: TaskID | None = None

    def __enter__(self) -> _Bars:
        self.bars.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bars.stop()

    def start(self, entry: Entry) -> None:
        self.run = self.bars.add_task(entry.label, total=None, note="")

    def update(self, progress: Progress) -> None:
        note = ""
        if progress.epoch:
            epoch = progress.epoch
            note = f"epoch {epoch.epoch}: train {epoch.train_loss:.4f}, val {epoch.val_loss:.4f}"
        if self.run is not None:
            self.bars.update(self.run, completed=progress.step, total=progress.steps, note=note)

    def finish(self, entry: Entry, result: RunResult, seconds: float) -> None:
        super().finish(entry, result, seconds)
        if self.run is not None:
            self.bars.remove_task(self.run)
        self.bars.advance(self.grid)
