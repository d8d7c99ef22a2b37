"""The driver of a grid: claims runs, hands them to an engine, and records each as it ends. No torch.

Only the driver writes records. Whoever dies, of itself or killed, loses at most what was not in a checkpoint, and never
a claim: the system gives that back.
"""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Literal

from rich.console import Console

from bench.core.base import BenchError
from bench.core.jobs import Engine, Event, Job, Lost, Progress, Saved
from bench.core.record import RunResult
from bench.core.store import Store
from bench.grid.display import Display, display, duration_text
from bench.plan.estimate import Estimates, records_of
from bench.plan.suite import PlannedRun

Rerun = Literal["missing", "failed", "all"]
RERUN: dict[Rerun, tuple[str, ...]] = {
    "missing": ("missing", "failed"),  # a failure is never an answer: it is tried again
    "failed": ("failed",),
    "all": ("missing", "failed", "done"),
}
GRACE = 20.0
"""Seconds that a run may take beyond the budget to save itself, or to end if it is being tested."""
CHECK_AGAIN = 0.5
"""Seconds between two looks at runs that other processes have claimed."""


@dataclass(frozen=True)
class Orders:
    """What of a grid is run, and how long it may take."""

    rerun: Rerun = "missing"
    shard: tuple[int, int] = (1, 1)
    """Which part of how many, from 1."""
    run_timeout: float = math.inf
    """Seconds that a single run may take."""
    budget: float = math.inf
    """Seconds that the whole command may take."""


@dataclass
class Tally:
    """How a grid went."""

    done: int = 0
    failed: int = 0
    kept: int = 0
    """Found done already, or done meanwhile by another process."""
    left: int = 0
    """Not asked for, or not begun or broken off for want of time."""


def run_grid(
    entries: Iterable[PlannedRun], store: Store, orders: Orders, make_engine: Callable[[], Engine], console: Console
) -> Tally:
    """Run, each once, what the orders select, one seed of everything before the second seed of anything.

    Everything that concerns more than one run (data, backbones, models, the results directory) is checked before the
    first. Several processes may do this on one directory at the same time: each run is done by one of them, and none
    returns before the last is done, but for want of time. Raises BenchError.
    """
    deadline = time.time() + orders.budget
    mine = in_shard({entry.spec.key: entry for entry in entries}, orders.shard)
    stamps = {key: store.stamp(entry.spec) for key, entry in mine.items()}  # before the records are read
    states = {key: store.status(entry.spec) for key, entry in mine.items()}
    todo = {key: entry for key, entry in mine.items() if states[key] in RERUN[orders.rerun]}
    done = {key for key, state in states.items() if state == "done" and key not in todo}
    tally = Tally(kept=len(done), left=len(mine) - len(todo) - len(done))
    finished = store.leftovers() & done
    if not todo and not finished:
        return tally
    with closing(store):
        with suppress(*([] if todo else [BenchError])):  # tidying up alone is worth no complaint
            store.open()
            for key in finished:  # a process died between writing this record and tidying up
                if store.claim(mine[key].spec):
                    store.clear(mine[key].spec)
                    store.release(mine[key].spec)
        if not todo:
            return tally
        with closing(make_engine()) as engine:
            with console.status("looking at data, models and language models"):
                engine.check([entry.spec for entry in todo.values()])
            at_once = f", {engine.slots} at once" if engine.slots > 1 else ""
            console.print(f"{len(todo)} runs on {engine.where.device}{at_once}", markup=False, highlight=False)
            with display(console, len(todo)) as shown:
                _Grid(store, engine, orders, deadline, shown).run(todo, stamps, tally)
    return tally


def in_shard(planned: dict[str, PlannedRun], shard: tuple[int, int]) -> dict[str, PlannedRun]:
    """Every N-th run by key: parts without overlap, of equal size, each a mixture of models and data sets."""
    number, parts = shard
    chosen = set(sorted(planned)[number - 1 :: parts])
    rank = {seed: place for place, seed in enumerate(dict.fromkeys(entry.spec.seed for entry in planned.values()))}
    kept = {key: entry for key, entry in planned.items() if key in chosen}
    return dict(sorted(kept.items(), key=lambda item: rank[item[1].spec.seed]))


class _Grid:
    """The runs of one command: those that wait, and those in flight with the time they began."""

    def __init__(self, store: Store, engine: Engine, orders: Orders, deadline: float, shown: Display) -> None:
        self.store, self.engine, self.orders, self.deadline, self.shown = store, engine, orders, deadline, shown
        self.running: dict[str, tuple[PlannedRun, float]] = {}

    def run(self, todo: dict[str, PlannedRun], stamps: dict[str, tuple[int, int] | None], tally: Tally) -> None:
        """Until nothing waits or runs, or the time is over. `stamps` are those of the records when they were read."""
        self.waiting, self.stamps, self.tally = dict(todo), stamps, tally
        if self.deadline < math.inf:
            models = dict.fromkeys(entry.spec.model for entry in todo.values())
            where = self.engine.where
            self.estimates = Estimates(where.device, records_of(self.store.root, models), where.sharing)
        told = False
        while self.waiting or self.running:
            self._fill()
            if self.running:
                self._take_all(self.engine.events(timeout=1.0))
                self._end_overdue()
            elif any(self._may_start(entry) for entry in self.waiting.values()):
                if not told:
                    self.shown.say(f"waiting for {len(self.waiting)} runs that other processes are doing")
                told = True
                time.sleep(CHECK_AGAIN)
            else:
                break
        self.tally.left += len(self.waiting)

    def _fill(self) -> None:
        """Start what can be started."""
        while len(self.running) < self.engine.slots and (entry := self._next()):
            key = entry.spec.key
            checkpoint = self.store.work(entry.spec).absolute() / "checkpoint.safetensors"
            self.running[key] = entry, time.monotonic()
            self.shown.start(entry)
            self.engine.start(Job(entry.spec, checkpoint, self.deadline))

    def _next(self) -> PlannedRun | None:
        """The first that waits, may start, and is not claimed by another process; it is claimed by this one then."""
        for key, entry in list(self.waiting.items()):
            if not self._may_start(entry) or not self.store.claim(entry.spec):
                continue
            del self.waiting[key]
            if self.store.stamp(entry.spec) == self.stamps[key] or self.store.status(entry.spec) == "missing":
                return entry
            self._done_elsewhere(entry)
        return None

    def _may_start(self, entry: PlannedRun) -> bool:
        """Return whether the run may begin in the time that remains.

        It fits, or goes on from its checkpoint; or it is longer than the whole budget, or of unknown length: then it is
        saved when the time is over, and goes on with the next command.
        """
        if self.deadline == math.inf:
            return True
        remaining = self.deadline - time.time()
        seconds = self.estimates.of(entry.spec).seconds
        fits = seconds is None or seconds <= remaining or seconds > self.orders.budget
        return remaining > 0 and (fits or self.store.work(entry.spec).exists())

    def _done_elsewhere(self, entry: PlannedRun) -> None:
        status = self.store.status(entry.spec)
        self.store.release(entry.spec)
        self.tally.failed += status == "failed"
        self.tally.kept += status == "done"
        self.shown.leave(entry, f"{status}, by another process", counts=True)

    def _take_all(self, events: list[Event]) -> None:
        """Where one cannot be recorded the others still are; then the first error is raised."""
        problem = None
        for event in events:
            try:
                self._take(event)
            except BenchError as error:
                problem = problem or error
        if problem:
            raise problem

    def _take(self, event: Event) -> None:
        entry, _ = self.running[event.key]
        match event.what:
            case Progress() as progress:
                if not progress.step:  # only now: a new process takes seconds to be there
                    self.running[event.key] = entry, time.monotonic()
                self.shown.update(entry, progress)
            case RunResult() as result:
                self._record(entry, result)
                self.store.clear(entry.spec)
                self._forget(entry)
            case Saved():
                self._leave(entry, "out of time: saved, and goes on with the next command")
            case Lost(why):
                self._fail(entry, why)

    def _record(self, entry: PlannedRun, result: RunResult) -> None:
        if result.status == "failed" and self.store.status(entry.spec) == "done":
            self.tally.failed += 1
            self.shown.leave(entry, f"failed: {result.error}; its earlier record stays", counts=True)
            return
        self.store.put(result)
        self.tally.done += result.status == "done"
        self.tally.failed += result.status == "failed"
        if self.deadline < math.inf:
            self.estimates.learn(result)
        self.shown.finish(entry, result, time.monotonic() - self.running[entry.spec.key][1])

    def _fail(self, entry: PlannedRun, why: str) -> None:
        """Record a run that could not say itself why it ended. Its checkpoint stays: it may have been the machine."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        where = self.engine.where.model_copy(update={"date": now})
        self._record(entry, RunResult(spec=entry.spec, status="failed", where=where, error=why))
        self._forget(entry)

    def _leave(self, entry: PlannedRun, why: str) -> None:
        self.tally.left += 1
        self.shown.leave(entry, why)
        self._forget(entry)

    def _forget(self, entry: PlannedRun) -> None:
        del self.running[entry.spec.key]
        self.store.release(entry.spec)

    def _end_overdue(self) -> None:
        """Stop runs that take too long, each or all of them."""
        for key, (entry, started) in list(self.running.items()):
            if time.monotonic() - started > self.orders.run_timeout:
                self.engine.stop(key)
                self._fail(entry, f"took longer than --run-timeout {duration_text(self.orders.run_timeout)}")
            elif time.time() > self.deadline + GRACE:
                self.engine.stop(key)
                self._leave(entry, "out of time: goes on from its last checkpoint, if it has one")
