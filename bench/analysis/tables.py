"""Planned runs + their records -> tables in the paper's layout. Pure; no torch. `bench.report.render` prints them.

A cell has a number only if every run behind it is done; otherwise it is a dash with a footnote.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.results import ERRORS, METRICS, STAGES, Results, run_title
from bench.analysis.stats import comparable
from bench.core.base import BenchError
from bench.core.names import Metric
from bench.core.record import Cost, RunResult
from bench.core.text import NAMED, first_few
from bench.plan import registry

COSTS: dict[str, tuple[int, Callable[[RunResult, Cost], float | None]]] = {
    "Params M": (3, lambda run, cost: cost.params / 1e6),
    "Trained M": (3, lambda run, cost: cost.trainable / 1e6),
    "GFLOP": (3, lambda run, cost: cost.flops / 1e9),
    "Epoch s": (1, lambda run, cost: run.epoch_s),
    "Window ms": (2, lambda run, cost: cost.infer_ms),
    "Peak MiB": (0, lambda run, cost: cost.peak_mb),
}
"""Column of the efficiency table -> digits and value; None if it is not known."""
PROBES = {
    "layers_read": (
        "What a linear probe reads from each block",
        "R2 on validation windows of a patch's step-to-step change (local) and of the mean over the half look-back "
        "that ends with it (trend); the input row is what a patch alone tells; blocks are read before the final norm; "
        "means over data sets and horizons",
        {"local R2": "local_r2", "trend R2": "trend_r2"},
        (1, 3),
    ),
    "layers_follow": (
        "What the state of each block follows, in % of its variance",
        "Share that only the patch's step-to-step change explains (local), that only the mean over the half look-back "
        "explains (trend), and that lies in periods of the whole look-back and longer (slow; 0: no more than in white "
        "noise); compare blocks, not columns; means over data sets and horizons",
        {"local": "local_share", "trend": "trend_share", "slow": "slow_power"},
        (100, 1),
    ),
}
"""Name of a table of probes -> title, caption, column -> field of the record, (printed value of 1, digits)."""
NOT_RUN, MISSING = "None of its runs has been done.", " runs missing: "
"""The footnote of a cell without a single run, done or failed; what that of any other incomplete cell holds."""


@dataclass
class Cell:
    """A number and how to print it.

    `None` (what is not finite becomes it) prints as a dash, or as `partial`: with `note`, runs are missing, or the
    model has seen the data set; without, the quantity does not apply.
    """

    value: float | None
    digits: int = 3
    signed: bool = False
    mark: str = ""
    """`best`, `second` or nothing."""
    note: int | None = None
    """Number of the footnote that says which runs are missing, or that the model has seen the data set."""
    spread: float | None = None
    """Standard deviation over seeds, printed after the value."""
    runs: tuple[str, ...] = ()
    """Keys of the planned runs behind it, done or not."""
    partial: float | None = None
    """In no mark or summary: the mean of the runs that are done where seeds are missing, but none of its horizons; or
    of all runs where the model was pretrained on the data set."""
    count: str = ""
    """Of a cell whose seeds are missing: how many of its runs are done, as `1 of 3`."""

    def __post_init__(self) -> None:
        for name in ("value", "spread", "partial"):
            number = getattr(self, name)
            setattr(self, name, None if number is None or not math.isfinite(number) else float(number))


@dataclass(frozen=True)
class Group:
    """Columns under one title."""

    key: str
    """Name in files; empty where the columns' own names are enough."""
    title: str
    columns: tuple[str, ...] = tuple(ERRORS[metric] for metric in METRICS)


@dataclass
class Table:
    """A table ready to print: labelled rows under groups of columns."""

    name: str
    title: str
    caption: str
    """What this table shows."""
    groups: list[Group]
    rows: list[tuple[str, list[Cell]]] = field(default_factory=list)
    """Label and one cell per column."""
    summary: list[tuple[str, list[Cell]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rules: list[int] = field(default_factory=list)
    """Numbers of the rows that follow a rule."""
    marked: bool = True
    """Best and second values are marked."""
    common: str = ""
    """The part of the caption that all tables of a report share."""
    spreads: bool = False
    """Values come with their spread, which CSV and JSON hold in columns of their own."""
    unrun: str = ""
    """Of a folded table: its rows of which nobody has run anything."""
    metrics: tuple[Metric, ...] = METRICS
    """Of a table of errors: those that each group of columns shows."""
    chance: str = ""
    """Of a table of variants: how far the seed alone moves the error; a part of the caption too."""

    @property
    def columns(self) -> list[str]:
        return [column for group in self.groups for column in group.columns]

    @property
    def whole_caption(self) -> str:
        """The caption of a table that stands alone."""
        return f"{self.caption} {self.common}".rstrip()

    def footnote(self, note: str) -> int:
        """Return the number of this footnote, added unless it is there already."""
        if note not in self.notes:
            self.notes.append(note)
        return self.notes.index(note) + 1

    def rule(self) -> None:
        """Draw a rule below the last row, unless there is none."""
        if self.rows and len(self.rows) not in self.rules:
            self.rules.append(len(self.rows))

    def folded(self) -> Table:
        """Return the table for people, whose `unrun` names the rows of which nobody has run anything, if others are."""
        number = self.notes.index(NOT_RUN) + 1 if NOT_RUN in self.notes else None
        kept = [row for row, (_, cells) in enumerate(self.rows) if any(cell.note != number for cell in cells)]
        if number is None or not kept or len(kept) == len(self.rows):
            return self
        # 1. Rows, and the rules above them.
        rows = [self.rows[row] for row in kept]
        rules = sorted({sum(row < rule for row in kept) for rule in self.rules} - {0, len(kept)})
        unrun = _listed([label for row, (label, _) in enumerate(self.rows) if row not in kept])
        # 2. Footnotes, without the one that no cell has any more.
        if any(cell.note == number for _, cells in rows + self.summary for cell in cells):
            return replace(self, rows=rows, rules=rules, unrun=unrun)
        renumbered = [
            (label, [replace(cell, note=cell.note - (cell.note > number)) if cell.note else cell for cell in cells])
            for label, cells in rows
        ]
        notes = [note for note in self.notes if note != NOT_RUN]
        return replace(self, rows=renumbered, rules=rules, unrun=unrun, notes=notes)

    def gap(self, runs: pd.DataFrame) -> int | None:
        """Return the number of the footnote that says which of these runs are missing; None if every run is done."""
        absent = runs.status != "done"
        if not absent.any():
            return None
        if (runs.status == "missing").all():
            return self.footnote(NOT_RUN)  # the same for all such cells, which then share a footnote
        named = runs.loc[absent, ["data", "horizon", "seed", "why"]].head(NAMED).itertuples(index=False, name=None)
        names = [f"{data} h{horizon} s{seed} {why}" for data, horizon, seed, why in named]
        missing = int(absent.sum())
        count = f"{missing} of {len(runs)}{MISSING}"
        return self.footnote(f"{runs.title.iloc[0]}: {count}{first_few(names, '; ', count=missing)}")

    def cell(self, runs: pd.DataFrame, value: float | None, digits: int = 3) -> Cell:
        """Return the value of these runs; a dash whose footnote says what is missing unless every run is done."""
        gap = self.gap(runs)
        return Cell(value if gap is None else None, digits, note=gap, runs=tuple(runs.key))

    def errors(self, runs: pd.DataFrame) -> list[Cell]:
        """Return the mean errors of these runs; partial ones where seeds are missing, but no horizon, or where the
        model was pretrained on the data set."""
        gap, keys = self.gap(runs), tuple(runs.key)
        if gap is None:
            return [self._error(runs, metric, keys) for metric in self.metrics]
        cells = [Cell(None, note=gap, runs=keys) for _ in self.metrics]
        done = runs.loc[runs.status == "done", ["horizon", *self.metrics]]
        if {*done.horizon} != {*runs.horizon}:
            return cells
        count = f"{len(done)} of {len(runs)}"
        partial = [mean_error(done, metric) for metric in self.metrics]
        return [replace(cell, partial=mean, count=count) for cell, mean in zip(cells, partial, strict=True)]

    def _error(self, runs: pd.DataFrame, metric: Metric, keys: tuple[str, ...]) -> Cell:
        """Return the mean error of these runs, all of which are done."""
        spread = runs[metric].std() if self.spreads else None
        cell = Cell(mean_error(runs, metric), spread=spread, runs=keys)
        if cell.value is None:
            cell.note, cell.spread = self.footnote(_unknown(runs, metric)), None
        if runs.seen.any():
            return replace(cell, value=None, spread=None, partial=cell.value, note=self.footnote(leakage(runs)))
        return cell


def main_table(planned: Results) -> list[Table]:
    """Average each data set over its horizons; then add the summary."""
    title = "Forecasting errors, averaged over horizons"
    return [_summarised(_table("main", title, planned, grouped(planned.own, "data")))]


def full_table(planned: Results) -> list[Table]:
    """Show every horizon of every data set, the data set's average after its horizons; then the summary."""
    rows: list[tuple[str, pd.DataFrame]] = []
    for name, runs in grouped(planned.own, "data"):
        rows += [(f"{name} {horizon}", own) for horizon, own in grouped(runs, "horizon")]
        rows.append((f"{name} avg", runs))
    table = _table("full", "Forecasting errors at every horizon", planned, rows)
    own = [cells for label, cells in table.rows if not label.endswith(" avg")]
    return [_summarised(table, own, unit="cells")]


def seeds_table(planned: Results) -> list[Table]:
    """Show every horizon of every data set, each error with its standard deviation over seeds."""
    title, seeds = "Forecasting errors and their spread over seeds", planned.own.seed.nunique()
    rows = [(f"{name} {horizon}", runs) for (name, horizon), runs in grouped(planned.own, ["data", "horizon"])]
    table = _table("seeds", title, planned, rows, spreads=seeds > 1)
    spread = f"±: standard deviation (n - 1) over the {seeds} seeds." if seeds > 1 else "One seed has no spread."
    table.caption += f" {spread}"
    return [table]


def few_shot_table(planned: Results) -> list[Table]:
    """Build a table like the main one for each share of the training windows."""
    tables = []
    for share, runs in grouped(planned.own, "fraction"):
        title = f"Errors after training on the first {100 * share:g} % of the windows, averaged over horizons"
        tables.append(_summarised(_table(f"few_shot_{100 * share:g}", title, planned, grouped(runs, "dataset"))))
    return tables


def zero_shot_table(planned: Results) -> list[Table]:
    """Show a row for each pair of a data set trained on and another one tested on."""
    transfers = planned.frame[planned.frame.tested != planned.frame.dataset]
    rows = [(f"{data} → {tested}", runs) for (data, tested), runs in grouped(transfers, ["data", "tested"])]
    title = "Errors on a data set that was not trained on, averaged over horizons"
    return [_summarised(_table("zero_shot", title, planned, rows), unit="pairs")]


def losses_table(planned: Results) -> list[Table]:
    """Show every model under every loss: a row for each loss and data set, and a summary for each loss."""
    # The loss is the variant; blanked, it is no part of the columns.
    by_loss = {loss: grouped(runs.assign(variant=""), "data") for loss, runs in grouped(planned.own, "variant")}
    rows = [(f"{name}, {loss}", runs) for loss, of_loss in by_loss.items() for name, runs in of_loss]
    title = "Forecasting errors by training loss, averaged over horizons"
    table = _table("losses", title, planned, rows)
    *table.rules, _ = itertools.accumulate(map(len, by_loss.values()))
    for loss in by_loss:
        _summarised(table, [cells for label, cells in table.rows if label.endswith(f", {loss}")], loss)
    return [table]


def layers_table(planned: Results) -> list[Table]:
    """Show what a probe reads of local change and slow trend after each block."""
    probed = planned.part(planned.own[[bool(entry.spec.task.probe) for entry in planned.own.entry]])
    if not probed.runs:
        raise BenchError("table layers: no run of this suite is probed. Do: give a [[variant]] the key probe")
    return [_probe_table(name, probed) for name in PROBES]


def efficiency_table(planned: Results) -> list[Table]:
    """Show size, operations, times and memory: a row for each model, data set and horizon."""
    title = "Size, time and memory of each model"
    table = Table("efficiency", title, "", [Group("", "", tuple(COSTS))], marked=False)
    tasks = planned.own.drop_duplicates(["data", "horizon"])
    # 1. A row for each cell of the grid, averaged over seeds.
    for (data, horizon, model), runs in grouped(planned.own, ["data", "horizon", "title"]):
        costs = [(run, run.cost) for run in runs.result if run and run.cost]
        means = [pd.Series([cost(*each) for each in costs], dtype=float).mean() for _, cost in COSTS.values()]
        cells = [table.cell(runs, mean, digits) for mean, (digits, _) in zip(means, COSTS.values(), strict=True)]
        table.rows.append((f"{data} {horizon} {model}" if len(tasks) > 1 else model, cells))
    # 2. The caption: which tasks, what each column measures, which times are not comparable.
    on = ", ".join(dict.fromkeys(f"{task.dataset} {task.horizon}" for task in tasks.itertuples()))
    lead = (
        f"On {on}: parameters and trained parameters, in millions, without word embeddings; floating-point operations "
        "of one forecast (all channels), in billions, without a prompt that is read once; seconds of the fastest "
        "training epoch, with its validation; milliseconds per test window, in batches; peak memory in MiB, allocated "
        "on a GPU, resident in the process on a CPU"
    )
    if count := sum(result is not None and result.where.shared for _, result in planned.runs):
        lead += (
            f"; {count} of the {len(planned.runs)} runs shared a GPU with others, and their times include the others'"
        )
    table.caption = planned.lead(lead)
    return [table]


Builder = Callable[[Results], list[Table]]
TABLES: dict[str, Builder] = {
    "main": main_table,
    "full": full_table,
    "seeds": seeds_table,
    "few_shot": few_shot_table,
    "zero_shot": zero_shot_table,
    "ablation": lambda planned: [_variants_table("ablation", "Ablations: errors averaged over horizons", planned)],
    "taps": lambda planned: [_variants_table("taps", "Errors by tap, averaged over horizons", planned)],
    "layers": layers_table,
    "losses": losses_table,
    "efficiency": efficiency_table,
}


def grouped(frame: pd.DataFrame, by: str | list[str]) -> list[tuple[Any, pd.DataFrame]]:
    """Return each value of a column (or tuple of values, for a list) with its rows, in order of appearance."""
    return list(frame.groupby(by, sort=False, dropna=False))


def behind(cells: Iterable[Cell]) -> tuple[str, ...]:
    """Return the keys of the runs behind these cells, each once."""
    return tuple(dict.fromkeys(key for cell in cells for key in cell.runs))


def mean_error(runs: pd.DataFrame, metric: str) -> float:
    """Return the mean over seeds, then over horizons; NaN unless every run is done and has this error."""
    return math.nan if runs[metric].isna().any() else float(runs.groupby("horizon", sort=False)[metric].mean().mean())


def leakage(runs: pd.DataFrame) -> str:
    """Return the footnote of a model that was pretrained on the data set that these runs are tested on."""
    names = first_few(list(runs.tested[runs.seen].unique()))
    return f"{runs.title.iloc[0]} was pretrained on {names}: no zero-shot result."


def _unknown(runs: pd.DataFrame, metric: Metric) -> str:
    """Say why these runs are done and have no such error."""
    if runs.measured.all():
        return f"{ERRORS[metric]} is not defined here: what it divides by is 0 everywhere in the test."
    return (
        f"Its records were made before {ERRORS[metric]} was measured. Do: 'python -m bench run --rerun all' with the "
        "same suite and filters."
    )


def _table(
    name: str, title: str, planned: Results, rows: list[tuple[str, pd.DataFrame]], spreads: bool = False
) -> Table:
    """Build rows by label, columns by model and variant, the errors of each."""
    keys = [key for key, _ in grouped(pd.concat(runs for _, runs in rows), ["model", "variant"])]
    names = {key: "_".join(filter(None, key)) for key in keys}
    columns = tuple(ERRORS[metric] for metric in planned.metrics)
    groups = [Group(names[key].replace(" ", "-"), run_title(*key), columns) for key in keys]
    table = Table(name, planned.headed(title), planned.lead(), groups, spreads=spreads, metrics=planned.metrics)
    for label, runs in rows:
        by_key = dict(grouped(runs, ["model", "variant"]))
        if absent := [names[key] for key in keys if key not in by_key]:
            raise BenchError(f"table {name}: no run of {absent[0]} in row {label}. Do: plan it for every row")
        table.rows.append((label, [cell for key in keys for cell in table.errors(by_key[key])]))
        _mark_row(table.rows[-1][1], len(table.metrics))
    return table


def _listed(labels: list[str]) -> str:
    """Return labels of rows; those that differ in their last word alone share the others."""
    stems: dict[str, list[str]] = {}
    for label in labels:
        stem, _, last = label.rpartition(" ")
        stems.setdefault("" if stem.endswith(",") else stem, []).append(last if stem and stem[-1] != "," else label)
    listed = [
        f"{stem} ({', '.join(lasts)})"
        if stem and len(lasts) > 1
        else ", ".join(f"{stem} {last}".strip() for last in lasts)
        for stem, lasts in stems.items()
    ]
    return ", ".join(listed)


def _mark_row(cells: list[Cell], metrics: int) -> None:
    """Mark the best and the second value of each of so many metrics."""
    for metric in range(metrics):
        _mark(cells[metric::metrics])


def _mark(cells: Sequence[Cell]) -> None:
    """Mark the least and the second of the cells that have a value; equal values share a mark."""
    values = sorted({cell.value for cell in cells if cell.value is not None})
    if len(values) > 1:
        marks: dict[float | None, str] = {values[0]: "best", values[1]: "second"}
        for cell in cells:
            cell.mark = marks.get(cell.value, "")


def _summarised(
    table: Table, rows: list[list[Cell]] | None = None, of: str | None = None, unit: str = "data sets"
) -> Table:
    """Add a summary over those of these rows (None: all) that are complete for comparable models.

    It has the average, the geometric mean of the ratios to the row's best (which no data set of large errors rules),
    the mean rank and the number of first places. `unit`: what a row is.
    """
    # 1. Keep the models that can be compared and the rows complete for them; say so if there are others.
    rows = [cells for _, cells in table.rows] if rows is None else rows
    values = pd.DataFrame([[cell.value for cell in cells] for cells in rows], dtype=float)
    metrics = len(table.metrics)
    kept = comparable(values.iloc[:, ::metrics])
    complete = values[[column for column in values if column - column % metrics in kept]].dropna()
    if complete.shape != values.shape:
        absent = [group.title for i, group in enumerate(table.groups) if i * metrics not in kept]
        table.notes.append(
            f"The summary{'' if of is None else f' of {of}'} is over the {len(complete)} of {len(rows)} {unit} that "
            f"are complete for every model{' but ' * bool(absent)}{', '.join(absent)}."
        )
    if complete.empty:
        return table
    # 2. Compare the models of each metric in each row.
    columns = complete.T  # a row for each model and metric, a column for each row of the table
    by_metric = columns.groupby(columns.index % metrics)
    best = by_metric.transform("min")
    ratios = columns / best[best.gt(0).all(axis=1)]  # none where a row's best error is 0
    over = f" ({len(complete)} of {len(rows)} {unit})" if len(complete) < len(rows) else f" ({len(rows)} {unit})"
    lines = {
        f"Average{over if len(rows) > 1 else ''}": (complete.mean(), 3),
        "Ratio to the best": (np.exp(np.log(ratios).mean(axis=1)), 3),
        "Mean rank": (by_metric.rank().mean(axis=1), 2),
        "First places": (columns.eq(best).sum(axis=1), 0),
    }
    # 3. Add a line for each.
    runs = [behind(column) for column in zip(*(rows[row] for row in complete.index), strict=True)]
    if len(complete) > 1 and unit == "data sets" and any(metric.endswith("_original") for metric in table.metrics):
        lines = {label: line for label, line in lines.items() if not label.startswith("Average")}  # of other units
    for label, (line, digits) in lines.items():
        found = line.reindex(values.columns)
        cells = [Cell(value, digits, runs=keys) for value, keys in zip(found, runs, strict=True)]
        if digits == 3:
            _mark_row(cells, metrics)
        table.summary.append((label if of is None else f"{label}, {of}", cells))
    return table


def _variants_table(name: str, title: str, planned: Results) -> Table:
    """Build rows by model and variant, columns by data set, and the mean change against the model's first variant."""
    datasets = list(planned.own.data.unique())
    columns = tuple(ERRORS[metric] for metric in planned.metrics)
    groups = [Group(dataset.replace(" ", ""), dataset, columns) for dataset in datasets]
    groups.append(Group("change", "Change, %", columns))
    table = Table(name, planned.headed(title), planned.lead(), groups, metrics=planned.metrics)
    for _, of_model in grouped(planned.own, "model"):
        table.rule()
        block: list[list[Cell]] = []
        for label, runs in grouped(of_model, "title"):
            own = dict(grouped(runs, "data"))
            block.append([cell for dataset in datasets for cell in table.errors(own[dataset])])
            table.rows.append((label, [*block[-1], *_changes(block[-1], block[0], len(table.metrics))]))
        for column in zip(*block, strict=True):
            _mark(column)
    table.chance = _spread_sentence(planned)
    table.caption += (
        " Marks are by column and model. Change: of the error against the first row of each model, averaged over data "
        f"sets. {table.chance}".rstrip()
    )
    return table


def _changes(cells: list[Cell], first: list[Cell], metrics: int) -> list[Cell]:
    """Return, per metric, the mean change in percent against the first variant; a hole if any cell of either is one."""
    changes = []
    for metric in range(metrics):
        own, usual = cells[metric::metrics], first[metric::metrics]
        values, references = (pd.Series([cell.value for cell in row], dtype=float) for row in (own, usual))
        change = 100 * (values / references - 1).mean(skipna=False)
        gap = next((cell.note for cell in (*own, *usual) if cell.value is None), None)
        changes.append(Cell(change, digits=1, signed=True, note=gap, runs=behind([*own, *usual])))
    return changes


def _spread_sentence(planned: Results) -> str:
    """Say how far the seed alone moves the mean error of each model's first variant, to judge changes against."""
    own, metric, spreads, seeds = planned.own, planned.metrics[0], [], planned.own.seed.nunique()
    for model, usual in grouped(own[own.usual], "model"):
        by_seed = usual.pivot(index=["data", "horizon"], columns="seed", values=metric)
        if usual[metric].notna().all() and by_seed.shape[1] > 1:
            share = by_seed.div(by_seed.mean(axis=1), axis=0).mean().std()
            spreads.append(f"{registry.title(model)} {100 * share:.1f} %")
    sentence = (
        f"From seed to seed the first row's {ERRORS[metric]} moves by (standard deviation): {', '.join(spreads)}; the "
        f"difference of two means over {seeds} seeds, by {math.sqrt(2 / seeds):.2f} times that."
    )
    return sentence if spreads else ""


def _probe_table(name: str, probed: Results) -> Table:
    """Build columns by variant and stage, rows by block; holes unless every run of the variant is done."""
    title, lead, measures, (unit, digits) = PROBES[name]
    table = Table(name, title, probed.lead(lead), [], marked=False)
    # 1. A row for the input and each block; a tap is named if all variants train with it.
    options = [entry.spec.options for entry, _ in probed.runs]
    trains = any(entry.spec.task.probe == "training" for entry, _ in probed.runs)
    taps = {key: {each[key] for each in options} for key in ("local_tap", "global_tap") if trains}
    names = {taps[key].pop(): f" ({key.replace('_', ' ')})" for key in taps if len(taps[key]) == 1}
    blocks = range(1, max(int(each["blocks"] or 0) for each in options) + 1)
    keys = {(block, False): f"block {block}{names.get(block, '')}" if block else "input" for block in [0, *blocks]}
    keys[blocks[-1], True] = f"block {blocks[-1]}, final norm"
    table.rows = [(label, []) for label in keys.values()]
    # 2. Columns: means over data sets, horizons and seeds; none beyond a variant's last block.
    for variant, runs in grouped(probed.own, "variant"):
        layers = [layer.model_dump() for result in runs.result[runs.status == "done"] for layer in result.layers]
        measured = pd.DataFrame(layers, columns=["stage", "block", "normed", *measures.values()])
        for stage, when in STAGES.items():
            if stage == "trained" and not trains:
                continue
            title = f"{variant}, {when}" if trains else variant
            table.groups.append(Group(f"{variant}_{stage}".replace(" ", "-"), title, tuple(measures)))
            means = measured[measured.stage == stage].groupby(["block", "normed"])[list(measures.values())].mean()
            for (_, cells), (_, found) in zip(table.rows, means.reindex(list(keys)).iterrows(), strict=True):
                cells.extend(table.cell(runs, value * unit, digits) for value in found)
    return table
