"""`python -m bench add-dataset`: make a card and a normalised copy of a user's CSV file. No torch.

No value is filled and no row moved. What the user does not choose is inferred:

- step: the most common difference between stamps; all others must equal it;
- season: by convention (`SEASONS`); for other steps the hour, day, week or year, in rows, at which the detrended train
  part has the highest mean autocorrelation over channels (the shortest period of equals), and 1 where none reaches 0.1;
- split: shares 0.7, 0.1 and 0.2, as in most papers;
- look-back and horizons: `LONG` where every part holds 96 windows of horizon 96, else `SHORT`, as papers use for ILI;
  less the horizons of which a part holds no window.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bench.core.base import NAME, BenchError, parse
from bench.core.card import DatasetCard, card_path, cards, longest_horizon
from bench.core.system import write_whole
from bench.data.csv_file import (
    Refusal,
    channels_of,
    listed,
    moments_of,
    printable,
    read_table,
    stamp_column,
    step_of,
    values_of,
)
from bench.data.series import file_of, load_series

SEASONS = {"10min": 144, "15min": 96, "30min": 48, "1h": 24, "1D": 7, "7D": 52}
"""Step -> rows of a season."""
LONG, SHORT = (96, (96, 192, 336, 720)), (36, (24, 36, 48, 60))
"""Look-back and horizons."""


@dataclass(frozen=True)
class Given:
    """The user's choices; None is inferred from the file."""

    name: str | None = None
    stamp: str | None = None
    step: str | None = None
    season: int | None = None
    split: Sequence[float] | None = None
    horizons: Sequence[int] | None = None
    about: str | None = None


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
    return "\n".join(f"{label:<10} {text}" for label, text in notes.items()), card


def _described(file: Path, given: Given, notes: dict[str, str]) -> tuple[DatasetCard, bytes]:
    """Return the card and the bytes of the copy; `notes` gets what was decided."""
    # 1. Read stamps and values.
    name = _name(file, given.name)
    table, delimiter = read_table(file.read_bytes(), notes)
    moments = moments_of(table, stamp_column(table, given.stamp), notes)
    step = step_of(moments, given.step)
    notes["step"] = f"{step}, between all rows"
    table = channels_of(table.drop(columns=moments.name), notes)
    values = values_of(table, delimiter != ",", notes)
    copy = pd.DataFrame(values, columns=list(table), index=pd.Index(moments, name="date"))
    form = "%Y-%m-%d %H:%M:%S" + (".%f" if moments.dt.microsecond.any() else "")
    content = copy.to_csv(date_format=form, lineterminator="\n").encode()  # floats keep every digit
    # 2. Fill in the card.
    fields = {
        "name": name,
        "title": f"{name} (your own data)",
        "about": " ".join((given.about or "").split()) or f"Series of {name}, one row every {step}",
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
    card = parse(DatasetCard, fields, printable(str(file)))
    # 3. Fit look-back, horizons and season to the data.
    card = _with_horizons(card, given.horizons, notes)
    season = _season(card, values, given.season, notes)
    origin = f"From the file {printable(file.name)}. " + "; ".join(f"{key}: {why}" for key, why in notes.items())
    return card.model_copy(update={"season": season, "notes": origin}), content


def _name(file: Path, wanted: str | None) -> str:
    """Return the wanted name, else the file's with `_` for characters that a name cannot hold."""
    plain = re.sub(r"[^A-Za-z0-9-]+", "_", file.stem).strip("_-")
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
    horizons = tuple(horizon for horizon in wanted or usual if horizon <= longest)
    train, val, test = (last - first for first, last in card.bounds().values())
    parts = f"train {train}, val {val}, test {test} rows"
    if not horizons or len(horizons) < len(wanted or ()):
        window = f"look-back {context} and horizon {max(wanted) if wanted else min(usual)}"
        remedy = f"--horizons (at most {longest})" if longest > 0 else "--split"
        raise Refusal(f"has too few rows: {parts} hold no window of {window}. Do: add rows, or change {remedy}")
    notes["split"] = f"{' '.join(f'{share:g}' for share in card.split)}: {parts}"
    why = "every part holds" if long else "as for short series: a part does not hold"
    notes["look-back"] = f"{context} ({why} {LONG[0]} windows of look-back and horizon {LONG[0]})"
    cut = f" (of {' '.join(map(str, usual))}: a part holds no window of the others)"
    notes["horizons"] = " ".join(map(str, horizons)) + (cut if not wanted and horizons != usual else "")
    return card.model_copy(update={"context": context, "horizons": horizons})


def _season(card: DatasetCard, values: np.ndarray, wanted: int | None, notes: dict[str, str]) -> int:
    """Return the season in rows: as wanted, by convention, or from the train part."""
    train = values[slice(*card.bounds()["train"])]
    moves = np.ptp(train, axis=0) > 0
    late = np.flatnonzero((np.ptp(values, axis=0) > 0) & ~moves)
    if len(late) and isinstance(card.channels, tuple):
        names = listed(card.channels[channel] for channel in late)
        notes["caution"] = f"constant over the train part, hence only centred: {names}"
    season, why = card.season, "as given" if wanted else f"usual for steps of {card.step}"
    if not wanted and card.step not in SEASONS:
        season, why = _strongest_period(train[:, moves], pd.Timedelta(card.step)), "as the train part correlates"
    notes["season"] = f"{season} rows ({why})"
    if season > card.context:
        notes["season"] += ", longer than the look-back: the seasonal naive forecast repeats the last value"
    return season


def _strongest_period(train: np.ndarray, step: pd.Timedelta) -> int:
    """Return the period in rows, 1 for none; candidates are whole in rows (a year: nearly) and fit twice."""
    from scipy.signal import detrend  # its import takes a second

    lengths = [pd.Timedelta(period) / step for period in ("1h", "1D", "7D", "365.25D")]
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
    if data.exists() and hashlib.sha256(data.read_bytes()).hexdigest() not in card.sha256:
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
