"""`python -m bench VERB`: list, plan, fetch, run, show. Each verb imports what it needs when it is called."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.cli import DONE, INCOMPLETE, UNUSABLE, Parser, add_filters, add_results, filters_of, guarded, positive


def main(words: list[str] | None = None) -> int:
    return guarded(_parser(), words, lambda arguments: int(arguments.verb(arguments)))


def _parser() -> argparse.ArgumentParser:
    parser = Parser("python -m bench", description="Logo-LLM and its baselines: plan, fetch, run and look at runs.")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, action: object, text: str, *, suite: str | None = "quick") -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text)
        sub.set_defaults(verb=action)
        if suite:
            sub.add_argument("--suite", default=suite, help=f"name, or the path of a TOML file (default: {suite})")
            add_filters(sub)
        add_results(sub)
        return sub

    verb("list", _list, "models, data sets and suites, and what is ready on this machine", suite=None)
    verb("plan", _plan, "the runs of a suite: done, failed, missing")
    verb("fetch", _fetch, "bring data and backbones here, verified")
    run = verb("run", _run, "train and test what is missing")
    run.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (default: auto)")
    run.add_argument("--rerun", choices=["missing", "failed", "all"], default="missing")
    perf = verb("perf", _perf, "time training beside a plain PyTorch loop and the hardware's limit", suite="efficiency")
    perf.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (default: auto)")
    perf.add_argument("--batch", type=positive, help="windows per step, for every model (default: each model's own)")
    perf.add_argument("--rounds", type=positive, default=7, help="turns of each loop (default: 7)")
    perf.add_argument(
        "--no-plain", action="store_true", help="leave the plain loop out: wide data need much memory there"
    )
    perf.add_argument("--json", type=Path, metavar="FILE", help="write everything measured here too")
    verb("show", _show, "the runs behind a cell: metrics, curve, settings, provenance")
    return parser


def _list(arguments: argparse.Namespace) -> int:
    from tabulate import tabulate

    from bench.overview import backbone_rows, dataset_rows, model_rows, suite_rows

    for title, rows in (
        ("Models", model_rows()),
        ("Data sets", dataset_rows()),
        ("Backbones", backbone_rows()),
        ("Suites", suite_rows()),
    ):
        print(title, tabulate(rows, headers="keys", disable_numparse=True), "", sep="\n")
    return DONE


def _plan(arguments: argparse.Namespace) -> int:
    from tabulate import tabulate

    from bench.overview import plan_rows
    from bench.store import Store
    from bench.suite import entries, load_suite

    planned = entries(load_suite(arguments.suite), filters_of(arguments))
    rows, counts = plan_rows(planned, Store(arguments.results))
    print(tabulate(rows, headers="keys", disable_numparse=True))
    print(f"\n{counts.total()} runs: {counts['done']} done, {counts['failed']} failed, {counts['missing']} missing")
    return DONE


def _fetch(arguments: argparse.Namespace) -> int:
    """Fetch what can be fetched; each thing that cannot is a line on stderr, and makes the exit code 2."""
    from bench.fetch import fetch_backbone, fetch_data
    from bench.series import file_of
    from bench.spec import BenchError
    from bench.suite import cards, load_suite, plan
    from models.pretrained import BackboneError, find

    specs = plan(load_suite(arguments.suite), filters_of(arguments))
    datasets = dict.fromkeys(name for spec in specs for name in (spec.task.dataset, *spec.task.test_on))
    backbones = dict.fromkeys(str(spec.options["backbone"]) for spec in specs if "backbone" in spec.options)
    code = DONE
    for name in (*datasets, *backbones):
        try:
            print(fetch_data(cards()[name], file_of(cards()[name])) if name in datasets else fetch_backbone(find(name)))
        except (BenchError, BackboneError) as error:
            print(error, file=sys.stderr)
            code = UNUSABLE
    return code


def _run(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from bench.machine import pick_device
    from bench.pool import run_all
    from bench.store import Store
    from bench.suite import entries, load_suite

    planned = entries(load_suite(arguments.suite), filters_of(arguments))
    device = pick_device(arguments.device)
    tally = run_all(planned, Store(arguments.results), device, arguments.rerun, Console())
    print(
        f"{tally.done} runs done on {device}, {tally.failed} failed, {tally.kept} kept; results in {arguments.results}"
    )
    return INCOMPLETE if tally.failed else DONE


def _perf(arguments: argparse.Namespace) -> int:
    import json

    from rich.console import Console

    from bench.perf import perf, perf_specs, perf_text
    from bench.spec import BenchError

    specs = perf_specs(arguments.suite, filters_of(arguments), arguments.batch)
    if arguments.json and not arguments.json.absolute().parent.is_dir():  # said before minutes are spent
        raise BenchError(f"--json {arguments.json}: its folder does not exist; make it first")
    measured = perf(specs, arguments.device, not arguments.no_plain, arguments.rounds, Console(stderr=True))
    print(perf_text(measured))
    if arguments.json:
        arguments.json.write_text(json.dumps(measured, indent=1) + "\n")
    return DONE


def _show(arguments: argparse.Namespace) -> int:
    from bench.overview import run_text
    from bench.store import Store
    from bench.suite import entries, load_suite

    store = Store(arguments.results)
    missing = 0
    for entry in entries(load_suite(arguments.suite), filters_of(arguments)):
        result = store.get(entry.spec)
        missing += result is None or result.status == "failed"
        print(run_text(entry, result, store.root / entry.spec.path))
    return INCOMPLETE if missing else DONE


if __name__ == "__main__":
    sys.exit(main())
