"""A stand-in for CUDA graphs on a CPU: it calls the function, and returns its own memory as a replay does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as tree

from bench.train.graph import Graph


class Called(Graph[Any]):
    """A `Graph` whose capture and replay are calls of the step."""

    def __init__(self, step: Callable[[Tensor], Any], whole: int) -> None:
        self.step, self.whole = step, whole
        self.seen, self.refused = 0, False
        self.graph: Any = None
        self.replayed = 0

    def _warm_up(self, index: Tensor) -> Any:
        return self.step(index)

    def _capture(self, index: Tensor) -> bool:
        """Make the memory of index and results; a replay writes into it."""
        self.index, self.graph = torch.zeros_like(index), self
        return True

    def replay(self) -> None:
        out = self.step(self.index)
        if self.replayed:
            for held, new in zip(tree.tree_leaves(self.out), tree.tree_leaves(out), strict=True):
                held.copy_(new)
        else:
            self.out = out
        self.replayed += 1
