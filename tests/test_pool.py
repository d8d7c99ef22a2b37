"""The driver of a grid, with an engine that only pretends to train: what it starts, records, claims and gives up."""

from __future__ import annotations

import contextlib
import io
import itertools
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from bench.core.base import BenchError
from bench.core.card import DatasetCard
from bench.core.jobs import Event, Job, Lost, Progress, Saved
from bench.core.record import RunResult
from bench.core.spec import RunSpec
from bench.core.store import WORK, Store
from bench.grid import driver as pool
from bench.grid.driver import Orders, Tally, in_shard, run_grid
from bench.plan.own_code import OwnCode
from bench.plan.suite import PlannedRun
from tests.builders import HERE, done, make_spec, waves


class Pretence:
    """An engine that answers each job with what `answer` makes of it: an event, or nothing for ever."""

    def __init__(self, answer: Callable[[Job], object], slots: int = 1) -> None:
        self.answer, self.slots, self.where = answer, slots, HERE
        self.jobs: list[Job] = []
        self.pending: dict[str, Job] = {}
        self.stopped: list[str] = []
        self.most = 0
        self.closed = False
        self.free: float | None = None
        self.held: dict[str, tuple[float, float]] = {}

    def check(self, specs: Sequence[RunSpec]) -> None:
        self.checked = list(specs)

    def start(self, job: Job) -> None:
        self.jobs.append(job)
        self.pending[job.spec.key] = job
        self.most = max(self.most, len(self.pending))

    def events(self, timeout: float) -> list[Event]:
        for key, job in list(self.pending.items()):
            what = self.answer(job)
            if isinstance(what, BaseException):
                raise what
            if what is not None:
                if not isinstance(what, Progress):
                    del self.pending[key]
                return [Event(key, what)]  # type: ignore[arg-type]
        time.sleep(0.005)
        return []

    def stop(self, key: str) -> None:
        self.stopped.append(key)
        del self.pending[key]

    def free_memory(self) -> float | None:
        return self.free

    def memory(self, key: str) -> tuple[float, float] | None:
        return self.held.get(key)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def card(make_card: Callable[..., DatasetCard]) -> DatasetCard:
    return make_card(waves(120, 3))


@pytest.fixture
def entries(card: DatasetCard) -> list[PlannedRun]:
    return [PlannedRun(make_spec(card, model, seed)) for model in ("dlinear", "patchtst") for seed in (1, 2, 3)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def run(entries: list[PlannedRun], store: Store, engine: Pretence, orders: Orders = Orders()) -> tuple[Tally, str]:  # noqa: B008  (frozen)
    said = io.StringIO()
    tally = run_grid(entries, store, orders, lambda: engine, Console(file=said, width=200))
    assert engine.closed or not engine.jobs
    return tally, said.getvalue()


def test_every_run_is_done_once_and_one_seed_of_everything_before_the_second_of_anything(
    entries: list[PlannedRun], store: Store, card: DatasetCard
) -> None:
    engine = Pretence(lambda job: done(job.spec, card), slots=4)
    tally, said = run([*entries, *entries], store, engine)
    assert tally == Tally(done=6)
    assert [job.spec.seed for job in engine.jobs] == [1, 1, 2, 2, 3, 3]
    assert engine.most == 4
    assert engine.checked == [job.spec for job in engine.jobs]
    assert "6 runs on a machine, 4 at once" in said
    assert "[6/6] patchtst Waves h8 s3" in said
    assert sorted(each.name for each in (store.root / WORK).iterdir()) == ["claims"]
    assert run(entries, store, Pretence(lambda job: done(job.spec, card)))[0] == Tally(earlier=6)


def with_peak(spec: RunSpec, card: DatasetCard, peak_mb: float) -> RunResult:
    """As if `spec` had run, and taken this much memory."""
    result = done(spec, card)
    assert result.cost is not None
    return result.model_copy(update={"cost": result.cost.model_copy(update={"peak_mb": peak_mb})})


@pytest.mark.parametrize(
    ("free", "held", "most"), [(None, 0, 4), (2000, 0, 4), (1000, 0, 2), (300, 0, 1), (1000, 300, 4)]
)
def test_as_many_runs_begin_as_fit_into_the_free_memory(
    entries: list[PlannedRun], store: Store, card: DatasetCard, free: float | None, held: float, most: int
) -> None:
    """Each takes 400 MiB, as its model's first record tells. What a running one holds is no longer free."""
    for model in ("dlinear", "patchtst"):
        store.put(with_peak(make_spec(card, model, 9), card, 400))
    asked: list[str] = []

    def answer(job: Job) -> RunResult | None:
        engine.held[job.spec.key] = held, held
        asked.append(job.spec.key)
        return done(job.spec, card) if asked.count(job.spec.key) == 6 else None

    engine = Pretence(answer, slots=4)
    engine.free = free
    assert run(entries, store, engine)[0] == Tally(done=6)
    assert engine.most == most
    assert [job.spec.seed for job in engine.jobs] == [1, 1, 2, 2, 3, 3], "no run passes one that is waiting for memory"


def test_one_run_of_unknown_need_at_a_time_until_its_first_epoch_has_told(
    entries: list[PlannedRun], store: Store, card: DatasetCard
) -> None:
    """Of two models without a record the first runs alone for an epoch; by then its memory is known, and so on."""
    epoch = done(entries[0].spec, card).curve[0]
    told: dict[str, int] = {}
    alone: list[tuple[str, int]] = []

    def answer(job: Job) -> RunResult | Progress:
        engine.held[job.spec.key] = 300, 400
        told[job.spec.key] = told.get(job.spec.key, 0) + 1
        if told[job.spec.key] < 6:
            step = told[job.spec.key] if told[job.spec.key] < 3 else 3
            alone.append((job.spec.model, len(engine.pending)))
            return Progress(step, 9, epoch if step == 3 else None)
        return done(job.spec, card)

    engine = Pretence(answer, slots=2)
    engine.free = 10_000
    assert run(entries, store, engine)[0] == Tally(done=6)
    assert alone[:3] == [("dlinear", 1)] * 3, "two steps, and the epoch"
    assert engine.most == 2 and alone[3:5] == [("dlinear", 2)] * 2, "a second unknown one beside the known one"


def test_shards_cover_the_grid_without_overlap_and_mix_its_models(entries: list[PlannedRun]) -> None:
    planned = {entry.spec.key: entry for entry in entries}
    parts = [in_shard(planned, (number, 4)) for number in (1, 2, 3, 4)]
    assert sorted(key for part in parts for key in part) == sorted(planned)
    assert {len(part) for part in parts} <= {1, 2}
    assert in_shard(planned, (1, 1)).keys() == planned.keys()


def test_a_run_that_is_lost_is_a_failure_with_its_reason_and_the_grid_goes_on(
    entries: list[PlannedRun], store: Store, card: DatasetCard
) -> None:
    engine = Pretence(lambda job: Lost("killed") if job.spec.seed == 2 else done(job.spec, card))
    tally, said = run(entries, store, engine)
    assert tally == Tally(done=4, failed=2)
    failed = store.get(entries[1].spec)
    assert failed is not None
    assert (failed.status, failed.error, failed.where.device) == ("failed", "killed", "a machine")
    assert "failed: killed" in said
    again = Pretence(lambda job: done(job.spec, card))
    assert run(entries, store, again, Orders(rerun="failed"))[0] == Tally(done=2, earlier=4)


def test_a_run_that_hangs_is_ended_and_recorded(entries: list[PlannedRun], store: Store, card: DatasetCard) -> None:
    hangs = entries[0].spec
    engine = Pretence(lambda job: None if job.spec == hangs else done(job.spec, card), slots=2)
    assert run(entries, store, engine, Orders(run_timeout=0.2))[0] == Tally(done=5, failed=1)
    assert engine.stopped == [hangs.key]
    failed = store.get(hangs)
    assert failed is not None
    assert failed.error == "took longer than --run-timeout < 1 s"


def test_what_concerns_all_runs_stops_the_grid_and_keeps_what_was_done(
    entries: list[PlannedRun], store: Store, card: DatasetCard
) -> None:
    engine = Pretence(lambda job: BenchError("no such file") if job.spec.seed == 2 else done(job.spec, card))
    with pytest.raises(BenchError, match="no such file"):
        run(entries, store, engine)
    assert engine.closed
    assert [store.status(entry.spec) for entry in entries] == ["done", "missing", "missing"] * 2


def test_leftovers_of_a_process_that_died_after_its_record_are_removed(
    entries: list[PlannedRun], store: Store, card: DatasetCard
) -> None:
    run(entries, store, Pretence(lambda job: done(job.spec, card)))
    rubbish = store.work(entries[0].spec)
    rubbish.mkdir()
    (rubbish / "checkpoint.safetensors").touch()
    foreign = store.root / WORK / ("0" * 64)
    foreign.mkdir()
    assert run(entries, store, Pretence(lambda job: None))[0] == Tally(earlier=6)
    assert not rubbish.exists()
    assert foreign.exists(), "it may be of another suite's run"


def test_what_another_process_did_meanwhile_is_not_done_again(
    entries: list[PlannedRun], store: Store, card: DatasetCard
) -> None:
    """The other process records seed 3, one of them as failed, while this one trains seed 1."""

    def answer(job: Job) -> RunResult:
        if job.spec == entries[0].spec:
            store.put(done(entries[2].spec, card))
            store.put(RunResult(spec=entries[5].spec, status="failed", where=HERE, error="there"))
        return done(job.spec, card)

    engine = Pretence(answer)
    tally, said = run(entries, store, engine)
    assert tally == Tally(done=4, failed=1, earlier=1)
    assert len(engine.jobs) == 4
    assert "done, by another process" in said
    assert "failed, by another process" in said


class Hours:
    """Estimates as a table by model, and a clock that engines advance."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, hours: dict[str, float | None]) -> None:
        self.now = 1e9
        monkeypatch.setattr(pool.time, "time", lambda: self.now)
        outer = self

        class Table:
            def __init__(self, device: str, records: object, sharing: int | None, threads: int) -> None:
                assert (device, sharing, threads) == ("a machine", 3, 1)

            def learn(self, result: RunResult) -> None:
                outer.learnt = result

            def of(self, spec: RunSpec) -> object:
                known = hours[spec.model]
                return type("Estimate", (), {"seconds": None if known is None else 3600 * known, "peak_mb": None})

        monkeypatch.setattr(pool, "Estimates", Table)

    def take(self, hours: float) -> None:
        self.now += 3600 * hours


def test_within_a_budget_nothing_is_started_that_will_not_fit(
    entries: list[PlannedRun], store: Store, card: DatasetCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of five hours four go into seed 1 (1 + 3); then the one-hour run of seed 2 fits, the next of three hours not."""
    hours = {"dlinear": 1.0, "patchtst": 3.0}
    clock = Hours(monkeypatch, hours)

    def answer(job: Job) -> RunResult:
        clock.take(hours[job.spec.model])
        return done(job.spec, card)

    engine = Pretence(answer)
    tally, _ = run(entries, store, engine, Orders(budget=5 * 3600))
    assert tally == Tally(done=3, remaining=3)
    assert [(job.spec.model, job.spec.seed) for job in engine.jobs] == [("dlinear", 1), ("patchtst", 1), ("dlinear", 2)]
    assert clock.learnt.spec == engine.jobs[-1].spec


def test_a_run_of_unknown_length_begins_if_any_time_remains(
    entries: list[PlannedRun], store: Store, card: DatasetCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Hours(monkeypatch, {"dlinear": None, "patchtst": 3.0})

    def answer(job: Job) -> RunResult | Saved:
        clock.take(0.6)
        return Saved() if clock.now > job.deadline else done(job.spec, card)

    engine = Pretence(answer)
    tally, text = run(entries[:2] + entries[3:4], store, engine, Orders(budget=3600))
    assert tally == Tally(done=1, remaining=2)
    assert [(job.spec.model, job.spec.seed) for job in engine.jobs] == [("dlinear", 1), ("patchtst", 1)]
    assert "out of time: saved, and goes on with the next command" in text
    assert clock.learnt.spec == engine.jobs[0].spec


def test_a_run_longer_than_any_budget_is_done_in_slices(
    entries: list[PlannedRun], store: Store, card: DatasetCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Hours(monkeypatch, {"dlinear": 9.0, "patchtst": 9.0})

    def answer(job: Job) -> Saved | None:
        assert job.deadline == 1e9 + 3600
        assert job.checkpoint == store.work(job.spec) / "checkpoint.safetensors"
        clock.take(0.6)
        return Saved() if clock.now > job.deadline else None

    engine = Pretence(answer)
    tally, said = run(entries, store, engine, Orders(budget=3600))
    assert tally == Tally(remaining=6)
    assert len(engine.jobs) == 1
    assert "out of time: saved, and goes on with the next command" in said


def test_a_run_that_does_not_stop_in_time_is_ended_without_a_record(
    entries: list[PlannedRun], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Hours(monkeypatch, {"dlinear": 0.5, "patchtst": 0.5})
    engine = Pretence(lambda job: clock.take(0.3), slots=1)
    assert run(entries, store, engine, Orders(budget=3600))[0] == Tally(remaining=6)
    assert engine.stopped == [engine.jobs[0].spec.key]
    assert clock.now > 1e9 + 3600 + pool.GRACE
    assert store.status(engine.jobs[0].spec) == "missing"


def test_asking_for_failed_runs_leaves_the_checkpoints_of_missing_ones_alone(
    entries: list[PlannedRun], store: Store, card: DatasetCard
) -> None:
    store.put(done(entries[0].spec, card))
    saved = store.work(entries[1].spec) / "checkpoint.safetensors"
    saved.parent.mkdir(parents=True)
    saved.touch()
    assert run(entries, store, Pretence(lambda job: None), Orders(rerun="failed"))[0] == Tally(earlier=1, remaining=5)
    assert saved.exists()


def test_a_failure_does_not_take_the_place_of_a_result(
    entries: list[PlannedRun], store: Store, card: DatasetCard
) -> None:
    store.put(done(entries[0].spec, card))
    tally, said = run(entries[:1], store, Pretence(lambda job: Lost("killed")), Orders(rerun="all"))
    assert tally == Tally(failed=1)
    assert "failed: killed; its earlier record stays" in said
    assert store.status(entries[0].spec) == "done"


def test_one_record_that_cannot_be_written_costs_no_other(
    entries: list[PlannedRun], store: Store, card: DatasetCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs end at once, and the record of the first finds no room."""

    class Both(Pretence):
        def events(self, timeout: float) -> list[Event]:
            ended = [Event(key, done(job.spec, card)) for key, job in self.pending.items()]
            self.pending.clear()
            return ended

    put = Store.put

    def full(self: Store, result: RunResult) -> Path:
        if result.spec == entries[0].spec:
            raise BenchError("no room")
        return put(self, result)

    monkeypatch.setattr(Store, "put", full)
    pair = [entries[0], entries[3]]
    with pytest.raises(BenchError, match="no room"):
        run(pair, store, Both(lambda job: None, slots=2))
    assert [store.status(entry.spec) for entry in pair] == ["missing", "done"]


def test_a_record_that_is_moved_away_while_its_run_waits_is_made_again(
    entries: list[PlannedRun], store: Store, card: DatasetCard
) -> None:
    path = store.put(RunResult(spec=entries[1].spec, status="failed", where=HERE, error="once"))

    def answer(job: Job) -> RunResult:
        if job.spec == entries[0].spec:
            path.unlink()
        return done(job.spec, card)

    assert run(entries[:2], store, Pretence(answer))[0] == Tally(done=2)


def test_the_traceback_of_a_failed_run_is_printed_where_it_is_asked_for(
    entries: list[PlannedRun], store: Store
) -> None:
    trace = 'Traceback (most recent call last):\n  File "net.py", line 3\nValueError: \x1b[2J'

    def answer(job: Job) -> RunResult:
        return RunResult(spec=job.spec, status="failed", where=HERE, error="ValueError", traceback=trace)

    for debug in (False, True):
        _, said = run(entries[:1], store, Pretence(answer), Orders(debug=debug))
        assert ('  File "net.py", line 3\nValueError: \\u001b[2J\n' in said) == debug
        assert "\x1b" not in said


@pytest.fixture
def own(entries: list[PlannedRun], monkeypatch: pytest.MonkeyPatch) -> PlannedRun:
    """A run of a user's own model."""
    files = {Path("net.py").resolve(): ""}
    monkeypatch.setattr(pool, "own_code", lambda model: OwnCode(model, {}, {}, files))
    return entries[0]._replace(spec=entries[0].spec.model_copy(update={"model": "net:Net", "code": "0" * 64}))


def test_what_a_users_model_printed_lies_beside_its_record_and_its_line_says_so(
    own: PlannedRun, entries: list[PlannedRun], store: Store, card: DatasetCard
) -> None:
    """The model prints when it is run first, not when it is run again; the line of a registered model names no log."""

    def answer(job: Job) -> RunResult | Lost:
        if job.log and texts:
            job.log.write_text(texts.pop())
        return Lost("killed") if len(texts) == 1 else done(job.spec, card)

    path = (store.root / own.spec.path).with_suffix(".log")
    texts = ["second", "first"]
    for content in ("first", "second", None):
        _, said = run([own, entries[1]], store, Pretence(answer), Orders(rerun="all"))
        assert "net:Net runs net.py\n" in said
        assert (f"output: {path}\n" in said) == bool(content) and said.count("output: ") == bool(content)
        assert (path.read_text() if path.exists() else None) == content
        assert sorted(each.name for each in (store.root / WORK).iterdir()) == ["claims"]


class KilledError(BaseException):
    """The driver was killed; nothing that it does after that changes a file."""


@contextlib.contextmanager
def killed_before_change(number: int) -> Iterator[None]:
    """Let only so many changes of files happen within."""
    left = iter(range(number))

    def counted(change: Callable) -> Callable:
        def change_or_die(*given: object, **named: object) -> object:
            if next(left, None) is None:
                raise KilledError
            return change(*given, **named)

        return change_or_die

    with pytest.MonkeyPatch.context() as patch:
        for name in ("replace", "unlink", "rmdir", "mkdir", "touch", "write_bytes"):
            patch.setattr(Path, name, counted(getattr(Path, name)))
        patch.setattr(shutil, "rmtree", counted(shutil.rmtree))
        yield


@pytest.mark.parametrize("prints", ["second\n", ""])
def test_killed_before_any_change_of_a_file_a_grid_goes_on_and_no_log_is_of_another_run_than_its_record(
    own: PlannedRun, tmp_path: Path, card: DatasetCard, prints: str
) -> None:
    """A run failed, is done again, is killed then, and is done by a third command if its record was not written."""

    def printing(text: str, result: RunResult | Lost) -> Pretence:
        def answer(job: Job) -> RunResult | Lost:
            assert job.log
            with job.log.open("a") as file:
                file.write(text)
            return result

        return Pretence(answer)

    ends = []
    for number in itertools.count():
        store = Store(tmp_path / f"results{number}")
        log = (store.root / own.spec.path).with_suffix(".log")
        run([own], store, printing("first\n", Lost("killed")))
        assert log.read_text() == "first\n"
        with contextlib.suppress(KilledError), killed_before_change(number):
            run([own], store, printing(prints, done(own.spec, card)))
            break
        third = printing("third\n", done(own.spec, card))
        run([own], store, third)
        assert store.status(own.spec) == "done"
        assert sorted(each.name for each in (store.root / WORK).iterdir()) == ["claims"]
        ends.append(log.read_text() if log.exists() else "")
        assert ends[-1] in (["third\n", f"{prints}third\n"] if third.jobs else [prints]), f"killed at {number}"
    assert len(ends) > 8
    assert ends[-1] == prints, "the last change comes after the record"
