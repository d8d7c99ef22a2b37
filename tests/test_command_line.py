"""The command line in itself: one rule for the language model, help, hints, widths, and what a dry run does."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import __main__ as verbs
from bench.core.store import Store
from bench.grid.driver import Tally
from bench.plan import language_model
from bench.plan.suite import Filters, entries, load_suite
from bench.report import __main__ as report
from tests.builders import in_process, record

FEW = Filters(datasets=("ILI",), horizons=(24,), seeds=(2021, 2022))
WORDS = FEW.words.split()
OURS, OTHER = "gpt2", "smollm2-135m"
READS = {
    "plan": ["plan"],
    "show": ["show", "--long"],
    "run": ["run", "--dry-run"],
    "tune": ["tune"],
    "report": ["report", "--table", "main", "--partial"],
}


@pytest.fixture(autouse=True)
def nothing_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No weights on this machine; records go into the folder that is returned."""
    monkeypatch.setattr(language_model, "_is_here", lambda name: False)
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "data"))
    return tmp_path


def recorded(folder: Path, backbone: str, suite: str = "paper", seeds: tuple[int, ...] = (2021,)) -> None:
    for entry in entries(load_suite(suite), FEW.model_copy(update={"backbone": backbone, "seeds": seeds})):
        Store(folder).put(record(*entry))


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return "\n".join(capsys.readouterr())


@pytest.mark.parametrize("verb", READS)
def test_every_verb_chooses_the_language_model_by_one_rule(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = "tune" if verb == "tune" else "paper"
    words = [*READS[verb], "--suite", suite, *WORDS, "--results", tmp_path]
    monkeypatch.setattr(verbs, "_run_all", lambda given, planned, orders: Tally())

    def chosen(*more: str) -> str | None:
        in_process(*words, *more)
        found = re.findall(r"language model: .*\(--backbone (\S+)\): ", said(capsys))
        assert len(found) <= 1, "one line"
        return found[0] if found else None

    assert chosen() == OURS, "nothing is here"
    monkeypatch.setattr(language_model, "_is_here", lambda name: name.startswith(OTHER))
    assert chosen() == OTHER, "its weights are here"
    monkeypatch.setattr(language_model, "_is_here", lambda name: False)
    recorded(tmp_path, OTHER, suite)
    assert chosen() == OTHER, "it has records"
    recorded(tmp_path, OURS, suite)
    assert chosen() == OURS, "the suite's own has records"
    assert chosen("--backbone", OTHER) is None, "it was named"
    assert chosen("--models", "dlinear") is None, "nothing reads one"


def test_every_verb_speaks_of_the_runs_of_the_same_language_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(tmp_path, OTHER)
    words = ["--suite", "paper", *WORDS, "--results", tmp_path]
    assert in_process("plan", *words) == 0
    assert re.search(r"logo_llm +1/2\n", said(capsys))
    assert in_process("show", *words, "--format", "json") == 1
    assert [bool(run["record"]) for run in json.loads(capsys.readouterr().out)] == [True] * 8 + [False] * 8
    assert in_process("run", "--dry-run", *words, "--models", "logo_llm") == 0
    out = said(capsys)
    assert "logo_llm ILI h24 s2022" in out and "logo_llm ILI h24 s2021" not in out


@pytest.mark.parametrize("table", ["main", "claims"])
def test_the_hint_after_an_incomplete_table_is_the_whole_command(
    tmp_path: Path, table: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(tmp_path, OTHER)
    suite = ["--suite", "paper"] if table == "main" else []
    assert in_process("report", "--table", table, *suite, *WORDS, "--results", tmp_path) == 1
    hint = re.search(r" are (?:missing|not tested[^.]*)\. Do: python -m bench (run .*)", capsys.readouterr().err)
    assert hint
    run: list[str] = []
    monkeypatch.setattr(verbs, "_run_all", lambda given, planned, _: run.extend(e.label for e in planned) or Tally())
    assert in_process(*shlex.split(hint[1])) == 0
    assert len(run) == 16 and all("ILI h24 s202" in label for label in run)
    language = ["--backbone", OTHER] if table == "main" else []
    assert shlex.split(hint[1]) == ["run", "--suite", "paper", *WORDS, *language, "--results", str(tmp_path)]


@pytest.mark.parametrize(
    ("width", "words"),
    [
        (50, ["report", "--table", "main", "--partial"]),
        (80, ["report", "--table", "main", "--partial"]),
        (60, ["report", "--table", "main", "--partial", "--metric", "mse"]),
        (80, ["report", "--table", "claims", "--partial"]),
        (80, ["plan", "--long"]),
        (80, ["plan"]),
        (80, ["list"]),
    ],
    ids=str,
)
def test_tables_fit_the_terminal_and_lose_nothing(
    tmp_path: Path, width: int, words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(tmp_path, OTHER)
    suite = ["--suite", "paper"] if "list" not in words else []
    if "plan" in words and "--long" not in words:
        suite += ["--horizons", "96"]
    elif suite:
        suite += WORDS

    def table() -> str:
        in_process(*words, *suite, "--results", tmp_path)
        lines = capsys.readouterr().out.splitlines()
        return "\n".join(line for line in lines if not re.match(r"language model:|left:|\d+ runs:", line))

    full = table()
    monkeypatch.setenv("COLUMNS", str(width))
    narrow = table()
    assert max(map(len, full.splitlines())) > width
    assert max(map(len, narrow.splitlines())) <= width
    for number in set(re.findall(r"\d\.\d+[*+]?|\d+/\d+", full)):
        assert narrow.count(number) == full.count(number)


def test_one_metric_is_half_of_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded(tmp_path, OTHER, seeds=(2021, 2022))
    words = ["--table", "main", "--suite", "paper", *WORDS, "--results", tmp_path, "--format", "json"]

    def row(*more: str) -> list[float]:
        assert in_process("report", *words, *more) == 0
        return json.loads(capsys.readouterr().out)["rows"]["ILI"]

    assert (row("--metric", "mse"), row("--metric", "mae")) == (row()[::2], row()[1::2])


def parsers() -> Iterator[argparse.ArgumentParser]:
    whole = verbs._parser()
    yield whole
    yield report._parser()
    for action in whole._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


def test_every_option_has_a_help_text_and_every_verb_two_examples_that_can_be_typed() -> None:
    for parser in parsers():
        for action in parser._actions:
            assert action.help or isinstance(action, argparse._SubParsersAction), (parser.prog, action.dest)
        if parser.prog == "python -m bench":
            continue
        examples = [line for line in parser.format_help().splitlines() if line.startswith("  python -m bench")]
        assert len(examples) == (1 if parser.prog.endswith(" list") else 2)
        for example in examples:
            program, *words = shlex.split(example)[2:]
            (report._parser() if program == "bench.report" else verbs._parser()).parse_args(words)


def test_without_a_verb_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert verbs.main([]) == 0
    assert capsys.readouterr().out.startswith("usage: python -m bench")


def test_a_dry_run_names_the_runs_in_their_order_and_does_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(tmp_path / "results", OTHER)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    words = ["run", "--dry-run", "--suite", "paper", *WORDS, "--results", tmp_path / "results"]
    assert in_process(*words) == 0
    named = re.findall(r"^(\S+ ILI h24 s\d+) ", capsys.readouterr().out, re.MULTILINE)
    todo = [e.label for e in entries(load_suite("paper"), FEW.model_copy(update={"backbone": OTHER}))]
    assert named == [label for label in todo if label.endswith("s2022")]
    assert in_process(*words, "--rerun", "all", "--shard", "1/2") == 0
    assert len(re.findall(r" ILI h24 s\d+ ", capsys.readouterr().out)) == 8
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    "words", [["show"], ["report", "--table", "main"], ["report", "--table", "claims"], ["report"]]
)
def test_readers_refuse_a_results_directory_that_is_not_there(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert in_process(*words, "--results", tmp_path / "absent") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path}/absent: there is no such directory. Do: " in line
    assert not (tmp_path / "absent").exists()
