"""Logo-LLM (arXiv 2505.11017): a frozen language model read at a shallow and a deep block, merged with its input.

Faithful to the official code: window normalisation, replication-padded patches, a linear input layer, the first blocks
of the language model with trainable layer norms and positions, Local-Mixer and Global-Mixer (concatenate, two-layer
MLP, dropout), the mean of input and both mixers, a flatten head. Different: both taps are options (the code fixes the
local one at block 5), and evaluation is in eval mode throughout.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.backbone import Blocks
from models.layers import Dropout, FlattenHead, Forecast, Windows, count_patches, normalize_window, split_patches
from models.options import LogoLLMOptions, Shape

Tokens = Float[Tensor, "s n d"]


class LogoLLM(nn.Module):
    def __init__(self, shape: Shape, options: LogoLLMOptions) -> None:
        super().__init__()
        if not 0 <= options.local_tap <= options.blocks or not 0 <= options.global_tap <= options.blocks:
            raise ValueError(
                f"taps {options.local_tap} and {options.global_tap} are not within {options.blocks} blocks"
            )
        self.patch, self.stride = options.patch, options.stride
        self.local_tap, self.global_tap = options.local_tap, options.global_tap
        self.blocks = Blocks(options.backbone, options.blocks)
        self.blocks.train_norms_and_positions()
        width = self.blocks.width
        self.embed = nn.Linear(options.patch, width)
        self.local_mixer = Mixer(width, options.dropout)
        self.global_mixer = Mixer(width, options.dropout)
        self.head = FlattenHead(count_patches(shape.context, options.patch, options.stride), width, shape.horizon)

    def forward(self, x: Windows) -> Forecast:
        channels = x.shape[-1]
        x, restore = normalize_window(x)
        tokens = self.embed(split_patches(x, self.patch, self.stride))
        states = self.blocks(tokens)
        local = self.local_mixer(tokens, states[self.local_tap])
        deep = self.global_mixer(tokens, states[self.global_tap])
        return restore(self.head((tokens + local + deep) / 3, channels))


class Mixer(nn.Module):
    """Merges the patched input with one feature of the language model: `dropout(MLP([input, feature]))`."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width), Dropout(dropout))

    def forward(self, tokens: Tokens, feature: Tokens) -> Tokens:
        mixed: Tokens = self.mlp(torch.cat([tokens, feature], dim=-1))
        return mixed
