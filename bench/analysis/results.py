"""The runs that a report stands on, each with its record, and what they say as a frame. Pure; no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from bench.core.record import RunResult
from bench.core.spec import RunSpec
from bench.core.store import Store, UnusableRecord
from bench.plan import registry
from bench.plan.suite import PlannedRun
from models.llm_files import BACKBONES

METRICS = ("mse", "mae")


@dataclass(frozen=True)
class Results:
    """The runs a table stands on, each with its record if there is one."""

    runs: list[tuple[PlannedRun, RunResult | None]]
    refused: dict[str, UnusableRecord] = field(default_factory=dict)
    """By key, why a record that is there cannot be used: damaged, of other data or protocol; with the remedy."""

    @classmethod
    def read(cls, entries: Sequence[PlannedRun], store: Store) -> Results:
        """With what the store has of them."""
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

    def absent(self, entry: PlannedRun, result: RunResult | None) -> str:
        """Why there is no number of this run; empty if there is one."""
        if result is not None:
            return "" if result.status == "done" else f"failed ({result.error})"
        refusal = self.refused.get(entry.spec.key)
        return f"refused ({refusal.reason})" if refusal else "not run"

    def shown(
        self, lead: str = "Test errors on standardised channels, every window scored", averaged: bool = True
    ) -> str:
        """The first sentence of a caption: what is shown, at which look-back, over which seeds (or for each)."""
        return caption_shown(lead, self.reference, averaged)

    def made(self, about: str) -> str:
        """What all captions of a report have in common: language model, what the suite says of itself, device."""
        return caption_made(about, self.reference, self.done)

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
            for tested in task.datasets:
                found = errors.get(tested)
                scores = [found.mse, found.mae] if found else [math.nan, math.nan]
                rows.append([*run, tested, *scores, why])
        names = ["dataset", "fraction", "horizon", "model", "variant", "seed", "key", "tested", *METRICS, "why"]
        return pd.DataFrame(rows, columns=names)

    def own(self) -> pd.DataFrame:
        """The rows of `frame` that are tested on the data set they were trained on."""
        frame = self.frame()
        return frame[frame.tested == frame.dataset]


def caption_shown(lead: str, specs: Sequence[RunSpec], averaged: bool = True) -> str:
    """What is shown, at which look-back, averaged over which seeds or for each of them; from the planned runs."""
    return f"{lead}; look-back {_look_back(specs)}; {_seeds(specs, averaged)}."


def caption_made(about: str, specs: Sequence[RunSpec], done: Iterable[RunResult]) -> str:
    """With which language model, on which device; what the suite says of itself."""
    sentences = [*_backbones(specs), about, *_where(done)]
    return " ".join(sentence.rstrip() for sentence in sentences if sentence)


def _look_back(specs: Sequence[RunSpec]) -> str:
    """The usual one, and in brackets those of other data sets."""
    by_context: dict[int, list[str]] = {}
    for spec in specs:
        names = by_context.setdefault(spec.task.context, [])
        if spec.task.dataset not in names:
            names.append(spec.task.dataset)
    usual = max(by_context, key=lambda context: len(by_context[context]))
    others = [f"{', '.join(names)} {context}" for context, names in by_context.items() if context != usual]
    return f"{usual} ({'; '.join(others)})" if others else str(usual)


def _seeds(specs: Sequence[RunSpec], averaged: bool) -> str:
    seeds = sorted({spec.seed for spec in specs})
    several = f"{'mean over ' if averaged else ''}seeds {', '.join(map(str, seeds))}"
    return several if len(seeds) > 1 else f"one seed ({seeds[0]})"


def _backbones(specs: Sequence[RunSpec]) -> list[str]:
    """Which language model stands behind which column, with blocks and taps."""
    by_backbone: dict[str, list[str]] = {}
    for spec in specs:
        if spec.backbone and spec.options["reader"] == "blocks":
            detail = f"{registry.title(spec.model)} {spec.options['blocks']} blocks"
            if "local_tap" in spec.options:
                detail += f", taps {spec.options['local_tap']} and {spec.options['global_tap']}"
            details = by_backbone.setdefault(spec.backbone, [])
            if detail not in details:
                details.append(detail)
    return [
        f"Language model: {BACKBONES[name].title}, pretrained ({'; '.join(details)})."
        if BACKBONES[name].pretrained
        else f"Language model: {BACKBONES[name].title}, NOT pretrained ({'; '.join(details)})."
        for name, details in by_backbone.items()
    ]


def _where(done: Iterable[RunResult]) -> list[str]:
    """Devices and precision of the runs that are there."""
    devices: dict[str, None] = {}
    lower: dict[str, None] = {}
    for result in done:
        devices |= dict.fromkeys(result.where.devices)
        if result.spec.train.precision == "bf16":
            lower[registry.title(result.spec.model)] = None
    sentences = [f"Run on {'; '.join(devices)}."] if devices else []
    if lower:
        sentences.append(f"bf16 arithmetic in {', '.join(lower)}; float32 elsewhere.")
    return sentences
