"""The runs that a report stands on, each with its record, and what they say as a frame. Pure; no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from bench.captions import made, shown
from bench.spec import RunResult, RunSpec
from bench.store import Store, UnusableRecord
from bench.suite import Entry

METRICS = ("mse", "mae")


@dataclass(frozen=True)
class Planned:
    """The runs a table stands on, each with its record if there is one."""

    runs: list[tuple[Entry, RunResult | None]]
    refused: dict[str, str] = field(default_factory=dict)
    """By key, why a record that is there cannot be used: damaged, of other data or protocol; with the remedy."""

    @classmethod
    def read(cls, entries: Sequence[Entry], store: Store) -> Planned:
        """With what the store has of them."""
        runs: list[tuple[Entry, RunResult | None]] = []
        refused = {}
        for entry in entries:
            try:
                runs.append((entry, store.get(entry.spec)))
            except UnusableRecord as error:
                runs.append((entry, None))
                refused[entry.spec.key] = str(error)
        return cls(runs, refused)

    @property
    def reference(self) -> list[RunSpec]:
        """The runs of each model's first variant."""
        first: dict[str, str] = {}
        for (spec, variant), _ in self.runs:
            first.setdefault(spec.model, variant)
        return [spec for (spec, variant), _ in self.runs if variant == first[spec.model]]

    @property
    def done(self) -> list[RunResult]:
        return [result for _, result in self.runs if result is not None and result.status == "done"]

    @property
    def contexts(self) -> dict[str, int]:
        """Look-back of each data set."""
        return {entry.spec.task.dataset: entry.spec.task.context for entry, _ in self.runs}

    def absent(self, entry: Entry, result: RunResult | None) -> str:
        """Why there is no number of this run; empty if there is one."""
        if result is not None:
            return "" if result.status == "done" else f"failed ({result.error})"
        refusal = self.refused.get(entry.spec.key, "")
        why = refusal.rpartition(f"{entry.spec.path.name}: ")[2].rpartition("; ")[0] or refusal
        return f"refused ({why})" if refusal else "not run"

    def shown(
        self, lead: str = "Test errors on standardised channels, every window scored", averaged: bool = True
    ) -> str:
        """The first sentence of a caption: what is shown, at which look-back, over which seeds (or for each)."""
        return shown(lead, self.reference, averaged)

    def made(self, about: str) -> str:
        """What all captions of a report have in common: language model, what the suite says of itself, device."""
        return made(about, self.reference, self.done)

    def frame(self) -> pd.DataFrame:
        """One row per planned run and data set it is tested on; errors are NaN where it is not done, with the why.

        Columns: dataset, fraction, horizon, model, variant, seed, key, tested, mse, mae, why. Do not write into it.
        """
        return self._frame

    @cached_property
    def _frame(self) -> pd.DataFrame:
        rows = []
        for entry, result in self.runs:
            (spec, variant), why = entry, self.absent(entry, result)
            task = spec.task
            run = [task.dataset, task.train_fraction, task.horizon, spec.model, variant, spec.seed, spec.key]
            errors = {each.dataset: each for each in result.evaluations} if result is not None and not why else {}
            for tested in (task.dataset, *task.test_on):
                found = errors.get(tested)
                scores = [found.mse, found.mae] if found else [math.nan, math.nan]
                rows.append([*run, tested, *scores, why])
        names = ["dataset", "fraction", "horizon", "model", "variant", "seed", "key", "tested", *METRICS, "why"]
        return pd.DataFrame(rows, columns=names)

    def own(self) -> pd.DataFrame:
        """The rows of `frame` that are tested on the data set they were trained on."""
        frame = self.frame()
        return frame[frame.tested == frame.dataset]
