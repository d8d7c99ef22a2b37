"""Make channels of numbers from a table of cells: choose columns, lay series side by side, fill cells. No torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from bench.data.csv_file import NUMBER
from bench.data.problems import Given, Problems, Refusal, counted, listed, named
from bench.data.stamps import CALENDAR, Moments, divides, examples, plain

DECIMAL = r"[+-]?\d*,\d+([eE][+-]?\d+)?"
EITHER, THOUSANDS = r"[+-]?[1-9]\d{0,2},\d{3}", r"[+-]?[1-9]\d{0,2}(,\d{3})+(,\d{3}|\.\d*)"
"""Numbers with a comma before decimals (some are also the next), before decimals or thousands, before thousands."""
SWAP = str.maketrans(",.", ".,")
MARKED = r"[^\w\s.,:+-]? ?[+-]?\d+([., '\u00a0\u202f]\d+)*\s?(([^\W\d]|[^\w\s.,:/+-])\S{0,11})?"
"""A number that may have a unit or marks between thousands."""
MISSING = {"", "nan", "na", "n/a", "#n/a", "<na>", "null", "none", "nil", "-", "--", "?", "."}
FLAGS = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}
"""True/false cells in small letters -> their number."""
TRUTH = "true/false"
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


def id_columns(table: pd.DataFrame, moments: Moments, asked: bool, sure: bool) -> list[str]:
    """Return the columns that name the series of a long layout (a row for each series and stamp); none for another.

    They are the fewest that tell rows of one stamp apart, text or usual names first. Whole numbers do so too if they
    are `asked` for by --long, or, unless they must be `sure` or one divides stamps, if half of such pairs have a row.
    """
    repeated, few = moments.read.duplicated().sum(), len(table) / 2
    usual = [name for name in table if plain(name) in ID_NAMES]
    texts = [name for name in table if table[name].str.fullmatch(NUMBER).mean() <= 0.5]
    wholes = [name for name in table if table[name].str.fullmatch(r"\d+").all()]
    told = asked or not (sure or any(divides(table[name], moments.read) for name in wholes))
    likely = dict.fromkeys([*usual, *texts, *(name for name in wholes if told and plain(name) not in CALENDAR)])
    found = [name for name in likely if table[name].nunique() <= few]

    def tell(names: list[str]) -> bool:
        return bool(names and table[names].assign(stamp=moments.read).duplicated().sum() <= repeated / 10)

    if not repeated or not tell(found):
        return [name for name in found if name in usual][:1] if asked else []
    for name in reversed(found):
        if tell(others := [each for each in found if each != name]):
            found = others
    series = len(table[found].drop_duplicates())
    dense = asked or {*found} <= {*usual, *texts} or len(table) >= series * moments.read.nunique() / 2
    often = repeated > len(table) / 10 or {*found} <= {*usual}
    return [name for name in table if name in found] if dense and often and series <= few else []


def decimal_sign(table: pd.DataFrame, delimiter: str) -> str:
    """Return the sign before decimals of all numbers in a file. Raises Refusal where its cells do not tell.

    It is the point in a file of commas between cells. In others, a comma or point is

    - before decimals for sure in 0,385 and 12,5 and 1234,500;
    - between thousands for sure in 1,000,000 and 1,234.5, so that the other one is before decimals;
    - either of both in 1,000, whatever else stands in its column.

    One cell decides for the whole file. It is refused if cells decide otherwise, or if some are 1,000 and none decides.
    Columns of numbers count whether they are kept or not, so that --drop changes no number; columns of text never do.
    """
    sure: dict[str, str] = {}
    unsure: list[tuple[str, str]] = []
    for name in filter(lambda name: _holds_numbers(table[name]), table if delimiter != "," else ()):
        for sign, other in (",.", ".,"):
            cells = table[name][table[name].str.contains(sign, regex=False)]
            commas = cells if sign == "," else cells.str.translate(SWAP)
            either = commas.str.fullmatch(EITHER)
            decimal = commas.str.fullmatch(DECIMAL) & ~either
            for proven, proof in ((sign, decimal), (other, commas.str.fullmatch(THOUSANDS))):
                if proof.any():
                    sure.setdefault(proven, ": ".join(examples(cells[proof])[0]))
            unsure += examples(cells[either])[:1]
    if len(sure) == 2:
        text = f"{sure[',']} has a decimal comma, but by {sure['.']} decimals have a point"
        raise Refusal(f"{text}. Do: write numbers with decimal points and without marks between thousands")
    if unsure and not sure:
        text = counted(unsure[:1], "may be meant a thousand times larger: nothing tells decimals from thousands")
        raise Refusal(f"{text}. Do: put commas between cells, points before decimals and no marks between thousands")
    return next(iter(sure), ".")


def _holds_numbers(cells: pd.Series) -> bool:
    """Return whether most cells that are not missing are numbers, be their decimals behind a point or a comma."""
    present, form = cells[~cells.str.casefold().isin(MISSING)], f"{NUMBER.pattern}|{THOUSANDS}"
    return bool((present.str.fullmatch(form) | present.str.translate(SWAP).str.fullmatch(form)).mean() > 0.5)


def numbers_of(
    table: pd.DataFrame, decimal: str, choice: Given, problems: Problems, notes: dict[str, str]
) -> pd.DataFrame:
    """Return the columns of numbers as float64, NaN for cells that are missing.

    Columns that are not numbers, empty ones, and cells that cannot be read are problems; missing cells are one unless
    they are to be filled. `decimal` is the sign before decimals.
    """
    # 1. Read each cell as a number.
    points = table
    if decimal == ",":
        notes["decimals"] = "commas"
        points = table.map(lambda cell: cell.translate(SWAP))  # a point is then no part of a number
    values = points.map(lambda cell: float(cell) if NUMBER.fullmatch(cell) else np.nan).astype(np.float64)
    values = values.where(np.isfinite(values))
    cut = table.index.isin(problems.lines)
    empty = pd.DataFrame(False, index=table.index, columns=table.columns)
    kinds: dict[str, str] = {}
    # 2. Leave out columns that are not numbers.
    for name in values.columns[values.isna().any()]:
        words = table[name].where(values[name].isna(), "0").str.casefold()
        empty[name] = words.isin(MISSING)
        kind = _kind(table[name][~empty[name]], values[name][~empty[name]], words[~empty[name]])
        if kind == TRUTH and name in (choice.channels or ()):
            values[name] = words.map(FLAGS)
        elif kind:
            kinds[name] = kind
    if kinds:
        _refuse_kinds(table, kinds, problems)
    values, table, empty = (each.drop(columns=list(kinds)) for each in (values, table, empty))
    # 3. Say which cells cannot be read, and which are missing.
    empty[cut] = False
    wrong = values.isna() & ~empty
    wrong[cut] = False
    if wrong.any(axis=None):
        remedy = "correct such cells (no units or marks between thousands)"
        shown, count = _cells(table, wrong)
        problems.add(counted(shown, "is no finite number", count), remedy)
    if empty.any(axis=None) and not choice.fill:
        shown, count = _cells(table, empty)
        problems.add(counted(shown, "is missing", count), "--fill linear", fill="previous")
    # 4. Warn of what float64 cannot hold.
    rounded = [name for name in values if (values[name].abs() > EXACT).any() and _rounds(points[name])]
    if rounded:
        notes["rounded"] = f"whole numbers above 2^53, of which the last digits are lost: {listed(rounded)}"
    return values


def _kind(cells: pd.Series, values: pd.Series, words: pd.Series) -> str:
    """Return what a column holds that is not numbers; empty for one of numbers. Its missing cells are left out."""
    if cells.empty:
        return "empty"
    if words.isin(FLAGS).all():
        return TRUTH
    return f"as {cells[values.isna()].iloc[0][:20]!r}" if values.count() < len(cells) / 2 else ""


def _refuse_kinds(table: pd.DataFrame, kinds: dict[str, str], problems: Problems) -> None:
    """Add the problem of columns that are not numbers; `kinds`: name -> what it holds."""
    columns = ", ".join(f"{name[:40]!r} ({kind})" for name, kind in kinds.items())
    flags = f"; --channels takes a {TRUTH} column as 0 and 1" * (TRUTH in kinds.values())
    marked = any(table[name].str.fullmatch(MARKED).mean() > 0.5 for name in kinds)
    by_hand = "remove units and marks between thousands" if marked else ""
    options: dict[str, Any] = {"drop": list(kinds)} if len(kinds) < table.shape[1] else {}
    problems.add(f"has columns that are not numbers: {columns}{flags}", by_hand, **options)


def _rounds(cells: pd.Series) -> bool:
    """Return whether a whole number in these cells differs from its float64."""
    return any(int(float(cell)) != int(cell) for cell in cells if re.fullmatch(r"[+-]?\d{16,300}", cell))


def _cells(table: pd.DataFrame, wrong: pd.DataFrame) -> tuple[list[tuple[str, str]], int]:
    """Return line, column and text of the first three cells that are wrong, and how many there are."""
    rows, columns = np.nonzero(wrong.to_numpy())
    first = zip(rows[:3], columns[:3], strict=True)
    shown = [
        (f"line {table.index[row]}, column {table.columns[column][:40]!r}", repr(table.iat[row, column][:40]))
        for row, column in first
    ]
    return shown, len(rows)


def resolved(choice: Given, table: pd.DataFrame, series: Sequence[str]) -> Given:
    """Return the choice with names of columns and series as the file has them. Raises Refusal for an unknown name."""
    names = [*series, *table]
    pairs = [f"{one}:{name}" for one in series for name in table] if choice.channels or choice.drop else []
    channels = named(choice.channels, [*names, *pairs], "--channels") if choice.channels else None
    return replace(choice, drop=named(choice.drop, [*names, *pairs], "--drop"), channels=channels)


def columns_kept(table: pd.DataFrame, choice: Given, series: Sequence[str], notes: dict[str, str]) -> pd.DataFrame:
    """Return the columns that the user keeps, less counters of rows (if others are left) and nameless empty ones.

    `series` are names that --drop and --channels may also have.
    """
    table = table.drop(columns=[name for name in choice.drop if name in table])
    pairs = {f"{one}:{name}": name for one in series for name in table}
    wanted = choice.channels or ()
    own = [pairs.get(name, name) for name in wanted if name in table or name in pairs]
    if own and len(own) == len(wanted):
        return table[list(dict.fromkeys(own))]
    nameless = [name for name in table if re.fullmatch(r"Unnamed: [0-9]+", name)]
    counters = [name for name in table if name not in own and _rises_by_one(table[name])]
    left = [*counters, *(name for name in nameless if not table[name].any())]
    if left and (nameless or [*table] != left):
        notes["left out"] = f"columns that count the rows (--channels takes them) or are empty: {listed(left)}"
        table = table.drop(columns=left)
    return table


def _rises_by_one(cells: pd.Series) -> bool:
    """Return whether cells are whole numbers, each greater by 1 than the one before."""
    return bool(cells.str.fullmatch(r"[+-]?\d+(\.0*)?").all() and (cells.astype(float).diff().iloc[1:] == 1).all())


def side_by_side(
    values: pd.DataFrame, moments: Moments, ids: pd.Series, choice: Given, problems: Problems
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
    wide = wide.drop(columns=[*choice.drop], errors="ignore")
    places = [moments.show(stamp) for stamp in wide.index]
    return wide.set_axis(places), Moments(pd.Series(wide.index, index=places))


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
    values: pd.DataFrame, stamps: pd.Series, missing: pd.Series, choice: Given, problems: Problems
) -> tuple[pd.DataFrame, str]:
    """Return the values by stamp, and what was filled in words: rows at the `missing` stamps, and missing cells.

    Nothing is filled before the first value of a column, nor on a line beyond its last: that is a problem.
    """
    # 1. Fill.
    values = values.set_axis(pd.Index(stamps, name="date"))
    lost, cells = values.isna().mean(), int(values.isna().sum().sum())
    if choice.fill and len(missing) and values.index.is_monotonic_increasing and values.index.is_unique:
        values = values.reindex(values.index.union(pd.Index(missing))).rename_axis("date")
    fill, how = FILLS[choice.fill or "previous"]
    complete = fill(values)
    # 2. What cannot be filled.
    bare = complete.columns[complete.isna().any() & (lost > 0.5)]  # little is lost with these
    for name in complete.columns[complete.isna().any() & values.notna().any()]:
        count, begins = int(complete[name].isna().sum()), pd.isna(values[name].iloc[0])
        where = ("begins", "before") if begins else ("ends", "after")
        text = f"column {name[:40]!r} {where[0]} with {count} missing cells, which no cell {where[1]} can fill"
        if begins:
            options: dict[str, Any] = {"drop": [name]} if name in bare and len(bare) < values.shape[1] else {}
            problems.add(text, "cut the rows before", **options)
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
        others = f" and {notes['left out']}" if "left out" in notes else ""
        problems.add(f"has no column of numbers besides its stamps{others}", "add one")
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
