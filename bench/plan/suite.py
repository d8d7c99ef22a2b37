"""Suite TOML + filters -> planned runs. No torch.

A suite lists models, data sets and seeds. The training settings of each model on each data set are in
suites/settings.toml, the same for every suite; a suite may override them, and may run models in several variants. Keys
that a suite lacks are taken from the suite that its `base` names, except `name`, `title`, `question`, `about` and
`tuned`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, Field, model_validator

from bench.core.base import NAME, BenchError, Frozen, Option, Seed, Size, UnknownName, parse, read_toml
from bench.core.card import DatasetCard, cards, longest_horizon
from bench.core.names import TableName, What
from bench.core.spec import Fraction, RunSpec, Task, TrainConfig
from bench.core.text import printable
from bench.plan import registry
from bench.plan.own_code import own_code
from bench.plan.registry import BackboneName, DatasetName, ModelName
from bench.plan.settings import CLAIMS, SETTINGS, SUITES, Change, ModelSettings
from bench.plan.settings import settings as model_settings
from bench.plan.tuning import Searches, read_searches
from models import MODELS
from models.llm_files import BACKBONES

Words = Annotated[str, AfterValidator(lambda text: printable(" ".join(text.split())))]
"""Text for tables and figures, in one line."""
MOST, MOST_BASES, MOST_RUNS = 1000, 20, 100_000
"""Most values in a list of a suite, most suites of which each is based on the next, and most runs of a grid."""


class Variant(Change):
    """Another way to run a model, with its own title in the suite's tables."""

    title: Words
    """May contain the option of `sweep` in braces."""
    models: tuple[ModelName, ...] | None = None
    """None: every model of the suite."""
    backbones: tuple[BackboneName, ...] | None = None
    """Shapes of language models that it is for; None: all."""
    random: bool = False
    """Replace the language model by its random twin."""
    probe: Literal[False, "states", "training"] = False
    """Probe the state after each block, as `Task.probe` says."""
    sweep: dict[str, Annotated[tuple[Option, ...], Field(min_length=1, max_length=MOST)]] = {}
    """Option -> values, one variant for each."""


class Suite(Frozen):
    """A grid: models x data sets x shares of the training windows x horizons x variants x seeds."""

    name: Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
    title: Words
    question: Words = ""
    """What its report answers, the heading of its page; empty: the title."""
    about: Words
    """Text for captions: budget, look-back, anything unusual."""
    models: Annotated[tuple[ModelName, ...], Field(min_length=1)]
    datasets: Annotated[tuple[DatasetName, ...], Field(min_length=1)]
    horizons: Annotated[tuple[Size, ...], Field(min_length=1, max_length=MOST)] | Literal["shortest"] | None = None
    """None: every horizon of each card; `shortest`: its shortest one."""
    context: Size | None = None
    """None: the look-back of each card."""
    contexts: dict[DatasetName, Size] = {}
    """Data set -> its look-back, over `context`."""
    fractions: Annotated[tuple[Fraction, ...], Field(min_length=1, max_length=MOST)] = (1.0,)
    """Shares of the training windows, the earliest first."""
    transfer: dict[DatasetName, Annotated[tuple[DatasetName, ...], Field(min_length=1)]] = {}
    """Data set trained on -> other data sets that its models are tested on."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1, max_length=MOST)]
    backbone: BackboneName
    """Language model of the models that read one."""
    override: tuple[dict[Literal["all"] | ModelName, ModelSettings], ...] = ()
    """Tables of model -> changes over settings.toml, those of the bases first; `all` for every model, applied before
    the model's own. (A suite file holds one table.)"""
    tuned: Searches = Searches()
    """Settings that a search chose, over those of settings.toml. (A suite file names the suite that was searched.)"""
    variant: Annotated[tuple[Variant, ...], Field(max_length=MOST)] = ()
    """Each model is run once per variant that names it, over all other settings; the first is the reference."""
    tables: Annotated[tuple[TableName, ...], Field(min_length=1)] = ("main", "full")
    """Tables of a report of this suite."""
    keep: tuple[What, ...] = ()
    """What each run keeps beside its record."""

    @model_validator(mode="after")
    def _has_what_its_tables_show(self) -> Suite:
        if "zero_shot" in self.tables and not self.transfer:
            raise ValueError("the table zero_shot needs a table [transfer]")
        for table in ("ablation", "losses", "taps", "layers"):
            if table in self.tables and not self.variant:
                raise ValueError(f"the table {table} needs a [[variant]]")
        return self


class PlannedRun(NamedTuple):
    """A planned run and the title of its variant in this suite; other suites may plan the same run."""

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
    """Filters of the command line: they narrow a suite, or add any registered model or data set to it."""

    models: tuple[ModelName, ...] | None = None
    datasets: tuple[DatasetName, ...] | None = None
    horizons: tuple[int, ...] | None = None
    seeds: tuple[Seed, ...] | None = None
    backbone: BackboneName | None = None

    @property
    def listed(self) -> dict[str, tuple[Any, ...]]:
        """Filter -> its values, for those that are set."""
        return {name: (value,) if isinstance(value, str) else value for name, value in self if value}

    @property
    def words(self) -> str:
        """The filters as on the command line; empty without any."""
        return " ".join(f"--{name} {' '.join(map(str, values))}" for name, values in self.listed.items())


def suite_names() -> list[str]:
    return sorted(path.stem for path in SUITES.glob("*.toml") if path not in (SETTINGS, CLAIMS))


def load_suite(name: str) -> Suite:
    """Read a suite by name, or a user's own by the path of its TOML file. Raises BenchError for a mistake in it."""
    path, values = _read_suite(name)
    cards()  # a fault in a card is the card's
    if isinstance(searched := values.get("tuned"), str):
        values["tuned"] = read_searches(suite_path(searched, path))
    suite = parse(Suite, {"name": path.stem, "title": path.stem, **values}, str(path))
    for name in {name for name in read_toml(path).get("override", ()) if ":" in name} - {*suite.models}:
        if meant := get_close_matches(name, suite.models, n=1, cutoff=0.85):  # else it is for a model of a filter
            raise BenchError(f"{path}: override: no model {name} in the suite; nearest: {meant[0]}. Do: correct it")
    if suite.name in suite_names() and path != SUITES / f"{suite.name}.toml":
        raise BenchError(f"{path}: name: {suite.name!r} is a suite of the project. Do: give this one another name")
    for source, targets in suite.transfer.items():
        if source in targets:
            cause = "every model is tested on its own data set anyway"
            raise BenchError(f"{path}: transfer: {source} to itself: {cause}. Do: delete it from its list")
    variants = [each for variant in suite.variant for each in _expanded(variant, path)]
    return suite.model_copy(update={"variant": tuple(variants)})


def suite_path(name: str, named_by: Path | None = None) -> Path:
    """Return the file of a suite by its name, or by the path of its TOML file as seen from the file that names it."""
    if name.endswith(".toml"):
        return named_by.parent / name if named_by else Path(name)
    if name not in suite_names():
        raise UnknownName("suite", name, suite_names(), str(named_by or ""))
    return SUITES / f"{name}.toml"


def _read_suite(name: str, named_by: tuple[Path, ...] = ()) -> tuple[Path, dict[str, Any]]:
    """Return the file of a suite, and its keys over those of its base; `named_by`: the files that led here."""
    # 1. Find and read the file.
    path = suite_path(name, named_by[-1] if named_by else None)
    if len(named_by) >= MOST_BASES:
        raise BenchError(f"{named_by[0]}: base: more than {MOST_BASES} suites in a row. Do: base it on fewer")
    if path.resolve() in map(Path.resolve, named_by):
        raise BenchError(f"{named_by[-1]}: base: {name} is in turn based on this suite. Do: choose another base")
    values = read_toml(path)
    # 2. Add the keys of its base.
    own = [values.pop("override")] if "override" in values else []
    base = values.pop("base", None)
    if base is None:
        return path, values | {"override": own}
    if not isinstance(base, str):
        raise BenchError(f"{path}: base: must be the name of a suite, got {base!r}. Do: correct it")
    _, inherited = _read_suite(base, (*named_by, path))
    inherited = {
        key: value for key, value in inherited.items() if key not in ("name", "title", "question", "about", "tuned")
    }
    return path, inherited | values | {"override": inherited["override"] + own}


def _expanded(variant: Variant, path: Path) -> list[Variant]:
    """Return one variant for each value of the variant's sweep, or the variant itself without a sweep."""
    if not variant.sweep:
        return [variant]
    if len(variant.sweep) > 1:
        cause = f"sweep: one option at a time, got {len(variant.sweep)}"
        raise BenchError(f"{path}: variant {variant.title}: {cause}. Do: write a [[variant]] for each")
    ((option, values),) = variant.sweep.items()
    expanded = []
    for value in values:
        update = {"title": variant.title.replace(f"{{{option}}}", str(value)), "sweep": {}}
        expanded.append(variant.model_copy(update=update | {"options": variant.options | {option: value}}))
    return expanded


def plan(suite: Suite, filters: Filters = Filters()) -> list[RunSpec]:  # noqa: B008  (frozen)
    """Return every run of the suite under the filters, each once."""
    return list({entry.spec.key: entry.spec for entry in entries(suite, filters)}.values())


def entries(suite: Suite, filters: Filters = Filters()) -> list[PlannedRun]:  # noqa: B008  (frozen)
    """Return the planned runs, as `planned` yields them."""
    return list(planned(suite, filters))


def planned(suite: Suite, filters: Filters) -> Iterator[PlannedRun]:
    """Yield the planned runs, ordered by data set, share of its windows, horizon, seed, model, variant.

    Models and data sets of a filter that are not the suite's run under its settings. Raises BenchError for a misfit.
    """
    models = list(dict.fromkeys(filters.models or suite.models))
    codes = {model: own_code(model) for model in models if model not in MODELS or MODELS[model].package}
    if not filters.models:  # a suite may come from a stranger; who types a model's name knows what will run
        for code in codes.values():
            code.require_here(suite.name)
    digests = {model: code.digest for model, code in codes.items()}
    chosen = [cards()[name] for name in dict.fromkeys(filters.datasets or suite.datasets)]
    backbone = filters.backbone or suite.backbone
    horizons = _horizons(suite, chosen, filters.horizons)
    seeds = list(dict.fromkeys(filters.seeds or suite.seeds))
    variants = {model: variants_of(suite, model, backbone) for model in models}
    cells = sum(map(len, horizons.values())) * len(set(suite.fractions)) * sum(map(len, variants.values()))
    if cells * len(seeds) > MOST_RUNS:
        raise BenchError(f"suite {suite.name}: plans {cells * len(seeds)} runs, at most {MOST_RUNS}. Do: split it")
    for card in chosen:
        for fraction, horizon in product(dict.fromkeys(suite.fractions), horizons[card.name]):
            task = _task(suite, card, horizon, fraction)
            runs = [
                PlannedRun(_spec(suite, task, model, backbone, variant, digests.get(model)), variant.title)
                for model in models
                for variant in variants[model]
            ]
            for seed in seeds:
                yield from (PlannedRun(spec.with_seed(seed), variant) for spec, variant in runs)


def _task(suite: Suite, card: DatasetCard, horizon: int, fraction: float) -> Task:
    if suite.transfer and card.name not in suite.transfer:
        cause = f"tests nothing that is trained on {card.name}; it has {', '.join(suite.transfer)}"
        raise BenchError(f"suite {suite.name} {cause}. Do: choose one of them by --datasets")
    targets = suite.transfer.get(card.name, ())
    return Task(
        dataset=card.name,
        context=_context(suite, card),
        horizon=horizon,
        train_fraction=fraction,
        test_on=targets,
        cards={name: cards()[name].digest for name in (card.name, *targets)},
    )


def variants_of(suite: Suite, model: str, backbone: str) -> list[Variant]:
    """Return the variants of a model in this suite; for a model without any one that has no title and no change."""
    own = [variant for variant in suite.variant if variant.models is None or model in variant.models]
    if not own:
        return [Variant(title="")]
    shape = BACKBONES[backbone].shape
    chosen = [variant for variant in own if variant.backbones is None or shape in variant.backbones]
    if not chosen:
        raise BenchError(f"suite {suite.name}: no variant of {model} is for the backbone {shape}. Do: add one")
    if any(variant.random for variant in chosen) and not BACKBONES[backbone].pretrained:
        cause = f"compares with a random backbone; --backbone {backbone} is one"
        raise BenchError(f"suite {suite.name} {cause}. Do: take {shape}")
    title, count = Counter(variant.title for variant in chosen).most_common(1)[0]
    if count > 1:
        raise BenchError(f"suite {suite.name}: two variants of {model} are called {title!r}. Do: rename one")
    return chosen


def _spec(suite: Suite, task: Task, model: str, backbone: str, variant: Variant, code: str | None) -> RunSpec:
    """Return the run of one cell of the grid, under the seed 0."""
    # 1. The language model and the task of the variant.
    if variant.random:
        backbone = f"{BACKBONES[backbone].shape}-random"
    place = f"suite {suite.name}, {model} on {task.dataset}" + f", variant {variant.title}" * bool(variant.title)
    if variant.probe:
        if model not in MODELS or not MODELS[model].probed:
            probed = ", ".join(name for name, entry in MODELS.items() if entry.probed)
            cause = f"only {probed} has a state of every patch after every block"
            raise BenchError(f"{place}: probe: {cause}. Do: name the variant's models")
        task = task.model_copy(update={"probe": variant.probe})
    if model in MODELS and MODELS[model].reads_season:
        task = _with_season(task)
    # 2. Its settings: the project's, then those that a search chose, the suite's overrides, the variant's.
    train: dict[str, Any] = {}
    options: dict[str, Option] = {"backbone": backbone} if model in MODELS and MODELS[model].uses_backbone else {}
    settings = model_settings()
    official = settings.get(model, settings["default"])
    overrides = [tables[name] for tables in suite.override for name in ("all", model) if name in tables]
    changes = [*official.changes(task, backbone), suite.tuned.change(model, task, place)]
    changes += [change for override in overrides for change in override.changes(task, backbone)]
    for change in (*changes, variant):
        train.update(change.train)
        options.update(change.options)
    return RunSpec(
        task=task,
        model=model,
        options=registry.resolve_options(model, options, place),
        train=parse(TrainConfig, train, place),
        seed=0,
        code=code,
    )


def _with_season(task: Task) -> Task:
    """Return the task with one season of its data set as context, if that is longer and every split holds a window."""
    season = cards()[task.dataset].season
    held = all(cards()[name].holds(season, task.horizon, task.train_fraction) for name in task.datasets)
    return task.model_copy(update={"context": season}) if held and season > task.context else task


def _context(suite: Suite, card: DatasetCard) -> int:
    """Return the look-back of a data set in this suite."""
    return suite.contexts.get(card.name) or suite.context or card.context


def left_out(suite: Suite, filters: Filters) -> str:
    """Name the horizons of the suite that are not planned, since a split holds no window of them; empty if none."""
    if filters.horizons or not isinstance(suite.horizons, tuple):
        return ""
    cut = []
    for card in (cards()[name] for name in dict.fromkeys(filters.datasets or suite.datasets) if name in suite.datasets):
        fitting = _fitting(suite, card, suite.horizons)
        cut += [f"{card.name} {horizon}" for horizon in suite.horizons if fitting and horizon not in fitting]
    return f"left out, since a split holds no window of it: {', '.join(cut)}" if cut else ""


def _fitting(suite: Suite, card: DatasetCard, horizons: Iterable[int]) -> list[int]:
    """Return the horizons of which every split of the data set holds a window."""
    longest = longest_horizon(card, _context(suite, card))
    return [horizon for horizon in horizons if horizon <= longest]


def _horizons(suite: Suite, chosen: list[DatasetCard], wanted: tuple[int, ...] | None) -> dict[str, list[int]]:
    """Return data set -> its wanted horizons in this suite; None: those of which each of its splits holds a window.

    A suite's own horizons are of its data sets; one that filters add has those of its card, and the suite's if wanted.
    Raises BenchError for a wanted horizon that no data set has. A data set that holds a window of none keeps them all:
    its runs are then refused with the reason.
    """
    own, added = suite.horizons, [card.name for card in chosen if card.name not in suite.datasets]
    if own is None or own == "shortest":
        available = {card.name: card.horizons if own is None else (min(card.horizons),) for card in chosen}
    else:
        further = own if wanted else ()
        available = {card.name: (*card.horizons, *further) if card.name in added else own for card in chosen}
    listed = sorted({horizon for horizons in available.values() for horizon in horizons})
    for horizon in wanted or ():
        if horizon not in listed:
            fitting = {each for card in chosen for each in _fitting(suite, card, available[card.name])}
            has = f"for {', '.join(available)}; it has {', '.join(map(str, sorted(fitting) or listed))}"
            raise BenchError(f"no horizon {horizon} in suite {suite.name} {has}. Do: choose one of these")
    if wanted is None:
        return {card.name: _fitting(suite, card, available[card.name]) or [*available[card.name]] for card in chosen}
    return {name: [each for each in dict.fromkeys(horizons) if each in wanted] for name, horizons in available.items()}
