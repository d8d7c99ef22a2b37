"""Name the project's folders and this machine's processors, and write files whole or not at all. No torch."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import subprocess
from functools import cache
from pathlib import Path

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


def keep_end(path: Path, most: int) -> None:
    """Cut a file to its last `most` bytes. Another process may be appending to it, and a line of its may be lost."""
    with path.open("rb") as file:
        file.seek(-most, os.SEEK_END)
        end = file.read(most)
    os.truncate(path, 0)
    with path.open("ab") as file:
        file.write(end)


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def this_device(name: str = "auto") -> str:
    """Return the name of the first GPU, else of the CPU, as `Where.device` has it; without torch.

    `name` is a value of --device. A build of torch without CUDA sees no GPU.
    """
    visible, index = os.environ.get("CUDA_VISIBLE_DEVICES"), name.partition(":")[2]
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader", *(["-i", visible] if visible else [])]
    with contextlib.suppress(OSError, subprocess.SubprocessError, importlib.metadata.PackageNotFoundError, IndexError):
        if name != "cpu" and visible not in ("", "-1") and not importlib.metadata.version("torch").endswith("+cpu"):
            answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=5)
            return answer.stdout.strip().splitlines()[int(index) if index.isdigit() else 0].strip()
    return cpu_name()


@cache
def cpu_name() -> str:
    """Return the name of the CPU."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "a CPU"
