"""Planned runs + their records -> tables in the paper's layout. Pure; no torch. `bench.report.render` prints them.

A cell is computed only when every run behind it is there. What is missing is a dash with a footnote, never a guess.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from bench.analysis.results import METRICS, Results
from bench.analysis.stats import spread
from bench.core.base import BenchError
from bench.core.record import RunResult
from bench.plan import registry

ERRORS = ("MSE", "MAE")


@dataclass(frozen=True)
class Cell:
    """A number and how to print it; `value` None is a hole, or without a note a thing that is not known of anything."""

    value: float | None
    digits: int = 3
    signed: bool = False
    mark: str = ""
    """`best`, `second` or nothing."""
    note: int | None = None
    """Number of the footnote that explains a hole."""
    spread: float | None = None
    """Standard deviation over seeds, printed after the value."""
    runs: tuple[str, ...] = ()
    """Keys of the runs it stands on, also of those that are not there."""


@dataclass(frozen=True)
class Group:
    """Columns under one title."""

    key: str
    """What files call it; empty where the columns' own names are enough."""
    title: str
    columns: tuple[str, ...] = ERRORS


@dataclass
class Table:
    """A table ready to print: labelled rows under groups of columns."""

    name: str
    title: str
    caption: str
    """What is shown, and what is said of this table alone."""
    groups: list[Group]
    rows: list[tuple[str, list[Cell]]] = field(default_factory=list)
    """Label and one cell per column."""
    summary: list[tuple[str, list[Cell]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rules: list[int] = field(default_factory=list)
    """Numbers of the rows that a rule stands before."""
    marked: bool = True
    """Best and second values are marked."""
    common: str = ""
    """What its caption shares with those of the other tables of a report."""
    spreads: bool = False
    """Values come with their spread, which files of numbers hold in columns of their own."""

    @property
    def columns(self) -> list[str]:
        return [column for group in self.groups for column in group.columns]

    @property
    def whole_caption(self) -> str:
        """For a table that stands alone."""
        return f"{self.caption} {self.common}".rstrip()


def main_table(planned: Results) -> list[Table]:
    """Data sets as rows, each the average over its horizons; then average, mean rank and first places."""
    frame = planned.own()
    rows = [(shared(dataset, share), runs) for (dataset, share), runs in grouped(frame, ["dataset", "fraction"])]
    title = "Forecasting errors, averaged over horizons"
    table = _table("main", title, planned.shown(), rows, ["model", "variant"])
    table.summary = _summary(table)
    return [table]


def full_table(planned: Results) -> list[Table]:
    """Every horizon of every data set as a row, each data set's average after its horizons; then the summary."""
    rows: list[tuple[str, pd.DataFrame]] = []
    averages = []
    for (dataset, share), runs in grouped(planned.own(), ["dataset", "fraction"]):
        name = shared(dataset, share)
        rows += [(f"{name} {horizon}", own) for (horizon,), own in grouped(runs, ["horizon"])]
        averages.append(f"{name} avg")
        rows.append((averages[-1], runs))
    title = "Forecasting errors at every horizon"
    table = _table("full", title, planned.shown(), rows, ["model", "variant"])
    table.summary = _summary(table, [number for number, (label, _) in enumerate(rows) if label not in averages])
    return [table]


def seeds_table(planned: Results) -> list[Table]:
    """Every horizon of every data set as a row, each error with its standard deviation over seeds."""
    frame = planned.own()
    rows = [
        (f"{shared(dataset, share)} {horizon}", runs)
        for (dataset, share, horizon), runs in grouped(frame, ["dataset", "fraction", "horizon"])
    ]
    seeds = frame.seed.nunique()
    said = f"±: standard deviation (n - 1) over the {seeds} seeds." if seeds > 1 else "One seed tells no spread."
    title = "Forecasting errors and how far they spread over seeds"
    return [_table("seeds", title, f"{planned.shown()} {said}", rows, ["model", "variant"], seeds > 1)]


def few_shot_table(planned: Results) -> list[Table]:
    """A table as the main one for each share of the training windows."""
    tables = []
    for (share,), runs in grouped(planned.own(), ["fraction"]):
        rows = [(dataset, own) for (dataset,), own in grouped(runs, ["dataset"])]
        title = f"Errors after training on the first {100 * share:g} % of the windows, averaged over horizons"
        name = f"few_shot_{100 * share:g}"
        table = _table(name, title, planned.shown(), rows, ["model", "variant"])
        table.summary = _summary(table)
        tables.append(table)
    return tables


def zero_shot_table(planned: Results) -> list[Table]:
    """Trained on one data set, tested on another: a row for each pair."""
    frame = planned.frame()
    pairs = grouped(frame[frame.tested != frame.dataset], ["dataset", "fraction", "tested"])
    rows = [(f"{shared(dataset, share)} → {tested}", runs) for (dataset, share, tested), runs in pairs]
    title = "Errors on a data set that was not trained on, averaged over horizons"
    table = _table("zero_shot", title, planned.shown(), rows, ["model", "variant"])
    table.summary = _summary(table)
    return [table]


def losses_table(planned: Results) -> list[Table]:
    """Every model under every loss: a row for each loss and data set, and a summary for each loss."""
    by_loss = [
        (loss, [(f"{shared(*key)}, {loss}", runs) for key, runs in grouped(of_loss, ["dataset", "fraction"])])
        for (loss,), of_loss in grouped(planned.own(), ["variant"])
    ]
    title = "Forecasting errors by training loss, averaged over horizons"
    table = _table("losses", title, planned.shown(), [row for _, rows in by_loss for row in rows], ["model"])
    first = 0
    for loss, rows in by_loss:
        table.rules += [first] if first else []
        table.summary += [
            (f"{label}, {loss}", cells) for label, cells in _summary(table, range(first, first + len(rows)), loss)
        ]
        first += len(rows)
    return [table]


def ablation_table(planned: Results) -> list[Table]:
    """Variants as rows, data sets as columns, and the change against each model's first variant."""
    return [_variants_table("ablation", "Ablations: errors averaged over horizons", planned)]


def layers_table(planned: Results) -> list[Table]:
    """Errors by tap, and what each block holds of local change and slow trend."""
    sweep = _variants_table("layers_taps", "Errors by tap, averaged over horizons", planned)
    return [sweep, *_probes_tables(planned)]


def efficiency_table(planned: Results) -> list[Table]:
    """What each model weighs and takes; a row for each model, data set and horizon."""
    columns = {"Params M": 3, "Trained M": 3, "GFLOP": 3, "Epoch s": 1, "Window ms": 2, "Peak MiB": 0}
    table = Table("efficiency", "What a model weighs and takes", "", [Group("", "", tuple(columns))], marked=False)
    frame = planned.own().assign(result=[result for _, result in planned.runs])
    keys = ["dataset", "fraction", "horizon", "model", "variant"]
    tasks = frame.drop_duplicates(["dataset", "fraction", "horizon"])
    for (dataset, share, horizon, model, variant), runs in grouped(frame, keys):
        task = f"{shared(dataset, share)} {horizon} " if len(tasks) > 1 else ""
        if runs.why.any():
            cells = [hole(runs, table)] * len(columns)
        else:
            values = zip(_costs(list(runs.result)), columns.values(), strict=True)
            stands = tuple(runs.key)
            cells = [Cell(None if math.isnan(value) else value, digits, runs=stands) for value, digits in values]
        table.rows.append((task + run_title(model, variant), cells))
    where = ", ".join(f"{dataset} {horizon}" for (dataset, horizon), _ in grouped(tasks, ["dataset", "horizon"]))
    lead = (
        f"On {where}: parameters and those that train, in millions, word embeddings left out; floating-point "
        "operations of one forecast (all channels), in billions, a prompt that is read once left out; seconds of "
        "the fastest training epoch, with its validation; milliseconds per test window, in batches; most memory, "
        "allocated on a GPU, resident in the process on a CPU"
    )
    if count := sum(bool(result) and result.where.shared for result in frame.result):
        lead += f"; {count} of the {len(frame)} runs shared a GPU with others, and their times hold those of the others"
    table.caption = planned.shown(lead)
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
    """The rows of equal keys together, in order of appearance."""
    return [(tuple(key), rows) for key, rows in frame.groupby(keys, sort=False, dropna=False)]


def shared(dataset: str, share: float) -> str:
    """What tables call a data set of which that share of the training windows is used."""
    return dataset if share == 1 else f"{dataset} {100 * share:g} %"


def run_title(model: str, variant: str = "") -> str:
    """What tables call a model, or one of its variants."""
    return f"{registry.title(model)}, {variant}" if variant else registry.title(model)


def _table(
    name: str, title: str, caption: str, rows: list[tuple[str, pd.DataFrame]], by: list[str], spreads: bool = False
) -> Table:
    """Rows by label, columns by model (and variant), MSE and MAE of each."""
    keys = [key for key, _ in grouped(pd.concat(runs for _, runs in rows), by)]
    groups = [
        Group("_".join(filter(None, key)).replace(" ", "-"), run_title(*key, *[""] * (2 - len(key)))) for key in keys
    ]
    table = Table(name, title, caption, groups, spreads=spreads)
    for label, runs in rows:
        by_key = dict(grouped(runs, by))
        for key in keys:
            if key not in by_key:
                raise BenchError(f"table {name}: no run of {'_'.join(key)} in row {label}; plan it for every row")
        cells = [_cell(by_key[key], metric, table) for key in keys for metric in METRICS]
        table.rows.append((label, _marked(cells)))
    return table


def _variants_table(name: str, title: str, planned: Results) -> Table:
    """Rows by model and variant; columns by data set, and the mean change against the model's first variant."""
    frame = planned.own()
    datasets = [(shared(*key), runs) for key, runs in grouped(frame, ["dataset", "fraction"])]
    groups = [Group(dataset.replace(" ", ""), dataset) for dataset, _ in datasets]
    table = Table(name, title, planned.shown(), [*groups, Group("change", "Change, %")])
    for (model,), of_model in grouped(frame, ["model"]):
        first = len(table.rows)
        table.rules += [first] if first else []
        for (variant,), runs in grouped(of_model, ["variant"]):
            by_dataset = {shared(*key): own for key, own in grouped(runs, ["dataset", "fraction"])}
            cells = [_cell(by_dataset[dataset], metric, table) for dataset, _ in datasets for metric in METRICS]
            table.rows.append((run_title(model, variant), cells))
        _mark_and_compare(table.rows, first)
    table.caption += (
        " Marks are by column and model. Change: of the error against the first row of each model, averaged over data "
        "sets." + _spread_sentence(frame)
    )
    return table


def _mark_and_compare(rows: list[tuple[str, list[Cell]]], first: int) -> None:
    """Mark the best and second of each column from row `first` on, and append the change against that row."""
    block = [cells for _, cells in rows[first:]]
    columns = [_marked_column([cells[i] for cells in block]) for i in range(len(block[0]))]
    for number, (label, cells) in enumerate(rows[first:]):
        marked = [column[number] for column in columns]
        change = [
            _change(cells[metric :: len(METRICS)], block[0][metric :: len(METRICS)]) for metric in range(len(METRICS))
        ]
        rows[first + number] = (label, marked + change)


def _change(cells: list[Cell], usual: list[Cell]) -> Cell:
    """Mean change in percent; a hole if any cell of either is one."""
    holes = [cell.note for cell in (*cells, *usual) if cell.value is None]
    runs = behind([*cells, *usual])
    if holes:
        return Cell(None, note=holes[0], runs=runs)
    values, references = (pd.Series([cell.value for cell in row], dtype=float) for row in (cells, usual))
    return Cell(float(100 * (values / references - 1).mean()), digits=1, signed=True, runs=runs)


def behind(cells: Iterable[Cell]) -> tuple[str, ...]:
    """The runs that these cells stand on, each once."""
    return tuple(dict.fromkeys(key for cell in cells for key in cell.runs))


def _spread_sentence(frame: pd.DataFrame) -> str:
    """How far the seed alone moves the mean MSE of each model's first variant: what a change is to be held against."""
    spreads = []
    for (model,), of_model in grouped(frame, ["model"]):
        usual = of_model[of_model.variant == of_model.variant.iloc[0]]
        by_seed = usual.pivot_table(
            index=["dataset", "fraction", "horizon"], columns="seed", values="mse", dropna=False
        )
        if usual.mse.notna().all() and by_seed.shape[1] > 1:
            share = by_seed.div(by_seed.mean(axis=1), axis=0).mean().std()
            spreads.append(f"{registry.title(model)} {100 * share:.1f} %")
    return (
        f" From seed to seed the first row's MSE moves by (standard deviation): {', '.join(spreads)}."
        if spreads
        else ""
    )


def _probes_tables(planned: Results) -> list[Table]:
    """What can be read off each block, and what its state follows: a row per block, before and after training."""
    runs = Results([(entry, result) for entry, result in planned.runs if entry.spec.task.probe])
    if not runs.runs:
        return []
    read = Table("layers_read", "What a linear probe reads off each block", "", [], marked=False)
    read.caption = runs.shown(
        "R2 on validation windows of a patch's step-to-step change (local) and of the mean over the half look-back "
        "that ends with it (trend); the input row is what the patch alone tells; means over data sets and horizons",
    )
    follows = Table("layers_follow", "What the state of each block follows, in % of its variance", "", [], marked=False)
    follows.caption = runs.shown(
        "Share that only the patch's step-to-step change explains (local), that only the mean over the half look-back "
        "explains (trend), and that lies in periods of the whole look-back and longer (slow; 0: no more than in white "
        "noise); compare blocks, not columns; means over data sets and horizons",
    )
    _add_blocks(read, runs, {"local R2": "local_r2", "trend R2": "trend_r2"}, Cell(1, digits=3))
    shares = {"local": "local_share", "trend": "trend_share", "slow": "slow_power"}
    _add_blocks(follows, runs, shares, Cell(100, digits=1))
    return [read, follows]


def _add_blocks(table: Table, runs: Results, measures: dict[str, str], unit: Cell) -> None:
    """Columns by variant and stage, rows by block; holes where a variant's runs are not all there."""
    stages = {"untrained": "before training", "trained": "after training"}
    measured = [
        {"variant": entry.variant, **layer.model_dump()}
        for entry, result in runs.runs
        for layer in (result.layers if result else ())
    ]
    means = pd.DataFrame(measured, columns=["variant", "stage", "block", *measures.values()])
    means = means.groupby(["variant", "stage", "block"]).mean() * (unit.value or 1)
    probed = [entry.spec.options for entry, _ in runs.runs]
    taps = {key: {options[key] for options in probed} for key in ("local_tap", "global_tap")}
    names = {taps[key].pop(): f" ({key.replace('_', ' ')})" for key in taps if len(taps[key]) == 1}
    blocks = range(1, max(int(options["blocks"] or 0) for options in probed) + 1)
    table.rows = [("input", []), *((f"block {block}{names.get(block, '')}", []) for block in blocks)]
    for (variant,), frame in grouped(runs.own(), ["variant"]):
        gap = hole(frame, table) if frame.why.any() else None
        keys = tuple(frame.key)
        for stage, when in stages.items():
            table.groups.append(Group(f"{variant}_{stage}".replace(" ", "-"), f"{variant}, {when}", tuple(measures)))
            for block, (_, cells) in enumerate(table.rows):
                for name in measures.values():
                    found = means[name].get((variant, stage, block))  # None beyond this variant's last block
                    cells.append(gap or replace(unit, value=None if found is None else float(found), runs=keys))


def _costs(results: list[RunResult]) -> list[float]:
    """Means over seeds of the efficiency table's columns."""
    rows = []
    for result in results:
        cost = result.cost
        assert cost is not None, "a run that is done has its cost"
        rows.append(
            [
                cost.params / 1e6,
                cost.trainable / 1e6,
                cost.flops / 1e9,
                result.epoch_s,
                cost.infer_ms,
                math.nan if cost.peak_mb is None else cost.peak_mb,
            ]
        )
    return list(pd.DataFrame(rows).mean())


def _cell(runs: pd.DataFrame, metric: str, table: Table) -> Cell:
    """Mean over seeds, then over horizons; a hole with a footnote unless every run is there."""
    if runs[metric].isna().any():
        return hole(runs, table)
    over_seeds = spread(runs[metric])
    std = over_seeds.std if table.spreads and over_seeds.n > 1 else None
    return Cell(mean_error(runs, metric), spread=std, runs=tuple(runs.key))


def mean_error(runs: pd.DataFrame, metric: str) -> float:
    """Over seeds, then over horizons."""
    return float(runs.groupby("horizon", sort=False)[metric].mean().mean())


def hole(runs: pd.DataFrame, table: Table) -> Cell:
    """A dash with the footnote that names the runs that are not there; one footnote for all cells without any run."""
    missing = runs[runs.why != ""]
    if len(missing) == len(runs) and runs.why.eq("not run").all():
        note = "None of its runs has been done."
    else:
        names = [
            f"{shared(row.dataset, row.fraction)} h{row.horizon} s{row.seed} {row.why}"
            for row in missing.head(3).itertuples()
        ]
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        who = run_title(runs.model.iloc[0], runs.variant.iloc[0])
        note = f"{who}: {len(missing)} of {len(runs)} runs are not there: {'; '.join(names)}{more}"
    if note not in table.notes:
        table.notes.append(note)
    return Cell(None, note=table.notes.index(note) + 1, runs=tuple(runs.key))


def _marked(cells: list[Cell]) -> list[Cell]:
    """A row with the best and the second value of each metric marked."""
    marked = list(cells)
    if all(cell.value is not None for cell in cells):  # a row with a hole has no best
        for metric in range(len(METRICS)):
            marked[metric :: len(METRICS)] = _marked_column(cells[metric :: len(METRICS)])
    return marked


def _marked_column(cells: list[Cell]) -> list[Cell]:
    """The same cells with the least and the second value marked, unless one is missing; equal values share a mark."""
    values = sorted({cell.value for cell in cells if cell.value is not None})
    if any(cell.value is None for cell in cells) or len(values) < 2:
        return cells
    marks: dict[float | None, str] = {values[0]: "best", values[1]: "second"}
    return [replace(cell, mark=marks.get(cell.value, "")) for cell in cells]


def _summary(table: Table, counted: Sequence[int] | None = None, of: str = "") -> list[tuple[str, list[Cell]]]:
    """Average, mean rank and first places over the rows (those `counted`) that are complete for every model."""
    rows = [cells for number, (_, cells) in enumerate(table.rows) if counted is None or number in counted]
    complete = [cells for cells in rows if all(cell.value is not None for cell in cells)]
    whole = [[cell.value for cell in cells] for cells in complete]
    if len(whole) < len(rows):
        which = f" ({of})" if of else ""
        table.notes.append(
            f"Average, mean rank and first places{which} are over the {len(whole)} of {len(rows)} rows that are "
            "complete for every model."
        )
    if not whole:
        return []
    values = pd.DataFrame(whole, dtype=float)
    per_metric = [values.iloc[:, metric :: len(METRICS)] for metric in range(len(METRICS))]
    averages = values.mean()
    ranks = pd.concat([part.rank(axis=1, method="average").mean() for part in per_metric]).sort_index()
    firsts = pd.concat([part.eq(part.min(axis=1), axis=0).sum() for part in per_metric]).sort_index()
    runs = [behind(column) for column in zip(*complete, strict=True)]

    def line(values: pd.Series, digits: int) -> list[Cell]:
        return [Cell(float(value), digits, runs=keys) for value, keys in zip(values, runs, strict=True)]

    return [
        ("Average", _marked(line(averages, 3))),
        ("Mean rank", line(ranks, 2)),
        ("First places", line(firsts, 0)),
    ]
