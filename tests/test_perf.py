"""`bench perf`: what it measures, what it prints, what it says when it cannot."""

from __future__ import annotations

import json
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from bench.__main__ import main
from bench.analysis.results import Results
from bench.core.base import BenchError
from bench.core.spec import RunSpec
from bench.core.store import Store
from bench.perf import grids, timing
from bench.perf import measure as perf
from bench.perf.grids import FAILED, taken, write_grid
from bench.plan.suite import Filters, entries, load_suite
from bench.train.evaluate import SERIES_PER_BATCH
from tests.builders import in_process

NARROW = ["perf", "--datasets", "ETTh1", "--horizons", "96", "--rounds", "1", "--batch", "8", "--device", "cpu"]

FIGURES = ("step_s", "epoch_s")
COMMANDS = {"a run in a grid besides its model, ms", "--help, s"}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perf, "SECONDS", {"cpu": 0.05, "cuda": 0.05})
    monkeypatch.setattr(perf, "GRID_OF", 5)
    timed = perf.taken

    def in_this_process(words: list[str], *_: object) -> dict[str, float]:
        """Time a command in this process, but the shortest in its own, as all of them are otherwise."""
        if "--help" in words:
            return timed(words)
        began, (module, *others) = time.perf_counter(), words
        assert in_process(*["report"] * (module == "bench.report"), *others) in (0, 1)
        return {"seconds": time.perf_counter() - began, "peak_mb": 100.0}

    monkeypatch.setattr(perf, "taken", in_this_process)
    monkeypatch.setattr(grids, "taken", in_this_process)


def test_every_model_that_trains_is_measured_once_and_needs_no_downloads() -> None:
    specs = perf.perf_specs("efficiency", Filters(horizons=(96,)), 32)
    assert [spec.model for spec in specs] == [
        "logo_llm", "time_llm_lite", "calf_lite", "patchtst", "itransformer", "dlinear"
    ]  # fmt: skip
    assert {spec.train.batch for spec in specs} == {32}
    assert {spec.options.get("backbone") for spec in specs} == {"gpt2-random", None}
    own = {spec.model: spec.train.batch for spec in perf.perf_specs("efficiency", Filters(horizons=(96,)), None)}
    assert own["patchtst"] == 128 and own["itransformer"] == 32


def test_figures_are_medians_over_rounds_and_ratios_are_taken_within_a_round() -> None:
    (spec,) = perf.perf_specs("efficiency", Filters(models=("logo_llm",), horizons=(96,)), 10)
    ours = [
        {"step_s": 1.0, "epoch_s": 10.0, "outside_s": 0.01, "ceiling": 4e12, "blocks_s": 0.5},
        {
            "step_s": 3.0,
            "epoch_s": 30.0,
            "outside_s": 0.03,
            "ceiling": 2e12,
            "blocks_s": 1.0,
        },  # the machine slowed down
        {"step_s": 2.0, "epoch_s": 20.0, "outside_s": 0.04, "ceiling": 3e12, "blocks_s": 1.0},
    ]
    times = {"0 workers": (5, 40), "workers": (6, 50), "bf16": (8, 30)}, {"0 workers": (12, 90), "bf16": (15, 60)}
    slow = [
        {f"{name} {figure}": each for name, both in loops.items() for figure, each in zip(FIGURES, both, strict=True)}
        for loops in (*times, {"0 workers": (12, 200), "bf16": (20, 100)})
    ]
    end = {"step_flops": 2e12, "blocks_flops": 1e12, "micro_batch": 5, "infer_s": 0.02, "peak_mb": 7.0, "start_s": 3.0}
    row = perf._timing(spec, {"ours": ours, "plain": slow}, {"ours": end, "plain": {"peak_mb": 9.0}})
    assert row["ms_step"] == 2000 and row["windows_per_s"] == 5 and row["0 workers step_s"] == 12
    assert row["epoch_s"] == 20 and row["bf16 epoch_s"] == 60 and row["workers epoch_s"] == 50
    assert row["speedups"] == (3, 2, 5) and row["speedup"] == 3, "the best plain loop of each round"
    assert row["step_speedup"] == 5, "5/1, 12/3, 12/2"
    assert row["tflops"] == 1 and row["ceiling_tflops"] == 3
    assert row["ceiling_share"] == pytest.approx(1 / 3), "0.5, 1/3, 1/3"
    assert row["backbone_share"] == pytest.approx(0.5), "0.5, 0.5, 1/3"
    assert row["outside_share"] == pytest.approx(0.01)
    assert (row["batch"], row["micro_batch"], row["infer_ms"], row["start_s"]) == (10, 5, 20, 3)
    assert (row["peak_mb"], row["plain_peak_mb"]) == (7, 9)
    assert row["one_by_one_ms"] is None, "no graph was used"


def test_the_gain_of_graphs_is_shown_where_they_are_used() -> None:
    (spec,) = perf.perf_specs("efficiency", Filters(models=("dlinear",), horizons=(96,)), 10)
    reading = {"step_s": 0.004, "epoch_s": 1.0, "outside_s": 0.0, "ceiling": 1e14}
    end = {"step_flops": 1e9, "micro_batch": 10, "infer_s": 0.001, "start_s": 2.0}

    def text(**more: float) -> str:
        row = perf._timing(spec, {"ours": [reading]}, {"ours": {**end, **more}})
        where = {"device": "A GPU", "threads": 1, "versions": {"torch": "2"}, "git": "abc", "dirty": False}
        return perf.perf_text({"where": where, "rounds": 1, "rows": [row], "commands": {}})

    assert "no graph" not in text()
    shown = text(one_by_one_s=0.0228)
    assert shown.splitlines()[2].split()[5:7] == ["4.0", "22.8"]
    assert "no graph: ms/step of ours with its kernels launched one by one." in shown


def test_several_models_start_together_and_are_timed_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, where a compiler takes a minute for each model."""
    asked: list[str] = []

    @contextmanager
    def process_of(loop: str, spec: RunSpec, *_: object) -> Iterator[Callable[[str], timing.Measurement]]:
        def answer(part: str) -> timing.Measurement:
            asked.append(f"{spec.model} {loop} {part}")
            return {"step_s": 1.0, "epoch_s": 1.0, "outside_s": 0.0, "ceiling": 1.0, "0 workers epoch_s": 2.0} | (
                {"step_flops": 1.0, "micro_batch": 1, "infer_s": 1.0, "start_s": 1.0} if part == "end" else {}
            )

        yield answer

    monkeypatch.setattr(perf, "process_of", process_of)
    specs = perf.perf_specs("efficiency", Filters(models=("dlinear", "patchtst"), horizons=(96,)), 10)
    rows = list(perf.measure(specs, "cuda", 1, True, rounds=2, seconds=0.1))
    assert [row["model"] for row in rows] == ["dlinear", "patchtst"]
    timed = ["ours round", "plain round"] * 2 + ["ours end", "plain end"]
    starts = [f"{model} {loop} start" for loop in ("ours", "plain") for model in ("dlinear", "patchtst")]
    assert asked == starts + [f"{model} {each}" for model in ("dlinear", "patchtst") for each in timed]


def test_the_command_prints_a_table_and_writes_json(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    assert main([*NARROW, "--models", "dlinear", "--json", str(tmp_path / "perf.json")]) == 0
    text = capsys.readouterr().out
    measured = json.loads((tmp_path / "perf.json").read_text())
    (row,) = measured["rows"]
    assert row["model"] == "dlinear" and row["speedup"] > 0 and 0 < row["ceiling_share"] < 1
    operations = 2 * 2 * (2 * 8 * 7 * 96 * 96)  # two layers, forward and the gradients of their weights
    assert row["tflops"] * 1e12 * row["ms_step"] / 1e3 == pytest.approx(operations)
    assert measured["where"]["threads"] and set(measured["commands"]) == COMMANDS
    assert all(row[f"{name} {figure}"] > 0 for name in ("0 workers", "workers") for figure in FIGURES)
    assert row["epoch_s"] > row["ms_step"] / 1000 * 1060, "8,449 windows in 1,057 batches, and the validation"
    assert "bf16 epoch_s" not in row, "the model trains in float32"
    assert all(word in text for word in ("dlinear", "speed-up", "ceiling", "outside", "a run in a grid"))


def test_a_command_is_measured_in_a_process_of_its_own() -> None:
    found = taken(["bench", "--help"])
    assert 0.01 < found["seconds"] < 60
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert 5 < found["peak_mb"] < own + 10, "help needs less than this process, from which it was forked"


def test_commands_over_invented_records_are_listed_with_what_they_take(
    capsys: pytest.CaptureFixture, tmp_path: Path, one_figure: None
) -> None:
    assert main(["perf", "--records", "100", "--json", str(tmp_path / "perf.json")]) == 0
    measured, text = json.loads((tmp_path / "perf.json").read_text()), capsys.readouterr().out
    assert (measured["runs"], measured["records"]) == (288, 100), "a seed of every cell of the suite `paper`"
    assert list(measured["commands"]) == ["plan, the first time", "plan", "report --table main", "report"]
    assert all(each["seconds"] > 0 for each in measured["commands"].values())
    assert all(name in text for name in measured["commands"])
    assert 0.1 < measured["page_mb"] < 2


@pytest.mark.parametrize("words", [["--device", "cpu"], ["--models", "dlinear"], ["--rounds", "2"], ["--no-plain"]])
def test_what_is_not_read_beside_records_is_refused(words: list[str], capsys: pytest.CaptureFixture) -> None:
    assert main(["perf", "--records", "100", *words]) == 2
    assert "--records: trains nothing and takes no option but --json. Do:" in capsys.readouterr().err


def test_a_command_that_fails_is_no_measurement() -> None:
    with pytest.raises(BenchError, match=r"perf: python -m no_such_module failed: .*No module named no_such_module"):
        taken(["no_such_module"])


def test_an_invented_grid_is_one_that_reports_read(tmp_path: Path) -> None:
    suite = load_suite(str(write_grid(tmp_path, 700, 140)))
    found = Results.read(entries(suite, Filters(backbone="gpt2")), Store(tmp_path / "results"))
    states = Counter(found.state(entry, result).status for entry, result in found.runs)
    assert not found.refused
    assert states["done"] + states["failed"] == 140 and states["failed"] in (140 // FAILED - 1, 140 // FAILED)
    assert found.frame[found.frame.status == "done"].groupby("model").mse.count().gt(0).all()
    with pytest.raises(BenchError, match=r"800 records of \d+ runs\. Do: ask for fewer"):
        write_grid(tmp_path, 700, 800)


def test_a_model_that_fails_is_named(capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n\nclass Mine(nn.Module):\n    def __init__(self, shape, options):\n"
        "        raise ValueError('no such thing')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert main([*NARROW, "--models", "mine:Mine", "--no-plain"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert "mine:Mine on ETTh1, the ours loop failed: ValueError: no such thing. Do: mend the model" in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--batch", "0"], "--batch"),
        (["--rounds", "-1"], "--rounds"),
        (["--models", "repeat_last"], "train nothing"),
        (["--json", "no/such/folder/perf.json"], "no/such/folder/perf.json"),
        (["--device", "cuda:99"], "cuda:99"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(words: list[str], said: str, capsys) -> None:
    try:
        code = main([*NARROW, *words])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line


def test_a_data_set_with_fewer_windows_than_two_batches_of_evaluation_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """ILI has 617 windows; a GPU evaluates 585 at once."""
    (spec,) = perf.perf_specs("paper", Filters(models=("dlinear",), datasets=("ILI",), horizons=(24,)), 8)
    monkeypatch.setitem(SERIES_PER_BATCH, "cpu", 4096)
    measured = timing._Ours(spec, torch.device("cpu"), 0.05).end()
    assert measured["infer_s"] > 0


def test_a_loop_that_does_not_answer_is_given_up_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    (spec,) = perf.perf_specs("efficiency", Filters(models=("dlinear",), horizons=(96,)), 8)
    monkeypatch.setattr(timing, "LIMIT", 0.01)  # it takes seconds to start
    with (
        pytest.raises(BenchError, match=r"no answer in 0\.01 s\. Do: "),
        timing.process_of("ours", spec, "cpu", 1, 0.05) as ask,
    ):
        ask("start")
