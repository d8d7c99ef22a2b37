"""Answer a suite's question in two or three sentences, from its verdicts and its first table. Pure; no torch."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from bench.analysis.claims import Verdict
from bench.analysis.results import ERRORS
from bench.analysis.tables import Table
from bench.analysis.verdicts import Judged
from bench.core.text import first_few
from models import MODELS, PROPOSED

ONE = {
    Verdict.HOLDS: "holds",
    Verdict.PART: "holds in part",
    Verdict.FAILS: "does not hold",
    Verdict.OPEN: "is inconclusive",
    Verdict.UNTESTED: "is not tested",
}
SEVERAL = {
    Verdict.HOLDS: "hold",
    Verdict.PART: "hold in part",
    Verdict.FAILS: "do not hold",
    Verdict.OPEN: "are inconclusive",
    Verdict.UNTESTED: "are not tested",
}
"""Verdict -> what is said of one claim, and of several."""
DECIDED = (Verdict.HOLDS, Verdict.PART, Verdict.FAILS)
"""Verdicts whose claims are named."""


def answer(claims: Sequence[Judged], tables: Sequence[Table]) -> list[str]:
    """Return the sentences: which claims hold, which models without a language model win, and what its weights add."""
    own, added = ([row for row in claims if row.added is which] for which in (False, True))
    decided = any(row.verdict in DECIDED for row in claims)
    main = tables[0] if tables and tables[0].summary else None
    ranks, floors = (_ranks(main) if main and not decided else ""), (_floors(main) if main else "")
    return list(filter(None, [_tally(own), ranks, floors, _without(added) if own else _tally(added)]))


def _tally(rows: Sequence[Judged]) -> str:
    """Count the claims of each verdict, and name those that are decided."""
    if not rows:
        return ""
    if len(rows) == 1:
        whose = "The claim added here" if rows[0].added else "The paper's claim"
        return f"{whose} ({rows[0].short}) {ONE[rows[0].verdict]}."
    whose = f"the {len(rows)} claims added here" if rows[0].added else f"the paper's {len(rows)} claims"
    parts = []
    for verdict in ONE:
        alike = [row for row in rows if row.verdict is verdict]
        names = f" ({'; '.join(row.short for row in alike)})" if verdict in DECIDED else ""
        if alike:
            parts.append(f"{len(alike)} {(ONE if len(alike) == 1 else SEVERAL)[verdict]}{names}")
    counted = ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1]
    return f"Of {whose}, {counted}."


def _lowest(table: Table, names: Collection[str], row: int) -> tuple[float, str] | None:
    """Return the lowest error of a row among these models, and the model's title."""
    cells = table.rows[row][1][:: len(table.metrics)]
    found = [
        (cell.value, group.title)
        for cell, group in zip(cells, table.groups, strict=True)
        if cell.value is not None and group.key in names
    ]
    return min(found, default=None)


def _floors(main: Table) -> str:
    """Say on which data sets a model without a language model is ahead of all with one, and floors of Logo-LLM."""
    readers = [name for name, model in MODELS.items() if model.uses_backbone]
    others = [name for name in MODELS if name not in readers]
    untrained = [name for name, model in MODELS.items() if not model.trains]
    ahead, floors, compared = [], [], []
    for row, (label, _) in enumerate(main.rows):
        without, reader = _lowest(main, others, row), _lowest(main, readers, row)
        if without and reader:
            compared.append(label)
            if without < reader:
                ahead.append(f"{label} ({without[1]} {without[0]:.3f}, {reader[1]} {reader[0]:.3f})")
        floor, proposed = _lowest(main, untrained, row), _lowest(main, [PROPOSED], row)
        if floor and proposed and floor[0] < proposed[0]:
            floors.append(f"{label} ({floor[1]} {floor[0]:.3f}, {MODELS[PROPOSED].title} {proposed[0]:.3f})")
    if not compared:
        return ""
    nothing = f"; one that trains nothing beats {MODELS[PROPOSED].title} on {', '.join(floors)}" if floors else ""
    if not ahead:
        return f"On {first_few(compared)} no model without a language model is ahead of every model with one{nothing}."
    where = f"on {len(ahead)} of {len(compared)} data sets: {', '.join(ahead)}"
    error = ERRORS[main.metrics[0]]
    return f"A model without a language model has a lower {error} than every model with one {where}{nothing}."


def _without(added: Sequence[Judged]) -> str:
    """Say what MSE does without the pretrained weights, and without any language model."""
    instead = {"pretraining": "with random weights for the pretrained ones", "no_backbone": "without a language model"}
    found = [row for row in added if row.id in instead and row.verdict is not Verdict.UNTESTED]
    parts = [f"{instead[row.id]} it changes by {row.ours} ({row.verdict})" for row in found]
    return f"MSE of {MODELS[PROPOSED].title}: {', '.join(parts)}." if parts else ""


def _ranks(main: Table) -> str:
    """Say which models have the best mean ranks by the first error."""
    ranks = next((cells for label, cells in main.summary if label.startswith("Mean rank")), [])
    groups = zip(ranks[:: len(main.metrics)], main.groups, strict=True) if ranks else ()
    ordered = sorted((cell.value, group.title) for cell, group in groups if cell.value is not None)
    if len(ordered) < 2:
        return ""
    listed = ", ".join(f"{title} {rank:.2f}" for rank, title in ordered[:3])
    error = ERRORS[main.metrics[0]]
    return f"{main.title}: the best mean ranks by {error} among {len(ordered)} models are {listed}."
