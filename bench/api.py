"""The Python door: records, plans, runs, tables and forecasts as pandas frames. `import bench` offers its functions.

    import bench

    frame = bench.load_records(datasets="ILI")            # a row per run and data set that it is tested on
    bench.plan("paper", models="dlinear")                 # a row per planned run, with its state
    bench.run("quick", models=["mymodel:Mine", "dlinear"])  # train and test what is missing
    bench.table("main", "quick")                          # a table of the report
    bench.forecasts(frame.key[0])                         # what a run kept by keep="forecasts"
    bench.errors(frame.key[0], by="step")                 # and the errors of that

Each function does what the command of its name does, on the same grid and the same records. Filters are those of the
command line: `models`, `datasets`, `horizons`, `seeds` (one value or several) and `backbone`. Whatever the user can
mend is raised as `bench.BenchError`, whose message says what to do. Only `run` imports torch, in its worker processes.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, get_args, overload

import numpy as np
import pandas as pd

from bench import cli
from bench.analysis.records import plan_frame, recorded, records_of_suite
from bench.analysis.results import Results, read
from bench.core.base import BenchError, parse
from bench.core.names import Format, Metric, Rerun, TableName, What
from bench.core.reading import UnusableRecord, summary_of
from bench.core.store import Store
from bench.core.system import THREADS
from bench.plan.language_model import choose
from bench.plan.suite import Filters, entries, load_suite

if TYPE_CHECKING:
    from bench.analysis.tables import Table
    from bench.core.kept import Forecasts, KeptForecasts

MOST_ROWS = 100_000_000
"""Most rows of a frame of forecasts, some 4 GB."""


class Filtering(TypedDict, total=False):
    """The filters of the command line; each name in any case."""

    models: str | Iterable[str]
    datasets: str | Iterable[str]
    horizons: int | Iterable[int]
    seeds: int | Iterable[int]
    backbone: str
    """Language model of the runs that read one; the default is the command line's."""


def load_records(
    results: str | Path | None = None, suite: str | Path | None = None, **filters: Unpack[Filtering]
) -> pd.DataFrame:
    """Return the records of a results directory as a tidy frame: a row for each run and data set that it is tested on.

    results: the directory; by default results/ in the checkout, for an installed copy in the current directory.
    suite: a suite's name, or the path of its TOML file. Then the frame has its planned runs alone, each under the title
    of its variant, in the order of the plan; without it every record, which may be of several suites: `options`,
    `train` and `code` tell runs of one model apart.
    filters: models, datasets, horizons, seeds, backbone.

    Columns, by what they are about:
    - the run: model, title, variant (empty without a suite), dataset (trained on), train_fraction, horizon and context
      (steps), seed, backbone, probe;
    - its outcome: status (done or failed), why (it failed);
    - the test: tested_on; mse, mae, rmse, wape, smape and mase on standardised channels; `*_original` in the units of
      the file; windows. Errors beyond MSE and MAE are NaN in records from before they were measured;
    - the cost: epochs, epoch_s (seconds of the fastest one), and the fields of `bench.core.record.Cost`: train_s,
      total_s, steps, samples_per_s, infer_ms, peak_mb, params, trainable, flops, micro_batch;
    - where: date (UTC), device, threads, git;
    - kept (files beside the record), options and train (settings, as JSON), code (SHA-256 of a user's own model), key,
      path (below `results`).

    Every record is verified as reports verify it: strictly parsed, consistent in itself, of this protocol, at the path
    of its own key, of data and weights with the hashes of today's cards. (The files kept beside it are not read.) One
    that cannot be used has no row; a warning counts such records and names the first. A failed run has rows without
    errors; a run without a record has none: see `plan`. Raises BenchError for a directory, suite or name that is not
    there.
    """
    store, narrowed = _store(results), _filters(filters)
    cli.require_results(store.root)
    frame, unusable = recorded(store, narrowed, None if suite is None else str(suite))
    _warn(unusable)
    return frame


def plan(
    suite: str | Path = "quick", *, results: str | Path | None = None, **filters: Unpack[Filtering]
) -> pd.DataFrame:
    """Return the planned runs of a suite, a row each, in the order of the plan.

    Columns: those of `load_records` that say which run it is, options, train, code, key and path; status is done,
    failed, missing (no record) or refused (a record that cannot be used; `why` says why, as it does of a failure).
    Raises BenchError for a suite or name that does not exist.
    """
    return plan_frame(read(load_suite(str(suite)), _filters(filters), _store(results)))


def run(
    suite: str | Path = "quick",
    *,
    device: str = "auto",
    jobs: int | None = None,
    threads: int = THREADS,
    rerun: Rerun = "missing",
    keep: What | Iterable[What] = (),
    run_timeout: float = math.inf,
    time_budget: float = math.inf,
    results: str | Path | None = None,
    progress: bool = True,
    **filters: Unpack[Filtering],
) -> pd.DataFrame:
    """Train and test the runs of a suite that have no record yet; return the records of all its runs that have one.

    It drives the grid of `python -m bench run`: one that is killed, or interrupted in a notebook, goes on when called
    again, and several processes may work on one directory. The frame is that of `load_records` for the suite; a failed
    run is a row whose `why` says why, no exception.

    device: auto, cpu, cuda, cuda:N. jobs: runs at once, at most (default: one for each GPU, else each CPU core).
    threads: CPU threads of each run; another number gives other last digits. rerun: as on the command line. keep:
    forecasts, weights, or both, to be kept beside each record. run_timeout, time_budget: limits of one run and of the
    whole call, in seconds. progress: print a line for each run that ends.

    Runs are trained in new processes, which import the script that is being run. In a script, call it therefore below
    `if __name__ == "__main__":`; in a notebook it needs nothing. A model of your own must be in a file (`%%writefile
    mymodel.py`, then models="mymodel:Mine"): what a cell defines, no other process can import. Raises BenchError for
    what concerns the whole grid, as data that is not there.
    """
    from multiprocessing import current_process

    from rich.console import Console

    from bench.grid.driver import Orders, run_grid
    from bench.grid.local import Workers

    if getattr(current_process(), "_inheriting", False):  # spawn is importing the user's script in a worker
        raise BenchError('bench.run: called while a script is imported. Do: call it below if __name__ == "__main__":')
    store, planned_suite = _store(results), load_suite(str(suite))
    chosen, line = choose(planned_suite, _filters(filters), store)
    planned = entries(planned_suite, chosen)
    kept = tuple(dict.fromkeys((*planned_suite.keep, *_several(keep))))
    for what in kept:
        _require("keep", what, get_args(What))
    _require("rerun", rerun, get_args(Rerun))
    limits = {"threads": threads, "run_timeout": run_timeout, "time_budget": time_budget}
    for name, value in (limits if jobs is None else {"jobs": jobs, **limits}).items():
        kind = Integral if name in ("jobs", "threads") else Real
        if not isinstance(value, kind) or isinstance(value, bool) or not value > 0:
            raise BenchError(f"{name} {value!r}: no {'whole ' * (kind is Integral)}number above 0. Do: correct it")
    console = cli.console() if progress else Console(file=io.StringIO(), force_jupyter=False)
    if line:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    orders = Orders(rerun, run_timeout=run_timeout, budget=time_budget, keep=kept)
    run_grid(planned, store, orders, lambda: Workers(device, jobs, threads), console)
    frame, unusable = records_of_suite(Results.read(planned, store))
    _warn(unusable)
    return frame


Name = TableName | Literal["claims"]


@overload
def table(
    name: Name,
    suite: str | Path | None = None,
    *,
    format: Literal["frame"] = "frame",
    metric: Metric | None = None,
    results: str | Path | None = None,
    **filters: Unpack[Filtering],
) -> pd.DataFrame: ...
@overload
def table(
    name: Name,
    suite: str | Path | None = None,
    *,
    format: Format,
    metric: Metric | None = None,
    results: str | Path | None = None,
    **filters: Unpack[Filtering],
) -> str: ...
def table(
    name: Name,
    suite: str | Path | None = None,
    *,
    format: Format | Literal["frame"] = "frame",
    metric: Metric | None = None,
    results: str | Path | None = None,
    **filters: Unpack[Filtering],
) -> pd.DataFrame | str:
    """Return a table of the report: a frame, or its text in a format (text, md, latex, csv, json).

    name: main, full, seeds, ranks, regimes, few_shot, zero_shot, ablation, taps, layers, losses, efficiency, published,
    or claims (the verdicts). suite: by default the table's namesake; else paper if it has records, else quick; for
    claims, those of every suite. metric: of tables of errors, this one alone.

    The frame has all digits, in rows and columns as printed, the summary below the others; NaN where the printed table
    has a dash. `frame.attrs` holds title, caption and notes (which say what is missing). Several tables of one name
    stand below each other, with their names as the first level of the index. Raises BenchError for a table that the
    suite does not have.
    """
    from bench.report.contents import default_suite, tables_named, under, verdicts
    from bench.report.render import rendered
    from bench.report.sheet import verdicts_sheets

    _require("format", format, ("frame", *get_args(Format)))
    _require("metric", metric, (None, *get_args(Metric)))
    store, narrowed = _store(results), _filters(filters)
    cli.require_results(store.root)
    if name == "claims":
        from bench.analysis.verdicts import load_claims

        judged = verdicts(None if suite is None else str(suite), narrowed, store)
        if format == "frame":
            return pd.DataFrame([row.words() for row in judged])
        sheets = verdicts_sheets(judged, load_claims()[0])
        return rendered(sheets, format)
    chosen = load_suite(str(suite)) if suite is not None else default_suite(store, name)
    planned, tables = tables_named(name, under(narrowed, chosen), narrowed, store, metric)
    _warn(list(planned.refused.values()))
    return _table_frame(tables) if format == "frame" else rendered(tables, format)


def forecasts(
    key: str,
    *,
    original: bool = False,
    windows: int | Iterable[int] | None = None,
    results: str | Path | None = None,
) -> pd.DataFrame:
    """Return the test forecasts that a run kept (`run(keep="forecasts")`): a row per window, step and channel.

    key: the first six or more digits of the run's key (column `key` of `load_records`), or the path of its record.
    original: in the units of the data file; else standardised, so that the mean squared difference is the record's MSE.
    windows: numbers of the test windows that are wanted, from 0; by default all.

    Columns: tested_on, window, step (from 1 to the horizon), row (of the data set, from 0), ds (its time stamp),
    channel, forecast, truth. Arrays without a frame around them: `bench.core.kept.read_forecasts`. Raises BenchError
    for a run that kept none, a file that is damaged, and for more rows than memory holds.
    """
    kept = _kept(key, results)
    parts = {name: _of(windows, len(each.forecast), name) for name, each in kept.items()}
    rows = sum(len(part) * kept[name].forecast[0].size for name, part in parts.items())
    if rows > MOST_ROWS:
        remedy = "choose some of them by windows=, or take the arrays of bench.core.kept.read_forecasts"
        raise BenchError(f"forecasts of {key}: {rows} rows, at most {MOST_ROWS}. Do: {remedy}")
    frames = [_forecast_frame(name, own, parts[name], original) for name, own in kept.items()]
    return pd.concat(frames, ignore_index=True)


def errors(
    key: str,
    *,
    by: Literal["channel", "step"] | None = None,
    original: bool = False,
    results: str | Path | None = None,
) -> pd.DataFrame:
    """Return the errors of the test forecasts that a run kept, each data set's overall, by channel or by step.

    key, original, results: as of `forecasts`. Columns: tested_on; channel, or step (from 1 to the horizon); mse, mae,
    rmse, mase, wape, smape, as docs/researchers.md defines them, NaN where one is not defined. Each pools what it is
    over: the MSE of a step is over all windows and channels. Raises BenchError as `forecasts` does.
    """
    from bench.analysis.errors import errors_of

    _require("by", by, (None, "channel", "step"))
    frames = []
    for name, own in _kept(key, results).items():
        found = errors_of(own, original)
        if by is None:
            frame = pd.DataFrame([found.overall])
        elif by == "channel":
            frame = pd.DataFrame({"channel": own.channels.astype(str), **found.by_channel})
        else:
            frame = pd.DataFrame({"step": np.arange(1, own.forecast.shape[1] + 1), **found.by_step})
        frame.insert(0, "tested_on", name)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _kept(key: str, results: str | Path | None) -> KeptForecasts:
    """Return the forecasts that a run kept, by its key or the path of its record."""
    from bench.core.kept import find_run, read_forecasts

    return read_forecasts(*find_run(_store(results), str(key)))


def _of(windows: int | Iterable[int] | None, count: int, name: str) -> np.ndarray:
    """Return the numbers of the wanted windows. Raises BenchError for one that is not there."""
    if windows is None:
        return np.arange(count)
    wanted = np.array(_several(windows), dtype=int)
    if any(not 0 <= each < count for each in wanted):
        raise BenchError(f"windows: {name} has 0 to {count - 1}. Do: choose of them")
    return wanted


def _forecast_frame(name: str, own: Forecasts, windows: np.ndarray, original: bool) -> pd.DataFrame:
    """Return a row per window, step and channel of one data set."""
    _, steps, channels = own.forecast.shape
    forecast, truth = own.forecast[windows], own.truth[windows]
    if original:
        forecast, truth = own.in_units(forecast), own.in_units(truth)
    row = (own.starts[windows][:, None] + np.arange(steps)).repeat(channels)
    size = len(windows) * steps
    return pd.DataFrame(
        {
            "tested_on": name,
            "window": windows.repeat(steps * channels),
            "step": np.tile(np.arange(1, steps + 1).repeat(channels), len(windows)),
            "row": row,
            "ds": own.stamps[row - int(own.first)],
            "channel": pd.Categorical.from_codes(np.tile(np.arange(channels), size), own.channels.astype(str).tolist()),
            "forecast": forecast.reshape(-1),
            "truth": truth.reshape(-1),
        }
    )


def _table_frame(tables: Sequence[Table]) -> pd.DataFrame:
    """Return tables as one frame, with all digits."""
    titled = any(group.title for each in tables for group in each.groups)
    frames = {each.name: _one_frame(each, titled) for each in tables}
    frame = pd.concat(frames, names=["table"]) if len(frames) > 1 else next(iter(frames.values()))
    frame.attrs = {
        "title": "; ".join(each.title for each in tables),
        "caption": " ".join(dict.fromkeys(each.whole_caption for each in tables)),
        "notes": [note for each in tables for note in each.notes],
    }
    return frame


def _one_frame(table: Table, titled: bool) -> pd.DataFrame:
    from bench.report.sheet import numbers_of

    # 1. Columns: title of the model or data set, and the error; one level where no table has a title over columns.
    ends = ("", " std") if table.spreads else ("",)
    names = [(group.title, column + end) for group in table.groups for column in group.columns for end in ends]
    columns = pd.MultiIndex.from_tuples(names) if titled else pd.Index([column for _, column in names])
    # 2. Rows, those of the summary last.
    rows = table.rows + table.summary
    index = pd.Index([label for label, _ in rows], name="row")
    return pd.DataFrame([[*numbers_of(cells, table.spreads)] for _, cells in rows], index, columns, dtype=float)


def _require(name: str, value: object, known: Sequence[object]) -> None:
    """Raise BenchError for a value that is none of those known."""
    if not isinstance(value, str | None) or value not in known:
        raise BenchError(f"{name} {value!r}: not one. Do: choose of {', '.join(map(str, known))}")


def _store(results: str | Path | None) -> Store:
    if not isinstance(results, str | Path | None):
        raise BenchError(f"results {results!r}: no path. Do: name a directory")
    return Store(cli.RESULTS if results is None else Path(results))


def _filters(words: Filtering) -> Filters:
    """Return the filters. Raises BenchError for an unknown one, and for a value out of range."""
    given: dict[str, Any] = {
        name: value if name == "backbone" or value is None else _several(value) for name, value in words.items()
    }
    if empty := [name for name, value in given.items() if value == ()]:
        raise BenchError(f"{empty[0]}: none named. Do: leave it out for all")
    return parse(Filters, given, "")


def _several(value: Any) -> tuple[Any, ...]:
    """Return one value, or each of several (also of numpy's and pandas'), as a tuple."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    return tuple(plain) if isinstance(plain, Iterable) and not isinstance(plain, str) else (plain,)


def _warn(unusable: Sequence[UnusableRecord]) -> None:
    if unusable:
        warnings.warn(summary_of(unusable), stacklevel=3)
