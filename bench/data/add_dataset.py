"""`python -m bench add-dataset`: make a card and a normalised copy of a user's CSV file. No torch.

The file is examined to its end, and all that is wrong with it is said at once. Nothing is filled, dropped or laid out
otherwise but by an option; what was filled stands in the card. What the user does not choose is inferred:

- step: the most common one of fixed times, business days and months; all rows must follow it;
- season: by convention (`SEASONS`); for other steps the second, minute, hour, day, week or year, in rows, at which the
  detrended train part has the highest mean autocorrelation over channels (the shortest period of equals), and 1 where
  none reaches 0.1;
- split: shares 0.7, 0.1 and 0.2, as in most papers;
- look-back and horizons: `LONG` where every part holds 96 windows of horizon 96, else `SHORT`, as papers use for ILI;
  less the horizons of which a part holds no window.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
import unicodedata
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd

from bench.core.base import NAME, BenchError, parse, read_regular
from bench.core.card import DatasetCard, card_path, cards, longest_horizon
from bench.core.system import write_whole
from bench.core.text import printable
from bench.data.channels import (
    columns_kept,
    decimal_sign,
    filled,
    id_columns,
    numbers_of,
    resolved,
    side_by_side,
    verify_channels,
)
from bench.data.csv_file import read_table
from bench.data.problems import Given, Problems, Refusal, counted, listed
from bench.data.series import file_of, load_series
from bench.data.stamps import Moments, completed, joined, moments_of, often, stamp_columns, step_of
from bench.data.steps import SEASONS, SIZES, Step

LONG, SHORT = (96, (96, 192, 336, 720)), (36, (24, 36, 48, 60))
"""Look-back and horizons."""


def add_dataset(file: Path, given: Given) -> tuple[str, DatasetCard]:
    """Write the copy and the card, or raise BenchError and write neither; return what was decided, and the card."""
    notes: dict[str, str] = {}
    place = printable(str(file))
    try:
        card, content = _described(file, given, notes)
        existing = _existing(card, given)
        _install(existing or card, content, new=existing is None)
    except Refusal as error:
        raise BenchError(f"{place}: {error}") from None
    except UnicodeEncodeError:  # names in the file were decoded, so they can be encoded
        raise BenchError(f"{place}: cannot have --about that is no valid text. Do: write it in UTF-8") from None
    except OSError as error:
        path, cause = printable(str(error.filename or file)), error.strerror or error
        raise BenchError(f"{path}: {cause}. Do: check the path, and who may read and write it") from None
    card = existing or card
    notes["card"] = f"{card_path(card.name)}" + (" (there already, unchanged)" if existing else "")
    notes["data"] = str(file_of(card))
    if same := [each.name for each in cards().values() if each.sha256 == card.sha256 and each.name != card.name]:
        notes["the same"] = f"data as {listed(same)}: tables count each as a data set of its own"
    return "\n".join(f"{label:<10} {text}" for label, text in notes.items()), card


def _described(file: Path, given: Given, notes: dict[str, str]) -> tuple[DatasetCard, bytes]:
    """Return the card and the bytes of the copy; `notes` gets what was decided."""
    # 1. Read stamps and values; gather all that is wrong before saying it.
    name = _name(file, given.name)
    problems = Problems()
    card = None
    try:
        values, step, repaired = examined(file, given, problems, notes)
        if len(values) and len(values.columns):
            card = _card(name, given, values, step, repaired, printable(str(file)))
            card = _with_horizons(card, given.horizons, notes)
    except Refusal as refusal:
        if not problems.found:
            raise
        cause, _, remedy = str(refusal).rpartition(". Do: ")
        problems.add(cause, remedy)
    if problems.found or card is None:
        raise Refusal(problems.text(given.command(file, problems.options)))
    # 2. Write the copy, and fill in what depends on it.
    stamps = pd.DatetimeIndex(values.index)
    form = "%Y-%m-%d %H:%M:%S" + (".%f" if stamps.microsecond.any() else "")
    content = values.to_csv(date_format=form, lineterminator="\n").encode()  # floats keep every digit
    season = _season(card, values.to_numpy(dtype=np.float64), step, given.season, notes)
    origin = f"From the file {printable(file.name)}. " + "; ".join(f"{key}: {why}" for key, why in notes.items())
    changes = {"season": season, "notes": origin, "sha256": (hashlib.sha256(content).hexdigest(),)}
    return card.model_copy(update=changes), content


def _card(name: str, given: Given, values: pd.DataFrame, step: Step, repaired: str, place: str) -> DatasetCard:
    """Return a card with the user's choices and usual values, but no hash of a file yet."""
    every = str(step) if step.unit in SIZES else step.say()
    fields = {
        "name": name,
        "title": f"{name} (your own data)",
        "about": " ".join((given.about or "").split()) or f"Series of {name}, one row every {every}",
        "license": "unknown: yours to say",
        "sha256": ["0" * 64],
        "stamp": "date",
        "step": str(step),
        "rows": len(values),
        "channels": list(values),
        "season": SEASONS.get(str(step), 1) if given.season is None else given.season,
        "split": given.split or (0.7, 0.1, 0.2),
        "context": LONG[0],
        "horizons": given.horizons or LONG[1],
        "repaired": repaired,
        "source": {"path": f"own/{name}.csv"},
    }
    return parse(DatasetCard, fields, place)


def examined(file: Path, given: Given, problems: Problems, notes: dict[str, str]) -> tuple[pd.DataFrame, Step, str]:
    """Return the values by stamp, the step, and what was filled in words; `problems` gets all that is wrong."""
    # 1. Cells, and their stamps.
    table, delimiter = read_table(read_regular(file), problems, notes)
    columns = stamp_columns(table, given.stamps)
    columns, moments, series = _laid_out(table, columns, given.long, problems, notes)
    # 2. Numbers, a column for each series.
    cells = table[series].itertuples(index=False, name=None)
    ids = pd.Series(map("/".join, cells), table.index, name=" and ".join(series)) if series else None
    names = list(dict.fromkeys(ids)) if ids is not None else []
    table = table.drop(columns=[*columns, *series])
    decimal = decimal_sign(table, delimiter)
    choice = resolved(given, table, names)
    values = numbers_of(columns_kept(table, choice, names, notes), decimal, choice, problems, notes)
    if given.long and not series:
        raise Refusal("has no column that names series for --long. Do: call it unique_id")
    if moments and ids is not None and len(values.columns):
        columns_of = f"column{'s' * (len(series) > 1)} {listed(series)}"
        if not given.long:
            text = f"has a row for each of {len(names)} values of {columns_of} and each stamp (long layout)"
            problems.add(text, first=True, long=True)
        notes["layout"] = f"long, series named by {columns_of}"
        values, moments = side_by_side(values, moments, ids, choice, problems)
    # 3. Rows one step apart, and nothing missing.
    verify_channels(values, problems, notes)
    if moments is None:
        return values, Step(1, "D"), ""
    step, missing = step_of(moments, given.step, given.fill is not None, problems)
    notes["step"] = f"{step} ({step.say()}), between all rows"
    values, repaired = filled(values, moments.read, missing, choice, problems)
    notes["size"] = f"{len(values)} rows x {values.shape[1]} channels"
    if repaired:
        notes["filled"] = repaired
    return values, step, repaired


def _laid_out(
    table: pd.DataFrame, columns: list[str], long: bool, problems: Problems, notes: dict[str, str]
) -> tuple[list[str], Moments | None, list[str]]:
    """Return the columns of stamps, the stamps, and the columns that name the series of a long layout.

    Where stamps are repeated and no column tells their rows apart, those are added that complete them: a problem.
    """
    moments = moments_of(joined(table, columns), " ".join(columns), problems, notes)
    repeated = moments.read.duplicated() if moments else pd.Series(False)
    parts = completed(table, columns) if repeated.any() else {}
    both = [*columns, *parts]
    others = table.drop(columns=both)
    series = id_columns(others, moments, long, sure=bool(parts)) if moments else []
    if moments is None or series or not parts:
        return columns, moments, series
    found = moments_of(joined(table, both), " ".join(both), Problems(), dict(notes))
    series = id_columns(others, found, long, sure=False) if found else []
    if found is None or (found.read.duplicated().sum() > repeated.sum() / 2 and not series):
        return columns, moments, []
    line = int(repeated.idxmax())
    shown = [(f"line {line}", moments.show(moments.read[line]))]
    text = f"is there twice; keep one, or join the {', '.join(parts.values())} to it from column {listed(parts)}"
    problems.add(counted(shown, text, more=often(moments.read)), first=True, stamp=both)
    return both, found, series


def _name(file: Path, wanted: str | None) -> str:
    """Return the wanted name, else the file's without accents, `_` for other characters that a name cannot hold."""
    letters = re.sub("[\u0300-\u036f]", "", unicodedata.normalize("NFKD", file.stem))
    plain = re.sub(r"[^A-Za-z0-9-]+", "_", letters).strip("_-")
    inferred = plain if plain[:1].isalpha() or not plain else f"data_{plain}"
    name = inferred[:60] if wanted is None else wanted
    if not NAME.fullmatch(name) or len(name) > 60:
        rule = "at most 60 letters, digits, '_' or '-', beginning with a letter"
        raise Refusal(f"cannot be called {name[:60]!r}. Do: choose a name by --name: {rule}")
    return name


def _with_horizons(card: DatasetCard, wanted: Sequence[int] | None, notes: dict[str, str]) -> DatasetCard:
    """Return the card with a look-back and horizons of which every part holds windows."""
    long = longest_horizon(card, LONG[0]) >= 2 * LONG[0] - 1
    context, usual = LONG if long else SHORT
    longest = longest_horizon(card, context)
    horizons = tuple(horizon for horizon in dict.fromkeys(wanted or usual) if horizon <= longest)
    train, val, test = (last - first for first, last in card.bounds().values())
    parts = f"train {train}, val {val}, test {test} rows"
    if not horizons or len(horizons) < len(set(wanted or ())):
        window = f"look-back {context} and horizon {max(wanted) if wanted else min(usual)}"
        possible = (card.rows - context) // 3  # the longest horizon under any split
        other = f", or take --horizons {possible} --split {card.rows - 2 * possible} {possible} {possible}"
        remedy = f", or change --horizons (at most {longest})" if longest > 0 else other * (possible > 0)
        raise Refusal(f"has too few rows: {parts} hold no window of {window}. Do: add rows{remedy}")
    notes["split"] = f"{' '.join(f'{share:g}' for share in card.split)}: {parts}"
    why = "every part holds" if long else "as for short series: a part does not hold"
    notes["look-back"] = f"{context} ({why} {LONG[0]} windows of look-back and horizon {LONG[0]})"
    cut = f" (of {' '.join(map(str, usual))}: a part holds no window of the others)"
    notes["horizons"] = " ".join(map(str, horizons)) + (cut if not wanted and horizons != usual else "")
    return card.model_copy(update={"context": context, "horizons": horizons})


def _season(card: DatasetCard, values: np.ndarray, step: Step, wanted: int | None, notes: dict[str, str]) -> int:
    """Return the season in rows: as wanted, by convention, or from the train part."""
    train = values[slice(*card.bounds()["train"])]
    moves = np.ptp(train, axis=0) > 0
    late = np.flatnonzero((np.ptp(values, axis=0) > 0) & ~moves)
    if len(late) and isinstance(card.channels, tuple):
        names = listed(card.channels[channel] for channel in late)
        notes["caution"] = f"constant over the train part, hence only centred: {names}"
    season, why = card.season, "as given" if wanted else f"usual for steps of {card.step}"
    if not wanted and card.step not in SEASONS:
        season, why = _strongest_period(train[:, moves], step.length), "as the train part correlates"
    notes["season"] = f"{season} rows ({why})"
    if season > card.context:
        longest = min(longest_horizon(card, season), max(card.horizons))
        reads = f"seasonal naive reads that far back, up to horizon {longest}"
        beyond = "seasonal naive repeats the last value, as the rows hold no window of a season"
        notes["season"] += f", longer than the look-back: {reads if longest >= min(card.horizons) else beyond}"
    return season


def _strongest_period(train: np.ndarray, step: pd.Timedelta) -> int:
    """Return the period in rows, 1 for none; candidates are whole in rows (a year: nearly) and fit twice."""
    from scipy.signal import detrend  # its import takes a second

    lengths = [pd.Timedelta(period) / step for period in ("1s", "1min", "1h", "1D", "7D", "365.25D")]
    lags = [round(rows) for rows in lengths if 2 <= rows <= len(train) / 2 and abs(rows - round(rows)) < 0.02 * rows]
    if not (lags and train.size):
        return 1
    rest = detrend(train / np.abs(train).max(axis=0), axis=0)
    power = np.maximum((rest**2).sum(axis=0), 1e-20)
    similar = {lag: float(((rest[lag:] * rest[:-lag]).sum(axis=0) / power).mean()) for lag in lags}
    best = max(lags, key=similar.__getitem__)
    return best if similar[best] >= 0.1 else 1


def _existing(card: DatasetCard, given: Given) -> DatasetCard | None:
    """Return the card of the same name and content, if there is one. Raises Refusal for another card of the name."""
    existing = next((each for each in cards().values() if each.name.casefold() == card.name.casefold()), None)
    if existing is None:
        return None
    if card.sha256[0] not in existing.sha256:
        raise Refusal(f"would become {card.name}, but {existing.name} holds other data. Do: choose another --name")
    for field in ("about", "step", "season", "split", "horizons"):
        if getattr(given, field) is not None and getattr(existing, field) != getattr(card, field):
            found = f"is there as {existing.name} with {field} {getattr(existing, field)}"
            raise Refusal(f"{found}. Do: edit {card_path(existing.name)}")
    return existing


def _install(card: DatasetCard, content: bytes, new: bool) -> None:
    """Write the copy and, if new, the card; the card last, once the copy loads. On any error, remove both."""
    data, toml = file_of(card), card_path(card.name)
    text = _toml(card).encode()
    if data.exists() and hashlib.sha256(read_regular(data)).hexdigest() not in card.sha256:
        raise Refusal(f"is to be copied to {data}, which holds other data. Do: delete it, or choose another --name")
    if new and parse(DatasetCard, tomllib.loads(text.decode()), str(toml)) != card:
        raise Refusal("has names that a card cannot hold. Do: rename its columns")
    with ExitStack() as undo:
        for folder in sorted({*data.parents, *toml.parents}):  # a parent sorts before its children
            if not folder.exists():
                folder.mkdir()
                undo.callback(folder.rmdir)
        if not data.exists():
            undo.callback(data.unlink, missing_ok=True)
            write_whole(data, content)
        load_series(card)
        if new:
            write_whole(toml, text)
        undo.pop_all()
    cards.cache_clear()


def _toml(card: DatasetCard) -> str:
    """Return the card as TOML; strings, numbers and lists are written as in JSON, except for the character DEL."""
    fields = card.model_dump(mode="json", exclude={"source"}) | {"path": card.source.path}
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
    return "\n".join([*lines[:-1], "", "[source]", lines[-1], ""]).replace("\x7f", "\\u007f")
