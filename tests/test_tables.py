"""Tables from generated records: golden files, holes, marks and ranks."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from scipy.stats import rankdata

from bench.render import SUFFIX, render
from bench.spec import Evaluation, RunResult, RunSpec, Where
from bench.suite import Entry, Filters, entries, load_suite
from bench.tables import TABLES, Planned, Table

GOLDEN = Path(__file__).parent / "golden"
WHERE = Where(
    date="2026-01-01T00:00:00+00:00",
    git=None,
    dirty=None,
    versions={},
    device="Test CPU",
    threads=1,
    data_sha256={},
    backbone_sha256=None,
)
ERRORS = {"logo_llm": 0.30, "patchtst": 0.31, "itransformer": 0.30, "repeat_last": 0.90}


def record(spec: RunSpec) -> RunResult:
    """Errors that follow from the spec by a rule a reader can check: they grow with horizon and seed."""
    mse = ERRORS[spec.model] + spec.task.horizon / 1000 + (spec.seed - 2021) / 100
    mse += 1 if spec.task.dataset == "ILI" else 0
    each = Evaluation(dataset=spec.task.dataset, mse=mse, mae=mse / 2, windows=1)
    return RunResult(spec=spec, status="done", evaluations=(each,), where=WHERE)


def planned(*, holes: bool) -> Planned:
    """Four models on two data sets at all horizons with two seeds; with holes: one run missing, one failed."""
    filters = Filters(models=tuple(ERRORS), datasets=("ETTh1", "ILI"), seeds=(2021, 2022), backbone="smollm2-135m")
    runs: list[tuple[Entry, RunResult | None]] = [
        (entry, record(entry.spec)) for entry in entries(load_suite("paper"), filters)
    ]
    if holes:
        for i, (entry, result) in enumerate(runs):
            if entry.label == "patchtst ILI h24 s2022":
                runs[i] = (entry, None)
            if entry.label == "logo_llm ILI h60 s2021" and result:
                failure = {"status": "failed", "evaluations": (), "error": "RuntimeError: 100% out of memory_"}
                runs[i] = (entry, result.model_copy(update=failure))
    return Planned(runs)


def make(name: str, *, holes: bool = False) -> Table:
    return TABLES[name](planned(holes=holes), "Generated numbers.")[0]


@pytest.mark.parametrize("form", SUFFIX)
@pytest.mark.parametrize(("name", "holes"), [("main", False), ("main", True), ("full", True)])
def test_tables_equal_their_golden_files(name: str, holes: bool, form: str) -> None:
    """To change them knowingly: delete tests/golden/ and run this test, which then writes them anew and fails."""
    path = GOLDEN / f"{name}{'-holes' if holes else ''}.{SUFFIX[form]}"
    text = render(make(name, holes=holes), form)
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        pytest.fail(f"wrote {path}; look at it and commit it")
    assert text == path.read_text(encoding="utf-8")


def cells(table: Table) -> dict[str, list[float | None]]:
    return {label: [cell.value for cell in cells] for label, cells in table.rows + table.summary}


def test_a_data_sets_cell_is_the_mean_over_its_horizons_and_seeds() -> None:
    expected = sum(0.3 + horizon / 1000 + seed / 100 for horizon in (96, 192, 336, 720) for seed in (0, 1)) / 8
    assert cells(make("main"))["ETTh1"][0] == pytest.approx(expected)
    assert cells(make("main"))["ETTh1"][1] == pytest.approx(expected / 2)


def test_ranks_and_first_places_agree_with_scipy_and_ties_share_them() -> None:
    table = make("main")
    rows = [[cell.value for cell in row][::2] for _, row in table.rows]
    expected = [sum(ranks) / len(rows) for ranks in zip(*(rankdata(row) for row in rows), strict=True)]
    found = cells(table)
    assert found["Mean rank"][::2] == pytest.approx(expected) == [1.5, 3.0, 1.5, 4.0]
    assert found["First places"][::2] == [2, 0, 2, 0]
    marks = [[cell.mark for cell in row][::2] for _, row in table.rows]
    assert marks == [["best", "second", "best", ""]] * 2


def test_the_full_table_ranks_horizons_and_not_their_averages_again() -> None:
    assert cells(make("full"))["First places"][::2] == [8, 0, 8, 0]


def test_a_cell_with_a_missing_or_failed_run_is_a_hole_with_its_reason_and_never_an_average() -> None:
    table = make("main", holes=True)
    assert not table.complete
    found = cells(table)
    assert found["ILI"] == [None, None, None, None, *cells(make("main"))["ILI"][4:]]
    assert [cell.note for cell in table.rows[1][1]][:4] == [1, 1, 2, 2]
    assert table.notes[0].startswith("Logo-LLM: 1 of 8 runs are not there: ILI h60 s2021 failed (RuntimeError")
    assert table.notes[1] == "PatchTST: 1 of 8 runs are not there: ILI h24 s2022 not run"
    assert "over the 1 of 2 rows" in table.notes[2]
    assert found["Average"] == found["ETTh1"]
    assert all(cell.mark == "" for cell in table.rows[1][1])


def test_no_summary_is_made_of_no_complete_row() -> None:
    nothing = Planned([(entry, None) for entry, _ in planned(holes=False).runs])
    (table,) = TABLES["main"](nothing, "")
    assert table.summary == []
    assert all(cell.value is None for _, row in table.rows for cell in row)
    for form in SUFFIX:
        assert render(table, form)


def test_the_caption_states_look_back_seeds_backbone_and_device() -> None:
    caption = make("main").caption
    for part in (
        "look-back 96 (ILI 36)",
        "seeds 2021, 2022",
        "SmolLM2-135M",
        "pretrained (Logo-LLM 6 blocks, taps 2 and 6)",
        "Generated numbers.",
        "Run on Test CPU.",
        "bf16 arithmetic in Logo-LLM",
    ):
        assert part in caption


def test_every_form_holds_the_same_numbers() -> None:
    table = make("main")
    read = list(csv.reader(io.StringIO(render(table, "csv"))))
    assert [float(value) for value in read[1][1:]] == cells(table)["ETTh1"]
    assert json.loads(render(table, "json"))["rows"]["ETTh1"] == cells(table)["ETTh1"]
    for form in ("text", "md", "latex"):
        for value in cells(table)["ETTh1"]:
            assert f"{value:.3f}" in render(table, form)


def test_latex_is_balanced_and_escapes_what_records_say() -> None:
    text = render(make("main", holes=True), "latex")
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert r"100\% out of memory\_" in text
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    assert {line.count(" & ") for line in body.splitlines() if line.endswith(r"\\")} == {2 * len(ERRORS)}
    assert re.search(r"\\textbf\{0\.\d{3}\}", text)
    assert re.search(r"\\underline\{0\.\d{3}\}", text)
