"""Read what a run keeps beside its record: its test forecasts, and its weights. No torch.

A run that was started with `--keep forecasts` has a file `s1-0123abcd.forecasts.npz` beside `s1-0123abcd.json`. For
each data set that it was tested on, the file holds every forecast, the true rows once (windows overlap), and what is
needed to go to original units, to dates and to MASE. Forecasts are float32 while those of a run take at most
`MOST_EXACT` bytes, else float16, which has three to four digits.

    store, result = find_run(store, "3f9a1c")
    own = read_forecasts(store, result)["ETTh1"]
    errors = own.forecast - own.truth                # [window, step, channel], standardised
    own.in_units(own.forecast)                       # in the units of the data file
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import BinaryIO

import numpy as np

from bench.core.base import BenchError, require_regular
from bench.core.names import What
from bench.core.reading import UnusableRecord, read_record
from bench.core.record import SUFFIX, RunResult
from bench.core.store import Store

MOST_EXACT = 64 << 20
"""Most bytes of a run's forecasts in float32; beyond, they are kept in float16."""
ZERO = 1e-6
"""A truth and a forecast whose sizes add up to less than this share of the channel's mean (its size) plus deviation
count as 0 in sMAPE: rounding between the scales leaves no exact 0."""
AGAIN = "python -m bench run --keep {}, with the run's suite and filters"


@dataclass(frozen=True)
class Forecasts:
    """Every test forecast of a run on one data set. Window i forecasts the `step` rows from row `starts[i]` on."""

    channels: np.ndarray
    """Column names in the data file `[channel]`."""
    forecast: np.ndarray
    """Standardised forecasts `[window, step, channel]`, float32 or float16."""
    rows: np.ndarray
    """The standardised rows that are forecast `[row, channel]`, float32."""
    stamps: np.ndarray
    """Time stamps of these rows `[row]`, as datetime64."""
    first: np.ndarray
    """The number of the first of these rows in the data set, from 0 `[]`."""
    mean: np.ndarray
    """Mean of each channel over the training part `[channel]`, float64."""
    deviation: np.ndarray
    """Standard deviation of each channel over the training part `[channel]`; 1 where it is constant."""
    seasonal: np.ndarray
    """The divisor of MASE `[window, channel]`, standardised: see `seasonal_errors`."""

    def __post_init__(self) -> None:
        """Raise ValueError for arrays of another kind or size than those of one run."""
        windows, steps, width = self.forecast.shape if self.forecast.ndim == 3 else (0, 0, 0)
        rows, shapes = windows + steps - 1, {each.name: getattr(self, each.name).shape for each in fields(self)}
        expected = {"channels": (width,), "rows": (rows, width), "stamps": (rows,), "seasonal": (windows, width)}
        expected |= {"first": (), "mean": (width,), "deviation": (width,), "forecast": (windows, steps, width)}
        if not windows or shapes != expected:
            raise ValueError(f"its arrays have shapes {shapes}")
        kinds = "".join(getattr(self, each.name).dtype.kind for each in fields(self))
        if kinds != "UffMifff":
            raise ValueError(f"its arrays hold other things than numbers, stamps and names ({kinds})")

    @property
    def truth(self) -> np.ndarray:
        """What came true, standardised `[window, step, channel]`: a view into `rows`."""
        steps = self.forecast.shape[1]
        return np.lib.stride_tricks.sliding_window_view(self.rows, steps, axis=0).transpose(0, 2, 1)

    @property
    def starts(self) -> np.ndarray:
        """The row number in the data set, from 0, of each window's first forecast row `[window]`."""
        return int(self.first) + np.arange(len(self.forecast))

    def in_units(self, values: np.ndarray) -> np.ndarray:
        """Return standardised values `[..., channel]` in the units of the data file, as float64."""
        return values.astype(np.float64) * self.deviation + self.mean


KeptForecasts = Mapping[str, Forecasts]
"""Data set -> the forecasts on it."""


def seasonal_errors(rows: np.ndarray, season: int, starts: np.ndarray) -> np.ndarray:
    """Return the mean absolute difference of values one season apart over all rows before each start.

    `rows` are a whole series `[row, channel]`; the result is `[start, channel]`, NaN where the history is no longer
    than a season or all differences are 0.
    """
    totals = np.zeros((len(rows) + 1, rows.shape[1]))
    np.abs(rows[season:] - rows[:-season]).cumsum(axis=0, dtype=np.float64, out=totals[season + 1 :])
    counts = np.maximum(starts - season, 0)[:, None]
    with np.errstate(invalid="ignore"):
        means = totals[starts] / counts
    return np.where(means > 0, means, np.nan)


def find_run(store: Store, text: str) -> tuple[Store, RunResult]:
    """Return the record whose run's key begins with `text` (6 hex digits or more), or that is the file `text`; before
    it the results directory that it lies in.

    Raises BenchError if there is none, or several.
    """
    if text.endswith(".json"):
        path, folders = Path(text), Path(os.path.abspath(text)).parents  # noqa: PTH100  (without ..)
        if len(folders) < 5 and path.exists():
            raise BenchError(f"{text}: lies in no results directory. Do: name it where its run wrote it, or by its key")
        result = read_record(path, folders[0])
        if result is None:
            raise BenchError(f"{text}: there is no such record. Do: check the path")
        return Store(folders[3]), _sound(path, result)
    if not re.fullmatch(r"[0-9a-f]{6,64}", text):
        raise BenchError(f"--run {text[:80]!r}: no key of a run. Do: give 6 or more of its hex digits, or its file")
    found = []
    for path in sorted(store.root.glob(f"*/h*/*/s*-{text[:8]}*.json")):
        result = read_record(path, store.root)
        if result and result.spec.key.startswith(text):
            found.append((path, result))
    if len(found) != 1:
        names = ": " + ", ".join(str(path) for path, _ in found[:4]) if found else ""
        raise BenchError(
            f"--run {text}: {len(found) or 'no'} runs in {store.root} have this key{names}. "
            f"Do: {'give more digits' if found else 'name its results directory'}, or the path of the record"
        )
    return store, _sound(*found[0])


def _sound(path: Path, result: RunResult) -> RunResult:
    if fault := result.fault:
        raise UnusableRecord(path, fault)
    return result


@contextmanager
def kept_file(store: Store, result: RunResult, what: What) -> Iterator[BinaryIO]:
    """Open a file that a run keeps, verified by the hash in its record. Raises BenchError."""
    path = (store.root / result.spec.path).with_suffix(SUFFIX[what])
    named = next((each for each in result.kept if each.what == what), None)
    remedy = AGAIN.format(what)
    if named is None:
        raise BenchError(f"{path.with_suffix('').with_suffix('.json')}: this run kept no {what}. Do: {remedy}")
    try:
        require_regular(path)
        if not os.path.realpath(path).startswith(os.path.realpath(store.root).rstrip(os.sep) + os.sep):
            raise OSError("it is a link out of the results directory")
        with path.open("rb") as file:
            if path.stat().st_size != named.bytes or hashlib.file_digest(file, "sha256").hexdigest() != named.sha256:
                raise BenchError(f"{path}: is not the file that its record names (SHA-256). Do: {remedy}")
            file.seek(0)
            yield file
    except FileNotFoundError:
        raise BenchError(f"{path}: its record names it, and it is not there. Do: {remedy}") from None
    except OSError as error:
        raise BenchError(f"{path}: cannot be read: {error}. Do: make it readable") from None


def read_forecasts(store: Store, result: RunResult) -> KeptForecasts:
    """Return the forecasts that a run kept, data set by data set: its own first, then those of a zero-shot test.

    Raises BenchError where the run kept none, and where the file is missing or damaged.
    """
    with kept_file(store, result, "forecasts") as file:
        try:
            return load_forecasts(file, result.spec.task.datasets)
        except Exception as error:  # a zip file with a right hash that somebody made by hand can raise anything
            cause = f"{result.spec.path}: its forecasts are damaged ({type(error).__name__}: {error})"
            raise BenchError(f"{cause}. Do: {AGAIN.format('forecasts')}") from None


def load_forecasts(file: BinaryIO, datasets: Sequence[str]) -> KeptForecasts:
    """Return what the file of a run on these data sets holds. Raises an error of any type for other files."""
    arrays = np.load(file)
    return {
        name: Forecasts(**{each.name: arrays[f"{name}/{each.name}"] for each in fields(Forecasts)}) for name in datasets
    }
