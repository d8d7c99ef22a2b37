"""CUDA graphs on a CPU: what a step computes is noted while it is captured, and done again in the same memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as tree
from torch.utils._python_dispatch import TorchDispatchMode

from bench.train import evaluate, step


class Recorded:
    """Stands for `torch.cuda.CUDAGraph`: a replay runs no Python of the model, only the operations that were noted."""

    def __init__(self) -> None:
        self.noted: list[tuple[Any, Any, Any, Any]] = []
        self.replayed = 0

    def replay(self) -> None:
        self.replayed += 1
        for operation, inputs, named, outputs in self.noted:
            again = operation(*inputs, **named)
            if any(argument.alias_info for argument in operation._schema.arguments):
                continue  # a view, or in place: it lies in the memory of its inputs
            for held, new in zip(tree.tree_leaves(outputs), tree.tree_leaves(again), strict=True):
                if isinstance(held, Tensor):
                    held.copy_(new)


class Noting(TorchDispatchMode):
    """Runs every operation, and notes it in a graph. As in a capture, the host may read no value."""

    def __init__(self, graph: Recorded) -> None:
        super().__init__()
        self.graph = graph

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if operation is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        with self:  # one that torch composes of others
            outputs = operation.decompose(*args, **(kwargs or {}))
        if outputs is not NotImplemented:
            return outputs
        outputs = operation(*args, **(kwargs or {}))
        self.graph.noted.append((operation, args, kwargs or {}, outputs))
        return outputs


@contextmanager
def captured(graph: Recorded, stream: Any) -> Iterator[None]:
    with Noting(graph):
        yield


def pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have models with `capturable` replayed here, by the code that does so on a GPU."""
    stream = SimpleNamespace(wait_stream=lambda other: None, device_index=0)
    untouched = SimpleNamespace(clone_state=lambda: None, graphsafe_set_state=lambda state: None)
    stand_ins = {
        "Stream": lambda device: stream,
        "stream": lambda stream: nullcontext(),
        "current_stream": lambda device: stream,
        "set_stream": lambda stream: None,
        "synchronize": lambda device: None,
        "default_generators": [untouched],
        "CUDAGraph": Recorded,
        "graph": captured,
    }
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    for user in (evaluate, step):
        monkeypatch.setattr(user, "replays", lambda model, device: getattr(model, "capturable", False))
