"""These operations replace torch's slow ones at our shapes; two switches choose torch's own or its compiler instead.

The mathematics is the same, so no option chooses between them. Under `plain()` models run as peers write them: `bench
perf` and a test compare the fast path with it. Under `fused()` a compiler joins the operations between the matrix
products of a layer, on a GPU (bench/train/step.py).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

FEW_TOKENS = 64
"""Up to this many tokens attention over stored scores trains faster than fused kernels; beyond, memory decides."""

COMPILED_SHAPES = 256
"""Compiled shapes that a process keeps. Torch's own limit is eight; beyond it torch compiles no more."""

Mode = Literal["fast", "plain", "fused"]
_mode: Mode = "fast"
"""Mode of this process. It is a global because a compiler cannot read a context variable."""
_gave_up = False
"""Whether the compiler has failed in this process."""


def plain() -> AbstractContextManager[None]:
    """Build and run models on torch's and transformers' own operations; attention is eager and returns its weights."""
    return _in("plain")


@contextmanager
def fused() -> Iterator[None]:
    """Run the layers that models call through `layer` by torch's compiler."""
    from torch._dynamo import config as tracing  # takes two seconds
    from torch._functorch import config as gradients
    from torch._inductor import config as compiling

    more_shapes = tracing.patch(recompile_limit=COMPILED_SHAPES)
    one_process = compiling.patch(compile_threads=1)  # a worker's pool of processes would outlive it
    both = "force_non_lazy_backward_lowering"  # so that `layer` notices where the backward pass cannot be compiled
    at_once = gradients.patch(both, True) if hasattr(gradients, both) else nullcontext()  # old versions lack it
    with _in("fused"), more_shapes, one_process, at_once, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"torch\._inductor")  # advice to those who write kernels
        yield


@contextmanager
def _in(mode: Mode) -> Iterator[None]:
    global _mode  # noqa: PLW0603
    before, _mode = _mode, mode
    try:
        yield
    finally:
        _mode = before


def is_plain() -> bool:
    return _mode == "plain"


def is_fused() -> bool:
    return _mode == "fused" and not _gave_up


def layer(module: nn.Module) -> Callable[..., Any]:
    """Return a module to be called, under `fused()` its compiled form: one for all modules of a class and a shape."""
    return _compiled(module.forward) if is_fused() else module


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function compiled by torch. If that fails, warn and compile nothing more."""
    from torch._dynamo.exc import TorchDynamoException

    compiled_function = torch.compile(function, dynamic=False)

    def run(*args: Any, **named: Any) -> Any:
        global _gave_up  # noqa: PLW0603
        try:
            return compiled_function(*args, **named)
        except TorchDynamoException as error:
            _gave_up = True
            why = " ".join(str(error).partition("Set TORCHDYNAMO_VERBOSE")[0].split())[:200]
            what = "torch cannot compile here: models run slower, with the same numbers"
            warnings.warn(f"{what} ({why})", stacklevel=2)
            return function(*args, **named)

    return run


def is_fast(x: Tensor) -> bool:
    """Return whether an operation on `x` is this module's: they are faster on a CPU without a compiler."""
    return _mode == "fast" and x.device.type == "cpu"


def softmax(scores: Tensor) -> Tensor:
    """Return the softmax over the last axis; a CPU is slow on rows that do not fill its vectors: pad them."""
    tokens = scores.shape[-1]
    missing = -tokens % 16
    if not is_fast(scores) or tokens > FEW_TOKENS or not missing:
        return scores.softmax(dim=-1)
    padded = F.pad(scores.float(), (0, missing), value=float("-inf"))
    return padded.softmax(dim=-1)[..., :tokens]


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Drop elements as torch does. On a CPU a faster generator, seeded by torch's, draws four masks per 64-bit word."""
    if not is_fast(x) or not training or not 0 < p < 1:
        return F.dropout(x, p, training)
    generator = np.random.SFC64(int(torch.randint(2**62, ())))
    words = torch.from_numpy(generator.random_raw((x.numel() + 3) // 4).view(np.int16))
    draws = words[: x.numel()].view(x.shape)
    dropped = round(p * 2**16)
    keep = torch.ge(draws, dropped - 2**15, out=torch.empty(x.shape, dtype=x.dtype))
    return x * keep.mul_(2**16 / (2**16 - dropped))


class Dropout(nn.Dropout):
    """Torch's dropout layer on the `dropout` of this module."""

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training)


class GELU(nn.Module):
    """GPT-2's activation, the tanh form of GELU: x sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3))."""

    def forward(self, x: Tensor) -> Tensor:
        return _GELU.apply(x) if is_fast(x) else F.gelu(x, approximate="tanh")


class _GELU(torch.autograd.Function):
    """GELU whose forward pass keeps the derivative: torch's CPU kernel computes tanh in both directions."""

    SLOPE = 2 * (2 / math.pi) ** 0.5
    CUBIC = SLOPE * 0.044715

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        square = x * x
        gate = torch.add(x.new_tensor(_GELU.SLOPE), square, alpha=_GELU.CUBIC).mul_(x).sigmoid_()
        if ctx.needs_input_grad[0]:
            growth = square.mul_(3 * _GELU.CUBIC).add_(_GELU.SLOPE).mul_(x)
            growth.addcmul_(growth, gate, value=-1)
            ctx.save_for_backward(torch.addcmul(gate, gate, growth))
        return gate.mul_(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (derivative,) = ctx.saved_tensors
        return gradient * derivative


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis, with a weight; statistics are in float32.

    With `for_products` only matrix products read the output: under autocast it has their type, rounded once for all.
    """

    def __init__(self, weight: nn.Parameter, eps: float, for_products: bool) -> None:
        super().__init__()
        self.weight, self.eps, self.for_products = weight, eps, for_products

    def forward(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        device = x.device.type
        products = self.for_products and device in ("cpu", "cuda") and torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if products else x.dtype
        if is_fast(x):
            return _RMSNorm.apply(x.float(), self.weight, self.eps, dtype)
        return F.rms_norm(x.float(), x.shape[-1:], self.weight, self.eps).to(dtype)


class _RMSNorm(torch.autograd.Function):
    """RMS norm with a backward pass of its own: torch's on a CPU, over single operations, takes three times as long."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        scale = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        normed = x * scale
        ctx.save_for_backward(normed, scale, weight)
        return (normed * weight).to(dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        normed, scale, weight = ctx.saved_tensors
        gradient = gradient.float()
        along = gradient * normed
        of_weight = along.flatten(0, -2).sum(0) if ctx.needs_input_grad[1] else None
        mean = (along @ weight).unsqueeze(-1).div_(normed.shape[-1])
        of_x = (gradient * weight).sub_(normed * mean).mul_(scale)
        return of_x, of_weight, None, None
