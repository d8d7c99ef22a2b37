"""`python -m bench VERB`: list, plan, fetch, run, tune, show, predict, export, perf, check, add-dataset, report.

Each imports what it needs. The console script `logo-bench` is the same.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from bench import cli
from bench.cli import duration, positive
from bench.core.names import Rerun
from bench.core.system import THREADS, uncollected
from bench.core.text import harmless
from models.errors import BenchError

if TYPE_CHECKING:
    from bench.core.record import RunResult
    from bench.core.store import Store
    from bench.grid.driver import Orders, Tally
    from bench.grid.engine import Engine
    from bench.plan.suite import Filters, PlannedRun, Suite


EXAMPLES = {
    "list": ("",),
    "plan": ("--suite paper", "--suite paper --models logo_llm --datasets ETTh1 --long"),
    "fetch": ("--suite paper", "--suite paper --datasets ETTh1 ETTh2 --into bundle"),
    "run": ("--suite quick", "--suite paper --datasets ETTh1 ILI --models logo_llm patchtst --time-budget 8h"),
    "tune": ("--suite tune --datasets ILI", "--suite mine.toml --time-budget 9m"),
    "perf": ("--suite efficiency --device cuda --json perf.json", "--records 20000"),
    "predict": ("--run 3f9a1c", "--run 3f9a1c --on new_rows.csv --into forecast.csv --plot forecast.png"),
    "check": ("mymodel:Mine", "dlinear --suite paper --option kernel=13"),
    "add-dataset": ("sales.csv --step 1M", "sensors.csv --stamp Date Time --fill linear --drop comment"),
    "export": ("results.csv", "ili.parquet --suite paper --datasets ILI"),
    "show": ("--suite paper", "--suite paper --models dlinear --datasets ETTh1 --horizons 96 --seeds 2021"),
}
"""Verb -> options of the examples with which its help ends."""


def main(words: list[str] | None = None) -> int:
    words = sys.argv[1:] if words is None else words
    if words[:1] == ["report"]:
        from bench.report.__main__ import main as report

        return report(words[1:])
    return cli.guarded(_parser(), words, lambda arguments: arguments.verb(arguments) or cli.DONE)


def _parser() -> argparse.ArgumentParser:
    about = "Logo-LLM and its baselines: plan, fetch, run and look at runs. Tables: python -m bench.report."
    parser = cli.Parser(cli.program(), description=about)
    parser.set_defaults(verb=lambda _: print(parser.format_help(), end=""))
    verbs = parser.add_subparsers(metavar="VERB")

    def verb(name: str, action: object, text: str, *, suite: str | None = "quick") -> argparse.ArgumentParser:
        examples = [f"python -m bench {name} {options}".rstrip() for options in EXAMPLES[name]]
        sub = verbs.add_parser(name, help=text, description=text, examples=examples)
        sub.set_defaults(verb=action)
        if suite:
            sub.add_argument("--suite", default=suite, help=f"name, or the path of a TOML file (default: {suite})")
            cli.add_filters(sub)
        return sub

    cli.add_results(verb("list", _list, "models, data sets and suites, and what is ready on this machine", suite=None))
    planning = verb("plan", _plan, "the runs of a suite: done, failed, missing; the time and memory they need")
    planning.add_argument("--measure", action="store_true", help="time a few steps of runs whose time is not known yet")
    _add_looking(planning)
    fetch = verb("fetch", _fetch, "bring data, backbones and pretrained models here, verified")
    fetch.add_argument("--into", type=Path, metavar="DIR", help="make a bundle of them, for machines without network")
    run = verb("run", _run, "train and test what is missing")
    run.add_argument("--dry-run", action="store_true", help="print the runs that would be done, and do none")
    _add_running(run)
    _add_running(verb("tune", _tune, "run a search of settings, and keep the best by validation", suite="tune"))
    _add_perf(
        verb("perf", _perf, "time training beside plain PyTorch loops and the hardware's limit", suite="efficiency")
    )
    _add_predict(
        verb("predict", _predict, "forecast with the weights that a run kept (run --keep weights)", suite=None)
    )
    _add_check(verb("check", _check, "try a model in seconds: a line for each thing that runs rely on", suite=None))
    _add_own(verb("add-dataset", _add_dataset, "check a CSV file of your own data and write a card for it", suite=None))
    _add_looking(verb("show", _show, "the runs behind a cell: metrics, curve, settings, provenance"))
    _add_export(verb("export", _export, "write recorded runs as a table: a row for each run and test", suite=None))
    tables = ["python -m bench.report --table main", "python -m bench.report --suite quick"]
    verbs.add_parser("report", help="tables and whole reports: python -m bench.report", examples=tables)
    return parser


def _add_perf(perf: argparse.ArgumentParser) -> None:
    perf.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (default: auto)")
    perf.add_argument("--batch", type=positive, help="windows per step, for every model (default: each model's own)")
    _add_threads(perf, "each process")
    perf.add_argument("--rounds", type=positive, help="turns of each loop (default: 5, on a GPU 3)")
    perf.add_argument(
        "--no-plain", action="store_true", help="leave the plain loops out: wide data need much memory there"
    )
    perf.add_argument(
        "--records", type=positive, metavar="N", help="time plan, table and report over N invented records instead"
    )
    perf.add_argument("--json", type=Path, metavar="FILE", help="write everything measured here too")


def _add_export(export: argparse.ArgumentParser) -> None:
    export.add_argument("file", type=Path, metavar="FILE", help="ends in .csv or .parquet")
    export.add_argument("--suite", help="its runs alone, with their variants (default: every record)")
    cli.add_filters(export)
    cli.add_results(export)


def _add_predict(predict: argparse.ArgumentParser) -> None:
    predict.add_argument("--run", required=True, metavar="KEY", help="the first hex digits of its key, or its record")
    predict.add_argument(
        "--on", type=Path, metavar="FILE.csv", help="forecast what follows these rows (default: the test part again)"
    )
    predict.add_argument("--into", type=Path, metavar="FILE", help="write the forecasts here, as .csv or .parquet")
    predict.add_argument(
        "--plot", type=Path, metavar="FILE.png", help="draw look-back and forecast here, as .png, .pdf or .svg"
    )
    predict.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (default: auto)")
    cli.add_results(predict)


def _add_check(check: argparse.ArgumentParser) -> None:
    check.add_argument("model", metavar="MODEL", help="a name, or module:Class of your own, which runs in this process")
    check.add_argument("--suite", default="quick", help="whose settings of the model are tried (default: quick)")
    check.add_argument(
        "--option", type=cli.option, nargs="+", action="extend", default=[], metavar="NAME=VALUE", help="of the model"
    )
    check.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (default: auto)")


def _add_own(own: argparse.ArgumentParser) -> None:
    own.add_argument(
        "file", type=Path, metavar="FILE.csv", help="a header, a column of time stamps, columns of numbers"
    )
    own.add_argument("--name", help="what to call it (default: as the file)")
    several: dict[str, Any] = {"nargs": "+", "action": "extend", "metavar": "COLUMN"}
    own.add_argument(
        "--stamp", **several, help="the time stamps; or date and time of day; or year, month (or quarter), day"
    )
    own.add_argument("--step", help="time between rows, as 15min, 1h, 1D, 1M, 3M, 1B (business day), or pandas' QS, ME")
    own.add_argument("--season", type=positive, metavar="ROWS", help="rows in the main period")
    own.add_argument("--split", nargs=3, type=float, metavar=("TRAIN", "VAL", "TEST"), help="shares, or rows")
    own.add_argument("--horizons", nargs="+", type=positive, metavar="H", help="steps ahead (default: 96 to 720)")
    own.add_argument("--about", help="one sentence; models that read a prompt read it")
    own.add_argument("--long", action="store_true", help="a row for each series and stamp: make each series a channel")
    kept = own.add_mutually_exclusive_group()
    kept.add_argument("--drop", **several, default=[], help="columns (or series) to leave out")
    kept.add_argument("--channels", **several, help="columns to keep; true/false ones become 0 and 1")
    own.add_argument("--fill", choices=["previous", "linear"], help="fill missing rows and cells; the card says so")


def _add_looking(parser: argparse.ArgumentParser) -> None:
    """Add the options of a verb that looks at runs."""
    parser.add_argument("--long", action="store_true", help="list runs (default: count them by model and data set)")
    parser.add_argument("--format", choices=["text", "json"], default="text", help="json has all runs and all digits")
    cli.add_results(parser)


def _add_threads(parser: argparse.ArgumentParser, of: str) -> None:
    text = f"CPU threads of {of} (default: {THREADS})"
    parser.add_argument("--threads", type=positive, metavar="N", default=THREADS, help=text)


def _add_running(parser: argparse.ArgumentParser) -> None:
    """Add the options of a command that runs a grid."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (default: auto)")
    parser.add_argument(
        "--rerun",
        choices=get_args(Rerun),
        default="missing",
        help="runs to do: without a record or failed (default), failed ones alone, or all",
    )
    parser.add_argument(
        "--jobs",
        type=positive,
        metavar="N",
        help="runs at once, at most (default: one for each GPU, else each CPU core)",
    )
    _add_threads(parser, "each run; other numbers give other last digits")
    parser.add_argument("--engine", choices=["local", "ray"], default="local", help="this machine, or a Ray cluster")
    parser.add_argument("--address", help="of the Ray cluster (default: the running one, else one on this machine)")
    parser.add_argument("--shard", type=cli.shard, default=(1, 1), metavar="I/N", help="do part I of N parts, from 1")
    parser.add_argument(
        "--time-budget", type=duration, default=math.inf, metavar="TIME", help="stop in time, as 9m, 2h"
    )
    parser.add_argument("--run-timeout", type=duration, default=math.inf, metavar="TIME", help="of one run, as 9m, 2h")
    parser.add_argument(
        "--keep",
        type=cli.kept,
        default=(),
        metavar="WHAT",
        help="keep forecasts, weights, or forecasts,weights beside each record; done runs without them are done again",
    )
    parser.add_argument("--offline", type=Path, metavar="DIR", help="read everything from this bundle of fetch --into")
    cli.add_results(parser)


def _list(arguments: argparse.Namespace) -> int:
    from bench.core.store import Store
    from bench.overview import listings

    for title, (headers, *rows) in listings(Store(arguments.results)).items():
        print(title, cli.words_table(rows, headers), "", sep="\n")
    return cli.DONE


def _planned(arguments: argparse.Namespace) -> list[PlannedRun]:
    """Return the runs that the command line names; say which language model they read."""
    from bench.plan.suite import entries

    return entries(*_chosen(arguments))


def _chosen(arguments: argparse.Namespace) -> tuple[Suite, Filters]:
    """Return the suite and the filters with their language model; say which one."""
    from bench.core.store import Store
    from bench.plan.language_model import choose
    from bench.plan.suite import left_out, load_suite

    suite = load_suite(arguments.suite)
    filters, line = choose(suite, cli.filters_of(arguments), Store(arguments.results))
    if getattr(arguments, "format", "text") == "text":
        print(*(f"{each}\n" for each in (line, left_out(suite, filters)) if each), sep="", end="")
    return suite, filters


@uncollected()
def _plan(arguments: argparse.Namespace) -> int:
    from bench.core.store import Store
    from bench.overview import counts, one_cell, plan_rows, plan_summary

    store = Store(arguments.results)
    planned = _planned(arguments)
    if arguments.measure:
        from bench.train.measure import measure

        with cli.console(stderr=True).status("timing a few steps of each run whose time is not known"):
            rows, remaining = plan_rows(planned, store, measure)
    else:
        rows, remaining = plan_rows(planned, store)
    if arguments.format == "json":
        print(json.dumps(rows, indent=1))
    elif arguments.long or one_cell(planned):
        print(cli.words_table([[*row.values()] for row in rows], [*rows[0]]), "", plan_summary(remaining), sep="\n")
    else:
        print(cli.counts_table(*counts(planned, remaining.states)), "", sep="\n")
        print(*(f"{row['task']} {row['model']}: {row['by']}\n" for row in rows if ":" in row["by"]), sep="", end="")
        print(plan_summary(remaining))
    return cli.DONE


def _fetch(arguments: argparse.Namespace) -> int:
    """Fetch what can be fetched; each thing that cannot is a line on stderr, and makes the exit code 2."""
    from bench.core.card import cards
    from bench.core.spec import weights_of
    from bench.data.fetch import fetch_data, fetch_weights
    from bench.plan.suite import entries, load_suite

    # Without --backbone, the suite's own: after that, it is here for every other verb.
    specs = [entry.spec for entry in entries(load_suite(arguments.suite), cli.filters_of(arguments))]
    if arguments.into:
        from bench.data.bundle import make_bundle

        print("\n".join(make_bundle(specs, arguments.into)))
        return cli.DONE
    datasets = dict.fromkeys(name for spec in specs for name in spec.task.datasets)
    weights = {each.name: each for each in weights_of(specs)}
    code = cli.DONE
    for name in (*datasets, *weights):
        try:
            print(fetch_data(cards()[name]) if name in datasets else fetch_weights(weights[name]))
        except BenchError as error:
            print(error, file=sys.stderr)
            code = cli.UNUSABLE
    return code


def _run(arguments: argparse.Namespace) -> int:
    from bench.plan.suite import entries

    suite, filters = _chosen(arguments)
    planned = entries(suite, filters)
    orders = _orders(arguments, suite)
    if arguments.dry_run:
        return _dry_run(arguments, planned, orders)
    tally = _run_all(arguments, planned, orders)
    return cli.INCOMPLETE if tally.failed or tally.remaining else cli.DONE


def _orders(arguments: argparse.Namespace, suite: Suite) -> Orders:
    """Return what the options and the suite ask for. Raises BenchError for options that do not go together."""
    from bench.grid.driver import Orders

    keep = tuple(dict.fromkeys((*suite.keep, *arguments.keep)))
    if keep and arguments.engine == "ray":
        remedy = "drop --keep, or the suite's key keep" if arguments.keep else f"take keep out of suite {suite.name}"
        raise BenchError(f"--engine ray keeps no {keep[0]}: its nodes share no directory. Do: {remedy}")
    return Orders(arguments.rerun, arguments.shard, arguments.run_timeout, arguments.time_budget, arguments.debug, keep)


def _dry_run(arguments: argparse.Namespace, planned: list[PlannedRun], orders: Orders) -> int:
    """Print the runs that would be done, in their order, and the time that they need."""
    from bench.core.store import Store
    from bench.grid.driver import in_shard, selected
    from bench.overview import plan_rows, plan_summary

    store = Store(arguments.results)
    mine = in_shard({entry.spec.key: entry for entry in planned}, arguments.shard)
    chosen, _, again = selected(mine, store, orders)
    todo = [*chosen.values()]
    print("\n".join(f"{entry.label:<40} {store.root / entry.spec.path}" for entry in todo))
    print("".join(f"{line}\n" for line in again), end="")
    left = plan_rows(todo, store, threads=arguments.threads)[1]
    print(plan_summary(left, arguments.jobs, arguments.threads) if todo else "nothing is left to do")
    return cli.DONE


def _run_all(arguments: argparse.Namespace, planned: list[PlannedRun], orders: Orders) -> Tally:
    """Do the planned runs that the options ask for; print and return how they ended."""
    from bench.core.store import Store
    from bench.grid.driver import run_grid

    if arguments.offline:
        from bench.data.bundle import use_bundle

        use_bundle(arguments.offline, [entry.spec for entry in planned])
    if arguments.address and arguments.engine != "ray":
        raise BenchError("--address needs --engine ray. Do: add --engine ray, or drop --address")
    tally = run_grid(planned, Store(arguments.results), orders, lambda: _engine(arguments), cli.console())
    left = f", {tally.remaining} left" if tally.remaining else ""
    ended = f"{tally.done} runs done, {tally.failed} failed, {tally.earlier} done before{left}"
    print(f"{ended}; results in {arguments.results}")
    return tally


def _tune(arguments: argparse.Namespace) -> int:
    """Choose only when every trial has ended; one that failed (diverged) is never chosen."""
    from bench.analysis.results import Results
    from bench.analysis.tuning import search_rows, searched
    from bench.core.store import Store
    from bench.plan.suite import entries, suite_path
    from bench.plan.tuning import write_searches

    suite, filters = _chosen(arguments)
    if not suite.variant:
        raise BenchError(f"suite {suite.name}: has no trials to choose among. Do: name one with a [[variant]] for each")
    planned = entries(suite, filters)
    _run_all(arguments, planned, _orders(arguments, suite))
    results = Results.read(planned, Store(arguments.results))
    if missing := sum(result is None for _, result in results.runs):
        print(f"{missing} trials are missing, and nothing is chosen yet: start it again, it goes on")
        return cli.INCOMPLETE
    found = searched(suite, results)
    headers, rows = search_rows(found)
    print(cli.words_table(rows, headers))
    chosen = tuple(search for search in found if search.chosen.score < math.inf)
    if nothing := ", ".join(f"{each.model} on {each.dataset}" for each in found if each not in chosen):
        print(f"nothing is chosen, since no trial has a score: {nothing}", file=sys.stderr)
    if chosen:
        print(f"validation scores; *: chosen, written to {write_searches(suite_path(arguments.suite), chosen)}")
    return cli.INCOMPLETE if nothing else cli.DONE


def _engine(arguments: argparse.Namespace) -> Engine:
    if arguments.engine == "ray":
        from bench.grid.cluster import Cluster

        return Cluster(arguments.address, arguments.device, arguments.jobs, arguments.threads)
    from bench.grid.local import Workers

    return Workers(arguments.device, arguments.jobs, arguments.threads)


def _perf(arguments: argparse.Namespace) -> int:
    if arguments.json:
        cli.require_file(f"--json {arguments.json}", arguments.json)
    if arguments.records:
        from bench.perf.grids import perf_records, records_text

        usual = _parser().parse_args(["perf", "--records", "1"])
        usual.records, usual.json, usual.debug = arguments.records, arguments.json, arguments.debug
        if arguments != usual:
            raise BenchError("--records: trains nothing and takes no option but --json. Do: leave the others out")
        measured = perf_records(arguments.records)
        print(records_text(measured))
    else:
        from bench.perf.measure import perf, perf_specs, perf_text

        specs = perf_specs(arguments.suite, cli.filters_of(arguments), arguments.batch)
        plain, console = not arguments.no_plain, cli.console(stderr=True)
        measured = perf(specs, arguments.device, arguments.threads, plain, arguments.rounds, console)
        print(perf_text(measured))
    if arguments.json:
        arguments.json.write_text(json.dumps(measured, indent=1) + "\n")
    return cli.DONE


def _predict(arguments: argparse.Namespace) -> int:
    """Forecast a user's own rows, or the test part again; return 1 if that gives other errors than the record's."""
    from bench.core.kept import find_run
    from bench.core.store import Store

    cli.require_results(arguments.results)
    for option, suffixes in (("into", cli.TABLES), ("plot", (".png", ".pdf", ".svg"))):
        if path := getattr(arguments, option):
            cli.require_file(f"--{option} {path}", path, suffixes)
            if arguments.on and path.resolve() == arguments.on.resolve():
                raise BenchError(f"--{option} {path}: is the file of --on. Do: name another one")
    store, result = find_run(Store(arguments.results), arguments.run)
    if arguments.on:
        return _predict_rows(arguments, store, result)
    return _predict_test(arguments, store, result)


def _predict_rows(arguments: argparse.Namespace, store: Store, result: RunResult) -> int:
    """Forecast the rows after those of a user's file."""
    from bench.train.predict import forecast_after

    rows, forecast = forecast_after(store, result, arguments.on, arguments.device)
    task = result.spec.task
    title = f"{result.spec.model} {task.dataset}: {task.horizon} steps after {rows.index[-1]}"
    if arguments.into:
        print(title, cli.write_table(arguments.into, forecast.reset_index()), sep="\n")
    else:
        forecast.rename(columns=harmless).to_csv(sys.stdout)
    if arguments.plot:
        from bench.report.figures.predicted import plot_forecast

        plot_forecast(arguments.plot, title, rows.iloc[-task.context :], forecast, rows.iloc[:0])
        print(f"wrote {arguments.plot}", file=sys.stdout if arguments.into else sys.stderr)
    return cli.DONE


def _predict_test(arguments: argparse.Namespace, store: Store, result: RunResult) -> int:
    """Forecast the test part again, and compare its errors with the record's."""
    from bench.core.card import cards
    from bench.train.predict import SAME, forecast_table, score_again, window_of

    again = score_again(store, result, arguments.device, wanted=bool(arguments.into or arguments.plot))
    for each in again.evaluations:
        verdict = f"NOT the record's to {SAME:g}" if each.dataset in again.differ else f"the record's to {SAME:g}"
        print(f"test on {each.dataset}: mse {each.mse:.6f}  mae {each.mae:.6f}  {each.windows} windows: {verdict}")
    if again.differ:
        print(f"The run was on {result.where.device}; another device, or other versions, may round otherwise.")
    if arguments.into:
        import pandas as pd

        tables = {name: forecast_table(own, cards()[name]) for name, own in again.forecasts.items()}
        table = pd.concat(tables, names=["dataset"]).reset_index(level=0) if len(tables) > 1 else tables.popitem()[1]
        print(cli.write_table(arguments.into, table))
    if arguments.plot:
        from bench.report.figures.predicted import plot_forecast

        name = result.spec.task.dataset
        title = f"{result.spec.model} {name}: the middle window of the test part"
        plot_forecast(arguments.plot, title, *window_of(again.forecasts[name], result.spec.task.context))
        print(f"wrote {arguments.plot}")
    return cli.INCOMPLETE if again.differ else cli.DONE


def _check(arguments: argparse.Namespace) -> int:
    from bench.plan.suite import Filters, entries, load_suite

    first, *_ = entries(load_suite(arguments.suite), Filters(models=(arguments.model,)))
    from bench.train.conformance import checked

    failed = 0
    for outcome in checked(first.spec, dict(arguments.option), arguments.device):
        print(outcome, *[outcome.trace] * (arguments.debug and bool(outcome.trace)), sep="\n", flush=True)
        failed += not outcome.passed
    return cli.INCOMPLETE if failed else cli.DONE


def _add_dataset(arguments: argparse.Namespace) -> int:
    from bench.data.add_dataset import Given, add_dataset
    from bench.overview import next_commands

    given = Given(**{name: getattr(arguments, name) for name in Given.__annotations__})
    text, card = add_dataset(arguments.file, given)
    print("\n".join([text, "", *next_commands(card)]))
    return cli.DONE


def _show(arguments: argparse.Namespace) -> int:
    from bench.core.store import Store
    from bench.overview import counts, one_cell, run_text

    store = Store(arguments.results)
    planned = _planned(arguments)
    cli.require_results(arguments.results)
    found = [(entry, store.get(entry.spec), store.root / entry.spec.path) for entry in planned]
    states = {entry.spec.key: result.status if result else "missing" for entry, result, _ in found}
    if arguments.format == "json":
        rows = [
            {"run": entry.label, "path": str(path), "record": result and result.model_dump(mode="json")}
            for entry, result, path in found
        ]
        print(json.dumps(rows, indent=1))
    elif arguments.long or one_cell(planned):
        print("\n".join(run_text(*each) for each in found))
    else:
        print(cli.counts_table(*counts(planned, states)), "", sep="\n")
        print("Of one model, data set and horizon (--models, --datasets, --horizons), or with --long, runs are listed.")
    return cli.DONE if set(states.values()) == {"done"} else cli.INCOMPLETE


def _export(arguments: argparse.Namespace) -> int:
    """Write the frame of `bench.load_records`; return 1 if a record cannot be used, as a report does."""
    from bench.analysis.records import recorded
    from bench.core.reading import summary_of
    from bench.core.store import Store

    cli.require_file(str(arguments.file), arguments.file, cli.TABLES)
    cli.require_results(arguments.results)
    frame, unusable = recorded(Store(arguments.results), cli.filters_of(arguments), arguments.suite)
    print(cli.write_table(arguments.file, frame))
    if unusable:
        print(summary_of(unusable), file=sys.stderr)
    return cli.INCOMPLETE if unusable else cli.DONE


if __name__ == "__main__":
    sys.exit(main())
