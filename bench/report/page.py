"""Make index.html of a review, which opens every run behind its numbers. Pure; no torch.

The question and its answer, verdicts, tables, figures and methods are plain HTML (assets/page.html). The runs are JSON
in the same file, or in files beside it if they are many (`bench.report.embedded`); page.js filters and sorts tables
and opens the runs behind a number.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from bench.analysis.claims import Verdict
from bench.analysis.results import ERRORS, STATES, Results, look_backs
from bench.analysis.tables import Table
from bench.analysis.verdicts import INTERVALS, Judged, blocks
from bench.core.record import Where
from bench.core.text import printable, visible
from bench.plan import registry
from bench.plan.suite import suite_names
from bench.report.answer import answer
from bench.report.contents import Review
from bench.report.embedded import Cell, cells_of, embedded
from bench.report.figures.inline import inlined
from bench.report.forest import forest_plot
from bench.report.render import ASSETS, SUFFIX, templates
from bench.report.sheet import entry_of
from bench.report.shelf import MARK, Shelved, policy
from models.llm_files import BACKBONES

GLYPHS = {Verdict.HOLDS: "✓", Verdict.PART: "◐", Verdict.OPEN: "?", Verdict.FAILS: "✗", Verdict.UNTESTED: "–"}
COMMITS = 4
"""Most commits named in the head; each run names its own."""
LONG = 18
"""Rows from which a table is folded."""
LISTED, REASONS = 30, 3
"""Most seeds of a cell whose records the list of all runs links, and most failures of which it gives the reason."""


class Page(NamedTuple):
    """index.html, and the files that it loads."""

    html: str
    files: dict[str, str]
    """Path, relative to the page's folder -> text."""


def page(review: Review, results: str, reports: Sequence[Shelved] = ()) -> Page:
    """Return the page. `results`: results directory, relative to the page's folder; `reports`: those beside it."""
    # 1. The runs, and the sets of them that a number opens.
    tables = [table.folded() for table in review.tables]
    cells = cells_of(review)
    lists = {keys: number for number, keys in enumerate(_stood_on(tables, review.claims, cells))}
    data, files = embedded(cells, lists)
    data |= {
        "results": quote(os.fsencode(results.rstrip("/"))),
        "states": STATES,
        "unnamed": review.suite.name not in suite_names(),
    }
    # 2. Figures, the first one beside the answer.
    drawn = inlined(review.pictures)
    lead = next((each for each in review.pictures if each.name == "heatmap"), next(iter(review.pictures), None))
    pictures = sorted(review.pictures, key=lambda picture: picture is not lead)
    # 3. The page.
    script, style = ((ASSETS / name).read_text(encoding="utf-8") for name in ("page.js", "page.css"))
    style += drawn.style
    about = _Names(review.planned)
    html = _template(about).render(
        review=review,
        question=review.suite.question or review.suite.title,
        answer=answer(review.claims, review.tables) if review.planned.done else ["None of its runs is done yet."],
        facts=_facts(review.planned),
        shared=_shared(review.planned),
        blocks={title: (rows, Counter(row.verdict for row in rows)) for title, rows in blocks(review.claims).items()},
        ERRORS=[ERRORS[metric] for metric in review.planned.metrics],
        about=about,
        tables=tables,
        pictures=pictures,
        lead=lead,
        drawings=drawn.drawings,
        reports=reports,
        count=sum(len(cell.runs) for cell in cells),
        index=[(cell, lists[_cell_keys(cell)]) for cell in cells],
        places={run.entry.spec.key: number for number, cell in enumerate(cells) for run in cell.runs},
        lists=lists,
        data=visible(data),
        script=Markup(script),
        style=Markup(style),
        policy=policy(style, script, loads=bool(files)),
        mark=Markup(MARK),
    )
    return Page(html, files)


def _template(about: _Names) -> jinja2.Template:
    """Return the page's template with its filters and constants; `about`: what tables are filtered by."""
    filters: dict[str, Callable[..., Any]] = {
        "entry": entry_of,
        "keys": _keys,
        "number": _number,
        "forest": _forest,
        "about": about.attributes,
        "states": _states,
    }
    environment = templates(filters, autoescape=True, finalize=_finalize)
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "ensure_ascii": False, "allow_nan": False}
    constants = {"LONG": LONG, "SUFFIX": SUFFIX, "LISTED": LISTED, "REASONS": REASONS}
    environment.globals |= constants | {"INTERVALS": INTERVALS, "GLYPHS": GLYPHS}
    return environment.get_template("page.html")


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


def _stood_on(tables: list[Table], claims: list[Judged], index: list[Cell]) -> list[tuple[str, ...]]:
    """Return each set of runs that a cell, a verdict or a line of the index opens."""
    lines = [cells for table in tables for _, cells in table.rows + table.summary]
    cells = [cell.runs for line in lines for cell in line if cell.runs]
    verdicts = [_keys(row) for row in claims if row.runs]
    return list(dict.fromkeys([*cells, *verdicts, *map(_cell_keys, index)]))


def _cell_keys(cell: Cell) -> tuple[str, ...]:
    return tuple(run.entry.spec.key for run in cell.runs)


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
        "Devices": "; ".join(dict.fromkeys(device for each in where for device in each.devices)),
        "Dates": " to ".join(dict.fromkeys([*days[:1], *days[-1:]])),
        "Code": _commits(where),
    }
    return {name: text for name, text in facts.items() if text}


def _commits(where: list[Where]) -> str:
    counts = Counter(each.git[:10] + (" with uncommitted changes" if each.dirty else "") for each in where if each.git)
    named = [f"{commit} ({number} runs)" for commit, number in counts.most_common(COMMITS)]
    more = f" and {len(counts) - COMMITS} more commits" if len(counts) > COMMITS else ""
    return ", ".join(named) + more


def _states(counts: Counter[str]) -> str:
    """Return how many runs are in which state."""
    return ", ".join(f"{counts[state]} {words}" for state, words in STATES.items() if counts[state])
