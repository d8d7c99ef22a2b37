"""Text from outside (records, cards, suites, paths) is shown without a character that could act. No torch."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

NAMED = 3
"""Most items that a sentence names, unless it says otherwise."""


def first_few(items: Iterable[str], separator: str = ", ", most: int = NAMED, count: int | None = None) -> str:
    """Return the first items, and how many more there are of `count` (default: of all that are given)."""
    named = list(items)
    more = (len(named) if count is None else count) - most
    return separator.join(named[:most]) + f" and {more} more" * (more > 0)


def printable(text: str, keep: str = "") -> str:
    """Return `text` with `\\u001b` and the like for each character that is not seen, but blanks and those in `keep`.

    A path that the locale could not decode is shown as its bytes read in UTF-8.
    """
    if text.isprintable():
        return text
    with suppress(UnicodeError):
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    return "".join(each if each in keep or _seen(each) else _escape(each) for each in text)


def _seen(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def visible(value: Any) -> Any:
    """Return a structure of lists, tuples and dicts with every text in it printable; line breaks stay."""
    if isinstance(value, str):
        return printable(value, keep="\n")
    if isinstance(value, dict):
        return {visible(key): visible(each) for key, each in value.items()}
    return list(map(visible, value)) if isinstance(value, list | tuple) else value


def harmless(cell: Any) -> Any:
    """Return a cell of a CSV file: text printable, and with a quote before it if a spreadsheet would run it as a
    formula; numbers with a unit stay."""
    if not isinstance(cell, str):
        return cell
    text = printable(cell, keep="\n")
    return text if re.fullmatch(r"[+-]\d[\d.,]*( ?%)?|[^=+@-].*|", text, re.DOTALL) else f"'{text}"


class Output:
    """A standard stream on which no character of foreign text acts, and which outlives its reader (head, less).

    A stream of None, which the shell has closed, takes all. `raw` lets control characters through, for a library that
    draws with them.
    """

    def __init__(self, stream: TextIO | None, raw: bool = False) -> None:
        self.stream, self.raw = stream or Path(os.devnull).open("w", encoding="utf-8"), raw  # noqa: SIM115

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        seen = text if self.raw else printable(text, keep="\n\t")
        encoding = self.stream.encoding or "utf-8"
        with self._unread():
            self.stream.write(seen.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        with self._unread():
            self.stream.flush()

    @contextmanager
    def _unread(self) -> Iterator[None]:
        """Drop what follows once the reader has closed the pipe."""
        try:
            yield
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
