"""Decide how many runs a machine without a GPU does at once, and how long a grid takes so. No torch.

A run has the same number of threads whatever runs beside it, since its numbers depend on it to the last bit. So the
cores bound the runs at once, and so does the free memory.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from bench.core.system import THREADS, cores
from bench.plan.estimate import Estimate

SPARE = 0.1
"""Share of the free memory that is left to everything else."""
UNKNOWN = 0.5
"""Share of the free memory that a run counts as while its need is not known: only one such run at a time."""


def slots(jobs: int | None = None, threads: int = THREADS) -> int:
    """Return how many runs of so many threads the cores allow at once; `jobs`, if it is given."""
    return jobs or max(1, cores() // threads)


def fits(needs: Sequence[float | None], free: float | None) -> bool:
    """Tell whether runs that will take this many MiB more (None: not known) fit into the free memory together.

    A single run is always tried; without a known free memory (MiB), all are.
    """
    if free is None or len(needs) <= 1:
        return True
    return sum(UNKNOWN * free if need is None else need for need in needs) <= (1 - SPARE) * free


def makespan(runs: Iterable[Estimate], at_once: int, free: float | None) -> tuple[float, int, float]:
    """Return the seconds until all runs are done, the most at once, and the most MiB that they take together.

    The runs begin in this order, each as soon as one of the `at_once` slots is free and it fits into the free memory.
    Runs of unknown time are left out. An unknown need counts as none: after an epoch of the grid it is known.
    """
    running: list[tuple[float, int, float]] = []  # a heap: end, number, MiB
    now, most, most_mb = 0.0, 0, 0.0
    for number, run in enumerate(runs):
        if run.seconds is None:
            continue
        need = run.peak_mb or 0.0
        while len(running) >= at_once or not fits([*(mb for *_, mb in running), need], free):
            now, *_ = heapq.heappop(running)
        heapq.heappush(running, (now + run.seconds, number, need))
        most, most_mb = max(most, len(running)), max(most_mb, sum(mb for *_, mb in running))
    return max((end for end, *_ in running), default=0.0), most, most_mb
