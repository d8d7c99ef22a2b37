"""The page: what it embeds, what it escapes, and how it behaves in a browser (skipped where there is no Chromium)."""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import math
import os
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bench.analysis.claims import Forest, Verdict
from bench.analysis.intervals import Interval
from bench.analysis.results import Results
from bench.analysis.tables import Table
from bench.analysis.verdicts import Judged, load_claims
from bench.cli import add_filters, filters_of
from bench.core.reading import UnusableRecord
from bench.core.record import Epoch
from bench.plan.suite import PlannedRun, entries, load_suite, plan
from bench.report import embedded as embedding
from bench.report.contents import Review, tables_of
from bench.report.figures.catalogue import Picture
from bench.report.forest import forest_plot
from bench.report.methods import Section
from bench.report.page import page
from tests.builders import EXPERIMENTS, experiment, planned, record

RESULTS = "../../results"
DRAWING = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 300 100"><circle cx="50" cy="50" r="40"/></svg>'
HOSTILE = "</script></style><script>alert(1)</script><img src=x onerror=alert(1)>'\"--><!--&lt;"
FIGURES = ("heatmap", "drawing")
ERROR = "RuntimeError: 100% out of memory_"
"""Of the failed run in `planned`."""


def reviewed(drawn: Results, tables: tuple[str, ...] = ("main", "full", "seeds"), said: str = "Plain") -> Review:
    """A review of these runs with one verdict of each kind, a figure and methods; `said` stands wherever text may."""
    suite = load_suite("paper").model_copy(update={"title": said, "about": said, "question": said})
    rows = [_verdict(verdict, drawn, said) for verdict in Verdict]
    made = [table for name in tables for table in tables_of(name, drawn, said)]
    drawings = [Picture(name, said, said, {"svg": DRAWING, "pdf": b"", "png": b""}, said, DRAWING) for name in FIGURES]
    methods = [Section(said, (said,), (said,), ((said,),))]
    return Review(suite, "", drawn, load_claims()[0], rows, made, drawings, methods)


def _verdict(verdict: Verdict, drawn: Results, said: str) -> Judged:
    """On three runs; one that is not tested has none."""
    tested = verdict is not Verdict.UNTESTED
    words = dict.fromkeys(
        ("claim", "short", "source", "scope", "instead", "paper", "interval", "evidence", "missing"), said
    )
    behind = tuple((entry, result) for entry, result in drawn.runs if result)[:3] if tested else ()
    ours = "-15.7 %" if tested else ""
    return Judged(
        id=verdict.name.lower(),
        suite="paper",
        kind="ahead",
        added=False,
        verdict=verdict,
        raw=verdict,
        ours=ours,
        forest=Forest({"": Interval(-15.7, -20.1, -11.3)}, "{:+.1f} %", (-math.inf, 0.0), -8.9) if tested else None,
        runs=behind,
        **words,
    )


def trained(drawn: Results) -> Results:
    """The same runs, each best at the second of three epochs."""
    losses = [Epoch(epoch=i, train_loss=1, val_loss=loss, lr=1, seconds=1) for i, loss in enumerate((0.9, 0.5, 0.7), 1)]
    better = {"curve": tuple(losses), "best_epoch": 2}
    return replace(drawn, runs=[(entry, run and run.model_copy(update=better)) for entry, run in drawn.runs])


class Outline(HTMLParser):
    """Every element of a page with its attributes, and the text in it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        (self.scripts if self.elements and self.elements[-1][0] in ("script", "style") else self.texts).append(data)

    def links(self, name: str) -> list[dict[str, str]]:
        """The attributes of each element that has this one."""
        return [{key: value or "" for key, value in own.items()} for _, own in self.elements if name in own]


def html_of(review: Review, results: str = RESULTS) -> str:
    """The page itself; of these small ones it holds every run."""
    html, files = page(review, results)
    assert not files
    return html


RUN = ("cell", "seed", "state", "why", "file", "date", "errors", "best", "curve", "cost", "where")
CELL = ("title", "folder", "command", "several", "settings")


def embedded_text(html: str) -> str:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found
    return found[1]


def embedded(html: str) -> dict[str, Any]:
    """The data in the page, with each run as page.js unpacks it."""
    data = json.loads(embedded_text(html))
    for number, values in enumerate(data["runs"]):
        run = dict(zip(RUN, values, strict=False))
        cell = dict(zip(CELL, data["cells"][run["cell"]], strict=True))
        settings = {key: each for part in cell["settings"] for key, each in data["settings"][part].items()}
        command = f"{cell['command']} {run['seed']} --rerun all --results again"
        run |= cell | {"settings": settings, "command": command, "path": f"{cell['folder']}/{run['file']}"}
        data["runs"][number] = run
    data["lists"] = [
        [
            number
            for first, count in zip(ranges[::2], ranges[1::2], strict=True)
            for number in range(first, first + count)
        ]
        for ranges, _ in data["lists"]
    ]
    return data


def test_hostile_text_of_records_and_suites_adds_no_element_and_is_shown_as_it_is() -> None:
    def with_error(text: str) -> Results:
        runs = planned(holes=True).runs
        told = [(entry, run and run.model_copy(update={"error": text if run.error else None})) for entry, run in runs]
        return Results(told, {"nobody": text})

    plain = Outline(html_of(reviewed(with_error("Plain"))))
    html = html_of(reviewed(with_error(HOSTILE), said=HOSTILE))
    hostile = Outline(html)
    shapes = [[(tag, sorted(own)) for tag, own in outline.elements] for outline in (plain, hostile)]
    assert shapes[0] == shapes[1]
    assert [tag for tag, _ in hostile.elements].count("script") == 2
    assert "".join(hostile.texts).count(HOSTILE) > 10
    assert HOSTILE in "".join(run["why"] for run in embedded(html)["runs"])


def test_a_hostile_results_directory_is_a_path_and_nothing_else() -> None:
    html = html_of(reviewed(planned(holes=False)), 'javascript:alert(1)//"><script>/# ?')
    assert {link["href"][:1] for link in Outline(html).links("href") if "json" in link["href"]} == {"j"}
    assert not re.search(r'href="javascript:|"><script>', html)
    assert embedded(html)["results"].startswith("javascript%3Aalert")
    assert "#" not in embedded(html)["results"]


def test_the_embedded_data_hold_every_planned_run_with_its_settings_errors_and_curve() -> None:
    drawn = trained(planned(holes=True))
    data = embedded(html_of(reviewed(drawn)))
    by_path = {run["path"]: run for run in data["runs"]}
    assert len(by_path) == len(data["runs"]) == len(drawn.runs)
    for entry, result in drawn.runs:
        run = by_path[str(entry.spec.path)]
        assert run["settings"] | {"seed": run["seed"]} == entry.spec.model_dump(mode="json")
        assert run["state"] == (result.status if result else "missing")
        if result and result.status == "done":
            (evaluation,) = result.evaluations
            ((dataset, *errors),) = run["errors"]
            assert dataset == entry.spec.task.dataset
            assert errors == pytest.approx([evaluation.mse, evaluation.mae, evaluation.windows])
            assert (run["curve"], run["best"]) == ([[1, 2, 3], [0.9, 0.5, 0.7]], 2)
            made = {"date": run["date"], **data["where"][run["where"]]}
            assert made == result.where.model_dump(mode="json")


def lines(table: Table) -> list[list]:
    return [cells for _, cells in table.rows + table.summary]


def test_every_number_in_tables_and_verdicts_leads_to_the_records_it_stands_on() -> None:
    review = reviewed(planned(holes=True))
    html = html_of(review)
    data, opened = embedded(html), {link["id"]: link["data-runs"] for link in Outline(html).links("data-runs")}
    paths = {entry.spec.key: str(entry.spec.path) for entry, _ in review.planned.runs}
    expected = {
        f"{table.name}.{row}.{column}": cell.runs
        for table in review.tables
        for row, cells in enumerate(lines(table))
        for column, cell in enumerate(cells)
    }
    expected |= {f"claim.{row.id}": tuple(entry.spec.key for entry, _ in row.runs) for row in review.claims if row.runs}
    assert len(expected) > 200
    ids = [link["id"] for link in Outline(html).links("id")]
    assert len(ids) == len(set(ids))
    for name, keys in expected.items():
        runs = [data["runs"][number] for number in data["lists"][int(opened[name])]]
        assert [run["path"] for run in runs] == [paths[key] for key in keys]


def test_a_number_is_printed_as_in_other_forms_with_its_mark_spread_or_footnote() -> None:
    review = reviewed(planned(holes=True))
    html = html_of(review)
    assert re.search(r"<strong>0\.401</strong><span class=\"spread\">±0\.007</span>", html)
    assert re.search(r"<u>0\.411</u>", html)
    notes = re.findall(r'<li id="(main-note-\d)">(.*?)</li>', html)
    assert [text for _, text in notes] == review.tables[0].notes
    shape = (
        r'<span class="partial">([0-9.]+)</span></a><sup><a href="#(main-note-\d)".{,40}<small .{,20}>n = (\d of \d)<'
    )
    partial = re.findall(shape, html)
    assert [count for *_, count in partial[:4]] == ["7 of 8"] * 4
    assert [note for _, note, _ in partial[:4]] == ["main-note-1"] * 2 + ["main-note-2"] * 2
    first = review.tables[0].rows[1][1][0]
    assert (first.value, f"{first.partial:.3f}") == (None, partial[0][0])


def test_the_index_says_of_every_cell_which_runs_are_there_and_why_others_are_not() -> None:
    drawn = planned(holes=True)
    refusal = UnusableRecord(Path("results/s2021.json"), "is of another protocol")
    entry, _ = drawn.runs[0]
    drawn = Results([(entry, None), *drawn.runs[1:]], {entry.spec.key: refusal})
    html = html_of(reviewed(drawn))
    rows = re.findall(r'<tr id="cell-\d+"><td>(.*?)</td>(.*?)</tr>', html, re.DOTALL)
    counts = Counter(re.findall(r"(\d+) (done|failed|not run|refused)", " ".join(state for state, _ in rows)))
    found = Counter()
    for (number, state), times in counts.items():
        found[state] += int(number) * times
    assert found == {"done": 61, "refused": 1, "failed": 1, "not run": 1}
    text = "".join(row for _, row in rows)
    for entry, result in drawn.runs:
        refused = entry.spec.key in drawn.refused
        assert (f'href="{RESULTS}/{entry.spec.path}"' in text) == (result is not None or refused)
    assert text.count("another protocol") == text.count(ERROR) == 1
    assert "61 of 64 done, 1 failed, 1 not run, 1 refused" in html


def test_nothing_is_loaded_and_only_the_pages_own_script_may_run() -> None:
    html = html_of(reviewed(planned(holes=False)))
    outline = Outline(html)
    for link in [*outline.links("href"), *outline.links("src")]:
        assert re.match(r"#|data:|(tables|figures)/\w|\.\./\.\./results/", link.get("href", link.get("src", "")))
    code = "".join(outline.scripts).replace("http://www.w3.org/2000/svg", "")
    assert not outline.links("style"), "the policy would block it"
    assert not re.search(r"https?:|//\w|@import|url\(|fetch\(|innerHTML|eval\(", code)
    (policy,) = [link["content"] for link in outline.links("http-equiv")]
    assert policy.startswith("default-src 'none'; img-src data:;")
    for kind, tag in (("script-src", "<script>"), ("style-src", "<style>")):
        inside = html.rpartition(tag)[2].partition(tag.replace("<", "</"))[0]
        allowed = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{kind} 'sha256-{allowed}'" in policy
        assert "'unsafe-inline'" not in policy


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_command_of_a_run_plans_that_run_and_says_when_it_plans_more(name: str) -> None:
    drawn, suite = experiment(name), load_suite(name)
    data = embedded(html_of(replace(reviewed(planned(holes=False), ()), suite=suite, planned=drawn, claims=[])))
    parser = argparse.ArgumentParser()
    parser.add_argument("--suite")
    add_filters(parser)
    by_path = {run["path"]: run for run in data["runs"]}
    assert len(by_path) == len(data["runs"]) == len(drawn.runs)
    for entry, _ in drawn.runs:
        run = by_path[str(entry.spec.path)]
        assert run["command"].endswith(" --rerun all --results again")
        words = shlex.split(run["command"].removesuffix(" --rerun all --results again"))
        assert words[:4] == ["python", "-m", "bench", "run"]
        arguments = parser.parse_args(words[4:])
        runs = plan(load_suite(arguments.suite), filters_of(arguments))
        assert entry.spec in runs
        assert run["several"] == (len(runs) > 1)
        same = {(each.model, each.task.dataset, each.task.horizon, each.seed) for each in runs}
        assert len(same) == 1


def test_a_long_curve_is_thinned_and_keeps_its_best_and_its_last_epoch() -> None:
    drawn = planned(holes=False)
    losses = [1 + abs(epoch - 47) / 100 for epoch in range(1, 99)]
    curve = tuple(Epoch(epoch=i, train_loss=1, val_loss=loss, lr=1, seconds=1) for i, loss in enumerate(losses, 1))
    (entry, run), *others = drawn.runs
    assert run
    runs = [(entry, run.model_copy(update={"curve": curve, "best_epoch": 47})), *others]
    epochs, kept = embedded(html_of(reviewed(Results(runs))))["runs"][0]["curve"]
    assert len(epochs) < 35
    assert {1, 47, 98} <= set(epochs)
    assert kept == pytest.approx([losses[epoch - 1] for epoch in epochs], rel=1e-3)


def test_a_verdicts_runs_of_another_suite_are_there_with_that_suites_command() -> None:
    other = experiment("ablation").runs[1:3]  # the first one is planned by the suite paper too
    review = reviewed(planned(holes=False))
    row = replace(review.claims[0], suite="ablation", runs=tuple((entry, run) for entry, run in other if run))
    data = embedded(html_of(replace(review, claims=[row])))
    added = data["runs"][len(review.planned.runs) :]
    assert [run["path"] for run in added] == [str(entry.spec.path) for entry, _ in other]
    assert all("--suite ablation" in run["command"] and run["title"].endswith("suite ablation") for run in added)


def test_nine_hundred_runs_with_their_curves_leave_room_for_figures_below_a_megabyte_and_a_half() -> None:
    suite = load_suite("paper")
    curve = tuple(Epoch(epoch=i, train_loss=1 / i, val_loss=1 / i, lr=1e-3, seconds=1.0) for i in range(1, 101))
    known = record(planned(holes=False).runs[0][0].spec)

    def done(entry: PlannedRun):
        return known.model_copy(update={"spec": entry.spec, "curve": curve})

    runs = [(entry, done(entry)) for entry in entries(suite)]
    review = Review(suite, "", Results(runs), load_claims()[0], [], [], [], [])
    html = html_of(review)
    assert len(embedded(html)["runs"]) == len(runs) == 864
    assert len(html.encode()) < 850_000


# In a browser

Opened = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if not path:
        pytest.skip(f"no browser: none of {', '.join(names)} on PATH, and CHROMIUM names none")
    quiet = ["no-first-run", "background-networking", "component-update", "sync", "gpu", "quic"]
    arguments = [f"--{name}" if name.startswith("no-") else f"--disable-{name}" for name in quiet]
    with driver.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", *arguments])
        yield started
        started.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """index.html below reports/, with the records of its runs below results/."""
    root = tmp_path_factory.mktemp("site")
    review = reviewed(trained(planned(holes=True)))
    for entry, result in review.planned.runs:
        if result:
            path = root / "results" / entry.spec.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(result.model_dump_json(), encoding="utf-8")
    file = root / "reports" / "paper" / "index.html"
    file.parent.mkdir(parents=True)
    file.write_text(html_of(review), encoding="utf-8")
    return file


@pytest.fixture
def opened(browser: Any, site: Path) -> Iterator[Opened]:
    """Opens the page; when the test is over, nothing but the file (and those in `loads`) was asked for and nothing was
    complained about."""
    contexts, complaints, files, requests = [], [], set(), []

    def open_page(fragment: str = "", file: Path = site, loads: tuple[Path, ...] = (), **options: Any) -> Any:
        files.update(each.as_uri() for each in (file, *loads))
        context = browser.new_context(**options)
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(5000)
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(file.as_uri() + fragment)
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert {url.partition("#")[0] for url in requests if not url.startswith("data:")} == files


def unfold(tab: Any) -> Any:
    """The details of the panel's first run, once they are there."""
    details = tab.locator("#panel .run details").first
    details.locator("summary").click()
    details.locator("code").wait_for()
    return details


def column(tab: Any, table: str, number: int) -> list[str]:
    """The texts of a column of the table's body, top down."""
    return tab.eval_on_selector_all(f"#{table} tbody tr", f"rows => rows.map(row => row.cells[{number}].textContent)")


def test_a_column_sorts_up_and_down_with_holes_last_and_then_as_it_was(opened: Opened) -> None:
    tab = opened()
    head = tab.locator("#full thead tr:last-child th").nth(3)
    before = column(tab, "full", 3)
    assert [number for number, text in enumerate(before) if "n =" in text] == [5, 9]  # ILI 24 and its average
    for order, sign in (("ascending", 1), ("descending", -1)):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == order
        values = column(tab, "full", 3)
        numbers = [float(text) for text in values[:-2]]
        assert numbers == sorted(numbers, key=lambda value: sign * value)
        assert len(set(numbers)) > 5
        assert all("n =" in text for text in values[-2:])
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") is None
    assert column(tab, "full", 3) == before


def test_the_first_column_sorts_as_people_count(opened: Opened) -> None:
    tab = opened()
    button = tab.locator("#seeds thead tr:last-child th button").first
    button.press("Enter")
    names = [f"ETTh1 {horizon}" for horizon in (96, 192, 336, 720)] + [f"ILI {horizon}" for horizon in (24, 36, 48, 60)]
    assert column(tab, "seeds", 0) == names
    button.press("Enter")
    assert column(tab, "seeds", 0) == names[::-1]


def test_a_number_opens_its_runs_and_their_records_and_escape_returns_to_it(opened: Opened, site: Path) -> None:
    tab = opened()
    link = tab.locator('[id="main.0.0"]')
    link.click()
    panel = tab.locator("#panel")
    assert panel.locator("h2").text_content() == "ETTh1 · Logo-LLM MSE"
    assert "8 runs: 8 done" in panel.locator(".value").text_content()
    hrefs = panel.locator(".run a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    records = [json.loads((site.parent / href).read_text()) for href in hrefs]
    found = {(each["spec"]["model"], each["spec"]["task"]["horizon"], each["spec"]["seed"]) for each in records}
    assert found == {("logo_llm", horizon, seed) for horizon in (96, 192, 336, 720) for seed in (2021, 2022)}
    for text, record_ in zip(panel.locator(".errors").all_text_contents(), records, strict=True):
        assert f"MSE {record_['evaluations'][0]['mse']:.4f}" in text
    points = panel.locator("svg polyline").evaluate_all("lines => lines.map(line => line.getAttribute('points'))")
    assert points == ["3.0,3.0 55.0,23.0 107.0,13.0"] * 8  # a lower loss is lower down
    best = panel.locator("svg circle").first
    assert (best.get_attribute("cx"), best.get_attribute("cy")) == ("55", "23")
    assert panel.locator(".curve").first.text_content() == "best epoch 2 of 3"
    assert tab.url.endswith("#main.0.0")
    tab.keyboard.press("Escape")
    assert not panel.is_visible()
    assert tab.evaluate("document.activeElement.id") == "main.0.0"
    assert "#" not in tab.url
    tab.keyboard.press("Enter")
    assert panel.is_visible()


def test_details_of_a_run_show_settings_cost_provenance_and_a_command_to_copy(opened: Opened) -> None:
    tab = opened("#full.0.0")
    details = unfold(tab)
    text = " ".join(details.all_text_contents())
    for part in ("Options", "local_tap", "Training", "patience", "Cost", "train_s", "Provenance", "Test CPU"):
        assert part in text
    command = details.locator("code").text_content()
    assert command == (
        "python -m bench run --suite paper --backbone smollm2-135m --models logo_llm --datasets ETTh1 --horizons 96 "
        "--seeds 2021 --rerun all --results again"
    )
    assert "path of the suite's file" not in text + tab.locator("footer").text_content()
    details.locator("button").click()
    details.get_by_role("button", name=re.compile("Copied|Selected")).wait_for()


PART = 5


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page of `site` written as if it were a large one: its runs lie beside it, PART in each file."""
    monkeypatch.setattr(embedding, "EMBEDDED", 0)
    monkeypatch.setattr(embedding, "PART", PART)
    html, files = page(reviewed(trained(planned(holes=True))), RESULTS)
    (tmp_path / embedding.FOLDER).mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text, "utf-8")
    file = tmp_path / "index.html"
    file.write_text(html, "utf-8")
    return file


def test_a_large_page_loads_the_runs_behind_a_number_when_it_is_opened(opened: Opened, large: Path, site: Path) -> None:
    rows = [json.loads(path.read_text().split(", ", 2)[2][:-3]) for path in large.parent.glob("page-runs/*.js")]
    assert sorted(map(len, rows), reverse=True)[:-1] == [PART] * (len(rows) - 1)
    assert "runs" not in json.loads(embedded_text(large.read_text()))
    held = embedded(site.read_text())["runs"]
    assert {(row[0], row[1], row[4]) for part in rows for row in part} == {
        (run["cell"], run["seed"], run["file"]) for run in held
    }
    whole, number = opened(), "main.0.0"
    ranges, _ = json.loads(embedded_text(large.read_text()))["lists"][
        int(whole.locator(f'[id="{number}"]').get_attribute("data-runs"))
    ]
    wanted = {
        run // PART
        for first, count in zip(ranges[::2], ranges[1::2], strict=True)
        for run in range(first, first + count)
    }
    tab = opened(f"#{number}", file=large, loads=tuple(large.parent / f"page-runs/{part}.js" for part in wanted))
    whole.locator(f'[id="{number}"]').click()
    for each in (whole, tab):
        each.locator("#panel .run").first.wait_for()
    assert tab.locator("#panel").text_content() == whole.locator("#panel").text_content()
    assert unfold(tab).text_content() == unfold(whole).text_content()


def test_runs_of_a_number_that_is_opened_twice_while_they_load_are_shown_once(browser: Any, large: Path) -> None:
    tab = browser.new_page()
    tab.goto(large.as_uri())
    count = tab.evaluate(
        """async () => {
            const link = document.getElementById("main.0.0");
            for (let turn = 0; turn < 2; turn++) { link.click(); panel.close(); }
            link.click();
            await new Promise((resolve) => setTimeout(resolve, 1000));
            return [panel.querySelectorAll(".run").length, numbersOf(data.lists[link.dataset.runs][0]).length];
        }"""
    )
    assert count[0] == count[1] > 0
    tab.close()


@pytest.mark.parametrize("fault", ["gone", "of another page"])
def test_a_large_page_says_what_is_wrong_if_its_runs_are_not_there(fault: str, browser: Any, large: Path) -> None:
    for path in large.parent.glob("page-runs/*.js"):
        path.unlink() if fault == "gone" else path.write_text(path.read_text().replace('addRuns("', 'addRuns("0'))
    tab = browser.new_page()
    tab.goto(f"{large.as_uri()}#main.0.0")
    said = tab.locator("#panel .why")
    said.wait_for(timeout=5000)
    assert re.search(r"page-runs/\d+\.js", said.first.text_content())
    tab.close()


def test_a_suite_that_only_a_file_names_is_said_to_be_one(opened: Opened, tmp_path: Path) -> None:
    review = reviewed(planned(holes=False), ("main",))
    file = tmp_path / "index.html"
    suite = review.suite.model_copy(update={"name": "mine"})
    file.write_text(html_of(replace(review, suite=suite)), "utf-8")
    tab = opened("#main.0.0", file=file)
    said = unfold(tab).text_content() + tab.locator("footer").text_content()
    assert said.count("path of the suite's file") == 2


def test_a_hole_opens_what_is_not_there_and_its_footnote(opened: Opened) -> None:
    tab = opened()
    tab.locator('[id="main.1.0"]').click()
    assert ERROR in tab.locator("#panel .run").filter(has_text="failed").text_content()
    tab.keyboard.press("Escape")
    tab.locator('[id="main.1.2"]').click()
    missing = tab.locator("#panel .run").filter(has_text="not run")
    assert missing.count() == 1
    assert missing.locator("a").count() == 0
    tab.locator("#panel .close").click()
    tab.locator("#full sup a").first.click()
    assert tab.locator("#full-note-1").is_visible()


def test_a_verdict_is_one_line_that_opens_its_evidence_and_those_not_tested_are_folded_away(opened: Opened) -> None:
    tab = opened(viewport={"width": 1440, "height": 900})
    claims = tab.locator(".claim")
    badges = [text.split(maxsplit=1)[1] for text in claims.locator(".badge").all_text_contents()]
    assert badges == list(Verdict)
    assert [claims.nth(number).is_visible() for number in range(5)] == [True, True, True, True, False]
    fails = tab.locator("#claim-fails")
    assert fails.bounding_box()["height"] < 45
    assert fails.locator(".ours").text_content() == "−15.7 %"
    fails.locator("summary").press("Enter")
    fails.get_by_text("Evidence").wait_for()
    fails.locator("a").click()
    assert tab.locator("#panel .run").count() == 3
    tab.keyboard.press("Escape")
    tab.locator(".untested > summary").click()
    assert claims.nth(4).is_visible()


def test_a_forest_plot_shows_value_interval_printed_number_and_claimed_side_on_one_scale() -> None:
    found = {"": Interval(-10.0, -20.0, 0.0), "part": Interval(-5.0)}
    drawn = ElementTree.fromstring(forest_plot(Forest(found, "{:+.1f} %", (-math.inf, 0.0), -20.0), "<&>"))
    assert drawn.get("aria-label") == "<&>"
    places = {each.get("class"): each for each in drawn}
    left, right = (float(places["interval"].get(end)) for end in ("x1", "x2"))
    dots = [float(each.get("cx")) for each in drawn if each.get("class") == "estimate"]
    assert dots == pytest.approx([(left + right) / 2, left + 0.75 * (right - left)])
    assert float(places["printed"].get("x1")) == left
    assert float(places["bound"].get("x1")) == right == float(places["claimed"].get("width"))
    assert len([each for each in drawn if each.get("class") == "interval"]) == 1, "a single value has none"


def test_chips_leave_the_chosen_models_data_sets_and_errors_in_every_table(opened: Opened) -> None:
    tab = opened()
    shown = "rows => rows.map(row => [...row.cells].filter(cell => !cell.hidden).map(cell => cell.textContent))"
    for kind, name in (("Models", "PatchTST"), ("Models", "Logo-LLM"), ("Data sets", "ILI"), ("Error", "MAE")):
        tab.get_by_role("group", name=kind).get_by_role("button", name=name, exact=True).click()
    for table in ("main", "full", "seeds"):
        rows = tab.locator(f"#{table} tr:visible")
        groups, heads, *lines = rows.evaluate_all(shown)
        assert groups[1:] == ["Logo-LLM", "PatchTST"]
        assert heads[1:] == ["MAE", "MAE"]
        assert {line[0].split()[0] for line in lines} <= {"ILI", "Average", "Ratio", "Mean", "First"}
        assert {len(line) for line in lines} == {3}
    spans = tab.locator("#main .groups th:visible").evaluate_all("heads => heads.map(head => head.colSpan)")
    assert spans == [1, 1]
    pressed = tab.locator('#filters [aria-pressed="true"]')
    while pressed.count():
        pressed.first.press("Enter")
    assert tab.locator("#main tbody tr:visible").count() == 2
    assert tab.locator("#main tbody tr:first-child td:visible").count() == 8


def test_a_long_table_is_folded_until_it_is_asked_for(opened: Opened, tmp_path: Path) -> None:
    review = reviewed(planned(holes=False), ("main",))
    (table,) = review.tables
    file = tmp_path / "index.html"
    file.write_text(html_of(replace(review, tables=[replace(table, rows=table.rows * 10)])), "utf-8")
    tab = opened(file=file, reduced_motion="reduce")  # scrolls at once
    assert not tab.locator("#main table").is_visible()
    tab.goto(f"{file.as_uri()}#main")
    assert tab.locator("#main table").is_visible()
    for place in ("main-title", "cell-3"):
        tab.goto(f"{file.as_uri()}#{place}")
        top = f"document.getElementById('{place}').getBoundingClientRect().top / innerHeight"
        assert 0 <= tab.evaluate(top) < 1


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (400, 850)])
def test_the_first_screen_has_question_answer_and_tally_and_on_a_desk_the_first_figure(
    opened: Opened, width: int, height: int
) -> None:
    tab = opened(viewport={"width": width, "height": height})
    parts = ["h1", ".answer", "header .tally"] + (["#figure-heatmap svg.wide"] if width > 1000 else [])
    for part in parts:
        box = tab.locator(part).last.bounding_box()
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= height, part
        assert box["x"] + box["width"] <= width, part
    assert tab.evaluate("document.scrollingElement.scrollWidth") <= width
    assert tab.locator("#figure-heatmap svg").evaluate_all("all => all.map(one => one.checkVisibility())") == [
        width > 1000,
        width < 1000,
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 400])
def test_axe_finds_no_serious_fault(opened: Opened, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.base", reason="axe-playwright-python is not installed")
    tab = opened("#main.1.0", color_scheme=scheme, viewport={"width": width, "height": 900})
    tab.evaluate(axe.AXE_SCRIPT)
    for state in ("drawer open", "all unfolded"):
        found = tab.evaluate("axe.run().then(results => results.violations)")
        serious = [
            (each["id"], node["html"][:200], node["failureSummary"])
            for each in found
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"]
        ]
        assert serious == [], state
        tab.keyboard.press("Escape")
        tab.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")


def test_the_keyboard_alone_reaches_a_verdict_a_chip_a_number_and_its_details(opened: Opened) -> None:
    tab = opened()
    met: dict[str, int] = {}
    for press in range(400):
        tab.keyboard.press("Tab")
        found = tab.evaluate(
            "(element => element.closest('.claim, #filters, td, th, nav')?.tagName)(document.activeElement)"
        )
        met.setdefault(str(found), press)
        if found == "TD" and tab.evaluate("document.activeElement.matches('[data-runs]')"):
            break
    assert [each for each in met if each != "None"] == ["NAV", "DETAILS", "DIV", "TH", "TD"]
    tab.keyboard.press("Enter")
    panel = tab.locator("#panel")
    assert panel.is_visible()
    inside = "document.activeElement.closest('#panel') !== null"
    assert tab.evaluate(inside)
    for _ in range(5):
        tab.keyboard.press("Tab")
        assert tab.evaluate(f"{inside} || document.activeElement === document.body")


CONTRASTS = """selectors => selectors.flatMap(selector => [...document.querySelectorAll(selector)].map(element => {
  const channels = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = colour => channels(colour).slice(0, 3).map(value => value / 255)
    .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, channel) => sum + value * [0.2126, 0.7152, 0.0722][channel], 0);
  let ground = element;
  while (channels(getComputedStyle(ground).backgroundColor)[3] === 0) ground = ground.parentElement;
  const pair = [light(getComputedStyle(element).color), light(getComputedStyle(ground).backgroundColor)];
  return [selector, (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05), pair[1]];
}))"""
"""Of the selected elements: contrast of text and ground (WCAG 2.2), and the luminance of the ground."""
TEXTS = [
    *("p", "h1", "h2", "nav a", ".eyebrow", ".facts dt", ".facts dd", ".caption", "summary", "footer", "figcaption"),
    *(
        ".badge",
        ".claim dt",
        ".claim .ours",
        ".numbers td a",
        ".numbers sup a",
        ".numbers caption",
        ".spread",
        ".partial",
    ),
    *(
        ".notes li",
        ".why",
        ".index a",
        "#filters button",
        "#theme",
        "#panel h2",
        "#panel .value",
        ".run dt",
        ".run small",
    ),
]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_that_accessibility_asks_in_light_and_dark(opened: Opened, scheme: str) -> None:
    tab = opened("#main.1.0", color_scheme=scheme)
    unfold(tab)
    measured = tab.evaluate(CONTRASTS, TEXTS)
    assert {selector for selector, _, _ in measured} == set(TEXTS)
    assert [each for each in measured if each[1] < 4.5] == []
    grounds = [ground for _, _, ground in measured]
    assert min(grounds) > 0.7 if scheme == "light" else max(grounds) < 0.1


def ground(tab: Any) -> str:
    return tab.evaluate("getComputedStyle(document.body).backgroundColor")


def test_nothing_moves_for_those_who_ask_for_reduced_motion(opened: Opened) -> None:
    behaviour = "getComputedStyle(document.documentElement).scrollBehavior"
    assert opened(reduced_motion="reduce").evaluate(behaviour) == "auto"
    assert opened(reduced_motion="no-preference").evaluate(behaviour) == "smooth"


def test_the_button_goes_from_the_systems_scheme_to_the_other_and_back(opened: Opened) -> None:
    tab = opened(color_scheme="dark")
    button, dark = tab.locator("#theme"), ground(tab)
    for name, colour in (("Light", "rgb(255, 255, 255)"), ("Dark", dark)):
        assert button.text_content() == name
        assert ground(tab) != colour
        button.click()
        assert ground(tab) == colour
    tab.emulate_media(color_scheme="light")
    assert ground(tab) == dark


def test_a_phone_scrolls_tables_and_not_the_page(opened: Opened) -> None:
    tab = opened(viewport={"width": 390, "height": 844})
    assert tab.evaluate("document.scrollingElement.scrollWidth") <= 390
    box = tab.locator("#seeds .scroll")
    assert box.evaluate("box => box.scrollWidth > 1.5 * box.clientWidth")
    box.evaluate("box => { box.scrollLeft = 300; }")
    assert tab.locator("#seeds tbody th").first.bounding_box()["x"] == pytest.approx(box.bounding_box()["x"], abs=1)
    tab.locator('[id="full.0.0"]').click()
    unfold(tab)
    assert tab.locator("#panel").evaluate("panel => panel.scrollWidth <= panel.clientWidth && panel.clientWidth <= 390")


def test_print_is_light_and_open(opened: Opened) -> None:
    tab = opened(color_scheme="dark")
    assert not tab.locator("#cell-0").is_visible()
    tab.emulate_media(media="print")
    assert ground(tab) == "rgb(255, 255, 255)"
    assert tab.locator("#cell-0").is_visible()
    assert tab.locator("#full-note-1").is_visible()
    assert not tab.locator("nav").is_visible()


def test_print_cuts_no_table_of_eight_models(opened: Opened, tmp_path: Path) -> None:
    review = reviewed(planned(holes=True))
    wide = [replace(table, groups=table.groups * 2, rows=_twice(table.rows)) for table in review.tables]
    file = tmp_path / "index.html"
    file.write_text(html_of(replace(review, tables=[replace(table, summary=[]) for table in wide])), "utf-8")
    tab = opened(file=file)
    tab.emulate_media(media="print")
    for selector, width in ((".scroll:not(.wide *)", 688), (".wide .scroll", 1047)):  # A4 without margins; turned
        tab.set_viewport_size({"width": width, "height": 700})
        boxes = tab.eval_on_selector_all(selector, "boxes => boxes.map(box => [box.scrollWidth, box.clientWidth])")
        assert boxes
        assert all(inside <= outside <= width for inside, outside in boxes)


def _twice(rows: list) -> list:
    return [(label, cells * 2) for label, cells in rows]


def test_without_javascript_tables_verdicts_and_figures_read_and_numbers_lead_to_records(opened: Opened) -> None:
    tab = opened(java_script_enabled=False)
    for selector in ("#main .numbers tbody tr", ".claim .badge", "figure svg", "#methods p"):
        assert tab.locator(selector).first.is_visible()
    assert not tab.locator("#theme").is_visible()
    tab.locator('[id="main.0.0"]').click()
    first = tab.locator("#cell-0")
    assert first.is_visible()
    assert first.locator("a").nth(1).get_attribute("href").startswith(f"{RESULTS}/ETTh1/h96/logo_llm/s2021-")
