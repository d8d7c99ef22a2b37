"""Records of a search suite -> its searches, and their table. Only validation scores are read. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from bench.analysis.results import Results
from bench.analysis.tables import grouped
from bench.core.base import BenchError
from bench.core.record import RunResult
from bench.plan import registry
from bench.plan.suite import Suite, variants_of
from bench.plan.tuning import Search, Trial


def searched(suite: Suite, planned: Results) -> tuple[Search, ...]:
    """Return the search of each model on each data set, from the records of the suite's planned runs.

    Every run has ended, well or not. Raises BenchError if models have unequal budgets, or trials are scored unlike.
    """
    by_place = grouped(planned.own, ["model", "dataset"])
    found = tuple(_search(suite, model, dataset, runs) for (model, dataset), runs in by_place)
    budgets = {search.model: len(search.trials) for search in found}
    if len(set(budgets.values())) > 1:
        listed = ", ".join(f"{model} {trials}" for model, trials in budgets.items())
        raise BenchError(f"suite {suite.name}: unequal numbers of trials: {listed}. Do: give every model as many")
    return found


def _search(suite: Suite, model: str, dataset: str, runs: pd.DataFrame) -> Search:
    specs = [entry.spec for entry in runs.entry]
    if len({spec.train.loss for spec in specs}) > 1 or suite.override:
        cause = "overrides settings or tries several losses, whose scores do not compare"
        raise BenchError(f"suite {suite.name}: {cause}. Do: leave them out of a search")
    backbone = specs[0].backbone
    changes = {each.title: each for each in variants_of(suite, model, backbone or suite.backbone)}
    trials = []
    for title, own in grouped(runs.assign(score=runs.result.map(_score)), "variant"):
        scores = own.groupby("horizon").score.agg(lambda each: each.mean(skipna=False)).items()
        known = {horizon: None if pd.isna(score) else float(score) for horizon, score in scores}
        change = changes[title]
        trials.append(Trial(title=title, train=change.train, options=change.options, scores=known))
    return Search(
        model=model,
        dataset=dataset,
        context=specs[0].task.context,
        seeds=tuple(sorted(set(runs.seed))),
        backbone=backbone,
        trials=tuple(trials),
    )


def _score(result: RunResult) -> float | None:
    """Return the validation score of a record's best epoch; None of a failed run, and where nothing trains."""
    return min((epoch.val_loss for epoch in result.curve), default=None)


def search_rows(searches: Sequence[Search]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return headers and rows of a table: a row for each data set and trial, a column for each model.

    The chosen trial of a column has an asterisk, a failed one a dash.
    """
    models = list(dict.fromkeys(search.model for search in searches))
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for search in searches:
        for trial in search.trials:
            mark = "*" if trial == search.chosen else ""
            text = f"{trial.score:.4f}{mark}" if trial.score < math.inf else "-"
            cells.setdefault((search.dataset, trial.title), {})[search.model] = text
    headers = ("Data set", "Trial", *map(registry.title, models))
    return headers, [(*place, *(row.get(model, "") for model in models)) for place, row in cells.items()]
