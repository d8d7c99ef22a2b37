"""Products with the frozen weights of a language model, on a CPU in bf16: a weight is laid out once as oneDNN reads it.

torch lays a weight out anew for every product, which takes a tenth of the time. The numbers are the same to the bit.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula
from torch.utils.weak import WeakTensorKeyDictionary

from models.kernels import is_fast

_LAID_OUT = WeakTensorKeyDictionary()
"""Weight -> its version when it was laid out, its layout for products with inputs, and that for their gradients."""


def multiplies_bf16() -> bool:
    """Return whether oneDNN multiplies bf16 numbers on this CPU."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


class FrozenLinear(nn.Module):
    """A linear layer whose weight never trains: `[outputs, inputs]`, or `[inputs, outputs]` if `inputs_first`.

    It is for a CPU that `multiplies_bf16`; what is not in bf16 on a CPU is torch's own product.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, inputs_first: bool) -> None:
        super().__init__()
        self.weight, self.bias, self.inputs_first = weight, bias, inputs_first

    def forward(self, x: Tensor) -> Tensor:
        in_bf16 = x.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu")
        if is_fast(x) and in_bf16 and self.weight.dtype == torch.bfloat16:
            bias = None if self.bias is None else self.bias.detach().to(torch.bfloat16)
            return _Product.apply(x.to(torch.bfloat16), *self._laid_out(), bias)
        return F.linear(x, self.weight.t() if self.inputs_first else self.weight, self.bias)

    def _laid_out(self) -> tuple[Tensor, Tensor]:
        """Return the weight's layouts, made at its first use; they use twice its memory."""
        weight = self.weight.detach()
        if _LAID_OUT.get(self.weight, (None,))[0] != weight._version:
            outputs_first = weight.t() if self.inputs_first else weight
            layouts = [_reorder(outputs_first.contiguous()), _reorder(outputs_first.t().contiguous())]
            _LAID_OUT[self.weight] = weight._version, *layouts
        return _LAID_OUT[self.weight][1:]


class _Product(torch.autograd.Function):
    """The product of inputs `[*, inputs]` with a weight, plus a bias."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layout: Tensor, layout_for_gradients: Tensor, bias: Tensor | None) -> Tensor:
        ctx.layout = layout_for_gradients
        return _times(x, layout, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return _times(gradient, ctx.layout, None), None, None, None


def _reorder(weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight)


def _times(x: Tensor, layout: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, layout, bias, "none", [], "")


if torch.backends.mkldnn.is_available():

    @register_flop_formula(torch.ops.mkldnn._linear_pointwise)
    def _operations(x: torch.Size, layout: torch.Size, *_: Any, **__: Any) -> int:
        """Return the operations of a product, for torch's counter."""
        return 2 * math.prod(x) * layout[0]
