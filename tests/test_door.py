"""The Python door: its frames hold what the command line prints, and only what reports would use."""

from __future__ import annotations

import inspect
import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import bench
from bench import api, cli
from bench.analysis.tables import Cell, Group, Table
from bench.core.base import ROOT
from bench.core.card import DatasetCard, cards
from bench.core.kept import read_forecasts
from bench.core.store import Store
from bench.plan.suite import Filters, PlannedRun, entries, load_suite
from bench.train.execute import run_one
from tests.builders import environment, failure, in_process, make_spec, python, record, waves

ILI = {"suite": "paper", "datasets": "ILI", "backbone": "smollm2-135m"}
WORDS = ("--suite", "paper", "--datasets", "ILI", "--backbone", "smollm2-135m")


@pytest.fixture
def few(tmp_path: Path) -> tuple[Path, list[PlannedRun]]:
    """Put six records of ILI into a directory: four done, one failed, one damaged; a seventh is missing."""
    filters = Filters(models=("dlinear", "repeat_last"), datasets=("ILI",), horizons=(24, 36), seeds=(2021, 2022))
    planned = entries(load_suite("paper"), filters)[:7]
    store = Store(tmp_path / "results")
    for entry in planned[:6]:
        store.put(record(entry.spec))
    store.put(record(planned[4].spec).model_copy(update=failure("=RuntimeError: \x1b[1m out of memory")))
    (store.root / planned[5].spec.path).write_text("{")
    return store.root, planned


def printed(capsys: pytest.CaptureFixture[str], *words: object) -> object:
    """What a command prints as JSON."""
    in_process(*words, "--format", "json")
    return json.loads(capsys.readouterr().out)


def test_records_of_a_suite_are_those_that_show_prints(capsys: pytest.CaptureFixture[str]) -> None:
    frame = bench.load_records(**ILI)
    shown = [each for each in printed(capsys, "show", *WORDS) if each["record"]]
    assert len(frame) == len(shown) > 50
    for row, each in zip(frame.to_dict("records"), shown, strict=True):
        made = each["record"]
        (errors,) = made["evaluations"]
        assert {name: row[name] for name in ("mse", "mae", "windows")} == {
            name: errors[name] for name in ("mse", "mae", "windows")
        }
        assert (row["dataset"], row["tested_on"], row["context"], row["horizon"]) == (
            "ILI",
            errors["dataset"],
            made["spec"]["task"]["context"],
            made["spec"]["task"]["horizon"],
        )
        assert {name: row[name] for name in made["cost"] if made["cost"][name] is not None} == {
            name: value for name, value in made["cost"].items() if value is not None
        }
        assert row["date"] == pd.Timestamp(made["where"]["date"])
        assert (row["device"], row["git"]) == (made["where"]["device"], made["where"]["git"])
        assert json.loads(row["options"]) == made["spec"]["options"]
        assert json.loads(row["train"]) == made["spec"]["train"]
        assert row["key"][:8] in row["path"] and str(cli.RESULTS / row["path"]) == each["path"]


def test_without_a_suite_every_committed_record_is_a_row_for_each_test() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        every = bench.load_records(ROOT / "results")
    files = [*(ROOT / "results").glob("*/h*/*/*.json")]
    assert {*every.path} == {path.relative_to(ROOT / "results").as_posix() for path in files}
    tests = [len(json.loads(path.read_text())["spec"]["task"]["test_on"]) + 1 for path in files]
    assert len(every) == sum(tests) and not every.duplicated(["key", "tested_on"]).any()
    # Filters narrow the frame; names may be in any case.
    parts = bench.load_records(datasets=["etth1", "Exchange"])
    pd.testing.assert_frame_equal(parts, every[every.dataset.isin(["ETTh1", "Exchange"])].reset_index(drop=True))
    some = bench.load_records(datasets=["ili"], models=("DLinear", "patchtst"), horizons=np.array([24, 36]))
    wanted = every.dataset.eq("ILI") & every.model.isin(["dlinear", "patchtst"]) & every.horizon.isin([24, 36])
    pd.testing.assert_frame_equal(some, every[wanted].reset_index(drop=True))
    readers = bench.load_records(datasets="ILI", backbone="gpt2")
    assert readers.backbone.isna().all() and {"dlinear", "patchtst"} <= {*readers.model}, "none of these read GPT-2"


def test_what_cannot_be_used_has_no_row_and_is_named_in_a_warning(few: tuple[Path, list[PlannedRun]]) -> None:
    root, planned = few
    astray = root / planned[0].spec.path.with_name("s9-00000000.json")
    shutil.copy(root / planned[0].spec.path, astray)
    for suite, count in ((None, 2), ("paper", 1)):
        with pytest.warns(UserWarning, match=f"{count} recorded runs? cannot be used; the first: .*json") as caught:
            frame = bench.load_records(root, suite)
        assert Path(caught[0].filename) == Path(__file__), "the warning points at the caller"
        assert {*frame.key} == {entry.spec.key for entry in planned[:5]}
        failed = frame[frame.status == "failed"]
        assert failed.key.tolist() == [planned[4].spec.key] and "out of memory" in failed.why.item()
        assert failed[["mse", "mae", "windows", "params", "steps"]].isna().all(axis=None)
        assert frame.dtypes.windows == frame.dtypes.params == "Int64"


def test_a_record_of_another_card_or_without_one_is_not_used(
    few: tuple[Path, list[PlannedRun]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, planned = few
    (root / planned[5].spec.path).unlink()
    changed = cards()["ILI"].model_copy(update={"season": 26})
    monkeypatch.setitem(cards(), "ILI", changed)
    with pytest.warns(UserWarning, match="the card of ILI has changed"):
        assert bench.load_records(root).empty
    monkeypatch.delitem(cards(), "ILI")
    with pytest.warns(UserWarning, match=r"no card of ILI here. Do: bring datasets/ILI.toml"):
        assert bench.load_records(root).empty


def test_a_plan_counts_states_as_the_command_does(
    few: tuple[Path, list[PlannedRun]], capsys: pytest.CaptureFixture[str]
) -> None:
    root, planned = few
    chosen = {"datasets": "ILI", "models": ["dlinear", "repeat_last"], "horizons": [24, 36], "seeds": [2021, 2022]}
    frame = bench.plan("paper", results=root, **chosen).set_index("key")
    states = ["done"] * 4 + ["failed", "refused", "missing"]
    assert frame.status[[each.spec.key for each in planned]].tolist() == states
    assert "out of memory" in frame.why[planned[4].spec.key] and "JSON" in frame.why[planned[5].spec.key]
    (root / planned[5].spec.path).unlink()  # the command stops at it
    frame = bench.plan("paper", results=root, **chosen)
    words = ("--models", "dlinear", "repeat_last", "--horizons", 24, 36, "--seeds", 2021, 2022, "--results", root)
    rows = printed(capsys, "plan", *WORDS, *words)
    seeds = [seed.split() for row in rows for seed in row["seeds"].split(", ")]
    assert sorted(seeds) == sorted([str(seed), state] for seed, state in zip(frame.seed, frame.status, strict=True))


def test_a_transfer_has_a_row_for_each_data_set_tested_on(tmp_path: Path) -> None:
    store = Store(tmp_path)
    filters = Filters(models=("repeat_last",), datasets=("ETTh1",), horizons=(96,), seeds=(2021,))
    (entry,) = entries(load_suite("zero_shot"), filters)
    store.put(record(entry.spec))
    frame = bench.load_records(tmp_path)
    assert frame.tested_on.tolist() == [*entry.spec.task.datasets] and {*frame.dataset} == {"ETTh1"}
    assert frame.mse.tolist() == [each.mse for each in record(entry.spec).evaluations]


@pytest.mark.parametrize(
    ("name", "suite", "more"), [("main", "paper", ()), ("seeds", "paper", ()), ("main", "paper", ("--metric", "mae"))]
)
def test_a_table_holds_the_numbers_that_the_report_prints_as_json(
    name: str, suite: str, more: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = {"datasets": "ILI", "models": ["dlinear", "patchtst", "logo_llm"], "backbone": "smollm2-135m"}
    metric = {"metric": more[1]} if more else {}
    words = ("--models", "dlinear", "patchtst", "logo_llm", *more)
    shown = printed(capsys, "report", "--table", name, *WORDS, *words)
    frame = bench.table(name, suite, **metric, **chosen)
    rows = shown["rows"] | shown["summary"]
    assert frame.index.tolist() == [*rows]
    expected = pd.DataFrame([*rows.values()], dtype=float).to_numpy()
    np.testing.assert_array_equal(frame.to_numpy(), expected)
    assert frame.attrs["notes"] == shown["notes"] and frame.attrs["caption"] == shown["caption"]
    assert frame["DLinear"].columns.str.lower().str.replace(" ", "_").tolist() == [
        column for key, column in shown["columns"] if key == "dlinear"
    ]
    for form in ("text", "latex", "json"):
        in_process("report", "--table", name, *WORDS, *words, "--format", form)
        assert bench.table(name, suite, format=form, **metric, **chosen) == capsys.readouterr().out


def test_several_tables_stand_below_each_other_and_verdicts_are_a_frame(capsys: pytest.CaptureFixture[str]) -> None:
    frame = bench.table("layers", backbone="smollm2-135m")
    assert frame.index.names == ["table", "row"]
    assert frame.index.unique("table").tolist() == ["layers_read", "layers_follow"]
    chosen = {"models": ["logo_llm", "dlinear"], "datasets": "ILI", "backbone": "smollm2-135m"}
    shown = printed(capsys, "report", "--table", "claims", *WORDS, "--models", "logo_llm", "dlinear")
    claims = [claim for block in (shown if isinstance(shown, list) else [shown]) for claim in block["claims"]]
    verdicts = bench.table("claims", "paper", **chosen)
    assert verdicts.id.tolist() == [claim["id"] for claim in claims] and len(claims) > 5
    assert verdicts.verdict.tolist() == [claim["verdict"] for claim in claims]


def test_forecasts_are_long_and_give_the_records_errors(make_card: Callable[..., DatasetCard], tmp_path: Path) -> None:
    card, store = make_card(50 + 10 * waves(200, 3)), Store(tmp_path / "results")
    store.open()
    spec = make_spec(card)
    result = run_one(spec, torch.device("cpu"), keep={"forecasts": store.to_keep(spec, "forecasts")})
    store.put(result)
    frame = bench.forecasts(spec.key[:8], results=store.root)
    own = read_forecasts(store, result)[card.name]
    assert len(frame) == own.forecast.size
    assert ((frame.forecast - frame.truth).astype(float) ** 2).mean() == pytest.approx(result.evaluations[0].mse)
    # Rows are those of the data set, each channel its own, in the units of the file.
    data = pd.read_csv(tmp_path / "data" / "Waves.csv")
    some = bench.forecasts(spec.key[:8], results=store.root, original=True, windows=[0, 5])
    assert some.window.unique().tolist() == [0, 5] and some.step.unique().tolist() == [*range(1, 9)]
    for row in some.sample(40, random_state=1).itertuples():
        assert row.truth == pytest.approx(data[row.channel][row.row], rel=1e-5)
        assert row.ds == pd.Timestamp(data.date[row.row])
        assert row.row == card.bounds()["test"][0] + row.window + row.step - 1
    with pytest.raises(bench.BenchError, match="Waves has 0 to"):
        bench.forecasts(spec.key[:8], results=store.root, windows=10_000)
    assert bench.load_records(store.root).kept.tolist() == ["forecasts"]
    # Errors of parts are those of the frame, and overall those of the record.
    (whole,) = bench.errors(spec.key[:8], results=store.root).itertuples()
    assert whole.mae == pytest.approx(result.evaluations[0].mae)
    absolute = (frame.forecast - frame.truth).astype(float).abs()
    for part in ("channel", "step"):
        found = bench.errors(spec.key[:8], by=part, results=store.root).set_index(part)
        assert found.mae.to_dict() == pytest.approx(absolute.groupby(frame[part], observed=True).mean().to_dict())


def test_a_suite_that_is_done_starts_no_worker_and_returns_its_records(
    few: tuple[Path, list[PlannedRun]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = few
    monkeypatch.setattr("bench.grid.local.Workers", lambda *_: pytest.fail("a worker is started"))
    chosen = {"datasets": "ILI", "models": "dlinear", "horizons": 24, "seeds": 2021}
    frame = bench.run("paper", results=root, progress=False, **chosen)
    pd.testing.assert_frame_equal(frame, bench.load_records(root, "paper", **chosen))
    assert len(frame) == 1


def test_what_the_user_can_mend_is_one_line(few: tuple[Path, list[PlannedRun]], tmp_path: Path) -> None:
    root, _ = few
    for call, words in (
        (lambda: bench.load_records(tmp_path / "absent"), "there is no such directory. Do: "),
        (lambda: bench.load_records(root, models="nobody"), "no model 'nobody'"),
        (lambda: bench.load_records(root, model="dlinear"), "no key 'model'; nearest: models"),
        (lambda: bench.load_records(root, "no_suite"), "no suite 'no_suite'"),
        (lambda: bench.plan("quick", horizons=[1]), "no horizon 1"),
        (lambda: bench.table("few_shot", "paper"), "not a table of suite paper"),
        (lambda: bench.table("claims", "quick"), "suite quick: no claim stands on it"),
        (lambda: bench.table("main", "quick", format="html"), "format 'html'"),
        (lambda: bench.table("main", "quick", metric="x"), "metric 'x': not one. Do: choose of None, mse, "),
        (lambda: bench.table("main", "quick", results=3), "results 3: no path"),
        (lambda: bench.plan("quick", models=[]), "models: none named. Do: leave it out for all"),
        (lambda: bench.plan("quick", horizons=96.5), "horizons"),
        (lambda: bench.run("quick", keep="nothing", results=root), "keep 'nothing': not one. Do: choose of forecasts"),
        (lambda: bench.run("quick", rerun="some", results=root), "rerun 'some': not one"),
        (lambda: bench.run("quick", jobs=0, results=root), "jobs 0: no whole number above 0"),
        (lambda: bench.run("quick", threads=-1, results=root), "threads -1: no whole number above 0"),
        (lambda: bench.run("quick", jobs=1.5, results=root), "jobs 1.5: no whole number above 0"),
        (lambda: bench.run("quick", time_budget="9m", results=root), "time_budget '9m': no number above 0"),
        (lambda: bench.forecasts("00aa00", results=root), "no runs in"),
        (lambda: bench.forecasts(3, results=root), "Do: "),
        (lambda: bench.errors("00aa00", by="window", results=root), "by 'window': not one"),
    ):
        with pytest.raises(bench.BenchError, match=r"^[^\n]*$") as caught:
            call()
        assert words in str(caught.value)


def test_the_package_of_plans_is_the_function_too() -> None:
    """`bench.plan` is a package as well; which of the two is imported first does not matter."""
    code = "import bench; {}; print(len(bench.plan('quick', models='dlinear')), bench.plan.suite.__name__)"
    for first in ("pass", "import bench.plan.suite"):
        ended = subprocess.run(
            [sys.executable, "-c", code.format(first)], env=environment(), capture_output=True, text=True, check=True
        )
        assert ended.stdout == "4 bench.plan.suite\n"
    assert {*bench.__all__} <= {*dir(bench)}
    assert all(inspect.getdoc(getattr(bench, name)) for name in bench.__all__)
    with pytest.raises(AttributeError):
        bench.nothing  # noqa: B018


TIMED = """
import sys, time
began = time.process_time()
import pandas
pandas_s = time.process_time() - began
import bench
rows = len(bench.load_records())
print(rows, pandas_s, time.process_time() - began, *{"torch", "transformers", "scipy", "matplotlib"} & {*sys.modules})
"""


def test_all_committed_records_are_read_in_a_few_times_what_pandas_takes_and_without_torch() -> None:
    """Times on a busy machine stretch alike: 1,077 records in 2.7 times of pandas' import, which takes 0.3 s alone."""
    ratios = []
    for _ in range(2):
        ended = subprocess.run(
            [sys.executable, "-c", TIMED], env=environment(), capture_output=True, text=True, check=True
        )
        rows, pandas_s, whole, *heavy = ended.stdout.split()
        assert int(rows) > 1000 and heavy == []
        ratios.append(float(whole) / float(pandas_s) * 1084 / int(rows))
        if ratios[-1] < 4:
            return
    pytest.fail(f"{ratios} times of what importing pandas takes")


def test_a_script_that_runs_without_a_guard_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from multiprocessing import process

    monkeypatch.setattr(process.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(bench.BenchError, match='if __name__ == "__main__":'):
        bench.run("quick", results=tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.nightly
def test_a_script_on_standard_input_starts_workers(tmp_path: Path) -> None:
    words = '"quick", models="repeat_last", datasets="EPF", horizons=24, seeds=1'
    script = f'import bench\nif __name__ == "__main__":\n    print(len(bench.run({words}, results="{tmp_path}")))\n'
    ended = subprocess.run(
        [sys.executable, "-"], input=script, env=environment(), cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ended.stdout.endswith("\n1\n"), ended.stdout


def test_a_file_that_hides_a_package_of_the_project_is_named(tmp_path: Path) -> None:
    (tmp_path / "models.py").touch()
    ended = python("-m", "bench", "list", cwd=tmp_path)
    assert ended.returncode and f"{tmp_path / 'models.py'} hides the package models" in ended.stderr.splitlines()[-1]


# Export


def test_a_csv_file_holds_the_frame(few: tuple[Path, list[PlannedRun]], capsys: pytest.CaptureFixture[str]) -> None:
    root, planned = few
    file = root.parent / "out.csv"
    assert in_process("export", file, "--results", root) == cli.INCOMPLETE
    out, err = capsys.readouterr()
    assert out == f"wrote {file}: 5 rows\n" and err.startswith("1 recorded runs cannot be used; the first: ")
    with pytest.warns(UserWarning):
        frame = bench.load_records(root)
    back = pd.read_csv(file)
    assert [*back] == [*frame]
    for name in frame.columns.drop(["date", "why", "variant", "kept"]):
        pd.testing.assert_series_equal(back[name].astype(frame.dtypes[name]), frame[name], check_exact=True)
    assert pd.to_datetime(back.date).eq(frame.date).all()
    assert back.why.dropna().tolist() == ["'=RuntimeError: \\u001b[1m out of memory"], "it can act nowhere"
    assert (
        in_process("export", file, "--results", root, "--suite", "paper", "--horizons", 24, "--models", "dlinear") == 0
    )
    assert len(pd.read_csv(file)) == len(
        [each for each in planned[:5] if each.what == "ILI h24" and each.spec.model == "dlinear"]
    )


def test_a_parquet_file_holds_the_frame_and_its_types(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    file = tmp_path / "out.parquet"
    assert in_process("export", file, "--datasets", "ILI") == cli.DONE
    pd.testing.assert_frame_equal(pd.read_parquet(file), bench.load_records(datasets="ILI"), check_dtype=False)


def test_a_file_that_cannot_be_written_is_one_line(
    few: tuple[Path, list[PlannedRun]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = few

    def absent(*_: object, **__: object) -> None:
        raise ImportError("pyarrow")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", absent)
    for file, words in (
        ("out.txt", "no kind of file"),
        ("out.parquet", "pip install pyarrow"),
        ("no/out.csv", "its folder does not exist"),
    ):
        assert in_process("export", root.parent / file, "--results", root) == cli.UNUSABLE
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line and " Do: " in line


# The console script


def test_the_console_script_speaks_of_itself(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/logo-bench"])
    for words in (["--help"], ["run", "--help"], ["report", "--help"]):
        with pytest.raises(SystemExit):
            in_process(*words)
    assert in_process("show", "--results", tmp_path / "absent") == cli.UNUSABLE
    assert in_process("report", "--suite", "quick", "--table", "main", "--results", tmp_path) == cli.INCOMPLETE
    out, err = capsys.readouterr()
    assert "python -m" not in out + err
    assert "logo-bench run --suite quick" in out and "usage: logo-bench report " in out
    assert "logo-bench: results directory" in err and "Do: logo-bench run --suite quick" in err


def test_several_tables_of_one_name_are_one_frame_whatever_their_columns() -> None:
    """`ranks` has columns under titles, the pairs of models below it have none."""
    frame = bench.table("ranks", "paper", models=["dlinear", "itransformer", "patchtst"], backbone="smollm2-135m")
    assert frame.columns.nlevels == 2
    two = Table("a", "A", "", [Group("x", "X", ("MSE",))], [("row", [Cell(1.0)])])
    one = Table("b", "B", "", [Group("", "", ("p",))], [("pair", [Cell(2.0)])])
    both = api._table_frame([two, one])
    assert both.loc[("a", "row"), ("X", "MSE")] == 1.0 and both.loc[("b", "pair"), ("", "p")] == 2.0


def test_a_record_outside_any_results_directory_is_refused_in_one_line(tmp_path: Path) -> None:
    for name in ("/x.json", str(tmp_path / "x.json")):
        with pytest.raises(bench.BenchError, match="Do: "):
            bench.forecasts(name)
