"""What the driver of a grid and those who train for it tell each other. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.core.record import Epoch, RunResult, Where
from bench.core.spec import RunSpec


@dataclass(frozen=True)
class Job:
    """One run to do. `deadline`: when it must have stopped, in seconds as `time.time()` counts them."""

    spec: RunSpec
    checkpoint: Path | None = None
    deadline: float = math.inf


@dataclass(frozen=True)
class Progress:
    """How far a run is; `epoch` is None until the first one has ended. Step 0 of 0: it has just begun."""

    step: int
    steps: int
    epoch: Epoch | None


@dataclass(frozen=True)
class Saved:
    """The deadline came; the run is in its checkpoint."""


@dataclass(frozen=True)
class Lost:
    """Whoever trained the run is gone; why, for people."""

    why: str


@dataclass(frozen=True)
class Event:
    """What has become of the run with this key."""

    key: str
    what: Progress | RunResult | Saved | Lost


class Engine(Protocol):
    """Trains jobs somewhere, several at once."""

    slots: int
    """How many at once."""
    where: Where
    """What the numbers are made with, but for data and backbone."""

    def check(self, specs: Sequence[RunSpec]) -> None:
        """Look at everything that concerns more than one run. Raises BenchError."""

    def start(self, job: Job) -> None:
        """Begin a job; there must be a free slot."""

    def events(self, timeout: float) -> list[Event]:
        """What has happened, at the latest after so many seconds. Raises BenchError for what concerns all runs."""

    def stop(self, key: str) -> None:
        """End the run with this key now; no event of it follows."""

    def close(self) -> None:
        """End everything."""
