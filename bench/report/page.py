"""Make index.html of a review: one file that loads nothing and holds every run behind its numbers. Pure; no torch.

The question and its answer, verdicts, tables, figures and methods are plain HTML (assets/page.html). The runs are JSON
in the same file; page.js filters and sorts tables and opens the runs behind a number.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from bench.analysis.claims import Verdict
from bench.analysis.results import METRICS, Results, State, look_backs, run_title
from bench.analysis.tables import ERRORS, Table
from bench.analysis.verdicts import INTERVALS, Judged, blocks
from bench.core.record import Cost, RunResult, Where
from bench.core.text import printable, visible
from bench.plan import registry
from bench.plan.suite import PlannedRun, Suite, load_suite, suite_names
from bench.report.answer import answer
from bench.report.contents import Review
from bench.report.figures.inline import inlined
from bench.report.forest import forest_plot
from bench.report.grouping import gathered
from bench.report.render import ASSETS, SUFFIX, templates
from bench.report.sheet import entry_of
from bench.report.shelf import MARK, Shelved, policy
from models.llm_files import BACKBONES

STATES = {"done": "done", "failed": "failed", "missing": "not run", "refused": "refused"}
"""State of a run -> its name on the page."""
GLYPHS = {Verdict.HOLDS: "✓", Verdict.PART: "◐", Verdict.OPEN: "?", Verdict.FAILS: "✗", Verdict.UNTESTED: "–"}
COMMITS = 4
"""Most commits named in the head; each run names its own."""
LONG = 18
"""Rows from which a table is folded."""
CURVE = 30
"""Epochs of a run's curve that its small drawing needs at most, besides the best and the last."""
PARTS = ("task", "options", "train")
"""Parts of a run's settings that many runs share; the rest is one part more."""


def page(review: Review, results: str, reports: Sequence[Shelved] = ()) -> str:
    """Return index.html. `results`: results directory, relative to the page's folder; `reports`: those beside it."""
    # 1. The runs, and the sets of them that a number opens.
    tables = [table.folded() for table in review.tables]
    runs = _runs(review)
    lists = {keys: number for number, keys in enumerate(_stood_on(tables, review.claims, runs))}
    numbers = {key: number for number, key in enumerate(runs)}
    cells = gathered((run["cell"], key) for key, run in runs.items())
    data = _packed(runs, list(cells)) | {
        "results": quote(os.fsencode(results.rstrip("/"))),
        "states": STATES,
        "unnamed": review.suite.name not in suite_names(),
        "lists": [[numbers[key] for key in keys] for keys in lists],
    }
    # 2. Figures, the first one beside the answer.
    drawn = inlined(review.pictures)
    lead = next((each for each in review.pictures if each.name == "heatmap"), next(iter(review.pictures), None))
    pictures = sorted(review.pictures, key=lambda picture: picture is not lead)
    # 3. The page.
    script, style = ((ASSETS / name).read_text(encoding="utf-8") for name in ("page.js", "page.css"))
    style += drawn.style
    about = _Names(review.planned)
    filters: dict[str, Any] = {
        "entry": entry_of,
        "keys": _keys,
        "number": _number,
        "forest": _forest,
        "about": about.attributes,
        "states": _states,
    }
    environment = templates(filters, autoescape=True, finalize=_finalize)
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "ensure_ascii": False, "allow_nan": False}
    return environment.get_template("page.html").render(
        review=review,
        question=review.suite.question or review.suite.title,
        answer=answer(review.claims, review.tables),
        facts=_facts(review.planned),
        shared=_shared(review.planned),
        blocks={title: (rows, Counter(row.verdict for row in rows)) for title, rows in blocks(review.claims).items()},
        INTERVALS=INTERVALS,
        STATES=STATES,
        GLYPHS=GLYPHS,
        ERRORS=dict(zip(METRICS, ERRORS, strict=True)),
        LONG=LONG,
        SUFFIX=SUFFIX,
        about=about,
        tables=tables,
        pictures=pictures,
        lead=lead,
        drawings=drawn.drawings,
        reports=reports,
        runs=runs,
        cells={cell: [runs[key] for key in keys] for cell, keys in cells.items()},
        opened={cell: lists[tuple(keys)] for cell, keys in cells.items()},
        places={key: list(cells).index(run["cell"]) for key, run in runs.items()},
        lists=lists,
        data=visible(data),
        script=Markup(script),
        style=Markup(style),
        policy=policy(style, script),
        mark=Markup(MARK),
    )


def _finalize(value: Any) -> Any:
    """Return what the template prints of a value; our own script and style, and what is escaped, stay."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else printable(value, keep="\n")


class _Names:
    """The models and data sets by which tables are filtered: which of them a label or a column's title names."""

    def __init__(self, planned: Results) -> None:
        specs = [entry.spec for entry, _ in planned.runs]
        self.models = list(dict.fromkeys(registry.title(spec.model) for spec in specs))
        self.datasets = list(dict.fromkeys(name for spec in specs for name in spec.task.datasets))

    def attributes(self, text: str) -> Markup:
        """Return the attributes of a row or a column: the numbers of the models and data sets in its title."""
        found = [("m", self._named(text, self.models)), ("d", self._named(text, self.datasets))]
        return Markup("").join(Markup(' data-{}="{}"').format(key, numbers) for key, numbers in found if numbers)

    @staticmethod
    def _named(text: str, names: list[str]) -> str:
        numbers = []
        for number, name in sorted(enumerate(names), key=lambda each: -len(each[1])):  # PatchTST is in My-PatchTST
            text, count = re.subn(rf"(?<![\w-]){re.escape(name)}(?![\w-])", "", text)
            numbers += [number] if count else []
        return " ".join(map(str, sorted(numbers)))


def _runs(review: Review) -> dict[str, dict[str, Any]]:
    """Return key -> run: the planned runs, then runs of other suites that the verdicts use."""
    planned, suite = review.planned, review.suite
    variants = gathered((entry.spec.key, entry.variant) for entry, _ in planned.runs)
    others = {name: load_suite(name) for name in {row.suite for row in review.claims if row.runs}}
    listed = [
        (entry, result, suite, planned.state(entry, result), " = ".join(variants[entry.spec.key]), "")
        for entry, result in planned.runs
    ]
    listed += [
        (entry, result, others[row.suite], State(result.status), entry.variant, f" · suite {row.suite}")
        for row in review.claims
        for entry, result in row.runs
    ]
    found: dict[str, dict[str, Any]] = {}
    for entry, result, planner, state, variant, place in listed:
        if entry.spec.key not in found:
            title = f"{run_title(entry.spec.model, variant)} · {entry.what}{place}"
            found[entry.spec.key] = _run(entry, result, planner, title, state)
    return found


def _stood_on(tables: list[Table], claims: list[Judged], runs: dict[str, dict[str, Any]]) -> list[tuple[str, ...]]:
    """Return each set of runs that a cell, a verdict or a line of the index opens."""
    lines = [cells for table in tables for _, cells in table.rows + table.summary]
    cells = [cell.runs for line in lines for cell in line if cell.runs]
    verdicts = [_keys(row) for row in claims if row.runs]
    index = gathered((run["cell"], key) for key, run in runs.items()).values()
    return list(dict.fromkeys([*cells, *verdicts, *map(tuple, index)]))


def _keys(row: Judged) -> tuple[str, ...]:
    """Return the keys of the runs that a verdict uses."""
    return tuple(entry.spec.key for entry, _ in row.runs)


def _number(row: Judged) -> str:
    """Return a verdict's number for its line, without the words beside it."""
    estimates = row.forest.estimates if row.forest else {}
    return row.forest.form.format(estimates[""].value) if row.forest and "" in estimates else row.ours.partition(":")[0]


def _forest(row: Judged) -> Markup:
    """Return the forest plot of a verdict; nothing if it has no numbers."""
    words = f"ours {row.ours}; interval {row.interval or 'none'}; paper {row.paper or 'no number'}"
    return forest_plot(row.forest, words) if row.forest else Markup("")


def _shared(planned: Results) -> str:
    """Return what all numbers of a page share: the language model, look-backs and seeds."""
    return planned.lead(f"With {_backbones(planned)}" if _backbones(planned) else "Without a language model")


def _backbones(planned: Results) -> str:
    """Return the titles of the language models that are read."""
    names = dict.fromkeys(entry.spec.backbone for entry, _ in planned.runs if entry.spec.backbone)
    return "; ".join(
        BACKBONES[name].title + ("" if BACKBONES[name].pretrained else ", NOT pretrained") for name in names
    )


def _facts(planned: Results) -> dict[str, str]:
    """Return name -> text of each fact about the planned runs."""
    runs = {entry.spec.key: (entry, result) for entry, result in planned.runs}.values()
    states: Counter[str] = Counter(planned.state(entry, result).status for entry, result in runs)
    others = [f", {states[state]} {words}" for state, words in STATES.items() if state != "done" and states[state]]
    where = [result.where for _, result in runs if result]
    days = sorted({each.date[:10] for each in where})
    specs = [entry.spec for entry, _ in runs]
    contexts = look_backs(specs)
    places = [f"{context} ({', '.join(names)})" for context, names in contexts.items()]
    facts = {
        "Runs": f"{states['done']} of {len(runs)} done{''.join(others)}",
        "Language model": _backbones(planned),
        "Look-back": "; ".join(places) if len(contexts) > 1 else str(*contexts),
        "Seeds": ", ".join(map(str, sorted({spec.seed for spec in specs}))),
        "Devices": "; ".join(dict.fromkeys(each.device for each in where)),
        "Dates": " to ".join(dict.fromkeys([*days[:1], *days[-1:]])),
        "Code": _commits(where),
    }
    return {name: text for name, text in facts.items() if text}


def _commits(where: list[Where]) -> str:
    counts = Counter(each.git[:10] + (" with uncommitted changes" if each.dirty else "") for each in where if each.git)
    named = [f"{commit} ({number} runs)" for commit, number in counts.most_common(COMMITS)]
    more = f" and {len(counts) - COMMITS} more commits" if len(counts) > COMMITS else ""
    return ", ".join(named) + more


def _run(entry: PlannedRun, result: RunResult | None, suite: Suite, title: str, state: State) -> dict[str, Any]:
    """Return a run that this suite plans: its cell, which its other seeds share, and what was measured."""
    spec = entry.spec
    own = [variant for variant in suite.variant if variant.models is None or spec.model in variant.models]
    settings = spec.model_dump(mode="json", exclude={"seed"})
    parts = [{name: settings.pop(name)} for name in PARTS] + [settings]
    several = len(own) > 1 or len(suite.fractions) > 1
    cell = (title, str(spec.path.parent), _command(entry, suite), several, *map(json.dumps, parts))
    run = {"cell": cell, "seed": spec.seed, "state": state.status, "why": state.why, "file": spec.path.name}
    if result:
        cost = result.cost.model_dump() if result.cost else {}
        run |= {
            "date": result.where.date,
            "errors": [
                [each.dataset, _short(each.mse, 7), _short(each.mae, 7), each.windows] for each in result.evaluations
            ],
            "best": result.best_epoch,
            "curve": _curve(result),
            "cost": [_short(value, 4) for value in cost.values()],
            "where": json.dumps(result.where.model_dump(mode="json", exclude={"date"})),
        }
    return run


def _curve(result: RunResult) -> list[list[Any]]:
    """Return epochs and their validation losses: evenly at most CURVE of them, and the best."""
    epochs = {epoch.epoch: epoch.val_loss for epoch in result.curve}
    kept = list(epochs)[:: -(-len(epochs) // CURVE) or 1]
    kept = sorted({*kept, *list(epochs)[-1:], *([result.best_epoch] if result.best_epoch in epochs else [])})
    return [kept, [_short(epochs[epoch], 4) for epoch in kept]]


def _packed(runs: dict[str, dict[str, Any]], cells: list[tuple[Any, ...]]) -> dict[str, Any]:
    """Return the runs as page.js unpacks them: values without names, and what several runs share once."""
    shared: dict[str, dict[str, int]] = {"settings": {}, "where": {}}

    def numbered(name: str, text: str) -> int:
        return shared[name].setdefault(text, len(shared[name]))

    places = {cell: number for number, cell in enumerate(cells)}
    numbers = [
        run | {"cell": places[run["cell"]]} | {name: numbered(name, run[name]) for name in ("where",) if name in run}
        for run in runs.values()
    ]
    return {
        "cells": [[*cell[:4], [numbered("settings", part) for part in cell[4:]]] for cell in cells],
        "runs": [list(run.values()) for run in numbers],
        "cost": list(Cost.model_fields),
        **{name: list(map(json.loads, values)) for name, values in shared.items()},
    }


def _command(entry: PlannedRun, suite: Suite) -> str:
    """Return the command that repeats a cell, up to its seed.

    A suite swaps in random twins itself, so it gets the pretrained name.
    """
    spec, backbone = entry.spec, []
    if spec.backbone:
        swapped = any(variant.random for variant in suite.variant if variant.title == entry.variant)
        backbone = ["--backbone", BACKBONES[spec.backbone].shape if swapped else spec.backbone]
    task = ["--datasets", spec.task.dataset, "--horizons", str(spec.task.horizon)]
    words = ["--suite", suite.name, *backbone, "--models", spec.model, *task, "--seeds"]
    return f"python -m bench run {shlex.join(words)}"


def _short(value: float | None, digits: int) -> float | None:
    """Round a float to this number of significant digits; leave whole numbers unchanged."""
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def _states(runs: Iterable[dict[str, Any]]) -> str:
    """Return how many of these runs are in which state."""
    counts = Counter(run["state"] for run in runs)
    return ", ".join(f"{counts[state]} {words}" for state, words in STATES.items() if counts[state])
