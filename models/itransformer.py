"""iTransformer (arXiv 2310.06625): every channel's whole look-back is one token; attention runs over the channels.

Faithful: window normalisation, linear embedding, post-norm encoder with GELU feed-forward, final layer norm, linear
projection. Left out: the calendar features that the official loader appends as further tokens, so that every model of
a table sees the same input.
"""

from __future__ import annotations

from einops import rearrange
from torch import nn

from models.layers import EncoderLayer, Forecast, Windows, normalize_window
from models.options import ITransformerOptions, Shape


class ITransformer(nn.Module):
    def __init__(self, shape: Shape, options: ITransformerOptions) -> None:
        super().__init__()
        self.embed = nn.Linear(shape.context, options.width)
        self.dropout = nn.Dropout(options.dropout)
        self.encoder = nn.Sequential(
            *(
                EncoderLayer(options.width, options.heads, options.feedforward, options.dropout, nn.GELU)
                for _ in range(options.layers)
            )
        )
        self.norm = nn.LayerNorm(options.width)
        self.project = nn.Linear(options.width, shape.horizon)

    def forward(self, x: Windows) -> Forecast:
        x, restore = normalize_window(x)
        tokens = self.dropout(self.embed(rearrange(x, "b l c -> b c l")))
        forecast = self.project(self.norm(self.encoder(tokens)))
        return restore(rearrange(forecast, "b c h -> b h c"))
