"""Tables from generated records: golden files, holes, marks and ranks."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import re
import statistics
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata

from bench.analysis.results import Results
from bench.analysis.tables import Table
from bench.core.card import cards
from bench.core.reading import UnusableRecord
from bench.core.record import RunResult
from bench.plan.suite import Filters, PlannedRun, entries, load_suite, suite_names
from bench.report import contents as review
from bench.report.contents import tables_of
from bench.report.figures.catalogue import PLOTS
from bench.report.figures.style import styled
from bench.report.render import SUFFIX, render, rendered
from tests.builders import (
    ERRORS,
    EXPERIMENTS,
    SEEDS,
    cells,
    complete,
    equals_golden,
    experiment,
    planned,
    record,
)


def make(name: str, *, holes: bool = False) -> Table:
    return tables_of(name, planned(holes=holes), "Generated numbers.")[0]


@pytest.mark.parametrize("form", SUFFIX)
@pytest.mark.parametrize(("name", "holes"), [("main", False), ("main", True), ("full", True), ("seeds", True)])
def test_tables_equal_their_golden_files(name: str, holes: bool, form: str) -> None:
    """To change them knowingly: delete tests/golden/ and run this test, which then writes them anew and fails."""
    equals_golden(f"{name}{'-holes' if holes else ''}", render(make(name, holes=holes), form), form)


@pytest.mark.parametrize("form", ["text", "md", "latex", "json"])
@pytest.mark.parametrize("name", ["main", "full", "seeds", "ranks"])
def test_every_caption_says_what_was_filled(monkeypatch: pytest.MonkeyPatch, name: str, form: str) -> None:
    filled = cards()["ETTh1"].model_copy(update={"repaired": "31 rows and 4 cells filled with the row before"})
    monkeypatch.setitem(cards(), "ETTh1", filled)
    text = " ".join(render(make(name), form).split())
    assert "ETTh1: 31 rows and 4 cells filled with the row before." in text


def test_every_form_but_csv_holds_title_caption_and_footnotes_and_says_what_the_marks_mean() -> None:
    table = make("main", holes=True)
    legends = {
        "text": "* best, + second, among",
        "md": "**Best**, <u>second</u>, among",
    }
    legends["latex"] = "Best in bold, second underlined, among"
    assert len(table.notes) == 3
    for form, legend in legends.items():
        text = " ".join(render(table, form).replace(r"\%", "%").replace(r"\_", "_").split())
        notes = ["Runs are missing", *table.notes[2:]] if form == "latex" else table.notes
        for words in (table.title, table.whole_caption, *(note.rstrip(".") for note in notes), legend):
            assert words in text.replace("Logo- LLM", "Logo-LLM"), (form, words)
        assert legend not in render(replace(table, marked=False), form)
    kept = json.loads(render(table, "json"))
    assert (kept["title"], kept["caption"], kept["notes"]) == (table.title, table.whole_caption, table.notes)


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


def test_a_cell_of_the_seeds_table_is_the_mean_and_the_sample_deviation_over_seeds() -> None:
    drawn = with_random_numbers("few_shot")
    (table,) = tables_of("seeds", drawn, "")
    errors: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for (spec, _), result in drawn.runs:
        assert result is not None
        label = f"{spec.task.dataset} {100 * spec.task.train_fraction:g} % {spec.task.horizon}"
        error = (result.evaluations[0].mse, result.evaluations[0].mae)
        errors.setdefault(label, {}).setdefault(spec.model, []).append(error)
    assert [label for label, _ in table.rows] == list(errors)
    assert len(errors) == 8
    for label, line in table.rows:
        over_seeds = [values for pairs in errors[label].values() for values in zip(*pairs, strict=True)]
        assert {len(values) for values in over_seeds} == {len(SEEDS)}
        assert [cell.value for cell in line] == pytest.approx([statistics.mean(values) for values in over_seeds])
        assert [cell.spread for cell in line] == pytest.approx([statistics.stdev(values) for values in over_seeds])


def test_the_seeds_table_has_the_full_tables_rows_without_averages() -> None:
    full, seeds = make("full", holes=True), make("seeds", holes=True)
    assert [row for row in full.rows if "avg" not in row[0]] == [
        (label, [replace(cell, spread=None) for cell in line]) for label, line in seeds.rows
    ]
    assert seeds.summary == []
    assert "standard deviation (n - 1) over the 2 seeds" in seeds.caption


def test_a_spread_is_printed_beside_its_mean_and_is_a_number_of_its_own_in_files_of_numbers() -> None:
    table = make("seeds")
    head, first, *_ = csv.reader(io.StringIO(render(table, "csv")))
    assert head[:5] == ["row", "logo_llm_mse", "logo_llm_mse_std", "logo_llm_mae", "logo_llm_mae_std"]
    kept = json.loads(render(table, "json"))
    assert kept["columns"][:2] == [["logo_llm", "mse"], ["logo_llm", "mse_std"]]
    values = [0.396, 0.406]  # ETTh1 at 96 under two seeds
    numbers = [statistics.mean(values), statistics.stdev(values)]
    assert [float(text) for text in first[1:3]] == pytest.approx(numbers)
    assert kept["rows"]["ETTh1 96"][:2] == pytest.approx(numbers)
    for form, printed in (
        ("text", "0.401 ± 0.007*"),
        ("md", "**0.401** ± 0.007"),
        ("latex", r"\textbf{0.401} {\tiny$\pm$0.007}"),
    ):
        assert printed in render(table, form)


def test_one_seed_has_a_mean_without_a_spread_and_the_caption_says_so() -> None:
    alone = Results([(entry, result) for entry, result in planned(holes=False).runs if entry.spec.seed == 2021])
    (table,) = tables_of("seeds", alone, "")
    assert "one seed (2021)" in table.caption
    assert table.caption.endswith("One seed has no spread.")
    for form in SUFFIX:
        text = render(table, form)
        assert not any(sign in text for sign in ("±", r"\pm", "_std", "nan"))
    assert cells(table)["ETTh1 96"][0] == pytest.approx(0.396)


def test_a_cell_with_a_missing_or_failed_run_is_a_hole_with_its_reason_and_never_an_average() -> None:
    table = make("main", holes=True)
    assert not complete(table)
    found = cells(table)
    assert found["ILI"] == [None, None, None, None, *cells(make("main"))["ILI"][4:]]
    assert [cell.note for cell in table.rows[1][1]][:4] == [1, 1, 2, 2]
    assert table.notes[0].startswith("Logo-LLM: 1 of 8 runs missing: ILI h60 s2021 failed (RuntimeError")
    assert table.notes[1] == "PatchTST: 1 of 8 runs missing: ILI h24 s2022 not run"
    assert "over the 1 of 2 data sets" in table.notes[2]
    assert found["Average (1 of 2 data sets)"] == found["ETTh1"]
    assert [cell.mark for cell in table.rows[1][1]] == [*4 * [""], *2 * ["best"], *2 * ["second"]], "of those there are"


def missing(*gone: tuple[str, str, int, int]) -> Results:
    """The runs of `planned`, without records of these models, data sets, horizons and seeds."""
    runs = planned(holes=False).runs
    cells_ = [(e.spec.model, e.spec.task.dataset, e.spec.task.horizon, e.spec.seed) for e, _ in runs]
    return Results([(entry, None if cell in gone else run) for (entry, run), cell in zip(runs, cells_, strict=True)])


def test_a_cell_that_lacks_seeds_has_a_partial_mean_with_its_count_outside_marks_and_summary() -> None:
    drawn = missing(("patchtst", "ILI", 24, 2022), ("patchtst", "ILI", 36, 2021))
    (table,) = tables_of("main", drawn, "")
    mse, mae = table.rows[1][1][2:4]
    runs = [
        run for entry, run in drawn.runs if run and (entry.spec.model, entry.spec.task.dataset) == ("patchtst", "ILI")
    ]
    by_horizon = {24: [], 36: [], 48: [], 60: []}
    for run in runs:
        by_horizon[run.spec.task.horizon].append(run.evaluations[0].mse)
    expected = statistics.mean(map(statistics.mean, by_horizon.values()))
    assert (mse.value, mse.mark, mse.count, mae.count) == (None, "", "6 of 8", "6 of 8")
    assert mse.partial == pytest.approx(expected)
    assert [cell.value for _, cells in table.summary for cell in cells[2:4]] == cells_of(table, "ETTh1", 2, 4)
    texts = {form: render(table, form) for form in SUFFIX}
    assert f"({expected:.3f})[1]" in texts["text"]
    assert f"({expected:.3f}) [1]" in texts["md"]
    assert rf"\textcolor{{gray}}{{({expected:.3f})}}\textsuperscript{{1}}" in texts["latex"]
    assert f"{expected:.3f}" not in texts["csv"]
    (found, _) = json.loads(texts["json"])["partial"]
    assert found == {"row": "ILI", "column": ["patchtst", "mse"], "mean": pytest.approx(expected), "runs": "6 of 8"}


def cells_of(table: Table, row: str, first: int, last: int) -> list:
    """What the summary must say of these columns if only this row counts."""
    values = cells(table)[row]
    metric = [values[number::2] for number in (0, 1)]
    shown = range(first, last)
    return [
        *[values[column] for column in shown],
        *[values[column] / min(metric[column % 2]) for column in shown],
        *[float(rankdata(metric[column % 2])[column // 2]) for column in shown],
        *[float(values[column] == min(metric[column % 2])) for column in shown],
    ]


def test_a_horizon_without_any_run_leaves_no_partial_mean() -> None:
    (table,) = tables_of("main", missing(("patchtst", "ILI", 24, 2021), ("patchtst", "ILI", 24, 2022)), "")
    assert table.rows[1][1][2].partial is None
    (full,) = tables_of("full", missing(("patchtst", "ILI", 24, 2022)), "")
    by_label = dict(full.rows)
    assert (by_label["ILI 24"][2].count, by_label["ILI avg"][2].count) == ("1 of 2", "7 of 8")


@pytest.mark.parametrize(
    ("name", "unrun"), [("main", "ILI"), ("full", "ILI (24, 36, 48, 60, avg)"), ("seeds", "ILI (24, 36, 48, 60)")]
)
def test_rows_that_nobody_has_run_are_one_line_for_people_and_stay_rows_for_programs(name: str, unrun: str) -> None:
    runs = [(entry, None if entry.spec.task.dataset == "ILI" else run) for entry, run in planned(holes=False).runs]
    (table,) = tables_of(name, Results(runs), "")
    folded = table.folded()
    assert folded.unrun == unrun
    assert not any(label.startswith("ILI") for label, _ in folded.rows)
    assert not any("None of its runs" in note for note in folded.notes)
    for form in ("text", "md", "latex"):
        assert f"Nobody has run: {unrun}." in " ".join(render(table, form).split())
    assert sum(line.startswith("ILI") for line in render(table, "csv").splitlines()) == len(table.rows) - len(
        folded.rows
    )
    assert [label for label in json.loads(render(table, "json"))["rows"] if label.startswith("ILI")]


def test_folding_keeps_rules_above_their_rows_and_footnotes_at_their_cells() -> None:
    runs = planned(holes=False).runs
    failed = next(run for _, run in planned(holes=True).runs if run and run.status == "failed")
    gone = [
        (entry, failed if number == 0 else None if entry.spec.task.dataset == "ILI" else run)
        for number, (entry, run) in enumerate(runs)
    ]
    (table,) = tables_of("full", Results(gone), "")
    table.rules = [5]
    folded = table.folded()
    assert folded.rules == []
    noted = [cell.note for _, line in folded.rows for cell in line if cell.note]
    assert set(noted) == {1, 2}
    assert all("failed" in folded.notes[number - 1] for number in noted)


def test_a_table_without_any_run_keeps_its_rows() -> None:
    (table,) = tables_of("main", Results([(entry, None) for entry, _ in planned(holes=False).runs]), "")
    assert table.folded() is table


def test_the_ratio_to_the_best_is_a_geometric_mean_that_no_scale_rules() -> None:
    drawn = planned(holes=False)

    def scaled(run: RunResult) -> RunResult:
        own = 1000 if run.spec.task.dataset == "ILI" else 1
        return run.model_copy(
            update={
                "evaluations": tuple(
                    e.model_copy(update={"mse": e.mse * own, "mae": e.mae * own}) for e in run.evaluations
                )
            }
        )

    (table,), (large,) = (
        tables_of("main", results, "")
        for results in (drawn, Results([(entry, run and scaled(run)) for entry, run in drawn.runs]))
    )
    ratios = cells(table)["Ratio to the best"]
    rows = [cells(table)[name] for name in ("ETTh1", "ILI")]
    for column, ratio in enumerate(ratios):
        per_row = [row[column] / min(row[column % 2 :: 2]) for row in rows]
        assert ratio == pytest.approx(math.sqrt(per_row[0] * per_row[1]))
    assert cells(large)["Ratio to the best"] == pytest.approx(ratios)
    assert cells(large)["Average (2 data sets)"] != pytest.approx(cells(table)["Average (2 data sets)"])


def test_a_model_that_was_hardly_run_takes_no_part_in_the_summary_and_is_named() -> None:
    """Three data sets, four models; PatchTST on one of them alone."""
    chosen = Filters(models=tuple(ERRORS), datasets=("ETTh1", "ETTh2", "ILI"), seeds=(2021,), backbone="smollm2-135m")
    runs = entries(load_suite("paper"), chosen)
    hardly = [(e.spec.model, e.spec.task.dataset) not in (("patchtst", "ETTh1"), ("patchtst", "ETTh2")) for e in runs]
    found = [(entry, record(entry.spec) if there else None) for entry, there in zip(runs, hardly, strict=True)]
    (table,) = tables_of("main", Results(found), "")
    (others,) = tables_of("main", Results([pair for pair in found if pair[0].spec.model != "patchtst"]), "")
    patchtst = [2, 3]
    for (label, line), (_, without) in zip(table.summary, others.summary, strict=True):
        assert [cell.value for i, cell in enumerate(line) if i in patchtst] == [None, None], label
        assert [cell.value for i, cell in enumerate(line) if i not in patchtst] == [cell.value for cell in without]
    assert table.notes[-1] == (
        "The summary is over the 3 of 3 data sets that are complete for every model but PatchTST."
    )
    (ranks,) = tables_of("ranks", Results(found), "")
    assert [label for label, _ in ranks.rows] == ["Logo-LLM", "iTransformer", "Repeat last"]
    assert ranks.notes[-1] == "Left out, since complete on few data sets: PatchTST."


def test_of_two_models_none_is_left_out_however_many_errors_are_shown() -> None:
    """Three data sets, two models; PatchTST on one of them alone."""
    chosen = Filters(models=("dlinear", "patchtst"), datasets=("ETTh1", "ETTh2", "ILI"), seeds=(2021,))
    runs = entries(load_suite("paper"), chosen)
    found = [
        (entry, None if entry.spec.model == "patchtst" and entry.spec.task.dataset != "ILI" else record(entry.spec))
        for entry in runs
    ]
    both, one = (tables_of("main", Results(found, metrics=metrics), "")[0] for metrics in (("mse", "mae"), ("mse",)))
    assert all(cell.value is not None for _, line in both.summary for cell in line)
    assert [[cell.value for cell in line[::2]] for _, line in both.summary] == [
        [cell.value for cell in line] for _, line in one.summary
    ]


@pytest.mark.parametrize("zero", [("dlinear",), ("dlinear", "patchtst")])
def test_an_error_of_zero_leaves_finite_numbers_in_every_table_and_figure(zero: tuple[str, ...]) -> None:
    """A series of an exact period, which a naive forecast meets."""

    def exact(run: RunResult) -> RunResult:
        none = [each.model_copy(update={"mse": 0.0, "mae": 0.0}) for each in run.evaluations]
        perfect = run.spec.model in zero and run.spec.task.dataset == "ILI"
        return run.model_copy(update={"evaluations": tuple(none)}) if perfect else run

    chosen = Filters(models=("logo_llm", "dlinear", "patchtst"), datasets=("ETTh1", "ILI"), backbone="smollm2-135m")
    runs = entries(load_suite("paper"), chosen)
    found = Results([(entry, exact(record(entry.spec))) for entry in runs])
    for name in ("main", "full", "seeds", "ranks"):
        for form in SUFFIX:
            text = rendered(tables_of(name, found, ""), form)
            assert not re.search(r"\b(inf|nan|infinity)\b", text, re.IGNORECASE), (name, form)
    assert set(cells(tables_of("main", found, "")[0])["Ratio to the best"]) == {None}, "none to an error of 0"
    with warnings.catch_warnings(), styled():
        warnings.simplefilter("error")
        for name in ("heatmap", "horizons", "cost", "spread", "ranks"):
            assert PLOTS[name].build(found)


def test_no_summary_is_made_of_no_complete_row() -> None:
    nothing = Results([(entry, None) for entry, _ in planned(holes=False).runs])
    (table,) = tables_of("main", nothing, "")
    assert table.summary == []
    assert all(cell.value is None for _, row in table.rows for cell in row)
    for form in SUFFIX:
        assert render(table, form)


def test_the_caption_states_look_back_seeds_backbone_and_device() -> None:
    caption = make("main").whole_caption
    for part in (
        "look-back 96 (ILI 36)",
        "seeds 2021, 2022",
        "SmolLM2-135M",
        "pretrained (Logo-LLM the first 6 of 30 blocks, taps 2 and 6)",
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
    assert text.count("Runs are missing") == 1 and "out of memory" not in text, "one footnote for all that is missing"
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    assert {line.count(" & ") for line in body.splitlines() if line.endswith(r"\\")} == {2 * len(ERRORS)}
    assert re.search(r"\\textbf\{0\.\d{3}\}", text)
    assert re.search(r"\\underline\{0\.\d{3}\}", text)


def tables(name: str, planned: Results | None = None) -> list[Table]:
    return tables_of(name, planned or experiment(name), "Generated numbers.")


def without(name: str, missing: Callable[[PlannedRun], bool]) -> Results:
    """The same with some runs missing."""
    found = Results([(entry, None if missing(entry) else result) for entry, result in experiment(name).runs])
    assert 0 < len(found.done) < len(found.runs)
    return found


def with_random_numbers(name: str) -> Results:
    """The same with errors and probes that follow no rule."""
    draws = np.random.default_rng(0)

    def drawn(result: RunResult) -> RunResult:
        evaluations = [
            each.model_copy(update={"mse": draws.uniform(), "mae": draws.uniform()}) for each in result.evaluations
        ]
        measured = ("local_r2", "trend_r2", "local_share", "trend_share", "slow_power")
        layers = [each.model_copy(update={key: draws.uniform() for key in measured}) for each in result.layers]
        return result.model_copy(update={"evaluations": tuple(evaluations), "layers": tuple(layers)})

    return Results([(entry, drawn(result)) for entry, result in experiment(name).runs])


def mean_error(planned: Results, metric: str, **wanted: object) -> float:
    """Over the runs with these fields, as numpy has it: all have as many seeds and horizons."""
    found = []
    for (spec, variant), result in planned.runs:
        run = {"model": spec.model, "dataset": spec.task.dataset, "fraction": spec.task.train_fraction}
        run["variant"] = variant
        for each in result.evaluations:
            if wanted.items() <= {**run, "tested": each.dataset}.items():
                found.append(getattr(each, metric))
    return float(np.mean(found))


def test_every_table_that_a_suite_asks_for_can_be_made() -> None:
    assert {table for name in suite_names() for table in load_suite(name).tables} == set(review.TABLES)


@pytest.mark.parametrize(
    ("name", "form"),
    [*((name, "text") for name in EXPERIMENTS), *itertools.product(("ablation", "layers"), ("latex", "csv"))],
)
def test_tables_of_experiments_equal_their_golden_files(name: str, form: str) -> None:
    for table in tables(name):
        equals_golden(table.name, render(table, form), form)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_tables_of_experiments_hold_the_same_numbers_in_every_form(name: str) -> None:
    for table in tables(name):
        rows, summary = ({label: [cell.value for cell in line] for label, line in part} for part in parts(table))
        assert len(rows) + len(summary) == sum(map(len, parts(table)))
        assert complete(table)
        _, *read = csv.reader(io.StringIO(render(table, "csv")))
        assert {label: [float(value) for value in values] for label, *values in read} == rows | summary
        kept = json.loads(render(table, "json"))
        assert (kept["rows"], kept["summary"]) == (rows, summary)
        assert len(kept["columns"]) == len(table.columns)
        printed = [
            (label, [f"{cell.value:{'+' if cell.signed else ''}.{cell.digits}f}" for cell in line])
            for part in parts(table)
            for label, line in part
        ]
        texts = [line for line in render(table, "text").splitlines() if not line.startswith("---")]
        pages = [line for line in render(table, "md").splitlines() if line.startswith("|")]
        latex = [line for line in render(table, "latex").splitlines() if line.endswith(r"\\")]
        for label, numbers in printed:
            head = label.replace("%", r"\%").replace("→", r"$\to$")
            assert any(
                line.startswith(label) and without_marks(line).split()[-len(numbers) :] == numbers for line in texts
            )
            assert any(without_marks(line).split("|")[1:-1] == [label, *numbers] for line in pages)
            assert any(without_marks(line).split("&") == [head, *numbers] for line in latex)


def parts(table: Table) -> list[list[tuple[str, list]]]:
    return [table.rows, table.summary]


def without_marks(line: str) -> str:
    """A line of any form with nothing around its numbers."""
    line = re.sub(r"</?u>|\*\*|\\textbf|\\underline|\\\\$", "", line)
    line = re.sub(r"\{([-+0-9.]*)\}", r"\1", line)
    return re.sub(r" *([|&]) *", r"\1", re.sub(r"(\d)[*+]", r"\1", line)).strip()


def test_few_shot_is_one_table_for_each_share_of_that_shares_runs() -> None:
    drawn = with_random_numbers("few_shot")
    found = {table.name: table for table in tables("few_shot", drawn)}
    assert list(found) == ["few_shot_10", "few_shot_5"]
    for name, fraction in (("few_shot_10", 0.1), ("few_shot_5", 0.05)):
        assert f"first {100 * fraction:g} % of the windows" in found[name].title
        for dataset in ("ETTh1", "ILI"):
            expected = [
                mean_error(drawn, metric, model=model, dataset=dataset, fraction=fraction)
                for model in ERRORS
                for metric in ("mse", "mae")
            ]
            assert cells(found[name])[dataset] == pytest.approx(expected)


def test_zero_shot_rows_are_the_errors_on_the_target_and_never_those_on_the_source() -> None:
    drawn = with_random_numbers("zero_shot")
    (table,) = tables("zero_shot", drawn)
    pairs = [(source, target) for source, targets in load_suite("zero_shot").transfer.items() for target in targets]
    assert [label for label, _ in table.rows] == [f"{source} → {target}" for source, target in pairs]
    assert len(pairs) == 8
    for source, target in pairs:
        expected = [mean_error(drawn, "mse", model=model, dataset=source, tested=target) for model in ERRORS]
        assert cells(table)[f"{source} → {target}"][::2] == pytest.approx(expected)


def test_a_transfer_whose_run_is_missing_is_a_hole_at_each_of_its_targets() -> None:
    (table,) = tables("zero_shot", without("zero_shot", lambda entry: entry.label == "patchtst ETTh1 h96 s2021"))
    column = list(ERRORS).index("patchtst") * 2
    holes = [label for label, line in table.rows if line[column].value is None]
    assert holes == ["ETTh1 → ETTh2", "ETTh1 → ETTm2"]
    assert table.notes[0] == "PatchTST: 1 of 4 runs missing: ETTh1 h96 s2021 not run"


def test_what_is_tested_elsewhere_is_no_part_of_a_data_sets_own_error() -> None:
    drawn = with_random_numbers("zero_shot")
    (table,) = tables_of("main", drawn, "")
    for dataset in ("ETTh1", "ETTh2", "ETTm1", "ETTm2"):
        expected = [mean_error(drawn, "mse", model=model, dataset=dataset, tested=dataset) for model in ERRORS]
        assert cells(table)[dataset][::2] == pytest.approx(expected)


BLOCKS = {"logo_llm": "Logo-LLM", "time_llm_lite": "Time-LLM-lite", "calf_lite": "CALF-lite"}


def of_block(table: Table, model: str) -> dict[str, list]:
    """The cells of a model's variants, by the title of the variant."""
    head = f"{BLOCKS[model]}, "
    return {label.removeprefix(head): line for label, line in table.rows if label.startswith(head)}


@pytest.mark.parametrize("model", BLOCKS)
def test_changes_are_percentages_of_the_models_first_row_averaged_over_data_sets(model: str) -> None:
    drawn = with_random_numbers("ablation")
    block = of_block(tables("ablation", drawn)[0], model)
    errors = np.array(
        [
            [
                [mean_error(drawn, metric, model=model, variant=variant, dataset=dataset) for metric in ("mse", "mae")]
                for dataset in ("ETTh1", "ILI")
            ]
            for variant in block
        ]
    )  # variant, data set, metric
    change = 100 * (errors / errors[0] - 1).mean(axis=1)
    assert next(iter(block)) == "full"
    assert len(block) == {"logo_llm": 8}.get(model, 4)
    for line, expected, changed in zip(block.values(), errors, change, strict=True):
        assert [cell.value for cell in line] == pytest.approx([*expected.ravel(), *changed])
    marks = np.array([[cell.mark for cell in line] for line in block.values()])
    for column, values in enumerate(errors.reshape(len(block), -1).T):
        best, second = np.argsort(values)[:2]
        assert {i: mark for i, mark in enumerate(marks[:, column]) if mark} == {best: "best", second: "second"}
    assert not marks[:, -2:].any()


def test_a_missing_ablation_is_a_hole_also_in_its_change_and_its_column_marks_the_others() -> None:
    missing = "logo_llm (random backbone) ILI h24 s2022"
    (table,) = tables("ablation", without("ablation", lambda entry: entry.label == missing))
    block = of_block(table, "logo_llm")
    assert [cell.value is None for cell in block["random backbone"]] == [False] * 2 + [True] * 4
    assert {cell.note for cell in block["random backbone"][2:]} == {1}
    assert table.notes == ["Logo-LLM, random backbone: 1 of 4 runs missing: ILI h24 s2022 not run"]
    for variant, line in block.items():
        assert variant == "random backbone" or None not in [cell.value for cell in line]
    assert [line[2].mark for line in block.values()].count("best") == 1 and not block["random backbone"][2].mark
    assert [line[0].mark for line in block.values()].count("best") == 1
    for model in ("time_llm_lite", "calf_lite"):
        assert of_block(table, model) == of_block(tables("ablation")[0], model)


def test_without_its_reference_a_model_has_no_changes_and_no_spread() -> None:
    missing = "calf_lite (full) ETTh1 h96 s2021"
    (table,) = tables("ablation", without("ablation", lambda entry: entry.label == missing))
    for line in of_block(table, "calf_lite").values():
        assert [cell.value for cell in line[-2:]] == [None, None]
        assert [cell.note for cell in line[-2:]] == [1, 1]
    assert all(line[-1].value is not None for line in of_block(table, "logo_llm").values())
    assert re.findall(r"[\w-]+ \d+\.\d %", table.caption) == ["Logo-LLM 1.1 %", "Time-LLM-lite 1.0 %"]


def test_the_caption_says_how_far_seeds_alone_move_each_reference() -> None:
    drawn = with_random_numbers("ablation")
    spreads = []
    for model, title in BLOCKS.items():
        tasks: dict[tuple[str, int], list[float]] = {}
        for (spec, variant), result in drawn.runs:
            if (spec.model, variant) == (model, "full"):
                tasks.setdefault((spec.task.dataset, spec.task.horizon), []).append(result.evaluations[0].mse)
        errors = np.array(list(tasks.values()))
        assert errors.shape == (4, 2)
        of_seeds = (errors / errors.mean(axis=1, keepdims=True)).mean(axis=0)
        spreads.append(f"{title} {100 * of_seeds.std(ddof=1):.1f} %")
    (table,) = tables("ablation", drawn)
    moves = f"From seed to seed the first row's MSE moves by (standard deviation): {', '.join(spreads)}; "
    assert table.chance == f"{moves}the difference of two means over 2 seeds, by 1.00 times that."
    assert table.caption.endswith(f" {table.chance}")
    alone = Results([(entry, result) for entry, result in drawn.runs if entry.spec.seed == 2021])
    assert "standard deviation" not in tables("ablation", alone)[0].caption


def test_each_loss_has_the_rows_and_the_summary_of_a_main_table_of_its_own() -> None:
    drawn = with_random_numbers("losses")
    (table,) = tables("losses", drawn)
    expected: dict[str, dict[str, list]] = {"rows": {}, "summary": {}}
    for loss in ("MSE", "L1"):
        (own,) = tables_of("main", Results([(entry, run) for entry, run in drawn.runs if entry.variant == loss]), "")
        expected["rows"] |= {f"{label}, {loss}": line for label, line in own.rows}
        expected["summary"] |= {f"{label}, {loss}": line for label, line in own.summary}
    assert [label for label, _ in table.rows] == ["ETTh1, MSE", "ILI, MSE", "ETTh1, L1", "ILI, L1"]
    assert {"rows": dict(table.rows), "summary": dict(table.summary)} == expected
    assert table.rules == [2]


PROBED = ("pretrained", "random")
MEASURED = {
    "layers_read": {"local_r2": 1, "trend_r2": 1},
    "layers_follow": {"local_share": 100, "trend_share": 100, "slow_power": 100},
}
"""What the tables of blocks show of each variant and stage, and the unit."""


def test_taps_are_swept_in_one_table_and_blocks_are_rows_of_two_with_every_probed_variant() -> None:
    (sweep,), blocks = tables("taps"), tables_of("layers", experiment("taps"), "")
    taps = [*(f"local tap {tap}" for tap in (0, 1, 3, 4, 5, 6)), *(f"{blocks} blocks" for blocks in (2, 3, 4, 5))]
    assert [label for label, _ in sweep.rows] == [f"Logo-LLM, {variant}" for variant in (*PROBED, *taps)]
    assert [table.name for table in blocks] == list(MEASURED)
    for table in blocks:
        assert [group.title for group in table.groups] == [
            f"{variant}, {when} training" for variant in PROBED for when in ("before", "after")
        ]
        assert [label for label, _ in table.rows] == [
            "input",
            "block 1",
            "block 2 (local tap)",
            *(f"block {block}" for block in (3, 4, 5)),
            "block 6 (global tap)",
            "block 6, final norm",
        ]


def test_what_a_block_holds_is_the_mean_over_the_variants_runs_before_and_after_training() -> None:
    drawn = with_random_numbers("taps")
    for table in tables_of("layers", drawn, ""):
        states = [*((block, False) for block in range(7)), (6, True)]
        for state, (_, line) in zip(states, table.rows, strict=True):
            expected = []
            for variant, stage in itertools.product(PROBED, ("untrained", "trained")):
                layers = [each for entry, run in drawn.runs if entry.variant == variant for each in run.layers]
                found = [each for each in layers if (each.block, each.normed, each.stage) == (*state, stage)]
                assert len(found) == 4
                for name, unit in MEASURED[table.name].items():
                    expected.append(unit * np.mean([getattr(each, name) for each in found]))
            assert [cell.value for cell in line] == pytest.approx(expected)


def test_blocks_of_a_variant_with_a_missing_run_are_holes_and_those_of_the_other_are_not() -> None:
    missing = "logo_llm (random) ILI h24 s2022"
    holed = without("taps", lambda entry: entry.label == missing)
    (key,) = (entry.spec.key for entry, result in holed.runs if result is None)
    refused = Results(holed.runs, {key: UnusableRecord(Path("results/s2022.json"), "is of another protocol")})
    (said,) = {str(*table.notes) for table in tables_of("layers", refused, "")}
    assert said == "Logo-LLM, random: 1 of 4 runs missing: ILI h24 s2022 refused (is of another protocol)"
    for table in tables_of("layers", holed, ""):
        assert table.notes == ["Logo-LLM, random: 1 of 4 runs missing: ILI h24 s2022 not run"]
        half = len(table.columns) // 2
        for _, line in table.rows:
            assert [cell.note for cell in line] == [None] * half + [1] * half
            assert [cell.value is None for cell in line] == [False] * half + [True] * half


def test_efficiency_is_what_the_records_say_it_cost_an_epoch_and_a_window_each() -> None:
    (table,) = tables("efficiency")
    assert [label for label, _ in table.rows] == [
        f"ETTh1 {horizon} {title}"
        for horizon in (96, 720)
        for title in ("Logo-LLM", "PatchTST", "iTransformer", "Repeat last")
    ]
    epoch = (5 + 6) / 2  # the faster one of each seed
    assert cells(table)["ETTh1 720 Logo-LLM"] == pytest.approx([8, 0.08, 720, epoch, 72, 8200])
    assert cells(table)["ETTh1 96 iTransformer"] == pytest.approx([12, 0.12, 96, epoch, 9.6, 1960])


def test_the_cost_of_a_missing_run_is_a_hole() -> None:
    (table,) = tables("efficiency", without("efficiency", lambda entry: entry.label == "patchtst ETTh1 h96 s2022"))
    holes = {label: {cell.note for cell in line} for label, line in table.rows if line[0].value is None}
    assert holes == {"ETTh1 96 PatchTST": {1}}
    assert table.notes == ["PatchTST: 1 of 2 runs missing: ETTh1 h96 s2022 not run"]


def test_memory_that_a_system_does_not_tell_is_a_dash_and_no_run_is_missing() -> None:
    def untold(result: RunResult) -> RunResult:
        return result.model_copy(update={"cost": result.cost.model_copy(update={"peak_mb": None})})

    planned = Results([(entry, untold(result)) for entry, result in experiment("efficiency").runs])
    (table,) = tables("efficiency", planned)
    assert complete(table)
    assert not table.notes
    assert {line[-1].value for _, line in table.rows} == {None}
    assert json.loads(render(table, "json"))["rows"]["ETTh1 96 PatchTST"][-1] is None
    assert re.search(r"ETTh1 96 PatchTST .* -$", render(table, "text"), re.MULTILINE)


def test_costs_of_runs_that_shared_a_gpu_say_so() -> None:
    def shared(result: RunResult) -> RunResult:
        on_gpu = result.spec.model == "patchtst"
        return result.model_copy(update={"where": result.where.model_copy(update={"sharing": 8 if on_gpu else 1})})

    (table,) = tables("efficiency", Results([(entry, shared(run)) for entry, run in experiment("efficiency").runs]))
    assert "; 4 of the 16 runs shared a GPU with others, and their times include the others';" in table.caption
    assert "shared" not in tables("efficiency")[0].caption


@pytest.mark.parametrize(("name", "label"), [("main", "ILI {} %"), ("losses", "ILI {} %, MSE")])
def test_runs_on_different_shares_of_the_windows_are_never_averaged(name: str, label: str) -> None:
    drawn = with_random_numbers("few_shot")
    (table,) = tables_of(name, Results([(entry._replace(variant="MSE"), run) for entry, run in drawn.runs]), "")
    found = cells(table)
    for percent in (10, 5):
        expected = [mean_error(drawn, "mse", model=model, dataset="ILI", fraction=percent / 100) for model in ERRORS]
        assert found[label.format(percent)][::2] == pytest.approx(expected)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_without_a_single_run_is_holes_in_every_form(name: str) -> None:
    nothing = Results([(entry, None) for entry, _ in experiment(name).runs])
    for table in tables(name, nothing):
        assert all(cell.value is None and cell.note for _, line in table.rows for cell in line)
        assert all(render(table, form) for form in SUFFIX)


@pytest.mark.parametrize("deep_first", [True, False])
def test_variants_of_different_depths_share_a_table_of_blocks_and_have_nothing_beyond_their_own(
    deep_first: bool,
) -> None:
    runs = experiment("taps").runs
    probed = [(entry, result) for entry, result in runs if entry.spec.task.probe and entry.variant == "pretrained"]
    shallow = []
    for entry, result in probed:
        spec = entry.spec.model_copy(update={"options": entry.spec.options | {"blocks": 4, "global_tap": 4}})
        kept = tuple(layer for layer in result.layers if layer.block <= 4)
        shallow.append((PlannedRun(spec, "four"), result.model_copy(update={"spec": spec, "layers": kept})))
    both = [*probed, *shallow] if deep_first else [*shallow, *probed]
    read = next(table for table in tables_of("layers", Results(both), "") if table.name == "layers_read")
    assert [label for label, _ in read.rows][-3:] == ["block 5", "block 6", "block 6, final norm"]
    for label, line in read.rows[-3:]:
        filled = [cell.value is not None for cell in line]
        assert sorted(filled) == [False] * 4 + [True] * 4, label
        assert all(cell.note is None for cell in line)
