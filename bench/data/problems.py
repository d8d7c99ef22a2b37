"""Gather what is wrong with a user's file, and say it in one line with one command. No torch."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from bench.core.base import nearest
from bench.core.text import first_few, printable


class Refusal(Exception):
    """The user's file cannot be used; the text follows the file's path and ends in what to do."""


@dataclass(frozen=True)
class Given:
    """The user's choices, one for each option of the command; None is inferred from the file."""

    name: str | None = None
    stamp: str | Sequence[str] | None = None
    step: str | None = None
    season: int | None = None
    split: Sequence[float] | None = None
    horizons: Sequence[int] | None = None
    about: str | None = None
    long: bool = False
    drop: Sequence[str] = ()
    channels: Sequence[str] | None = None
    fill: str | None = None

    @property
    def stamps(self) -> list[str]:
        """The columns of --stamp."""
        return [self.stamp] if isinstance(self.stamp, str) else list(self.stamp or ())

    def command(self, file: Path, options: dict[str, Any]) -> str:
        """Return the command with these options in the place of the user's, or, if they are lists, added to them."""
        # 1. A column that is to be dropped is no longer among those to be kept.
        if self.channels and "drop" in options:
            kept = [name for name in self.channels if name not in options["drop"]]
            options = {key: value for key, value in options.items() if key != "drop"} | {"channels": kept}
        elif "drop" in options:
            options = options | {"drop": list(dict.fromkeys([*self.drop, *options["drop"]]))}
        wanted = replace(self, **{"stamp": self.stamps or None, **options})
        # 2. Write all options.
        place = f"./{file}" if str(file).startswith("-") else str(file)
        words = ["python", "-m", "bench", "add-dataset", place]
        for field in fields(wanted):
            value = getattr(wanted, field.name)
            several = isinstance(value, Sequence) and not isinstance(value, str)
            parts = value if several else [value]
            given = [f"{each:.15g}" if isinstance(each, float) else str(each) for each in parts]
            if value and any(each.startswith("-") for each in given):
                words += [f"--{field.name}={each}" for each in given]  # else it would be read as an option
            elif value:
                words += [f"--{field.name}", *(given if value is not True else [])]
        return printable(shlex.join(words))


class Problems:
    """What is wrong with a file, the options that solve it, and what the user must mend by hand."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.leading = 0
        """The number of problems that concern the order of rows."""
        self.by_hand: list[str] = []
        self.otherwise: list[str] = []
        """What the user may do instead of an option."""
        self.options: dict[str, Any] = {}
        """Name of an option of add-dataset -> the value it should have; lists add to the user's own."""
        self.hint = ""
        self.lines: set[int] = set()
        """Lines of the file that are cut wrongly, so that nothing more is to be said of their cells."""

    def add(self, text: str, by_hand: str = "", first: bool = False, **options: Any) -> None:
        """Add one kind of problem, and what solves it: options, or else the user's own hand.

        `first` is for what concerns the order of rows: it stands before all other problems.
        """
        self.found.insert(self.leading if first else len(self.found), text)
        self.leading += first
        remedies = self.otherwise if options else self.by_hand
        if by_hand and by_hand not in remedies:
            remedies.append(by_hand)
        for name, value in options.items():
            self.options[name] = [*self.options.get(name, []), *value] if isinstance(value, list) else value

    def text(self, command: str) -> str:
        """Return all problems and the remedy in one line; `command` has the options already."""
        numbered = len(self.found) > 1
        found = "; ".join(f"({n}) {text}" if numbered else text for n, text in enumerate(self.found, 1))
        others = f" (or {', or '.join(self.otherwise)})" * bool(self.otherwise)
        remedies = [command + others] if self.options else []
        if self.by_hand:
            remedies.append(("by hand: " if remedies else "") + "; ".join(self.by_hand))
        count = f"{len(self.found)} problems: " if numbered else ""
        return f"{count}{found}. Do: {'; '.join(remedies)}" + f" ({self.hint})" * bool(self.hint)


def counted(examples: Sequence[tuple[str, str]], what: str, count: int | None = None, more: str = "") -> str:
    """Return `<first place>: <what stands there> <what>`, with the count and the next two places if there are several.

    `examples` are places with what stands there; `count` is the number of all places (None: of the examples); `more`
    replaces the words for the count.
    """
    count = len(examples) if count is None else int(count)
    following = " and ".join(place for place, _ in examples[1:3])
    facts = [more or f"{count} such places" * (count > 1), f"next: {following}" * bool(following)]
    inside = "; ".join(filter(None, facts))
    return f"{': '.join(filter(None, examples[0]))} {what}" + (f" ({inside})" if inside else "")


def listed(names: Iterable[str]) -> str:
    """Return up to five quoted names, and the number of the others."""
    return first_few((repr(name[:40]) for name in names), most=5)


def named(wanted: Iterable[str], known: Iterable[str], option: str) -> list[str]:
    """Return the names that are wanted by an option, each as in the file or as a message prints it. Raises Refusal."""
    known = list(known)
    spelled = {**{printable(name): name for name in known}, **{name: name for name in known}}
    for name in wanted:
        if name not in spelled:
            near = nearest(name, [*map(printable, known)][:20])
            raise Refusal(f"has no column {name[:40]!r} for {option}; {near}. Do: name one of its columns")
    return [spelled[name] for name in wanted]
