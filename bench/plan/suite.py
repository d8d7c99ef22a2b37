"""Suite TOML + filters -> the runs it stands for. No torch.

A suite lists models, data sets and seeds. How each model is trained on each data set is in suites/settings.toml, the
same for every suite; a suite may override it, and may run models in several variants. `base` names another suite whose
keys hold where a suite is silent (but for `name` and `about`, which are its own). Cards are the *.toml files below
datasets/.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator

from bench.core.base import NAME, BenchError, Frozen, Option, Positive, Seed, UnknownName, parse, read_toml
from bench.core.card import DatasetCard, canonical_card, cards
from bench.core.names import TableName
from bench.core.spec import RunSpec, Task, TrainConfig
from bench.plan import registry
from bench.plan.settings import (
    CLAIMS,
    SETTINGS,
    SUITES,
    Change,
    Fraction,
    ModelSettings,
    applies,
    canonical_backbone,
    canonical_settings,
    over,
)
from bench.plan.settings import settings as model_settings
from models import MODELS
from models.llm_files import BACKBONES


class Variant(Change):
    """A model run in another way, under a title of its own in the suite's tables."""

    title: str
    """May hold the options of `sweep` in braces."""
    models: tuple[str, ...] | None = None
    """None: every model of the suite."""
    backbones: tuple[str, ...] | None = None
    """Only where the language model has this shape."""
    random: bool = False
    """The language model's random twin in its place."""
    probe: bool = False
    """Also measure what each of its blocks holds (bench/train/probes.py)."""
    sweep: dict[str, Annotated[tuple[Option, ...], Field(min_length=1)]] = {}
    """One variant for each value of this option."""


class Suite(Frozen):
    """A grid: models x data sets x horizons x seeds, and what else it lists."""

    name: Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
    title: str
    about: str
    """What a caption must say of it: budget, look-back, anything unusual."""
    models: Annotated[tuple[str, ...], Field(min_length=1)]
    datasets: Annotated[tuple[str, ...], Field(min_length=1)]
    horizons: tuple[Positive, ...] | Literal["shortest"] | None = None
    """None: every horizon of each card; `shortest`: its shortest one."""
    context: Positive | None = None
    """None: the look-back of each card."""
    contexts: dict[str, Positive] = {}
    """Look-backs of single data sets."""
    fractions: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (1.0,)
    """Shares of the training windows, the earliest first."""
    transfer: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]] = {}
    """The data sets that a model trained on this one is tested on."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    backbone: str
    """Of the models that read a language model."""
    override: dict[str, ModelSettings] = {}
    """By model, over settings.toml; `all` for every model, before the model's own."""
    variant: tuple[Variant, ...] = ()
    """A model that any of these names is run once for each, over all other settings; the first is the reference."""
    tables: Annotated[tuple[TableName, ...], Field(min_length=1)] = ("main", "full")
    """What a report of this suite consists of."""

    @model_validator(mode="after")
    def _has_what_its_tables_show(self) -> Suite:
        if "zero_shot" in self.tables and not self.transfer:
            raise ValueError("the table zero_shot needs a table [transfer]")
        for table in ("ablation", "losses", "layers"):
            if table in self.tables and not self.variant:
                raise ValueError(f"the table {table} needs a [[variant]]")
        return self


class PlannedRun(NamedTuple):
    """A planned run, and the title of the variant it is in this suite; other suites may plan the same run."""

    spec: RunSpec
    variant: str = ""

    @property
    def who(self) -> str:
        return f"{self.spec.model} ({self.variant})" if self.variant else self.spec.model

    @property
    def what(self) -> str:
        task = self.spec.task
        share = f" {100 * task.train_fraction:g}%" if task.train_fraction < 1 else ""
        return f"{task.dataset}{share} h{task.horizon}"

    @property
    def label(self) -> str:
        return f"{self.who} {self.what} s{self.spec.seed}"


class Filters(Frozen):
    """What the command line narrows a suite to, or adds to it: any registered model, any card."""

    models: tuple[str, ...] | None = None
    datasets: tuple[str, ...] | None = None
    horizons: tuple[int, ...] | None = None
    seeds: tuple[Seed, ...] | None = None
    backbone: str | None = None

    @property
    def words(self) -> str:
        """As they are typed; empty if there are none."""
        listed = {name: (value,) if isinstance(value, str) else value for name, value in self if value}
        return " ".join(f"--{name} {' '.join(map(str, values))}" for name, values in listed.items())


def suite_names() -> list[str]:
    return sorted(path.stem for path in SUITES.glob("*.toml") if path not in (SETTINGS, CLAIMS))


def load_suite(name: str) -> Suite:
    """A suite by name, or a user's own by the path of its TOML file."""
    path, values = _read_suite(name)
    suite = parse(Suite, {"name": path.stem, **values}, str(path))
    if suite.name in suite_names() and path != SUITES / f"{suite.name}.toml":
        raise BenchError(f"{path}: name: {suite.name!r} is a suite of the project; give this one another name")
    for model in suite.models:
        registry.canonical(model)
    for dataset in suite.datasets:
        canonical_card(dataset)
    place = str(path)
    transfer = {
        canonical_card(source).name: tuple(canonical_card(target).name for target in targets)
        for source, targets in suite.transfer.items()
    }
    for source, targets in transfer.items():
        if source in targets:
            raise BenchError(f"{place}: transfer: {source} to itself; every model is tested on its own data set anyway")
    return suite.model_copy(
        update={
            "backbone": canonical_backbone(suite.backbone, place),
            "override": canonical_settings(suite.override, "all", place),
            "contexts": {canonical_card(dataset).name: context for dataset, context in suite.contexts.items()},
            "transfer": transfer,
            "variant": tuple(each for variant in suite.variant for each in _expanded(variant, place)),
        }
    )


def _read_suite(name: str, named_by: tuple[Path, ...] = ()) -> tuple[Path, dict[str, Any]]:
    """The file of a suite, and its keys over those of its base."""
    path = SUITES / f"{name}.toml"
    if name.endswith(".toml"):
        path = named_by[-1].parent / name if named_by else Path(name)
    elif name not in suite_names():
        raise UnknownName("suite", name, suite_names(), str(named_by[-1]) if named_by else "")
    if path in named_by:
        raise BenchError(f"{named_by[-1]}: base: {name} is in turn based on this suite")
    values = read_toml(path)
    base = values.pop("base", None)
    if base is None:
        return path, values
    if not isinstance(base, str):
        raise BenchError(f"{path}: base: must be the name of a suite, got {base!r}")
    _, inherited = _read_suite(base, (*named_by, path))
    for own in ("name", "about"):
        inherited.pop(own, None)
    if isinstance(inherited.get("override"), dict) and isinstance(values.get("override"), dict):
        values["override"] = over(inherited["override"], values["override"])
    return path, inherited | values


def _expanded(variant: Variant, place: str) -> list[Variant]:
    """With canonical names, and one variant for each value of its sweep."""
    models = variant.models and tuple(map(registry.canonical, variant.models))
    backbones = variant.backbones and tuple(canonical_backbone(name, place) for name in variant.backbones)
    named = variant.model_copy(update={"models": models, "backbones": backbones, "sweep": {}})
    if not variant.sweep:
        return [named]
    if len(variant.sweep) > 1:
        raise BenchError(f"{place}: variant {variant.title}: sweep: one option at a time")
    ((option, values),) = variant.sweep.items()
    return [
        named.model_copy(
            update={
                "title": variant.title.replace(f"{{{option}}}", str(value)),
                "options": variant.options | {option: value},
            }
        )
        for value in values
    ]


def plan(suite: Suite, filters: Filters = Filters()) -> list[RunSpec]:  # noqa: B008  (frozen)
    """Every run of the suite under the filters, each once."""
    return list({entry.spec.key: entry.spec for entry in entries(suite, filters)}.values())


def entries(suite: Suite, filters: Filters = Filters()) -> list[PlannedRun]:  # noqa: B008  (frozen)
    """What the suite's tables consist of: data set by data set, share of its windows, horizon, seed, model, variant.

    Models and data sets named in a filter need not be in the suite: they run under its settings.
    """
    models = _unique(registry.canonical(name) for name in filters.models or suite.models)
    chosen = _unique(canonical_card(name) for name in filters.datasets or suite.datasets)
    backbone = canonical_backbone(filters.backbone or suite.backbone, "--backbone")
    _check_horizons(suite, chosen, filters.horizons)
    planned: list[PlannedRun] = []
    for card in chosen:
        for fraction in _unique(suite.fractions):
            for horizon in _horizons(suite, card):
                if filters.horizons and horizon not in filters.horizons:
                    continue
                task = _task(suite, card, horizon, fraction)
                first, *others = _unique(filters.seeds or suite.seeds)
                runs = [
                    PlannedRun(_spec(suite, task, model, first, backbone, variant), variant.title if variant else "")
                    for model in models
                    for variant in _variants(suite, model, backbone)
                ]
                planned += runs
                for seed in others:
                    planned += [run._replace(spec=run.spec.model_copy(update={"seed": seed})) for run in runs]
    return planned


def _task(suite: Suite, card: DatasetCard, horizon: int, fraction: float) -> Task:
    if suite.transfer and card.name not in suite.transfer:
        raise BenchError(
            f"suite {suite.name} tests nothing that is trained on {card.name}; it has {', '.join(suite.transfer)}"
        )
    targets = suite.transfer.get(card.name, ())
    return Task(
        dataset=card.name,
        context=suite.contexts.get(card.name) or suite.context or card.context,
        horizon=horizon,
        train_fraction=fraction,
        test_on=targets,
        cards={name: cards()[name].digest for name in (card.name, *targets)},
    )


def _variants(suite: Suite, model: str, backbone: str) -> list[Variant] | list[None]:
    """Those of a model in this suite; the model as it is where there are none."""
    own = [variant for variant in suite.variant if variant.models is None or model in variant.models]
    if not own:
        return [None]
    shape = BACKBONES[backbone].shape
    chosen = [variant for variant in own if variant.backbones is None or shape in variant.backbones]
    if not chosen:
        raise BenchError(f"suite {suite.name}: no variant of {model} is for the backbone {shape}; add one")
    if any(variant.random for variant in chosen) and not BACKBONES[backbone].pretrained:
        raise BenchError(
            f"suite {suite.name} compares with a random backbone; --backbone {backbone} is one: take {shape}"
        )
    titles = [variant.title for variant in chosen]
    for title in titles:
        if titles.count(title) > 1:
            raise BenchError(
                f"suite {suite.name}: two variants of {model} are called {title!r}; a table needs two names"
            )
    return chosen


def _spec(suite: Suite, task: Task, model: str, seed: int, backbone: str, variant: Variant | None) -> RunSpec:
    if variant and variant.random:
        backbone = f"{BACKBONES[backbone].shape}-random"
    place = f"suite {suite.name}, {model} on {task.dataset}" + (f", variant {variant.title}" if variant else "")
    if variant and variant.probe:
        if model not in MODELS or not MODELS[model].probed:
            probed = ", ".join(name for name, entry in MODELS.items() if entry.probed)
            raise BenchError(f"{place}: probe: only {probed} has a state of every patch after every block")
        task = task.model_copy(update={"probe": True})
    train: dict[str, Any] = {}
    options: dict[str, Option] = {"backbone": backbone} if registry.uses_backbone(model) else {}
    settings = model_settings()
    layers = [settings.get(model, settings["default"]), suite.override.get("all"), suite.override.get(model)]
    changes: list[Change] = []
    for layer in filter(None, layers):
        changes += [layer, *(when for when in layer.when if applies(when, task, backbone))]
    for change in (*changes, *([variant] if variant else [])):
        train.update(change.train)
        options.update(change.options)
    return RunSpec(
        task=task,
        model=model,
        options=registry.resolve_options(model, options, place),
        train=parse(TrainConfig, train, place),
        seed=seed,
        code=registry.code_digest(model),
    )


def _horizons(suite: Suite, card: DatasetCard) -> tuple[int, ...]:
    return (min(card.horizons),) if suite.horizons == "shortest" else suite.horizons or card.horizons


def _check_horizons(suite: Suite, chosen: list[DatasetCard], wanted: tuple[int, ...] | None) -> None:
    known = sorted({horizon for card in chosen for horizon in _horizons(suite, card)})
    for horizon in wanted or ():
        if horizon not in known:
            names = ", ".join(card.name for card in chosen)
            raise BenchError(
                f"no horizon {horizon} in suite {suite.name} for {names}; it has {', '.join(map(str, known))}"
            )


def _unique(items: Iterable[Any]) -> list[Any]:
    """In order, without repeats (two spellings of one name are one)."""
    kept: list[Any] = []
    for item in items:
        if item not in kept:
            kept.append(item)
    return kept
