"""Read stamps and numbers from a user's CSV file in any usual dialect, repairing nothing. No torch."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice

import numpy as np
import pandas as pd

from bench.core.base import nearest

STAMP_NAMES = {"date", "time", "datetime", "timestamp", "ds", "utctimestamp", "datetimeutc", "timeutc", "dateutc"}
UNITS = {"D": 86400, "h": 3600, "min": 60, "s": 1}
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
"""Byte order mark -> encoding."""
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?", re.ASCII)
YEAR, DAY, REST = r"((?:1[7-9]|2[01])[0-9]{2})", r"([0-9]{1,2})", r"(?=$|[ T])"
LAYOUTS = {
    "ISO": (rf"^{YEAR}[-/.]{DAY}[-/.]{DAY}{REST}", r"\1-\2-\3"),
    "day first": (rf"^{DAY}[-/.]{DAY}[-/.]{YEAR}{REST}", r"\3-\2-\1"),
    "month first": (rf"^{DAY}[-/.]{DAY}[-/.]{YEAR}{REST}", r"\3-\1-\2"),
    "months": (rf"^{YEAR}[-/]{DAY}$", r"\1-\2-01"),
    "epoch seconds": (r"^[1-9][0-9]{8,9}(?:\.0*)?$", "s"),
    "epoch milliseconds": (r"^[1-9][0-9]{11,12}(?:\.0*)?$", "ms"),
}
"""Layout of stamps -> its pattern, and its ISO form or the unit of a count since 1970."""
CLOCKS = "local time does this where clocks change: write stamps in UTC or with offsets"


class Refusal(Exception):
    """The user's file cannot be used; the text follows the file's path and ends in what to do."""


def read_table(content: bytes, notes: dict[str, str]) -> tuple[pd.DataFrame, str]:
    """Return the cells as text, indexed by line number in the file, and the delimiter.

    Nameless columns are called "Unnamed: <place>", as pandas does. `notes` gets what was decided. Raises Refusal.
    """
    # 1. Cut the text into rows of cells.
    text, encoding = _decoded(content)
    delimiter = _delimiter(text)
    notes["file"] = f"{encoding}, delimiter {delimiter!r}"
    records = list(_records(text, delimiter))
    if len(records) < 2:
        raise Refusal(f"has {len(records)} rows. Do: write one row of column names, and one for each time step")
    # 2. Verify the column names.
    (_, header), *rows = records
    if any(_begins_stamp(name, epochs=False) for name in header) or all(map(NUMBER.fullmatch, header)):
        raise Refusal("has no names in its first row but data. Do: put a row of column names before it")
    names = [name or f"Unnamed: {place}" for place, name in enumerate(header)]
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise Refusal(f"has {names.count(twice[0])} columns called {twice[0][:40]!r}. Do: rename all but one")
    # 3. Verify that all rows are equally long.
    for line, cells in rows:
        if len(cells) != len(header):
            counts = f"{len(cells)} cells between {delimiter!r}, the first row has {len(header)}"
            raise Refusal(f"line {line}: {counts}. Do: give each row as many; quote cells that hold {delimiter!r}")
    lines, body = zip(*rows, strict=True)
    return pd.DataFrame(body, index=lines, columns=names, dtype=object), delimiter


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
    for delimiter in ";\t|,":
        widths = {len(cells) for _, cells in islice(_records(text[:1_000_000], delimiter), 20)}
        if len(widths) == 1 and widths != {1}:
            return delimiter
    return max(",;\t|", key=text.lstrip().partition("\n")[0].count)


def _records(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the stripped cells of each row that is not empty."""
    reader = csv.reader(io.StringIO(text, newline=None), delimiter=delimiter, skipinitialspace=True)
    try:
        for cells in reader:
            if any(stripped := [cell.strip() for cell in cells]):
                yield reader.line_num, stripped
    except csv.Error as error:
        raise Refusal(f"line {reader.line_num}: {error}. Do: look for a double quote that is never closed") from None


def stamp_column(table: pd.DataFrame, wanted: str | None) -> str:
    """Return the name of the column of stamps: `wanted`, else the most likely one.

    Likely, in order: a usual name over a stamp, a stamp, a count since 1970, a usual name alone.
    """
    if wanted is not None:
        if wanted not in table:
            names = nearest(wanted, [*map(printable, table)][:20])
            raise Refusal(f"has no column {wanted!r} for --stamp; {names}. Do: name one of its columns")
        return wanted
    first = table.iloc[0]
    usual = [name for name in table if re.sub(r"[\W_]", "", name.casefold()) in STAMP_NAMES]
    written, counted = ([name for name in table if _begins_stamp(first[name], epochs)] for epochs in (False, True))
    found = [*(name for name in usual if name in counted), *written, *counted, *usual]
    if not found:
        raise Refusal("has no column of stamps. Do: write them as 2020-12-31 23:00:00, below a first row of names")
    return found[0]


def _begins_stamp(cell: str, epochs: bool) -> bool:
    """Return whether a cell begins like a stamp; `epochs` accepts counts since 1970."""
    return any(re.match(pattern, cell) for layout, (pattern, _) in LAYOUTS.items() if epochs or "epoch" not in layout)


def moments_of(table: pd.DataFrame, column: str, notes: dict[str, str]) -> pd.Series:
    """Return the stamps of `column` without time zone (in UTC where they have one), from the only layout that fits."""
    cells = table[column]
    readings = {layout: _read(cells, layout) for layout in LAYOUTS}
    fitting = [layout for layout, moments in readings.items() if moments.notna().all()]
    if not fitting:
        best = max(readings.values(), key=pd.Series.count)
        cause = "is no time stamp, or not written like the others"
        remedy = "write stamps as 2020-12-31 23:00:00, or name another column by --stamp"
        raise Refusal(f"{_cell(cells, best.isna())} {cause}. Do: {remedy}")
    if len(fitting) > 1:
        cause = "may be day or month first, as all others"
        raise Refusal(f"{_cell(cells, cells.notna())} {cause}. Do: write stamps as 2020-12-31")
    zoned = cells.str.contains(r"[ T].*(?:Z|UTC|GMT|[+-][0-9:]{2,5})$")
    if zoned.nunique() > 1:
        odd = _cell(cells, zoned != zoned.iloc[0])
        raise Refusal(f"{odd} and the first stamp: one has a time zone, the other none. Do: write all in UTC")
    zone = "converted to UTC by their offsets" if zoned.all() else "no time zone given, kept unchanged"
    notes["stamps"] = f"column {column[:40]!r}, {fitting[0]}; {'in UTC' if 'epoch' in fitting[0] else zone}"
    return readings[fitting[0]].rename(column)


def _read(cells: pd.Series, layout: str) -> pd.Series:
    """Return each cell as a time without zone (UTC if it has an offset), NaT where it does not fit the layout."""
    pattern, form = LAYOUTS[layout]
    fitting = cells[cells.str.match(pattern)]
    if "epoch" in layout:
        moments = pd.to_datetime(pd.to_numeric(fitting), unit=form, utc=True)
    else:
        iso = fitting.str.replace(pattern, form, regex=True).str.replace(r" ?(?:UTC|GMT)$", "Z", regex=True)
        moments = pd.to_datetime(iso, format="ISO8601", utc=True, errors="coerce")
    return moments.dt.tz_localize(None).reindex(cells.index)


def step_of(moments: pd.Series, wanted: str | None) -> str:
    """Return the time between rows in the notation of cards (15min, 1h, 7D); it must be equal between all rows."""
    if wanted is not None and not re.fullmatch(r"[1-9][0-9]{0,4}(s|min|h|D)", wanted):
        raise Refusal(f"cannot have --step {wanted!r}. Do: write it as 15min, 1h, 1D or 7D")
    steps = moments.diff().iloc[1:]
    if steps.empty:
        raise Refusal("has a single row. Do: add some hundreds")
    # 1. Refuse rows by calendar months.
    common = pd.Timedelta(wanted) if wanted else steps.mode()[0]
    months = (moments.dt.year * 12 + moments.dt.month).diff().iloc[1:]
    if steps.nunique() > 1 and steps.min() >= pd.Timedelta("28D") and months.nunique() == 1:
        raise Refusal("has rows by calendar months, which differ in length. Do: make them weekly or daily")
    # 2. Refuse the first step that differs.
    wrong = steps[steps != common]
    if len(wrong):
        first, line = wrong.iloc[0], wrong.index[0]
        cause = f"is {first} after the row before, not {common} ({len(wrong)} such places)"
        remedy = "fill in the rows that are missing, or cut the file there"
        if first < pd.Timedelta(0):
            cause, remedy = "is out of order", "sort the rows by their stamps"
        elif first == pd.Timedelta(0):
            cause, remedy = "is there twice", "keep one, or join the time of day to it from another column"
        stamp = f"line {line}, column {str(moments.name)[:40]!r}: {moments[line]}"
        raise Refusal(f"{stamp} {cause}. Do: {remedy} ({CLOCKS})")
    # 3. Write the step in the largest unit that divides it.
    seconds = common.total_seconds()
    for unit, size in UNITS.items():
        if seconds % size == 0:
            return f"{int(seconds) // size}{unit}"
    raise Refusal(f"has steps of {seconds:g} seconds, cards know whole ones. Do: average its rows")


def channels_of(table: pd.DataFrame, notes: dict[str, str]) -> pd.DataFrame:
    """Return the table less nameless columns that are empty or count the rows; all others must have usable names."""
    for place, name in enumerate(table):
        if re.fullmatch(r"Unnamed: [0-9]+", name):
            counts = (pd.to_numeric(table[name], errors="coerce").diff().iloc[1:] == 1).all()
            if table[name].any() and not counts:
                raise Refusal(f"has no name for its channel {place + 1}. Do: write one in the first row")
            notes["left out"] = "nameless columns that are empty or count the rows"
            table = table.drop(columns=name)
    if "unique_id" in table:
        raise Refusal("has a column 'unique_id' (Nixtla's long layout). Do: give each series a column, or rename it")
    if "date" in table:
        raise Refusal("has a column 'date' besides its stamps. Do: rename it, or make it the stamps by --stamp date")
    if table.empty:
        raise Refusal("has no column but its stamps. Do: add one of numbers")
    return table


def values_of(table: pd.DataFrame, may_have_commas: bool, notes: dict[str, str]) -> np.ndarray:
    """Return the channels as float64 `[rows, channels]`, all finite; `may_have_commas` allows decimal commas."""
    # 1. Read each cell as a number.
    swap: dict[int, int] = {}
    if may_have_commas and any(DECIMAL_COMMA.fullmatch(cell) for name in table for cell in table[name]):
        notes["decimals"] = "commas"
        swap = str.maketrans(",.", ".,")  # a point is then no part of a number
    points = table.map(lambda cell: cell.translate(swap)) if swap else table
    values = points.map(lambda cell: float(cell) if NUMBER.fullmatch(cell) else np.nan).to_numpy(dtype=np.float64)
    for name, bad in zip(table, ~np.isfinite(values.T), strict=True):
        if bad.any():
            cause = "is missing or no finite number" if table[name].any() else "is empty throughout"
            remedy = "correct it (no gaps, units or marks between thousands), or delete the column"
            raise Refusal(f"{_cell(table[name], bad)} {cause}. Do: {remedy}")
    # 2. Refuse numbers whose variance overflows, and constant tables.
    with np.errstate(over="ignore", invalid="ignore"):
        too_large = table.columns[~np.isfinite(values.std(axis=0))]
    if len(too_large):
        raise Refusal(f"has too large numbers in {listed(too_large)}. Do: take another unit")
    still = table.columns[np.ptp(values, axis=0) == 0]
    if len(still) == table.shape[1]:
        raise Refusal("has no channel that ever changes. Do: add one")
    if len(still):
        notes["warning"] = f"constant throughout: {listed(still)}"
    notes["size"] = f"{len(values)} rows x {table.shape[1]} channels"
    return values


def _cell(cells: pd.Series, wrong: pd.Series | np.ndarray) -> str:
    """Name line, column and text of the first cell that is wrong."""
    row = int(np.asarray(wrong).argmax())
    return f"line {cells.index[row]}, column {str(cells.name)[:40]!r}: {cells.iloc[row][:40]!r}"


def listed(names: Iterable[str]) -> str:
    """Return up to five quoted names, and the number of the others."""
    names = list(names)
    return ", ".join(repr(name[:40]) for name in names[:5]) + (f" and {len(names) - 5} more" if names[5:] else "")


def printable(text: str) -> str:
    """Return `text` in one line, with escapes for characters that cannot be printed."""
    return repr(text)[1:-1]
