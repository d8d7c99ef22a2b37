"""A step on a batch of windows becomes a CUDA graph: its kernels are launched at once, not one by one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from models.kernels import fused

Result = TypeVar("Result")
WARM_UP = 3
"""Steps before a graph is captured; libraries and the optimiser make their buffers in them."""


def replays(model: nn.Module, device: torch.device) -> bool:
    """Return whether a model's steps may become graphs: it says `capturable`, and the device is a GPU."""
    return device.type == "cuda" and getattr(model, "capturable", False)


class Graph(Generic[Result]):
    """Replays `step` on batches of size `whole` as a CUDA graph, captured after WARM_UP steps; calls it on others.

    A result of a replay lies in the graph's memory: the next replay writes over it. `compiled`: layers are compiled in
    the graph.
    """

    def __init__(
        self, step: Callable[[Tensor], Result], whole: int, device: torch.device, compiled: bool = False
    ) -> None:
        self.step, self.whole, self.device, self.compiled = step, whole, device, compiled
        self.kind = fused if compiled else nullcontext
        self.seen, self.refused = 0, False
        self.graph: torch.cuda.CUDAGraph | None = None
        self.index = torch.empty(0)
        self.stream = torch.cuda.Stream(device)

    def __call__(self, index: Tensor) -> Result:
        # 1. No graph: a small batch, or a step that cannot be captured.
        if len(index) != self.whole or self.refused:
            return self.step(index)
        # 2. Warm up, then capture once.
        if self.seen < WARM_UP:
            self.seen += 1
            return self._warm_up(index)
        if self.graph is None and not self._capture(index):
            return self.step(index)
        # 3. Replay.
        assert self.graph is not None
        self.index.copy_(index)
        self.graph.replay()
        return self.result

    def _warm_up(self, index: Tensor) -> Result:
        """Take a step on the stream that will be captured."""
        main = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(main)
        with torch.cuda.stream(self.stream), self.kind():
            result = self.step(index)
        main.wait_stream(self.stream)
        return result

    def _capture(self, index: Tensor) -> bool:
        """Capture a step without taking it; return False if that fails: steps then run without a graph."""
        graph = torch.cuda.CUDAGraph()
        self.index = index.clone()
        main = torch.cuda.current_stream(self.device)
        generator = torch.cuda.default_generators[self.stream.device_index]
        untouched = generator.clone_state()
        torch.cuda.synchronize(self.device)
        try:
            with torch.cuda.graph(graph, stream=self.stream), self.kind():
                self.result = self.step(self.index)
        except Exception as error:  # the numbers are the same without a graph
            warnings.warn(f"a step could not become a CUDA graph ({error}); it runs without", stacklevel=2)
            torch.cuda.set_stream(main)  # torch leaves stream and generator in capture mode
            generator.graphsafe_set_state(untouched)
            self.refused = True
            return False
        self.graph = graph
        return True
