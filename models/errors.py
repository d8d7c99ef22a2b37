"""`BenchError` is the base of every error that the user can mend. No torch."""

from __future__ import annotations

import difflib


class BenchError(Exception):
    """The user can mend this error. Its text is one line, `what: cause. Do: command`; the exit code is 2."""


class UnknownName(BenchError):
    """No table holds this name; the message lists the nearest names that exist."""

    def __init__(self, kind: str, name: str, known: list[str], place: str = "") -> None:
        at = f"{place}: " if place else ""
        own = ", or write a model of your own as module:Class" if kind == "model" else ""
        super().__init__(f"{at}no {kind} {name!r}; {nearest(name, known)}. Do: correct it{own}")


def nearest(name: str, known: list[str]) -> str:
    """Return `nearest: a, b`, the names closest to `name`; without a close one, `known:` and the whole list."""
    by_folded = {known_name.casefold(): known_name for known_name in known}
    close = difflib.get_close_matches(name.casefold(), list(by_folded), n=3, cutoff=0.5)
    if close:
        return "nearest: " + ", ".join(by_folded[folded] for folded in close)
    return "known: " + (", ".join(known) or "none")
