"""Cut a user's CSV file, in any usual dialect, into a table of cells. No torch."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice, takewhile

import pandas as pd

from bench.data.problems import Problems, Refusal, counted, listed
from bench.data.stamps import STAMP_NAMES, begins_stamp, plain

MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
"""Byte order mark -> encoding."""
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
Record = tuple[int, list[str]]


def read_table(content: bytes, problems: Problems, notes: dict[str, str]) -> tuple[pd.DataFrame, str]:
    """Return the cells as text, indexed by line number in the file, and the delimiter.

    Nameless columns are called "Unnamed: <place>", as pandas does. `notes` gets what was decided; rows that are too
    short or too long are problems, and are filled up with empty cells or cut. Raises Refusal.
    """
    # 1. Cut the text into rows of cells; leave out comments above the header, but take a header out of the last one.
    text, encoding = _decoded(content)
    text, comments = _without_comments(text)
    delimiter = _delimiter(text)
    records = list(_records(text, delimiter))
    if comments and records and _is_data(records[0][1]):
        hidden = list(_records(comments[-1].lstrip("# \t"), delimiter))
        if hidden and any(plain(name) in STAMP_NAMES for name in hidden[0][1]):
            records, comments = [*hidden, *records], comments[:-1]
    notes["file"] = f"{encoding}, delimiter {delimiter!r}"
    if comments:
        notes["comments"] = f"{len(comments)} lines above the header that begin with '#', left out"
    if len(records) < 2:
        raise Refusal(f"has {len(records)} rows. Do: write one row of column names, and one for each time step")
    # 2. Verify the column names.
    width = Counter(len(cells) for _, cells in records[1:]).most_common(1)[0][0]
    above = list(takewhile(lambda record: len(record[1]) != width, records))
    if above and len(records) > len(above) and not _is_data(records[len(above)][1]):
        count = f"{len(above)} line{'s' * (len(above) > 1)}"
        raise Refusal(f"has {count} above the header, which is line {records[len(above)][0]}. Do: remove them")
    (_, header), *rows = records
    names = _names(header, problems)
    rows = _without_units(rows, problems)
    # 3. Verify that all rows are equally long.
    if uneven := [(f"line {line}", f"{len(cells)} cells") for line, cells in rows if len(cells) != len(header)]:
        what = f"between {delimiter!r}, the first row has {len(header)}"
        remedy = f"give each row as many cells; quote cells that hold {delimiter!r}"
        problems.add(counted(uneven, what), remedy)
        problems.lines = {line for line, cells in rows if len(cells) != len(header)}
    lines = [line for line, _ in rows]
    body = [(cells + [""] * len(header))[: len(header)] for _, cells in rows]
    return pd.DataFrame(body, index=lines, columns=names, dtype=object), delimiter


def _names(header: list[str], problems: Problems) -> list[str]:
    """Return the names of the columns, each once; names that are there twice are a problem. Raises Refusal."""
    if _is_data(header):
        raise Refusal("has no names in its first row but data. Do: put a row of column names before it")
    names = [name or f"Unnamed: {place}" for place, name in enumerate(header)]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        problems.add(f"has {names.count(twice[0])} columns called {listed(twice)}", "rename all but one")
    unique: dict[str, None] = {}
    for place, name in enumerate(names, 1):
        other = name
        while other in unique:
            other += f" ({place})"
        unique[other] = None
    return [*unique]


def _without_units(rows: list[Record], problems: Problems) -> list[Record]:
    """Return the rows from the first one that holds a number; those before it are a problem."""
    units = list(takewhile(lambda record: not any(re.match(r"[+-]?[.,]?\d", cell) for cell in record[1]), rows))
    if not 0 < len(units) < len(rows):
        return rows
    shown = [(f"line {line}", repr(", ".join(cells)[:40])) for line, cells in units]
    problems.add(counted(shown, "holds no number (units?), below the names"), "delete such lines")
    return rows[len(units) :]


def _is_data(cells: list[str]) -> bool:
    """Return whether a row holds stamps or nothing but numbers, and hence no names."""
    return any(map(begins_stamp, cells)) or all(map(NUMBER.fullmatch, cells))


def _without_comments(text: str) -> tuple[str, list[str]]:
    """Return the text with empty lines in the place of those at its beginning that begin with '#', and these lines."""
    lines = io.StringIO(text, newline=None).read().split("\n")
    above = list(takewhile(lambda line: not line.strip() or line.lstrip().startswith("#"), lines))
    return "\n".join([""] * len(above) + lines[len(above) :]), [line for line in above if line.strip()]


def _decoded(content: bytes) -> tuple[str, str]:
    """Return the text and its encoding."""
    marked = [encoding for mark, encoding in MARKS.items() if content.startswith(mark)]
    for encoding in marked or ("utf-8", "cp1252", "latin-1"):
        with suppress(UnicodeDecodeError):
            text = content.decode(encoding)
            if "\0" not in text:
                return text, encoding
    raise Refusal("is no text file (packed, a workbook, or damaged). Do: export it as CSV in UTF-8")


def _delimiter(text: str) -> str:
    """Return the delimiter that cuts the first rows into equally many cells; the comma last, as decimals may use it."""
    found = {}
    for delimiter in ";\t|,":
        widths: Counter[int] = Counter()
        with suppress(Refusal):  # what is no delimiter here may make a cell too long to be read
            widths.update(len(cells) for _, cells in islice(_records(text[:1_000_000], delimiter), 20))
        if len(widths) == 1 and widths.keys() != {1}:
            return delimiter
        found[delimiter] = max((count for width, count in widths.items() if width > 1), default=0)
    return max(found, key=found.__getitem__) if any(found.values()) else ","


def _records(text: str, delimiter: str) -> Iterator[Record]:
    """Yield the line number and the stripped cells of each row that is not empty."""
    reader = csv.reader(io.StringIO(text, newline=None), delimiter=delimiter, skipinitialspace=True)
    try:
        for cells in reader:
            if any(stripped := [cell.strip() for cell in cells]):
                yield reader.line_num, stripped
    except csv.Error as error:
        raise Refusal(f"line {reader.line_num}: {error}. Do: look for a double quote that is never closed") from None
