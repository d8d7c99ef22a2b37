"""Ours beside published errors."""

from __future__ import annotations

import pandas as pd
import pytest

from bench.analysis.published import published, published_table
from bench.analysis.results import Results
from bench.analysis.tables import Cell, Table
from bench.core.card import cards
from bench.plan.suite import Filters, entries, load_suite
from bench.report.render import SUFFIX, render
from models import MODELS
from tests.builders import complete, record


def table(models: tuple[str, ...], datasets: tuple[str, ...], *, suite: str = "paper", missing: str = "") -> Table:
    """Of generated records; those whose label begins with `missing` are not there."""
    planned = entries(load_suite(suite), Filters(models=models, datasets=datasets, seeds=(2021, 2022)))
    runs = [(e, None if missing and e.label.startswith(missing) else record(e.spec)) for e in planned]
    (made,) = published_table(Results(runs))
    return made


def values(made: Table) -> dict[str, list[float | None]]:
    return {label: [cell.value for cell in cells] for label, cells in made.rows}


def test_the_file_holds_known_data_sets_and_horizons_and_numbers_that_can_be_errors() -> None:
    frame = published()
    assert set(frame.model) - {entry.printed for entry in MODELS.values()} == {"TiDE", "TimesNet"}  # other libraries'
    assert set(frame.dataset) <= set(cards())
    for row in frame.itertuples():
        assert row.horizon == "avg" or int(row.horizon) in cards()[row.dataset].horizons
    assert frame.mse.between(0.05, 12).all()
    assert (frame.mae.isna() | frame.mae.between(0.05, 2)).all()
    assert frame.source.str.len().min() > 10


def test_a_printed_average_is_the_mean_of_the_printed_horizons() -> None:
    """Within the rounding of three digits; it would show a slip in the transcription."""
    keys = ["model", "dataset", "lookback", "setting", "source"]
    whole = 0
    for _, rows in published().groupby(keys):
        mean = rows[rows.horizon != "avg"][["mse", "mae"]]
        printed = rows[rows.horizon == "avg"][["mse", "mae"]]
        if len(mean) == 4 and len(printed) == 1:
            whole += 1
            pd.testing.assert_series_equal(mean.mean(), printed.iloc[0], check_names=False, atol=2.5e-3, rtol=0)
    assert whole > 20


def test_a_row_is_ours_theirs_and_the_difference_in_percent() -> None:
    made = table(("itransformer",), ("ETTh1",))
    found = values(made)["iTransformer ETTh1 96 [1, 2]"]
    ours = sum(record(e.spec).evaluations[0].mse for e in entries(load_suite("paper"), ONE)) / 2
    assert found[:4] == pytest.approx([ours, ours / 2, 0.386, 0.405])
    assert found[4:] == pytest.approx([100 * (ours / 0.386 - 1), 100 * (ours / 2 / 0.405 - 1)])
    assert made.notes[0].endswith("look-back 96")


ONE = Filters(models=("itransformer",), datasets=("ETTh1",), horizons=(96,), seeds=(2021, 2022))


def test_values_on_which_sources_differ_are_both_shown_and_equal_ones_once() -> None:
    rows = table(("patchtst",), ("ETTh2",)).rows
    labels = [label for label, cells in rows if cells[4].value is not None]  # printed at our look-back
    assert sum(label.startswith("PatchTST ETTh2 96 ") for label in labels) == 2
    assert sum(label.startswith("PatchTST ETTh2 336 ") for label in labels) == 1


def test_another_look_back_is_said_and_kept_out_of_the_mean() -> None:
    made = table(("itransformer", "time_llm_lite"), ("ETTh1",))
    assert any("look-back 512, ours 96; re-run by a third party" in note for note in made.notes)
    assert [label for label, _ in made.summary] == ["iTransformer, mean of 4"]
    mean = [row for label, row in values(made).items() if label.startswith("iTransformer") and "avg" not in label]
    expected = [pytest.approx(sum(row[i] or 0.0 for row in mean) / 4) for i in range(6)]
    assert [cell.value for cell in made.summary[0][1]] == expected


def test_what_a_source_does_not_print_is_a_dash_and_no_hole() -> None:
    made = table(("logo_llm",), ("ILI",))
    ((label, cells),) = made.rows
    assert label == "Logo-LLM ILI avg [1]"
    assert [cell.value is None for cell in cells] == [False, False, False, True, True, True], "the look-back is unknown"
    assert complete(made)
    assert "look-back not stated" in made.notes[0]
    assert " - " in render(made, "text")


def test_a_missing_run_is_a_hole_with_its_reason() -> None:
    made = table(("itransformer",), ("ETTh1",), missing="itransformer ETTh1 h96 s2021")
    cells: dict[str, list[Cell]] = dict(made.rows)
    hole = next(row for label, row in cells.items() if " 96 " in label)
    assert [cell.value is None for cell in hole] == [True, True, False, False, True, True]
    assert not complete(made)
    assert made.notes[(hole[0].note or 0) - 1].endswith("ETTh1 h96 s2021 not run")
    for form in SUFFIX:
        assert render(made, form)


def test_few_shot_values_stand_beside_the_same_share_alone() -> None:
    made = table(("patchtst",), ("ETTh1",), suite="few_shot")
    assert len(made.rows) == 5, "four horizons and the average at 10 %; nothing is printed for 5 %"
    assert all("few-shot 10%" in note for note in made.notes)
    assert made.rows[0][0].startswith("PatchTST ETTh1 10 % 96 [")


def test_a_variant_is_compared_alone_and_a_cell_with_two_printed_values_counts_once() -> None:
    filters = Filters(models=("patchtst",), datasets=("ETTh2",), horizons=(96,), seeds=(2021,))
    (entry,) = entries(load_suite("paper"), filters)
    runs = []
    for name, mse in (("plain", 0.4), ("other", 0.8)):
        error = record(entry.spec).evaluations[0].model_copy(update={"mse": mse})
        runs.append((entry._replace(variant=name), record(entry.spec).model_copy(update={"evaluations": (error,)})))
    (table,) = published_table(Results(runs))
    ours = {label.partition(" ETTh2")[0]: cells[0].value for label, cells in table.rows}
    assert ours == {"PatchTST, plain": 0.4, "PatchTST, other": 0.8}
    plain = [cells for label, cells in table.rows if label.startswith("PatchTST, plain ETTh2 96")]
    printed = [cells[2].value for cells in plain if cells[4].value is not None]
    assert len(printed) == 2, "sources print this cell differently"
    summary = dict(table.summary)["PatchTST, plain, mean of 1"]
    assert [cell.value for cell in summary[:3:2]] == pytest.approx([0.4, sum(printed) / 2])


def test_cells_that_nobody_printed_are_an_empty_table_that_says_so() -> None:
    filters = Filters(models=("seasonal_naive",), datasets=("Weather",), seeds=(2021,))
    (table,) = published_table(Results([(entry, None) for entry in entries(load_suite("paper"), filters)]))
    assert table.rows == []
    assert table.notes == ["No source prints a value for any of these cells."]
