"""A whole report from a directory of records: every file, from the command line, without torch; holes stay holes."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest
from markupsafe import escape

from bench.core.store import Store
from bench.plan.suite import Filters, PlannedRun, entries, load_suite
from bench.report import __main__ as report
from bench.report import write as reporter
from bench.report.render import SUFFIX
from tests.builders import command_in, failure, in_process, record

FEW = Filters(
    models=("logo_llm", "patchtst", "seasonal_naive"),
    datasets=("ETTh1", "ILI"),
    horizons=(96, 192, 24, 36),
    seeds=(2021, 2022),
    backbone="smollm2-135m",
)
WORDS = [str(word) for name, values in FEW if values and name != "backbone" for word in (f"--{name}", *values)]
SMALL = ("--models", "logo_llm", "--datasets", "ILI", "--horizons", 24)
"""Narrows a report of which only the place matters: it has fewer and smaller figures."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_figure: None) -> Path:
    """Reports go below it, with one figure of each: `made` has all."""
    monkeypatch.setattr(reporter, "REPORTS", tmp_path / "reports")
    (tmp_path / "results").mkdir()
    return tmp_path


def records(place: Path, wanted: Callable[[PlannedRun], bool] = lambda entry: True) -> list[Path]:
    store = Store(place / "results")
    return [store.put(record(entry.spec)) for entry in entries(load_suite("paper"), FEW) if wanted(entry)]


def make(place: Path, *words: object) -> int:
    chosen = [*WORDS, "--backbone", "smollm2-135m", "--results", place / "results", *words]
    return report.main(["--suite", "paper", *map(str, chosen)])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return a folder with a whole report, and what was printed as it was made."""
    place = tmp_path_factory.mktemp("made")
    records(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reporter, "REPORTS", place / "reports")
        words = ["report", "--suite", "paper", *WORDS, "--backbone", "smollm2-135m", "--results", place / "results"]
        ended = command_in(place, *words)
    assert ended.returncode == 0, ended.stderr
    return place, ended.stdout


def test_a_report_is_every_table_in_every_form_the_verdicts_the_figures_and_two_pages(made: tuple[Path, str]) -> None:
    place, said = made
    folder = place / "reports" / "paper-part"
    tables = {path.name for path in (folder / "tables").iterdir()}  # none by regime: no record holds channels
    names = ("main", "full", "seeds", "ranks", "published", "claims", "claims_added")
    assert tables == {f"{name}.{suffix}" for name in names for suffix in SUFFIX.values()}
    figures = {path.name for path in (folder / "figures").iterdir()}
    assert {name.partition(".")[2] for name in figures} == {"svg", "pdf", "png"}
    page, text = (folder / "index.html").read_text(), (folder / "report.md").read_text()
    for name in {name.partition(".")[0] for name in figures}:
        assert f"(figures/{name}.png)" in text
    claims = json.loads((folder / "tables" / "claims.json").read_text())["claims"]
    assert all(claim["claim"] in text for claim in claims)
    assert f"--suite paper --models {' '.join(FEW.models or ())}" in page, "what narrows it is said"
    assert "Test CPU" in page
    assert "Test CPU" in text
    assert "The paper's claims: holds:" in said
    pages = [folder / "index.html", folder / "report.md", place / "reports" / "index.html"]
    assert said.endswith("".join(f"wrote {each}\n" for each in pages))
    for link in re.findall(r'href="((?:tables|figures|\.\.)/[^"#]*)"', page):
        assert (folder / unquote(link)).exists(), link


def test_reports_link_each_other_and_an_index_lists_them_and_leaves_what_is_not_ours(place: Path) -> None:
    records(place)
    other = place / "reports" / "other" / "index.html"
    other.parent.mkdir(parents=True)
    other.write_text("<title>A page of somebody's</title>", encoding="utf-8")
    make(place, *SMALL)
    words = ["--suite", "few_shot", "--partial", *SMALL, "--results", place / "results"]
    assert report.main([*map(str, words)]) == 0
    make(place, *SMALL)
    index = (place / "reports" / "index.html").read_text()
    for name in ("paper", "few_shot"):
        suite = load_suite(name)
        assert f'<a href="{name}-part/index.html">{escape(suite.question)}</a>' in index
    assert "somebody" not in index
    assert "Of the paper&#39;s 18 claims" in index
    assert " done" in index
    page = (place / "reports" / "paper-part" / "index.html").read_text()
    assert 'href="../few_shot-part/index.html"' in page
    assert 'href="../index.html"' in page
    assert 'href="../other/' not in page
    for link in re.findall(r'href="([^"#]*)"', index):
        assert link == "data:," or (place / "reports" / link).exists()


def test_an_index_that_is_not_ours_is_left_alone(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records(place)
    index = place / "reports" / "index.html"
    index.parent.mkdir()
    index.write_text("mine", encoding="utf-8")
    make(place, *SMALL)
    assert index.read_text() == "mine"
    assert str(index) not in capsys.readouterr().out


def test_missing_failed_and_foreign_runs_are_holes_with_their_reason_in_every_part(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = records(place, lambda entry: entry.label != "patchtst ETTh1 h96 s2021")
    failed, foreign = (
        next(path for path in paths if word in str(path)) for word in ("ILI/h24/patchtst", "ILI/h36/logo")
    )
    failed.write_text(json.dumps(json.loads(failed.read_text()) | failure("RuntimeError: <b>boom</b>")))
    other = json.loads(foreign.read_text())
    other["where"]["data_sha256"]["ILI"] = "0" * 64
    foreign.write_text(json.dumps(other))
    assert make(place) == 1
    out, complaint = capsys.readouterr()
    assert f"1 recorded runs cannot be used; the first: {foreign}" in complaint
    folder = place / "reports" / "paper-part"
    page, text = (folder / "index.html").read_text(), (folder / "report.md").read_text()
    for reason in ("RuntimeError", "its data of ILI have SHA-256", "not run"):
        assert reason in out
        assert reason in text
        assert reason in page
    assert "<b>boom</b>" not in page
    with (folder / "tables" / "main.csv").open() as file:
        rows = {row["row"]: row for row in csv.DictReader(file)}
    assert rows["ETTh1"]["patchtst_mse"] == rows["ILI"]["patchtst_mse"] == rows["ILI"]["logo_llm_mse"] == ""
    assert rows["ETTh1"]["logo_llm_mse"] != ""
    claims = {claim["id"]: claim for claim in json.loads((folder / "tables" / "claims.json").read_text())["claims"]}
    assert claims["value_ili"]["verdict"] == "not tested"
    assert "refused (its data of ILI" in claims["value_ili"]["missing"]


def test_a_process_without_torch_makes_the_same_report_byte_for_byte_and_leaves_nothing_of_an_earlier_one(
    made: tuple[Path, str],
) -> None:
    place, _ = made
    folder = place / "reports" / "paper-part"
    first = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (folder / "tables" / "gone.txt").write_text("of an older suite")
    without = (
        "import sys, importlib.abc\n"
        "class No(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('torch', 'transformers', 'ray'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, No())\n"
        "from pathlib import Path\n"
        "from bench.report import __main__ as report, write\n"
        "write.REPORTS = Path(sys.argv.pop(1))\n"
        "sys.exit(report.main(sys.argv[1:]))\n"
    )
    words = ["--suite", "paper", *WORDS, "--backbone", "smollm2-135m", "--results", place / "results"]
    ended = subprocess.run(
        [sys.executable, "-c", without, place / "reports", *words], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    again = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert first.keys() == again.keys()
    assert [path.name for path in first if first[path] != again[path]] == []


def test_a_suite_without_claims_has_no_verdicts_and_says_nothing_of_them(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--suite", "quick", "--results", place / "results", "--partial"]
    assert report.main([*map(str, words)]) == 0
    assert "Claims of the paper" not in capsys.readouterr().out
    assert not (place / "reports" / "quick" / "tables" / "claims.txt").exists()


def test_a_folder_that_cannot_be_written_is_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "reports").write_text("a file")
    assert make(place) == 2
    line = capsys.readouterr().err
    assert re.fullmatch(r"python -m bench\.report: .*reports/paper-part: cannot be written: .*\n", line)


def test_planned_cells_without_a_result_are_an_exit_code_of_1_whatever_the_table_leaves_out(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`ranks` leaves incomplete data sets out, `published` what nobody printed."""
    records(place, lambda entry: "ILI" not in entry.label)
    assert make(place, "--table", "ranks") == 1
    assert "12 of 24 planned runs are missing. Do: python -m bench run --suite paper " in capsys.readouterr().err
    narrowed = ("--models", "seasonal_naive", "--datasets", "ILI", "--horizons", 24)
    assert make(place, "--table", "published", *narrowed) == 1


def test_a_table_says_which_filters_narrow_it(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records(place)
    assert make(place, "--table", "main", "--horizons", 96, "--datasets", "ETTh1") == 0
    assert "--datasets ETTh1 --horizons 96" in " ".join(capsys.readouterr().out.split())


def test_a_failed_run_of_the_suites_own_language_model_hides_no_results_of_another(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records(place)
    store = Store(place / "results")
    one = entries(load_suite("paper"), FEW.model_copy(update={"backbone": "gpt2"}))[0]
    words = ["--suite", "paper", "--results", str(place / "results"), *WORDS]
    store.put(record(one.spec).model_copy(update=failure("OSError: no disk")))
    assert report.main([*words, "--table", "main"]) == 0
    assert "SmolLM2" in capsys.readouterr().out
    store.put(record(one.spec))
    assert report.main([*words, "--models", "logo_llm"]) == 1
    out, complaint = capsys.readouterr()
    assert "GPT-2, pretrained" in out
    assert "records of other language models are left out: smollm2-135m (8 runs). Do: --backbone NAME" in complaint


def test_a_report_goes_where_it_is_told_and_says_where_its_records_are(place: Path) -> None:
    records(place)
    assert make(place, *SMALL, "--into", place / "mine") == 0
    assert not (place / "reports").exists()
    page = (place / "mine" / "index.html").read_text()
    assert f"--results {place / 'results'} --into {place / 'mine'}</code>" in page


@pytest.mark.parametrize("name", ["index.html", "report.md", "tables/mine.csv", "figures/mine.png", "page-runs/0.js"])
def test_a_folder_with_other_files_in_a_reports_places_is_refused(
    name: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records(place)
    mine = place / "mine" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assert make(place, *SMALL, "--into", place / "mine") == 2
    first = name.partition("/")[0]
    assert f"{first} there is not of a report, which would replace it. Do: choose another" in capsys.readouterr().err
    assert mine.read_text() == "mine"


def test_a_report_that_was_broken_off_is_written_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records(place)
    with monkeypatch.context() as patched:
        patched.setattr("bench.report.write.shelved", lambda *_: 1 / 0)
        patched.setattr("bench.report.write.answer", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            make(place, *SMALL, "--into", place / "mine")
    assert (place / "mine" / "tables" / "main.csv").exists()
    assert make(place, *SMALL, "--into", place / "mine") == 0
    assert "being written" not in (place / "mine" / "index.html").read_text()


def test_what_a_failed_run_said_is_no_html_in_markdown(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = records(place, lambda entry: entry.label == "patchtst ETTh1 h96 s2021")
    path.write_text(json.dumps(json.loads(path.read_text()) | failure("RuntimeError: <b>boom</b> | a & b")))
    assert make(place, "--table", "main", "--format", "md", "--models", "patchtst", "--partial") == 0
    said = capsys.readouterr().out
    assert r"&lt;b>boom&lt;/b> \| a &amp; b" in said


def test_what_is_no_file_in_a_records_place_is_a_hole_in_a_report_and_stops_a_plan(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = records(place)
    pipe, folder = (next(path for path in paths if word in str(path)) for word in ("ILI/h24/patchtst", "ILI/h36/logo"))
    for path in (pipe, folder):
        path.unlink()
    os.mkfifo(pipe)
    folder.mkdir()
    assert make(place, "--datasets", "ILI", "--horizons", 24, 36) == 1
    out, complaint = capsys.readouterr()
    assert "2 recorded runs cannot be used" in complaint and "Do: move it away and run again" in complaint
    assert out.count("refused (cannot be read: it is not a regular file)") >= 2
    assert in_process("plan", "--suite", "paper", *FEW.words.split(), "--results", place / "results") == 2
    assert capsys.readouterr().err.count("is not a regular file") == 1
