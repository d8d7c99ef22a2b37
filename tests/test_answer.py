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
    (sentence,) = answer(rows, [])
    assert sentence == (
        "Of the paper's 4 claims, 2 hold (the mixer; the tap), 1 does not hold (the value) and 1 is inconclusive."
    )
    (alone,) = answer([claim("tap", Verdict.UNTESTED)], [])
    assert alone == "The paper's claim (the tap) is not tested."


def test_what_the_language_model_adds_is_told_by_the_tested_claims_on_it() -> None:
    added = [claim("pretraining", Verdict.OPEN, True), claim("no_backbone", Verdict.UNTESTED, True)]
    *_, last = answer([claim("tap", Verdict.HOLDS), *added], [])
    assert last == "MSE of Logo-LLM: with random weights for the pretrained ones it changes by +1.0 % (inconclusive)."
    tested = [added[0], replace(added[1], verdict=Verdict.FAILS, ours="-3.0 %")]
    *_, last = answer([claim("tap", Verdict.HOLDS), *tested], [])
    assert last.endswith("(inconclusive), without a language model it changes by -3.0 % (does not hold).")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"dlinear": 0.3, "logo_llm": 0.4, "repeat_last": 0.5},
            "on 1 of 1 data sets: A (DLinear 0.300, Logo-LLM 0.400).",
        ),
        (
            {"dlinear": 0.3, "logo_llm": 0.4, "calf_lite": 0.2, "repeat_last": 0.5},
            "On A no model without a language model is ahead of every model with one.",
        ),
        (
            {"dlinear": 0.5, "logo_llm": 0.4, "calf_lite": 0.2, "repeat_last": 0.3},
            "beats Logo-LLM on A (Repeat last 0.300, Logo-LLM 0.400).",
        ),
        (
            {"dlinear": 0.3, "logo_llm": None, "calf_lite": 0.4},
            "on 1 of 1 data sets: A (DLinear 0.300, CALF-lite 0.400).",
        ),
    ],
)
def test_models_without_a_language_model_are_set_beside_those_with_one_where_both_are_there(
    values: dict[str, float | None], expected: str
) -> None:
    (sentence,) = answer([], [main(A=values, B={"dlinear": 0.1})])
    assert sentence.endswith(expected)


def test_where_no_claim_is_decided_the_best_mean_ranks_are_told() -> None:
    table = main(A={"dlinear": 0.3, "patchtst": 0.4, "repeat_last": 0.5})
    table.summary.append(("Mean rank", [Cell(rank) for rank in (1.5, 9, 1.25, 9, 3, 9)]))
    ranks = "T: the best mean ranks by MSE among 3 models are PatchTST 1.25, DLinear 1.50, Repeat last 3.00."
    assert answer([], [table])[0] == answer([claim("tap", Verdict.OPEN)], [table])[1] == ranks
    assert ranks not in answer([claim("tap", Verdict.HOLDS)], [table])
