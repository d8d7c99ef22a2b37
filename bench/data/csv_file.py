"""A CSV file of whatever making -> stamps and numbers, or what is wrong with it. Nothing is repaired. No torch."""

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
ENCODINGS = {
    codecs.BOM_UTF8: ("utf-8-sig",),
    codecs.BOM_UTF16_LE: ("utf-16",),
    codecs.BOM_UTF16_BE: ("utf-16",),
    b"": ("utf-8", "cp1252", "latin-1"),
}
"""By byte order mark, in the order in which they are tried."""
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
"""How stamps may be written, and how that becomes ISO, or the unit of a count since 1970."""
CLOCKS = "local time does this where clocks change: write the stamps in UTC or with offsets"


class Refusal(Exception):
    """What is wrong with the user's file and what to do, in the words that follow its path."""


def read_table(content: bytes, said: dict[str, str]) -> tuple[pd.DataFrame, str]:
    """Cells as text, the index their lines in the file, nameless columns called as pandas does; and the delimiter."""
    text, encoding = _text(content)
    delimiter = _delimiter(text)
    said["file"] = f"{encoding}, delimiter {delimiter!r}"
    records = list(_records(text, delimiter))
    if len(records) < 2:
        raise Refusal(f"has {len(records)} rows; it needs one of column names, and one for each time step")
    (_, header), *rows = records
    if any(_begins(name, epochs=False) for name in header) or all(map(NUMBER.fullmatch, header)):
        raise Refusal("has no names in its first row but data; put a row of column names before it")
    for line, cells in rows:
        if len(cells) != len(header):
            counts = f"{len(cells)} cells between {delimiter!r}, the first row has {len(header)}"
            raise Refusal(f"line {line}: {counts}; give each row as many, and quote cells that hold {delimiter!r}")
    names = [name or f"Unnamed: {place}" for place, name in enumerate(header)]
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise Refusal(f"has {names.count(twice[0])} columns called {twice[0][:40]!r}; rename all but one")
    lines = [line for line, _ in rows]
    return pd.DataFrame([cells for _, cells in rows], index=lines, columns=names, dtype=object), delimiter


def _text(content: bytes) -> tuple[str, str]:
    """The text and its encoding."""
    for encoding in next(likely for mark, likely in ENCODINGS.items() if content.startswith(mark)):
        with suppress(UnicodeDecodeError):
            text = content.decode(encoding)
            if "\0" not in text:
                return text, encoding
    raise Refusal("is no text file (packed, a workbook, or damaged); export it as CSV in UTF-8")


def _delimiter(text: str) -> str:
    """What cuts the first rows into equally many cells, more than one; the comma last, as it may be a decimal one."""
    for delimiter in ";\t|,":
        widths = {len(cells) for _, cells in islice(_records(text[:1_000_000], delimiter), 20)}
        if len(widths) == 1 and widths != {1}:
            return delimiter
    return max(",;\t|", key=text.lstrip().partition("\n")[0].count)


def _records(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Line and stripped cells of each row that is not empty."""
    reader = csv.reader(io.StringIO(text, newline=None), delimiter=delimiter, skipinitialspace=True)
    try:
        for cells in reader:
            if any(stripped := [cell.strip() for cell in cells]):
                yield reader.line_num, stripped
    except csv.Error as error:
        raise Refusal(f"line {reader.line_num}: {error}; look for a double quote that is never closed") from None


def stamp_column(table: pd.DataFrame, wanted: str | None) -> str:
    """As given; else the first called like stamps that begins like one, then any that does, then any called so."""
    if wanted is not None:
        if wanted not in table:
            known = [shown(name) for name in table][:20]
            raise Refusal(f"has no column {wanted!r} for --stamp; {nearest(wanted, known)}")
        return wanted
    usual = [name for name in table if re.sub(r"[\W_]", "", name.casefold()) in STAMP_NAMES]
    found = [name for name in usual if _begins(table[name].iloc[0])]
    for epochs in (False, True):
        found += [name for name in table if _begins(table[name].iloc[0], epochs)]
    found += usual
    if not found:
        raise Refusal("has no column of stamps; write them as 2020-12-31 23:00:00, below a first row of names")
    return found[0]


def _begins(cell: str, epochs: bool = True) -> bool:
    """Whether a cell looks like a stamp; a count since 1970 only where such are meant too."""
    return any(re.match(pattern, cell) for layout, (pattern, _) in LAYOUTS.items() if epochs or "epoch" not in layout)


def moments_of(table: pd.DataFrame, column: str, said: dict[str, str]) -> pd.Series:
    """The stamps, in UTC where they say so, from the one layout that reads them all; its name is the column's."""
    cells = table[column]
    readings = {layout: _read(cells, layout) for layout in LAYOUTS}
    whole = [layout for layout, moments in readings.items() if moments.notna().all()]
    if not whole:
        best = max(readings.values(), key=pd.Series.count)
        rest = "is no time stamp, or not written like the others; write them as 2020-12-31 23:00:00"
        raise Refusal(f"{_at(cells, best.isna())} {rest}, or name another column by --stamp")
    if len(whole) > 1:
        raise Refusal(f"{_at(cells)} may be day or month first, as all others; write stamps as 2020-12-31")
    zoned = cells.str.contains(r"[ T].*(?:Z|UTC|GMT|[+-][0-9:]{2,5})$")
    if zoned.nunique() > 1:
        odd = _at(cells, zoned != zoned.iloc[0])
        raise Refusal(f"{odd} and the first stamp: one has a time zone, the other none; write all in UTC")
    zone = "converted to UTC by their offsets" if zoned.all() else "no time zone given, kept as they are"
    said["stamps"] = f"column {column[:40]!r}, {whole[0]}; {'in UTC' if 'epoch' in whole[0] else zone}"
    return readings[whole[0]].rename(column)


def _read(cells: pd.Series, layout: str) -> pd.Series:
    """Each cell as a time without zone (UTC if it has an offset), NaT where it is not in this layout."""
    pattern, how = LAYOUTS[layout]
    fitting = cells[cells.str.match(pattern)]
    if "epoch" in layout:
        moments = pd.to_datetime(pd.to_numeric(fitting), unit=how, utc=True)
    else:
        iso = fitting.str.replace(pattern, how, regex=True).str.replace(r" ?(?:UTC|GMT)$", "Z", regex=True)
        moments = pd.to_datetime(iso, format="ISO8601", utc=True, errors="coerce")
    return moments.dt.tz_localize(None).reindex(cells.index)


def step_of(moments: pd.Series, wanted: str | None) -> str:
    """The time between rows as cards write it, once it is the same between all of them."""
    if wanted is not None and not re.fullmatch(r"[1-9][0-9]{0,4}(s|min|h|D)", wanted):
        raise Refusal(f"cannot have --step {wanted!r}; write it as 15min, 1h, 1D or 7D")
    steps = moments.diff().iloc[1:]
    if steps.empty:
        raise Refusal("has a single row; add some hundreds")
    common = pd.Timedelta(wanted) if wanted else steps.mode()[0]
    months = (moments.dt.year * 12 + moments.dt.month).diff().iloc[1:]
    if steps.nunique() > 1 and steps.min() >= pd.Timedelta("28D") and months.nunique() == 1:
        raise Refusal("has rows by calendar months, which differ in length; make them weekly or daily")
    wrong = steps[steps != common]
    if len(wrong):
        first, line = wrong.iloc[0], wrong.index[0]
        what = f"is {first} after the row before, not {common} ({len(wrong)} such places)"
        remedy = "fill in the rows that are missing, or cut the file there"
        if first < pd.Timedelta(0):
            what, remedy = "is out of order", "sort the rows by their stamps"
        elif first == pd.Timedelta(0):
            what, remedy = "is there twice", "keep one, or join the time of day to it from another column"
        at = f"line {line}, column {str(moments.name)[:40]!r}: {moments[line]}"
        raise Refusal(f"{at} {what}; {remedy} ({CLOCKS})")
    seconds = common.total_seconds()
    for unit, size in UNITS.items():
        if seconds % size == 0:
            return f"{int(seconds) // size}{unit}"
    raise Refusal(f"has steps of {seconds:g} seconds, cards know whole ones; average its rows")


def channels_of(table: pd.DataFrame, said: dict[str, str]) -> pd.DataFrame:
    """Without nameless columns that are empty or count the rows; every other has a name that can be kept."""
    for place, name in enumerate(table):
        if re.fullmatch(r"Unnamed: [0-9]+", name):
            counts = (pd.to_numeric(table[name], errors="coerce").diff().iloc[1:] == 1).all()
            if table[name].any() and not counts:
                raise Refusal(f"has no name for its channel {place + 1}; write one in the first row")
            said["left out"] = "nameless columns that are empty or count the rows"
            table = table.drop(columns=name)
    if "unique_id" in table:
        raise Refusal("has a column 'unique_id' (Nixtla's long layout); give each series a column, or rename it")
    if "date" in table:
        raise Refusal("has a column 'date' besides its stamps; rename it, or take it for them by --stamp")
    if table.empty:
        raise Refusal("has no column but its stamps; add one of numbers")
    return table


def values_of(table: pd.DataFrame, may_have_commas: bool, said: dict[str, str]) -> np.ndarray:
    """The channels as float64, [rows, channels]."""
    swap: dict[int, int] = {}
    if may_have_commas and any(DECIMAL_COMMA.fullmatch(cell) for name in table for cell in table[name]):
        said["decimals"] = "commas"
        swap = str.maketrans(",.", ".,")  # a point is then no part of a number
    values = np.empty(table.shape)
    for index, name in enumerate(table):
        cells = [cell.translate(swap) for cell in table[name]] if swap else table[name]
        values[:, index] = [float(cell) if NUMBER.fullmatch(cell) else np.nan for cell in cells]
        if (bad := ~np.isfinite(values[:, index])).any():
            what = "is missing or no finite number" if table[name].any() else "is empty throughout"
            remedy = "correct it (no gaps, units or marks between thousands), or delete the column"
            raise Refusal(f"{_at(table[name], bad)} {what}; {remedy}")
    with np.errstate(over="ignore", invalid="ignore"):
        too_large = ~np.isfinite(values.std(axis=0))
    if too_large.any():
        raise Refusal(f"has too large numbers in {listed(table.columns[too_large])}; take another unit")
    still = table.columns[np.ptp(values, axis=0) == 0]
    if len(still) == table.shape[1]:
        raise Refusal("has no channel that ever changes; add one")
    if len(still):
        said["warning"] = f"constant throughout: {listed(still)}"
    said["size"] = f"{len(values)} rows x {table.shape[1]} channels"
    return values


def _at(cells: pd.Series, wrong: pd.Series | np.ndarray | None = None) -> str:
    """Line, column and text of the first cell that is wrong; of the first cell where none is said to be."""
    row = 0 if wrong is None else int(np.asarray(wrong).argmax())
    return f"line {cells.index[row]}, column {str(cells.name)[:40]!r}: {cells.iloc[row][:40]!r}"


def listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(repr(name[:40]) for name in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def shown(text: str) -> str:
    """Printable, in one line, whatever a file is called."""
    return repr(text)[1:-1]
