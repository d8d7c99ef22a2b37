"""The sentences that a page and README begin with: from verdicts and the main table, and right where they change."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.analysis.claims import Verdict
from bench.analysis.tables import Cell, Group, Table
from bench.analysis.verdicts import Judged
from bench.report.answer import answer
from models import MODELS


def claim(name: str, verdict: Verdict, added: bool = False, ours: str = "+1.0 %") -> Judged:
    return Judged(name, f"{name}.", f"the {name}", "source", "paper", "ahead", added, verdict, verdict, ours=ours)


def main(**rows: dict[str, float | None]) -> Table:
    """A main table of one metric's values, both metrics alike, with a summary of mean ranks."""
    models = list(dict.fromkeys(name for row in rows.values() for name in row))
    table = Table("main", "T", "", [Group(name, MODELS[name].title) for name in models])
    for label, row in rows.items():
        table.rows.append((label, [Cell(row.get(name)) for name in models for _ in range(2)]))
    table.summary.append(("Average (2 data sets)", []))
    return table


def test_verdicts_are_counted_and_those_that_are_decided_are_named() -> None:
    rows = [
        claim("mixer", Verdict.HOLDS),
        claim("tap", Verdict.HOLDS),
        claim("value", Verdict.FAILS),
        claim("x", Verdict.OPEN),
    ]
    rows[0] = replace(rows[0], scope="on ILI", reader="with X for GPT-2")
    (sentence,) = answer(rows, [])
    assert sentence == (
        "Of the paper's 4 claims that this suite tests, 1 does not hold (the value), 2 hold (the mixer, on ILI; the "
        "tap) and 1 is inconclusive. They were run with X for GPT-2, but for what is counted on the paper's own shapes."
    )
    (alone,) = answer([claim("tap", Verdict.UNTESTED)], [])
    assert alone == "The paper's claim (the tap) is not tested."


def test_what_the_language_model_adds_is_told_by_the_tested_claims_on_it() -> None:
    opened = replace(claim("pretraining", Verdict.OPEN, True), scope="over ILI only", interval="[-9, +11]")
    added = [opened, claim("no_backbone", Verdict.UNTESTED, True)]
    *_, last = answer([claim("tap", Verdict.HOLDS), *added], [])
    changes = "MSE of Logo-LLM: with random weights for the pretrained ones it changes by +1.0 %"
    assert last == f"{changes} (inconclusive, over ILI only, [-9, +11])."
    tested = [added[0], replace(added[1], verdict=Verdict.FAILS, ours="-3.0 %")]
    *_, last = answer([claim("tap", Verdict.HOLDS), *tested], [])
    assert last.endswith(", without a language model it changes by -3.0 % (does not hold).")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"dlinear": 0.3, "logo_llm": 0.4, "repeat_last": 0.5},
            "every model with one on A (DLinear 0.300, Logo-LLM 0.400).",
        ),
        (
            {"dlinear": 0.3, "logo_llm": 0.4, "calf_lite": 0.2, "repeat_last": 0.5},
            "On A, the only complete data set, no model without a language model is ahead of every model with one.",
        ),
        (
            {"dlinear": 0.5, "logo_llm": 0.4, "calf_lite": 0.2, "repeat_last": 0.3},
            "; one that trains nothing is ahead of Logo-LLM on A (Repeat last 0.300, Logo-LLM 0.400).",
        ),
        (
            {"dlinear": 0.3, "logo_llm": None, "calf_lite": 0.4},
            "every model with one on A (DLinear 0.300, CALF-lite 0.400).",
        ),
    ],
)
def test_models_without_a_language_model_are_set_beside_those_with_one_where_every_model_is_there(
    values: dict[str, float | None], expected: str
) -> None:
    (sentence,) = answer([], [main(A=values, B={"dlinear": 0.1})])
    assert sentence.replace("By mean MSE on", "On").endswith(expected)


@pytest.mark.parametrize(
    ("name", "lead"), [("main", "By"), ("few_shot_10", "T: by"), ("losses", None), ("zero_shot", None)]
)
def test_only_tables_whose_rows_are_data_sets_are_read_so(name: str, lead: str | None) -> None:
    sentences = answer([], [replace(main(A={"dlinear": 0.3, "logo_llm": 0.4}), name=name, title="T")])
    assert [sentence.partition(" mean MSE on A, ")[0] for sentence in sentences] == ([] if lead is None else [lead])


def test_networks_of_libraries_read_no_language_model_and_a_users_own_are_left_out() -> None:
    table = Table("main", "T", "", [Group(name, name) for name in ("nixtla:TiDE", "logo_llm", "mine:Net")])
    table.rows.append(("A", [*map(Cell, (0.1, 9, 0.3, 9, None, 9))]))
    table.summary.append(("Average", []))
    who = "a model without a language model, your own left out,"
    ahead = "is ahead of every model with one on A (TiDE (nixtla) 0.100, Logo-LLM 0.300)."
    assert answer([], [table]) == [f"By mean MSE on A, the only complete data set, {who} {ahead}"]
    table.groups[2] = Group("dlinear_slow", "DLinear, slow")
    (sentence,) = answer([], [table])
    assert "your own" not in sentence and sentence.endswith(ahead), "a variant is nobody's own"


def test_a_single_claim_says_its_scope_its_interval_and_what_was_run() -> None:
    row = replace(
        claim("tap", Verdict.PART), scope="on ILI", interval="[-3.0, -1.0] over 3 seeds", reader="with X for Y"
    )
    expected = "The paper's claim (the tap) holds in part, on ILI, [-3.0, -1.0] over 3 seeds. It was run with X for Y."
    assert answer([row], []) == [expected]
    *_, counted = answer([row, claim("count", Verdict.HOLDS)], [])[0].partition(" They were ")
    assert counted == "run with X for Y, but for what is counted on the paper's own shapes."


def test_a_data_set_that_some_model_was_not_run_on_says_nothing_of_who_is_ahead() -> None:
    rows = {"A": {"dlinear": 0.3, "patchtst": 0.5, "logo_llm": 0.4}, "B": {"dlinear": 0.5, "logo_llm": 0.4}}
    rows |= {"C": {"dlinear": 0.5, "patchtst": 0.5, "logo_llm": 0.4}}
    (sentence,) = answer([], [main(**rows)])
    assert sentence.startswith("By mean MSE on the 2 complete data sets (A, C), a model without a language model ")
    assert sentence.endswith(" on A (DLinear 0.300, Logo-LLM 0.400).")


def test_variants_of_a_model_are_told_with_how_far_the_seed_alone_moves_it() -> None:
    table = Table("taps", "T", "", [Group("ILI", "ILI"), Group("ECL", "ECL"), Group("change", "Change, %")])
    for label, error in (("usual", 2.0), ("tap 1", 2.2), ("tap 2", 1.9)):
        table.rows.append((label, [*map(Cell, (error, 9, None, 9, 0, 9))]))
    table.chance = "By chance 8 %."
    expected = "Mean MSE on ILI of the 2 other variants lies -5.0 % (tap 2) to +10.0 % (tap 1) from that of “usual”. "
    expected += "By chance 8 %."
    assert answer([], [table]) == [expected]


def test_where_no_claim_is_decided_the_best_mean_ranks_are_told_of_two_data_sets_or_more() -> None:
    row = {"dlinear": 0.3, "patchtst": 0.4, "repeat_last": 0.5}
    table, alone = main(A=row, B=row), main(A=row)
    for each in (table, alone):
        each.summary.append(("Mean rank", [Cell(rank) for rank in (1.5, 9, 1.25, 9, 3, 9)]))
    ranks = "T: the best mean ranks by MSE among 3 models on the 2 complete data sets (A, B) are PatchTST 1.25, "
    ranks += "DLinear 1.50, Repeat last 3.00."
    assert answer([], [table])[0] == answer([claim("tap", Verdict.OPEN)], [table])[1] == ranks
    assert ranks not in answer([claim("tap", Verdict.HOLDS)], [table])
    assert answer([], [alone]) == []
