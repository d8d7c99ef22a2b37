"""The reports that lie side by side in one folder, and index.html over all of them. No torch."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from bench.core.system import write_whole
from bench.report.render import ASSETS, templates

MARK = '<meta name="generator" content="bench.report">'
"""Our own pages have it; no other file is read or replaced."""
HEAD = 20_000
"""Characters of a page in which its title and description stand (its style comes after them)."""
FIELD = re.compile(r'<title>(?P<title>.*?)</title>|<meta name="(?P<name>[a-z]+)" content="(?P<text>.*?)">', re.DOTALL)


class Shelved(NamedTuple):
    """A report as a list of reports shows it."""

    suite: str
    title: str
    description: str
    state: str
    """How many of its runs are done."""


def shelved(folder: Path, *named: str) -> list[Shelved]:
    """Return the reports in subfolders of this folder, and these suites' own, whose pages may not be there yet."""
    pages = {path.parent.name: path for path in folder.glob("*/index.html") if MARK in _head(path)}
    return [
        _shelved(suite, pages.get(suite))
        for suite in sorted({*pages, *named}, key=lambda name: (name != "paper", name))
    ]


def _shelved(suite: str, page: Path | None) -> Shelved:
    """Return what the page says of itself."""
    found: dict[str, str] = {}
    for field in FIELD.finditer(_head(page) if page else ""):
        found["title" if field["title"] else field["name"]] = html.unescape(field["title"] or field["text"])
    return Shelved(suite, *(found.get(name, "") for name in ("title", "description", "state")))


def is_report(folder: Path) -> bool:
    """Return whether a report of ours lies in this folder, be it unfinished."""
    return (folder / "index.html").is_file() and MARK in _head(folder / "index.html")


def _head(page: Path) -> str:
    with page.open(encoding="utf-8", errors="replace") as file:
        return file.read(HEAD)


def write_index(folder: Path) -> Path | None:
    """Write index.html over the reports of a folder; nothing if a file that is not ours has that name."""
    index = folder / "index.html"
    if index.exists() and not is_report(folder):
        return None
    style = (ASSETS / "page.css").read_text(encoding="utf-8")
    template = templates({}, autoescape=True).get_template("index.html")
    text = template.render(reports=shelved(folder), style=Markup(style), mark=Markup(MARK), policy=policy(style))
    write_whole(index, text.encode())
    return index


def policy(style: str, script: str = "", loads: bool = False) -> str:
    """Return a Content-Security-Policy that runs only this style and this script, and loads nothing.

    `loads`: the script may load others ('strict-dynamic': nothing else in the page may).
    """
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    loaded = " 'strict-dynamic'" if loads else ""
    scripts = f"'sha256-{digests[1]}'{loaded}" if script else "'none'"
    return (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"script-src {scripts}; style-src 'sha256-{digests[0]}'"
    )
