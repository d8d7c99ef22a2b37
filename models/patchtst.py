"""PatchTST (arXiv 2211.14730) reads overlapping patches of each channel as tokens by a transformer encoder.

It follows the official supervised code at its scripts' settings: window normalisation (no learned scale), end padding,
learned positions, batch norm after each sub-layer, residual attention scores, GELU, one head shared by all channels.
It omits a side effect of the official loop, whose unused one-cycle schedule sets the first epoch's rate to 1/25 and
Adam's beta1 to 0.95.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from models.kernels import Dropout, fuse, softmax
from models.layers import FlattenHead, Forecast, Past, Restore, Tokens, count_patches, in_pieces, normalized_patches
from models.options import PatchTSTOptions, Shape

Scores = Float[Tensor, "s heads n n"]


class PatchTST(nn.Module):
    """An encoder over each channel's patches and a flatten head."""

    capturable = fusible = True  # as a CUDA graph, by a compiler: bench/train/step.py

    def __init__(self, shape: Shape, options: PatchTSTOptions) -> None:
        super().__init__()
        self.patch, self.stride = options.patch, options.stride
        patches = count_patches(shape.context, options.patch, options.stride)
        self.embed = nn.Linear(options.patch, options.width)
        self.position = nn.Parameter(torch.empty(patches, options.width).uniform_(-0.02, 0.02))
        self.dropout = Dropout(options.dropout)
        self.layers = nn.ModuleList(PatchEncoderLayer(options) for _ in range(options.layers))
        self.head = FlattenHead(patches, options.width, shape.horizon, options.head_dropout)

    def forward(self, x: Past) -> Forecast:
        tokens, restore = self._tokens(x)
        scores = None
        for layer in self.layers:
            tokens, scores = layer(tokens, scores)
        return self._forecast(tokens, x.shape[-1], restore)

    @fuse
    def _tokens(self, x: Past) -> tuple[Tokens, Restore]:
        patches, restore = normalized_patches(x, self.patch, self.stride)
        return self.dropout(self.embed(patches) + self.position), restore

    @fuse
    def _forecast(self, tokens: Tokens, channels: int, restore: Restore) -> Forecast:
        return restore(self.head(tokens, channels=channels))


class PatchEncoderLayer(nn.Module):
    """Attention and feed-forward, each followed by dropout, the residual sum and batch norm over the features."""

    def __init__(self, options: PatchTSTOptions) -> None:
        super().__init__()
        self.heads = options.heads
        self.residual_attention = options.residual_attention
        width, inner = options.width, options.feedforward
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feedforward = nn.Sequential(
            nn.Linear(width, inner), nn.GELU(), Dropout(options.dropout), nn.Linear(inner, width)
        )
        self.norm_attention = nn.BatchNorm1d(width)
        self.norm_feedforward = nn.BatchNorm1d(width)
        self.dropout = Dropout(options.dropout)

    @fuse
    def forward(self, tokens: Tokens, earlier: Scores | None) -> tuple[Tokens, Scores | None]:
        """Return the tokens and this layer's attention scores; `earlier` are the scores of the layer before."""
        summed, scores = in_pieces(self._attended, tokens, earlier)
        tokens = _over_features(self.norm_attention, summed)
        (summed,) = in_pieces(self._fed_forward, tokens)
        return _over_features(self.norm_feedforward, summed), scores

    def _attended(self, tokens: Tokens, earlier: Scores | None) -> tuple[Tokens, Scores | None]:
        attended, scores = self._attend(tokens, earlier)
        return tokens + self.dropout(attended), scores  # a second dropout, as officially

    def _fed_forward(self, tokens: Tokens) -> tuple[Tokens]:
        return (tokens + self.dropout(self.feedforward(tokens)),)

    def _attend(self, tokens: Tokens, earlier: Scores | None) -> tuple[Tokens, Scores | None]:
        q, k, v = rearrange(self.qkv(tokens), "s n (three heads d) -> three s heads n d", three=3, heads=self.heads)
        if self.residual_attention:  # the scores are needed, so attention cannot be fused
            scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
            scores = scores if earlier is None else scores + earlier
            mixed = softmax(scores) @ v
        else:
            scores = None
            mixed = F.scaled_dot_product_attention(q, k, v)
        return self.dropout(self.out(rearrange(mixed, "s heads n d -> s n (heads d)"))), scores


def _over_features(norm: nn.BatchNorm1d, tokens: Tokens) -> Tokens:
    return norm(tokens.flatten(0, 1)).view_as(tokens)
