"""Make index.html of a review: one file that loads nothing and holds every run behind its numbers. Pure; no torch.

Verdicts, tables, figures and methods are plain HTML (assets/page.html). The runs are JSON in the same file; page.js
sorts tables and opens the runs behind a number.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shlex
from collections import Counter
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from bench.analysis.claims import Verdict
from bench.analysis.results import Results, State, look_backs, run_title
from bench.analysis.verdicts import INTERVALS, Judged, blocks
from bench.core.record import RunResult, Where
from bench.core.text import printable, visible
from bench.plan.suite import PlannedRun, Suite, load_suite, suite_names
from bench.report.contents import Review
from bench.report.figures.catalogue import Picture
from bench.report.grouping import gathered
from bench.report.render import ASSETS, templates
from bench.report.sheet import entry_of
from models.llm_files import BACKBONES

STATES = {"done": "done", "failed": "failed", "missing": "not run", "refused": "refused"}
"""State of a run -> its name on the page."""
GLYPHS = {Verdict.HOLDS: "✓", Verdict.PART: "◐", Verdict.OPEN: "?", Verdict.FAILS: "✗", Verdict.UNTESTED: "–"}
COMMITS = 4
"""Most commits named in the head; each run names its own."""


def page(review: Review, results: str) -> str:
    """Return index.html. `results` is the results directory, relative to the page's folder."""
    # 1. The runs, and the sets of them that a number opens.
    runs = _runs(review)
    lists = {keys: number for number, keys in enumerate(_stood_on(review, runs))}
    numbers = {key: number for number, key in enumerate(runs)}
    data = {
        "results": quote(os.fsencode(results.rstrip("/"))),
        "states": STATES,
        "unnamed": review.suite.name not in suite_names(),
        "lists": [[numbers[key] for key in keys] for keys in lists],
        "runs": list(runs.values()),
        "settings": _numbered(runs, "settings"),
        "where": _numbered(runs, "where"),
    }
    # 2. The page.
    script, style = ((ASSETS / name).read_text(encoding="utf-8") for name in ("page.js", "page.css"))
    environment = templates(
        {"entry": entry_of, "embedded": _embedded, "keys": _keys}, autoescape=True, finalize=_finalize
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "ensure_ascii": False, "allow_nan": False}
    return environment.get_template("page.html").render(
        review=review,
        facts=_facts(review.planned),
        blocks={title: (rows, Counter(row.verdict for row in rows)) for title, rows in blocks(review.claims).items()},
        INTERVALS=INTERVALS,
        STATES=STATES,
        GLYPHS=GLYPHS,
        runs=runs,
        numbers=numbers,
        lists=lists,
        data=visible(data),
        script=Markup(script),
        style=Markup(style),
        policy=_policy(script, style),
    )


def _finalize(value: Any) -> Any:
    """Return what the template prints of a value; our own script and style, and what is escaped, stay."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else printable(value, keep="\n")


def _policy(script: str, style: str) -> str:
    """Return a Content-Security-Policy that loads nothing and runs only this script and this style."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, style)]
    return (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'"
    )


def _runs(review: Review) -> dict[str, dict[str, Any]]:
    """Return key -> run as page.js reads it: the planned runs, then runs of other suites that the verdicts use."""
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


def _stood_on(review: Review, runs: Iterable[str]) -> list[tuple[str, ...]]:
    """Return each set of runs that a cell, a verdict or a line of the index opens."""
    lines = [cells for table in review.tables for _, cells in table.rows + table.summary]
    cells = [cell.runs for line in lines for cell in line if cell.runs]
    verdicts = [_keys(row) for row in review.claims if row.runs]
    return list(dict.fromkeys([*cells, *verdicts, *((key,) for key in runs)]))


def _keys(row: Judged) -> tuple[str, ...]:
    """Return the keys of the runs that a verdict uses."""
    return tuple(entry.spec.key for entry, _ in row.runs)


def _facts(planned: Results) -> dict[str, str]:
    """Return name -> text of each fact about the planned runs in the page's head."""
    runs = {entry.spec.key: (entry, result) for entry, result in planned.runs}.values()
    states: Counter[str] = Counter(planned.state(entry, result).status for entry, result in runs)
    others = [f", {states[state]} {words}" for state, words in STATES.items() if state != "done" and states[state]]
    where = [result.where for _, result in runs if result]
    days = sorted({each.date[:10] for each in where})
    specs = [entry.spec for entry, _ in runs]
    backbones = [BACKBONES[name] for name in dict.fromkeys(spec.backbone for spec in specs if spec.backbone)]
    contexts = look_backs(specs)
    places = [f"{context} ({', '.join(names)})" for context, names in contexts.items()]
    facts = {
        "Runs": f"{states['done']} of {len(runs)} done{''.join(others)}",
        "Language model": "; ".join(each.title + ("" if each.pretrained else ", NOT pretrained") for each in backbones),
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


def _numbered(runs: dict[str, dict[str, Any]], part: str) -> list[dict[str, Any]]:
    """Put a number in the place of this part of each run; return the parts by number, equal ones once."""
    numbers: dict[str, int] = {}
    for run in runs.values():
        if part in run:
            run[part] = numbers.setdefault(json.dumps(run[part]), len(numbers))
    return list(map(json.loads, numbers))


def _run(entry: PlannedRun, result: RunResult | None, suite: Suite, title: str, state: State) -> dict[str, Any]:
    """Return what page.js reads of a run that this suite plans: its plan and, with a record, what was measured."""
    spec = entry.spec
    own = [variant for variant in suite.variant if variant.models is None or spec.model in variant.models]
    run = {
        "title": title,
        "seed": spec.seed,
        "state": state.status,
        "why": state.why,
        "path": str(spec.path),
        "command": _command(entry, suite),
        "several": len(own) > 1 or len(suite.fractions) > 1,
        "settings": spec.model_dump(mode="json", exclude={"seed"}),
    }
    if result:
        cost = result.cost.model_dump() if result.cost else {}
        errors = [[each.dataset, _short(each.mse, 7), _short(each.mae, 7), each.windows] for each in result.evaluations]
        run |= {
            "date": result.where.date,
            "errors": errors,
            "best": result.best_epoch,
            "curve": [_short(epoch.val_loss, 5) for epoch in result.curve],
            "cost": {name: _short(value, 5) for name, value in cost.items()},
            "where": result.where.model_dump(mode="json", exclude={"date"}),
        }
    return run


def _command(entry: PlannedRun, suite: Suite) -> str:
    """Return the command that repeats a run. A suite swaps in random twins itself, so it gets the pretrained name."""
    spec, backbone = entry.spec, []
    if spec.backbone:
        swapped = any(variant.random for variant in suite.variant if variant.title == entry.variant)
        backbone = ["--backbone", BACKBONES[spec.backbone].shape if swapped else spec.backbone]
    task = ["--datasets", spec.task.dataset, "--horizons", str(spec.task.horizon), "--seeds", str(spec.seed)]
    words = ["--suite", suite.name, *backbone, "--models", spec.model, *task, "--rerun", "all", "--results", "again"]
    return f"python -m bench run {shlex.join(words)}"


def _short(value: float | None, digits: int) -> float | None:
    """Round a float to this number of significant digits; leave whole numbers unchanged."""
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def _embedded(picture: Picture) -> str:
    """Return a data: URL that holds the picture."""
    return f"data:image/svg+xml;base64,{base64.b64encode(picture.files['svg']).decode()}"
