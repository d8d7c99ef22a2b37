"""How models stand over data sets: ranks, wins, skill against the seasonal naive forecast, tests. Pure; no torch."""

from __future__ import annotations

import math
from collections.abc import Hashable

import numpy as np
import pandas as pd

from bench.analysis.results import METRICS, Results
from bench.analysis.stats import Comparison, bootstrap, compare, datasets_needed, mean_ranks, skill, win_probability
from bench.analysis.tables import ERRORS, Cell, Group, Table, grouped, mean_error, run_title, shared
from models import REFERENCE

COLUMNS = ("Rank", "Wins %", "Over naive %", "Skill %", "from", "to")
LEAD = (
    "Over data sets, errors averaged over horizons first: mean rank; wins, the share of data sets with a smaller error "
    "than another model's, mean over the others, ties half; the same against the seasonal naive forecast; skill, "
    "1 - geometric mean of error / its error, from and to: 95 % bootstrap interval over data sets"
)


def ranks_table(planned: Results) -> list[Table]:
    """A row for each model; and, with enough data sets for it, the p of every pair."""
    errors = {metric: errors_by_dataset(planned, metric) for metric in METRICS}
    groups = [Group(metric, title, COLUMNS) for metric, title in zip(METRICS, ERRORS, strict=True)]
    compared = {metric: compare(errors[metric]) for metric in METRICS}
    table = Table("ranks", "How models stand over data sets", "", groups, marked=False)
    table.caption = f"{planned.shown(LEAD)} {told(compared)}"
    whole = {metric: errors[metric].dropna() for metric in METRICS}
    complete = len(whole[METRICS[0]])
    if not complete:
        table.notes.append("No data set is complete for every model.")
    runs = _runs_by_column(planned, whole[METRICS[0]].index)
    naive = run_title(REFERENCE)
    for name in errors[METRICS[0]].columns:
        values = [value for metric in METRICS for value in _standing(whole[metric], name, naive)]
        digits = [2, 0, 0, 1, 1, 1] * len(METRICS)
        note = None if complete else 1
        cells = [
            Cell(None if math.isnan(value) else value, places, note=note, runs=runs[name])
            for value, places in zip(values, digits, strict=True)
        ]
        table.rows.append((str(name), cells))
    return [table, *_pairs_table(planned, compared, runs)]


def errors_by_dataset(planned: Results, metric: str) -> pd.DataFrame:
    """Data sets (index) by models and variants (columns, by title): means over horizons, NaN where a run is missing."""
    frame = planned.own()
    rows = [
        {
            "dataset": shared(dataset, share),
            "model": run_title(model, variant),
            "error": math.nan if runs.why.any() else mean_error(runs, metric),
        }
        for (dataset, share, model, variant), runs in grouped(frame, ["dataset", "fraction", "model", "variant"])
    ]
    long = pd.DataFrame(rows)
    return long.pivot(index="dataset", columns="model", values="error").reindex(
        index=long.dataset.unique(), columns=long.model.unique()
    )


def told(compared: dict[str, Comparison]) -> str:
    """What the tests say of each error, once where they say the same."""
    titles: dict[str, list[str]] = {}
    for metric, title in zip(METRICS, ERRORS, strict=True):
        titles.setdefault(compared[metric].sentence, []).append(title)
    return " ".join(f"{' and '.join(names)}: {sentence}" for sentence, names in titles.items())


def _runs_by_column(planned: Results, datasets: pd.Index) -> dict[Hashable, tuple[str, ...]]:
    """Keys of each column's runs on these data sets; all of its runs where there is none of these."""
    frame = planned.own()
    frame = frame.assign(row=[shared(*pair) for pair in zip(frame.dataset, frame.fraction, strict=True)])
    chosen = frame[frame.row.isin(datasets)] if len(datasets) else frame
    return {run_title(*key): tuple(runs.key) for key, runs in grouped(chosen, ["model", "variant"])}


def _standing(errors: pd.DataFrame, name: Hashable, naive: str) -> list[float]:
    """The numbers of COLUMNS; NaN where there is nothing to compare with."""
    if errors.empty:
        return [math.nan] * len(COLUMNS)
    ours = errors[name].to_numpy()
    others = [errors[other].to_numpy() for other in errors.columns if other != name]
    wins = float(np.mean([win_probability(ours, theirs) for theirs in others])) if others else math.nan
    rank = float(mean_ranks(errors)[name])
    if naive not in errors or name == naive:
        return [rank, 100 * wins, math.nan, math.nan, math.nan, math.nan]
    reference = errors[naive].to_numpy()
    interval = bootstrap(np.stack([ours, reference], axis=1), lambda rows: skill(*rows.T))
    gained = [skill(ours, reference), *interval]
    return [rank, 100 * wins, 100 * win_probability(ours, reference), *(100 * value for value in gained)]


def _pairs_table(
    planned: Results, compared: dict[str, Comparison], runs: dict[Hashable, tuple[str, ...]]
) -> list[Table]:
    """p of Wilcoxon's test for each pair, where there are data sets enough for any to be small enough."""
    names = list(runs)
    pairs = math.comb(len(names), 2)
    if not pairs or any(found.datasets < datasets_needed(pairs) for found in compared.values()):
        return []
    title = "Which models differ: p of Wilcoxon's signed-rank test over data sets, after Holm over all pairs"
    table = Table("ranks_pairs", title, "", [Group("", "", tuple(map(str, names)))], marked=False)
    table.caption = told(compared)
    for metric, error in zip(METRICS, ERRORS, strict=True):
        pairwise = compared[metric].pairwise
        assert pairwise is not None
        table.rules += [len(table.rows)] if table.rows else []
        for one in names:
            cells = [
                Cell(None if one == other else float(pairwise.at[one, other]), runs=runs[one] + runs[other])
                for other in names
            ]
            table.rows.append((f"{error}: {one}", cells))
    return [table]
