"""Make index.html of a review: one file that loads nothing and holds every run behind its numbers. Pure; no torch.

Verdicts, tables, figures and methods are plain HTML (assets/page.html). The runs are JSON in the same file; page.js
sorts tables and opens the runs behind a number.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from bench.analysis.claims import Verdict
from bench.analysis.results import run_title
from bench.analysis.verdicts import Judged
from bench.core.record import RunResult, Where
from bench.core.spec import RunSpec
from bench.plan.suite import PlannedRun, Suite, load_suite, suite_names
from bench.report.render import ASSETS
from bench.report.sheet import entry_of
from models.llm_files import BACKBONES

if TYPE_CHECKING:
    from bench.report.contents import Review
    from bench.report.figures.catalogue import Picture

STATES = {"done": "done", "failed": "failed", "missing": "not run", "refused": "refused"}
"""State of a run -> its name on the page."""
GLYPHS = {Verdict.HOLDS: "✓", Verdict.PART: "◐", Verdict.FAILS: "✗", Verdict.UNTESTED: "–"}
COMMITS = 4
"""Most commits named in the head; each run names its own."""


@dataclass(frozen=True)
class PageRun:
    """A run as the page lists it."""

    entry: PlannedRun
    result: RunResult | None
    suite: Suite
    """The suite that plans the run."""
    title: str
    state: str
    """One of STATES."""
    why: str = ""
    """Why the run has no numbers; empty if it is done."""


def page(review: Review, results: str) -> str:
    """Return index.html. `results` is the results directory, relative to the page's folder."""
    runs = _runs(review)
    script, style = ((ASSETS / name).read_text(encoding="utf-8") for name in ("page.js", "page.css"))
    lists = {keys: number for number, keys in enumerate(_stood_on(review, runs))}
    numbers = {key: number for number, key in enumerate(runs)}
    data = {
        "results": _link(results),
        "states": STATES,
        "unnamed": review.suite.name not in suite_names(),
        "lists": [[numbers[key] for key in keys] for keys in lists],
        **_records(runs.values()),
    }
    return _template().render(
        review=review,
        facts=_facts([run for run in runs.values() if run.suite is review.suite]),
        tally=Counter(row.verdict for row in review.claims),
        verdicts=list(Verdict),
        runs=runs,
        numbers=numbers,
        lists=lists,
        data=data,
        script=Markup(script),
        style=Markup(style),
        policy=_policy(script, style),
    )


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "ensure_ascii": False, "allow_nan": False}
    environment.filters |= {"entry": entry_of, "embedded": _embedded, "keys": _keys, "link": _link}
    environment.globals |= {"STATES": STATES, "GLYPHS": GLYPHS}
    return environment.get_template("page.html")


def _policy(script: str, style: str) -> str:
    """Return a Content-Security-Policy that loads nothing and runs only this script and this style."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, style)]
    return (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'"
    )


def _runs(review: Review) -> dict[str, PageRun]:
    """Return key -> run: the planned runs, then runs of other suites that the verdicts use."""
    planned, suite = review.planned, review.suite
    variants: dict[str, dict[str, None]] = {}
    for entry, _ in planned.runs:
        variants.setdefault(entry.spec.key, {})[entry.variant] = None
    found: dict[str, PageRun] = {}
    for entry, result in planned.runs:
        key, state = entry.spec.key, planned.state(entry, result)
        title = f"{run_title(entry.spec.model, ' = '.join(variants[key]))} · {entry.what}"
        found.setdefault(key, PageRun(entry, result, suite, title, state.status, state.why))
    others = {name: load_suite(name) for name in {row.suite for row in review.claims if row.runs}}
    for row in review.claims:
        for entry, result in row.runs:
            title = f"{run_title(entry.spec.model, entry.variant)} · {entry.what} · suite {row.suite}"
            found.setdefault(entry.spec.key, PageRun(entry, result, others[row.suite], title, result.status))
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


def _facts(runs: list[PageRun]) -> dict[str, str]:
    """Return name -> text of each fact about the planned runs in the page's head."""
    states = Counter(run.state for run in runs)
    where = [run.result.where for run in runs if run.result]
    days = sorted({each.date[:10] for each in where})
    specs = [run.entry.spec for run in runs]
    facts = {
        "Runs": f"{states['done']} of {len(runs)} done"
        + "".join(f", {states[state]} {words}" for state, words in STATES.items() if state != "done" and states[state]),
        "Language model": "; ".join(_backbones(specs)),
        "Look-back": _look_backs(specs),
        "Seeds": ", ".join(map(str, sorted({spec.seed for spec in specs}))),
        "Devices": "; ".join(dict.fromkeys(each.device for each in where)),
        "Dates": " to ".join(dict.fromkeys([days[0], days[-1]])) if days else "",
        "Code": _commits(where),
    }
    return {name: text for name, text in facts.items() if text}


def _backbones(specs: list[RunSpec]) -> list[str]:
    names = dict.fromkeys(spec.backbone for spec in specs if spec.backbone)
    return [BACKBONES[name].title + ("" if BACKBONES[name].pretrained else ", NOT pretrained") for name in names]


def _look_backs(specs: list[RunSpec]) -> str:
    datasets: dict[int, dict[str, None]] = {}
    for spec in specs:
        datasets.setdefault(spec.task.context, {})[spec.task.dataset] = None
    if len(datasets) == 1:
        return str(next(iter(datasets)))
    return "; ".join(f"{context} ({', '.join(names)})" for context, names in datasets.items())


def _commits(where: list[Where]) -> str:
    counts = Counter(
        f"{each.git[:10]}{' with uncommitted changes' if each.dirty else ''}" for each in where if each.git
    )
    named = [f"{commit} ({number} runs)" for commit, number in counts.most_common(COMMITS)]
    more = f" and {len(counts) - COMMITS} more commits" if len(counts) > COMMITS else ""
    return ", ".join(named) + more


def _records(runs: Iterable[PageRun]) -> dict[str, Any]:
    """Return the runs for page.js; equal settings and provenance are stored once and numbered."""
    settings: dict[str, int] = {}
    where: dict[str, int] = {}
    listed = []
    for run in runs:
        setting = json.dumps(run.entry.spec.model_dump(mode="json", exclude={"seed"}))
        record = _planned(run) | {"settings": settings.setdefault(setting, len(settings))}
        if run.result:
            source = json.dumps(run.result.where.model_dump(mode="json", exclude={"date"}))
            record |= _measured(run.result) | {"where": where.setdefault(source, len(where))}
        listed.append(record)
    return {"runs": listed, "settings": list(map(json.loads, settings)), "where": list(map(json.loads, where))}


def _planned(run: PageRun) -> dict[str, Any]:
    spec, suite = run.entry.spec, run.suite
    own = [variant for variant in suite.variant if variant.models is None or spec.model in variant.models]
    return {
        "title": run.title,
        "seed": spec.seed,
        "state": run.state,
        "why": run.why,
        "path": str(spec.path),
        "command": _command(run.entry, suite),
        "several": len(own) > 1 or len(suite.fractions) > 1,
    }


def _measured(result: RunResult) -> dict[str, Any]:
    cost = result.cost.model_dump() if result.cost else {}
    return {
        "date": result.where.date,
        "errors": [
            [each.dataset, _short(each.mse, 7), _short(each.mae, 7), each.windows] for each in result.evaluations
        ],
        "best": result.best_epoch,
        "curve": [_short(epoch.val_loss, 5) for epoch in result.curve],
        "cost": {name: _short(value, 5) for name, value in cost.items()},
    }


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
    kind, suffix = ("svg+xml", "svg") if "svg" in picture.files else ("png", "png")
    return f"data:image/{kind};base64,{base64.b64encode(picture.files[suffix]).decode()}"


def _link(path: str) -> str:
    """Quote a relative path for a URL."""
    return quote(path.rstrip("/"))
