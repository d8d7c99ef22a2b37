"""The planned runs behind a report, each with its record and its state, and their errors as a frame. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import pandas as pd

from bench.core.record import RunResult
from bench.core.spec import RunSpec
from bench.core.store import Store, UnusableRecord
from bench.plan import registry
from bench.plan.suite import PlannedRun
from models.llm_files import BACKBONES

METRICS = ("mse", "mae")


@dataclass(frozen=True)
class State:
    """Whether a planned run has errors to show, and if not, why."""

    status: Literal["done", "failed", "missing", "refused"]
    """`missing`: no record; `refused`: a record that cannot be used."""
    reason: str = ""
    """Why it failed or was refused."""

    @property
    def words(self) -> str:
        """The status as printed."""
        return "not run" if self.status == "missing" else self.status

    @property
    def why(self) -> str:
        """The status and its reason as printed; empty if the run is done."""
        reason = f" ({self.reason})" if self.reason else ""
        return "" if self.status == "done" else self.words + reason


@dataclass(frozen=True)
class Results:
    """The planned runs behind a table, each with its record, or None without one."""

    runs: list[tuple[PlannedRun, RunResult | None]]
    refused: dict[str, UnusableRecord] = field(default_factory=dict)
    """Run key -> why its record cannot be used (damaged, of other data or protocol), with the remedy."""

    @classmethod
    def read(cls, entries: Sequence[PlannedRun], store: Store) -> Results:
        """Pair each planned run with its record in the store."""
        runs: list[tuple[PlannedRun, RunResult | None]] = []
        refused = {}
        for entry in entries:
            try:
                runs.append((entry, store.get(entry.spec)))
            except UnusableRecord as error:
                runs.append((entry, None))
                refused[entry.spec.key] = error
        return cls(runs, refused)

    @property
    def reference(self) -> list[RunSpec]:
        """Specs of each model's first variant."""
        first: dict[str, str] = {}
        for (spec, variant), _ in self.runs:
            first.setdefault(spec.model, variant)
        return [spec for (spec, variant), _ in self.runs if variant == first[spec.model]]

    @property
    def done(self) -> list[RunResult]:
        """Records of the runs that ended well."""
        return [result for _, result in self.runs if result is not None and result.status == "done"]

    @property
    def contexts(self) -> dict[str, int]:
        """Data set -> its look-back in steps."""
        return {entry.spec.task.dataset: entry.spec.task.context for entry, _ in self.runs}

    def state(self, entry: PlannedRun, result: RunResult | None) -> State:
        """Return the state of one of these runs."""
        if result is not None:
            return State("done") if result.status == "done" else State("failed", str(result.error))
        refusal = self.refused.get(entry.spec.key)
        return State("refused", refusal.reason) if refusal else State("missing")

    def lead(
        self, what: str = "Test errors on standardised channels, every window scored", averaged: bool = True
    ) -> str:
        """Return the first sentence of a caption: `what`, the look-back, and the seeds averaged over (or listed)."""
        specs = self.reference
        return f"{what}; look-back {_look_back(specs)}; {_seeds(specs, averaged)}."

    def common(self, about: str) -> str:
        """Return what all captions of a report share: language model, `about` (the suite on itself), devices."""
        sentences = [*_backbones(self.reference), about, *_devices(self.done)]
        return " ".join(sentence.rstrip() for sentence in sentences if sentence)

    def frame(self) -> pd.DataFrame:
        """Return one row per planned run and data set it is tested on. Do not write into it.

        Columns: dataset, fraction, horizon, model, variant, seed, key, tested, mse, mae (NaN unless the run is done),
        status, why (both as in `State`).
        """
        return self._frame

    @cached_property
    def _frame(self) -> pd.DataFrame:
        rows = []
        for entry, result in self.runs:
            (spec, variant), state = entry, self.state(entry, result)
            task = spec.task
            run = [task.dataset, task.train_fraction, task.horizon, spec.model, variant, spec.seed, spec.key]
            scored = result.evaluations if result is not None and state.status == "done" else ()
            errors = {each.dataset: [each.mse, each.mae] for each in scored}
            for tested in task.datasets:
                rows.append([*run, tested, *errors.get(tested, [math.nan] * 2), state.status, state.why])
        names = ["dataset", "fraction", "horizon", "model", "variant", "seed", "key", "tested", *METRICS]
        return pd.DataFrame(rows, columns=[*names, "status", "why"])

    def own(self) -> pd.DataFrame:
        """Return the rows of `frame` that are tested on the data set they were trained on."""
        frame = self.frame()
        return frame[frame.tested == frame.dataset]


def first_few(items: Sequence[str], separator: str = ", ", most: int = 3) -> str:
    """Return the first `most` items, and how many more there are."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return separator.join(items[:most]) + more


def _look_back(specs: Sequence[RunSpec]) -> str:
    """Return the look-back of most data sets, and in brackets those of the others."""
    datasets: dict[int, dict[str, None]] = {}
    for spec in specs:
        datasets.setdefault(spec.task.context, {})[spec.task.dataset] = None
    usual = max(datasets, key=lambda context: len(datasets[context]))
    others = [f"{', '.join(names)} {context}" for context, names in datasets.items() if context != usual]
    return f"{usual} ({'; '.join(others)})" if others else str(usual)


def _seeds(specs: Sequence[RunSpec], averaged: bool) -> str:
    seeds = sorted({spec.seed for spec in specs})
    several = f"{'mean over ' if averaged else ''}seeds {', '.join(map(str, seeds))}"
    return several if len(seeds) > 1 else f"one seed ({seeds[0]})"


def _backbones(specs: Sequence[RunSpec]) -> list[str]:
    """Return a sentence per language model: which models read it, with how many blocks and which taps."""
    readers: dict[str, dict[str, None]] = {}
    for spec in specs:
        if spec.backbone and spec.options["reader"] == "blocks":
            detail = f"{registry.title(spec.model)} {spec.options['blocks']} blocks"
            if "local_tap" in spec.options:
                detail += f", taps {spec.options['local_tap']} and {spec.options['global_tap']}"
            readers.setdefault(spec.backbone, {})[detail] = None
    return [
        f"Language model: {BACKBONES[name].title}, {'' if BACKBONES[name].pretrained else 'NOT '}pretrained "
        f"({'; '.join(details)})."
        for name, details in readers.items()
    ]


def _devices(done: Sequence[RunResult]) -> list[str]:
    """Return a sentence on the devices of these runs, and one on their precision if it is not float32 throughout."""
    devices = dict.fromkeys(device for result in done for device in result.where.devices)
    lower = dict.fromkeys(registry.title(result.spec.model) for result in done if result.spec.train.precision == "bf16")
    sentences = [f"Run on {'; '.join(devices)}."] if devices else []
    return sentences + ([f"bf16 arithmetic in {', '.join(lower)}; float32 elsewhere."] if lower else [])
