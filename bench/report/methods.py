"""Describe how the numbers of a report were computed, from the suite and its records. Pure; no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.analysis.results import Results, run_title
from bench.analysis.stats import LEVEL
from bench.core.card import DatasetCard, cards
from bench.core.record import Cost
from bench.core.spec import RunSpec, Task, TrainConfig
from bench.plan import registry
from bench.plan.suite import PlannedRun, Suite
from models import MODELS
from models.llm_files import BACKBONES


@dataclass(frozen=True)
class Section:
    """A part of the methods: paragraphs and, optionally, a table of words."""

    title: str
    text: tuple[str, ...]
    headers: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def methods(suite: Suite, planned: Results) -> list[Section]:
    """Return the sections on protocol, data, models, settings, statistics and provenance."""
    entries = [entry for entry, _ in planned.runs]
    return [
        _protocol(suite, entries),
        _data(entries),
        _models(planned),
        _settings(entries),
        _statistics(entries),
        _provenance(planned),
    ]


def _protocol(suite: Suite, entries: Sequence[PlannedRun]) -> Section:
    tasks = [entry.spec.task for entry in entries]
    text = [
        f"{suite.title}. {suite.about}",
        "A model reads the last steps of all channels (the look-back) and forecasts the steps after them (the "
        "horizon). Channels are standardised with mean and standard deviation of the training part; errors are MSE and "
        "MAE on that scale over every window, step and channel of the test part, summed in float64. No window is "
        "dropped, and no forecast depends on the other windows of its batch.",
        "Training is on the training part; the weights of the best validation epoch are kept, by MSE where MSE is "
        "the loss, else by MAE. The test part is scored once per run, after training, in eval mode. No choice "
        "depends on it.",
    ]
    if any(task.train_fraction < 1 for task in tasks):
        text.append("Few-shot: the earliest share of the training windows is used, scaled by the whole training part.")
    if any(task.test_on for task in tasks):
        text.append(
            "Zero-shot: the model is tested on data it was not trained on, scaled by the training part of that data."
        )
    if any(task.probe for task in tasks):
        text.append(
            "Layers: ridge probes on the states after each block, fitted on training windows, scored on validation "
            "windows, before and after training."
        )
    return Section("Protocol", tuple(text))


def _data(entries: Sequence[PlannedRun]) -> Section:
    tasks: dict[str, list[Task]] = {}
    for entry in entries:
        for name in entry.spec.task.datasets:
            tasks.setdefault(name, []).append(entry.spec.task)
    headers = ("Data set", "What", "Rows x channels", "Step", "Train / val / test rows", "Look-back", "Horizons")
    more = ("Test windows", "Season", "Licence", "SHA-256")
    return Section("Data", (), headers + more, tuple(_data_row(cards()[name], tasks[name]) for name in tasks))


def _data_row(card: DatasetCard, tasks: list[Task]) -> tuple[str, ...]:
    sizes = [last - first for first, last in card.bounds().values()]
    horizons = sorted({task.horizon for task in tasks})
    return (
        card.name,
        card.title,
        f"{card.rows} x {card.width}",
        card.step,
        " / ".join(map(str, sizes)),
        _listed(sorted({task.context for task in tasks})),
        _listed(horizons),
        _listed(sizes[2] - horizon + 1 for horizon in horizons),
        str(card.season),
        card.license,
        ", ".join(digest[:12] for digest in card.sha256),
    )


def _models(planned: Results) -> Section:
    costs: dict[str, list[Cost]] = {}
    for entry, result in planned.runs:
        costs.setdefault(entry.spec.model, []).extend([result.cost] if result and result.cost else [])
    rows = []
    for name, measured in costs.items():
        model = MODELS.get(name)
        follows, differs = (model.follows, model.differs) if model else ("a model of your own", "")
        sizes = (_millions(cost.params for cost in measured), _millions(cost.trainable for cost in measured))
        rows.append((registry.title(name), follows, differs, *sizes))
    headers = ("Model", "Follows", "Stated differences", "Parameters, M", "Trained, M")
    return Section("Models", tuple(_language_models(planned.reference)), headers, tuple(rows))


def _language_models(specs: Iterable[RunSpec]) -> list[str]:
    read = [BACKBONES[spec.backbone] for spec in specs if spec.backbone]
    return [
        f"Language model: {each.title}, {each.blocks} blocks of width {each.width}, "
        + (f"pretrained; SHA-256 {each.sha256[:12]}." if each.sha256 else "NOT pretrained.")
        for each in {each.name: each for each in read}.values()
    ]


def _settings(entries: Sequence[PlannedRun]) -> Section:
    """List each model's settings with the data sets and horizons that use them; equal settings share a row."""
    uses: dict[tuple[str, str, str], dict[str, list[int]]] = {}
    models = list(dict.fromkeys(entry.spec.model for entry in entries))
    for entry in sorted(entries, key=lambda entry: models.index(entry.spec.model)):
        spec = entry.spec
        train = spec.train.model_dump(mode="json", exclude_none=True, exclude=_unused(spec.train))
        used = (run_title(spec.model, entry.variant), _named(train), _named(spec.options))
        horizons = uses.setdefault(used, {}).setdefault(spec.task.dataset, [])
        if spec.task.horizon not in horizons:
            horizons.append(spec.task.horizon)
    rows = tuple((title, _places(places), train, options) for (title, train, options), places in uses.items())
    return Section("Settings", (), ("Model", "On", "Training", "Options"), rows)


def _unused(train: TrainConfig) -> set[str]:
    """Return the fields that the run's learning-rate schedule does not read."""
    return {name for name, reader in (("period", "cosine"), ("rise", "onecycle")) if train.schedule != reader}


def _places(places: dict[str, list[int]]) -> str:
    """Return the data sets with their horizons; data sets of equal horizons are grouped."""
    by_horizons: dict[tuple[int, ...], list[str]] = {}
    for dataset, horizons in places.items():
        by_horizons.setdefault(tuple(horizons), []).append(dataset)
    return "; ".join(f"{', '.join(names)} at {_listed(horizons)}" for horizons, names in by_horizons.items())


def _statistics(entries: Sequence[PlannedRun]) -> Section:
    seeds = sorted({entry.spec.seed for entry in entries})
    return Section(
        "Statistics",
        (
            f"Seeds: {_listed(seeds)}. Every source of randomness of a run is set from its seed. A cell is the mean "
            "over seeds, then over horizons, and is printed only if every run behind it is done; ± is the standard "
            "deviation over seeds (n - 1).",
            "Horizons of one data set are not independent samples: they are averaged first, and intervals resample "
            "data sets (bootstrap, 2,000 draws, 95 %, percentiles). With one data set, an interval is the range over "
            "seeds and is labelled so.",
            f"Ranks are compared by Friedman's test, pairs by Wilcoxon's signed-rank test after Holm, at {LEVEL:g}; "
            "with too few data sets for a test to reach that level, no significance is claimed. Skill is 1 - "
            "the geometric mean over data sets of a model's error over the seasonal naive forecast's.",
        ),
    )


def _provenance(planned: Results) -> Section:
    """Count the runs of each device, precision, commit and set of versions."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for result in planned.done:
        source = result.where
        commit = (source.git or "no commit")[:10] + (" with changes" if source.dirty else "")
        versions = ", ".join(f"{name} {version}" for name, version in source.versions.items())
        key = (" then ".join(source.devices), str(source.threads), result.spec.train.precision, commit, versions)
        alike.setdefault(key, []).append(source.date[:10])
    rows = [(str(len(days)), *key, " to ".join(dict.fromkeys((min(days), max(days))))) for key, days in alike.items()]
    states = f"{len(planned.done)} of {len(planned.runs)} planned runs are done"
    others = [planned.state(entry, result).words for entry, result in planned.runs]
    counts = ", ".join(
        f"{others.count(state)} {state}" for state in ("not run", "failed", "refused") if state in others
    )
    headers = ("Runs", "Device", "Threads", "Precision", "Commit", "Versions", "Dates")
    return Section("Provenance", (f"{states}{'; ' + counts if counts else ''}.",), headers, tuple(rows))


def _named(values: Mapping[str, object]) -> str:
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))


def _millions(counts: Iterable[int]) -> str:
    """Return the range of the counts in millions."""
    ends = sorted(counts)
    return " to ".join(dict.fromkeys(f"{count / 1e6:.3g}" for count in ends[:1] + ends[-1:]))
