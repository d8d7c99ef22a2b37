"""The training settings of each model on each data set (suites/settings.toml, and a suite's overrides). No torch."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any

from pydantic import Field

from bench.core.base import ROOT, Frozen, Option, Positive, parse, read_toml
from bench.core.card import canonical_card
from bench.core.spec import Task
from bench.plan import registry
from models.llm_files import BACKBONES

SUITES = ROOT / "bench" / "suites"
SETTINGS = SUITES / "settings.toml"
CLAIMS = SUITES / "claims.toml"
Fraction = Annotated[float, Field(gt=0, le=1)]


class Change(Frozen):
    """Values of a model's training and options that replace earlier ones."""

    train: dict[str, Any] = {}
    options: dict[str, Option] = {}


class Setting(Change):
    """A change under conditions; a condition that is None always holds."""

    datasets: tuple[str, ...] | None = None
    horizons: tuple[Positive, ...] | None = None
    backbones: tuple[str, ...] | None = None


class ModelSettings(Change):
    when: tuple[Setting, ...] = ()
    """Applied in order; a later change replaces an earlier one."""

    def changes(self, task: Task, backbone: str) -> list[Change]:
        """Return the changes for this task and backbone, in order."""
        found: list[Change] = [self]
        for when in self.when:
            if (
                (when.datasets is None or task.dataset in when.datasets)
                and (when.horizons is None or task.horizon in when.horizons)
                and (when.backbones is None or BACKBONES[backbone].shape in when.backbones)
            ):
                found.append(when)
        return found


@lru_cache
def settings() -> dict[str, ModelSettings]:
    """Return model -> its settings, from suites/settings.toml; `default` for models without a table of their own."""
    read = {name: parse(ModelSettings, table, f"{SETTINGS}: {name}") for name, table in read_toml(SETTINGS).items()}
    return canonical_settings(read, "default", str(SETTINGS))


def canonical_settings(tables: dict[str, ModelSettings], common: str, place: str) -> dict[str, ModelSettings]:
    """Return model -> settings with registered names; `common` names the table for all models.

    Raises UnknownName for an unknown model, data set or backbone.
    """

    def when(setting: Setting) -> Setting:
        datasets = setting.datasets and tuple(canonical_card(name).name for name in setting.datasets)
        backbones = setting.backbones and tuple(registry.canonical_backbone(name, place) for name in setting.backbones)
        return setting.model_copy(update={"datasets": datasets, "backbones": backbones})

    return {
        name if name == common else registry.canonical(name): settings.model_copy(
            update={"when": tuple(map(when, settings.when))}
        )
        for name, settings in tables.items()
    }
