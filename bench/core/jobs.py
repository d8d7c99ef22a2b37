"""The messages between the driver of a grid and the processes that train for it. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.core.names import What
from bench.core.record import Epoch, RunResult
from bench.core.spec import RunSpec


@dataclass(frozen=True)
class Job:
    """One run to do. It must stop at `deadline`, in seconds since 1970 (`time.time()`)."""

    spec: RunSpec
    checkpoint: Path | None = None
    deadline: float = math.inf
    log: Path | None = None
    """File for what a user's own model prints; None for the registry's models, and where the engine keeps it."""
    keep: Mapping[What, Path] = field(default_factory=dict)
    """What the run shall keep -> the file for it, in the unfinished run's folder; no part of the run's identity."""


@dataclass(frozen=True)
class Progress:
    """The steps that a run has done and has in all; step 0 of 0: it has just begun. `epoch`: the last that ended."""

    step: int
    steps: int
    epoch: Epoch | None


@dataclass(frozen=True)
class Saved:
    """The deadline came, and the run was saved in its checkpoint."""


@dataclass(frozen=True)
class Lost:
    """The process that trained the run is gone; `why` is text for people."""

    why: str


@dataclass(frozen=True)
class Event:
    """News of the run with this key."""

    key: str
    what: Progress | RunResult | Saved | Lost
