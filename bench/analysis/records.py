"""Records -> one tidy frame: a row for each run and data set that it is tested on. Pure; no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any

import pandas as pd

from bench.analysis.results import Results, read, run_title
from bench.core.reading import UnusableRecord
from bench.core.record import Cost, Evaluation, RunResult, Scaled
from bench.core.spec import RunSpec
from bench.core.store import Store
from bench.plan.suite import Filters, load_suite

RUN = {
    "model": "str",
    "title": "str",
    "variant": "str",
    "dataset": "str",
    "train_fraction": "float64",
    "horizon": "int64",
    "context": "int64",
    "seed": "int64",
    "backbone": "str",
    "probe": "str",
    "status": "str",
    "why": "str",
}
"""Column that says which run it is and how it ended -> type."""
IDENTITY = {"options": "str", "train": "str", "code": "str", "key": "str", "path": "str"}
"""The last columns: the settings as JSON, and what names the run."""
FURTHER: dict[str, tuple[str, ...]] = {
    **{name: ("standardised", name) for name in Scaled.model_fields if name != "mae"},
    "mase": ("mase",),
    **{f"{name}_original": ("original", name) for name in Scaled.model_fields},
}
"""Column of an error beyond MSE and MAE -> its place in a record's `further`. (`_original`: in the file's units.)"""
COSTS = {name: "Int64" if "int" in str(field.annotation) else "float64" for name, field in Cost.model_fields.items()}
"""Field of a record's cost -> type. (Int64: a whole number that may be missing.)"""
PROVENANCE = {"date": "str", "device": "str", "threads": "int64", "git": "str"}
"""Field of a record's provenance -> type."""
COLUMNS = {
    **RUN,
    "tested_on": "str",
    **dict.fromkeys(("mse", "mae", *FURTHER), "float64"),
    "windows": "Int64",
    "epochs": "int64",
    "epoch_s": "float64",
    **COSTS,
    **PROVENANCE,
    "kept": "str",
    **IDENTITY,
}
"""Column of a frame of records -> type, in their order."""

Row = dict[str, Any]


def recorded(store: Store, filters: Filters, suite: str | None) -> tuple[pd.DataFrame, list[UnusableRecord]]:
    """Return the frame of a directory's records, of a suite's runs alone if one is named; and those left out, unusable.

    Raises BenchError for a suite or a name that does not exist.
    """
    if suite is None:
        return _records_of_store(store, filters)
    return records_of_suite(read(load_suite(suite), filters, store))


def records_of_suite(planned: Results) -> tuple[pd.DataFrame, list[UnusableRecord]]:
    """Return the frame of the planned runs that have a record, and why the records of others cannot be used."""
    rows = [row for entry, result in planned.runs if result for row in _rows(result, entry.variant)]
    return _records(rows), list(planned.refused.values())


def _records_of_store(store: Store, filters: Filters) -> tuple[pd.DataFrame, list[UnusableRecord]]:
    """Return the frame of every record of the directory that passes the filters, and why others cannot be used.

    The filter of the language model narrows the runs that read one.
    """
    wanted = filters.listed
    rows: list[Row] = []
    unusable = []
    for each in store.everything(wanted.get("datasets", ("*",))):
        if isinstance(each, UnusableRecord):
            unusable.append(each)
        elif _passes(each.spec, wanted):
            rows.extend(_rows(each))
    return _records(rows).sort_values(["dataset", "horizon", "model"], kind="stable", ignore_index=True), unusable


def _passes(spec: RunSpec, wanted: dict[str, tuple[Any, ...]]) -> bool:
    own = {
        "models": spec.model,
        "datasets": spec.task.dataset,
        "horizons": spec.task.horizon,
        "seeds": spec.seed,
        "backbone": spec.backbone,
    }
    return all(own[name] is None or own[name] in values for name, values in wanted.items())


def _rows(result: RunResult, variant: str = "") -> Iterator[Row]:
    """Yield a row of COLUMNS for each data set that the run is tested on; it has no errors if the run has none."""
    where, cost, tested = result.where, result.cost, {each.dataset: each for each in result.evaluations}
    shared = _about(result.spec, variant) | {"status": result.status, "why": result.error or ""}
    shared |= {"epochs": result.epochs, "epoch_s": result.epoch_s if cost else None}
    shared |= {name: getattr(cost, name) for name in COSTS} if cost else {}
    shared |= {name: getattr(where, name) for name in PROVENANCE}
    shared["kept"] = ",".join(each.what for each in result.kept)
    for dataset in result.spec.task.datasets:
        yield shared | {"tested_on": dataset} | _errors(tested.get(dataset))


def _errors(found: Evaluation | None) -> Row:
    """Return the errors on one data set, as far as the record has them."""
    if found is None:
        return {}
    errors: Row = {"mse": found.mse, "mae": found.mae, "windows": found.windows}
    if found.further:
        errors |= {name: reduce(getattr, place, found.further) for name, place in FURTHER.items()}
    return errors


def plan_frame(planned: Results) -> pd.DataFrame:
    """Return a row per planned run with its state, the columns RUN and IDENTITY."""
    rows = []
    for entry, result in planned.runs:
        state = planned.state(entry, result)
        rows.append(_about(entry.spec, entry.variant) | {"status": state.status, "why": state.reason})
    return _typed(rows, RUN | IDENTITY)


def _about(spec: RunSpec, variant: str) -> Row:
    """Return the columns of RUN and IDENTITY that follow from the spec."""
    task = spec.task
    return {
        "model": spec.model,
        "title": run_title(spec.model, variant),
        "variant": variant,
        "dataset": task.dataset,
        "train_fraction": task.train_fraction,
        "horizon": task.horizon,
        "context": task.context,
        "seed": spec.seed,
        "backbone": spec.backbone,
        "probe": task.probe or None,
        "options": json.dumps(spec.options, sort_keys=True),
        "train": spec.train.model_dump_json(),
        "code": spec.code,
        "key": spec.key,
        "path": spec.place,
    }


def _records(rows: Sequence[Row]) -> pd.DataFrame:
    frame = _typed(rows, COLUMNS)
    return frame.assign(date=pd.to_datetime(frame.date, format="ISO8601", utc=True))


def _typed(rows: Sequence[Row], columns: dict[str, str]) -> pd.DataFrame:
    of = {name: [row.get(name) for row in rows] for name in columns}
    return pd.DataFrame({name: pd.Series(of[name], dtype=kind) for name, kind in columns.items()})
