"""The table by regime: how models stand on channels of one kind, as with a strong trend. Pure; no torch.

`datasets/features.csv` has a row for each channel (docs/features.py makes it); records hold each channel's errors.
"""

from __future__ import annotations

import pandas as pd

from bench.analysis.results import ERRORS, METRICS, Results, run_title
from bench.analysis.stats import mean_ranks, skill
from bench.analysis.tables import Cell, Group, Table, grouped
from bench.core.card import CARDS
from bench.core.system import SHIPPED_CARDS
from bench.core.text import first_few
from models import REFERENCE

FILE = "features.csv"
CUTS = {"trend": 0.9, "season": 0.5, "entropy": 0.45, "unit_root_p": 0.05}
"""Feature -> the value that parts its two regimes, the first three about half of the channels each."""
LEAD = (
    "Over channels of one kind, a channel's errors averaged over horizons first: mean rank, and skill, 1 - geometric "
    "mean of error / the seasonal naive forecast's. Trend and season: their strength in an STL decomposition; entropy: "
    "of the spectrum, 1 is white noise; unit root: p of the Dickey-Fuller test, a small one rejects it. Channels of "
    "one data set are not independent: no test is made of them"
)


def features() -> pd.DataFrame:
    """Return a row per channel: dataset, channel (from 0), and the features of CUTS; without files, no row."""
    files = [folder / FILE for folder in (SHIPPED_CARDS, CARDS)]
    known = [pd.read_csv(file) for file in files if file.exists()]
    known = known or [pd.DataFrame(columns=["dataset", "channel", *CUTS])]
    return pd.concat(known).drop_duplicates(["dataset", "channel"], keep="last")


def regimes_table(planned: Results) -> list[Table]:
    """Show a table for each error: a row for each regime, rank and skill of each model."""
    known, caption = features(), planned.lead(LEAD)
    # 1. Models that have seen a data set take no part; nor does a data set whose channels not every run holds.
    seen = planned.own.title[planned.own.seen].unique()
    planned = planned.part(planned.own[~planned.own.title.isin(seen)])
    listed = dict(grouped(planned.own, "dataset"))
    described = [name for name, runs in listed.items() if name in set(known.dataset) and (runs.status == "done").all()]
    errors = _channel_errors(planned.own[planned.own.dataset.isin(described)])
    held = set(errors.key.unique())
    whole = [name for name in described if held.issuperset(listed[name].key)]
    keys = {title: tuple(runs.key) for title, runs in grouped(planned.own[planned.own.dataset.isin(whole)], "title")}
    left_out = [name for name in listed if name not in whole]
    # 2. A table for each error.
    tables = []
    for metric in METRICS:
        groups = [Group(title.replace(" ", "-"), title, ("Rank", "Skill %")) for title in planned.own.title.unique()]
        title = f"How models stand on channels of one kind, by {ERRORS[metric]}"
        table = Table(f"regimes_{metric}", title, caption, groups, marked=False)
        table.notes.append(f"Over channels of {', '.join(whole) or 'no data set'}.")
        if left_out:
            remedy = "runs of before they were kept are done anew by 'python -m bench run --rerun all'"
            table.notes.append(
                f"Left out, as not every run holds its channels' errors ({remedy}): {first_few(left_out)}."
            )
        if len(seen):
            table.notes.append(f"Left out, as pretrained on some of these data sets: {', '.join(seen)}.")
        if whole:
            _add_regimes(table, errors[errors.dataset.isin(whole)], metric, known, keys)
        tables.append(table)
    return tables


def _channel_errors(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a row per run and channel of these runs that hold them: dataset, channel, title, key, mse, mae."""
    rows = []
    for run in runs.itertuples():
        own = run.result.channels_on(run.dataset)
        rows += [(run.dataset, i, run.title, run.key, *both) for i, both in enumerate(own)]
    return pd.DataFrame(rows, columns=["dataset", "channel", "title", "key", *METRICS])


def _add_regimes(
    table: Table, errors: pd.DataFrame, metric: str, known: pd.DataFrame, keys: dict[str, tuple[str, ...]]
) -> None:
    """Add the rows of both sides of each feature's cut; a side without channels has none."""
    means = errors.groupby(["dataset", "channel", "title"], sort=False)[metric].mean().unstack(sort=False)
    kinds = known.set_index(["dataset", "channel"]).reindex(means.index)
    naive = run_title(REFERENCE)
    for feature, cut in CUTS.items():
        table.rule()
        for side, inside in (("<", kinds[feature] < cut), (">=", kinds[feature] >= cut)):
            own = means[inside]
            if own.empty:
                continue
            ranks, datasets = mean_ranks(own), own.index.unique("dataset")
            cells = []
            for title, runs in keys.items():
                gain = skill(own[title].to_numpy(), own[naive].to_numpy()).value if naive in own else None
                gain = None if gain is None or title == naive else 100 * gain
                cells += [Cell(ranks[title], 2, runs=runs), Cell(gain, 1, runs=runs)]
            count = f"{len(own)} channel{'s' * (len(own) > 1)}, {len(datasets)} data set{'s' * (len(datasets) > 1)}"
            table.rows.append((f"{feature.replace('_', ' ')} {side} {cut:g} ({count})", cells))
