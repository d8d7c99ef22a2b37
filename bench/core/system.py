"""Name the project's folders, this machine's processors and free memory; write files whole or not at all. No torch."""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import math
import os
import platform
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from models.errors import BenchError

PACKAGE = Path(__file__).resolve().parents[1]
"""The folder bench/: in a checkout of the project, or in site-packages."""
ROOT = PACKAGE.parent
"""The folder that holds the code, bench/ and models/."""
SHIPPED_CARDS = PACKAGE / "cards"
"""The project's data set cards in an installed copy. Only an installed copy has this folder: see pyproject.toml."""
INSTALLED = SHIPPED_CARDS.is_dir()
"""True for a copy in site-packages; False for a checkout, also one installed by `pip install -e`."""
HOME = Path() if INSTALLED else ROOT
"""The folder of datasets/, results/ and reports/: the checkout or, for an installed copy, the current directory."""
THREADS = 1
"""CPU threads of a run, whatever runs beside it: with another number sums are rounded otherwise."""
CONTROL_GROUPS = Path("/sys/fs/cgroup")
"""Where Linux shows the limits of containers and of batch systems' jobs."""


def write_whole(path: Path, content: bytes, scratch: Path | None = None) -> None:
    """Write a file into `scratch`, flush it to the disk, then rename it: it is there whole, or OSError is raised."""
    scratch = scratch or path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with scratch.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(
    place: object, remedy: str = "free the disk or choose another --results", kind: type[BenchError] = BenchError
) -> Iterator[None]:
    """Turn an error of the file system that is raised within into one line of this kind, on what is written there."""
    try:
        yield
    except OSError as error:
        raise kind(f"{place}: cannot be written: {error}. Do: {remedy}") from None


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Suspend the cyclic garbage collector: it would walk thousands of objects that stay again and again.

    With 100,000 planned runs it takes a quarter of a report's time and finds nothing.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def keep_end(path: Path, most: int) -> None:
    """Cut a file to its last `most` bytes. Another process may be appending to it, and a line of its may be lost."""
    with path.open("rb") as file:
        file.seek(-most, os.SEEK_END)
        end = file.read(most)
    os.truncate(path, 0)
    with path.open("ab") as file:
        file.write(end)


def cores() -> int:
    """Return the number of CPU cores that this process may use, also in a container with a share of them."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder in _control_groups("cpu"):
        for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):  # version 2, version 1
            with contextlib.suppress(OSError, ValueError):  # no such file; "max" means no limit
                quota, period = (int(word) for name in names for word in (folder / name).read_text().split())
                found = min(found, math.ceil(quota / period)) if quota > 0 else found
    return found


def free_memory() -> float | None:
    """Return the MiB that further processes can take, also in a container; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) / 2**10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None
    for folder in _control_groups("memory"):
        for limit, used, cached in (  # version 2, version 1
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            with contextlib.suppress(OSError, ValueError):  # no such file; "max" means no limit
                most, now = (int((folder / name).read_text()) for name in (limit, used))
                parts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                free = min(free, (most - now + int(parts.get(cached, 0))) / 2**20)
    return max(0.0, free)


def _control_groups(kind: str) -> Iterator[Path]:
    """Yield the folders of the groups that limit what this process uses of `kind` (cpu, memory), innermost first."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, kinds, group = line.split(":", 2)
            if not kinds or kind in kinds.split(","):  # version 2 has one tree; version 1 has one for each kind
                root = CONTROL_GROUPS / kind if kinds else CONTROL_GROUPS
                inner = root / group[1:]
                yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(root))


def this_device() -> str:
    """Return the name of the first GPU, else of the CPU, as `Where.device` has it; without torch.

    A build of torch without CUDA sees no GPU.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader", *(["-i", visible] if visible else [])]
    with contextlib.suppress(OSError, subprocess.SubprocessError, importlib.metadata.PackageNotFoundError, IndexError):
        if visible not in ("", "-1") and not importlib.metadata.version("torch").endswith("+cpu"):
            answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=5)
            return answer.stdout.strip().splitlines()[0].strip()
    return cpu_name()


@cache
def cpu_name() -> str:
    """Return the name of the CPU."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "a CPU"
