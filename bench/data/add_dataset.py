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

import csv
import hashlib
import io
import json
import os
import re
import tomllib
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.core.base import NAME, BenchError, parse
from bench.core.card import DatasetCard, Source, card_path, cards, longest_horizon
from bench.data.csv_file import (
    Refusal,
    channels_of,
    listed,
    moments_of,
    read_table,
    shown,
    stamp_column,
    step_of,
    values_of,
)
from bench.data.series import data_dir, file_of, load_series

SEASONS = {"10min": 144, "15min": 96, "30min": 48, "1h": 24, "1D": 7, "7D": 52}
LONG, SHORT = (96, (96, 192, 336, 720)), (36, (24, 36, 48, 60))


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


def add_dataset(file: Path, given: Given) -> tuple[str, DatasetCard]:
    """Write copy and card, both or neither. Returns what was decided and why, where they are; and the card.

    Raises BenchError, one line, for whatever keeps the file from being used.
    """
    said: dict[str, str] = {}
    place = shown(str(file))
    try:
        card, content = _described(file, given, said)
        known = _known(card, given)
        _install(known or card, content, new=known is None)
    except Refusal as error:
        raise BenchError(f"{place}: {error}") from None
    except OSError as error:
        where = shown(str(error.filename or file))
        raise BenchError(f"{where}: {error.strerror or error}; check the path, and who may read and write it") from None
    card = known or card
    said["card"] = f"{card_path(card.name)}" + (" (there already, left as it is)" if known else "")
    said["data"] = str(file_of(card))
    return "\n".join(f"{label:<10} {text}" for label, text in said.items()), card


def _described(file: Path, given: Given, said: dict[str, str]) -> tuple[DatasetCard, bytes]:
    """The card, and the bytes of the copy; what was decided goes into `said`."""
    name, place = _name(file, given.name), shown(str(file))
    table, delimiter = read_table(file.read_bytes(), said)
    moments = moments_of(table, stamp_column(table, given.stamp), said)
    step = step_of(moments, given.step)
    said["step"] = f"{step}, between all rows"
    table = channels_of(table.drop(columns=moments.name), said)
    values = values_of(table, delimiter != ",", said)
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
    fields["notes"] = f"From the file {shown(file.name)}. " + "; ".join(f"{key}: {why}" for key, why in said.items())
    return parse(DatasetCard, fields, place), content


def _name(file: Path, wanted: str | None) -> str:
    """As given, or the file's own with what a name cannot hold replaced."""
    plain = re.sub(r"[^A-Za-z0-9-]+", "_", file.stem).strip("_-")
    inferred = plain if plain[:1].isalpha() or not plain else f"data_{plain}"
    name = inferred[:60] if wanted is None else wanted
    if not NAME.fullmatch(name) or len(name) > 60:
        rule = "at most 60 letters, digits, '_' or '-', beginning with a letter"
        raise Refusal(f"cannot be called {name[:60]!r}; choose a name by --name: {rule}")
    return name


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
    long = longest_horizon(card, LONG[0]) >= 2 * LONG[0] - 1
    context, usual = LONG if long else SHORT
    longest = longest_horizon(card, context)
    horizons = tuple(horizon for horizon in wanted or usual if horizon <= longest)
    train, val, test = (last - first for first, last in card.bounds().values())
    parts = f"train {train}, val {val}, test {test} rows"
    if not horizons or len(horizons) < len(wanted or ()):
        least = max(wanted) if wanted else min(usual)
        remedy = f"--horizons (at most {longest})" if longest > 0 else "--split"
        raise Refusal(
            f"has too few rows: {parts} hold no window of look-back {context} and horizon {least}; add rows, or change "
            + remedy
        )
    said["split"] = f"{' '.join(f'{share:g}' for share in card.split)}: {parts}"
    why = "every part holds" if long else "as for short series: a part does not hold"
    said["look-back"] = f"{context} ({why} {LONG[0]} windows of look-back and horizon {LONG[0]})"
    cut = f" (of {' '.join(map(str, usual))}: a part holds no window of the others)"
    said["horizons"] = " ".join(map(str, horizons)) + (cut if not wanted and horizons != usual else "")
    return {"context": context, "horizons": horizons}


def _season(card: DatasetCard, values: np.ndarray, wanted: int | None, said: dict[str, str]) -> int:
    """As given, by convention, or as found in the train part (see above); notes what does not change there."""
    train = values[slice(*card.bounds()["train"])]
    moves = np.ptp(train, axis=0) > 0
    names = card.channels if isinstance(card.channels, tuple) else ()
    if late := [name for name, here, ever in zip(names, moves, np.ptp(values, axis=0) > 0, strict=True) if ever > here]:
        said["caution"] = f"constant over the train part, hence only centred: {listed(late)}"
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
    for known in cards().values():
        if known.name.casefold() == card.name.casefold():
            if card.sha256[0] not in known.sha256:
                raise Refusal(f"would become {card.name}, but {known.name} holds other data; choose another --name")
            for field in ("about", "step", "season", "split", "horizons"):
                if getattr(given, field) is not None and getattr(known, field) != getattr(card, field):
                    raise Refusal(
                        f"is there as {known.name} with {field} {getattr(known, field)}; edit {card_path(known.name)}"
                    )
            return known
    return None


def _install(card: DatasetCard, content: bytes, new: bool) -> None:
    """Put the copy and, if new, the card in place once both are written and read back; the card last."""
    data, toml = file_of(card), card_path(card.name)
    if data.exists():
        if hashlib.sha256(data.read_bytes()).hexdigest() not in card.sha256:
            raise Refusal(f"is to be copied to {data}, which holds other data; delete that, or choose another --name")
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
                raise Refusal("has names that a card cannot hold; rename its columns")
        draft.replace(data)
        if new:
            toml_draft.replace(toml)
        undo.pop_all()
    cards.cache_clear()


def _toml(card: DatasetCard) -> str:
    """JSON's strings, numbers and lists are TOML's, but for the character DEL."""
    fields = card.model_dump(mode="json", exclude={"source"}) | {"path": card.source.path}
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
    return "\n".join([*lines[:-1], "", "[source]", lines[-1], ""]).replace("\x7f", "\\u007f")


def _encodable(about: str | None) -> str:
    try:
        return (about or "").encode().decode()
    except UnicodeEncodeError:
        raise Refusal("cannot have --about that is no valid text; write it in UTF-8") from None
