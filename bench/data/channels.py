"""Make channels of numbers from a table of cells: choose columns, lay series side by side, fill cells. No torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bench.core.base import nearest
from bench.core.text import printable
from bench.data.csv_file import NUMBER
from bench.data.problems import Problems, Refusal, counted, listed
from bench.data.stamps import CLOCK_NAMES, Moments, is_clock, plain

DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?", re.ASCII)
MISSING = {"", "nan", "na", "n/a", "#n/a", "<na>", "null", "none", "nil", "-", "--", "?", "."}
FLAGS = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}
"""True/false cells in small letters -> their number."""
EXACT = 2**53
"""Whole numbers up to this one are exact in float64."""
ID_NAMES = {
    *("uniqueid", "id", "series", "seriesid", "seriesname", "item", "itemid", "tsid", "entity", "entityid", "group"),
    *("key", "symbol", "ticker", "station", "stationid", "sensor", "sensorid", "meter", "meterid", "store", "region"),
}
RESERVED = {"date", "unique_id"}
"""Names that the harness reads as something else in a data file."""
FILLS: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "previous": (lambda values: values.ffill(), "with the row before"),
    "linear": (lambda values: values.interpolate(limit_area="inside"), "on a straight line between their neighbours"),
}
"""Value of --fill -> how it fills, and how the card says so."""


@dataclass(frozen=True)
class Choice:
    """The columns that the user drops or keeps (None: all others), and how missing cells are filled (None: not)."""

    drop: Sequence[str] = ()
    channels: Sequence[str] | None = None
    fill: str | None = None


def id_column(table: pd.DataFrame, moments: Moments, asked: bool) -> str | None:
    """Return the column that names the series of a long layout (a row for each series and stamp); None for another.

    It is text, or has a usual name (`asked` by --long: or holds whole numbers), and tells rows of one stamp apart.
    """
    repeated = moments.read.duplicated().sum()
    best: tuple[float, str] | None = None
    for name in table if repeated or asked else ():
        cells = table[name]
        usual = plain(name) in ID_NAMES
        numbers = cells.str.fullmatch(NUMBER).mean() > 0.5
        text = not numbers or (asked and cells.str.fullmatch(r"\d+").all())
        if not (usual or text) or plain(name) in CLOCK_NAMES or is_clock(cells):
            continue
        left = pd.DataFrame({"id": cells, "stamp": moments.read}).duplicated().sum()
        tells = repeated > len(cells) / 10 * (not usual) and left <= repeated / 10
        if (tells or (asked and usual)) and cells.nunique() <= len(cells) / 2:
            best = min(best or (np.inf, ""), (left + numbers - 2 * usual, name))
    return best[1] if best else None


def numbers_of(
    table: pd.DataFrame, may_have_commas: bool, choice: Choice, problems: Problems, notes: dict[str, str]
) -> pd.DataFrame:
    """Return the columns of numbers as float64, NaN for cells that are missing.

    Columns that are not numbers, empty ones, and cells that cannot be read are problems; missing cells are one unless
    they are to be filled. `may_have_commas` allows decimal commas.
    """
    # 1. Read each cell as a number.
    swap: dict[int, int] = {}
    if may_have_commas and any(DECIMAL_COMMA.fullmatch(cell) for name in table for cell in table[name]):
        notes["decimals"] = "commas"
        swap = str.maketrans(",.", ".,")  # a point is then no part of a number
    points = table.map(lambda cell: cell.translate(swap)) if swap else table
    values = points.map(lambda cell: float(cell) if NUMBER.fullmatch(cell) else np.nan).astype(np.float64)
    values = values.where(np.isfinite(values))
    cut = table.index.isin(problems.lines)
    empty = pd.DataFrame(False, index=table.index, columns=table.columns)
    kinds: dict[str, str] = {}
    # 2. Leave out columns that are not numbers.
    for name in values.columns[values.isna().any()]:
        words = table[name].where(values[name].isna(), "0").str.casefold()
        empty[name] = words.isin(MISSING)
        cells = table[name][~empty[name]]
        if cells.empty:
            kinds[name] = "empty"
        elif words[~empty[name]].isin(FLAGS).all():
            if name in (choice.channels or ()):
                values[name] = words.map(FLAGS)
            else:
                kinds[name] = "true/false"
        elif values[name].count() < len(cells) / 2:
            kinds[name] = f"as {cells.iloc[0][:20]!r}"
    if kinds:
        named = ", ".join(f"{name[:40]!r} ({kind})" for name, kind in kinds.items())
        flags = "; --channels takes a true/false column as 0 and 1" * ("true/false" in kinds.values())
        problems.add(f"has columns that are not numbers: {named}{flags}", drop=list(kinds))
    values, table, empty = (each.drop(columns=list(kinds)) for each in (values, table, empty))
    # 3. Say which cells cannot be read, and which are missing.
    empty[cut] = False
    wrong = values.isna() & ~empty
    wrong[cut] = False
    if wrong.any(axis=None):
        remedy = "correct such cells (no units or marks between thousands)"
        examples, count = _cells(table, wrong)
        problems.add(counted(examples, "is no finite number", count), remedy)
    if empty.any(axis=None) and not choice.fill:
        examples, count = _cells(table, empty)
        problems.add(counted(examples, "is missing", count), "--fill linear", fill="previous")
    # 4. Warn of what float64 cannot hold.
    rounded = [name for name in values if (values[name].abs() > EXACT).any() and _rounds(points[name])]
    if rounded:
        notes["rounded"] = f"whole numbers above 2^53, of which the last digits are lost: {listed(rounded)}"
    return values


def _rounds(cells: pd.Series) -> bool:
    """Return whether a whole number in these cells differs from its float64."""
    return any(int(float(cell)) != int(cell) for cell in cells if re.fullmatch(r"[+-]?\d{16,300}", cell))


def _cells(table: pd.DataFrame, wrong: pd.DataFrame) -> tuple[list[tuple[str, str]], int]:
    """Return line, column and text of the first three cells that are wrong, and how many there are."""
    rows, columns = np.nonzero(wrong.to_numpy())
    first = zip(rows[:3], columns[:3], strict=True)
    examples = [
        (f"line {table.index[row]}, column {table.columns[column][:40]!r}", repr(table.iat[row, column][:40]))
        for row, column in first
    ]
    return examples, len(rows)


def chosen(table: pd.DataFrame, names: Sequence[str], series: Sequence[str], option: str) -> None:
    """Raise Refusal for a name that is neither a column nor a series."""
    known = [*map(str, table), *series]
    for name in names:
        if name not in known:
            near = nearest(name, [*map(printable, known)][:20])
            raise Refusal(f"has no column {name[:40]!r} for {option}; {near}. Do: name one of its columns")


def columns_kept(table: pd.DataFrame, choice: Choice, series: Sequence[str], notes: dict[str, str]) -> pd.DataFrame:
    """Return the columns that the user keeps, less nameless ones that are empty or count the rows.

    `series` are names that --drop and --channels may also have. Raises Refusal for an unknown name.
    """
    chosen(table, choice.drop, series, "--drop")
    table = table.drop(columns=[name for name in choice.drop if name in table])
    pairs = {f"{one}:{name}": name for one in series for name in table}
    wanted = choice.channels or ()
    chosen(table, wanted, [*series, *pairs], "--channels")
    own = [pairs.get(name, name) for name in wanted if name in table or name in pairs]
    if own and len(own) == len(wanted):
        return table[list(dict.fromkeys(own))]
    for name in [name for name in table if re.fullmatch(r"Unnamed: [0-9]+", name)]:
        counts = (pd.to_numeric(table[name], errors="coerce").diff().iloc[1:] == 1).all()
        if counts or not table[name].any():
            notes["left out"] = "nameless columns that are empty or count the rows"
            table = table.drop(columns=name)
    return table


def side_by_side(
    values: pd.DataFrame, moments: Moments, ids: pd.Series, choice: Choice, problems: Problems
) -> tuple[pd.DataFrame, Moments]:
    """Return a column for each series (`series:column` with several columns), and the stamps that any of them has.

    Stamps that a series has twice, or lacks (unless they are to be filled), and series that begin or end elsewhere than
    most are problems.
    """
    # 1. The series that are kept, each with each stamp once.
    wanted = choice.channels or ()
    kept = [name for name in ids.unique() if any(one == name or one.startswith(f"{name}:") for one in wanted)]
    here = moments.read.notna() & ~ids.isin(["", *choice.drop]) & (ids.isin(kept) if kept else True)
    if not here.any():
        raise Refusal("has no series left. Do: name others by --drop or --channels")
    if nameless := [(f"line {line}", "") for line in ids.index[ids == ""]]:
        problems.add(
            counted(nameless, f"no series is named in column {str(ids.name)[:40]!r}"), "name it, or delete the row"
        )
    both = pd.DataFrame({"stamp": moments.read, "id": ids})[here]
    twice = both.index[both.duplicated()]
    if len(twice):
        shown = [(f"line {line}", f"{moments.show(moments.read[line])} of {ids[line][:40]!r}") for line in twice[:3]]
        problems.add(counted(shown, "is there twice", len(twice)), "keep one row of each stamp and series")
    rows, stamps, names = (each[here].drop(twice) for each in (values, moments.read, ids))
    # 2. The same first and last stamp, and the same stamps in between.
    spans = stamps.groupby(names, sort=False).agg(["min", "max", "count"])
    odd = _odd_spans(spans, moments, problems)
    rows, stamps, names = (each[~names.isin(odd)] for each in (rows, stamps, names))
    spans, every = spans.drop(odd), stamps.nunique()
    lost = {name: every - count for name, count in spans["count"].items() if count < every}
    if lost and not choice.fill:
        examples = [(f"series {name[:40]!r}", f"{count} of {every} stamps") for name, count in lost.items()]
        problems.add(counted(examples, "are missing"), "--fill linear", fill="previous")
    # 3. Lay them side by side.
    wide = rows.set_index([stamps.rename("stamp"), names.rename("id")]).unstack("id")
    single = values.shape[1] == 1 and not any(f"{name}:{values.columns[0]}" in wanted for name in kept)
    pairs = [(column, name) for column in values for name in spans.index]
    wide = wide[pairs].set_axis([name if single else f"{name}:{column}" for column, name in pairs], axis=1)
    if kept:
        wide = wide[[name for one in wanted for name in wide if one == name or name.startswith(f"{one}:")]]
    places = [moments.show(stamp) for stamp in wide.index]
    read = pd.Series(wide.index, index=places)
    return wide.set_axis(places), Moments(read, moments.name)


def _odd_spans(spans: pd.DataFrame, moments: Moments, problems: Problems) -> list[str]:
    """Return the series that begin or end elsewhere than most, and add them to the problems.

    `spans` has `min`, `max` and `count` of each series' stamps.
    """
    kinds = spans.groupby(["min", "max"])["count"].agg(["size", "sum"]).sort_values(["size", "sum"])
    first, last = kinds.index[-1]
    odd = spans[(spans["min"] != first) | (spans["max"] != last)]
    examples = []
    for name, begin, end, _ in odd.itertuples():
        edges = [f"begins {moments.show(begin)}"] * (begin != first) + [f"ends {moments.show(end)}"] * (end != last)
        examples.append((f"series {name[:40]!r}", " and ".join(edges)))
    if examples:
        text = counted(examples, f"while the others run from {moments.show(first)} to {moments.show(last)}")
        few = len(odd) <= len(spans) / 2
        options: dict[str, Any] = {"drop": [*odd.index]} if few else {}
        problems.add(text, "cut all to the same rows", **options)
    return [*odd.index]


def filled(
    values: pd.DataFrame, stamps: pd.Series, missing: pd.Series, choice: Choice, problems: Problems
) -> tuple[pd.DataFrame, str]:
    """Return the values by stamp, and what was filled in words: rows at the `missing` stamps, and missing cells.

    Nothing is filled before the first value of a column, nor on a line beyond its last: that is a problem.
    """
    # 1. Fill.
    values = values.set_axis(pd.Index(stamps, name="date"))
    cells = int(values.isna().sum().sum())
    if choice.fill and len(missing) and values.index.is_monotonic_increasing and values.index.is_unique:
        values = values.reindex(values.index.union(pd.Index(missing))).rename_axis("date")
    fill, how = FILLS[choice.fill or "previous"]
    complete = fill(values)
    # 2. What cannot be filled.
    for name in complete.columns[complete.isna().any() & values.notna().any()]:
        count, begins = int(complete[name].isna().sum()), pd.isna(values[name].iloc[0])
        where = ("begins", "before") if begins else ("ends", "after")
        text = f"column {name[:40]!r} {where[0]} with {count} missing cells, which no cell {where[1]} can fill"
        if begins:
            problems.add(text, "cut the rows before", drop=[name])
        else:
            problems.add(text, fill="previous")
    if not choice.fill:
        return values, ""
    parts = [f"{count} {what}{'s' * (count > 1)}" for count, what in ((len(missing), "row"), (cells, "cell")) if count]
    return complete, f"{' and '.join(parts)} filled {how}" if parts else ""


def verify_channels(values: pd.DataFrame, problems: Problems, notes: dict[str, str]) -> None:
    """Add names and numbers that no run could use; `notes` gets the constant channels."""
    for name in values:
        if re.fullmatch(r"Unnamed: [0-9]+", name):
            problems.add(f"has no name for its column {int(name[9:]) + 1}", "write one in the first row", drop=[name])
    if taken := [name for name in values if name in RESERVED]:
        kinds = {"date": "besides its stamps", "unique_id": "(Nixtla's long layout)"}
        problems.add(f"has a column {taken[0]!r} {kinds[taken[0]]}", "rename it", drop=taken)
    if values.empty:
        problems.add("has no column of numbers besides its stamps", "add one")
        return
    with np.errstate(over="ignore", invalid="ignore"):
        too_large = values.columns[~np.isfinite(values.std(ddof=0))]
    if len(too_large):
        problems.add(f"has too large numbers in {listed(too_large)}", "take another unit")
    still = values.columns[(values.max() == values.min()).to_numpy()]
    if len(still) == values.shape[1] and len(values) > 1:
        problems.add("has no channel that ever changes", "add one")
    elif len(still):
        notes["warning"] = f"constant throughout: {listed(still)}"
