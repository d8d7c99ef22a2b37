"""Under a run: the device, its memory, its random generators, and what a record says of machine and code."""

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
    """`auto` is the GPU if there is one. A GPU becomes the one that this process makes streams and graphs on.

    Raises BenchError for a device that is not there.
    """
    try:
        device = torch.device(name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise BenchError(f"--device {name}: no such device; known: auto, cpu, cuda, cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BenchError(f"--device {name}: {torch.cuda.device_count()} CUDA GPUs are visible; try --device cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device.index or 0)
    return device


def keep_freed_memory() -> None:
    """Let this process reuse the memory that a training step frees, where the C library would hand it back.

    glibc maps every block above 32 MiB anew and trims its heap: each step would pay for the same pages again, a third
    of Time-LLM-lite's time. Elsewhere this does nothing. Numbers do not change.
    """
    if libc := _glibc():
        trim_threshold, mmap_max = -1, -4  # of malloc.h
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)


def _glibc() -> ctypes.CDLL | None:
    """The C library, where it is the one whose allocator is set here."""
    return ctypes.CDLL(None) if sys.platform == "linux" and platform.libc_ver()[0] == "glibc" else None


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or on a CPU (where torch has no type for it)."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


def reset_peak(device: torch.device) -> bool:
    """Start the count of `peak_mb` anew, without what earlier runs have freed; False where the system cannot."""
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
    """Most MiB since `reset_peak`: allocated on the GPU, or resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def provenance(device: torch.device, data_sha256: dict[str, str], backbone_sha256: str | None) -> Where:
    """What a number that is made now is made with."""
    commit, dirty = _git()
    return Where(
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        git=commit,
        dirty=dirty,
        versions={"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in ("torch", "transformers", "numpy")},
        device=device_name(device),
        threads=torch.get_num_threads(),
        data_sha256=data_sha256,
        backbone_sha256=backbone_sha256,
    )


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()


@lru_cache
def build_digest() -> str:
    """SHA-256 over the project's Python files and the versions of torch and transformers: equal builds, equal bits."""
    total = hashlib.sha256(" ".join(importlib.metadata.version(name) for name in ("torch", "transformers")).encode())
    for path in sorted(path for folder in ("bench", "models") for path in (ROOT / folder).rglob("*.py")):
        total.update(path.name.encode() + path.read_bytes())
    return total.hexdigest()


@lru_cache
def _git() -> tuple[str | None, bool | None]:
    """Return the commit of the code and whether the code differs from it; two None for code not in a git checkout."""
    if INSTALLED:  # a git repository around site-packages holds other code
        return None, None
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
        changes = subprocess.run(
            ["git", "status", "--porcelain", "--", "bench", "models"],  # cards are part of a run's key
            cwd=ROOT, capture_output=True, text=True, check=True, timeout=10,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None, None
    return commit, bool(changes)


def seed_everything(seed: int) -> None:
    """The order of batches has a generator of its own."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def device_random_state(device: torch.device) -> Tensor:
    """Where the generator stands that a model on this device draws from."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def set_device_random_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


def random_state(device: torch.device) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Where all of them stand: Python's and numpy's fit into JSON, torch's are tensors."""
    name, key, *rest = np.random.get_state()
    plain = {"python": random.getstate(), "numpy": [name, np.asarray(key).tolist(), *rest]}
    tensors = {"random": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["random.cuda"] = device_random_state(device)
    return plain, tensors


def set_random_state(plain: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device) -> None:
    """Raises KeyError, TypeError, ValueError or RuntimeError for what `random_state` never gave."""
    version, key, gauss = plain["python"]
    random.setstate((version, tuple(key), gauss))
    np.random.set_state(tuple(plain["numpy"]))
    torch.set_rng_state(tensors["random"])
    if device.type == "cuda":
        set_device_random_state(device, tensors["random.cuda"])
