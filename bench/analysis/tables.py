"""Planned runs + their records -> tables in the paper's layout. Pure; no torch. `bench.report.render` prints them.

A cell has a number only if every run behind it is done; otherwise it is a dash with a footnote.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from bench.analysis.results import METRICS, Results, first_few
from bench.core.base import BenchError
from bench.core.record import RunResult
from bench.plan import registry

ERRORS = ("MSE", "MAE")
BY_MODEL = ["model", "variant"]


@dataclass(frozen=True)
class Cell:
    """A number and how to print it.

    `None` prints as a dash: with `note`, runs are missing; without, the quantity does not apply.
    """

    value: float | None
    digits: int = 3
    signed: bool = False
    mark: str = ""
    """`best`, `second` or nothing."""
    note: int | None = None
    """Number of the footnote that says which runs are missing."""
    spread: float | None = None
    """Standard deviation over seeds, printed after the value."""
    runs: tuple[str, ...] = ()
    """Keys of the planned runs behind it, done or not."""


@dataclass(frozen=True)
class Group:
    """Columns under one title."""

    key: str
    """Name in files; empty where the columns' own names are enough."""
    title: str
    columns: tuple[str, ...] = ERRORS


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


def main_table(planned: Results) -> list[Table]:
    """Average each data set over its horizons; then add average, mean rank and first places."""
    title = "Forecasting errors, averaged over horizons"
    return [_with_summary(_table("main", title, planned, _by_dataset(planned.own())))]


def full_table(planned: Results) -> list[Table]:
    """Show every horizon of every data set, the data set's average after its horizons; then the summary."""
    rows: list[tuple[str, pd.DataFrame]] = []
    for name, runs in _by_dataset(planned.own()):
        rows += [(f"{name} {horizon}", own) for (horizon,), own in grouped(runs, ["horizon"])]
        rows.append((f"{name} avg", runs))
    table = _table("full", "Forecasting errors at every horizon", planned, rows)
    return [_with_summary(table, [number for number, (label, _) in enumerate(rows) if not label.endswith(" avg")])]


def seeds_table(planned: Results) -> list[Table]:
    """Show every horizon of every data set, each error with its standard deviation over seeds."""
    frame = planned.own()
    rows = [
        (f"{name} {horizon}", runs)
        for name, of_dataset in _by_dataset(frame)
        for (horizon,), runs in grouped(of_dataset, ["horizon"])
    ]
    seeds = frame.seed.nunique()
    table = _table("seeds", "Forecasting errors and their spread over seeds", planned, rows, spreads=seeds > 1)
    table.caption += (
        f" ±: standard deviation (n - 1) over the {seeds} seeds." if seeds > 1 else " One seed has no spread."
    )
    return [table]


def few_shot_table(planned: Results) -> list[Table]:
    """Build a table like the main one for each share of the training windows."""
    tables = []
    for (share,), runs in grouped(planned.own(), ["fraction"]):
        rows = [(dataset, own) for (dataset,), own in grouped(runs, ["dataset"])]
        title = f"Errors after training on the first {100 * share:g} % of the windows, averaged over horizons"
        tables.append(_with_summary(_table(f"few_shot_{100 * share:g}", title, planned, rows)))
    return tables


def zero_shot_table(planned: Results) -> list[Table]:
    """Show a row for each pair of a data set trained on and another one tested on."""
    frame = planned.frame()
    pairs = grouped(frame[frame.tested != frame.dataset], ["dataset", "fraction", "tested"])
    rows = [(f"{shared(dataset, share)} → {tested}", runs) for (dataset, share, tested), runs in pairs]
    title = "Errors on a data set that was not trained on, averaged over horizons"
    return [_with_summary(_table("zero_shot", title, planned, rows))]


def losses_table(planned: Results) -> list[Table]:
    """Show every model under every loss: a row for each loss and data set, and a summary for each loss."""
    rows = {loss: _by_dataset(runs) for (loss,), runs in grouped(planned.own(), ["variant"])}
    labelled = [(f"{name}, {loss}", runs) for loss, of_loss in rows.items() for name, runs in of_loss]
    title = "Forecasting errors by training loss, averaged over horizons"
    table = _table("losses", title, planned, labelled, ["model"])
    first = 0
    for loss, of_loss in rows.items():
        table.rules += [first] if first else []
        counted = range(first, first + len(of_loss))
        table.summary += [(f"{label}, {loss}", cells) for label, cells in _summary(table, counted, f" ({loss})")]
        first += len(of_loss)
    return [table]


def ablation_table(planned: Results) -> list[Table]:
    """Show variants as rows, data sets as columns, and the change against each model's first variant."""
    return [_variants_table("ablation", "Ablations: errors averaged over horizons", planned)]


def layers_table(planned: Results) -> list[Table]:
    """Show errors by tap, and what a probe reads of local change and slow trend after each block."""
    sweep = _variants_table("layers_taps", "Errors by tap, averaged over horizons", planned)
    return [sweep, *_probes_tables(planned)]


def efficiency_table(planned: Results) -> list[Table]:
    """Show size, operations, times and memory: a row for each model, data set and horizon."""
    columns = {"Params M": 3, "Trained M": 3, "GFLOP": 3, "Epoch s": 1, "Window ms": 2, "Peak MiB": 0}
    table = Table("efficiency", "Size, time and memory of each model", "", [Group("", "", tuple(columns))])
    table.marked = False
    frame = planned.own().assign(result=[result for _, result in planned.runs])
    tasks = frame.drop_duplicates(["dataset", "fraction", "horizon"])
    # 1. A row for each cell of the grid, averaged over seeds.
    for (dataset, share, horizon, *of), runs in grouped(frame, ["dataset", "fraction", "horizon", *BY_MODEL]):
        task = f"{shared(dataset, share)} {horizon} " if len(tasks) > 1 else ""
        if runs.why.any():
            cells = [hole(runs, table)] * len(columns)
        else:
            values = zip(_costs(list(runs.result)), columns.values(), strict=True)
            keys = tuple(runs.key)
            cells = [Cell(None if math.isnan(value) else value, digits, runs=keys) for value, digits in values]
        table.rows.append((task + run_title(*of), cells))
    # 2. The caption: which tasks, what each column measures, which times are not comparable.
    on = ", ".join(f"{dataset} {horizon}" for (dataset, horizon), _ in grouped(tasks, ["dataset", "horizon"]))
    lead = (
        f"On {on}: parameters and trained parameters, in millions, without word embeddings; floating-point operations "
        "of one forecast (all channels), in billions, without a prompt that is read once; seconds of the fastest "
        "training epoch, with its validation; milliseconds per test window, in batches; peak memory in MiB, allocated "
        "on a GPU, resident in the process on a CPU"
    )
    if count := sum(bool(result) and result.where.shared for result in frame.result):
        lead += f"; {count} of the {len(frame)} runs shared a GPU with others, and their times include the others'"
    table.caption = planned.lead(lead)
    return [table]


Builder = Callable[[Results], list[Table]]
TABLES: dict[str, Builder] = {
    "main": main_table,
    "full": full_table,
    "seeds": seeds_table,
    "few_shot": few_shot_table,
    "zero_shot": zero_shot_table,
    "ablation": ablation_table,
    "layers": layers_table,
    "losses": losses_table,
    "efficiency": efficiency_table,
}


def grouped(frame: pd.DataFrame, keys: list[str]) -> list[tuple[tuple, pd.DataFrame]]:
    """Return the rows of equal keys together, in order of appearance."""
    return [(tuple(key), rows) for key, rows in frame.groupby(keys, sort=False, dropna=False)]


def shared(dataset: str, share: float) -> str:
    """Return the title of a data set of which this share of the training windows is used."""
    return dataset if share == 1 else f"{dataset} {100 * share:g} %"


def run_title(model: str, variant: str = "") -> str:
    """Return the title of a model or of one of its variants."""
    return f"{registry.title(model)}, {variant}" if variant else registry.title(model)


def behind(cells: Iterable[Cell]) -> tuple[str, ...]:
    """Return the keys of the runs behind these cells, each once."""
    return tuple(dict.fromkeys(key for cell in cells for key in cell.runs))


def mean_error(runs: pd.DataFrame, metric: str) -> float:
    """Return the mean over seeds, then over horizons."""
    return float(runs.groupby("horizon", sort=False)[metric].mean().mean())


def hole(runs: pd.DataFrame, table: Table) -> Cell:
    """Return a dash whose footnote names the missing runs; cells without any run share one footnote."""
    missing = runs[runs.why != ""]
    if runs.status.eq("missing").all():
        note = "None of its runs has been done."
    else:
        names = [
            f"{shared(row.dataset, row.fraction)} h{row.horizon} s{row.seed} {row.why}" for row in missing.itertuples()
        ]
        model = run_title(runs.model.iloc[0], runs.variant.iloc[0])
        note = f"{model}: {len(missing)} of {len(runs)} runs missing: {first_few(names, '; ')}"
    return Cell(None, note=table.footnote(note), runs=tuple(runs.key))


def _by_dataset(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return title and rows of each data set and share of its training windows."""
    return [(shared(*key), runs) for key, runs in grouped(frame, ["dataset", "fraction"])]


def _table(
    name: str,
    title: str,
    planned: Results,
    rows: list[tuple[str, pd.DataFrame]],
    by: list[str] = BY_MODEL,
    spreads: bool = False,
) -> Table:
    """Build rows by label, columns by model (and variant), MSE and MAE of each."""
    keys = [key for key, _ in grouped(pd.concat(runs for _, runs in rows), by)]
    groups = [Group("_".join(filter(None, key)).replace(" ", "-"), run_title(*key)) for key in keys]
    table = Table(name, title, planned.lead(), groups, spreads=spreads)
    for label, runs in rows:
        by_key = dict(grouped(runs, by))
        for key in keys:
            if key not in by_key:
                raise BenchError(f"table {name}: no run of {'_'.join(key)} in row {label}; plan it for every row")
        table.rows.append((label, _marked([_cell(by_key[key], metric, table) for key in keys for metric in METRICS])))
    return table


def _cell(runs: pd.DataFrame, metric: str, table: Table) -> Cell:
    """Return the mean over seeds, then over horizons; a hole with a footnote unless every run is done."""
    if runs[metric].isna().any():
        return hole(runs, table)
    spread = float(runs[metric].std()) if table.spreads and len(runs) > 1 else None
    return Cell(mean_error(runs, metric), spread=spread, runs=tuple(runs.key))


def _marked(cells: list[Cell]) -> list[Cell]:
    """Mark the best and the second value of each metric in a row; a row with a hole has neither."""
    marked = list(cells)
    if all(cell.value is not None for cell in cells):
        for metric in range(len(METRICS)):
            marked[metric :: len(METRICS)] = _marked_column(cells[metric :: len(METRICS)])
    return marked


def _marked_column(cells: Sequence[Cell]) -> Sequence[Cell]:
    """Mark the least and the second value unless one is missing; equal values share a mark."""
    values = sorted({cell.value for cell in cells if cell.value is not None})
    if any(cell.value is None for cell in cells) or len(values) < 2:
        return cells
    marks: dict[float | None, str] = {values[0]: "best", values[1]: "second"}
    return [replace(cell, mark=marks.get(cell.value, "")) for cell in cells]


def _with_summary(table: Table, counted: Sequence[int] | None = None) -> Table:
    table.summary = _summary(table, range(len(table.rows)) if counted is None else counted)
    return table


def _summary(table: Table, counted: Sequence[int], of: str = "") -> list[tuple[str, list[Cell]]]:
    """Return average, mean rank and first places over those of the `counted` rows that are complete for every model."""
    # 1. Keep the complete rows; say so if there are others.
    rows = [table.rows[number][1] for number in counted]
    complete = [cells for cells in rows if all(cell.value is not None for cell in cells)]
    if len(complete) < len(rows):
        table.notes.append(
            f"Average, mean rank and first places{of} are over the {len(complete)} of {len(rows)} rows that are "
            "complete for every model."
        )
    if not complete:
        return []
    # 2. Rank the models of each metric in each row.
    values = pd.DataFrame([[cell.value for cell in cells] for cells in complete], dtype=float)
    columns = values.T  # a row for each model and metric, a column for each row of the table
    by_metric = columns.groupby(columns.index % len(METRICS))
    ranks, firsts = by_metric.rank().mean(axis=1), columns.eq(by_metric.transform("min")).sum(axis=1)
    runs = [behind(column) for column in zip(*complete, strict=True)]

    def line(values: pd.Series, digits: int) -> list[Cell]:
        return [Cell(float(value), digits, runs=keys) for value, keys in zip(values, runs, strict=True)]

    averages = _marked(line(values.mean(), 3))
    return [("Average", averages), ("Mean rank", line(ranks, 2)), ("First places", line(firsts, 0))]


def _variants_table(name: str, title: str, planned: Results) -> Table:
    """Build rows by model and variant, columns by data set, and the mean change against the model's first variant."""
    frame = planned.own()
    datasets = [dataset for dataset, _ in _by_dataset(frame)]
    groups = [Group(dataset.replace(" ", ""), dataset) for dataset in datasets]
    table = Table(name, title, planned.lead(), [*groups, Group("change", "Change, %")])
    for (model,), of_model in grouped(frame, ["model"]):
        table.rule()
        titles, block = [], []
        for (variant,), runs in grouped(of_model, ["variant"]):
            own = dict(_by_dataset(runs))
            titles.append(run_title(model, variant))
            block.append([_cell(own[dataset], metric, table) for dataset in datasets for metric in METRICS])
        columns = map(_marked_column, zip(*block, strict=True))
        for label, cells, marked in zip(titles, block, zip(*columns, strict=True), strict=True):
            table.rows.append((label, [*marked, *_changes(cells, block[0])]))
    table.caption += (
        " Marks are by column and model. Change: of the error against the first row of each model, averaged over data "
        "sets." + _spread_sentence(frame)
    )
    return table


def _changes(cells: list[Cell], first: list[Cell]) -> list[Cell]:
    """Return, per metric, the mean change in percent against the first variant; a hole if any cell of either is one."""
    changes = []
    for metric in range(len(METRICS)):
        own, usual = cells[metric :: len(METRICS)], first[metric :: len(METRICS)]
        values, references = (pd.Series([cell.value for cell in row], dtype=float) for row in (own, usual))
        gaps = [cell.note for cell in (*own, *usual) if cell.value is None]
        change = None if gaps else float(100 * (values / references - 1).mean())
        note = gaps[0] if gaps else None
        changes.append(Cell(change, digits=1, signed=True, note=note, runs=behind([*own, *usual])))
    return changes


def _spread_sentence(frame: pd.DataFrame) -> str:
    """Say how far the seed alone moves the mean MSE of each model's first variant, to judge changes against."""
    spreads = []
    for (model,), of_model in grouped(frame, ["model"]):
        usual = of_model[of_model.variant == of_model.variant.iloc[0]]
        by_seed = usual.pivot_table(
            index=["dataset", "fraction", "horizon"], columns="seed", values="mse", dropna=False
        )
        if usual.mse.notna().all() and by_seed.shape[1] > 1:
            share = by_seed.div(by_seed.mean(axis=1), axis=0).mean().std()
            spreads.append(f"{registry.title(model)} {100 * share:.1f} %")
    sentence = f" From seed to seed the first row's MSE moves by (standard deviation): {', '.join(spreads)}."
    return sentence if spreads else ""


def _probes_tables(planned: Results) -> list[Table]:
    """Build the tables of probes: a row per block, columns before and after training."""
    runs = Results([(entry, result) for entry, result in planned.runs if entry.spec.task.probe])
    if not runs.runs:
        return []
    read = runs.lead(
        "R2 on validation windows of a patch's step-to-step change (local) and of the mean over the half look-back "
        "that ends with it (trend); the input row is read from the patch alone; means over data sets and horizons",
    )
    follows = runs.lead(
        "Share that only the patch's step-to-step change explains (local), that only the mean over the half look-back "
        "explains (trend), and that lies in periods of the whole look-back and longer (slow; 0: no more than in white "
        "noise); compare blocks, not columns; means over data sets and horizons",
    )
    scores = {"local R2": "local_r2", "trend R2": "trend_r2"}
    shares = {"local": "local_share", "trend": "trend_share", "slow": "slow_power"}
    return [
        _probe_table("layers_read", "What a linear probe reads from each block", read, runs, scores, Cell(1, 3)),
        _probe_table(
            "layers_follow",
            "What the state of each block follows, in % of its variance",
            follows,
            runs,
            shares,
            Cell(100, 1),
        ),
    ]


def _probe_table(name: str, title: str, caption: str, runs: Results, measures: dict[str, str], unit: Cell) -> Table:
    """Build columns by variant and stage, rows by block; holes unless every run of the variant is done.

    `measures`: column title -> field of the record; `unit`: the printed value and digits of a field that is 1.
    """
    table = Table(name, title, caption, [], marked=False)
    # 1. Means over data sets, horizons and seeds.
    measured = [
        {"variant": entry.variant, **layer.model_dump()}
        for entry, result in runs.runs
        for layer in (result.layers if result else ())
    ]
    means = pd.DataFrame(measured, columns=["variant", "stage", "block", *measures.values()])
    means = means.groupby(["variant", "stage", "block"]).mean() * (unit.value or 1)
    # 2. A row for the input and each block; a tap is named if all variants share it.
    probed = [entry.spec.options for entry, _ in runs.runs]
    taps = {key: {options[key] for options in probed} for key in ("local_tap", "global_tap")}
    names = {taps[key].pop(): f" ({key.replace('_', ' ')})" for key in taps if len(taps[key]) == 1}
    blocks = range(1, max(int(options["blocks"] or 0) for options in probed) + 1)
    table.rows = [("input", []), *((f"block {block}{names.get(block, '')}", []) for block in blocks)]
    # 3. Columns.
    for (variant,), frame in grouped(runs.own(), ["variant"]):
        gap = hole(frame, table) if frame.why.any() else None
        keys = tuple(frame.key)
        for stage, when in {"untrained": "before training", "trained": "after training"}.items():
            table.groups.append(Group(f"{variant}_{stage}".replace(" ", "-"), f"{variant}, {when}", tuple(measures)))
            for block, (_, cells) in enumerate(table.rows):
                for measure in measures.values():
                    found = means[measure].get((variant, stage, block))  # None beyond this variant's last block
                    cells.append(gap or replace(unit, value=None if found is None else float(found), runs=keys))
    return table


def _costs(results: list[RunResult]) -> list[float]:
    """Return the means over seeds of the efficiency table's columns; NaN where a cost is unknown."""
    rows = []
    for result in results:
        cost = result.cost
        assert cost is not None, "a run that is done has its cost"
        sizes = [cost.params / 1e6, cost.trainable / 1e6, cost.flops / 1e9]
        rows.append([*sizes, result.epoch_s, cost.infer_ms, cost.peak_mb])
    return list(pd.DataFrame(rows, dtype=float).mean())
