"""What searches of settings found: data beside the suite that was searched, and the choice it comes to. No torch.

A search runs every model of a suite in the same number of variants (`trials`) and chooses by validation scores alone.
Another suite takes the choices over with its key `tuned`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

from pydantic import Field

from bench.core.base import BenchError, Frozen, Positive, Seed, parse, read_regular
from bench.core.spec import Task
from bench.core.system import write_whole
from bench.plan.registry import BackboneName, DatasetName, ModelName
from bench.plan.settings import SUITES, Change


class Trial(Change):
    """A change of a model's settings, and how it did."""

    title: str
    scores: dict[Positive, float | None]
    """Horizon -> validation score of the best epoch, mean over seeds; None if a run failed."""

    @property
    def score(self) -> float:
        """The mean over horizons; infinite if a run failed."""
        known = [score for score in self.scores.values() if score is not None]
        return sum(known) / len(known) if len(known) == len(self.scores) else math.inf


class Search(Frozen):
    """All trials of a model on a data set. Scores are in the metric of the model's loss: no two models compare."""

    model: ModelName
    dataset: DatasetName
    context: Positive
    seeds: tuple[Seed, ...]
    backbone: BackboneName | None
    trials: Annotated[tuple[Trial, ...], Field(min_length=1)]

    @property
    def chosen(self) -> Trial:
        """The trial with the least score, the first of equals."""
        return min(self.trials, key=lambda trial: trial.score)


class Searches(Frozen):
    """The searches of one suite."""

    searches: tuple[Search, ...] = ()

    def change(self, model: str, task: Task, place: str) -> Change:
        """Return the setting chosen for a model on a task; no change where none was searched.

        Raises BenchError if it was searched at another look-back.
        """
        for search in self.searches:
            if (search.model, search.dataset) == (model, task.dataset):
                if search.context != task.context:
                    cause = (
                        f"{place}: tuned: searched on {task.dataset} at look-back {search.context}, not {task.context}"
                    )
                    raise BenchError(f"{cause}. Do: search at this look-back, or drop the key")
                return search.chosen
        return Change()


def read_searches(suite: Path) -> Searches:
    """Read what was searched with the suite of this file. Raises BenchError if nothing was."""
    path, name = suite.with_suffix(".json"), suite.stem if suite.parent == SUITES else suite
    remedy = f"python -m bench tune --suite {name}"
    if not path.is_file():
        raise BenchError(f"{path}: no search has ended. Do: {remedy}")
    return parse(Searches, read_regular(path, 1 << 20).decode(), str(path), remedy)


def write_searches(suite: Path, found: tuple[Search, ...]) -> Path:
    """Write these searches beside the suite's file, over those of the same models and data sets; return the path."""
    path = suite.with_suffix(".json")
    earlier = read_searches(suite).searches if path.is_file() else ()
    kept = {(search.model, search.dataset): search for search in (*earlier, *found)}
    text = Searches(searches=tuple(kept.values())).model_dump_json(indent=1)
    write_whole(path, f"{text}\n".encode())
    return path
