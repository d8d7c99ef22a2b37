"""Show how a grid runs: a line per finished run, and live bars on a terminal. No torch."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from bench.core.jobs import Progress
from bench.core.record import RunResult
from bench.core.text import printable
from bench.plan.suite import PlannedRun


class Display:
    """Prints one line per finished run; on a terminal, live bars below: all runs, and each run in flight."""

    def __init__(self, console: Console, runs: int) -> None:
        self.console, self.runs, self.finished = console, runs, 0
        self.bars = Bars(
            TextColumn("{task.description:<34}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )
        self.all_runs = self.bars.add_task("all runs", total=runs, note="")
        self.live: AbstractContextManager[object] = nullcontext() if self.bars.disable else self.bars
        """The context in which bars are drawn. (On a file, the bars' own would print an empty line.)"""
        self.running: dict[str, TaskID] = {}

    def print(self, line: str) -> None:
        self.console.print(printable(line, keep="\n"), markup=False, highlight=False, soft_wrap=True)

    def start(self, entry: PlannedRun) -> None:
        self.running[entry.spec.key] = self.bars.add_task(printable(entry.label), total=None, note="")

    def update(self, entry: PlannedRun, progress: Progress) -> None:
        note = ""
        if epoch := progress.epoch:
            note = f"epoch {epoch.epoch}: train {epoch.train_loss:.4f}, val {epoch.val_loss:.4f}"
        self.bars.update(self.running[entry.spec.key], completed=progress.step, total=progress.steps or None, note=note)

    def finish(self, entry: PlannedRun, result: RunResult, seconds: float, log: Path | None) -> None:
        """Print the outcome of a run, and the file of what its model printed, if it did."""
        if result.status == "failed":
            outcome = f"failed: {result.error}"
        else:
            outcome = "  ".join(f"mse {each.mse:.4f}  mae {each.mae:.4f}" for each in result.evaluations)
        output = f"  output: {log}" if log else ""
        self.drop(entry, f"{outcome}  {seconds:.1f} s{output}", counts=True)

    def drop(self, entry: PlannedRun, why: str, counts: bool = False) -> None:
        """Drop a run from the display. `counts=True` if it has a record now."""
        self.finished += counts
        number = f"[{self.finished:>{len(str(self.runs))}}/{self.runs}]"
        self.print(f"{number} {entry.label:<34} {why}" if counts else f"{entry.label}  {why}")
        if entry.spec.key in self.running:
            self.bars.remove_task(self.running.pop(entry.spec.key))
        self.bars.update(self.all_runs, completed=self.finished)


def duration_text(seconds: float) -> str:
    """Return a duration with about two figures: `45 s`, `9 min`, `3.2 h`, `2.1 d`."""
    if seconds < 1:
        return "< 1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} d"
