"""Suite TOML + filters -> the runs it stands for. No torch.

A suite lists models, data sets and seeds. How each model is trained on each data set is in suites/settings.toml, the
same for every suite; a suite may override it. Cards are the *.toml files below datasets/.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from bench import registry
from bench.spec import (
    NAME,
    ROOT,
    BenchError,
    DatasetCard,
    Frozen,
    Option,
    Positive,
    RunSpec,
    Seed,
    Task,
    TrainConfig,
    UnknownName,
    parse,
)
from models.pretrained import BACKBONES

CARDS = ROOT / "datasets"
SUITES = ROOT / "bench" / "suites"
SETTINGS = SUITES / "settings.toml"


class Change(Frozen):
    """What is set of a model's training and options."""

    train: dict[str, Any] = {}
    options: dict[str, Option] = {}


class Setting(Change):
    """A change that applies where all given conditions hold."""

    datasets: tuple[str, ...] | None = None
    horizons: tuple[Positive, ...] | None = None
    backbones: tuple[str, ...] | None = None


class ModelSettings(Change):
    when: tuple[Setting, ...] = ()
    """Applied in order, later ones over earlier ones."""


class Suite(Frozen):
    """A grid: models x data sets x horizons x seeds."""

    name: Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
    title: str
    about: str
    """What a caption must say of it: budget, look-back, anything unusual."""
    models: Annotated[tuple[str, ...], Field(min_length=1)]
    datasets: Annotated[tuple[str, ...], Field(min_length=1)]
    horizons: tuple[Positive, ...] | None = None
    """None: every horizon of each card."""
    context: Positive | None = None
    """None: the look-back of each card."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    backbone: str
    """Of the models that read a language model."""
    override: dict[str, ModelSettings] = {}
    """By model, over settings.toml; `all` for every model, before the model's own."""


class Filters(Frozen):
    """What the command line narrows a suite to, or adds to it: any registered model, any card."""

    models: tuple[str, ...] | None = None
    datasets: tuple[str, ...] | None = None
    horizons: tuple[int, ...] | None = None
    seeds: tuple[Seed, ...] | None = None
    backbone: str | None = None


def suite_names() -> list[str]:
    return sorted(path.stem for path in SUITES.glob("*.toml") if path != SETTINGS)


def load_suite(name: str) -> Suite:
    """A suite by name, or a user's own by the path of its TOML file."""
    path = Path(name) if name.endswith(".toml") else SUITES / f"{name}.toml"
    if not name.endswith(".toml") and name not in suite_names():
        raise UnknownName("suite", name, suite_names())
    suite = parse(Suite, {"name": path.stem, **_read_toml(path)}, str(path))
    for model in suite.models:
        registry.canonical(model)
    for dataset in suite.datasets:
        _canonical_card(dataset)
    backbone = _canonical_backbone(suite.backbone, str(path))
    override = _canonical_settings(suite.override, "all", str(path))
    return suite.model_copy(update={"backbone": backbone, "override": override})


@lru_cache
def cards() -> dict[str, DatasetCard]:
    """Every data set card by name."""
    found = {}
    for path in sorted(CARDS.glob("*.toml")):
        card = parse(DatasetCard, _read_toml(path), str(path))
        if card.name != path.stem:
            raise BenchError(f"{path}: name is {card.name!r}; the file must be called {card.name}.toml")
        found[card.name] = card
    return found


def plan(suite: Suite, filters: Filters = Filters()) -> list[RunSpec]:  # noqa: B008  (frozen)
    """Every run of the suite under the filters: data set by data set, horizon, seed, then model.

    Models and data sets named in a filter need not be in the suite: they run under its settings.
    """
    models = [registry.canonical(name) for name in filters.models or suite.models]
    chosen = [_canonical_card(name) for name in filters.datasets or suite.datasets]
    backbone = _canonical_backbone(filters.backbone or suite.backbone, "--backbone")
    _check_horizons(suite, chosen, filters.horizons)
    specs: list[RunSpec] = []
    for card in _unique(chosen):
        for horizon in suite.horizons or card.horizons:
            if filters.horizons and horizon not in filters.horizons:
                continue
            task = Task(
                dataset=card.name,
                context=suite.context or card.context,
                horizon=horizon,
                cards={card.name: card.digest},
            )
            for seed in _unique(filters.seeds or suite.seeds):
                specs.extend(_spec(suite, task, model, seed, backbone) for model in _unique(models))
    return specs


def _spec(suite: Suite, task: Task, model: str, seed: int, backbone: str) -> RunSpec:
    train: dict[str, Any] = {}
    options: dict[str, Option] = {"backbone": backbone} if registry.uses_backbone(model) else {}
    settings = _settings()
    layers = [settings.get(model, settings["default"]), suite.override.get("all"), suite.override.get(model)]
    for layer in filter(None, layers):
        changes: list[Change] = [layer, *(when for when in layer.when if _applies(when, task, backbone))]
        for change in changes:
            train.update(change.train)
            options.update(change.options)
    place = f"suite {suite.name}, {model} on {task.dataset}"
    return RunSpec(
        task=task,
        model=model,
        options=registry.resolve_options(model, options, place),
        train=parse(TrainConfig, train, place),
        seed=seed,
        code=registry.code_digest(model),
    )


def _applies(when: Setting, task: Task, backbone: str) -> bool:
    return (
        (when.datasets is None or task.dataset in when.datasets)
        and (when.horizons is None or task.horizon in when.horizons)
        and (when.backbones is None or backbone in when.backbones)
    )


@lru_cache
def _settings() -> dict[str, ModelSettings]:
    read = {name: parse(ModelSettings, table, f"{SETTINGS}: {name}") for name, table in _read_toml(SETTINGS).items()}
    return _canonical_settings(read, "default", str(SETTINGS))


def _canonical_settings(given: dict[str, ModelSettings], common: str, place: str) -> dict[str, ModelSettings]:
    """The same with every name as it is registered; unknown ones are refused. `common` is the table for all models."""

    def when(setting: Setting) -> Setting:
        datasets = setting.datasets and tuple(_canonical_card(name).name for name in setting.datasets)
        backbones = setting.backbones and tuple(_canonical_backbone(name, place) for name in setting.backbones)
        return setting.model_copy(update={"datasets": datasets, "backbones": backbones})

    return {
        name if name == common else registry.canonical(name): settings.model_copy(
            update={"when": tuple(map(when, settings.when))}
        )
        for name, settings in given.items()
    }


def _canonical_card(name: str) -> DatasetCard:
    by_folded = {known.casefold(): card for known, card in cards().items()}
    if name.casefold() not in by_folded:
        raise UnknownName("data set", name, list(cards()))
    return by_folded[name.casefold()]


def _canonical_backbone(name: str, place: str) -> str:
    by_folded = {known.casefold(): known for known in BACKBONES}
    if name.casefold() not in by_folded:
        raise UnknownName("backbone", name, list(BACKBONES), place)
    return by_folded[name.casefold()]


def _check_horizons(suite: Suite, chosen: list[DatasetCard], wanted: tuple[int, ...] | None) -> None:
    known = sorted({horizon for card in chosen for horizon in suite.horizons or card.horizons})
    for horizon in wanted or ():
        if horizon not in known:
            names = ", ".join(card.name for card in chosen)
            raise BenchError(
                f"no horizon {horizon} in suite {suite.name} for {names}; it has {', '.join(map(str, known))}"
            )


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise BenchError(f"{path}: not valid TOML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"{path}: cannot be read: {error}") from None


def _unique(items: Iterable[Any]) -> list[Any]:
    """In order, without repeats (two spellings of one name are one)."""
    kept: list[Any] = []
    for item in items:
        if item not in kept:
            kept.append(item)
    return kept
