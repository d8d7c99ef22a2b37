"""Read a card's data file and verify it. No torch."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from bench.core.base import BenchError, read_regular
from bench.core.card import DatasetCard
from bench.core.system import HOME
from bench.data.steps import Step
from models.llm_files import bundle_dir, in_package


class DataError(BenchError):
    """A data file is absent or differs from its card."""


@dataclass(frozen=True)
class Series:
    """One verified data file: `values [rows, channels]` in its own units, `calendar [rows, 4]` from -0.5 to 0.5."""

    card: DatasetCard
    values: np.ndarray
    calendar: np.ndarray
    sha256: str
    channels: tuple[str, ...] = ()
    """Column names as in the file."""
    stamps: np.ndarray = field(default_factory=lambda: np.empty(0, "M8[us]"))
    """Time stamp of each row."""


def data_dir() -> Path:
    """Return the folder of data files: $BENCH_DATA, else datasets/cache/ in the checkout or the current directory."""
    return Path(os.environ.get("BENCH_DATA") or HOME / "datasets" / "cache")


def file_of(card: DatasetCard) -> Path:
    """Return the path of the card's file, which need not exist. Raises DataError for a package not installed."""
    package, path = card.source.package, card.source.path
    if package is None or bundle_dir():  # a bundle holds the files of packages too
        return data_dir() / (package or "") / path
    if found := in_package(package, path):
        return found
    raise DataError(f"{card.name}: no Python package {package!r}. Do: install it: 'bash run_all.sh' in a checkout")


def load_series(card: DatasetCard) -> Series:
    """Read and verify the card's file: hash, columns, rows, time stamps, finite values. Raises DataError."""
    return _load(card, file_of(card))


@lru_cache
def _load(card: DatasetCard, path: Path) -> Series:
    put, change = f"run 'python -m bench fetch --suite quick --datasets {card.name}'", "delete it and "
    if card.source.package:
        put, change = f"install {card.source.package} again", ""
    elif card.source.repo is None:
        put, change = "put the card's file there", "add the changed file under another name ('add-dataset --name'), or "
    try:
        content = read_regular(path)
    except FileNotFoundError:
        raise DataError(f"{card.name}: no file {path}. Do: {put}, or set BENCH_DATA to the folder with it") from None
    except OSError as error:
        raise DataError(f"{card.name}: cannot read {path}: {error}. Do: make it readable, or set BENCH_DATA") from None
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 not in card.sha256:
        hashes = f"SHA-256 {sha256[:8]}, its card says {card.sha256[0][:8]}"
        raise DataError(f"{card.name}: {path} has {hashes}. Do: {change}{put}")
    try:
        table = _table(card, content)
        stamps = _stamps(card, table)
        names, values = tuple(map(str, table.columns)), _values(table, stamps)
        return Series(card, values, calendar_of(stamps), sha256, names, stamps.to_numpy("M8[us]"))
    except _MismatchError as error:
        remedy = f"mend the file, or its card datasets/{card.name}.toml"
        raise DataError(f"{card.name}: {path} {error}. Do: {remedy}") from None


class _MismatchError(Exception):
    """A file differs from its card; the text follows the file's path."""


def _table(card: DatasetCard, content: bytes) -> pd.DataFrame:
    """Return one row per stamp: the stamps as index, the card's channels as columns."""
    # 1. Read.
    try:
        table = pd.read_csv(io.BytesIO(content), encoding_errors="replace")
    except (ValueError, pd.errors.ParserError) as error:
        raise _MismatchError(f"is not a CSV table: {str(error)[:160]}") from None
    if card.stamp not in table:
        begins = ", ".join(str(name)[:20] for name in table.columns[:4])
        raise _MismatchError(f"has no column {card.stamp!r}; it begins {begins!r}")
    # 2. Move the stamps to the index, and turn Nixtla's long layout into channels called series:column.
    if "unique_id" in table:
        try:
            table = table.pivot(index=card.stamp, columns="unique_id")
        except ValueError as error:
            raise _MismatchError(f"cannot be laid out by {card.stamp} and unique_id: {error}") from None
        table.columns = pd.Index([f"{series}:{column}" for column, series in table.columns])
    else:
        table = table.set_index(card.stamp)
    # 3. Select the card's channels.
    if isinstance(card.channels, int):
        if table.shape[1] != card.channels:
            raise _MismatchError(f"has {table.shape[1]} channels, its card says {card.channels}")
        return table
    if absent := [channel for channel in card.channels if channel not in table]:
        raise _MismatchError(f"has no column {absent[0]!r}, one of {len(card.channels)} in its card")
    return table[list(card.channels)]


def _values(table: pd.DataFrame, stamps: pd.Series) -> np.ndarray:
    """Return the channels as float64 `[rows, channels]`, all finite."""
    numbers = table.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    rows, columns = np.nonzero(~np.isfinite(numbers))
    if len(rows):
        cell = str(table.iloc[rows[0], columns[0]])[:40]
        first = f"column {table.columns[columns[0]]!r} at {stamps.iloc[rows[0]]} ({cell})"
        raise _MismatchError(f"has {len(rows)} values that are missing, infinite or no numbers, the first in {first}")
    return numbers


def _stamps(card: DatasetCard, table: pd.DataFrame) -> pd.Series:
    """Return the time stamps; their number, order and steps are the card's."""
    if len(table) != card.rows:
        raise _MismatchError(f"has {len(table)} rows, its card says {card.rows}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # pandas warns of each format that it tries
        stamps = pd.to_datetime(pd.Series(table.index), errors="coerce")
    unread = np.flatnonzero(stamps.isna())
    if len(unread):
        first = f"{str(table.index[unread[0]])[:40]!r} in row {unread[0] + 2}"
        place = f"{len(unread)} values in column {card.stamp!r}"
        raise _MismatchError(f"has {place} that are no time stamps, the first {first}")
    steps = stamps.diff()[1:]
    if not stamps.is_monotonic_increasing:
        row = int((steps < pd.Timedelta(0)).idxmax())
        raise _MismatchError(f"has stamps that are not in order, the first in row {row + 2} ({stamps[row]})")
    odd = stamps.index[Step.of_card(card.step).odd(stamps)]
    if len(odd) != card.irregular_steps:
        first = f"; the first is at {stamps[odd[0]]}" if len(odd) else ""
        kinds = f"{len(odd)} steps that are not {card.step} (duplicate stamps or gaps)"
        raise _MismatchError(f"has {kinds}, its card says {card.irregular_steps}{first}")
    return stamps


def calendar_of(stamps: pd.Series) -> np.ndarray:
    """Return hour of day, day of week, of month and of year `[rows, 4]`, from -0.5 to 0.5, as official loaders do."""
    when = stamps.dt
    parts = [when.hour / 23, when.day_of_week / 6, (when.day - 1) / 30, (when.day_of_year - 1) / 365]
    return np.stack([part.to_numpy(dtype=np.float64) for part in parts], axis=1) - 0.5
