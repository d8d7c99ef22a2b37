"""iTransformer (arXiv 2310.06625) makes one token of each channel's look-back; attention runs over the channels.

It follows the official code: window normalisation, linear embedding, the look-back's calendar features as further
tokens, post-norm encoder with GELU feed-forward, final layer norm, linear projection. Published errors are with the
calendar tokens; without them (`calendar = False`) ETTh2 is about 2 % worse.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from models.kernels import Dropout, fuse
from models.layers import EncoderLayer, Forecast, Past, Restore, normalize_window
from models.options import ITransformerOptions, Shape


class ITransformer(nn.Module):
    """An encoder over the channels' tokens and a linear map to the horizon."""

    capturable = fusible = True  # as a CUDA graph, by a compiler: bench/train/step.py

    def __init__(self, shape: Shape, options: ITransformerOptions) -> None:
        super().__init__()
        self.reads_calendar = options.calendar
        self.embed = nn.Linear(shape.context, options.width)
        self.dropout = Dropout(options.dropout)
        sizes = options.width, options.heads, options.feedforward, options.dropout
        self.encoder = nn.Sequential(*(EncoderLayer(*sizes, nn.GELU) for _ in range(options.layers)))
        self.norm = nn.LayerNorm(options.width)
        self.project = nn.Linear(options.width, shape.horizon)

    def forward(self, x: Past, calendar: Float[Tensor, "b l k"] | None = None) -> Forecast:
        tokens, restore = self._tokens(x, calendar)
        return self._forecast(self.encoder(tokens), x.shape[-1], restore)

    @fuse
    def _tokens(self, x: Past, calendar: Float[Tensor, "b l k"] | None) -> tuple[Float[Tensor, "b n d"], Restore]:
        x, restore = normalize_window(x)
        if self.reads_calendar:
            assert calendar is not None, "a model that reads the calendar must be given it"
            x = torch.cat([x, calendar], dim=-1)
        return self.dropout(self.embed(rearrange(x, "b l c -> b c l"))), restore

    @fuse
    def _forecast(self, tokens: Float[Tensor, "b n d"], channels: int, restore: Restore) -> Forecast:
        forecast = self.project(self.norm(tokens))[:, :channels]
        return restore(rearrange(forecast, "b c h -> b h c"))
