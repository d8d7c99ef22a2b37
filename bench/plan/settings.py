"""The training settings of each model on each data set (suites/settings.toml, and a suite's overrides). No torch."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from bench.core.base import ROOT, Frozen, Option, Size, parse, read_toml
from bench.core.spec import Task
from bench.plan.registry import BackboneName, DatasetName, canonical
from models.llm_files import BACKBONES

SUITES = ROOT / "bench" / "suites"
SETTINGS = SUITES / "settings.toml"
CLAIMS = SUITES / "claims.toml"


class Change(Frozen):
    """Values of a model's training and options that replace earlier ones."""

    train: dict[str, Any] = {}
    options: dict[str, Option] = {}


class Setting(Change):
    """A change under conditions; a condition that is None always holds."""

    datasets: tuple[DatasetName, ...] | None = None
    horizons: tuple[Size, ...] | None = None
    backbones: tuple[BackboneName, ...] | None = None

    def holds(self, task: Task, shape: str) -> bool:
        """Return whether the conditions hold for this task and the shape of this language model."""
        facts = ((self.datasets, task.dataset), (self.horizons, task.horizon), (self.backbones, shape))
        return all(listed is None or fact in listed for listed, fact in facts)


class ModelSettings(Change):
    when: tuple[Setting, ...] = ()
    """Applied in order; a later change replaces an earlier one."""

    def changes(self, task: Task, backbone: str) -> list[Change]:
        """Return the changes for this task and backbone, in order."""
        return [self, *(setting for setting in self.when if setting.holds(task, BACKBONES[backbone].shape))]


@lru_cache
def settings() -> dict[str, ModelSettings]:
    """Return model -> its settings, from suites/settings.toml; `default` for models without a table of their own."""
    return {
        name if name == "default" else canonical(name): parse(ModelSettings, table, f"{SETTINGS}: {name}")
        for name, table in read_toml(SETTINGS).items()
    }
