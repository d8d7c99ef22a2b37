"""How long and how large: what is counted, what records teach, and that a plan stays quick."""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from statistics import median

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench.cli import duration
from bench.core.card import cards
from bench.core.record import Cost, Epoch, RunResult, Where
from bench.core.spec import RunSpec, TrainConfig
from bench.core.store import Store
from bench.core.system import cpu_name, this_device
from bench.grid.display import duration_text
from bench.plan import estimate, registry
from bench.plan.estimate import Estimates, Machine, records_of
from bench.plan.operations import COUNTS, size_of
from bench.plan.suite import Filters, load_suite, plan
from bench.train import device as machine
from bench.train import evaluate as metrics
from bench.train import step
from bench.train.windows import split_windows
from models import MODELS, calf, layers, time_llm
from models.llm_files import find
from models.options import Shape

CPU = Machine(2e11, 4e8, 0.05, 1e-3, 400, 1024, 512, 4096)
TRAINED = ("logo_llm", "time_llm_lite", "calf_lite", "patchtst", "itransformer", "dlinear")


@pytest.fixture(autouse=True)
def same_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "cpu", lambda: CPU)
    monkeypatch.setattr(estimate, "cpu_name", lambda: "this CPU")


def paper(**filters: object) -> list[RunSpec]:
    return plan(load_suite("paper"), Filters.model_validate({"backbone": "gpt2-random", **filters}))


def one(model: str, dataset: str = "ETTh1", horizon: int = 96, seed: int = 2021, **train: object) -> RunSpec:
    (spec,) = paper(models=(model,), datasets=(dataset,), horizons=(horizon,), seeds=(seed,))
    return spec.model_copy(update={"train": TrainConfig.model_validate(spec.train.model_dump() | train)})


def record(
    spec: RunSpec,
    seconds: float,
    peak_mb: float | None = 500,
    epochs: int = 10,
    device: str = "this CPU",
    sharing: int | None = None,
) -> RunResult:
    """As if `spec` had run: all its epochs alike, the best one three before the end."""
    curve = tuple(Epoch(epoch=n + 1, train_loss=1, val_loss=1, lr=1e-3, seconds=1) for n in range(epochs))
    flops = int(estimate._own_size(spec).forward)
    cost = Cost(
        train_s=seconds, total_s=seconds, steps=1, samples_per_s=1, infer_ms=1, peak_mb=peak_mb,
        params=1, trainable=1, flops=flops,
    )  # fmt: skip
    where = Where(
        date="", git=None, dirty=None, versions={}, device=device, threads=2, data_sha256={}, backbone_sha256=None,
        sharing=sharing,
    )  # fmt: skip
    return RunResult(spec=spec, status="done", best_epoch=max(1, epochs - 3), curve=curve, cost=cost, where=where)


@pytest.mark.parametrize(
    ("model", "shape", "given"),
    [
        ("patchtst", (96, 96, 7), {}),
        ("patchtst", (336, 720, 321), {"width": 16, "heads": 4, "feedforward": 128}),
        ("patchtst", (36, 24, 862), {"patch": 24, "stride": 2, "layers": 2, "residual_attention": False}),
        ("itransformer", (96, 96, 7), {"width": 128, "feedforward": 128}),
        ("itransformer", (96, 720, 862), {"layers": 4}),
        ("itransformer", (336, 192, 321), {"calendar": False}),
        ("logo_llm", (96, 96, 7), {"backbone": "gpt2-random", "blocks": 2, "local_tap": 1}),
        ("logo_llm", (96, 720, 862), {"backbone": "gpt2-random", "blocks": 2, "local_tap": 2, "global_tap": 1}),
        ("logo_llm", (336, 96, 321), {"backbone": "smollm2-135m-random", "blocks": 3, "local_tap": 1}),
        ("logo_llm", (36, 24, 7), {"backbone": "smollm2-135m-random", "blocks": 3, "local_tap": 1, "mixers": "local"}),
        ("logo_llm", (36, 24, 7), {"backbone": "smollm2-135m-random", "reader": "attention", "mixers": "none"}),
        ("time_llm_lite", (96, 96, 7), {"backbone": "gpt2-random", "blocks": 2}),
        ("time_llm_lite", (36, 24, 862), {"backbone": "smollm2-135m-random", "blocks": 3, "prototypes": 200}),
        ("calf_lite", (96, 96, 7), {"backbone": "gpt2-random", "blocks": 2}),
        ("calf_lite", (96, 192, 321), {"backbone": "smollm2-135m-random", "blocks": 3, "feedforward": 512}),
        ("calf_lite", (36, 24, 7), {"backbone": "smollm2-135m-random", "blocks": 3, "reader": "nothing"}),
        ("dlinear", (96, 720, 862), {}),
        ("repeat_last", (96, 96, 7), {}),
        ("seasonal_naive", (96, 96, 7), {}),
    ],
)
def test_operations_and_weights_are_those_that_torch_counts(
    model: str, shape: tuple[int, int, int], given: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    for reader in (calf, time_llm):  # fewer words: their number is in no operation
        monkeypatch.setattr(reader, "word_embeddings", lambda name: torch.randn(600, find(name).width))
    given = {"global_tap": given["blocks"], **given} if model == "logo_llm" and "blocks" in given else given
    task = Shape(*shape, season=24, about="Hourly load of a transformer station, and what weighs on it")
    model_class = registry.load(model)
    built = model_class(task, registry.make_options(model, model_class, given)).eval().to("meta")
    monkeypatch.setattr(torch, "autocast", lambda *kind, **enabled: nullcontext())  # there is none for shapes alone
    monkeypatch.setitem(layers.SERIES_PER_PIECE, "meta", 4096)
    x = torch.zeros(1, task.context, task.channels, device="meta")
    inputs = (x, torch.zeros(1, task.context, 4, device="meta")) if getattr(built, "reads_calendar", False) else (x,)
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), counter:
        built(*inputs)
    size = size_of(model, given, task)
    assert size.forward == pytest.approx(counter.get_total_flops(), rel=0.15)
    weights = sum(parameter.numel() for parameter in built.parameters())
    assert size.trained + size.frozen == pytest.approx(weights, rel=0.15)


@pytest.mark.parametrize(("dataset", "share"), [("ETTh1", 1.0), ("ILI", 0.05), ("Traffic", 0.1), ("EPF", 1.0)])
def test_windows_are_counted_as_the_run_cuts_them(dataset: str, share: float) -> None:
    spec = one("dlinear", dataset, cards()[dataset].horizons[-1])
    spec = spec.model_copy(update={"task": spec.task.model_copy(update={"train_fraction": share})})
    card, task = cards()[dataset], spec.task
    parts = split_windows(card, torch.empty(card.rows, 1), task.context, task.horizon, share)
    assert {part: estimate._windows(card, part, spec) for part in parts} == {k: len(v) for k, v in parts.items()}


def test_batches_are_split_as_the_run_splits_them() -> None:
    for kind, device in ((CPU, "cpu"), (estimate.GPU, "cuda")):
        assert kind.series_per_pass == step.SERIES_PER_MICRO_BATCH[device]
        assert kind.series_per_batch == metrics.SERIES_PER_BATCH[device]
        assert kind.series_per_piece == layers.SERIES_PER_PIECE[device]


@pytest.mark.parametrize(
    ("model", "peak_mb"),
    [("time_llm_lite", 7407), ("logo_llm", 5690), ("patchtst", 5527), ("calf_lite", 4670), ("itransformer", 2155),
     ("dlinear", 740)],
)  # fmt: skip
def test_memory_without_records_is_within_a_factor_of_two_of_what_was_measured(model: str, peak_mb: float) -> None:
    """The peaks of docs/speed.md."""
    guess = Estimates("this CPU", []).of(one(model, "Traffic", 720))
    assert guess.basis == "operations" and peak_mb / 2 < guess.peak_mb < 2 * peak_mb


def test_a_cell_that_ran_with_other_seeds_is_measured() -> None:
    done = [
        record(one("dlinear", seed=seed), seconds, peak) for seed, seconds, peak in ((1, 4, 9), (2, 6, 7), (3, 9, 8))
    ]
    guess = Estimates("this CPU", done).of(one("dlinear", seed=4))
    assert guess == estimate.Estimate(6, 9, "measured")
    twice = Estimates("this CPU", [*done, done[2], done[2]]).of(one("dlinear", seed=4))
    assert twice == guess, "the same record may come from the store and from elsewhere"


def test_every_run_that_ends_teaches_and_failures_do_not() -> None:
    estimates = Estimates("this CPU", [])
    here, there = one("itransformer"), one("itransformer", "ETTh2", 192)
    first = {spec.key: estimates.of(spec) for spec in (here, there)}
    assert {guess.basis for guess in first.values()} == {"operations"}
    slow = record(here, 1000 * first[here.key].seconds)
    estimates.learn(slow.model_copy(update={"status": "failed"}))
    assert estimates.of(here) == first[here.key]
    estimates.learn(slow)
    assert estimates.of(here).basis == "measured" and estimates.of(there).basis == "scaled"
    assert estimates.of(there).seconds > 100 * first[there.key].seconds
    assert estimates.of(one("dlinear")).basis == "operations", "a model is judged by its own runs"


def test_records_of_other_devices_are_ignored() -> None:
    alone = Estimates("this CPU", []).of(one("patchtst"))
    assert Estimates("this CPU", [record(one("patchtst"), 1e6, device="A GPU")]).of(one("patchtst")) == alone
    on_gpu = Estimates("A GPU", [record(one("patchtst"), 7, device="A GPU", sharing=1)])
    assert on_gpu.of(one("patchtst")).seconds == 7
    assert (
        on_gpu.of(one("logo_llm", "Traffic")).seconds < Estimates("this CPU", []).of(one("logo_llm", "Traffic")).seconds
    )


def test_runs_that_share_a_gpu_take_turns_on_it() -> None:
    def guess(in_record: int | None, now: int | None, seconds: float = 80) -> estimate.Estimate:
        done = record(one("patchtst"), seconds, device="A GPU", sharing=in_record)
        return Estimates("A GPU", [done], sharing=now).of(one("patchtst", seed=1))

    assert [guess(8, now).seconds for now in (None, 1, 4)] == [10, 10, 40]
    assert guess(1, None).seconds == 80
    unknown = guess(None, None)
    assert unknown.basis == "scaled" and unknown == guess(None, None, seconds=8), "how long it took tells nothing"
    assert guess(None, 4).seconds == 4 * unknown.seconds


@pytest.mark.parametrize(
    ("model", "dataset", "ms"),
    [
        ("logo_llm", "ETTh1", 2.85),
        ("calf_lite", "ETTm1", 6.0),
        ("time_llm_lite", "ETTh1", 2.73),
        ("patchtst", "ETTm1", 2.64),
    ],
)
def test_a_step_on_a_gpu_is_within_a_factor_of_what_was_measured(model: str, dataset: str, ms: float) -> None:
    """The H200's of docs/speed.md; CALF-lite's among ten other runs, a share of the time that a step took there."""
    (spec,) = paper(models=(model,), datasets=(dataset,), horizons=(96,), seeds=(2021,), backbone="smollm2-135m")

    def seconds(steps: int) -> float:
        train = spec.train.model_copy(update={"max_steps": steps})
        return estimate._seconds(spec.model_copy(update={"train": train}), estimate.GPU, 1, 1.0)

    guess = 1e3 * (seconds(20) - seconds(10)) / 10
    assert 1 / 1.6 < guess / ms < 1.6


def test_cells_are_told_from_other_cells_of_the_model() -> None:
    """Leave one out, on a machine whose every constant is another than the prior's, with noise as on a shared one."""
    draw = random.Random(0)
    other = Machine(5e10, 1e8, 0.5, 5e-3, 900, 1024, 512, 4096)
    truth = []
    for spec in paper(models=TRAINED, datasets=("ETTh1", "ILI", "Weather"), seeds=(1,)):
        epochs = min(spec.train.epochs, 4 + spec.train.patience + draw.randrange(3))
        seconds = estimate._seconds(spec, other, epochs, 1.0) * draw.lognormvariate(0, 0.3)
        truth.append(record(spec, seconds, 1.5 * estimate._peak_mb(spec, other), epochs))
    wrong, wrong_mb = [], []
    for left_out in truth:
        guess = Estimates("this CPU", [each for each in truth if each is not left_out]).of(left_out.spec)
        assert guess.basis == "scaled"
        wrong.append(abs(math.log(guess.seconds / left_out.cost.total_s)))
        wrong_mb.append(abs(math.log(guess.peak_mb / left_out.cost.peak_mb)))
    assert len(truth) == 6 * 3 * 4
    assert median(wrong) < math.log(1.5) and sorted(wrong)[int(0.9 * len(wrong))] < math.log(3)
    assert max(wrong_mb) < math.log(1.5)


def test_early_stopping_is_expected_where_records_saw_it() -> None:
    spec, unlike = one("calf_lite", horizon=96), one("calf_lite", horizon=192)
    assert spec.train.epochs == 100 and spec.train.patience == 10
    until_40 = Estimates("this CPU", [record(unlike, 10, epochs=43)])
    until_10 = Estimates("this CPU", [record(unlike, 10, epochs=13)])
    assert estimate._epochs(spec, until_40._near(spec)) == 50
    assert estimate._epochs(spec, until_10._near(spec)) == 20
    assert estimate._epochs(spec, []) == 40
    assert estimate._epochs(one("calf_lite", patience=100), []) == 100


def test_fewer_windows_and_fewer_steps_take_less_time() -> None:
    estimates = Estimates("this CPU", [])
    spec = one("itransformer")
    few = spec.model_copy(update={"task": spec.task.model_copy(update={"train_fraction": 0.1})})
    cut = one("itransformer", max_steps=10)
    assert estimates.of(few).seconds < estimates.of(spec).seconds / 3
    assert estimates.of(cut).seconds < estimates.of(spec).seconds / 10
    assert estimates.of(one("repeat_last")).seconds < 1, "a model without products still takes a while, but a short one"


def test_a_model_of_ones_own_is_guessed_then_learned() -> None:
    mine = one("dlinear").model_copy(update={"model": "mine:Mine", "options": {"depth": 3}, "code": "x"})
    wider = mine.model_copy(update={"task": one("dlinear", "Weather").task})
    estimates = Estimates("this CPU", [])
    assert estimates.of(mine).basis == "operations" and estimates.of(mine).seconds > 0
    before = estimates.of(wider).seconds
    heavy = record(mine, 40 * estimates.of(mine).seconds)
    estimates.learn(heavy)
    assert estimates.of(wider).basis == "scaled" and estimates.of(wider).seconds > 5 * before


def test_records_that_no_longer_fit_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    linear, patch = one("dlinear"), one("patchtst")
    gone = record(one("dlinear", "ETTh2"), 5)
    older = record(patch, 5)
    older = older.model_copy(update={"spec": patch.model_copy(update={"options": {"no_longer": 1}})})
    left = {name: card for name, card in cards().items() if name != "ETTh2"}
    monkeypatch.setattr(estimate, "cards", lambda: left)
    estimates = Estimates("this CPU", [gone, older])
    assert estimates.of(linear).basis == "operations" == estimates.of(patch).basis


def test_two_thousand_runs_are_counted_cell_by_cell_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = {"_seconds": 0, "size_of": 0}

    def counted(name: str) -> Callable:
        original = getattr(estimate, name)

        def count(*arguments: object) -> object:
            calls[name] += 1
            return original(*arguments)

        return count

    specs = paper(models=(*TRAINED, "repeat_last"), seeds=tuple(range(8)))
    assert len(specs) >= 2000
    cells = {estimate._cell(spec) for spec in specs}
    estimates = Estimates("this CPU", [])
    estimate._cached_size.cache_clear()
    for name in calls:
        monkeypatch.setattr(estimate, name, counted(name))
    assert all(estimates.of(spec).seconds > 0 for spec in specs)
    assert calls["_seconds"] == len(cells) and calls["size_of"] <= len(cells)
    estimates.learn(record(specs[0], 3))
    again = calls["_seconds"]
    for spec in specs:
        estimates.of(spec)
    of_that_model = {estimate._cell(spec) for spec in specs if spec.model == specs[0].model}
    assert calls["_seconds"] - again == len(of_that_model)


def test_the_speed_of_a_core_is_measured_in_a_moment() -> None:
    assert 1e8 < estimate.core_speed() < 1e13


def test_planning_loads_no_torch() -> None:
    code = "import sys, bench.plan.estimate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_records_are_found_newest_and_of_every_cell_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    for age, spec in enumerate([one("dlinear", seed=seed) for seed in (1, 2, 3)] + [one("dlinear", "ETTh2", seed=9)]):
        os.utime(store.put(record(spec, 5)), (1e9 - age, 1e9 - age))
    store.put(record(one("patchtst"), 5))
    damaged = store.put(record(one("dlinear", horizon=192), 5))
    damaged.write_text(damaged.read_text()[:100])
    assert sorted(each.spec.seed for each in records_of(tmp_path, ["dlinear"])) == [1, 2, 3, 9]
    assert {each.spec.model for each in records_of(tmp_path, ["patchtst", "dlinear", "logo_llm"])} == {
        "patchtst",
        "dlinear",
    }
    damaged.unlink()
    monkeypatch.setattr(estimate, "RECORDS_PER_MODEL", 2)
    assert sorted(each.spec.seed for each in records_of(tmp_path, ["dlinear"])) == [1, 9]
    assert records_of(tmp_path / "nowhere", ["dlinear"]) == []


def test_this_device_is_what_a_record_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert this_device("cpu") == machine.device_name(torch.device("cpu"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.13.0")
    answer = subprocess.CompletedProcess([], 0, stdout="NVIDIA A\nNVIDIA B\n")
    monkeypatch.setattr(subprocess, "run", lambda *words, **options: answer)
    assert [this_device(name) for name in ("auto", "cuda", "cuda:1")] == ["NVIDIA A", "NVIDIA A", "NVIDIA B"]
    assert this_device("cpu") == this_device("cuda:7") == cpu_name()
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.13.0+cpu")
    assert this_device() == cpu_name(), "this build of torch sees no GPU"


def test_without_nvidia_smi_the_device_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*words: object, **options: object) -> None:
        raise FileNotFoundError("nvidia-smi")

    monkeypatch.setattr(subprocess, "run", absent)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.13.0")
    assert this_device() == this_device("cuda") == cpu_name()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("9m", 540), ("2h", 7200), ("1d", 86400), ("1h30m", 5400), ("45", 45), ("1.5h", 5400), ("0.5", 0.5)],
)
def test_lengths_of_time_are_read(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "9 m", "9x", "-3m", "30m1h", "0", "0s", "nan", "inf", "1e3", "h9"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no length of time"):
        duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "< 1 s"), (45, "45 s"), (540, "9 min"), (11520, "3.2 h"), (181440, "2.1 d"), (89.4, "89 s"), (90, "2 min")],
)
def test_lengths_of_time_are_printed_short(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_every_registered_model_that_multiplies_is_counted() -> None:
    naive = {name for name, entry in MODELS.items() if not dataclasses.fields(entry.options)}
    assert set(COUNTS) == set(MODELS) - naive
