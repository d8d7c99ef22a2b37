"""The table of ranks: how models compare over data sets, with wins, skill and tests. Pure; no torch."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from bench.analysis.results import ERRORS, Results, run_title
from bench.analysis.stats import Comparison, comparable, compare, datasets_needed, mean_ranks, skill, win_probability
from bench.analysis.tables import Cell, Group, Table, grouped, mean_error
from bench.core.grouping import gathered
from bench.core.names import Metric
from models import REFERENCE

COLUMNS = {"Rank": 2, "Wins %": 0, "Over naive %": 0, "Skill %": 1, "from": 1, "to": 1}
"""Column -> digits."""
LEAD = (
    "Over data sets, errors averaged over horizons first: mean rank; wins, the share of data sets with a smaller error "
    "than another model's, mean over the others, ties half; the same against the seasonal naive forecast; skill, "
    "1 - geometric mean of error / its error, from and to: its interval over data sets"
)


def ranks_table(planned: Results) -> list[Table]:
    """Show a row for each model and, with enough data sets, a second table with the p of every pair."""
    errors = {metric: errors_by_dataset(planned, metric) for metric in planned.metrics}
    groups = [Group(metric, ERRORS[metric], tuple(COLUMNS)) for metric in planned.metrics]
    compared = {metric: compare(errors[metric]) for metric in planned.metrics}
    table = Table("ranks", "How models stand over data sets", "", groups, marked=False)
    table.caption = f"{planned.lead(LEAD)} {tests_sentence(compared)}"
    whole = {metric: errors[metric].dropna() for metric in planned.metrics}
    complete = planned.own[planned.own.data.isin(whole[planned.metrics[0]].index)]
    note = table.footnote("No data set is complete for every model.") if complete.empty else None
    shown = grouped(planned.own if complete.empty else complete, "title")
    runs = {title: tuple(own.key) for title, own in shown if title in whole[planned.metrics[0]]}
    if left_out := [title for title in planned.own.title.unique() if title not in runs]:
        seen = " that they were not pretrained on" if planned.own.seen[planned.own.title.isin(left_out)].any() else ""
        table.notes.append(f"Left out, since complete on few data sets{seen}: {', '.join(left_out)}.")
    for name, keys in runs.items():
        values = [value for metric in planned.metrics for value in _standing(whole[metric], name, run_title(REFERENCE))]
        numbers = zip(values, [*COLUMNS.values()] * len(planned.metrics), strict=True)
        table.rows.append((name, [Cell(value, digits, note=note, runs=keys) for value, digits in numbers]))
    return [table, *_pairs_table(compared, runs, planned.repairs)]


def errors_by_dataset(planned: Results, metric: str) -> pd.DataFrame:
    """Return mean errors over horizons, data sets by titles of `comparable` models.

    NaN if a run is missing, or if the model was pretrained on the data set.
    """
    own = grouped(planned.own, ["data", "title"])
    means = {key: math.nan if runs.seen.any() else mean_error(runs, metric) for key, runs in own}
    return comparable(pd.DataFrame(pd.Series(means).unstack(sort=False)))


def tests_sentence(compared: dict[Metric, Comparison]) -> str:
    """Say what the tests show for each error, once if they show the same."""
    titles = gathered((found.sentence, ERRORS[metric]) for metric, found in compared.items())
    return " ".join(f"{' and '.join(names)}: {sentence}" for sentence, names in titles.items())


def _standing(errors: pd.DataFrame, name: str, naive: str) -> list[float]:
    """Return the numbers of COLUMNS; NaN without another model to compare with."""
    if errors.empty:
        return [math.nan] * len(COLUMNS)
    ours = errors[name].to_numpy()
    others = [errors[other].to_numpy() for other in errors.columns if other != name]
    wins = float(np.mean([win_probability(ours, theirs) for theirs in others])) if others else math.nan
    rank = float(mean_ranks(errors)[name])
    against = [math.nan] * 4
    if naive in errors and name != naive:
        reference = errors[naive].to_numpy()
        found = skill(ours, reference)
        against = [win_probability(ours, reference), found.value, found.low, found.high]
    return [rank, *(100 * value for value in (wins, *against))]


def _pairs_table(
    compared: dict[Metric, Comparison], runs: dict[str, tuple[str, ...]], repairs: list[str]
) -> list[Table]:
    """Show p of Wilcoxon's test for each pair; no table with too few data sets for any p to be small enough."""
    names = list(runs)
    pairs = math.comb(len(names), 2)
    if not pairs or any(found.datasets < datasets_needed(pairs) for found in compared.values()):
        return []
    title = "Which models differ: p of Wilcoxon's signed-rank test over data sets, after Holm over all pairs"
    table = Table("ranks_pairs", title, "", [Group("", "", tuple(names))], marked=False)
    table.caption = " ".join([tests_sentence(compared), *repairs])
    for metric, found in compared.items():
        pairwise = found.pairwise
        assert pairwise is not None
        table.rule()
        for one in names:
            p_values = pairwise.loc[one, names].drop(one).reindex(names)  # none against itself
            cells = [Cell(p, runs=runs[one] + runs[other]) for other, p in p_values.items()]
            table.rows.append((f"{ERRORS[metric]}: {one}", cells))
    return [table]
