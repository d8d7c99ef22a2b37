"""A run saved while it trains, so that one that was killed goes on as if nothing had happened. No pickle."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bench.core.base import BenchError
from bench.core.system import write_whole

EVERY = 30.0
"""Seconds of work that may be lost: a shorter run is never saved."""
WORTH = 30
"""So many times what saving took must be trained before the next: a slow disk costs three percent, not all."""


class CheckpointError(BenchError):
    """A checkpoint that cannot be written, or is not what was written."""


class OutOfTime(Exception):
    """The deadline has come; what was done is saved."""


@dataclass(frozen=True)
class State:
    """What a checkpoint holds: facts as JSON, and tensors by name."""

    facts: str
    tensors: Mapping[str, Tensor]


class Checkpoint:
    """The file that one run is saved to. It is replaced whole, and vouches for its own content by a SHA-256.

    `identity` names what must be the same for the run to go on bit for bit: the run, the code, torch, the kind of
    device. `deadline` is in seconds as `time.time()` counts them.
    """

    def __init__(self, file: Path, identity: str, deadline: float = math.inf) -> None:
        self.file, self.identity, self.deadline, self.every = file, identity, deadline, EVERY
        self.last = time.monotonic()

    def keep(self, state: Callable[[], State]) -> None:
        """Save if it is time to. Raises OutOfTime once the deadline has come, with the run saved."""
        late = time.time() >= self.deadline
        if late or time.monotonic() - self.last >= self.every:
            self.save(state())
        if late:
            raise OutOfTime

    def save(self, state: State) -> None:
        """Raises CheckpointError where the file cannot be written."""
        began = time.monotonic()
        tensors = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.tensors.items()}
        metadata = {
            "identity": self.identity,
            "facts": state.facts,
            "sha256": _sha256(self.identity, state.facts, tensors),
        }
        try:
            self.file.parent.mkdir(exist_ok=True)  # not those above: they may have been on a mount that is gone
            write_whole(self.file, save(tensors, metadata))
        except OSError as error:
            raise CheckpointError(
                f"checkpoint {self.file}: cannot be written: {error}; free the disk and run again"
            ) from None
        self.last = time.monotonic()
        self.every = max(EVERY, WORTH * (self.last - began))

    def load(self) -> State | None:
        """What was saved; None if nothing was, or under another identity: the run then starts over.

        Raises CheckpointError for a damaged file.
        """
        try:
            with safe_open(self.file, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
            identity, facts = metadata["identity"], metadata["facts"]
            if metadata["sha256"] != _sha256(identity, facts, tensors):
                raise ValueError("its content does not have its SHA-256")
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise self.damaged(error) from None
        return State(facts, tensors) if identity == self.identity else None

    def damaged(self, why: object) -> CheckpointError:
        return CheckpointError(f"checkpoint {self.file}: damaged ({why}); delete it: its run starts over")


def _sha256(identity: str, facts: str, tensors: Mapping[str, Tensor]) -> str:
    total = hashlib.sha256(f"{identity}\n{facts}\n".encode())
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
