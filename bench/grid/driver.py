"""The driver of a grid: it claims runs, hands them to an engine, and records each as it ends. No torch.

Only the driver writes records. A process that dies loses at most the work since its last checkpoint; the operating
system releases its claims.
"""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from bench.core.base import BenchError
from bench.core.jobs import Event, Job, Lost, Progress, Saved
from bench.core.names import Rerun, What
from bench.core.record import RunResult
from bench.core.spec import RunSpec
from bench.core.store import Store, raise_unusable
from bench.grid.display import Display, duration_text
from bench.grid.engine import Engine
from bench.plan.capacity import fits
from bench.plan.estimate import Estimates, records_of
from bench.plan.own_code import own_code, summaries
from bench.plan.suite import PlannedRun

RERUN: dict[Rerun, tuple[str, ...]] = {
    "missing": ("missing", "failed", "unkept"),  # a failed run is always tried again
    "failed": ("failed",),
    "all": ("missing", "failed", "unkept", "done"),
}
GRACE = 20.0
"""Seconds beyond the budget in which a run may save itself, or finish its test."""
CHECK_AGAIN = 0.5
"""Seconds between two checks of runs that other processes have claimed."""


@dataclass(frozen=True)
class Orders:
    """The part of a grid that is run, and its time limits."""

    rerun: Rerun = "missing"
    shard: tuple[int, int] = (1, 1)
    """(number of this part, from 1; number of parts)"""
    run_timeout: float = math.inf
    """Limit of a single run, in seconds."""
    budget: float = math.inf
    """Limit of the whole command, in seconds."""
    debug: bool = False
    """Whether the traceback of each run that fails is printed."""
    keep: tuple[What, ...] = ()
    """What each run keeps beside its record, besides what an earlier record of it keeps already."""


@dataclass
class Tally:
    """The number of runs by outcome."""

    done: int = 0
    failed: int = 0
    earlier: int = 0
    """Runs that were done before, or meanwhile by another process."""
    remaining: int = 0
    """Runs not finished: outside `--rerun`, or stopped by `--time-budget`."""


def run_grid(
    entries: Iterable[PlannedRun], store: Store, orders: Orders, make_engine: Callable[[], Engine], console: Console
) -> Tally:
    """Run once each run that the orders select; every model gets its first seed before any gets its second.

    Everything that concerns more than one run (data, backbones, models, the results directory) is checked before the
    first run. Several processes may work on one directory: each run is done by one of them, and each process returns
    when all runs are done or its time is over. Raises BenchError.
    """
    deadline = time.time() + orders.budget
    # 1. Select runs. Stamps come before statuses: see `_Grid._next`.
    mine = in_shard({entry.spec.key: entry for entry in entries}, orders.shard)
    stamps = {key: store.stamp(entry.spec) for key, entry in mine.items()}
    todo, done, again = selected(mine, store, orders)
    tally = Tally(earlier=len(done), remaining=len(mine) - len(todo) - len(done))
    finished = store.leftovers() & done
    if not todo and not finished:
        return tally
    with closing(store):
        # 2. Prepare the directory, and tidy it.
        try:
            _tidy(store, [mine[key].spec for key in finished])
        except BenchError:
            if todo:  # else nothing is to be written
                raise
        if not todo:
            return tally
        # 3. Name the files of users' own models; start the engine, check everything, run.
        display = Display(console, len(todo))
        own = dict.fromkeys(entry.spec.model for entry in todo.values() if entry.spec.own)
        for line in (*summaries(map(own_code, own)), *again):
            display.print(line)
        with closing(make_engine()) as engine:
            with console.status("checking data, models and backbones"):
                engine.check([entry.spec for entry in todo.values()])
            at_once = f", {slots} at once" if (slots := min(engine.slots, len(todo))) > 1 else ""
            display.print(f"{len(todo)} runs on {engine.where.device}{at_once}")
            with display.live:
                _Grid(store, engine, orders, deadline, display, todo, stamps, tally).run()
    return tally


def _tidy(store: Store, finished: Iterable[RunSpec]) -> None:
    """Open the store; remove work folders of processes that died between writing a record and removing its folder."""
    store.open()
    for spec in finished:
        if store.claim(spec):
            store.clear(spec)
            store.release(spec)


def selected(
    mine: dict[str, PlannedRun], store: Store, orders: Orders
) -> tuple[dict[str, PlannedRun], set[str], list[str]]:
    """Return, of key -> run, those that the orders ask for, and the keys of the others that are done; and a line that
    says how many runs are done again only for what they are to keep, if any are.

    A run that is done but does not keep what it shall is to be done again: only training has its forecasts and weights.
    """
    found = raise_unusable(store.several(entry.spec for entry in mine.values()))
    states = {key: _state(mine[key], each, store, orders) for key, each in zip(mine, found, strict=True)}
    todo = {key: entry for key, entry in mine.items() if states[key] in RERUN[orders.rerun]}
    done = {key for key, state in states.items() if state in ("done", "unkept") and key not in todo}
    count, what = [states[key] for key in todo].count("unkept"), " and ".join(orders.keep)
    line = f"{count} runs are done but did not keep {what}: they are done again, and replaced once that went well"
    return todo, done, [line] * (count > 0)


def _state(entry: PlannedRun, result: RunResult | None, store: Store, orders: Orders) -> str:
    """Return the state of a run: done, failed, missing, or `unkept` if it is done and its files are not there."""
    if result is None:
        return "missing"
    wanted = _to_keep(entry.spec, orders.keep) if result.status == "done" else ()
    return result.status if all(store.keeps(result, what) for what in wanted) else "unkept"


def _to_keep(spec: RunSpec, keep: Iterable[What]) -> list[What]:
    """Return what of `keep` a run has: one that only reads the states of a language model has no forecasts."""
    return [what for what in keep if not (what == "forecasts" and spec.task.probe == "states")]


def in_shard(planned: dict[str, PlannedRun], shard: tuple[int, int]) -> dict[str, PlannedRun]:
    """Select every N-th run in the order of keys: parts of equal size, each with all models and data sets mixed."""
    number, parts = shard
    chosen = set(sorted(planned)[number - 1 :: parts])
    rank = {seed: place for place, seed in enumerate(dict.fromkeys(entry.spec.seed for entry in planned.values()))}
    kept = {key: entry for key, entry in planned.items() if key in chosen}
    return dict(sorted(kept.items(), key=lambda item: rank[item[1].spec.seed]))


@dataclass
class _Grid:
    """The runs of one command: `waiting` ones, and `running` ones with their start time (`time.monotonic()`)."""

    store: Store
    engine: Engine
    orders: Orders
    deadline: float
    display: Display
    waiting: dict[str, PlannedRun]
    stamps: dict[str, tuple[int, int] | None]
    """Run key -> stamp of its record before its status was read."""
    tally: Tally
    running: dict[str, tuple[PlannedRun, float]] = field(default_factory=dict)

    def run(self) -> None:
        """Run until no run is waiting or running, or the time is over."""
        where, models = self.engine.where, {entry.spec.model for entry in self.waiting.values()}
        # Records are read only where it matters how long runs take, or how much memory.
        estimating = self.deadline < math.inf or (self.engine.slots > 1 and self.engine.free_memory() is not None)
        records = records_of(self.store.root, models) if estimating else []
        self.estimates = Estimates(where.device, records, where.sharing, where.threads)
        announced = False
        while self.waiting or self.running:
            self._fill()
            if self.running:
                self._take_all(self.engine.events(timeout=1.0))
                self._end_overdue()
            elif any(self._may_start(entry) for entry in self.waiting.values()):
                if not announced:
                    self.display.print(f"waiting for {len(self.waiting)} runs that other processes are doing")
                announced = True
                time.sleep(CHECK_AGAIN)
            else:
                break
        self.tally.remaining += len(self.waiting)

    def _fill(self) -> None:
        """Start runs until the slots or the memory are full."""
        while len(self.running) < self.engine.slots and (entry := self._next()):
            key = entry.spec.key
            log = self.store.log(entry.spec) if entry.spec.own else None
            self.running[key] = entry, time.monotonic()
            self.display.start(entry)
            self.engine.start(Job(entry.spec, self._checkpoint(entry), self.deadline, log, self._keep(entry.spec)))

    def _keep(self, spec: RunSpec) -> dict[What, Path]:
        """Return the files that a run is to write; what its earlier record keeps is kept again."""
        earlier = self.store.get(spec)
        wanted = (*self.orders.keep, *(each.what for each in (earlier.kept if earlier else ())))
        return {what: self.store.to_keep(spec, what) for what in _to_keep(spec, dict.fromkeys(wanted))}

    def _checkpoint(self, entry: PlannedRun) -> Path:
        return self.store.work(entry.spec).absolute() / "checkpoint.safetensors"

    def _next(self) -> PlannedRun | None:
        """Claim and return the first waiting run that may start and that no other process has claimed or done.

        Return None if there is none, or if it does not fit into the memory beside those that are running.
        """
        for key, entry in list(self.waiting.items()):
            if not self._may_start(entry) or not self.store.claim(entry.spec):
                continue
            if self.store.stamp(entry.spec) != self.stamps[key] and (found := self.store.get(entry.spec)):
                del self.waiting[key]
                self._done_elsewhere(entry, found.status)
            elif self._fits(entry):
                del self.waiting[key]
                return entry
            else:
                self.store.release(entry.spec)
                return None
        return None

    def _fits(self, entry: PlannedRun) -> bool:
        """Tell whether a run fits into the free memory, beside what the running ones will still take of it."""
        specs = (*(running.spec for running, _ in self.running.values()), entry.spec)
        return fits([self._need(spec) for spec in specs], self.engine.free_memory())

    def _need(self, spec: RunSpec) -> float | None:
        """Return the MiB that a run will take beyond what it has; None if that is not known."""
        peak_mb, now = self.estimates.of(spec).peak_mb, self.engine.memory(spec.key)
        return None if peak_mb is None else max(0.0, peak_mb - (now[0] if now else 0.0))

    def _may_start(self, entry: PlannedRun) -> bool:
        """Return whether the run may begin in the time that remains.

        It fits, or goes on from its checkpoint; or it is longer than the whole budget, or of unknown length: then it is
        saved when the time is over, and goes on with the next command.
        """
        if self.deadline == math.inf:
            return True
        remaining = self.deadline - time.time()
        seconds = self.estimates.of(entry.spec).seconds
        in_time = seconds is None or seconds <= remaining or seconds > self.orders.budget
        return remaining > 0 and (in_time or self._checkpoint(entry).exists())

    def _done_elsewhere(self, entry: PlannedRun, status: str) -> None:
        self.store.release(entry.spec)
        self.tally.failed += status == "failed"
        self.tally.earlier += status == "done"
        self.display.drop(entry, f"{status}, by another process", counts=True)

    def _take_all(self, events: list[Event]) -> None:
        """Handle every event, even if one record cannot be written; then raise the first error."""
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
                if not progress.step:  # its time starts now: a new process takes seconds to start
                    self.running[event.key] = entry, time.monotonic()
                elif progress.epoch:
                    self._learn_memory(entry.spec)
                self.display.update(entry, progress)
            case RunResult() as result:
                self._record(entry, result)
                self.store.clear(entry.spec)
                self._forget(entry)
            case Saved():
                self._suspend(entry, "out of time: saved, and goes on with the next command")
            case Lost(why):
                self._fail(entry, why)

    def _learn_memory(self, spec: RunSpec) -> None:
        """Learn how much memory a run takes from its first epoch with validation: no later part takes more."""
        if self.estimates.of(spec).peak_mb is None and (taken := self.engine.memory(spec.key)):
            self.estimates.learn_peak(spec, taken[1])

    def _record(self, entry: PlannedRun, result: RunResult) -> None:
        if result.status == "failed" and self.store.status(entry.spec) == "done":
            self.tally.failed += 1
            self.display.drop(entry, f"failed: {result.error}; its earlier record stays", counts=True)
            if result.traceback:  # no record keeps it
                self.display.print(result.traceback)
            return
        log = self.store.keep_log(entry.spec)
        self.store.put(result)
        self.tally.done += result.status == "done"
        self.tally.failed += result.status == "failed"
        self.estimates.learn(result)
        self.display.finish(entry, result, time.monotonic() - self.running[entry.spec.key][1], log)
        if self.orders.debug and result.traceback:
            self.display.print(result.traceback)

    def _fail(self, entry: PlannedRun, why: str) -> None:
        """Record a run that ended without a record of its own. Its checkpoint stays: the machine may be the cause."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        where = self.engine.where.model_copy(update={"date": now})
        self._record(entry, RunResult(spec=entry.spec, status="failed", where=where, error=why[:2000]))
        self._forget(entry)

    def _suspend(self, entry: PlannedRun, why: str) -> None:
        self.tally.remaining += 1
        self.display.drop(entry, why)
        self._forget(entry)

    def _forget(self, entry: PlannedRun) -> None:
        del self.running[entry.spec.key]
        self.store.release(entry.spec)

    def _end_overdue(self) -> None:
        """Stop runs that exceed `--run-timeout` or the deadline."""
        for key, (entry, started) in list(self.running.items()):
            if time.monotonic() - started > self.orders.run_timeout:
                self.engine.stop(key)
                self._fail(entry, f"took longer than --run-timeout {duration_text(self.orders.run_timeout)}")
            elif time.time() > self.deadline + GRACE:
                self.engine.stop(key)
                self._suspend(entry, "out of time: goes on from its last checkpoint, if it has one")
