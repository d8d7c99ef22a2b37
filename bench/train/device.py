"""The device of a run: its choice, memory and random generators; and the provenance in records."""

from __future__ import annotations

import ctypes
import datetime
import hashlib
import importlib.metadata
import platform
import random
import resource
import subprocess
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.core.base import ROOT, BenchError
from bench.core.record import Where
from bench.core.system import INSTALLED, cpu_name


def pick_device(name: str) -> torch.device:
    """Return the device for a value of --device (`auto`: the GPU if there is one), and make a GPU torch's current one.

    Raises BenchError for a device that does not exist.
    """
    try:
        device = torch.device(name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
    except RuntimeError:
        device = None
    if device is None or (device.type != "cuda" and device != torch.device("cpu")):  # there is no cpu:0
        raise BenchError(f"--device {name}: no such device. Do: --device auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BenchError(f"--device {name}: {torch.cuda.device_count()} CUDA GPUs are visible. Do: --device cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device.index or 0)
    return device


def keep_freed_memory() -> None:
    """Make glibc keep the memory that a training step frees, for the next step. Numbers do not change.

    By default glibc returns blocks above 32 MiB to the system; getting them back took a third of Time-LLM-lite's time.
    """
    if libc := _glibc():
        trim_threshold, mmap_max = -1, -4  # constants of malloc.h
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)


def _glibc() -> ctypes.CDLL | None:
    """Return the C library if it is glibc."""
    return ctypes.CDLL(None) if sys.platform == "linux" and platform.libc_ver()[0] == "glibc" else None


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an allocation failed, on a GPU or on a CPU (torch has no error type for the CPU)."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


def reset_peak(device: torch.device) -> bool:
    """Restart the measurement of `peak_mb`; return False if the system cannot."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    if libc := _glibc():
        libc.malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak_mb(device: torch.device) -> float:
    """Return the peak memory since `reset_peak` in MiB: allocated on the GPU, or resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def provenance(
    device: torch.device,
    data_sha256: dict[str, str],
    backbone_sha256: str | None,
    weights_sha256: str | None = None,
) -> Where:
    """Return the provenance of a run that ends now."""
    git, dirty = commit()
    return Where(
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        git=git,
        dirty=dirty,
        versions={"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in ("torch", "transformers", "numpy")},
        device=device_name(device),
        threads=torch.get_num_threads(),
        data_sha256=data_sha256,
        backbone_sha256=backbone_sha256,
        weights_sha256=weights_sha256,
    )


def wait(device: torch.device) -> None:
    """Wait until a GPU has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()


@lru_cache
def build_digest() -> str:
    """Return a SHA-256 of the project's Python files (path and content) and the versions of torch and transformers."""
    total = hashlib.sha256(" ".join(importlib.metadata.version(name) for name in ("torch", "transformers")).encode())
    for path in sorted(path for folder in ("bench", "models") for path in (ROOT / folder).rglob("*.py")):
        total.update(f"\n{path.relative_to(ROOT).as_posix()}\n".encode() + path.read_bytes())
    return total.hexdigest()


@lru_cache
def commit() -> tuple[str | None, bool | None]:
    """Return the commit of the code and whether the code differs from it; two None for code not in a git checkout."""
    if INSTALLED:  # a git repository around site-packages holds other code
        return None, None

    def git(*words: str) -> str:
        command = ["git", *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        # Changed cards do not count: they are part of a run's key.
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--", "bench", "models"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch. (Batch order has its own generator, in the loop.)"""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def generator(device: torch.device) -> torch.Generator:
    """Return the generator that models on this device draw from."""
    if device.type == "cuda":
        return torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index]
    return torch.default_generator


def random_state(device: torch.device) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the states of all generators: name -> JSON value for Python and numpy, name -> tensor for torch."""
    name, key, *rest = np.random.get_state()
    plain = {"python": random.getstate(), "numpy": [name, np.asarray(key).tolist(), *rest]}
    return plain, {"random": torch.get_rng_state(), "random.device": generator(device).get_state()}


def set_random_state(plain: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device) -> None:
    """Restore a `random_state`. Raises KeyError, TypeError, ValueError or RuntimeError for anything else."""
    version, key, gauss = plain["python"]
    random.setstate((version, tuple(key), gauss))
    np.random.set_state(tuple(plain["numpy"]))
    torch.set_rng_state(tensors["random"])
    generator(device).set_state(tensors["random.device"])
