"""`python -m bench add-dataset`: a user's CSV -> a normalised copy below the data directory, and its card. No torch.

Nothing is repaired: no value is filled, no row moved. What the user does not decide is inferred:

- step: the most common difference between stamps; every other must equal it;
- season: by convention (`SEASONS`); for other steps the hour, day, week or year, in rows, at which the train part less
  its linear trends correlates most with itself (sum of products over the whole power, so that of equally good periods
  the shortest wins; mean over channels), and 1 where none reaches 0.1;
- split: shares 0.7, 0.1 and 0.2, as most papers cut;
- look-back and horizons: `LONG` where every part holds 96 windows of horizon 96, else `SHORT`, as papers ask of ILI;
  less the horizons of which a part holds no window.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench import suite
from bench.series import data_dir, file_of, load_series
from bench.spec import NAME, BenchError, DatasetCard, Source, nearest, parse

STAMP_NAMES = {"date", "time", "datetime", "timestamp", "ds", "utctimestamp", "datetimeutc", "timeutc", "dateutc"}
SEASONS = {"10min": 144, "15min": 96, "30min": 48, "1h": 24, "1D": 7, "7D": 52}
LONG, SHORT = (96, (96, 192, 336, 720)), (36, (24, 36, 48, 60))
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


@dataclass(frozen=True)
class Given:
    """What the user decides; None is inferred from the file."""

    name: str | None = None
    stamp: str | None = None
    step: str | None = None
    season: int | None = None
    split: tuple[float, float, float] | None = None
    horizons: tuple[int, ...] | None = None
    about: str | None = None


class _RefusalError(Exception):
    """What is wrong with the user's file and what to do, in the words that follow its path."""


def add_dataset(file: Path, given: Given) -> str:
    """Write copy and card, both or neither. Returns what was decided and why, where they are and what to type next.

    Raises BenchError, one line, for whatever keeps the file from being used.
    """
    said: dict[str, str] = {}
    place = _shown(str(file))
    try:
        card, content = _described(file, given, said)
        known = _known(card, given)
        _install(known or card, content, new=known is None)
    except _RefusalError as error:
        raise BenchError(f"{place}: {error}") from None
    except OSError as error:
        where = _shown(str(error.filename or file))
        raise BenchError(f"{where}: {error.strerror or error}; check the path, and who may read and write it") from None
    card = known or card
    said["card"] = f"{_card_path(card)}" + (" (there already, left as it is)" if known else "")
    said["data"] = str(file_of(card))
    return "\n".join([*(f"{label:<10} {text}" for label, text in said.items()), "", *_next_commands(card)])


def _described(file: Path, given: Given, said: dict[str, str]) -> tuple[DatasetCard, bytes]:
    """The card, and the bytes of the copy; what was decided goes into `said`."""
    name, place = _name(file, given.name), _shown(str(file))
    table, delimiter = _table(file.read_bytes(), said)
    moments = _moments(table, _stamp_column(table, given.stamp), said)
    step = _step(moments, given.step)
    said["step"] = f"{step}, between all rows"
    table = _channels(table.drop(columns=moments.name), said)
    values = _values(table, delimiter != ",", said)
    content = _copy(moments, table, values)
    fields: dict[str, Any] = {
        "name": name,
        "title": f"{name} (your own data)",
        "about": " ".join(_encodable(given.about).split()) or f"Series of {name}, one row every {step}",
        "license": "unknown: yours to say",
        "sha256": [hashlib.sha256(content).hexdigest()],
        "stamp": "date",
        "step": step,
        "rows": len(values),
        "channels": list(table),
        "season": SEASONS.get(step, 1) if given.season is None else given.season,
        "split": given.split or (0.7, 0.1, 0.2),
        "context": LONG[0],
        "horizons": given.horizons or LONG[1],
        "source": {"path": f"own/{name}.csv"},
    }
    fields |= _asked(parse(DatasetCard, fields, place), given.horizons, said)
    fields["season"] = _season(parse(DatasetCard, fields, place), values, given.season, said)
    fields["notes"] = f"From the file {_shown(file.name)}. " + "; ".join(f"{key}: {why}" for key, why in said.items())
    return parse(DatasetCard, fields, place), content


def _name(file: Path, wanted: str | None) -> str:
    """As given, or the file's own with what a name cannot hold replaced."""
    plain = re.sub(r"[^A-Za-z0-9-]+", "_", file.stem).strip("_-")
    inferred = plain if plain[:1].isalpha() or not plain else f"data_{plain}"
    name = inferred[:60] if wanted is None else wanted
    if not NAME.fullmatch(name) or len(name) > 60:
        rule = "at most 60 letters, digits, '_' or '-', beginning with a letter"
        raise _RefusalError(f"cannot be called {name[:60]!r}; choose a name by --name: {rule}")
    return name


def _table(content: bytes, said: dict[str, str]) -> tuple[pd.DataFrame, str]:
    """Cells as text, the index their lines in the file, nameless columns called as pandas does; and the delimiter."""
    text, encoding = _text(content)
    delimiter = _delimiter(text)
    said["file"] = f"{encoding}, delimiter {delimiter!r}"
    records = list(_records(text, delimiter))
    if len(records) < 2:
        raise _RefusalError(f"has {len(records)} rows; it needs one of column names, and one for each time step")
    (_, header), *rows = records
    if any(_begins(name, epochs=False) for name in header) or all(map(NUMBER.fullmatch, header)):
        raise _RefusalError("has no names in its first row but data; put a row of column names before it")
    for line, cells in rows:
        if len(cells) != len(header):
            counts = f"{len(cells)} cells between {delimiter!r}, the first row has {len(header)}"
            raise _RefusalError(
                f"line {line}: {counts}; give each row as many, and quote cells that hold {delimiter!r}"
            )
    names = [name or f"Unnamed: {place}" for place, name in enumerate(header)]
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise _RefusalError(f"has {names.count(twice[0])} columns called {twice[0][:40]!r}; rename all but one")
    lines = [line for line, _ in rows]
    return pd.DataFrame([cells for _, cells in rows], index=lines, columns=names, dtype=object), delimiter


def _text(content: bytes) -> tuple[str, str]:
    """The text and its encoding."""
    for encoding in next(likely for mark, likely in ENCODINGS.items() if content.startswith(mark)):
        with suppress(UnicodeDecodeError):
            text = content.decode(encoding)
            if "\0" not in text:
                return text, encoding
    raise _RefusalError("is no text file (packed, a workbook, or damaged); export it as CSV in UTF-8")


def _delimiter(text: str) -> str:
    """What cuts the first rows into equally many cells, more than one; the comma last, as it may be a decimal one."""
    for delimiter in ";\t|":
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
        raise _RefusalError(f"line {reader.line_num}: {error}; look for a double quote that is never closed") from None


def _stamp_column(table: pd.DataFrame, wanted: str | None) -> str:
    """As given; else the first called like stamps that begins like one, then any that does, then any called so."""
    if wanted is not None:
        if wanted not in table:
            known = [_shown(name) for name in table][:20]
            raise _RefusalError(f"has no column {wanted!r} for --stamp; {nearest(wanted, known)}")
        return wanted
    usual = [name for name in table if re.sub(r"[\W_]", "", name.casefold()) in STAMP_NAMES]
    found = [name for name in usual if _begins(table[name].iloc[0])]
    for epochs in (False, True):
        found += [name for name in table if _begins(table[name].iloc[0], epochs)]
    found += usual
    if not found:
        raise _RefusalError("has no column of stamps; write them as 2020-12-31 23:00:00, below a first row of names")
    return found[0]


def _begins(cell: str, epochs: bool = True) -> bool:
    """Whether a cell looks like a stamp; a count since 1970 only where such are meant too."""
    return any(re.match(pattern, cell) for layout, (pattern, _) in LAYOUTS.items() if epochs or "epoch" not in layout)


def _moments(table: pd.DataFrame, column: str, said: dict[str, str]) -> pd.Series:
    """The stamps, in UTC where they say so, from the one layout that reads them all; its name is the column's."""
    cells = table[column]
    readings = {layout: _read(cells, layout) for layout in LAYOUTS}
    whole = [layout for layout, moments in readings.items() if moments.notna().all()]
    if not whole:
        best = max(readings.values(), key=pd.Series.count)
        rest = "is no time stamp, or not written like the others; write them as 2020-12-31 23:00:00"
        raise _RefusalError(f"{_at(cells, best.isna())} {rest}, or name another column by --stamp")
    if len(whole) > 1:
        raise _RefusalError(f"{_at(cells)} may be day or month first, as all others; write stamps as 2020-12-31")
    zoned = cells.str.contains(r"[ T].*(?:Z|UTC|GMT|[+-][0-9:]{2,5})$")
    if zoned.nunique() > 1:
        odd = _at(cells, zoned != zoned.iloc[0])
        raise _RefusalError(f"{odd} and the first stamp: one has a time zone, the other none; write all in UTC")
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


def _step(moments: pd.Series, wanted: str | None) -> str:
    """The time between rows as cards write it, once it is the same between all of them."""
    if wanted is not None and not re.fullmatch(r"[1-9][0-9]{0,4}(s|min|h|D)", wanted):
        raise _RefusalError(f"cannot have --step {wanted!r}; write it as 15min, 1h, 1D or 7D")
    steps = moments.diff().iloc[1:]
    if steps.empty:
        raise _RefusalError("has a single row; add some hundreds")
    common = pd.Timedelta(wanted) if wanted else steps.mode()[0]
    months = (moments.dt.year * 12 + moments.dt.month).diff().iloc[1:]
    if steps.nunique() > 1 and steps.min() >= pd.Timedelta("28D") and months.nunique() == 1:
        raise _RefusalError("has rows by calendar months, which differ in length; make them weekly or daily")
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
        raise _RefusalError(f"{at} {what}; {remedy} ({CLOCKS})")
    seconds = common.total_seconds()
    for unit, size in UNITS.items():
        if seconds % size == 0:
            return f"{int(seconds) // size}{unit}"
    raise _RefusalError(f"has steps of {seconds:g} seconds, cards know whole ones; average its rows")


def _channels(table: pd.DataFrame, said: dict[str, str]) -> pd.DataFrame:
    """Without nameless columns that are empty or count the rows; every other has a name that can be kept."""
    for place, name in enumerate(table):
        if re.fullmatch(r"Unnamed: [0-9]+", name):
            counts = (pd.to_numeric(table[name], errors="coerce").diff().iloc[1:] == 1).all()
            if table[name].any() and not counts:
                raise _RefusalError(f"has no name for its channel {place + 1}; write one in the first row")
            said["left out"] = "nameless columns that are empty or count the rows"
            table = table.drop(columns=name)
    if "unique_id" in table:
        raise _RefusalError("has a column 'unique_id' (Nixtla's long layout); give each series a column, or rename it")
    if "date" in table:
        raise _RefusalError("has a column 'date' besides its stamps; rename it, or take it for them by --stamp")
    if table.empty:
        raise _RefusalError("has no column but its stamps; add one of numbers")
    return table


def _values(table: pd.DataFrame, may_have_commas: bool, said: dict[str, str]) -> np.ndarray:
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
            raise _RefusalError(f"{_at(table[name], bad)} {what}; {remedy}")
    with np.errstate(over="ignore", invalid="ignore"):
        too_large = ~np.isfinite(values.std(axis=0))
    if too_large.any():
        raise _RefusalError(f"has too large numbers in {_listed(table.columns[too_large])}; take another unit")
    still = table.columns[np.ptp(values, axis=0) == 0]
    if len(still) == table.shape[1]:
        raise _RefusalError("has no channel that ever changes; add one")
    if len(still):
        said["warning"] = f"constant throughout: {_listed(still)}"
    said["size"] = f"{len(values)} rows x {table.shape[1]} channels"
    return values


def _copy(moments: pd.Series, table: pd.DataFrame, values: np.ndarray) -> bytes:
    """UTF-8, commas, `date` first; floats as Python prints them, so that none loses a digit."""
    stamps = moments.dt.strftime("%Y-%m-%d %H:%M:%S" + (".%f" if moments.dt.microsecond.any() else ""))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["date", *table])
    writer.writerows([stamp, *row] for stamp, row in zip(stamps, values.tolist(), strict=True))
    return text.getvalue().encode()


def _asked(card: DatasetCard, wanted: tuple[int, ...] | None, said: dict[str, str]) -> dict[str, Any]:
    """Look-back and horizons that every part can hold."""
    long = _longest(card, LONG[0]) >= 2 * LONG[0] - 1
    context, usual = LONG if long else SHORT
    longest = _longest(card, context)
    horizons = tuple(horizon for horizon in wanted or usual if horizon <= longest)
    train, val, test = (last - first for first, last in card.bounds().values())
    parts = f"train {train}, val {val}, test {test} rows"
    if not horizons or len(horizons) < len(wanted or ()):
        least = max(wanted) if wanted else min(usual)
        remedy = f"--horizons (at most {longest})" if longest > 0 else "--split"
        raise _RefusalError(
            f"has too few rows: {parts} hold no window of look-back {context} and horizon {least}; add rows, or change "
            + remedy
        )
    said["split"] = f"{' '.join(f'{share:g}' for share in card.split)}: {parts}"
    why = "every part holds" if long else "as for short series: a part does not hold"
    said["look-back"] = f"{context} ({why} {LONG[0]} windows of look-back and horizon {LONG[0]})"
    cut = f" (of {' '.join(map(str, usual))}: a part holds no window of the others)"
    said["horizons"] = " ".join(map(str, horizons)) + (cut if not wanted and horizons != usual else "")
    return {"context": context, "horizons": horizons}


def _longest(card: DatasetCard, context: int) -> int:
    """The longest horizon of which every part holds a window."""
    train, val, test = (last - first for first, last in card.bounds().values())
    return min(train - context, val, test)


def _season(card: DatasetCard, values: np.ndarray, wanted: int | None, said: dict[str, str]) -> int:
    """As given, by convention, or as found in the train part (see above); notes what does not change there."""
    train = values[slice(*card.bounds()["train"])]
    moves = np.ptp(train, axis=0) > 0
    names = card.channels if isinstance(card.channels, tuple) else ()
    if late := [name for name, here, ever in zip(names, moves, np.ptp(values, axis=0) > 0, strict=True) if ever > here]:
        said["caution"] = f"constant over the train part, hence only centred: {_listed(late)}"
    season, why = card.season, "as given" if wanted else f"usual for steps of {card.step}"
    if not wanted and card.step not in SEASONS:
        season, why = _strongest_period(train[:, moves], pd.Timedelta(card.step)), "as the train part correlates"
    said["season"] = f"{season} rows ({why})"
    if season > card.context:
        said["season"] += ", longer than the look-back: the seasonal naive forecast repeats the last value"
    return season


def _strongest_period(train: np.ndarray, step: pd.Timedelta) -> int:
    """In rows; 1 where none shows. A period counts that is whole in rows (a year: nearly) and fits twice."""
    lengths = [pd.Timedelta(period) / step for period in ("1h", "1D", "7D", "365.25D")]
    lags = [round(rows) for rows in lengths if 2 <= rows <= len(train) / 2 and abs(rows - round(rows)) < 0.02 * rows]
    if not (lags and train.size):
        return 1
    time = np.linspace(-1, 1, len(train))
    scaled = train / np.abs(train).max(axis=0)
    rest = scaled - np.stack([time, np.ones_like(time)], axis=1) @ np.polyfit(time, scaled, 1)
    power = np.maximum((rest**2).sum(axis=0), 1e-20)
    similar = {lag: float(((rest[lag:] * rest[:-lag]).sum(axis=0) / power).mean()) for lag in lags}
    best = max(lags, key=similar.__getitem__)
    return best if similar[best] >= 0.1 else 1


def _known(card: DatasetCard, given: Given) -> DatasetCard | None:
    """The card of this very content under this name, if there is one. Another card of the name is in the way."""
    for known in suite.cards().values():
        if known.name.casefold() == card.name.casefold():
            if card.sha256[0] not in known.sha256:
                raise _RefusalError(
                    f"would become {card.name}, but {known.name} holds other data; choose another --name"
                )
            for field in ("about", "step", "season", "split", "horizons"):
                if getattr(given, field) is not None and getattr(known, field) != getattr(card, field):
                    raise _RefusalError(
                        f"is there as {known.name} with {field} {getattr(known, field)}; edit {_card_path(known)}"
                    )
            return known
    return None


def _card_path(card: DatasetCard) -> Path:
    return suite.CARDS / f"{card.name}.toml"


def _install(card: DatasetCard, content: bytes, new: bool) -> None:
    """Put the copy and, if new, the card in place once both are written and read back; the card last."""
    data, toml = file_of(card), _card_path(card)
    if data.exists():
        if hashlib.sha256(data.read_bytes()).hexdigest() not in card.sha256:
            raise _RefusalError(
                f"is to be copied to {data}, which holds other data; delete that, or choose another --name"
            )
        if not new:
            return
    draft, toml_draft = (path.with_name(f".{card.name}-{os.getpid()}.tmp") for path in (data, toml))
    with ExitStack() as undo:
        for folder in (*reversed(data.parent.parents), data.parent):
            if not folder.exists():
                folder.mkdir()
                undo.callback(folder.rmdir)
        undo.callback(draft.unlink, missing_ok=True)
        draft.write_bytes(content)
        load_series(card.model_copy(update={"source": Source(path=str(draft.relative_to(data_dir())))}))
        if not data.exists():
            undo.callback(data.unlink, missing_ok=True)
        if new:
            undo.callback(toml_draft.unlink, missing_ok=True)
            toml_draft.write_bytes(_toml(card).encode())
            if parse(DatasetCard, tomllib.loads(toml_draft.read_bytes().decode()), str(toml)) != card:
                raise _RefusalError("has names that a card cannot hold; rename its columns")
        draft.replace(data)
        if new:
            toml_draft.replace(toml)
        undo.pop_all()
    suite.cards.cache_clear()


def _toml(card: DatasetCard) -> str:
    """JSON's strings, numbers and lists are TOML's, but for the character DEL."""
    fields = card.model_dump(mode="json", exclude={"source"}) | {"path": card.source.path}
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
    return "\n".join([*lines[:-1], "", "[source]", lines[-1], ""]).replace("\x7f", "\\u007f")


def _next_commands(card: DatasetCard) -> list[str]:
    """Run and report; under the horizons of `quick` that the parts can hold, or under the card's own."""
    wanted = tomllib.loads((suite.SUITES / "quick.toml").read_text(encoding="utf-8"))["horizons"]
    fitting = [str(horizon) for horizon in wanted if horizon <= _longest(card, card.context)]
    words = f"--suite {'quick' if fitting else 'paper'} {{}}--datasets {card.name} --models dlinear"
    if fitting and len(fitting) < len(wanted):
        words += " --horizons " + " ".join(fitting)
    return [f"python -m bench run {words.format('')}", f"python -m bench.report {words.format('--table main ')}"]


def _at(cells: pd.Series, wrong: pd.Series | np.ndarray | None = None) -> str:
    """Line, column and text of the first cell that is wrong; of the first cell where none is said to be."""
    row = 0 if wrong is None else int(np.asarray(wrong).argmax())
    return f"line {cells.index[row]}, column {str(cells.name)[:40]!r}: {cells.iloc[row][:40]!r}"


def _encodable(about: str | None) -> str:
    try:
        return (about or "").encode().decode()
    except UnicodeEncodeError:
        raise _RefusalError("cannot have --about that is no valid text; write it in UTF-8") from None


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(repr(name[:40]) for name in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _shown(text: str) -> str:
    """Printable, in one line, whatever a file is called."""
    return repr(text)[1:-1]
