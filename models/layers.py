"""What several forecasters share: instance normalisation, patching, the flatten head.

Axes: b batch, l context, h horizon, c channels, s series (b times c), n patches, p patch length, d width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

Windows = Float[Tensor, "b l c"]
Forecast = Float[Tensor, "b h c"]


def normalize_window(x: Windows) -> tuple[Windows, Callable[[Forecast], Forecast]]:
    """Each window and channel to mean 0 and (population) variance 1, and the function that undoes it.

    The statistics come from the look-back alone and carry no gradient.
    """
    mean = x.mean(dim=1, keepdim=True).detach()
    scale = torch.sqrt(x.var(dim=1, keepdim=True, unbiased=False) + 1e-5).detach()

    def restore(y: Forecast) -> Forecast:
        return y * scale + mean

    return (x - mean) / scale, restore


def count_patches(context: int, patch: int, stride: int) -> int:
    """Patches of `split_patches`: those that fit, and one more from the padding."""
    return (context - patch) // stride + 2


def split_patches(x: Windows, patch: int, stride: int) -> Float[Tensor, "s n p"]:
    """Overlapping patches of every channel as a series of its own, after repeating the last value `stride` times."""
    series = rearrange(x, "b l c -> (b c) 1 l")
    padded = F.pad(series, (0, stride), mode="replicate")
    return rearrange(padded.unfold(-1, patch, stride), "s 1 n p -> s n p")


class FlattenHead(nn.Module):
    """All patch features of a series to its horizon, in one linear map.

    Kept in float32 under autocast: its output is the forecast, and bf16 holds only eight bits of it.
    """

    def __init__(self, patches: int, width: int, horizon: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.linear = nn.Linear(patches * width, horizon)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Float[Tensor, "s n d"], channels: int) -> Forecast:
        with torch.autocast(features.device.type, enabled=False):
            flat = rearrange(features.float(), "s n d -> s (n d)")
            return rearrange(self.dropout(self.linear(flat)), "(b c) h -> b h c", c=channels)
