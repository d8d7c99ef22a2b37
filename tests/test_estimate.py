"""How long and how large a run is: what records teach, what is scaled, timed or not known, and that a plan is quick."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from bench.__main__ import main
from bench.cli import duration
from bench.core.base import BenchError
from bench.core.card import DatasetCard, cards
from bench.core.record import Cost, Epoch, Evaluation, RunResult
from bench.core.schedule import StepPlan
from bench.core.spec import RunSpec, TrainConfig
from bench.core.store import Store
from bench.core.system import cpu_name, this_device
from bench.grid.display import duration_text
from bench.overview import plan_rows, plan_summary
from bench.plan import capacity, estimate
from bench.plan.capacity import fits, makespan, slots
from bench.plan.estimate import CellKey, Estimate, Estimates, records_of, work
from bench.plan.own_code import own_code
from bench.plan.suite import Filters, PlannedRun, load_suite, plan
from bench.train import device as machine
from bench.train import measure as measuring
from bench.train.execute import run_one
from bench.train.measure import measure
from bench.train.windows import split_windows
from models.baselines import DLinear, RepeatLast
from tests.builders import WHERE, done, make_spec, waves

TRAINED = ("logo_llm", "time_llm_lite", "calf_lite", "patchtst", "itransformer", "dlinear")
UNKNOWN = Estimate(None, None, "not known yet")


@pytest.fixture(autouse=True)
def same_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "cpu_name", lambda: "this CPU")


def paper(**filters: object) -> list[RunSpec]:
    return plan(load_suite("paper"), Filters.model_validate({"backbone": "gpt2-random", **filters}))


def one(model: str, dataset: str = "ETTh1", horizon: int = 96, seed: int = 2021, **train: object) -> RunSpec:
    (spec,) = paper(models=(model,), datasets=(dataset,), horizons=(horizon,), seeds=(seed,))
    return spec.model_copy(update={"train": TrainConfig.model_validate(spec.train.model_dump() | train)})


def on(spec: RunSpec, **task: object) -> RunSpec:
    return spec.model_copy(update={"task": spec.task.model_copy(update=task)})


def record(
    spec: RunSpec,
    seconds: float,
    peak_mb: float | None = 500,
    share: float = 1.0,
    device: str = "this CPU",
    sharing: int | None = None,
    resumed: tuple[str, ...] = (),
    threads: int = 1,
) -> RunResult:
    """As if `spec` had run, for this share of the steps that it is allowed."""
    curve = (Epoch(epoch=1, train_loss=1, val_loss=1, lr=1e-3, seconds=1),)
    cost = Cost(
        train_s=seconds, total_s=seconds, steps=round(share * work(spec).steps), samples_per_s=1, infer_ms=1,
        peak_mb=peak_mb, params=1, trainable=1, flops=1,
    )  # fmt: skip
    counts = {name: cards()[name].windows("test", spec.task.context, spec.task.horizon) for name in spec.task.datasets}
    place = {"device": device, "threads": threads, "sharing": sharing, "resumed": resumed}
    where = WHERE.model_copy(update={"data_sha256": {name: cards()[name].sha256[0] for name in counts}, **place})
    errors = tuple(Evaluation(dataset=name, mse=1, mae=1, windows=count) for name, count in counts.items())
    return RunResult(spec=spec, status="done", evaluations=errors, best_epoch=1, curve=curve, cost=cost, where=where)


def stored(spec: RunSpec, seconds: float, peak_mb: float = 500, device: str = "this CPU") -> RunResult:
    """Return a record that a store takes for one of a run."""
    result = done(spec, cards()[spec.task.dataset])
    assert result.cost is not None
    cost = result.cost.model_copy(update={"total_s": seconds, "peak_mb": peak_mb})
    where = result.where.model_copy(update={"device": device, "sharing": None})
    return result.model_copy(update={"cost": cost, "where": where})


@pytest.mark.parametrize(("dataset", "share"), [("ETTh1", 1.0), ("ILI", 0.05), ("Traffic", 0.1), ("EPF", 1.0)])
def test_windows_and_steps_are_counted_as_the_run_has_them(dataset: str, share: float) -> None:
    spec = on(one("dlinear", dataset, cards()[dataset].horizons[-1]), train_fraction=share, test_on=("ETTh2",))
    card, task = cards()[dataset], spec.task
    parts = split_windows(card, torch.empty(card.rows, 1), task.context, task.horizon, share)
    other = cards()["ETTh2"]
    tested = split_windows(other, torch.empty(other.rows, 1), task.context, task.horizon)["test"]
    steps = StepPlan(spec.train, len(parts["train"]))
    counted = work(spec)
    assert counted.steps == steps.total
    assert counted.trained == pytest.approx(steps.windows(steps.total))
    scored = spec.train.epochs * len(parts["val"]) + len(parts["test"]) + len(tested) * other.width / card.width
    assert counted.scored == pytest.approx(scored)
    untrained = work(spec, share=0)
    assert untrained.trained == 0 and untrained.scored == pytest.approx(scored - spec.train.epochs * len(parts["val"]))
    cut = work(spec.model_copy(update={"train": spec.train.model_copy(update={"max_steps": 1})}))
    assert cut.steps == 1 and cut.trained == pytest.approx(len(parts["train"]) / steps.per_epoch)
    assert cut.scored - untrained.scored == pytest.approx(len(parts["val"])), "an epoch cut short is validated"


def test_a_cell_that_ran_with_other_seeds_is_their_median() -> None:
    done = [
        record(one("dlinear", seed=seed), seconds, peak) for seed, seconds, peak in ((1, 4, 9), (2, 6, 7), (3, 9, 8))
    ]
    guess = Estimates("this CPU", done).of(one("dlinear", seed=4))
    assert guess == Estimate(6, 9, "records")
    twice = Estimates("this CPU", [*done, done[2], done[2]]).of(one("dlinear", seed=4))
    assert twice == guess, "the same record may come from the store and from elsewhere"


def test_scaling_is_exact_where_the_work_doubles() -> None:
    spec = one("dlinear", "ETTh1", epochs=10)
    nothing = Estimates("this CPU", [record(on(spec, test_on=("ETTh1",)), 100)])
    ratio = work(spec).total / work(on(spec, test_on=("ETTh1",))).total
    assert nothing.of(spec) == Estimate(pytest.approx(100 * ratio), 500, "scaled")
    counted = work(spec)
    base = counted.channels * (3 * counted.trained + 10 * cards()["ETTh1"].windows("val", 96, 96))
    longer = one("dlinear", "ETTh1", epochs=20)
    assert work(longer).total - work(spec).total == pytest.approx(base), "twice the epochs, the test once"
    twice_as_wide = cards()["ETTh1"].model_copy(update={"name": "Wide", "channels": 14})
    cards()["Wide"] = twice_as_wide
    try:
        wide = on(spec, dataset="Wide")
        assert Estimates("this CPU", [record(spec, 100)]).of(wide) == Estimate(pytest.approx(200), 500, "scaled")
    finally:
        del cards()["Wide"]


def test_the_nearest_cell_has_the_same_options_then_context_then_values_per_step() -> None:
    spec = one("dlinear", "ETTh1", 96)
    other_options = spec.model_copy(update={"options": {**spec.options, "kernel": 9}})
    other_precision = one("dlinear", "ETTh1", 96, precision="bf16")
    other_context = on(spec, context=192)
    far, near = one("dlinear", "ETTh2", 720), one("dlinear", "ETTh1", 192)
    assert far.options == near.options == spec.options
    order = [near, far, other_context, other_options]
    assert other_precision.train.precision != spec.train.precision

    def from_alone(cell: RunSpec) -> float | None:
        return Estimates("this CPU", [record(cell, 50)]).of(spec).seconds

    for first, *rest in (order[n:] for n in range(len(order))):
        records = [record(cell, 1e6) for cell in reversed(rest)]
        assert Estimates("this CPU", [*records, record(first, 50)]).of(spec).seconds == from_alone(first)
    assert Estimates("this CPU", [record(other_precision, 1e6), record(far, 50)]).of(spec).seconds == from_alone(far)


def test_peak_memory_is_that_of_the_cell_else_the_largest_of_the_model() -> None:
    done = [record(one("dlinear", horizon=horizon), 5, peak) for horizon, peak in ((96, 700), (192, 900), (336, None))]
    estimates = Estimates("this CPU", done)
    assert [estimates.of(one("dlinear", horizon=horizon)).peak_mb for horizon in (96, 192, 336, 720)] == [
        700, 900, 900, 900,
    ]  # fmt: skip
    assert Estimates("this CPU", done[2:]).of(one("dlinear")).peak_mb is None


def test_narrow_data_do_not_tell_how_much_memory_wide_data_take() -> None:
    """A batch of ETTh1 has a fraction of the series of one of Traffic; the other way round the guess is too large."""
    narrow, wide = one("patchtst", "ETTh1"), one("patchtst", "Traffic")
    assert Estimates("this CPU", [record(narrow, 9, 700)]).of(wide).peak_mb is None
    assert Estimates("this CPU", [record(wide, 9, 5000)]).of(narrow).peak_mb == 5000
    estimates = Estimates("this CPU", [record(narrow, 9, 700)])
    estimates.learn_peak(wide, 5000)
    assert estimates.of(wide).peak_mb == 5000, "of a run that has not ended, too"


def test_a_record_with_other_threads_tells_of_memory_alone() -> None:
    def guess(in_record: int, now: int) -> Estimate:
        done = record(one("patchtst"), 8, threads=in_record)
        return Estimates("this CPU", [done], threads=now).of(one("patchtst"))

    assert guess(2, 1) == guess(1, 2) == Estimate(None, 500, "not known yet")
    assert guess(1, 1) == guess(2, 2) == Estimate(8, 500, "records")
    on_gpu = record(one("patchtst"), 7, device="A GPU", sharing=1, threads=2)
    assert Estimates("A GPU", [on_gpu]).of(one("patchtst")).seconds == 7, "a GPU's time does not depend on them"


def test_runs_fit_into_memory_if_a_tenth_is_spared_and_one_at_most_is_not_known() -> None:
    assert fits([400, 500], 1000) and not fits([400, 501], 1000)
    assert fits([400, None], 1000) and not fits([401, None], 1000) and not fits([None, None], 1e9)
    assert fits([5000], 1000) and fits([None], 0), "one run is always tried"
    assert fits([9e9, None, None], None), "where the system does not say, nobody counts"


def test_cores_bound_the_runs_at_once_unless_a_number_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "cores", lambda: 6)
    assert [slots(), slots(threads=4), slots(threads=7), slots(9), slots(2, 4)] == [6, 1, 1, 9, 2]


@pytest.mark.parametrize(
    ("at_once", "free", "expected"),
    [
        (1, None, (100, 1, 300)),
        (2, None, (60, 2, 500)),
        (9, None, (50, 5, 900)),
        (2, 500, (80, 2, 300)),  # the third does not fit beside the second, nor the fourth beside the third
        (9, 100, (100, 1, 300)),
    ],
)
def test_a_grid_takes_as_long_as_its_runs_do_side_by_side(
    at_once: int, free: float | None, expected: tuple[float, int, float]
) -> None:
    runs = [Estimate(seconds, mb, "records") for seconds, mb in ((10, 100), (20, 200), (50, 300), (10, 200), (10, 100))]
    assert makespan([*runs, UNKNOWN], at_once, free) == expected
    assert makespan([UNKNOWN], at_once, free) == (0, 0, 0)
    assert makespan([Estimate(10, None, "scaled")] * 2, 2, free) == (10, 2, 0), "their first epoch will tell"


def test_every_run_that_ends_teaches_and_failures_do_not() -> None:
    estimates = Estimates("this CPU", [])
    here, there = one("itransformer"), one("itransformer", "ETTh2", 192)
    assert estimates.of(here) == estimates.of(there) == UNKNOWN
    slow = record(here, 1000)
    estimates.learn(slow.model_copy(update={"status": "failed"}))
    assert estimates.of(here) == UNKNOWN
    estimates.learn(slow)
    assert estimates.of(here) == Estimate(1000, 500, "records")
    assert estimates.of(there).basis == "scaled"
    assert estimates.of(one("dlinear")) == UNKNOWN, "a model is judged by its own runs"


def test_records_of_other_devices_are_ignored() -> None:
    elsewhere = record(one("patchtst"), 1e6, device="A GPU", sharing=1)
    begun_elsewhere = record(one("patchtst"), 1e6, resumed=("A GPU, 1 thread",))
    assert Estimates("this CPU", [elsewhere, begun_elsewhere]).of(one("patchtst")) == UNKNOWN
    begun_here = record(one("patchtst"), 8, resumed=("this CPU, 1 thread",))
    assert Estimates("this CPU", [begun_here]).of(one("patchtst")).seconds == 8
    on_gpu = Estimates("A GPU", [record(one("patchtst"), 7, device="A GPU", sharing=1)])
    assert on_gpu.of(one("patchtst")).seconds == 7


def test_runs_that_share_a_gpu_take_turns_on_it() -> None:
    def guess(in_record: int | None, now: int | None) -> Estimate:
        done = record(one("patchtst"), 80, device="A GPU", sharing=in_record)
        return Estimates("A GPU", [done], sharing=now).of(one("patchtst", seed=1))

    assert [guess(8, now).seconds for now in (None, 1, 4)] == [10, 10, 40]
    assert guess(1, None).seconds == 80
    assert guess(None, 4) == Estimate(None, 500, "not known yet"), "how long it took tells nothing, its memory does"


def test_early_stopping_is_expected_where_records_saw_it() -> None:
    spec, unlike = one("calf_lite", horizon=96), one("calf_lite", horizon=192)
    estimates = [Estimates("this CPU", [record(unlike, 10, share=share)]) for share in (1.0, 0.5)]
    whole, half = (each.of(spec).seconds for each in estimates)
    assert whole == pytest.approx(10 * work(spec).total / work(unlike).total)
    assert half == pytest.approx(10 * work(spec, 0.5).total / work(unlike, 0.5).total)
    longer = one("calf_lite", horizon=192, epochs=2 * unlike.train.epochs)
    assert estimates[1].of(longer).seconds == pytest.approx(10 * work(longer, 0.5).total / work(unlike, 0.5).total)


def test_fewer_windows_and_fewer_steps_take_less_time() -> None:
    spec = one("itransformer")
    estimates = Estimates("this CPU", [record(spec, 100)])
    assert estimates.of(on(spec, train_fraction=0.1)).seconds < 100 / 2
    assert estimates.of(one("itransformer", max_steps=10)).seconds < 100 / 10


def test_a_model_that_trains_nothing_is_scaled_by_what_it_is_tested_on() -> None:
    short, long = one("repeat_last", "ETTh1"), one("repeat_last", "ETTm1")
    ratio = work(long, 0).scored / work(short, 0).scored
    assert Estimates("this CPU", [record(short, 2, share=0)]).of(long).seconds == pytest.approx(2 * ratio)


def test_records_of_a_data_set_that_is_gone_are_passed_over_and_other_options_are_scaled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    linear, patch = one("dlinear"), one("patchtst")
    gone, older = record(one("dlinear", "ETTh2"), 5), record(patch, 5)
    older = older.model_copy(update={"spec": patch.model_copy(update={"options": {"no_longer": 1}})})
    present = {name: card for name, card in cards().items() if name != "ETTh2"}
    monkeypatch.setattr(estimate, "cards", lambda: present)
    estimates = Estimates("this CPU", [gone, older])
    assert estimates.of(linear) == UNKNOWN
    assert estimates.of(patch) == Estimate(5, 500, "scaled")


def test_two_thousand_runs_are_estimated_cell_by_cell_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = Estimates._answer

    def count(self: Estimates, spec: RunSpec, cell: CellKey) -> Estimate:
        calls.append(cell)
        return original(self, spec, cell)

    monkeypatch.setattr(Estimates, "_answer", count)
    specs = paper(models=(*TRAINED, "repeat_last"), seeds=tuple(range(8)))
    assert len(specs) >= 2000
    cells = {spec.cell: spec.model for spec in specs}
    estimates = Estimates("this CPU", [record(one(model), 5) for model in (*TRAINED, "repeat_last")])
    assert all(estimates.of(spec).seconds for spec in specs)
    assert sorted(calls) == sorted(cells)
    calls.clear()
    estimates.learn(record(specs[0], 3))
    for spec in specs:
        estimates.of(spec)
    assert sorted(calls) == sorted(cell for cell, model in cells.items() if model == specs[0].model)


class Slow(nn.Module):
    """A user's own model: one linear layer over time."""

    def __init__(self, shape: object, options: object) -> None:
        super().__init__()
        self.map = nn.Linear(32, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.map(x.mT).mT


class Broken(Slow):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise ValueError("my mistake")


@pytest.fixture
def card(make_card: Callable[..., DatasetCard]) -> DatasetCard:
    return make_card(waves(600, 3))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only forecasts advance, a hundredth of a second for each window."""
    now = [0.0]
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: now[0])
    for model in (Slow, DLinear, RepeatLast):

        def forward(
            self: nn.Module, x: torch.Tensor, inner: Callable[..., torch.Tensor] = model.forward
        ) -> torch.Tensor:
            now[0] += 0.01 * len(x)
            return inner(self, x)

        monkeypatch.setattr(model, "forward", forward)
    return now


def own(card: DatasetCard, name: str) -> RunSpec:
    model = f"{__name__}:{name}"
    changes = {"model": model, "options": {}, "code": own_code(model).digest}
    return make_spec(card, epochs=3).model_copy(update=changes)


@pytest.mark.parametrize("model", ["dlinear", "repeat_last", "a user's own"])
def test_a_timed_run_takes_as_long_as_the_run_itself(card: DatasetCard, clock: list[float], model: str) -> None:
    spec = own(card, "Slow") if model == "a user's own" else make_spec(card, model, epochs=3)
    guess = measure(spec)
    assert guess.basis == "timed" and guess.peak_mb is not None and guess.peak_mb > 0
    began = clock[0]
    result = run_one(spec, torch.device("cpu"))
    took = clock[0] - began
    assert result.status == "done" and result.cost is not None and took > 1
    assert guess.seconds == pytest.approx(took, rel=0.02), "one forecast more counts operations"
    trains = model != "repeat_last"
    assert bool(result.curve) == trains and work(spec, float(trains)).trained == len(result.curve) * 321


def test_a_plan_times_what_it_does_not_know_and_a_model_that_fails_is_a_row(
    card: DatasetCard, clock: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.overview.this_device", lambda: "this CPU")
    store = Store(tmp_path / "results")
    known, slow, broken = make_spec(card), own(card, "Slow"), own(card, "Broken")
    store.put(stored(known, 40, 300))
    entries = [PlannedRun(spec) for spec in (known.model_copy(update={"seed": 7}), slow, broken)]
    rows, remaining = plan_rows(entries, store)
    assert [(row["a run takes"], row["MiB"], row["by"]) for row in rows] == [
        ("40 s", "300", "records"), ("?", "?", "not known yet"), ("?", "?", "not known yet"),
    ]  # fmt: skip
    assert plan_summary(remaining).splitlines() == [
        "3 runs: 0 done, 0 failed, 3 missing",
        "left: about 40 s one after the other on this CPU, up to 300 MiB at once (1 from records of other seeds)",
        "2 runs: time not known yet. Do: plan with --measure, which times a few steps of each",
    ]
    timed: list[RunSpec] = []

    def listed(spec: RunSpec) -> Estimate:
        timed.append(spec)
        return measure(spec)

    rows, remaining = plan_rows(entries, store, listed)
    assert timed == [slow, broken], "what records tell is not timed"
    assert [row["by"] for row in rows] == ["records", "timed", "not timed: my mistake"]
    assert rows[1]["a run takes"] == duration_text(measure(slow).seconds or 0)
    assert plan_summary(remaining).endswith("1 runs: could not be timed; their rows say why")
    assert "1 from a few timed steps" in plan_summary(remaining)
    for spec in (known.model_copy(update={"seed": 7}), slow, broken):
        store.put(stored(spec, 40, device="elsewhere"))
    rows, remaining = plan_rows(entries, store, listed)
    assert len(timed) == 2 and remaining.estimates == (), "what is done is not timed"


def test_a_plan_counts_on_the_runs_that_a_cpu_does_at_once(
    card: DatasetCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.overview.this_device", lambda: "this CPU")
    monkeypatch.setattr("bench.overview.cpu_name", lambda: "this CPU")
    monkeypatch.setattr(capacity, "cores", lambda: 4)
    store = Store(tmp_path / "results")
    store.put(stored(make_spec(card, seed=9), 40, 300))
    entries = [PlannedRun(make_spec(card, seed=seed)) for seed in range(8)]
    for free, jobs, threads, said in (
        (2000, None, 1, "about 80 s with 4 runs at once on this CPU, up to 1200 MiB at once"),
        (1000, None, 1, "about 2 min with 3 runs at once on this CPU, up to 900 MiB at once"),
        (None, 2, 1, "about 3 min with 2 runs at once on this CPU, up to 600 MiB at once"),
        (2000, 1, 1, "about 5 min one after the other on this CPU, up to 300 MiB at once"),
    ):
        monkeypatch.setattr("bench.overview.free_memory", lambda free=free: free)
        assert said in plan_summary(plan_rows(entries, store, threads=threads)[1], jobs, threads)
    assert "time not known yet" in plan_summary(plan_rows(entries, store, threads=2)[1], None, 2)


def test_plan_measure_is_a_flag_of_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(spec: RunSpec) -> Estimate:
        if spec.task.horizon == 24:
            raise BenchError("no such file. Do: fetch it")
        return Estimate(70, None, "timed")

    monkeypatch.setattr(measuring, "measure", answer)
    monkeypatch.setattr(capacity, "cores", lambda: 1)
    words = ["plan", "--suite", "quick", "--models", "dlinear", "--results", str(tmp_path)]
    assert main([*words, "--measure"]) == 0
    text = capsys.readouterr().out
    assert "not timed: no such file. Do: fetch it" in text
    assert "left: about 2 min one after the other on" in text and "MiB at once" not in text
    assert main(words) == 0
    assert "4 runs: time not known yet. Do: plan with --measure" in capsys.readouterr().out


def test_planning_loads_no_torch() -> None:
    code = "import sys, bench.plan.estimate, bench.overview; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_records_are_found_newest_and_of_every_cell_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "RECORDS_PER_TASK", 3)
    store = Store(tmp_path)
    for age, spec in enumerate([one("dlinear", seed=seed) for seed in (1, 2, 3)] + [one("dlinear", "ETTh2", seed=9)]):
        os.utime(store.put(stored(spec, 500)), (1e9 - age, 1e9 - age))
    store.put(stored(one("patchtst"), 500))
    damaged = store.put(stored(one("dlinear", horizon=192), 500))
    damaged.write_text(damaged.read_text()[:100])
    assert sorted(each.spec.seed for each in records_of(tmp_path, ["dlinear"])) == [1, 2, 3, 9]
    assert {each.spec.model for each in records_of(tmp_path, ["patchtst", "dlinear", "logo_llm"])} == {
        "patchtst",
        "dlinear",
    }
    damaged.unlink()
    monkeypatch.setattr(estimate, "RECORDS_PER_TASK", 1)
    assert sorted(each.spec.seed for each in records_of(tmp_path, ["dlinear"])) == [1, 9]
    assert records_of(tmp_path / "nowhere", ["dlinear"]) == []


def test_this_device_is_what_a_record_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert this_device() == machine.device_name(torch.device("cpu")) == cpu_name()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.13.0")
    answer = subprocess.CompletedProcess([], 0, stdout="NVIDIA A\nNVIDIA B\n")
    monkeypatch.setattr(subprocess, "run", lambda *words, **options: answer)
    assert this_device() == "NVIDIA A"
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.13.0+cpu")
    assert this_device() == cpu_name(), "this build of torch sees no GPU"


def test_without_nvidia_smi_the_device_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*words: object, **options: object) -> None:
        raise FileNotFoundError("nvidia-smi")

    monkeypatch.setattr(subprocess, "run", absent)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.13.0")
    assert this_device() == cpu_name()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("9m", 540), ("2h", 7200), ("1d", 86400), ("1h30m", 5400), ("1.5h", 5400), ("0.5s", 0.5)],
)
def test_lengths_of_time_are_read(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "m", "45", "0.5", "9 m", "9x", "-3m", "30m1h", "0", "0s", "nan", "inf", "1e3", "h9"]
)
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no length of time"):
        duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "< 1 s"), (45, "45 s"), (540, "9 min"), (11520, "3.2 h"), (181440, "2.1 d"), (89.4, "89 s"), (90, "2 min")],
)
def test_lengths_of_time_are_printed_short(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
