"""Several forecasters share these layers: window normalisation, patches, attention, the flatten head.

Axes: b batch, l context, h horizon, c channels, s series (b times c), n patches, p patch length, d width.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat
from typing import Any, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.kernels import FEW_TOKENS, Dropout, dropout, fuse, softmax

SERIES_PER_PIECE = {"cpu": 4096, "cuda": 32768}
"""Device type -> most series that `in_pieces` processes at a time."""

Past = Float[Tensor, "b l c"]
Forecast = Float[Tensor, "b h c"]
Tokens = Float[Tensor, "s n d"]
Restore = Callable[[Forecast], Forecast]


def normalize_window(x: Past) -> tuple[Past, Restore]:
    """Scale each window and channel to mean 0 and (population) variance 1; return it and the inverse for forecasts.

    The statistics come from the look-back alone and carry no gradient.
    """
    mean = x.mean(dim=1, keepdim=True).detach()
    scale = torch.sqrt(x.var(dim=1, keepdim=True, unbiased=False) + 1e-5).detach()

    def restore(y: Forecast) -> Forecast:
        return y * scale + mean

    return (x - mean) / scale, restore


def count_patches(context: int, patch: int, stride: int) -> int:
    """Return how many patches `split_patches` cuts: all that fit, and one more from the padding."""
    return (context - patch) // stride + 2


def split_patches(x: Past, patch: int, stride: int) -> Float[Tensor, "s n p"]:
    """Cut each channel, padded with `stride` repeats of its last value, into overlapping patches."""
    series = rearrange(x, "b l c -> (b c) 1 l")
    padded = F.pad(series, (0, stride), mode="replicate")
    return rearrange(padded.unfold(-1, patch, stride), "s 1 n p -> s n p")


def normalized_patches(x: Past, patch: int, stride: int) -> tuple[Float[Tensor, "s n p"], Restore]:
    """Return the patches of the normalised window, and the inverse of `normalize_window` for forecasts."""
    normalised, restore = normalize_window(x)
    return split_patches(normalised, patch, stride), restore


def in_pieces(function: Callable[..., tuple[Any, ...]], *inputs: Tensor | None) -> tuple[Any, ...]:
    """Apply `function`, which treats series independently, to a few thousand series at a time.

    Intermediate results are computed again for the gradient: only inputs and outputs stay in memory. This is for a
    model whose batch norm needs a whole wide batch at once.
    """
    first = cast(Tensor, inputs[0])
    size = SERIES_PER_PIECE[first.device.type]
    if len(first) <= size:
        return function(*inputs)
    split = (repeat(None) if each is None else each.split(size) for each in inputs)
    pieces = [checkpoint(function, *piece, use_reentrant=False) for piece in zip(*split, strict=False)]
    return tuple(None if parts[0] is None else torch.cat(parts) for parts in zip(*pieces, strict=True))


class Attention(nn.Module):
    """Multi-head attention with separate linear maps for queries, keys and values; the caller maps the output."""

    def __init__(self, width: int, source_width: int, inner: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, inner)
        self.key = nn.Linear(source_width, inner)
        self.value = nn.Linear(source_width, inner)

    def forward(self, tokens: Float[Tensor, "b n d"], source: Tensor) -> Float[Tensor, "b n inner"]:
        """Attend to `source`: [b, m, d_source], or [m, d_source] if every element of the batch reads the same."""
        q, k, v = self.query(tokens), self.key(source), self.value(source)
        shared = source.ndim == 2
        if shared:
            q, k, v = rearrange(q, "b n d -> 1 (b n) d"), k[None], v[None]
        q, k, v = (rearrange(each, "b n (heads e) -> b heads n e", heads=self.heads) for each in (q, k, v))
        if not shared and tokens.shape[1] > FEW_TOKENS:
            mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        else:
            weights = softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5)
            mixed = dropout(weights, self.dropout, self.training) @ v
        return rearrange(mixed, "b heads n e -> b n (heads e)").view(*tokens.shape[:2], -1)


class EncoderLayer(nn.Module):
    """Post-norm transformer encoder layer: attention among the tokens, then a two-layer feed-forward."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float, activation: type[nn.Module]) -> None:
        super().__init__()
        self.attention = Attention(width, width, width, heads, dropout)
        self.out = nn.Linear(width, width)
        self.feedforward = nn.Sequential(
            nn.Linear(width, feedforward), activation(), Dropout(dropout), nn.Linear(feedforward, width)
        )
        self.norm_attention = nn.LayerNorm(width)
        self.norm_feedforward = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    @fuse
    def forward(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        tokens = self.norm_attention(tokens + self.dropout(self.out(self.attention(tokens, tokens))))
        return self.norm_feedforward(tokens + self.dropout(self.feedforward(tokens)))


class FlattenHead(nn.Module):
    """Map all patch features of a series to its horizon by one linear layer.

    It stays in float32 under autocast: its output is the forecast, and bf16 has only eight significant bits.
    """

    def __init__(self, patches: int, width: int, horizon: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.linear = nn.Linear(patches * width, horizon)
        self.dropout = Dropout(dropout)

    def forward(self, features: Tokens, channels: int) -> Forecast:
        with torch.autocast(features.device.type, enabled=False):
            flat = rearrange(features.float(), "s n d -> s (n d)")
            return rearrange(self.dropout(self.linear(flat)), "(b c) h -> b h c", c=channels)
