"""Card -> the data file, read and verified, in its own units. No torch."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from bench.spec import ROOT, BenchError, DatasetCard


class DataError(BenchError):
    """A data file that is absent or not what its card says."""


@dataclass(frozen=True)
class Series:
    """One verified data file: `values [rows, channels]` in the data's own units."""

    card: DatasetCard
    values: np.ndarray
    sha256: str


def data_dir() -> Path:
    return Path(os.environ.get("BENCH_DATA") or ROOT / "datasets" / "cache")


def file_of(card: DatasetCard) -> Path:
    """Where the card's file should be; it need not exist."""
    if card.source.package is None:
        return data_dir() / card.source.path
    found = importlib.util.find_spec(card.source.package)
    folders = list(found.submodule_search_locations or []) if found else []
    if not folders:
        raise DataError(f"{card.name}: no Python package {card.source.package!r}; run 'bash run_all.sh' to install it")
    return Path(folders[0]) / card.source.path


def load_series(card: DatasetCard) -> Series:
    """Read and verify the card's file: hash, columns, rows, time stamps, finite values. Raises DataError."""
    return _load(card, file_of(card))


@lru_cache
def _load(card: DatasetCard, path: Path) -> Series:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"{card.name}: no file {path}; run 'python -m bench fetch --suite quick --datasets {card.name}', or set "
            "BENCH_DATA to the folder that has it"
        ) from None
    except OSError as error:
        raise DataError(f"{card.name}: cannot read {path}: {error}") from None
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 not in card.sha256:
        raise DataError(
            f"{card.name}: {path} has SHA-256 {sha256[:8]}, its card says {card.sha256[0][:8]}; "
            f"delete it and run 'python -m bench fetch --suite quick --datasets {card.name}'"
        )
    return Series(card, _values(card, path, _table(card, path, content)), sha256)


def _table(card: DatasetCard, path: Path, content: bytes) -> pd.DataFrame:
    """The file as one row per stamp: the stamps as index, the card's channels as columns."""
    try:
        table = pd.read_csv(io.BytesIO(content), encoding_errors="replace")
    except (ValueError, pd.errors.ParserError) as error:
        raise DataError(f"{card.name}: {path} is not a CSV table: {error}") from None
    if card.stamp not in table:
        raise DataError(f"{card.name}: {path} has no column {card.stamp!r}; it begins {list(table.columns[:4])}")
    if "unique_id" in table:  # Nixtla's long layout: channels are called series:column
        try:
            table = table.pivot(index=card.stamp, columns="unique_id")
        except ValueError as error:
            raise DataError(f"{card.name}: {path} cannot be laid out by stamp and unique_id: {error}") from None
        table.columns = pd.Index([f"{series}:{column}" for column, series in table.columns])
    else:
        table = table.set_index(card.stamp)
    if isinstance(card.channels, int):
        if table.shape[1] != card.channels:
            raise DataError(f"{card.name}: {path} has {table.shape[1]} channels, its card says {card.channels}")
        return table
    absent = [channel for channel in card.channels if channel not in table]
    if absent:
        raise DataError(
            f"{card.name}: {path} has no column {absent[0]!r}; its card lists {len(card.channels)} channels"
        )
    return table[list(card.channels)]


def _values(card: DatasetCard, path: Path, table: pd.DataFrame) -> np.ndarray:
    """The channels as float64, once rows, stamps and values are found to be as the card says."""
    if len(table) != card.rows:
        raise DataError(f"{card.name}: {path} has {len(table)} rows, its card says {card.rows}")
    try:
        stamps = pd.to_datetime(pd.Series(table.index))
    except (ValueError, TypeError) as error:
        raise DataError(f"{card.name}: {path}: column {card.stamp!r} holds no time stamps: {error}") from None
    steps = stamps.diff().iloc[1:]
    backward = np.flatnonzero(steps < pd.Timedelta(0))
    if len(backward):
        raise DataError(
            f"{card.name}: {path}: stamps are not in order at row {backward[0] + 2} ({stamps.iloc[backward[0] + 1]}); "
            "sort the file by time"
        )
    odd = np.flatnonzero(steps != pd.Timedelta(card.step))
    if len(odd) != card.irregular_steps:
        raise DataError(
            f"{card.name}: {path}: {len(odd)} steps are not {card.step} (duplicate stamps or gaps), its card says "
            f"{card.irregular_steps}; the first is at {stamps.iloc[(odd[0] if len(odd) else 0) + 1]}"
        )
    try:
        values = table.to_numpy(dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise DataError(f"{card.name}: {path} holds values that are not numbers: {error}") from None
    rows, columns = np.nonzero(~np.isfinite(values))
    if len(rows):
        raise DataError(
            f"{card.name}: {path}: {len(rows)} values are missing or infinite, the first in column "
            f"{table.columns[columns[0]]!r} at {stamps.iloc[rows[0]]}; fill or cut them"
        )
    return values
