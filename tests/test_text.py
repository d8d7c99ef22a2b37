"""Text from outside cannot act: not on a terminal, in a page, a table, a spreadsheet, a figure or a document."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import unicodedata
import xml.etree.ElementTree
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.cli import Parser, guarded
from bench.core.base import ROOT
from bench.core.store import Store
from bench.core.text import Output, printable
from bench.plan.suite import Filters, entries, load_suite
from bench.report.render import SUFFIX, render
from bench.report.sheet import Entry, Sheet
from tests.builders import failure, in_process, record

EVIL = (
    "\x1b[31mred\x1b]0;title\x07 \u202eforth \x9b2J \x00 <script>alert(1)</script> ](javascript:x) | __a__ "
    "\\input{x} $x^$"
)


@given(st.text())
def test_what_is_printed_is_seen_and_seen_text_is_not_changed(text: str) -> None:
    shown = printable(text)
    assert all(unicodedata.category(each) == "Zs" or each.isprintable() for each in shown)
    assert printable(shown) == shown
    assert not text.isprintable() or shown == text


def test_a_character_that_is_not_seen_is_written_by_its_number() -> None:
    assert printable("a\x1b[0m\u202eb\U000e0001") == "a\\u001b[0m\\u202eb\\U000e0001"
    assert printable("1\u00a0000 ± é 時") == "1\u00a0000 ± é 時"
    assert printable("a\nb", keep="\n") == "a\nb"


def test_a_path_that_the_locale_could_not_decode_is_shown_as_the_file_system_has_it() -> None:
    assert printable("é/x".encode().decode("ascii", "surrogateescape")) == "é/x"
    assert printable(b"\xff/x".decode("ascii", "surrogateescape")) == "\\udcff/x"


def test_a_stream_that_cannot_write_a_letter_writes_its_number() -> None:
    buffer = io.BytesIO()
    stream = Output(io.TextIOWrapper(buffer, encoding="ascii", write_through=True))
    print("±\x1b", file=stream, flush=True)  # type: ignore[call-overload]
    assert buffer.getvalue() == b"\\xb1\\u001b\n"


def sheet(text: str) -> Sheet:
    rows = [[Entry(text), Entry(text, "best", note=1)]]
    return Sheet(
        "evil", text, ("", text), rows, text, [text], [(text, 1, 1)], marked=True, lines=[["row", text], [text, 1.5]],
        content={"title": text, "rows": {text: [1.5]}},
    )  # fmt: skip


@pytest.mark.parametrize("form", SUFFIX)
def test_no_format_of_a_table_lets_a_text_act(form: str) -> None:
    made = render(sheet(EVIL), form)
    assert all(each in "\n" or each.isprintable() for each in made)
    if form == "md":
        assert "<script" not in made and "](" not in made and "__a__" not in made.replace("\\_", "")
        assert all(line.count("|") - line.count("\\|") == 3 for line in made.splitlines() if line.startswith("|"))
    if form == "latex":
        assert "\\input" not in made and "\\textbackslash{}input\\{x\\}" in made
    if form == "json":
        assert json.loads(made)["title"].startswith("\\u001b[31mred")


@pytest.mark.parametrize("text", ["=1+1", "+1-2", "-2+3|cmd", "@SUM(A1)", "-2.2 % (ratio)", "\t=1"])
def test_a_spreadsheet_gets_no_formula(text: str) -> None:
    (_, name), (label, number) = csv.reader(io.StringIO(render(sheet(text), "csv")))
    assert name[0] not in "=+-@" and label[0] not in "=+-@"
    assert name.lstrip("'") == label.lstrip("'") == printable(text)
    assert float(number) == 1.5


@pytest.mark.parametrize("text", ["+1.7 %", "-0.5", "+1,234", "plain", ""])
def test_numbers_with_a_sign_stay_as_they_are_in_a_spreadsheet(text: str) -> None:
    assert next(csv.reader(io.StringIO(render(sheet(text), "csv"))))[1] == text


class Tags(HTMLParser):
    """Collects scripts and texts."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts, self.texts = 0, ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.scripts += tag == "script"

    def handle_data(self, data: str) -> None:
        self.texts += data


@pytest.mark.parametrize("name", ["device", "error"])
def test_a_record_cannot_act_anywhere(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filters = Filters(datasets=("ILI",), horizons=(24,), seeds=(2021,), models=("patchtst", "dlinear"))
    words, planned = ["--suite", "paper", *filters.words.split()], entries(load_suite("paper"), filters)
    store = Store(tmp_path / "results")
    for entry in planned:
        result = record(entry.spec)
        result = result.model_copy(update={"where": result.where.model_copy(update={"device": EVIL})})
        if name == "error" and entry.spec.model == "dlinear":
            result = result.model_copy(update=failure(EVIL))
        store.put(result)
    failed = int(name == "error")
    assert in_process("show", *words, "--results", store.root) == failed
    assert in_process("plan", *words, "--results", store.root) == 0
    assert in_process("report", *words, "--results", store.root, "--into", tmp_path / "made") == failed
    out, complaint = capsys.readouterr()
    assert all(each in "\n\t" or each.isprintable() for each in out + complaint)
    for path in (tmp_path / "made").rglob("*"):
        if path.suffix in (".html", ".md", ".txt", ".csv", ".json", ".tex"):
            assert all(each in "\n" or each.isprintable() or each == "\u00a0" for each in path.read_text()), path
        elif path.suffix == ".svg":
            xml.etree.ElementTree.parse(path)
    tags = Tags()
    tags.feed((tmp_path / "made" / "index.html").read_text())
    assert tags.scripts == 2, "the page's data, and its own script"
    assert "\\u001b[31mred" in tags.texts


def test_dollars_and_control_characters_in_a_suites_titles_are_drawn_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'base = "ablation"\ntitle = "a\\u001b[31m $x^$"\nabout = "two\\nlines"\ndatasets = ["ILI"]\nhorizons = [24]\n'
        'seeds = [2021]\nmodels = ["logo_llm"]\n[[variant]]\ntitle = "plain"\n[[variant]]\ntitle = "\\u001b $x^$ $"\n'
        "options = { local_tap = 2 }\n"
    )
    suite = load_suite(str(tmp_path / "mine.toml"))
    assert (suite.title, suite.about) == ("a\\u001b[31m $x^$", "two lines")
    store = Store(tmp_path / "results")
    for entry in entries(suite):
        store.put(record(entry.spec, entry.variant))
    words = ["--suite", tmp_path / "mine.toml", "--results", store.root, "--into", tmp_path / "made"]
    assert in_process("report", *words) == 0
    drawn = [xml.etree.ElementTree.parse(path) for path in (tmp_path / "made").rglob("*.svg")]
    assert any("$x^$ $" in "".join(each.getroot().itertext()) for each in drawn)


@pytest.mark.parametrize("words", ["bench list", "bench plan --suite quick", "bench.report --table main --partial"])
def test_a_reader_that_closes_the_pipe_changes_no_exit_code(words: str, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", *words.split()]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, check=False, cwd=tmp_path, env=environment, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr and b"Exception" not in done.stderr


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_stream_that_the_shell_has_closed_changes_no_exit_code(closed: str, tmp_path: Path) -> None:
    shell = f'"{sys.executable}" -m bench.report --table main --suite quick {"1" if closed == "stdout" else "2"}>&-'
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    words = {"cwd": tmp_path, "env": environment, "capture_output": True}
    done = subprocess.run(["sh", "-c", f"{shell} --results {tmp_path}"], check=False, **words)
    assert (done.returncode, b"Traceback" in done.stderr) == (1, False)


def test_a_report_is_written_where_the_locale_knows_no_letters(tmp_path: Path) -> None:
    """Python 3.11 takes LANG=C for UTF-8 unless it is told not to."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0",
    }  # fmt: skip
    words = ["--suite", "quick", "--results", "résultats", "--into", "made", "--partial"]
    command = [sys.executable, "-m", "bench.report", *words]
    (tmp_path / "résultats").mkdir()
    done = subprocess.run(command, check=False, cwd=tmp_path, env=environment, capture_output=True)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
    page = (tmp_path / "made" / "index.html").read_text()
    assert "résultats" in page and "udc" not in page
    assert re.search(r'"results":"[^"]*r%C3%A9sultats"', page)


@pytest.mark.parametrize("name", ["SIGHUP", "SIGTERM"])
@pytest.mark.parametrize("ignored", [False, True])
def test_signals_interrupt_once_unless_they_are_ignored(
    name: str, ignored: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """`nohup` ignores SIGHUP for its child."""
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
    after: list[Callable[..., object] | int | None] = []

    def action(arguments: argparse.Namespace) -> int:
        try:
            os.kill(os.getpid(), number)
            return 0
        finally:
            after.append(signal.getsignal(number))

    try:
        assert guarded(Parser("test"), [], action) == (0 if ignored else 130)
        assert after == [signal.SIG_IGN], "a second one does not disturb the end"
        assert signal.getsignal(number) == (signal.SIG_IGN if ignored else signal.SIG_DFL)
    finally:
        signal.signal(number, before)
    assert ("interrupted" in capsys.readouterr().err) is not ignored
