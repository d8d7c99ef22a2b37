"""How each model is trained on each data set (suites/settings.toml, and a suite's overrides). No torch."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any

from pydantic import Field

from bench.core.base import ROOT, Frozen, Option, Positive, UnknownName, parse, read_toml
from bench.core.card import canonical_card
from bench.core.spec import Task
from bench.plan import registry
from models.llm_files import BACKBONES

SUITES = ROOT / "bench" / "suites"
SETTINGS = SUITES / "settings.toml"
CLAIMS = SUITES / "claims.toml"
Fraction = Annotated[float, Field(gt=0, le=1)]


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


def over(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """The overrides of a base with a suite's own ones applied after them, as settings without a condition."""
    merged = {_override_name(name): settings for name, settings in base.items()}
    named = {_override_name(name): settings for name, settings in own.items()}
    for model in (*merged, *(name for name in named if name not in merged)):
        later = [named.get("all"), named.get(model)] if model in merged and model != "all" else [named.get(model)]
        for settings in filter(None, later):
            earlier = merged.get(model)
            if isinstance(settings, dict) and isinstance(earlier, dict):
                always = {key: value for key, value in settings.items() if key != "when"}
                merged[model] = earlier | {"when": [*earlier.get("when", ()), always, *settings.get("when", ())]}
            else:
                merged[model] = settings
    return merged


def _override_name(name: str) -> str:
    return name if name == "all" else registry.canonical(name)


def applies(when: Setting, task: Task, backbone: str) -> bool:
    return (
        (when.datasets is None or task.dataset in when.datasets)
        and (when.horizons is None or task.horizon in when.horizons)
        and (when.backbones is None or BACKBONES[backbone].shape in when.backbones)
    )


@lru_cache
def settings() -> dict[str, ModelSettings]:
    read = {name: parse(ModelSettings, table, f"{SETTINGS}: {name}") for name, table in read_toml(SETTINGS).items()}
    return canonical_settings(read, "default", str(SETTINGS))


def canonical_settings(given: dict[str, ModelSettings], common: str, place: str) -> dict[str, ModelSettings]:
    """The same with every name as it is registered; unknown ones are refused. `common` is the table for all models."""

    def when(setting: Setting) -> Setting:
        datasets = setting.datasets and tuple(canonical_card(name).name for name in setting.datasets)
        backbones = setting.backbones and tuple(canonical_backbone(name, place) for name in setting.backbones)
        return setting.model_copy(update={"datasets": datasets, "backbones": backbones})

    return {
        name if name == common else registry.canonical(name): settings.model_copy(
            update={"when": tuple(map(when, settings.when))}
        )
        for name, settings in given.items()
    }


def canonical_backbone(name: str, place: str) -> str:
    by_folded = {known.casefold(): known for known in BACKBONES}
    if name.casefold() not in by_folded:
        raise UnknownName("backbone", name, list(BACKBONES), place)
    return by_folded[name.casefold()]
