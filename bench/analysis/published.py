"""The table of our errors beside published ones, with their look-back, source and difference. Pure; no torch.

`suites/published.csv` has one row per printed value: model, dataset, horizon (or avg), lookback, setting, mse, mae,
source. A cell that sources print differently has a row for each value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pandas as pd

from bench.analysis.results import METRICS, Results
from bench.analysis.tables import BY_MODEL, Cell, Group, Table, behind, grouped, hole, mean_error, run_title
from bench.core.card import cards
from bench.core.record import RunResult
from bench.plan import registry
from bench.plan.settings import SUITES
from models import MODELS

MEANS = "Means are over the cells printed at our look-back; where sources differ, over them first."
PRINTED = {entry.printed: name for name, entry in MODELS.items() if entry.printed}
"""Name in papers' tables -> registered model."""


@lru_cache
def published() -> pd.DataFrame:
    """Return every printed value of a registered model; `lookback` is NaN if its source does not state it."""
    frame = pd.read_csv(SUITES / "published.csv", dtype={"horizon": str})
    return frame.assign(model=frame.model.map(PRINTED)).dropna(subset="model")


def published_table(planned: Results) -> list[Table]:
    """Show a row for every printed value of a planned cell, and each model's mean difference at an equal look-back."""
    frame = planned.own()
    groups = [Group("ours", "Ours"), Group("published", "Published"), Group("difference", "Difference, %")]
    table = Table("published", "Ours beside published errors", f"{planned.lead()} {MEANS}", groups, marked=False)
    for (model, variant), of_model in grouped(frame, BY_MODEL):
        title = run_title(model, variant)
        rows: dict[tuple[str, str], list[list[Cell]]] = {}
        for (dataset, share), runs in grouped(of_model, ["dataset", "fraction"]):
            context = planned.contexts[dataset]
            cells = [(str(horizon), own) for (horizon,), own in grouped(runs, ["horizon"])]
            if set(runs.horizon) == set(cards()[dataset].horizons):
                cells.append(("avg", runs))
            for horizon, own in cells:
                printed = _printed(model, dataset, horizon, share)
                for (lookback, mse, mae), alike in grouped(printed, ["lookback", "mse", "mae"]):
                    row = _row(own, (mse, mae), lookback == context, table)
                    sources = ", ".join(str(_source(each, context, table)) for each in alike.itertuples())
                    table.rows.append((f"{title} {dataset} {horizon} [{sources}]", row))
                    if horizon != "avg" and lookback == context:
                        rows.setdefault((dataset, horizon), []).append(row)
        _close(table, title, list(rows.values()))
    if not table.rows:
        table.notes.append("No source prints a value for any of these cells.")
    return [table]


def strength(model: str, metric: str, results: Sequence[RunResult]) -> str:
    """Say how far a model's errors are from its published ones at the same look-back, over the cells that have any."""
    rows = [
        (task.dataset, task.horizon, task.train_fraction, task.context, getattr(result.evaluations[0], metric))
        for task, result in ((result.spec.task, result) for result in results)
        if not task.test_on
    ]
    runs = pd.DataFrame(rows, columns=["dataset", "horizon", "fraction", "context", "error"])
    apart = []
    for (dataset, horizon, share, context), cell in grouped(runs, ["dataset", "horizon", "fraction", "context"]):
        printed = _printed(model, dataset, str(horizon), share)
        theirs = printed[printed.lookback == context][metric].mean()
        apart.append(100 * (cell.error.mean() / theirs - 1))
    known = pd.Series(apart, dtype=float).dropna()
    if known.empty:
        return f"{registry.title(model)}: no published value at this look-back"
    return f"{registry.title(model)} {known.mean():+.1f} % from its published values ({len(known)} cells)"


def _printed(model: str, dataset: str, horizon: str, share: float) -> pd.DataFrame:
    """Return the values that sources print for this cell, trained on this share of the windows."""
    frame = published()
    setting = "full" if share == 1 else f"few_shot_{100 * share:g}"
    cell = (frame.model == model) & (frame.dataset == dataset) & (frame.horizon == horizon)
    return frame[cell & frame.setting.str.split(",").str[0].eq(setting)]


def _row(runs: pd.DataFrame, printed: tuple[float, float], comparable: bool, table: Table) -> list[Cell]:
    """Return ours, theirs, and the difference in percent, which is a dash without a footnote across look-backs."""
    ours = [
        hole(runs, table) if runs.why.any() else Cell(mean_error(runs, metric), runs=tuple(runs.key))
        for metric in METRICS
    ]
    theirs = [None if pd.isna(value) else float(value) for value in printed]
    apart = []
    for cell, value in zip(ours, theirs, strict=True):
        change = 100 * (cell.value / value - 1) if comparable and value and cell.value is not None else None
        note = cell.note if comparable and value else None
        apart.append(replace(cell, value=change, digits=1, signed=True, note=note))
    return [*ours, *map(Cell, theirs), *apart]


def _source(printed: Any, context: int, table: Table) -> int:
    """Return the number of the footnote on the source of a printed value and on how its protocol differs."""
    if pd.isna(printed.lookback):
        look_back = "look-back not stated"
    else:
        look_back = f"look-back {printed.lookback:.0f}" + ("" if printed.lookback == context else f", ours {context}")
    again = ", ".join(printed.setting.split(",")[1:]).strip()
    return table.footnote(f"{printed.source}; {look_back}{'; ' + again if again else ''}")


def _close(table: Table, title: str, cells_by_source: list[list[list[Cell]]]) -> None:
    """Add the mean over complete cells printed at our look-back (over sources first), and a rule after the model."""
    complete = [rows for rows in cells_by_source if all(cell.value is not None for row in rows for cell in row)]
    whole = [pd.DataFrame([[cell.value for cell in row] for row in rows], dtype=float).mean() for rows in complete]
    if whole:
        means = pd.DataFrame(whole).mean()
        runs = [behind(column) for column in zip(*(row for rows in complete for row in rows), strict=True)]
        cells = [Cell(float(x), digits=1 if i > 3 else 3, signed=i > 3, runs=runs[i]) for i, x in enumerate(means)]
        table.summary.append((f"{title}, mean of {len(whole)}", cells))
    table.rule()
