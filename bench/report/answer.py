"""Answer a suite's question in two or three sentences, from its verdicts and its first table. Pure; no torch."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pandas as pd

from bench.analysis.claims import Verdict
from bench.analysis.results import ERRORS
from bench.analysis.stats import comparable
from bench.analysis.tables import Table
from bench.analysis.verdicts import Judged
from bench.core.text import first_few
from bench.plan.registry import title
from models import MODELS, PROPOSED, library_of

ONE = {
    Verdict.FAILS: "does not hold",
    Verdict.HOLDS: "holds",
    Verdict.PART: "holds in part",
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
"""Verdict -> what is said of one claim, and of several; what does not hold is said first."""
BY_DATA_SET = ("main", "few_shot")
"""Beginnings of the names of tables whose rows are data sets."""
DECIDED = (Verdict.HOLDS, Verdict.PART, Verdict.FAILS)
"""Verdicts whose claims are named."""


def answer(claims: Sequence[Judged], tables: Sequence[Table]) -> list[str]:
    """Return the sentences: which claims hold, which models without a language model win, and what its weights add."""
    own, added = ([row for row in claims if row.added is which] for which in (False, True))
    decided = any(row.verdict in DECIDED for row in claims)
    main = next((table for table in tables[:1] if table.summary and table.name.startswith(BY_DATA_SET)), None)
    ranks, floors = (_ranks(main) if main and not decided else ""), (_floors(main) if main else "")
    variants = _variants(tables[0]) if tables and not own else ""
    return list(filter(None, [_tally(own), ranks, floors, variants, _without(added) if own else _tally(added)]))


def _tally(rows: Sequence[Judged]) -> str:
    """Count the claims of each verdict, and name those that are decided."""
    if not rows:
        return ""
    tested = [row for row in rows if row.verdict is not Verdict.UNTESTED]
    readers = dict.fromkeys(row.reader for row in tested if row.reader)
    counted = ", but for what is counted on the paper's own shapes" * any(not row.reader for row in tested)
    run = f" {'It was' if len(rows) == 1 else 'They were'} run {', '.join(readers)}{counted}." if readers else ""
    if len(rows) == 1:
        whose = "The claim added here" if rows[0].added else "The paper's claim"
        found = ", ".join(filter(None, [ONE[rows[0].verdict], rows[0].scope, rows[0].interval]))
        return f"{whose} ({rows[0].short}) {found}.{run}"
    whose = f"the {len(rows)} claims added here" if rows[0].added else f"the paper's {len(rows)} claims"
    if len({row.suite for row in rows}) == 1:
        whose += " that this suite tests"
    parts = []
    for verdict in ONE:
        alike = [row for row in rows if row.verdict is verdict]
        named = [", ".join(filter(None, [row.short, row.scope])) for row in alike]
        names = f" ({'; '.join(named)})" if verdict in DECIDED else ""
        if alike:
            parts.append(f"{len(alike)} {(ONE if len(alike) == 1 else SEVERAL)[verdict]}{names}")
    return f"Of {whose}, {', '.join(parts[:-1])}{' and ' * (len(parts) > 1)}{parts[-1]}.{run}"


def _errors(main: Table, names: Collection[str] | None = None) -> pd.DataFrame:
    """Return the first error of the table: a row per data set that is complete for comparable models, a column each.

    `names`: of the models that count (default: all).
    """
    columns = {group.key: number * len(main.metrics) for number, group in enumerate(main.groups)}
    values = {
        key: [cells[column].value for _, cells in main.rows]
        for key, column in columns.items()
        if names is None or key in names
    }
    return comparable(pd.DataFrame(values, [label for label, _ in main.rows], dtype=float)).dropna()


def _floors(main: Table) -> str:
    """Say on which data sets a model without a language model is ahead of all with one, and floors of Logo-LLM."""
    known = [group.key for group in main.groups if group.key in MODELS or library_of(group.key)]  # what it is made of
    errors = _errors(main, known)
    readers = [name for name in errors if name in MODELS and MODELS[name].uses_backbone]
    others = [name for name in errors if name not in readers]
    if errors.empty or not readers or not others:
        return ""
    untrained = [name for name in others if name in MODELS and not MODELS[name].trains]
    ahead = _below(errors, others, readers)
    floors = _below(errors, untrained, [PROPOSED]) if untrained and PROPOSED in errors else []
    own = ", your own left out," * any(":" in group.key and group.key not in known for group in main.groups)
    who = f"{'a' if ahead else 'no'} model without a language model{own} is ahead of every model with one"
    by = f"{'By' if main.name == 'main' else f'{main.title}: by'} mean {ERRORS[main.metrics[0]]}"
    found = f"{by} on {_complete(errors)}, {who}{' on ' * bool(ahead)}{', '.join(ahead)}"
    nothing = f"; one that trains nothing is ahead of {MODELS[PROPOSED].title} on {', '.join(floors)}" if floors else ""
    return f"{found}{nothing}."


def _complete(errors: pd.DataFrame) -> str:
    names = first_few(errors.index, most=5)
    return (
        f"the {len(errors)} complete data sets ({names})" if len(errors) > 1 else f"{names}, the only complete data set"
    )


def _below(errors: pd.DataFrame, some: list[str], rivals: list[str]) -> list[str]:
    """Name the data sets on which one of these models has a lower error than every rival, with both errors."""
    best, best_rival = ((errors[names].idxmin(axis=1), errors[names].min(axis=1)) for names in (some, rivals))
    return [
        f"{row} ({', '.join(f'{title(names[row])} {values[row]:.3f}' for names, values in (best, best_rival))})"
        for row in errors.index[best[1] < best_rival[1]]
    ]


def _variants(table: Table) -> str:
    """Say between which variants of one model the first error lies, and how far the seed alone moves it."""
    if table.name not in ("ablation", "taps") or len(table.rows) < 3 or table.rules:
        return ""
    first, *others = [label for label, _ in table.rows]
    columns = range(0, len(table.columns) - len(table.metrics), len(table.metrics))
    rows = [[cells[column].value for column in columns] for _, cells in table.rows]
    names = [group.title for group in table.groups[:-1]]
    errors = pd.DataFrame(rows, [first, *others], names, dtype=float).dropna(axis=1)
    if errors.empty:
        return ""
    change = 100 * (errors / errors.iloc[0] - 1).mean(axis=1).loc[others]
    ends = " to ".join(f"{change[end]:+.1f} % ({end})" for end in (change.idxmin(), change.idxmax()))
    whose = f"Mean {ERRORS[table.metrics[0]]} on {first_few(errors.columns)} of the {len(others)} other variants"
    return f"{whose} lies {ends} from that of “{first}”. {table.chance}".rstrip()


def _without(added: Sequence[Judged]) -> str:
    """Say what MSE does without the pretrained weights, and without any language model."""
    instead = {"pretraining": "with random weights for the pretrained ones", "no_backbone": "without a language model"}
    found = [row for row in added if row.id in instead and row.verdict is not Verdict.UNTESTED]
    parts = [
        f"{instead[row.id]} it changes by {row.ours}"
        f" ({', '.join(filter(None, [row.verdict, row.scope, row.interval]))})"
        for row in found
    ]
    return f"MSE of {MODELS[PROPOSED].title}: {', '.join(parts)}." if parts else ""


def _ranks(main: Table) -> str:
    """Say which models have the best mean ranks by the first error; a single data set has no mean ranks."""
    errors = _errors(main)
    ranks = next((cells for label, cells in main.summary if label.startswith("Mean rank")), [])
    groups = zip(ranks[:: len(main.metrics)], main.groups, strict=True) if ranks else ()
    ordered = sorted((cell.value, group.title) for cell, group in groups if cell.value is not None)
    if len(ordered) < 2 or len(errors) < 2:
        return ""
    listed = ", ".join(f"{title} {rank:.2f}" for rank, title in ordered[:3])
    error = ERRORS[main.metrics[0]]
    models = f"{len(ordered)} models on {_complete(errors)}"
    return f"{main.title}: the best mean ranks by {error} among {models} are {listed}."
