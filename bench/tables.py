"""Planned runs + their records -> tables in the paper's layout -> text, Markdown, LaTeX, CSV or JSON. Pure; no torch.

A cell is computed only when every run behind it is there. What is missing is a dash with a footnote, never a guess.
"""

from __future__ import annotations

import csv
import io
import json
import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import pandas as pd
from tabulate import tabulate

from bench import registry
from bench.spec import RunResult, RunSpec
from models.pretrained import BACKBONES

METRICS = ("mse", "mae")


@dataclass(frozen=True)
class Cell:
    """A number and how to print it; `value` None is a hole."""

    value: float | None
    digits: int = 3
    mark: str = ""
    """`best`, `second` or nothing."""
    note: int | None = None
    """Number of the footnote that explains a hole."""


@dataclass
class Table:
    """A table ready to print: pairs of columns under each model's title, rows by label."""

    name: str
    title: str
    caption: str
    models: list[str]
    rows: list[tuple[str, list[Cell]]]
    """Label and one cell per model and metric, models outermost."""
    summary: list[tuple[str, list[Cell]]]
    notes: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return all(cell.value is not None for _, cells in self.rows for cell in cells)


@dataclass(frozen=True)
class Planned:
    """The runs a table stands on, each with its record if there is one."""

    runs: list[tuple[RunSpec, RunResult | None]]

    def frame(self) -> pd.DataFrame:
        """One row per planned run: dataset, horizon, model, seed, mse, mae (NaN where not done), why."""
        rows = []
        for spec, result in self.runs:
            done = result is not None and result.status == "done"
            evaluation = result.evaluations[0] if result is not None and done else None
            rows.append(
                {
                    "dataset": spec.task.dataset,
                    "horizon": spec.task.horizon,
                    "model": spec.model,
                    "seed": spec.seed,
                    "mse": evaluation.mse if evaluation else math.nan,
                    "mae": evaluation.mae if evaluation else math.nan,
                    "why": "" if done else f"failed ({result.error})" if result else "not run",
                }
            )
        return pd.DataFrame(rows, columns=["dataset", "horizon", "model", "seed", *METRICS, "why"])


def main_table(planned: Planned, about: str) -> Table:
    """Data sets as rows, each the average over its horizons; then average, mean rank and first places."""
    frame = planned.frame()
    groups = [(dataset, frame[frame.dataset == dataset]) for dataset in frame.dataset.unique()]
    table = _table("main", "Forecasting errors, averaged over horizons", _caption(planned, about), groups)
    _add_summary(table)
    return table


def full_table(planned: Planned, about: str) -> Table:
    """Every horizon of every data set as a row, each data set's average after its horizons; then the summary."""
    frame = planned.frame()
    groups: list[tuple[str, pd.DataFrame]] = []
    for dataset in frame.dataset.unique():
        own = frame[frame.dataset == dataset]
        groups += [(f"{dataset} {horizon}", own[own.horizon == horizon]) for horizon in own.horizon.unique()]
        groups.append((f"{dataset} avg", own))
    table = _table("full", "Forecasting errors at every horizon", _caption(planned, about), groups)
    _add_summary(table, counted=[label for label, _ in groups if not label.endswith(" avg")])
    return table


TABLES: dict[str, Callable[[Planned, str], Table]] = {"main": main_table, "full": full_table}


def render(table: Table, form: str) -> str:
    """As text, md, latex, csv or json."""
    forms = {"text": _as_text, "md": _as_markdown, "latex": _as_latex, "csv": _as_csv, "json": _as_json}
    return forms[form](table)


def _table(name: str, title: str, caption: str, groups: list[tuple[str, pd.DataFrame]]) -> Table:
    models = list(groups[0][1].model.unique())
    table = Table(name, title, caption, models, [], [])
    for label, runs in groups:
        cells = [_cell(runs[runs.model == model], metric, table) for model in models for metric in METRICS]
        table.rows.append((label, _marked(cells)))
    return table


def _cell(runs: pd.DataFrame, metric: str, table: Table) -> Cell:
    """Mean over seeds, then over horizons; a hole with a footnote unless every run is there."""
    if runs[metric].notna().all():
        return Cell(float(runs.groupby("horizon", sort=False)[metric].mean().mean()))
    missing = runs[runs[metric].isna()]
    names = [f"{row.dataset} h{row.horizon} s{row.seed} {row.why}" for row in missing.head(3).itertuples()]
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    note = (
        f"{registry.title(runs.model.iloc[0])}: {len(missing)} of {len(runs)} runs are not there: "
        f"{'; '.join(names)}{more}"
    )
    if note not in table.notes:
        table.notes.append(note)
    return Cell(None, note=table.notes.index(note) + 1)


def _marked(cells: list[Cell]) -> list[Cell]:
    """The same cells with the best and the second value of each metric marked; equal values share a mark.

    A row with a hole has no best.
    """
    if any(cell.value is None for cell in cells):
        return cells
    marked = list(cells)
    for metric in range(len(METRICS)):
        row = range(metric, len(cells), len(METRICS))
        values = sorted({value for i in row if (value := cells[i].value) is not None})
        for i in row:
            if cells[i].value in values[:2] and len(values) > 1:
                marked[i] = Cell(cells[i].value, mark="best" if cells[i].value == values[0] else "second")
    return marked


def _add_summary(table: Table, counted: list[str] | None = None) -> None:
    """Average, mean rank and first places over the rows (those `counted`) that are complete for every model."""
    rows = [cells for label, cells in table.rows if counted is None or label in counted]
    whole = [[cell.value for cell in cells] for cells in rows if all(cell.value is not None for cell in cells)]
    if len(whole) < len(rows):
        table.notes.append(
            f"Average, mean rank and first places are over the {len(whole)} of {len(rows)} rows that are complete for "
            "every model."
        )
    if not whole:
        return
    values = pd.DataFrame(whole, dtype=float)
    per_metric = [values.iloc[:, metric :: len(METRICS)] for metric in range(len(METRICS))]
    averages = values.mean()
    ranks = pd.concat([part.rank(axis=1, method="average").mean() for part in per_metric]).sort_index()
    firsts = pd.concat([part.eq(part.min(axis=1), axis=0).sum() for part in per_metric]).sort_index()
    table.summary = [
        ("Average", _marked([Cell(float(value)) for value in averages])),
        ("Mean rank", [Cell(float(value), digits=2) for value in ranks]),
        ("First places", [Cell(float(value), digits=0) for value in firsts]),
    ]


def _caption(planned: Planned, about: str) -> str:
    """What every number of the table has in common, from the specs and records themselves."""
    specs = [spec for spec, _ in planned.runs]
    done = [result for _, result in planned.runs if result is not None and result.status == "done"]
    by_context: dict[int, list[str]] = {}
    for spec in specs:
        names = by_context.setdefault(spec.task.context, [])
        if spec.task.dataset not in names:
            names.append(spec.task.dataset)
    usual = max(by_context, key=lambda context: len(by_context[context]))
    others = [f"{', '.join(names)} {context}" for context, names in by_context.items() if context != usual]
    context = f"{usual} ({'; '.join(others)})" if others else str(usual)
    seeds = sorted({spec.seed for spec in specs})
    averaged = f"mean over seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"one seed ({seeds[0]})"
    sentences = [
        f"Test errors on standardised channels, every window scored; look-back {context}; {averaged}.",
        *_backbone_sentences(specs),
        about,
        *_where_sentences(done),
    ]
    return " ".join(sentence.rstrip() for sentence in sentences if sentence)


def _backbone_sentences(specs: Sequence[RunSpec]) -> list[str]:
    """Which language model stands behind which column, with blocks and taps."""
    by_backbone: dict[str, list[str]] = {}
    for spec in specs:
        if "backbone" in spec.options:
            detail = f"{registry.title(spec.model)} {spec.options['blocks']} blocks"
            if "local_tap" in spec.options:
                detail += f", taps {spec.options['local_tap']} and {spec.options['global_tap']}"
            details = by_backbone.setdefault(str(spec.options["backbone"]), [])
            if detail not in details:
                details.append(detail)
    return [
        f"Language model: {BACKBONES[name].title}, pretrained ({'; '.join(details)})."
        if BACKBONES[name].files
        else f"Language model: {BACKBONES[name].title}, NOT pretrained ({'; '.join(details)})."
        for name, details in by_backbone.items()
    ]


def _where_sentences(done: Iterable[RunResult]) -> list[str]:
    """Devices and precision of the runs that are there."""
    devices: dict[str, None] = {}
    lower: dict[str, None] = {}
    for result in done:
        devices[result.where.device] = None
        if result.spec.train.precision == "bf16":
            lower[registry.title(result.spec.model)] = None
    sentences = [f"Run on {'; '.join(devices)}."] if devices else []
    if lower:
        sentences.append(f"bf16 arithmetic in {', '.join(lower)}; float32 elsewhere.")
    return sentences


def _lines(table: Table) -> list[tuple[str, list[Cell]]]:
    return table.rows + table.summary


def _plain(cell: Cell) -> str:
    return "-" if cell.value is None else f"{cell.value:.{cell.digits}f}"


def _header(table: Table) -> list[tuple[str, str]]:
    return [(registry.title(model), metric.upper()) for model in table.models for metric in METRICS]


def _as_text(table: Table) -> str:
    """Fixed columns: a model's title stands over its pair, in as many lines as it needs."""
    marks = {"best": "*", "second": "+", "": " "}

    def show(cell: Cell) -> str:
        return f"-[{cell.note}]" if cell.value is None else _plain(cell) + marks[cell.mark]

    body = [(label, [show(cell) for cell in cells]) for label, cells in _lines(table)]
    first = max(len(label) for label, _ in [*body, ("First places", [])])
    width = max(8, *(len(text) + 1 for _, cells in body for text in cells))
    titles = [textwrap.wrap(registry.title(model), 2 * width - 2) for model in table.models]
    height = max(map(len, titles))
    padded = [[""] * (height - len(title)) + title for title in titles]
    heads = [" " * first + "".join(f"  {title[i]:^{2 * width - 2}}" for title in padded) for i in range(height)]
    heads.append(" " * first + f"{'MSE ':>{width}}{'MAE ':>{width}}" * len(table.models))
    rule = "-" * len(heads[-1])
    lines = [f"{label:<{first}}" + "".join(f"{text:>{width}}" for text in cells) for label, cells in body]
    rows = len(table.rows)
    notes = [f"[{number}] {note}" for number, note in enumerate(table.notes, 1)]
    grid = [*heads, rule, *lines[:rows], *([rule] if table.summary else []), *lines[rows:]]
    return "\n".join(
        [table.title, "", *(line.rstrip() for line in grid), "", "* best, + second.", *notes, table.caption, ""]
    )


def _as_markdown(table: Table) -> str:
    wrap = {"best": "**{}**", "second": "<u>{}</u>", "": "{}"}

    def show(cell: Cell) -> str:
        return f"– [{cell.note}]" if cell.value is None else wrap[cell.mark].format(_plain(cell))

    headers = ["", *(f"{title} {metric}" for title, metric in _header(table))]
    body = [[label, *map(show, cells)] for label, cells in _lines(table)]
    align = ["left", *["right"] * (len(headers) - 1)]
    grid = tabulate(body, headers, "pipe", disable_numparse=True, colalign=align)
    notes = "".join(f"\n{number}. {note}" for number, note in enumerate(table.notes, 1))
    return f"### {table.title}\n\n{grid}\n\n**Best**, <u>second</u>. {table.caption}\n{notes and notes + chr(10)}"


def _as_latex(table: Table) -> str:
    wrap = {"best": r"\textbf{{{}}}", "second": r"\underline{{{}}}", "": "{}"}

    def show(cell: Cell) -> str:
        return f"--\\textsuperscript{{{cell.note}}}" if cell.value is None else wrap[cell.mark].format(_plain(cell))

    def line(label: str, cells: list[Cell]) -> str:
        return " & ".join([_latex(label), *map(show, cells)]) + r" \\"

    models = [_latex(registry.title(model)) for model in table.models]
    pairs = [f"\\multicolumn{{2}}{{c}}{{{title}}}" for title in models]
    rules = [f"\\cmidrule(lr){{{2 * i + 2}-{2 * i + 3}}}" for i in range(len(models))]
    notes = " ".join(
        f"\\textsuperscript{{{number}}} {_latex(note.rstrip('.'))}." for number, note in enumerate(table.notes, 1)
    )
    caption = f"{_latex(table.title)}. {_latex(table.caption)} Best in bold, second underlined. {notes}".rstrip()
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            r"\begin{table*}[t]",
            r"\centering\scriptsize\setlength{\tabcolsep}{3pt}",
            f"\\caption{{{caption}}}",
            f"\\label{{tab:{table.name}}}",
            f"\\begin{{tabular}}{{l{'rr' * len(models)}}}",
            r"\toprule",
            " & ".join(["", *pairs]) + r" \\",
            " ".join(rules),
            " & ".join(["", *(metric for _, metric in _header(table))]) + r" \\",
            r"\midrule",
            *(line(label, cells) for label, cells in table.rows),
            *([r"\midrule"] if table.summary else []),
            *(line(label, cells) for label, cells in table.summary),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table*}",
            "",
        ]
    )


def _latex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {character: f"\\{character}" for character in "&%$#_{}"}
    return "".join(special.get(character, character) for character in text)


def _as_csv(table: Table) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["row", *(f"{model}_{metric}" for model in table.models for metric in METRICS)])
    for label, cells in _lines(table):
        writer.writerow([label, *("" if cell.value is None else repr(cell.value) for cell in cells)])
    return out.getvalue()


def _as_json(table: Table) -> str:
    columns = [[model, metric] for model in table.models for metric in METRICS]
    return (
        json.dumps(
            {
                "table": table.name,
                "title": table.title,
                "caption": table.caption,
                "columns": columns,
                "rows": {label: [cell.value for cell in cells] for label, cells in table.rows},
                "summary": {label: [cell.value for cell in cells] for label, cells in table.summary},
                "notes": table.notes,
            },
            indent=1,
        )
        + "\n"
    )
