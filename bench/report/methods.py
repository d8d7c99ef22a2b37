"""Describe how the numbers of a report were computed, from the suite and its records. Pure; no torch."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.analysis.results import Results, contexts_of, run_title, seasons
from bench.analysis.stats import LEVEL
from bench.analysis.tuning import search_rows
from bench.core.card import DatasetCard, cards
from bench.core.grouping import gathered
from bench.plan import registry
from bench.plan.own_code import version_of
from bench.plan.suite import PlannedRun, Suite
from models import MODELS, library_of
from models.llm_files import BACKBONES

READERS = {"period": "cosine", "rise": "onecycle"}
"""Field of the training settings -> the only learning-rate schedule that reads it."""


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
        *_searches(suite, entries),
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
            "Layers: ridge probes on the states after each block, before the final norm, fitted on training windows, "
            "scored on validation windows; where nothing is trained, that is all of the run."
        )
    return Section("Protocol", tuple(text))


def _data(entries: Sequence[PlannedRun]) -> Section:
    specs = [entry.spec for entry in entries]
    usual = contexts_of(specs)
    contexts = gathered((name, usual[spec.task.dataset]) for spec in specs for name in spec.task.datasets)
    horizons = gathered((name, spec.task.horizon) for spec in specs for name in spec.task.datasets)
    rows = [_data_row(cards()[name], sorted(contexts[name]), sorted(horizons[name])) for name in contexts]
    return Section("Data", tuple(seasons(specs)), tuple(rows[0]), tuple(tuple(row.values()) for row in rows))


def _data_row(card: DatasetCard, contexts: list[int], horizons: list[int]) -> dict[str, str]:
    sizes = [last - first for first, last in card.bounds().values()]
    return {
        "Data set": card.name,
        "What": "; ".join(filter(None, [card.title, card.repaired])),
        "Rows x channels": f"{card.rows} x {card.width}",
        "Step": card.step,
        "Train / val / test rows": " / ".join(map(str, sizes)),
        "Look-back": _listed(contexts),
        "Horizons": _listed(horizons),
        "Test windows": _listed(sizes[2] - horizon + 1 for horizon in horizons),
        "Season": str(card.season),
        "Licence": card.license,
        "SHA-256": ", ".join(digest[:12] for digest in card.sha256),
    }


def _models(planned: Results) -> Section:
    # 1. The language models.
    text = []
    for backbone in dict.fromkeys(spec.backbone for spec in planned.reference if spec.backbone):
        model = BACKBONES[backbone]
        weights = f"pretrained; SHA-256 {model.sha256[:12]}" if model.sha256 else "NOT pretrained"
        text.append(f"Language model: {model.title}, {model.blocks} blocks of width {model.width}, {weights}.")
        text += [model.differs] if model.differs and model.pretrained else []
    # 2. The forecasters.
    costs = [(entry.spec.model, result.cost if result else None) for entry, result in planned.runs]
    sizes = gathered((name, (cost.params, cost.trainable) if cost else None) for name, cost in costs)
    rows = []
    for name, measured in sizes.items():
        facts = MODELS.get(name)
        if library := library_of(name):
            origin = library.follows, f"{library.package.name} {version_of(library.package)}"
        else:
            origin = (facts.follows, facts.differs) if facts else ("a model of your own", "")
        done = [pair for pair in measured if pair]
        params, trainable = zip(*done, strict=True) if done else ((), ())
        rows.append((registry.title(name), *origin, _millions(params), _millions(trainable)))
    headers = ("Model", "Follows", "Stated differences", "Parameters, M", "Trained, M")
    return Section("Models", tuple(text), headers, tuple(rows))


def _settings(entries: Sequence[PlannedRun]) -> Section:
    """List each model's settings with the data sets and horizons that use them; equal settings share a row."""
    models = list(dict.fromkeys(entry.spec.model for entry in entries))
    cells = {(entry.spec.cell, entry.variant): entry for entry in entries}.values()  # seeds make no difference
    uses = gathered(map(_use, sorted(cells, key=lambda entry: models.index(entry.spec.model))))
    rows = tuple((title, _places(places), train, options) for (title, train, options), places in uses.items())
    return Section("Settings", (), ("Model", "On", "Training", "Options"), rows)


def _searches(suite: Suite, entries: Sequence[PlannedRun]) -> list[Section]:
    """Say how settings were searched on the planned data sets; nothing without a search."""
    used = {(entry.spec.model, entry.spec.task.dataset) for entry in entries}
    searches = [each for each in suite.tuned.searches if (each.model, each.dataset) in used]
    if not searches:
        return []
    first = searches[0]
    backbones = {BACKBONES[each.backbone].title for each in searches if each.backbone}
    text = (
        f"Where no script exists for a data set and its look-back, every model has had the same number of trials "
        f"({len(first.trials)}; seeds {_listed(first.seeds)}; horizons {_listed(first.trials[0].scores)}"
        f"{'; language model ' + _listed(backbones) if backbones else ''}). The trial with the best validation score, "
        "mean over seeds and horizons, is run at every horizon (marked *). Scores are in the metric of a model's loss: "
        "compare within a column. Test errors had no part in it."
    )
    headers, rows = search_rows(searches)
    return [Section("Search of settings", (text,), headers, tuple(rows))]


def _use(entry: PlannedRun) -> tuple[tuple[str, str, str], tuple[str, int]]:
    """Return a run's title, training and options, without what its schedule does not read; its data set and horizon."""
    spec = entry.spec
    unused = {name for name, reader in READERS.items() if spec.train.schedule != reader}
    train = spec.train.model_dump(mode="json", exclude_none=True, exclude=unused)
    settings = (run_title(spec.model, entry.variant), _named(train), _named(spec.options))
    return settings, (spec.task.dataset, spec.task.horizon)


def _places(places: list[tuple[str, int]]) -> str:
    """Return the data sets with their horizons; data sets of equal horizons are grouped."""
    alike = gathered((tuple(horizons), name) for name, horizons in gathered(places).items())
    return "; ".join(f"{', '.join(names)} at {_listed(horizons)}" for horizons, names in alike.items())


def _statistics(entries: Sequence[PlannedRun]) -> Section:
    seeds = sorted({entry.spec.seed for entry in entries})
    return Section(
        "Statistics",
        (
            f"Seeds: {_listed(seeds)}. Every source of randomness of a run is set from its seed. A cell is the mean "
            "over seeds, then over horizons, and is printed only if every run behind it is done; ± is the standard "
            "deviation over seeds (n - 1).",
            "Horizons of one data set are not independent samples: they are averaged first, and intervals are over "
            "data sets: Student's t, at 98.5 % for a nominal 95 %, because a few skewed values are covered too little. "
            "With one data set, an interval is over seeds (of two models: Welch's), shows training noise on one test "
            "period, and is labelled so. Verdicts are corrected for the number of claims (Holm).",
            f"Ranks are compared by Friedman's test, pairs by Wilcoxon's signed-rank test after Holm, at {LEVEL:g}; "
            "with too few data sets for a test to reach that level, no significance is claimed. Skill is 1 - "
            "the geometric mean over data sets of a model's error over the seasonal naive forecast's.",
        ),
    )


def _provenance(planned: Results) -> Section:
    """Count the runs of each device, precision, commit and set of versions."""
    # 1. States.
    states = Counter(planned.state(entry, result).words for entry, result in planned.runs)
    others = ", ".join(f"{states[state]} {state}" for state in ("not run", "failed", "refused") if states[state])
    text = f"{states['done']} of {len(planned.runs)} planned runs are done{'; ' if others else ''}{others}."
    # 2. Sources.
    days: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for result in planned.done:
        source = result.where
        commit = (source.git or "no commit")[:10] + (" with changes" if source.dirty else "")
        run = (" then ".join(source.devices), str(source.threads), result.spec.train.precision)
        days[*run, commit, _named(source.versions)].append(source.date[:10])
    rows = tuple((str(len(each)), *key, " to ".join(sorted({min(each), max(each)}))) for key, each in days.items())
    headers = ("Runs", "Device", "Threads", "Precision", "Commit", "Versions", "Dates")
    return Section("Provenance", (text,), headers, rows)


def _named(values: Mapping[str, object]) -> str:
    return _listed(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))


def _millions(counts: Iterable[int]) -> str:
    """Return the range of the counts in millions."""
    ends = sorted(counts)
    return " to ".join(dict.fromkeys(f"{count / 1e6:.3g}" for count in ends[:1] + ends[-1:]))
