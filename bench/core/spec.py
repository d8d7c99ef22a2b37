"""Task and run: their settings, and the key that identifies a run.

Everything here is frozen and refuses unknown fields. The identity of a run is the SHA-256 of its spec's canonical
JSON: every field that can change a number is in the spec, nothing else is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from bench.core.base import MODEL_NAME, Frozen, Option, Positive, Seed, Size
from models import MODELS, library_of
from models.llm_files import BACKBONES, Published, find

PROTOCOL = 1
"""Increased when splits, scaling, metrics or the training loop change; older records then count as missing."""

Fraction = Annotated[float, Field(ge=1e-6, le=1)]
Rate = Annotated[float, Field(gt=0, le=1e3)]


class Task(Frozen):
    """The task: forecast `horizon` steps of a data set from the `context` steps before them."""

    dataset: str
    context: Size
    horizon: Size
    train_fraction: Fraction = 1.0
    """Share of the training windows in use, the earliest first (few-shot)."""
    test_on: tuple[str, ...] = ()
    """Other data sets on which the trained model is tested too (zero-shot)."""
    probe: Literal[False, "states", "training"] = False
    """What each block of the backbone is probed for (bench/train/probes.py): `states`, in place of training and test;
    `training`, before and after training."""
    cards: dict[str, str]
    """Data set -> digest of its card, for `dataset` and `test_on`: an edited card makes a new task."""

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the data sets that a run of this task reads: its own first, then `test_on`."""
        return (self.dataset, *self.test_on)


class TrainConfig(Frozen):
    """How a model is trained. The best epoch is chosen on the validation split, with the metric of the loss."""

    epochs: Size
    batch: Size
    """Windows (all channels) per optimiser step."""
    lr: Rate
    schedule: Literal["constant", "halve", "decay", "cosine", "onecycle"] = "constant"
    """As in the official codes: halve, times 0.5 an epoch from the third on ("type1"); decay, times 0.9 an epoch from
    the fifth on ("type3"); cosine over `period` epochs; onecycle per step, rising during the share `rise` of all."""
    period: Size = 10
    rise: Annotated[float, Field(gt=0, lt=1)] = 0.3
    loss: Literal["mse", "l1", "smooth_l1"] = "mse"
    patience: Size = 3
    """Epochs without a better validation score before training stops."""
    clip: Annotated[float, Field(gt=0, le=1e12)] | None = None
    """Largest norm of the gradient."""
    precision: Literal["float32", "bf16"] = "float32"
    """bf16: autocast, frozen weights stored in bf16; what trains stays in float32."""
    max_steps: Positive | None = None
    """Limit of optimiser steps over all epochs; a shortened epoch is still validated."""


class RunSpec(Frozen):
    """One run: everything that can change its numbers, and nothing else."""

    task: Task
    model: Annotated[str, Field(pattern=f"^{MODEL_NAME.pattern}$")]
    options: dict[str, Option]
    """Option -> value, defaults included; for a user's own model only the options that the suite sets."""
    train: TrainConfig
    seed: Seed
    code: str | None = None
    """SHA-256 of the code of a user's own model, or of the version of the package that a model comes from
    (bench/plan/own_code.py); None for the project's own code, which PROTOCOL covers."""
    protocol: int = PROTOCOL

    @property
    def backbone(self) -> str | None:
        """Name of the language model that the run reads; None without one; a user's option may be another's."""
        name = self.options.get("backbone")
        return name if isinstance(name, str) and name in BACKBONES else None

    @property
    def own(self) -> bool:
        """Whether the model is a user's own, which is run apart from others; the code of others is known."""
        return self.model not in MODELS and library_of(self.model) is None

    @cached_property
    def key(self) -> str:
        """SHA-256 of the canonical JSON of all fields: sorted keys, no blanks."""
        head, tail = self.cell
        return hashlib.sha256(b"%b%d%b" % (head, self.seed, tail)).hexdigest()

    @cached_property
    def cell(self) -> tuple[bytes, bytes]:
        """The canonical JSON before and after the seed: the same for runs that differ in their seed alone."""
        fields = self.model_dump(mode="json", exclude={"seed"})
        parts = ({name: fields[name] for name in fields if (name < "seed") is before} for before in (True, False))
        head, tail = (json.dumps(part, sort_keys=True, separators=(",", ":")) for part in parts)
        return f'{head[:-1]},"seed":'.encode(), f",{tail[1:]}".encode()

    def with_seed(self, seed: int) -> Self:
        """Return the run of the same cell with this seed, which is not validated."""
        _ = self.cell  # written once, for all copies
        copied = self.__class__.__new__(self.__class__)  # five times as fast as pydantic's own copy
        own = self.__dict__ | {"seed": seed}
        own.pop("key", None)
        object.__setattr__(copied, "__dict__", own)
        for name in ("__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"):
            object.__setattr__(copied, name, getattr(self, name))
        return copied

    def model_copy(self, **changes: Any) -> Self:
        """Return a copy with `update`, as pydantic does; it computes its own key."""
        copied = super().model_copy(**changes)
        for derived in ("key", "cell"):
            copied.__dict__.pop(derived, None)
        return copied

    @property
    def path(self) -> PurePosixPath:
        """The path of the record below the results directory."""
        return PurePosixPath(self.place)

    @property
    def place(self) -> str:
        """`path` as text."""
        folder = f"{self.task.dataset}/h{self.task.horizon}/{self.model.replace(':', '.')}"
        return f"{folder}/s{self.seed}-{self.key[:8]}.json"


def weights_of(specs: Sequence[RunSpec]) -> list[Published]:
    """Return the published weights that these runs read, each once: language models, forecasters that come pretrained.

    Random language models are among them; they have no files.
    """
    backbones = [find(spec.backbone) for spec in specs if spec.backbone]
    own = [MODELS[spec.model].weights for spec in specs if spec.model in MODELS]
    return list({each.name: each for each in (*backbones, *own) if each}.values())
