"""The table of our errors beside published ones, with their look-back, source and difference. Pure; no torch.

`suites/published.csv` has one row per printed value: model, dataset, horizon (or avg), lookback, setting, mse, mae,
source. A cell that sources print differently has a row for each value.
"""

from __future__ import annotations

import math
from functools import cache, lru_cache
from typing import Any

import pandas as pd

from bench.analysis.results import METRICS, ON_CHANNELS, Results, shared
from bench.analysis.tables import Cell, Group, Table, behind, grouped
from bench.core.card import cards
from bench.plan import registry
from bench.plan.settings import SUITES

MEANS = "Means are over the cells printed at our look-back; where sources differ, over them first."


@lru_cache
def published() -> pd.DataFrame:
    """Return every printed value, under the names of models in papers; `lookback` is NaN if its source states none."""
    return pd.read_csv(SUITES / "published.csv", dtype={"horizon": str})


def published_table(planned: Results) -> list[Table]:
    """Show a row for every printed value of a planned cell, and each model's mean difference at an equal look-back."""
    groups = [Group("ours", "Ours"), Group("published", "Published"), Group("difference", "Difference, %")]
    caption = f"{planned.lead(ON_CHANNELS)} {MEANS}"
    table = Table("published", "Ours beside published errors", caption, groups, marked=False)
    for (model, title), of_model in grouped(planned.own, ["model", "title"]):
        alike: dict[tuple[str, str], list[list[Cell]]] = {}
        for (dataset, share), of_dataset in grouped(of_model, ["dataset", "fraction"]):
            context = of_dataset.entry.iloc[0].spec.task.context
            cells = [(str(horizon), runs) for horizon, runs in grouped(of_dataset, "horizon")]
            if set(of_dataset.horizon) == set(cards()[dataset].horizons):
                cells.append(("avg", of_dataset))
            for horizon, runs in cells:
                printed = _printed(model, dataset, horizon, share)
                for (lookback, *errors), equal in grouped(printed, ["lookback", *METRICS]):
                    row = _row(runs, errors, lookback == context, table)
                    sources = ", ".join(str(_source(each, context, table)) for each in equal.itertuples())
                    table.rows.append((f"{title} {shared(dataset, share)} {horizon} [{sources}]", row))
                    if horizon != "avg" and lookback == context:
                        alike.setdefault((dataset, horizon), []).append(row)
        _close(table, title, list(alike.values()))
    if not table.rows:
        table.notes.append("No source prints a value for any of these cells.")
    return [table]


def strength(model: str, metric: str, runs: pd.DataFrame) -> tuple[float, int]:
    """Return by how many percent a model's errors are above its published ones, and over how many cells.

    `runs`: rows of `Results.frame`. Only values at the same look-back count, and no transfers; NaN without any.
    """
    apart = []
    own = runs[(runs.tested == runs.dataset) & ~runs.entry.map(lambda entry: bool(entry.spec.task.test_on))]
    for (dataset, horizon, share), cell in grouped(own, ["dataset", "horizon", "fraction"]):
        printed = _printed(model, dataset, str(horizon), share)
        theirs = printed[printed.lookback == cell.entry.iloc[0].spec.task.context][metric].mean()
        apart.append(100 * (cell[metric].mean() / theirs - 1))
    known = pd.Series(apart, dtype=float).dropna()
    return float(known.mean()), len(known)


@cache
def _printed(model: str, dataset: str, horizon: str, share: float) -> pd.DataFrame:
    """Return the values that sources print for this cell, trained on this share of the windows."""
    frame = published()
    setting = "full" if share == 1 else f"few_shot_{100 * share:g}"
    cell = (frame.model == registry.printed(model)) & (frame.dataset == dataset) & (frame.horizon == horizon)
    return frame[cell & frame.setting.str.split(",").str[0].eq(setting)]


def _row(runs: pd.DataFrame, printed: list[float], comparable: bool, table: Table) -> list[Cell]:
    """Return ours, theirs, and the difference in percent, which is a dash without a footnote across look-backs."""
    ours, theirs = table.errors(runs), list(map(Cell, printed))
    apart = []
    for own, other in zip(ours, theirs, strict=True):
        change, note = math.nan, None
        if comparable and other.value is not None:
            change, note = math.nan if own.value is None else 100 * (own.value / other.value - 1), own.note
        apart.append(Cell(change, digits=1, signed=True, note=note, runs=own.runs))
    return [*ours, *theirs, *apart]


def _source(printed: Any, context: int, table: Table) -> int:
    """Return the number of the footnote on the source of a printed value and on how its protocol differs."""
    look_back = "look-back not stated" if pd.isna(printed.lookback) else f"look-back {printed.lookback:.0f}"
    ours = "" if pd.isna(printed.lookback) or printed.lookback == context else f", ours {context}"
    again = printed.setting.partition(",")[2].strip()
    return table.footnote(f"{printed.source}; {look_back}{ours}{'; ' + again if again else ''}")


def _close(table: Table, title: str, cells_by_source: list[list[list[Cell]]]) -> None:
    """Add the mean over complete cells printed at our look-back (over sources first), and a rule after the model."""
    complete = [rows for rows in cells_by_source if all(cell.value is not None for row in rows for cell in row)]
    whole = [pd.DataFrame([[cell.value for cell in row] for row in rows], dtype=float).mean() for rows in complete]
    if whole:
        runs = [behind(column) for column in zip(*(row for rows in complete for row in rows), strict=True)]
        alike = zip(pd.DataFrame(whole).mean(), runs, table.rows[-1][1], strict=True)
        cells = [Cell(mean, like.digits, like.signed, runs=keys) for mean, keys, like in alike]
        table.summary.append((f"{title}, mean of {len(whole)}", cells))
    table.rule()
