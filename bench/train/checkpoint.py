"""Save a run while it trains; an interrupted run goes on from there with equal numbers. No pickle."""

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

from bench.core.base import BenchError, require_regular
from bench.core.system import write_whole, writing

EVERY = 30.0
"""Seconds between two saves; a shorter run is never saved."""
WORTH = 30
"""Train at least 30 times the last save's duration before saving again (3 % overhead at most)."""


class CheckpointError(BenchError):
    """A checkpoint that cannot be written, or is damaged."""


class OutOfTime(Exception):
    """The deadline has come, and the run is saved."""


@dataclass(frozen=True)
class State:
    """The content of a checkpoint: facts as JSON, and name -> tensor."""

    facts: str
    tensors: Mapping[str, Tensor]


class Checkpoint:
    """The checkpoint file of one run. It is replaced as a whole, and holds the SHA-256 of its content.

    A run goes on, bit for bit, only from a checkpoint of equal `identity` (run, code, torch, kind of device).
    `deadline` is in seconds since 1970 (`time.time()`).
    """

    def __init__(self, file: Path, identity: str, deadline: float = math.inf) -> None:
        self.file, self.identity, self.deadline, self.every = file, identity, deadline, EVERY
        self.last = time.monotonic()

    def keep(self, state: Callable[[], State]) -> None:
        """Save if a save is due. After the deadline, save and raise OutOfTime."""
        late = time.time() >= self.deadline
        if late or time.monotonic() - self.last >= self.every:
            self.save(state())
        if late:
            raise OutOfTime

    def save(self, state: State) -> None:
        """Write the checkpoint. Raises CheckpointError if that fails."""
        began = time.monotonic()
        tensors = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.tensors.items()}
        hashed = digest_of(tensors, self.identity, state.facts)
        metadata = {"identity": self.identity, "facts": state.facts, "sha256": hashed}
        with writing(f"checkpoint {self.file}", "free the disk and run again", CheckpointError):
            self.file.parent.mkdir(exist_ok=True)  # not its parents: a mount may be gone
            write_whole(self.file, save(tensors, metadata))
        self.last = time.monotonic()
        self.every = max(EVERY, WORTH * (self.last - began))

    def load(self) -> State | None:
        """Return the saved state; None if there is none of this identity. Raises CheckpointError for a damaged file."""
        try:
            require_regular(self.file)
            with safe_open(self.file, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
            identity, facts = metadata["identity"], metadata["facts"]
            if metadata["sha256"] != digest_of(tensors, identity, facts):
                raise ValueError("its content does not have its SHA-256")
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise self.damaged(error) from None
        return State(facts, tensors) if identity == self.identity else None

    def damaged(self, why: object) -> CheckpointError:
        return CheckpointError(f"checkpoint {self.file}: damaged ({why}). Do: delete it: its run starts over")


def digest_of(tensors: Mapping[str, Tensor], *lines: str) -> str:
    """Return the SHA-256 of some lines, and of the names, types, shapes and values of tensors."""
    total = hashlib.sha256("".join(f"{line}\n" for line in lines).encode())
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
