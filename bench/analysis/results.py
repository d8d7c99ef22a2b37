"""The planned runs behind a report, each with its record and its state, and their errors as a frame. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import pandas as pd

from bench.core.card import cards
from bench.core.grouping import gathered
from bench.core.names import Metric
from bench.core.reading import UnusableRecord
from bench.core.record import RunResult
from bench.core.spec import RunSpec
from bench.core.store import Store
from bench.core.system import uncollected
from bench.plan import registry
from bench.plan.language_model import choose
from bench.plan.suite import Filters, PlannedRun, Suite, entries
from models import MODELS
from models.llm_files import BACKBONES

METRICS: tuple[Metric, ...] = ("mse", "mae")
"""The paper's errors, which tables and figures show unless one is chosen."""
ERRORS: dict[Metric, str] = {
    "mse": "MSE",
    "mae": "MAE",
    "rmse": "RMSE",
    "mase": "MASE",
    "wape": "WAPE",
    "smape": "sMAPE",
    "mae_original": "MAE in original units",
    "rmse_original": "RMSE in original units",
}
"""Error -> its title."""
POOLED = "in the units of the data file, every window scored, over all channels together: large ones weigh most"
ON_CHANNELS = "Test errors on standardised channels, every window scored"
MEASURED: dict[Metric, str] = {
    "mase": (
        "Test MASE, every window scored: the mean absolute error divided by that of repeating the last season over all "
        "rows before the forecast, the same on every scale"
    ),
    "wape": (
        "Test WAPE in original units, every window scored: the sum of absolute errors divided by the sum of absolute "
        "values, over all channels together"
    ),
    "smape": (
        "Test sMAPE in original units, every window scored: the mean of the absolute error divided by the mean size of "
        "forecast and truth, from 0 to 2"
    ),
    "mae_original": f"Test MAE {POOLED}",
    "rmse_original": f"Test RMSE {POOLED}",
}
"""What a caption says of an error that is not MSE, MAE or RMSE on standardised channels."""
OF_CELL = ("dataset", "fraction", "horizon", "model", "variant", "data", "title", "tested", "seen")
OF_RUN = ("seed", "key", "entry", "result", "status", "why")
TYPES: dict[str, type] = {"key": object, "entry": object, "result": object, **dict.fromkeys(ERRORS, float)}
"""Types of columns, where they are not what pandas takes them for; keys are the specs' own texts, not copies."""
TESTED = OF_CELL.index("tested")
NO_ERRORS = (*[math.nan] * len(ERRORS), True)
STAGES = {"untrained": "before training", "trained": "after training"}
"""Stage of a probe -> its name as printed."""
LOSSES = {"mse": "MSE", "l1": "L1", "smooth_l1": "smooth L1"}


STATES = {"done": "done", "failed": "failed", "missing": "not run", "refused": "refused"}
"""Status of a planned run -> its name as printed."""


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
        return STATES[self.status]

    @cached_property
    def why(self) -> str:
        """The status and its reason as printed; empty if the run is done."""
        reason = f" ({self.reason})" if self.reason else ""
        return "" if self.status == "done" else self.words + reason


DONE, MISSING = State("done"), State("missing")
"""The states of most runs, which have no reason of their own."""


@dataclass(frozen=True)
class Results:
    """The planned runs behind a table, each with its record, or None without one."""

    runs: list[tuple[PlannedRun, RunResult | None]]
    refused: dict[str, UnusableRecord] = field(default_factory=dict)
    """Run key -> why its record cannot be used (damaged, of other data or protocol), with the remedy."""
    metrics: tuple[Metric, ...] = METRICS
    """The errors that tables and figures show."""

    @classmethod
    def read(cls, planned: Sequence[PlannedRun], store: Store, metrics: tuple[Metric, ...] = METRICS) -> Results:
        """Pair each planned run with its record in the store."""
        found = list(zip(planned, store.several(entry.spec for entry in planned), strict=True))
        runs = [(entry, None if isinstance(each, UnusableRecord) else each) for entry, each in found]
        refused = {entry.spec.key: each for entry, each in found if isinstance(each, UnusableRecord)}
        return cls(runs, refused, metrics)

    def part(self, rows: pd.DataFrame) -> Results:
        """Return only the runs in these rows of `own`."""
        return Results(list(zip(rows.entry, rows.result, strict=True)), self.refused, self.metrics)

    @cached_property
    def reference(self) -> list[RunSpec]:
        """Specs of each model's first variant, the first seed of each cell."""
        specs: dict[tuple[bytes, bytes], RunSpec] = {}
        for entry in [*self.own.entry[self.own.usual]]:
            specs.setdefault(entry.spec.cell, entry.spec)
        return [*specs.values()]

    @property
    def done(self) -> list[RunResult]:
        """Records of the runs that ended well."""
        return [result for _, result in self.runs if result is not None and result.status == "done"]

    def state(self, entry: PlannedRun, result: RunResult | None) -> State:
        """Return the state of one of these runs."""
        if result is not None:
            return DONE if result.status == "done" else State("failed", str(result.error))
        refusal = self.refused.get(entry.spec.key)
        return State("refused", refusal.reason) if refusal else MISSING

    def headed(self, title: str) -> str:
        """Return the title of a table of errors, with the name of the error if it shows a single one."""
        return title if len(self.metrics) > 1 else f"{title}: {ERRORS[self.metrics[0]]}"

    def lead(self, what: str = "", averaged: bool = True) -> str:
        """Return the first sentences of a caption: `what` (by default what the errors are), look-back, horizons, seeds
        averaged over (or listed), filled data."""
        specs, seeds = self.reference, self.own.seed[self.own.usual].unique()
        what = what or MEASURED.get(self.metrics[0], ON_CHANNELS)
        look_back = _by_data_set({name: str(context) for name, context in contexts_of(specs).items()})
        setting = f"look-back {look_back}; {_horizons(specs)}; {_seeds(seeds, averaged)}"
        return " ".join([f"{what}; {setting}.", *self.repairs])

    @property
    def repairs(self) -> list[str]:
        """A sentence for each data set with filled rows or cells."""
        names = self.frame.tested.unique()
        return [f"{name}: {card.repaired}." for name in names if (card := cards().get(name)) and card.repaired]

    def common(self, about: str) -> str:
        """Return what all captions of a report share: seasons read, language model, `about` (the suite), devices."""
        own = self.reference
        sentences = [*seasons(own), *_backbones(own), about, _losses(own), *_devices(self.done)]
        return " ".join(sentence.rstrip() for sentence in sentences if sentence)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row per planned run and data set it is tested on. Do not write into it.

        Columns: dataset, fraction, horizon, model, variant, seed, key, data (`shared`), title (`run_title`), entry,
        result, status, why (both as in `State`), tested, seen (the model was pretrained on `tested`), every error of
        ERRORS (NaN unless the run is done and its record has it), measured (whether the record, if there is one, has
        further errors), usual (the model's first variant).
        """
        cells: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
        rows: list[tuple[Any, ...]] = []
        for entry, result in self.runs:
            (spec, variant), state = entry, self.state(entry, result)
            if (cell := (spec.cell, variant)) not in cells:
                cells[cell] = _of_cell(entry)
            scored = result.evaluations if result is not None and state.status == "done" else ()
            errors = {each.dataset: (*map(each.error, ERRORS), each.further is not None) for each in scored}
            for alike in cells[cell]:
                found = errors.get(alike[TESTED], NO_ERRORS)
                rows.append((*alike, spec.seed, spec.key, entry, result, state.status, state.why, *found))
        columns = (*OF_CELL, *OF_RUN, *ERRORS, "measured")
        values = zip(*rows, strict=True) if rows else [()] * len(columns)
        frame = pd.DataFrame(
            {name: pd.Series(each, dtype=TYPES.get(name)) for name, each in zip(columns, values, strict=True)}
        )
        return frame.assign(usual=frame.variant == frame.groupby("model").variant.transform("first"))

    @cached_property
    def own(self) -> pd.DataFrame:
        """The rows of `frame` that are tested on the data set they were trained on: one per planned run."""
        own = self.frame.tested == self.frame.dataset
        return self.frame if own.all() else self.frame[own]


def _of_cell(entry: PlannedRun) -> list[tuple[Any, ...]]:
    """Return, for each data set that a run is tested on, the columns OF_CELL, which its other seeds share."""
    (spec, variant), task = entry, entry.spec.task
    run = (task.dataset, task.train_fraction, task.horizon, spec.model, variant)
    titles = (shared(task.dataset, task.train_fraction), run_title(spec.model, variant))
    return [(*run, *titles, tested, registry.has_seen(spec.model, tested)) for tested in task.datasets]


def read(suite: Suite, filters: Filters, store: Store, metrics: tuple[Metric, ...] = METRICS) -> Results:
    """Return the suite's planned runs with their records; which language model they read is `choose`'s matter."""
    with uncollected():
        chosen, _ = choose(suite, filters, store)
        return Results.read(entries(suite, chosen), store, metrics)


def shared(dataset: str, share: float) -> str:
    """Return the title of a data set of which this share of the training windows is used."""
    return dataset if share == 1 else f"{dataset} {100 * share:g} %"


def run_title(model: str, variant: str = "") -> str:
    """Return the title of a model or of one of its variants."""
    return f"{registry.title(model)}, {variant}" if variant else registry.title(model)


def look_backs(specs: Iterable[RunSpec]) -> dict[int, list[str]]:
    """Return look-back in steps -> the data sets that have it, in order of appearance."""
    return gathered((context, name) for name, context in contexts_of(specs).items())


def contexts_of(specs: Iterable[RunSpec]) -> dict[str, int]:
    """Return data set trained on -> look-back in steps. (A model that reads whole seasons may read more: `seasons`.)"""
    contexts: dict[str, int] = {}
    for task in (spec.task for spec in specs):
        contexts[task.dataset] = min(task.context, contexts.get(task.dataset, task.context))
    return contexts


def seasons(specs: Sequence[RunSpec]) -> list[str]:
    """Return a sentence for each model that reads a season longer than the look-back; none where no model does."""
    usual = contexts_of(specs)
    longer = [spec for spec in specs if spec.task.context > usual[spec.task.dataset]]
    read = gathered((spec.model, f"{spec.task.context} steps on {spec.task.dataset}") for spec in longer)
    return [
        f"{registry.title(model)} reads one season where that is longer than the look-back: {', '.join(steps)}."
        for model, steps in read.items()
    ]


def _by_data_set(values: Mapping[str, str]) -> str:
    """Return the value that most data sets have, and in brackets those of the others."""
    named = gathered((value, name) for name, value in values.items())
    usual = max(named, key=lambda value: len(named[value]))
    others = [f"{', '.join(names)} {value}" for value, names in named.items() if value != usual]
    return f"{usual} ({'; '.join(others)})" if others else usual


def _horizons(specs: Sequence[RunSpec]) -> str:
    """Return the horizons of most data sets, and in brackets those of the others."""
    own = gathered((spec.task.dataset, spec.task.horizon) for spec in specs)
    named = _by_data_set({name: ", ".join(map(str, sorted(horizons))) for name, horizons in own.items()})
    return f"horizon{'s' * any(len(horizons) > 1 for horizons in own.values())} {named}"


def _seeds(seeds: Sequence[int], averaged: bool) -> str:
    several = f"{'mean over ' if averaged else ''}seeds {', '.join(map(str, sorted(seeds)))}"
    return several if len(seeds) > 1 else f"one seed ({seeds[0]})"


def _backbones(specs: Sequence[RunSpec]) -> list[str]:
    """Return a sentence per language model: which models read it, with how many blocks and which taps."""
    reading = [spec for spec in specs if spec.backbone and spec.options.get("reader", "blocks") == "blocks"]
    return [
        f"Language model: {BACKBONES[name].title}, {'' if BACKBONES[name].pretrained else 'NOT '}pretrained "
        f"({'; '.join(details)})."
        for name, details in gathered((str(spec.backbone), _blocks_and_taps(spec)) for spec in reading).items()
    ]


def _blocks_and_taps(spec: RunSpec) -> str:
    """Return a model with the blocks of its language model that it reads, and the taps."""
    whole = BACKBONES[str(spec.backbone)].blocks
    blocks = spec.options.get("blocks", whole)
    extent = f"all {whole} blocks" if blocks == whole else f"the first {blocks} of {whole} blocks"
    tapped = "local_tap" in spec.options and spec.task.probe != "states"
    taps = f", taps {spec.options['local_tap']} and {spec.options['global_tap']}" if tapped else ""
    return f"{registry.title(spec.model)} {extent}{taps}"


def _losses(specs: Sequence[RunSpec]) -> str:
    """Return a sentence on the loss that each model is trained with; empty if none trains."""
    trained = [each for each in specs if each.task.probe != "states"]
    trained = [each for each in trained if each.model not in MODELS or MODELS[each.model].trains]
    models = gathered((LOSSES[spec.train.loss], registry.title(spec.model)) for spec in trained)
    by_loss = "; ".join(f"{loss}: {', '.join(names)}" for loss, names in models.items())
    return f"Trained with {by_loss}." if by_loss else ""


def _devices(done: Sequence[RunResult]) -> list[str]:
    """Return a sentence on the devices of these runs, and one on their precision if it is not float32 throughout."""
    devices = dict.fromkeys(device for result in done for device in result.where.devices)
    lower = dict.fromkeys(registry.title(result.spec.model) for result in done if result.spec.train.precision == "bf16")
    sentences = [f"Run on {'; '.join(devices)}."] if devices else []
    return sentences + ([f"bf16 arithmetic in {', '.join(lower)}; float32 elsewhere."] if lower else [])
