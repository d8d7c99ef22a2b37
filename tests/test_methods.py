"""The methods of a report say what the suite and its records say."""

from __future__ import annotations

from pathlib import Path

from bench.analysis.results import Results
from bench.core.base import ROOT
from bench.core.reading import UnusableRecord
from bench.plan.suite import Filters, entries, load_suite
from bench.report.methods import Section, methods
from models import MODELS
from tests.builders import planned, record


def section(title: str, made: list[Section]) -> Section:
    (found,) = (section for section in made if section.title == title)
    return found


def test_the_methods_name_data_models_settings_and_provenance_of_every_run() -> None:
    made = methods(load_suite("paper"), planned(holes=False))
    data = section("Data", made)
    by_name = {row[0]: dict(zip(data.headers, row, strict=True)) for row in data.rows}
    assert list(by_name) == ["ETTh1", "ILI"]
    assert by_name["ETTh1"]["Train / val / test rows"] == "8640 / 2880 / 2880"
    assert by_name["ETTh1"]["Test windows"] == "2785, 2689, 2545, 2161"  # the official counts
    assert by_name["ILI"]["Look-back"] == "36"
    assert [row[0] for row in section("Models", made).rows] == ["Logo-LLM", "PatchTST", "iTransformer", "Repeat last"]
    assert section("Models", made).text[0].startswith("Language model: SmolLM2-135M-Instruct")
    assert section("Provenance", made).text == ("64 of 64 planned runs are done.",)
    assert sum(int(row[0]) for row in section("Provenance", made).rows) == 64


def test_settings_that_differ_stand_apart_with_where_they_hold() -> None:
    made = methods(load_suite("paper"), planned(holes=False))
    rows = [row for row in section("Settings", made).rows if row[0] == "PatchTST"]
    assert len(rows) == 2, "PatchTST's script for ILI has settings of its own"
    (ili,) = (row for row in rows if row[1] == "ILI at 24, 36, 48, 60")
    assert "batch 16" in ili[2]
    titles = [row[0] for row in section("Settings", made).rows]
    assert titles == sorted(titles, key=["Logo-LLM", "PatchTST", "iTransformer", "Repeat last"].index)


def test_a_field_that_its_schedule_does_not_read_is_not_listed() -> None:
    made = methods(load_suite("paper"), planned(holes=False))
    for _, _, training, _ in section("Settings", made).rows:
        assert ("rise" in training) == ("schedule onecycle" in training)
        assert ("period" in training) == ("schedule cosine" in training)


def test_holes_are_counted_by_their_kind() -> None:
    holed = planned(holes=True)
    refused = {holed.runs[0][0].spec.key: UnusableRecord(Path("results/x.json"), "holds the record of another run")}
    runs = [(holed.runs[0][0], None), *holed.runs[1:]]
    text = section("Provenance", methods(load_suite("paper"), Results(runs, refused))).text
    assert text == ("61 of 64 planned runs are done; 1 not run, 1 failed, 1 refused.",)


def test_few_shot_and_zero_shot_and_probes_are_explained_where_they_are_planned() -> None:
    for suite, word in (
        ("few_shot", "Few-shot:"),
        ("zero_shot", "Zero-shot:"),
        ("taps", "Layers:"),
        ("layers", "Layers:"),
    ):
        plan = entries(load_suite(suite), Filters(datasets=("ETTh1",), backbone="smollm2-135m", seeds=(2021,)))
        made = methods(load_suite(suite), Results([(entry, None) for entry in plan]))
        assert any(text.startswith(word) for text in section("Protocol", made).text)
    assert not any(
        "shot:" in text for text in section("Protocol", methods(load_suite("paper"), planned(holes=False))).text
    )


def test_zero_shot_data_are_those_trained_on_and_those_tested_on() -> None:
    filters = Filters(models=("patchtst",), datasets=("ETTh1",), horizons=(96,), seeds=(2021,))
    plan = entries(load_suite("zero_shot"), filters)
    made = methods(load_suite("zero_shot"), Results([(entry, record(entry.spec)) for entry in plan]))
    assert [row[0] for row in section("Data", made).rows] == ["ETTh1", "ETTh2", "ETTm2"]


def test_the_guide_states_what_each_model_follows_and_where_it_differs() -> None:
    readme = (ROOT / "docs" / "researchers.md").read_text()
    for name, entry in MODELS.items():
        assert f"| `{name}` | {entry.follows} | {entry.differs} |".replace("|  |", "| |") in readme
