"""Write what a run keeps beside its record, its test forecasts and its weights, and load the weights again."""

from __future__ import annotations

import hashlib
import json
import os
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
import torch
from jaxtyping import Int
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from bench.core.base import BenchError, parse
from bench.core.card import DatasetCard
from bench.core.kept import AGAIN, MOST_EXACT, kept_file
from bench.core.names import What
from bench.core.record import Kept, RunResult
from bench.core.spec import RunSpec
from bench.core.store import Store
from bench.core.system import writing
from bench.data.series import Series
from bench.train.checkpoint import digest_of
from bench.train.device import wait
from bench.train.evaluate import Observer
from bench.train.loop import changed_by_training
from bench.train.windows import Windows, scaling
from models.layers import Forecast

LARGEST_HALF = 65504
"""No number of float16 is larger."""


class KeepError(BenchError):
    """A file that a run is to keep cannot be written."""


_writing = partial(writing, remedy="free the disk, or drop --keep", kind=KeepError)


class Aside:
    """Measures the seconds that observers of a test take, which are no part of the test's time."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, 0.0

    def __call__(self, observer: Observer) -> Observer:
        def timed(index: Int[Tensor, "b"], forecast: Forecast, truth: Forecast) -> None:
            wait(self.device)
            began = time.perf_counter()
            observer(index, forecast, truth)
            wait(self.device)
            self.seconds += time.perf_counter() - began

        return timed


class ForecastWriter:
    """The file of a run's test forecasts, written while they are scored, batch by batch. Equal ones: equal bytes."""

    def __init__(self, path: Path, tests: Mapping[str, Windows]) -> None:
        """`tests`: data set -> its test windows."""
        values = sum(len(each) * each.horizon * each.series.shape[1] for each in tests.values())
        self.path, self.kind = path, torch.float32 if 4 * values <= MOST_EXACT else torch.float16
        with _writing(path):  # at the first level: floats hardly shrink
            self.archive = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1)

    @contextmanager
    def of(self, name: str, series: Series, windows: Windows, seasonal: np.ndarray) -> Iterator[Observer]:
        """Give an observer that writes the forecasts of all windows, in order. `seasonal`: the divisor of MASE."""
        first, (mean, deviation) = windows.first + windows.context, scaling(series)
        last = first + len(windows) + windows.horizon - 1
        plain = {
            "channels": np.array(series.channels or range(len(mean)), dtype=np.str_),
            "rows": windows.series[first:last].cpu().numpy(),
            "stamps": series.stamps[first:last],
            "first": np.array(first),
            "mean": mean,
            "deviation": deviation,
            "seasonal": seasonal,
        }
        shape = len(windows), windows.horizon, len(mean)
        with ExitStack() as stack:
            with _writing(self.path):
                for field, array in plain.items():
                    with self._array(f"{name}/{field}", array.shape, array.dtype) as file:
                        file.write(np.ascontiguousarray(array).tobytes())
                stored = np.dtype(str(self.kind).removeprefix("torch."))
                out = stack.enter_context(self._array(f"{name}/forecast", shape, stored))

            def take(index: Int[Tensor, "b"], forecast: Forecast, truth: Forecast) -> None:
                if self.kind == torch.float16:
                    forecast = forecast.clamp(-LARGEST_HALF, LARGEST_HALF)
                with _writing(self.path):
                    out.write(forecast.to("cpu", self.kind).contiguous().numpy().tobytes())

            yield take  # what a model raises here, an OSError too, is no failure of writing
            with _writing(self.path):
                stack.close()

    def kept(self) -> Kept:
        """End the file, and return what the record says of it."""
        with _writing(self.path):
            self.archive.close()
        return _kept("forecasts", self.path)

    @contextmanager
    def _array(self, name: str, shape: tuple[int, ...], kind: np.dtype) -> Iterator[IO[bytes]]:
        """Open an array of this shape, whose bytes are then written in order."""
        header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
        with self.archive.open(f"{name}.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array_header_2_0(file, header)
            yield file


def write_weights(path: Path, model: nn.Module, spec: RunSpec, series: Series) -> Kept:
    """Write the weights of a trained model, with the run's key, card, scaling and channel names in the metadata.

    They are all parameters and persistent buffers; but where a language model is read, which has its own hash in the
    record, only what training changes. Of what is left out the metadata hold a hash.
    """
    tensors, others = _split(model, spec)
    mean, deviation = scaling(series)
    metadata = {
        "run": spec.key,
        "card": series.card.model_dump_json(),
        "channels": json.dumps(series.channels),
        "mean": json.dumps(mean.tolist()),
        "deviation": json.dumps(deviation.tolist()),
        "others": digest_of(others),
    }
    with _writing(path):
        copies = {name: each.detach().to("cpu", copy=True).contiguous() for name, each in tensors.items()}
        path.write_bytes(save(copies, metadata))  # readable by whom the records are; save_file's are the owner's
    return _kept("weights", path)


@dataclass(frozen=True)
class Weights:
    """The kept weights of a run, with what is needed to use them without the run's data."""

    spec: RunSpec
    card: DatasetCard
    channels: tuple[str, ...]
    mean: np.ndarray
    deviation: np.ndarray
    tensors: Mapping[str, Tensor]
    others: str
    """Hash of the weights that are not among `tensors`."""

    @torch.no_grad()
    def put_into(self, model: nn.Module) -> None:
        """Give a model that was built anew the weights of the run. Raises BenchError if it is another model."""
        tensors, others = _split(model, self.spec)
        misfit = tensors.keys() ^ self.tensors.keys() or {
            name for name, each in tensors.items() if each.shape != self.tensors[name].shape
        }
        if misfit or digest_of(others) != self.others:
            what = f"has other weights ({min(misfit)})" if misfit else "is frozen at other values than in the run"
            cause = "by another version of torch, transformers or this project, or on another kind of device"
            raise BenchError(f"{self.spec.path}: the model, built again {cause}, {what}. Do: {AGAIN.format('weights')}")
        for name, each in tensors.items():
            each.copy_(self.tensors[name])


def read_weights(store: Store, result: RunResult) -> Weights:
    """Return the weights that a run kept. Raises BenchError where it kept none, or the file is missing or damaged."""
    with kept_file(store, result, "weights") as file:
        content = file.read()
    place = str(result.spec.path)
    try:
        tensors = load(content)
        length = int.from_bytes(content[:8], "little")  # of the header, as the format says
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
        card = parse(DatasetCard, metadata["card"], place)
        mean, deviation = (np.array(json.loads(metadata[name]), dtype=np.float64) for name in ("mean", "deviation"))
        channels = tuple(json.loads(metadata["channels"]))
        return Weights(result.spec, card, channels, mean, deviation, tensors, metadata["others"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise BenchError(f"{place}: its weights are damaged: {error}. Do: {AGAIN.format('weights')}") from None


def _split(model: nn.Module, spec: RunSpec) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return name -> tensor of the weights that are kept, and of the parameters that are not."""
    everything = dict(model.named_parameters())
    kept = changed_by_training(model)
    if spec.backbone is None:
        return everything | kept, {}
    return kept, {name: each for name, each in everything.items() if name not in kept}


def _kept(what: What, path: Path) -> Kept:
    """Flush a finished file to the disk, and return its entry in the record."""
    with _writing(path), path.open("rb+") as file:
        os.fsync(file.fileno())
        return Kept(what=what, bytes=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())
