"""What a running grid shows: a line per finished run, and live bars where somebody watches. No torch."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from bench.core.jobs import Progress
from bench.core.record import RunResult
from bench.plan.suite import PlannedRun


def display(console: Console, runs: int) -> Display:
    return _Live(console, runs) if console.is_terminal else Display(console, runs)


class Display:
    """One line per finished run: all there is where nobody watches."""

    def __init__(self, console: Console, runs: int) -> None:
        self.console, self.runs, self.finished = console, runs, 0

    def __enter__(self) -> Display:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def say(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def start(self, entry: PlannedRun) -> None:
        pass

    def update(self, entry: PlannedRun, progress: Progress) -> None:
        pass

    def finish(self, entry: PlannedRun, result: RunResult, seconds: float) -> None:
        if result.status == "failed":
            outcome = f"failed: {result.error}"
        else:
            outcome = "  ".join(f"mse {each.mse:.4f}  mae {each.mae:.4f}" for each in result.evaluations)
        self._count(entry, f"{outcome}  {seconds:.1f} s")

    def leave(self, entry: PlannedRun, why: str, counts: bool = False) -> None:
        """The run is not done here (any more); `counts` where it is done nevertheless."""
        if counts:
            self._count(entry, why)
        else:
            self.say(f"{entry.label}  {why}")

    def _count(self, entry: PlannedRun, outcome: str) -> None:
        self.finished += 1
        self.say(f"[{self.finished:>{len(str(self.runs))}}/{self.runs}] {entry.label:<34} {outcome}")


class _Live(Display):
    """The same lines above live bars: the grid, and each run in flight with epoch, losses and time left."""

    def __init__(self, console: Console, runs: int) -> None:
        super().__init__(console, runs)
        self.bars = Bars(
            TextColumn("{task.description:<34}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}", markup=False), console=console,
        )  # fmt: skip
        self.grid = self.bars.add_task("all runs", total=runs, note="")
        self.running: dict[str, TaskID] = {}

    def __enter__(self) -> _Live:
        self.bars.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bars.stop()

    def start(self, entry: PlannedRun) -> None:
        self.running[entry.spec.key] = self.bars.add_task(entry.label, total=None, note="")

    def update(self, entry: PlannedRun, progress: Progress) -> None:
        note = ""
        if progress.epoch:
            epoch = progress.epoch
            note = f"epoch {epoch.epoch}: train {epoch.train_loss:.4f}, val {epoch.val_loss:.4f}"
        self.bars.update(self.running[entry.spec.key], completed=progress.step, total=progress.steps or None, note=note)

    def finish(self, entry: PlannedRun, result: RunResult, seconds: float) -> None:
        super().finish(entry, result, seconds)
        self._remove(entry)

    def leave(self, entry: PlannedRun, why: str, counts: bool = False) -> None:
        super().leave(entry, why, counts)
        self._remove(entry)

    def _remove(self, entry: PlannedRun) -> None:
        if entry.spec.key in self.running:
            self.bars.remove_task(self.running.pop(entry.spec.key))
        self.bars.update(self.grid, completed=self.finished)


def duration_text(seconds: float) -> str:
    """With two figures or so: `45 s`, `9 min`, `3.2 h`, `2.1 d`."""
    if seconds < 1:
        return "< 1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} d"
