"""Suites with shares, transfers, variants and probes, from the command line: planned, run, reported."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.core.card import DatasetCard
from bench.core.store import Store
from bench.plan.suite import Filters, PlannedRun, entries, load_suite
from bench.report import write as reporter
from bench.report.render import SUFFIX
from bench.train.execute import run_one
from tests.builders import in_process, record, waves

FEW_STEPS = """
horizons = [24]
seeds = [1]
backbone = "smollm2-135m"

[override.all]
train = { max_steps = 5 }
"""


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test stands in its own directory, which holds no data, and writes its reports there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(reporter, "REPORTS", tmp_path / "reports")


def bench(*words: object) -> int:
    """Run a program of the bench in this process, its records in ./results; return its exit code."""
    Path("results").mkdir(exist_ok=True)
    return in_process(*words, "--results", "results")


def filled(suite: str, filters: Filters, wanted: Callable[[PlannedRun], bool] = lambda entry: True) -> list[str]:
    """Write records of a suite's runs to ./results; return the words that narrow the suite to them."""
    for entry in entries(load_suite(suite), filters):
        if wanted(entry):
            Store(Path("results")).put(record(*entry))
    return filters.words.split()


def row(table: str, label: str) -> list[float]:
    """The numbers behind a label in a table as text."""
    (line,) = (line for line in table.splitlines() if line.startswith(f"{label} "))
    return [float(number) for number in re.findall(r"\d+\.\d+", line)]


FEW = Filters(models=("patchtst", "repeat_last"), datasets=("EPF",), horizons=(24,), seeds=(2021,))


def test_a_table_of_an_experiment_is_that_of_the_suite_of_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    words = filled("few_shot", FEW)
    assert bench("report", "--table", "few_shot", *words) == 0
    said, where = capsys.readouterr()
    assert where.startswith("suite few_shot, ")
    titles = [line for line in said.splitlines() if line.startswith("Errors after training")]
    assert [title.split(" of ")[0] for title in titles] == [
        "Errors after training on the first 10 %",
        "Errors after training on the first 5 %",
    ]
    assert said.count("\nEPF ") == 2


@pytest.mark.parametrize(
    ("suite", "table", "has"),
    [
        ("paper", "few_shot", "main, full, seeds, ranks, regimes, published"),
        ("few_shot", "main", "few_shot, published"),
        ("ablation", "layers", "ablation"),
    ],
)
def test_a_table_that_a_suite_does_not_have_is_refused_in_one_line(
    suite: str, table: str, has: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("report", "--suite", suite, "--table", table) == 2
    said, line = capsys.readouterr()
    assert said == ""
    assert line == f"python -m bench.report: table {table}: not a table of suite {suite}. Do: choose one of {has}\n"


def test_without_a_table_named_every_one_of_the_suite_is_written_in_every_form_and_the_first_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("both.toml").write_text("base = 'few_shot'\nabout = 'Both.'\ntables = ['efficiency', 'few_shot']")
    words = filled("both.toml", FEW)
    assert bench("report", "--suite", "both.toml", *words) == 0
    said = capsys.readouterr().out
    folder = tmp_path / "reports" / "both-part"
    pages = [folder / "index.html", folder / "report.md", tmp_path / "reports" / "index.html"]
    assert said.endswith("".join(f"wrote {page}\n" for page in pages))
    assert said.count("Size, time and memory of each model") == 1
    assert "Errors after training" not in said
    written = {path.name for path in (folder / "tables").iterdir()}
    names = ("efficiency", "few_shot_10", "few_shot_5")
    assert written == {f"{name}.{suffix}" for name in names for suffix in SUFFIX.values()}
    page = (folder / "report.md").read_text()
    for name in names:
        assert (folder / "tables" / f"{name}.md").read_text().strip() in page
    assert (folder / "tables" / "efficiency.txt").read_text() in said


ONE = Filters(models=("logo_llm",), datasets=("ETTh1",), horizons=(96,), seeds=(2021,))


def test_a_run_of_the_paper_is_the_reference_of_the_ablations_and_is_not_run_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = filled("paper", ONE)
    assert bench("plan", "--suite", "ablation", "--long", *words) == 0
    said = capsys.readouterr().out
    assert "8 runs: 1 done, 0 failed, 7 missing" in said
    (line,) = (line for line in said.splitlines() if "2021 done" in line)
    assert line.split("  ")[:2] == ["ETTh1 h96", "logo_llm (full)"]
    assert bench("show", "--suite", "ablation", "--long", *words) == 1
    assert "logo_llm (taps exchanged) ETTh1 h96 s2021" in capsys.readouterr().out


def test_a_missing_variant_makes_the_table_incomplete_unless_that_is_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = filled("ablation", ONE, lambda entry: entry.variant != "last layer only")
    assert bench("report", "--table", "ablation", *words) == 1
    said, complaint = capsys.readouterr()
    assert "\nNobody has run: Logo-LLM, last layer only." in said
    assert not any(line.startswith("Logo-LLM, last layer only") for line in said.splitlines())
    assert "1 of 8 planned runs are missing. Do: python -m bench run --suite ablation " in complaint
    assert bench("report", "--table", "ablation", *words, "--partial") == 0
    filled("ablation", ONE)
    assert bench("report", "--table", "ablation", *words) == 0


def test_what_the_probes_found_is_shown_with_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    words = filled("taps", ONE)
    assert bench("show", "--suite", "taps", "--long", *words) == 0
    found = capsys.readouterr().out.split("logo_llm (")
    for name, probed in (("pretrained", 14), ("random", 14), ("local tap 7", 0)):
        (run,) = (part for part in found if part.startswith(f"{name})"))
        assert run.count(" untrained: local R2 ") == run.count(" trained: local R2 ") == probed


def test_a_users_few_shot_suite_is_trained_on_its_shares_and_reported(capsys: pytest.CaptureFixture[str]) -> None:
    models = "models = ['dlinear', 'repeat_last']\ndatasets = ['EPF']"
    Path("mine.toml").write_text(f"base = 'few_shot'\nabout = 'Five steps.'\n{models}{FEW_STEPS}")
    assert bench("run", "--suite", "mine.toml", "--device", "cpu") == 0
    ran = capsys.readouterr().out
    assert "4 runs done, 0 failed, 0 done before" in ran
    assert "dlinear EPF 10% h24 s1" in ran
    records = [json.loads(path.read_text()) for path in Path("results").rglob("*.json")]
    errors = {
        (record["spec"]["model"], record["spec"]["task"]["train_fraction"]): record["evaluations"][0]
        for record in records
    }
    assert errors["dlinear", 0.1]["mse"] != errors["dlinear", 0.05]["mse"]
    assert errors["repeat_last", 0.1] == errors["repeat_last", 0.05]
    assert bench("report", "--suite", "mine.toml", "--table", "few_shot") == 0
    for fraction, table in zip((0.1, 0.05), capsys.readouterr().out.split("Errors after training")[1:], strict=True):
        assert "Five steps." in table
        shown = [errors[model, fraction][metric] for model in ("dlinear", "repeat_last") for metric in ("mse", "mae")]
        assert row(table, "EPF") == pytest.approx(shown, abs=5e-4)


def test_a_transferred_model_is_reported_by_its_errors_on_the_data_set_it_never_saw(
    make_card: Callable[..., DatasetCard], capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = waves(300, 2), np.cumsum(waves(300, 2, seed=1), axis=0)
    make_card(source, "Waves")
    make_card(target, "Drift")
    text = "base = 'zero_shot'\nabout = 'Generated.'\nmodels = ['repeat_last']\ndatasets = ['Waves']\nseeds = [1]"
    Path("mine.toml").write_text(f"{text}\n[transfer]\nWaves = ['Drift']")
    for entry in entries(load_suite("mine.toml"), Filters()):
        Store(Path("results")).put(run_one(entry.spec, torch.device("cpu")))
    assert bench("report", "--suite", "mine.toml", "--table", "zero_shot") == 0
    table = capsys.readouterr().out
    assert row(table, "Waves → Drift")[0] == pytest.approx(naive_error(target), abs=5e-4)
    assert not math.isclose(naive_error(source), naive_error(target), rel_tol=0.1)


def naive_error(values: np.ndarray) -> float:
    """MSE of the last value as forecast of the next eight, on the last fifth, scaled by the first three."""
    rows = len(values)
    first, train = rows - rows // 5, int(0.6 * rows)
    scaled = (values - values[:train].mean(axis=0)) / values[:train].std(axis=0)
    errors = [scaled[start : start + 8] - scaled[start - 1] for start in range(first, rows - 8 + 1)]
    return float(np.mean(np.square(errors)))


def test_several_tables_in_json_are_one_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--results", str(tmp_path), "--table", "few_shot", "--format", "json", "--partial"]
    assert bench("report", *words) == 0
    assert [table["table"] for table in json.loads(capsys.readouterr().out)] == ["few_shot_10", "few_shot_5"]


def test_a_model_without_a_run_in_some_row_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = tmp_path / "mine.toml"
    variants = "[[variant]]\ntitle = 'MSE'\n[[variant]]\ntitle = 'L1'\nmodels = ['dlinear']"
    suite.write_text(f"base = 'losses'\nabout = 'a'\nmodels = ['dlinear', 'patchtst']\n{variants}")
    assert bench("report", "--results", str(tmp_path), "--suite", str(suite), "--table", "losses") == 2
    assert "no run of patchtst in row ETTm1, L1" in capsys.readouterr().err
