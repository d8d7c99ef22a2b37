"""What a run keeps beside its record: forecasts and weights, their errors, and forecasts made of them again."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from torch import nn

from bench.analysis.errors import errors_of
from bench.analysis.results import Results
from bench.analysis.tables import main_table
from bench.core.base import BenchError
from bench.core.card import DatasetCard, cards
from bench.core.jobs import Job
from bench.core.kept import Forecasts, find_run, read_forecasts, seasonal_errors
from bench.core.record import SUFFIX, Further, RunResult, Scaled
from bench.core.spec import RunSpec
from bench.core.store import Store
from bench.data.series import load_series
from bench.data.steps import Step
from bench.grid.driver import Orders, Tally, run_grid, selected
from bench.grid.engine import Engine
from bench.plan.suite import PlannedRun
from bench.report.figures import predicted
from bench.train.errors import FurtherErrors
from bench.train.evaluate import evaluate
from bench.train.execute import run_one
from bench.train.predict import score_again
from bench.train.windows import split_windows, standardized
from tests.builders import WHERE, done, failure, in_process, make_spec, planned, waves

MakeCard = Callable[..., DatasetCard]
CPU = torch.device("cpu")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    opened = Store(tmp_path / "results")
    opened.open()
    return opened


def keep(store: Store, spec: RunSpec, *what: str) -> RunResult:
    """Do a run as a worker does, and record it as the driver does."""
    result = run_one(spec, CPU, keep={each: store.to_keep(spec, each) for each in what})
    assert result.status == "done", result.error
    store.put(result)
    store.clear(spec)
    return result


def consistent(store: Store) -> bool:
    """Every record names only files that are there, whole."""
    for path in store.root.glob("*/h*/*/*.json"):
        for each in json.loads(path.read_text())["kept"]:
            file = path.with_suffix(SUFFIX[each["what"]])
            if hashlib.sha256(file.read_bytes()).hexdigest() != each["sha256"]:
                return False
    return True


def test_kept_forecasts_are_those_that_were_scored(make_card: MakeCard, store: Store) -> None:
    card = make_card(50 + 10 * waves(200, 3))
    spec = make_spec(card)
    result, series = keep(store, spec, "forecasts"), load_series(card)
    own = read_forecasts(store, result)[card.name]
    first = card.bounds()["test"][0]
    assert own.forecast.shape == own.truth.shape == (result.evaluations[0].windows, 8, 3)
    assert own.forecast.dtype == np.float32 and [*own.channels] == ["c0", "c1", "c2"]
    assert [*own.starts[:2]] == [first, first + 1] and own.stamps[0] == series.stamps[first]
    for window in (0, 5, len(own.forecast) - 1):
        rows = series.values[own.starts[window] : own.starts[window] + 8]
        assert own.in_units(own.truth[window]) == pytest.approx(rows, rel=1e-6)
    error = (own.forecast - own.truth).astype(float)
    assert (error**2).mean() == pytest.approx(result.evaluations[0].mse, rel=1e-6)
    assert result.model_copy(update={"kept": ()}).evaluations == run_one(spec, CPU).evaluations, (
        "keeping changes nothing"
    )


def test_large_forecasts_are_kept_in_half_the_bytes(
    make_card: MakeCard, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.train.keep.MOST_EXACT", 1000)
    result = keep(store, make_spec(make_card(waves(200, 3))), "forecasts")
    own = read_forecasts(store, result)["Waves"]
    assert own.forecast.dtype == np.float16
    assert errors_of(own).overall["mse"] == pytest.approx(result.evaluations[0].mse, rel=1e-3)


def frames(own: Forecasts, values: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return forecasts and history in original units in Nixtla's long layout, a series a channel, a cutoff a window."""
    steps = own.forecast.shape[1]
    parts = [
        pd.DataFrame(
            {
                "unique_id": name,
                "ds": start + np.arange(steps),
                "cutoff": start - 1,
                "y": own.in_units(own.truth[window])[:, channel],
                "model": own.in_units(own.forecast[window])[:, channel],
            }
        )
        for channel, name in enumerate(own.channels)
        for window, start in enumerate(own.starts)
    ]
    past = pd.DataFrame(values, columns=list(own.channels)).melt(var_name="unique_id", value_name="y")
    return pd.concat(parts, ignore_index=True), past.assign(ds=np.tile(np.arange(len(values)), len(own.channels)))


def test_errors_equal_those_of_utilsforecast(make_card: MakeCard, store: Store) -> None:
    """Its MASE scales each window (cutoff) by the history before it; its sMAPE is half of ours."""
    losses = pytest.importorskip("utilsforecast.losses")
    card = make_card(5 + 2 * waves(160, 3))
    result = keep(store, make_spec(card), "forecasts")
    own, values = read_forecasts(store, result)[card.name], load_series(card).values
    ours = errors_of(own, original=True)
    table, past = frames(own, values)
    every = table.assign(cutoff=0, unique_id="all")
    found = {
        "mse": losses.mse(every, ["model"]),
        "mae": losses.mae(every, ["model"]),
        "rmse": losses.rmse(every, ["model"]),
        "wape": losses.nd(every, ["model"]),
        "smape": 2 * losses.smape(every, ["model"]).model.to_frame(),
        "mase": losses.mase(table, ["model"], card.season, past).model.mean(),
    }
    for metric, theirs in found.items():
        number = theirs if metric == "mase" else theirs.model.item()
        assert ours.overall[metric] == pytest.approx(number, rel=1e-6), metric
    by_channel = losses.mase(table, ["model"], card.season, past).groupby("unique_id").model.mean()
    assert ours.by_channel["mase"] == pytest.approx(by_channel.to_numpy(), rel=1e-6)
    one_channel = losses.nd(table.assign(cutoff=0), ["model"]).model
    assert ours.by_channel["wape"] == pytest.approx(one_channel.to_numpy(), rel=1e-6)
    step = (table.ds - table.cutoff).astype(str)
    one_step = losses.smape(table.assign(unique_id=step, cutoff=0), ["model"]).model
    assert ours.by_step["smape"] == pytest.approx(2 * one_step.to_numpy(), rel=1e-6)


@pytest.mark.parametrize("model", ["dlinear", "seasonal_naive"])
def test_errors_measured_in_the_test_are_those_of_the_kept_forecasts(
    model: str, make_card: MakeCard, store: Store
) -> None:
    values = waves(200, 3)
    values[:, 2] = np.maximum(values[:, 2], 0)  # zeros, as of the sun at night
    result = keep(store, make_spec(make_card(values), model), "forecasts")
    (test,), own = result.evaluations, read_forecasts(store, result)["Waves"]
    assert test.further
    for original, scale in ((False, test.further.standardised), (True, test.further.original)):
        again = errors_of(own, original).overall
        assert {name: again[name] for name in ("mae", "rmse", "wape", "smape")} == pytest.approx(
            scale.model_dump(), rel=1e-6
        )
        assert again["mase"] == pytest.approx(test.further.mase, rel=1e-6)
    assert errors_of(own).by_channel["mse"] == pytest.approx([mse for mse, _ in test.channels], rel=1e-5)


def test_what_is_not_defined_is_none_and_spoils_no_mean(make_card: MakeCard) -> None:
    """A channel of zeros has no WAPE, no MASE and, where the forecast is 0 too, no sMAPE."""

    class Zero(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 0 * x[:, :8]

    def further(values: np.ndarray) -> FurtherErrors:
        card = make_card(values)
        series = load_series(card)
        windows = split_windows(card, standardized(series, CPU), card.context, 8)["test"]
        errors = FurtherErrors(series, windows)
        assert evaluate(Zero(), windows, "float32", [errors]) == evaluate(Zero(), windows, "float32")
        return errors

    nothing = further(np.zeros((200, 2))).result()
    assert (nothing.mase, nothing.original.wape, nothing.original.smape) == (None, None, None)
    assert nothing.original.mae == nothing.standardised.rmse == 0
    wave = waves(200, 1)
    both, alone = further(np.hstack([wave, np.zeros((200, 1))])).result(), further(wave).result()
    assert both.mase == pytest.approx(alone.mase) and both.original.smape == pytest.approx(alone.original.smape)


def test_the_divisor_of_mase_is_the_mean_change_over_a_season_in_all_rows_before() -> None:
    rows = np.random.default_rng(0).normal(size=(30, 2))
    rows[:, 1] = 1.0
    found = seasonal_errors(rows, 4, np.array([4, 5, 30]))
    expected = [np.abs(rows[4:end, 0] - rows[: end - 4, 0]).mean() for end in (5, 30)]
    assert found[1:, 0] == pytest.approx(expected)
    assert np.isnan(found[0]).all() and np.isnan(found[:, 1]).all(), "no season is past; nothing ever changes"
    assert np.isnan(seasonal_errors(rows, 40, np.array([30]))).all()


def test_a_kill_at_any_moment_leaves_no_record_that_names_another_file(
    make_card: MakeCard, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each change of the directory is in turn the last that happens; the run before had other forecasts."""

    class KilledError(BaseException):
        pass

    spec = make_spec(make_card(waves(160, 2)))
    whole = Path.replace
    for last in range(5):
        keep(store, spec, "forecasts", "weights")
        files = {what: store.to_keep(spec, what) for what in ("forecasts", "weights")}
        result = run_one(spec, CPU, keep=files)
        other = files["forecasts"].read_bytes() + b"other"  # as if run on another machine
        files["forecasts"].write_bytes(other)
        sha256 = hashlib.sha256(other).hexdigest()
        named = result.kept[0].model_copy(update={"sha256": sha256, "bytes": len(other)})
        done_moves: list[Path] = []

        def replace(path: Path, to: Path, last: int = last, moves: list[Path] = done_moves) -> Path:
            if len(moves) == last:
                raise KilledError
            moves.append(path)
            return whole(path, to)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", replace)
            try:
                store.put(result.model_copy(update={"kept": (named, *result.kept[1:])}))
            except KilledError:
                assert last < 4
            else:
                assert last == 4, "the old record renounces, two files move, the new record comes"
        assert consistent(store)
        assert store.status(spec) == "done", "its errors are there all along"


def test_a_new_record_without_kept_files_leaves_none_behind(make_card: MakeCard, store: Store) -> None:
    spec = make_spec(make_card(waves(160, 2)))
    keep(store, spec, "forecasts")
    store.put(run_one(spec, CPU))
    assert [path.suffix for path in (store.root / spec.path).parent.iterdir()] == [".json"]


class Here(Engine):
    """An engine that does each run in this process when it is asked for news."""

    slots, facts, where = 1, {}, WHERE
    fails = False
    job: Job | None = None

    def start(self, job: Job) -> None:
        self.job = job

    def stop(self, key: str) -> None: ...

    def close(self) -> None: ...

    def _answer(self, what: str, about: object) -> None: ...

    def _messages(self, timeout: float) -> list[tuple[str, RunResult]]:
        assert self.job
        result = run_one(self.job.spec, CPU, keep=self.job.keep)
        return [(result.spec.key, result.model_copy(update=failure("RuntimeError: no")) if self.fails else result)]


def test_a_failed_rerun_leaves_the_earlier_record_and_its_files(make_card: MakeCard, store: Store) -> None:
    """A rerun keeps again what the earlier one kept, asked or not."""
    spec = make_spec(make_card(waves(160, 2)))

    def run(fails: bool = False, **orders: object) -> tuple[Tally, list[str]]:
        engine = Here()
        engine.fails = fails
        tally = run_grid([PlannedRun(spec)], store, Orders(**orders), lambda: engine, Console(file=io.StringIO()))
        assert consistent(store) and not store.leftovers()
        (result,) = [store.get(spec)]
        return tally, sorted(each.what for each in result.kept) if result else []

    assert run() == (Tally(done=1), [])
    assert run() == (Tally(earlier=1), [])
    assert run(fails=True, keep=("forecasts",)) == (Tally(failed=1), [])
    assert store.status(spec) == "done"
    assert run(keep=("forecasts",)) == (Tally(done=1), ["forecasts"])
    assert run(fails=True, keep=("weights",)) == (Tally(failed=1), ["forecasts"])
    assert run(keep=("weights",)) == (Tally(done=1), ["forecasts", "weights"])
    assert run(rerun="all") == (Tally(done=1), ["forecasts", "weights"])
    assert run(keep=("forecasts", "weights")) == (Tally(earlier=1), ["forecasts", "weights"])


def test_done_runs_are_done_again_if_they_lack_what_is_to_be_kept(make_card: MakeCard, store: Store) -> None:
    card = make_card(waves(160, 2))
    lacking, keeping, broken = (make_spec(card, seed=seed) for seed in (1, 2, 3))
    keep(store, lacking)
    keep(store, keeping, "forecasts")
    store.put(done(broken, card).model_copy(update=failure("RuntimeError: no")))
    mine = {spec.key: PlannedRun(spec) for spec in (lacking, keeping, broken)}

    def chosen(**orders: object) -> set[int]:
        return {entry.spec.seed for entry in selected(mine, store, Orders(**orders))[0].values()}

    assert chosen() == {3}
    assert chosen(keep=("forecasts",)) == {1, 3}
    assert chosen(keep=("forecasts", "weights")) == {1, 2, 3}
    assert chosen(keep=("forecasts",), rerun="failed") == {3}
    (line,) = selected(mine, store, Orders(keep=("forecasts",)))[2]
    assert line.startswith("1 runs are done")
    (store.root / keeping.path).with_suffix(SUFFIX["forecasts"]).unlink()
    assert chosen(keep=("forecasts",)) == {1, 2, 3}, "a file that was deleted is not kept"


def test_ray_keeps_nothing_and_says_so_before_anything_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--models", "dlinear", "--results", tmp_path, "--engine", "ray", "--dry-run")
    assert in_process("run", "--suite", "quick", *words, "--keep", "weights") == 2
    assert "share no directory" in capsys.readouterr().err
    suite = tmp_path / "mine.toml"
    suite.write_text('base = "quick"\nabout = "Mine."\nkeep = ["forecasts"]\n')
    assert in_process("run", "--suite", suite, *words) == 2 and "take keep out" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        in_process("run", "--keep", "forecasts,plots")
    assert "'plots' cannot be kept" in capsys.readouterr().err


@pytest.mark.parametrize("model", ["dlinear", "itransformer", "seasonal_naive"])
def test_a_kept_model_gives_the_records_errors_again(
    model: str, make_card: MakeCard, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = keep(store, make_spec(make_card(waves(200, 3)), model), "weights")
    key, table = result.spec.key[:8], tmp_path / "out.csv"
    words = ("predict", "--run", key, "--results", store.root, "--device", "cpu")
    assert in_process(*words, "--into", table) == 0
    said = capsys.readouterr().out
    assert f"mse {result.evaluations[0].mse:.6f}" in said and "the record's to 1e-06" in said
    written, own = pd.read_csv(table), score_again(store, result, "cpu", wanted=True).forecasts["Waves"]
    assert list(written) == ["cutoff", "step", "ds", "c0", "c1", "c2"] and len(written) == own.forecast[..., 0].size
    series = load_series(cards()["Waves"])
    assert written.cutoff[0] == str(pd.Timestamp(series.stamps[own.first - 1])), "the last stamp of the first look-back"
    ninth = written.iloc[8]  # the second window's first step
    assert (ninth.step, ninth.cutoff, ninth.ds) == (
        1,
        str(pd.Timestamp(own.stamps[0])),
        str(pd.Timestamp(own.stamps[1])),
    )
    assert ninth[["c0", "c1", "c2"]].to_list() == pytest.approx(own.in_units(own.forecast[1, 0]))


def test_a_language_model_is_not_kept_and_gives_the_same_errors(
    make_card: MakeCard, store: Store, slim_backbones: None
) -> None:
    result = keep(store, make_spec(make_card(waves(120, 2)), "logo_llm", epochs=1, max_steps=2), "weights")
    again = score_again(store, result, "cpu", wanted=False)
    assert not again.differ and again.evaluations[0].mse == pytest.approx(result.evaluations[0].mse, rel=1e-6)
    cost = result.cost
    assert cost and result.kept[0].bytes < 4 * cost.trainable * 1.1 + 20_000 < 4 * cost.params


def test_a_model_that_does_not_come_back_is_refused(
    make_card: MakeCard, store: Store, capsys: pytest.CaptureFixture[str], slim_backbones: None
) -> None:
    """Random weights of the language model are drawn again by seed; other ones must not pass for them."""
    spec = make_spec(make_card(waves(120, 2)), "logo_llm", epochs=1, max_steps=1)
    result = keep(store, spec, "weights")
    other = result.model_copy(update={"spec": spec.model_copy(update={"seed": 7})})
    source, target = ((store.root / each.spec.path).with_suffix(SUFFIX["weights"]) for each in (result, other))
    target.write_bytes(source.read_bytes())
    with pytest.raises(BenchError, match="frozen at other values"):
        score_again(store, other, "cpu", wanted=False)
    source.write_bytes(source.read_bytes()[:-1] + b"\0")
    for words in (spec.key[:6], store.root / spec.path):
        assert in_process("predict", "--run", words, "--results", store.root) == 2
        assert "is not the file that its record names" in capsys.readouterr().err
    source.unlink()
    assert in_process("predict", "--run", spec.key[:6], "--results", store.root) == 2
    assert "is not there" in capsys.readouterr().err


def test_new_rows_of_the_users_own_are_forecast_without_the_data(
    make_card: MakeCard,
    store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The rows are the data's last ones: their forecast is the model's, standardised as the training part was."""
    drawn, plot_forecast = [], predicted.plot_forecast

    def draw(path: Path, title: str, past: pd.DataFrame, *others: pd.DataFrame) -> str:
        drawn.append(past)
        return plot_forecast(path, title, past, *others)

    monkeypatch.setattr(predicted, "plot_forecast", draw)
    values = 100 + 7 * waves(200, 2)
    card = make_card(values)
    result = keep(store, make_spec(card, "repeat_last"), "weights", "forecasts")
    stamps = pd.date_range("2031-01-01", periods=40, freq="h")
    wide = pd.DataFrame({"when": stamps, "c1": values[-40:, 1], "note": "x", "c0": values[-40:, 0]})
    rows, out, plot = tmp_path / "new.csv", tmp_path / "out.csv", tmp_path / "plot.png"
    wide.to_csv(rows, sep=";", index=False)
    (tmp_path / "data" / "Waves.csv").unlink()
    words = ("predict", "--run", result.spec.key[:6], "--results", store.root, "--device", "cpu", "--on", rows)
    assert in_process(*words, "--into", out, "--plot", plot) == 0
    found = pd.read_csv(out, parse_dates=["ds"])
    assert list(found) == ["ds", "c0", "c1"] and len(found) == 8 and plot.stat().st_size > 5000
    assert [*found.ds] == [*pd.date_range(stamps[-1], periods=9, freq="h")[1:]]
    assert [*drawn[0].index] == [*stamps[-32:]], "the look-back is what the model reads"
    assert found[["c0", "c1"]].to_numpy() == pytest.approx(np.tile(values[-1], (8, 1)), rel=1e-6)
    capsys.readouterr()
    assert in_process(*words) == 0
    assert capsys.readouterr().out.splitlines()[0] == "ds,c0,c1", "without --into the table itself is printed"
    before = rows.read_bytes()
    assert in_process(*words, "--into", rows) == 2 and rows.read_bytes() == before, "nothing is lost"
    assert "is the file of --on" in capsys.readouterr().err
    for change, cause in (
        (wide.drop(columns="c0"), "has no column 'c0'"),
        (wide.iloc[-31:], "has 31 rows; the model reads the last 32"),
        (wide.drop(index=20), "2 h after the row before"),
        (wide.assign(c0=[*values[-40:-1, 0], None]), "missing"),
    ):
        change.to_csv(rows, index=False)
        assert in_process(*words) == 2
        assert cause in capsys.readouterr().err


@pytest.mark.parametrize(
    ("step", "stamps", "before", "after"),
    [
        (
            "15min",
            ["2024-02-29 00:00", "2024-02-29 00:15"],
            "2024-02-28 23:45",
            ["2024-02-29 00:30", "2024-02-29 00:45"],
        ),
        ("1M", ["2023-11-30", "2023-12-31", "2024-01-31"], "2023-10-31", ["2024-02-29", "2024-03-31"]),
        ("3M", ["2023-07-01", "2023-10-01"], "2023-04-01", ["2024-01-01", "2024-04-01"]),
        ("1B", ["2024-02-26 17:00", "2024-02-27 17:00"], "2024-02-23 17:00", ["2024-02-28 17:00", "2024-02-29 17:00"]),
        ("1B", ["2024-02-29 17:00", "2024-03-01 17:00"], "2024-02-28 17:00", ["2024-03-04 17:00", "2024-03-05 17:00"]),
    ],
)
def test_stamps_go_on_by_the_step(step: str, stamps: list[str], before: str, after: list[str]) -> None:
    parsed, given = Step.parse(step), pd.Series(pd.to_datetime(stamps))
    assert parsed
    assert [*parsed.after(given, 2)] == [*pd.to_datetime(after)]
    assert parsed.before(given) == pd.Timestamp(before)


def test_a_key_names_one_run(make_card: MakeCard, store: Store) -> None:
    card = make_card(waves(160, 2))
    for seed in (1, 2):
        store.put(done(make_spec(card, "repeat_last", seed=seed), card))
    key = make_spec(card, "repeat_last", seed=2).key
    assert find_run(store, key)[1].spec.seed == find_run(store, key[:6])[1].spec.seed == 2
    with pytest.raises(BenchError, match="no runs"):
        find_run(store, "0" * 12)
    with pytest.raises(BenchError, match="6 or more"):
        find_run(store, key[:5])
    with pytest.raises(BenchError, match="kept no forecasts"):
        read_forecasts(*find_run(store, key))


def test_tables_of_a_chosen_error_say_which_records_are_too_old() -> None:
    """Old records have RMSE, the root of their MSE; of the others they hold nothing."""
    old = planned(holes=False)
    (table,) = main_table(Results(old.runs, metrics=("rmse",)))
    first = old.own[(old.own.data == "ETTh1") & (old.own.model == "logo_llm")]
    assert table.rows[0][1][0].value == pytest.approx(np.sqrt(first.mse).groupby(first.horizon).mean().mean())
    (table,) = main_table(Results(old.runs, metrics=("mase",)))
    assert all(cell.value is None and cell.note == 1 for _, cells in table.rows for cell in cells)
    assert "--rerun all" in table.notes[0] and table.title.endswith(": MASE") and "MASE" in table.caption
    (table,) = main_table(old)
    assert all(cell.value for _, cells in table.rows for cell in cells), "MSE and MAE stay what they were"


def test_a_table_shows_errors_in_the_units_of_the_data_and_no_average_over_data_sets_of_other_units() -> None:
    runs = []
    for number, (entry, result) in enumerate(planned(holes=False).runs):
        assert result
        scale = Scaled(mae=100.0 + number, rmse=200.0 + number, wape=0.1, smape=0.1)
        own = result.evaluations[0]
        usual = scale.model_copy(update={"mae": own.mae, "rmse": float(np.sqrt(own.mse))})
        further = Further(standardised=usual, original=scale, mase=1.0)
        measured = own.model_copy(update={"further": further})
        runs.append((entry, result.model_copy(update={"evaluations": (measured,)})))
    for metric, least in (("mae_original", 100), ("rmse_original", 200)):
        (table,) = main_table(Results(runs, metrics=(metric,)))  # type: ignore[arg-type]
        values = [cell.value for _, cells in table.rows for cell in cells]
        assert all(value is not None and least <= value < least + len(runs) for value in values)
        assert "in the units of the data file" in table.caption
        assert "Mean rank" in dict(table.summary) and not any("Average" in label for label, _ in table.summary)


def test_what_a_model_raises_in_its_test_is_its_own_failure_though_forecasts_are_kept(
    make_card: MakeCard, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also an OSError, which writing raises too where the disk is full."""

    def lost(*_: object) -> None:
        raise FileNotFoundError("no lookup.npy")

    monkeypatch.setattr("bench.train.evaluate.predict", lost)
    spec = make_spec(make_card(waves(200, 2)), "repeat_last")
    result = run_one(spec, torch.device("cpu"), keep={"forecasts": store.to_keep(spec, "forecasts")})
    assert result.status == "failed" and "no lookup.npy" in str(result.error)


def test_a_kept_file_is_not_followed_out_of_the_results_directory(
    make_card: MakeCard, store: Store, tmp_path: Path
) -> None:
    spec = make_spec(make_card(waves(200, 2)))
    result = keep(store, spec, "forecasts")
    file = (store.root / spec.path).with_suffix(".forecasts.npz")
    file.rename(tmp_path / "elsewhere.npz")
    file.symlink_to(tmp_path / "elsewhere.npz")
    with pytest.raises(BenchError, match="link out of the results directory"):
        read_forecasts(store, result)


@pytest.mark.parametrize("damage", ["short", "kind", "lacking", "no zip", "objects"])
def test_a_file_of_forecasts_made_by_hand_is_one_line(damage: str, make_card: MakeCard, store: Store) -> None:
    spec = make_spec(make_card(waves(200, 2)))
    result = keep(store, spec, "forecasts")
    file = (store.root / spec.path).with_suffix(".forecasts.npz")
    arrays = dict(np.load(file))
    match damage:
        case "short":
            arrays["Waves/rows"] = arrays["Waves/rows"][1:]
        case "kind":
            arrays["Waves/mean"] = arrays["Waves/mean"].astype(str)
        case "lacking":
            del arrays["Waves/stamps"]
        case "objects":
            arrays["Waves/channels"] = arrays["Waves/channels"].astype(object)
    np.savez(file, **arrays)
    if damage == "no zip":
        file.write_bytes(b"PK\x03\x04 and no more")
    named = result.kept[0].model_copy(
        update={"sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "bytes": file.stat().st_size}
    )
    with pytest.raises(BenchError, match=r"its forecasts are damaged .*Do: python -m bench run --keep forecasts"):
        read_forecasts(store, result.model_copy(update={"kept": (named,)}))
