"""Find the stamps in a table of cells, read them in the only layout that fits, and verify their steps. No torch."""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import cached_property

import numpy as np
import pandas as pd

from bench.data.problems import Problems, Refusal, counted, named
from bench.data.steps import SIZES, Step, inferred_step

STAMP_NAMES = {
    *("date", "time", "datetime", "timestamp", "ds", "utctimestamp", "datetimeutc", "timeutc", "dateutc"),
    *("year", "quarter", "period"),
}
YEAR, DAY, REST = r"([12][0-9]{3})", r"([0-9]{1,2})", r"(?=$|[ T])"


NAMES = "|".join(f"{name[:3]}(?:{name[3:]})?" for name in calendar.month_name[1:])
MONTHS = {name[:3].casefold(): number for number, name in enumerate(calendar.month_name)}
NAMED = rf"(?P<month>(?i:{NAMES}))\.?"
DAY_NAMED = rf"^(?:(?P<day>[0-9]{{1,2}})[-/. ]?)?{NAMED}[-/. ]?"
WEEK = r"0?[1-9]|[1-4][0-9]|5[0-3]"


def _month(each: re.Match[str]) -> str:
    """Return the first month of a quarter or a half-year."""
    year, kind, number = each.groups()
    return f"{year}-{(int(number) - 1) * {'Q': 3, 'H': 6}[kind] + 1:02d}-01"


def _by_name(each: re.Match[str]) -> str:
    """Return the date of a month's name, a year of two or four digits, and a day (else the first)."""
    year = int(each["year"])
    year += 0 if year > 99 else 1900 if year > 68 else 2000
    return f"{year}-{MONTHS[each['month'][:3].casefold()]:02d}-{int(each['day'] or 1):02d}"


def _monday(each: re.Match[str]) -> str:
    """Return the Monday of a week by ISO 8601; the text itself if its year has no such week."""
    with suppress(ValueError):
        return date.fromisocalendar(int(each[1]), int(each[2]), 1).isoformat()
    return each[0]


LAYOUTS: dict[str, tuple[str, str | Callable[[re.Match[str]], str]]] = {
    "ISO": (rf"^{YEAR}[-/.]{DAY}[-/.]{DAY}{REST}", r"\1-\2-\3"),
    "day first": (rf"^{DAY}[-/.]{DAY}[-/.]{YEAR}{REST}", r"\3-\2-\1"),
    "month first": (rf"^{DAY}[-/.]{DAY}[-/.]{YEAR}{REST}", r"\3-\1-\2"),
    "months": (rf"^{YEAR}(?:[-/]|-?M){DAY}$", r"\1-\2-01"),
    "month by name": (rf"{DAY_NAMED}(?P<year>[12][0-9]{{3}}){REST}", _by_name),
    "month by name before the day": (rf"^{NAMED} (?P<day>[0-9]{{1,2}}),? (?P<year>[12][0-9]{{3}}){REST}", _by_name),
    "year before the month's name": (
        rf"^(?P<year>[12][0-9]{{3}})[-/. ]?{NAMED}(?:[-/. ](?P<day>[0-9]{{1,2}}))?{REST}", _by_name,
    ),
    "month by name, year of 1969 to 2068": (rf"{DAY_NAMED}(?P<year>[0-9]{{2}}){REST}", _by_name),
    "ISO weeks": (rf"^{YEAR}-?W({WEEK})$", _monday),
    "quarters or half-years": (rf"^{YEAR}[ -]?(Q(?=[1-4]$)|H(?=[12]$))([1-4])$", _month),
    "years": (rf"^{YEAR}$", r"\1-01-01"),
    "months without signs": (rf"^{YEAR}(0[1-9]|1[0-2])$", r"\1-\2-01"),
    "days without signs": (rf"^{YEAR}(0[1-9]|1[0-2])([0-3][0-9]){REST}", r"\1-\2-\3"),
    "epoch seconds": (r"^[1-9][0-9]{8,9}(?:\.0*)?$", "s"),
    "epoch milliseconds": (r"^[1-9][0-9]{11,12}(?:\.0*)?$", "ms"),
}  # fmt: skip
"""Layout of stamps -> its pattern, and its ISO form or the unit of a count since 1970."""
COUNTS = {
    "month by name, year of 1969 to 2068",
    "years",
    "months without signs",
    "days without signs",
    "epoch seconds",
    "epoch milliseconds",
}
"""Layouts that other numbers may fit too: a column is in one of them only if all of its cells are."""
CLOCK = r"([01]?[0-9]|2[0-4])(?:[:.]?([0-5][0-9]))?(?:[:.]([0-5][0-9](?:\.[0-9]+)?))?(?: ?([AP])M)?"
MONTH = rf"M?(0?[1-9]|1[0-2])|({NAMES})\.?"
WRITTEN = "2020-12-31 23:00:00 (years 1000 to 2999)"
ZONE_CHANGES = "local time does this where clocks change: write stamps in UTC or with offsets"


@dataclass(frozen=True)
class Moments:
    """Stamps without time zone (NaT: unreadable) by line, and how they print."""

    read: pd.Series

    @cached_property
    def _days(self) -> bool:
        """True if it is midnight in all rows."""
        return bool((self.read.dt.normalize().eq(self.read) | self.read.isna()).all())

    def show(self, stamp: pd.Timestamp) -> str:
        """Return a stamp in words; the time of day is left out where it is midnight in all rows."""
        return f"{stamp:%Y-%m-%d}" if self._days else str(stamp)


def stamp_columns(table: pd.DataFrame, wanted: Sequence[str] | None) -> list[str]:
    """Return the columns of stamps: those wanted (see `PARTS` for more than one), else the most likely one.

    Likely, in order: a usual name over stamps, a usual name over counts (years, seconds since 1970), stamps, counts, a
    usual name alone. Raises Refusal if there is none.
    """
    if wanted:
        return named(wanted, table, "--stamp")
    usual = [name for name in table if plain(name) in STAMP_NAMES]
    written = [name for name in table if begins_stamp(table[name].iloc[0])]
    counts = [name for name in table if any(table[name].str.fullmatch(LAYOUTS[layout][0]).all() for layout in COUNTS)]
    likely = [*(name for name in usual if name in written), *(name for name in usual if name in counts)]
    found = [*likely, *written, *counts, *usual]
    if not found:
        raise Refusal(f"has no column of stamps. Do: write them as {WRITTEN}, below a first row of names")
    return found[:1]


def plain(name: str) -> str:
    """Return a column's name without case and signs."""
    return re.sub(r"[\W_]", "", name.casefold())


def begins_stamp(cell: str) -> bool:
    """Return whether a cell begins like a stamp that no other number looks like."""
    return any(re.match(pattern, cell) for layout, (pattern, _) in LAYOUTS.items() if layout not in COUNTS)


def _clock(found: re.Match[str]) -> str:
    """Return a time of day as 23:00:00, from hour, minutes, seconds, and a or p; its hour may be 24."""
    hour, half = int(found[1]), (found[4] or "").lower()
    hour = hour % 12 + 12 * (half == "p") if half else hour
    return f" {hour:02d}:{found[2] or '00'}:{found[3] or '00'}"


PARTS: dict[str, tuple[str, str, Callable[[re.Match[str]], str]]] = {
    "quarter": (YEAR, r"([QH]?)0?([1-4])", lambda found: f"-{found[1].upper() or 'Q'}{found[2]}"),
    "month": (YEAR, MONTH, lambda found: f"-{int(found[1] or MONTHS[found[2][:3].casefold()]):02d}"),
    "week": (YEAR, rf"W?({WEEK})", lambda found: f"-W{int(found[1]):02d}"),
    "day": (rf"{YEAR}-[0-9]{{2}}", r"0?[1-9]|[12][0-9]|3[01]", lambda found: f"-{int(found[0]):02d}"),
    "time of day": (r"[^\sT]{8,}(?:[ T]00:00(?::00)?)?", CLOCK, _clock),
}
"""What completes a date, first fit first -> patterns of the date before and of its own cells, and their ISO form."""
PART_NAMES = {
    "month": {"month", "mon", "mo", "monat", "period"},
    "quarter": {"quarter", "qtr", "q", "quartal", "period"},
    "week": {"week", "wk", "isoweek", "weekofyear", "weeknumber", "kw", "woche"},
    "day": {"day", "dd", "dy", "dayofmonth", "dom", "tag"},
    "time of day": {"time", "hour", "hr", "hh", "he", "hourending", "timeofday", "uhrzeit", "stunde"},
}
"""What completes a date -> usual names of its column."""
CALENDAR = {"weekday", "dayofweek", "dayofyear", "doy", "settlementperiod"}.union(*PART_NAMES.values())
DIVISIONS = {24, 48, 96, 288, 1440, 52, 53, 365, 366}
"""The numbers of parts that a day or a year is divided into."""


def part_of(dates: pd.Series, cells: pd.Series, asked: bool) -> tuple[str, pd.Series] | None:
    """Return what a column adds to dates, and the longer dates; None if it completes none.

    Bare numbers do so below a usual name alone, or where the column is `asked` for.
    """
    name = plain(str(cells.name))
    if cells.str.fullmatch(r"\d{1,4}").all() and cells.str.len().max() > 2:
        cells = cells.str.zfill(4)  # beside 115, which is 01:15, a 15 is 00:15
    for part in sorted(PARTS, key=lambda part: name not in PART_NAMES[part]):
        before, pattern, form = PARTS[part]
        if not re.fullmatch(pattern, cells.iloc[0], re.I):  # most columns are none
            continue
        told = asked or name in PART_NAMES[part] or not cells.str.fullmatch(r"\d+(\.\d*)?").any()
        if told and dates.str.fullmatch(before).mean() > 0.5 and cells.str.fullmatch(pattern, flags=re.I).all():
            days = dates.str.replace(r"[ T]00:00(:00)?$", "", regex=True)
            longer = days + cells.str.replace(rf"^(?:{pattern})$", form, regex=True, flags=re.I)
            if part != "week" or asked or _every_week(longer):
                return part, longer
    return None


def _every_week(weeks: pd.Series) -> bool:
    """Return whether all are weeks by ISO 8601, and none between the first and the last is missing: others count so
    that a year ends in a week 53, or never does."""
    mondays = _read(weeks, "ISO weeks")
    return bool(mondays.notna().all() and (mondays.sort_values().diff().dropna() <= pd.Timedelta(days=7)).all())


def joined(table: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    """Return the cells of the stamps: of one column, or of several that complete each other."""
    dates = table[columns[0]]
    for name in columns[1:]:
        found = part_of(dates, table[name], asked=True)
        if found is None:
            wrong = ~table[name].str.fullmatch(CLOCK, flags=re.I)
            what = f"is no time of day, nor month, quarter or day, that completes column {columns[0][:40]!r}"
            text = counted(examples(table[name][wrong | ~wrong.any()]), what, wrong.sum())
            raise Refusal(f"{text}. Do: write it as 23:00:00, or name one column by --stamp")
        dates = found[1]
    return dates


def completed(table: pd.DataFrame, columns: Sequence[str]) -> dict[str, str]:
    """Return the columns that complete the stamps in `columns`, one after the other, and what each adds."""
    dates = joined(table, columns)
    for name in table.columns.difference(columns, sort=False):
        if part := part_of(dates, table[name], asked=False):
            return {name: part[0], **completed(table, [*columns, name])}
    return {}


def moments_of(cells: pd.Series, name: str, problems: Problems, notes: dict[str, str]) -> Moments | None:
    """Return the stamps without time zone (in UTC where they have one), from the only layout that fits.

    Unreadable stamps are NaT; None if nothing can be said of their order.
    """
    readings = {layout: _read(cells, layout) for layout in LAYOUTS}
    fitting = [layout for layout, moments in readings.items() if moments.notna().all()]
    layout = fitting[0] if fitting else max(readings, key=lambda layout: readings[layout].count())
    moments = readings[layout]
    unread = moments.isna()
    wrong = unread & ~cells.index.isin(problems.lines)
    if wrong.any():
        cause = "is no time stamp, or not written like the others"
        remedy = f"write stamps as {WRITTEN}, or name another column by --stamp"
        text = counted(examples(cells[wrong]), cause, wrong.sum())
        if unread.mean() > 0.5:
            raise Refusal(f"{text}. Do: {remedy}")
        problems.add(text, remedy)
    if {"day first", "month first"} <= {each for each in LAYOUTS if readings[each].count() == moments.count() > 0}:
        text = counted(examples(cells[~unread])[:1], "may be day or month first, as all others")
        problems.add(text, "write stamps as 2020-12-31")
        return None
    zoned = cells[~unread].str.contains(r"[ T].*(?:Z|UTC|GMT|[+-][0-9:]{2,5})$")
    if zoned.nunique() > 1:
        odd = examples(cells[~unread][zoned != zoned.iloc[0]])
        cause = "and the first stamp: one has a time zone, the other none"
        problems.add(counted(odd, cause, int((zoned != zoned.iloc[0]).sum())), "write all in UTC")
        return None
    if (moments.dt.nanosecond > 0).any():
        problems.add("has stamps finer than a microsecond", "average its rows")
        return None
    if zoned.all() and cells[~unread].str.extract(r"[ T]([0-9:.]+)")[0].nunique() == 1 < moments.dt.hour.nunique():
        problems.add("has one local time on all days, but changing UTC offsets", "write days without time and offset")
        return None
    zone = "converted to UTC by their offsets" if zoned.all() else "no time zone given, kept unchanged"
    notes["stamps"] = f"column {name[:40]!r}, {layout}; {'in UTC' if 'epoch' in layout else zone}"
    return Moments(moments.dt.as_unit("us"))


def _read(cells: pd.Series, layout: str) -> pd.Series:
    """Return each cell as a time without zone (UTC if it has an offset), NaT where it does not fit the layout."""
    pattern, form = LAYOUTS[layout]
    fitting = cells[cells.str.match(pattern)]
    if fitting.empty:  # as in most layouts
        return pd.Series(pd.NaT, cells.index)
    if "epoch" in layout:
        moments = pd.to_datetime(pd.to_numeric(fitting), unit=str(form), utc=True)
    else:
        iso = fitting.str.replace(pattern, form, regex=True).str.replace(r" ?(?:UTC|GMT)$", "Z", regex=True)
        late = iso.str.contains(r"[ T]24:00(?::00|$)")
        iso = iso.str.replace(r"(?<=[ T])24(?=:00(?::00|$))", "00", regex=True)
        moments = pd.to_datetime(iso, format="ISO8601", utc=True, errors="coerce") + pd.to_timedelta(
            late.astype(int), unit="D"
        )
    return moments.dt.tz_localize(None).reindex(cells.index)


def examples(cells: pd.Series) -> list[tuple[str, str]]:
    """Return line and column, and the text, of the first three cells."""
    column = f", column {str(cells.name)[:40]!r}"
    return [(f"line {line}{column}", repr(cell[:40])) for line, cell in cells.iloc[:3].items()]


def step_of(moments: Moments, wanted: str | None, filled: bool, problems: Problems) -> tuple[Step, pd.Series]:
    """Return the step between rows, and the stamps of the rows that are missing in gaps.

    Every row that is not one step after the row before is a problem; gaps are none if they are to be `filled`. Raises
    Refusal for a single row and for a step that nobody knows.
    """
    # 1. The order of the rows.
    stamps = moments.read.dropna()
    if len(stamps) < 2:
        raise Refusal("has a single row. Do: add some hundreds")
    ordered = _in_order(moments, stamps, problems)
    # 2. The step, and the rows that do not fit it.
    usual, unusual = inferred_step(ordered)
    step = usual if wanted is None else Step.parse(wanted)
    if step is None:
        raise Refusal(f"cannot have --step {str(wanted)[:40]!r}. Do: write it as 15min, 1h, 1D, 7D, 1M, 3M, 12M or 1B")
    odd = unusual if wanted is None else step.odd(ordered)
    follows = moments.read.shift().notna()[ordered.index].to_numpy()  # nothing is known after an unreadable stamp
    strides = np.diff(step.places(ordered), prepend=np.int64(0))
    # 3. Say what does not fit.
    gaps = odd & follows & (strides > step.size) & (strides % step.size == 0)
    others = odd & follows & ~gaps
    lost = int((strides[gaps] // step.size - 1).sum())
    if step != usual and odd.sum() > 10 * unusual.sum() and not (filled and gaps.any()):
        row = int(odd.argmax())
        text = f"is {_apart(step, ordered, strides, row)} after the row before, not {step.say()}"
        problems.add(counted(_rows(moments, ordered, odd), text, int(odd.sum())), step=str(usual))
        return step, ordered.iloc[:0]
    if others.any():
        _say_others(moments, ordered, step, strides, others, problems)
    fillable = lost <= max(len(stamps), 100)
    if lost and not (filled and fillable):
        _say_gaps(moments, ordered, step, strides, gaps, fillable, problems)
    few = int((odd & follows).sum()) + len(stamps) - len(ordered) + int((stamps.diff() < pd.Timedelta(0)).sum())
    moved = (stamps.diff() - step.length).abs().max() >= pd.Timedelta("30min")  # less, and no clock was changed
    if moved and 0 < few <= 3 + len(stamps) / 1000 and step.unit in SIZES and step.size < SIZES["D"]:
        problems.hint = ZONE_CHANGES
    return step, step.missing(ordered, np.flatnonzero(gaps & fillable))


def divides(cells: pd.Series, stamps: pd.Series) -> bool:
    """Return whether whole numbers count the parts of each stamp, in order, as the half hours of a day."""
    parts = cells.astype(float).groupby(stamps)  # a clock change may leave out a part
    return bool(parts.first().min() <= 1 and parts.diff().eq(1).mean() > 0.9 and DIVISIONS.intersection(parts.size()))


def often(stamps: pd.Series) -> str:
    """Return how many rows have a stamp that an earlier row has, and how often the commonest stamp is there."""
    repeated, most = int(stamps.duplicated().sum()), int(stamps.value_counts().iloc[0])
    whole = "all rows have this stamp" if most == len(stamps) else f"a stamp is there up to {most} times"
    return f"{repeated} such places" * (repeated > 1) + f", {whole}" * (most > 2)


def _in_order(moments: Moments, stamps: pd.Series, problems: Problems) -> pd.Series:
    """Return the stamps in order, each once; rows out of order and repeated stamps are problems."""
    steps, nothing = stamps.diff(), pd.Timedelta(0)
    back, same = steps < nothing, stamps.duplicated()
    if back.any():
        whole = ": the file is newest first" if (steps.iloc[1:] <= nothing).all() else ""
        text = counted(_rows(moments, stamps, back), f"is out of order{whole}", int(back.sum()))
        problems.add(text, "sort the rows by their stamps", first=True)
    if same.any():
        text = counted(_rows(moments, stamps, same), "is there twice", int(same.sum()), often(stamps))
        remedy = "keep one row of each stamp, or write date and time in one column"
        if stamps.duplicated(keep=False).mean() > 0.5:
            remedy = "write the whole stamp in one column (another column seems to be part of it)"
        problems.add(text, remedy, first=True)
    return stamps.sort_values(kind="stable").drop_duplicates()


def _say_others(
    moments: Moments, ordered: pd.Series, step: Step, strides: np.ndarray, others: np.ndarray, problems: Problems
) -> None:
    """Add the rows that are neither one step nor several after the row before."""
    weekend = (ordered.dt.day_of_week > 4).to_numpy() & (step.unit == "B")
    pattern = (strides == step.size) & (step.unit == "M")
    rows = others & weekend
    if rows.any():
        text = f"is a {ordered[rows].iloc[0]:%A}, and most rows are on business days alone"
        text = counted(_rows(moments, ordered, rows), text, rows.sum())
        problems.add(text, "delete the rows of weekends, or add the other weekends")
    rows = others & pattern
    if rows.any():
        text = "is on another day of the month than most (--step 1M accepts one row a month, whatever the day)"
        problems.add(counted(_rows(moments, ordered, rows), text, rows.sum()), step=str(step))
    rows = others & ~pattern & ~weekend & ~np.roll(weekend, 1)
    if rows.any():
        text = f"is {_apart(step, ordered, strides, int(rows.argmax()))} after the row before, step {step.say()}"
        text = counted(_rows(moments, ordered, rows), text, rows.sum())
        if rows.sum() > 3 + len(rows) / 20:
            text += "; a step that varies so is not supported, but for months and business days"
            problems.add(text, "average the rows over equal steps, as weeks or months")
        else:
            problems.add(text, "correct these stamps, or delete their rows")


def _say_gaps(
    moments: Moments,
    ordered: pd.Series,
    step: Step,
    strides: np.ndarray,
    gaps: np.ndarray,
    fillable: bool,
    problems: Problems,
) -> None:
    """Add the rows with others missing before them; `fillable` if these are not too many."""
    count, lost = int(gaps.sum()), int((strides[gaps] // step.size - 1).sum())
    more = f"{count} gap{'s' * (count > 1)}, {lost} row{'s' * (lost > 1)} missing"
    if step.unit == "B":
        days = [step.missing(ordered, np.array([row])).iloc[0] for row in np.flatnonzero(gaps)[:3]]
        text = counted([(f"{day:%Y-%m-%d (%A)}", "") for day in days], f"is missing, step {step.say()}", count, more)
    else:
        what = f"is {step.say(int(strides[gaps.argmax()]))} after the row before, step {step.say()}"
        text = counted(_rows(moments, ordered, gaps), what, count, more)
    if fillable:
        problems.add(text, "--fill linear", fill="previous")
    else:
        problems.add(f"{text}, more rows than there are", "cut the file, or average it over a longer step")


def _apart(step: Step, ordered: pd.Series, strides: np.ndarray, row: int) -> str:
    """Return the time between a row and the row before in words."""
    if step.unit != "M" or strides[row] <= 0:
        moments = ordered.to_numpy("M8[us]").astype(np.int64)
        return Step(1, "us").say(int(moments[row] - moments[row - 1]))
    return step.say(int(strides[row]))


def _rows(moments: Moments, stamps: pd.Series, wrong: pd.Series | np.ndarray) -> list[tuple[str, str]]:
    """Return the place and the stamp of the first three rows that are wrong."""
    found = [(line, moments.show(stamp)) for line, stamp in stamps[np.asarray(wrong)].iloc[:3].items()]
    return [(f"line {line}", stamp) if isinstance(line, int) else (stamp, "") for line, stamp in found]
