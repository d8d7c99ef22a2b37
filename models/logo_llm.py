"""Logo-LLM (arXiv 2505.11017): a frozen language model read at a shallow and a deep block, merged with its input.

Faithful to the official code: window normalisation, replication-padded patches, a linear input layer, the first blocks
of the language model with trainable layer norms and positions, Local-Mixer and Global-Mixer (concatenate, two-layer
MLP, dropout), the mean of input and both mixers, a flatten head. Different: both taps are options (the code fixes the
local one at block 5), evaluation is in eval mode throughout, and arithmetic is bf16 where the suite says so.

`reader` and `mixers` take parts away (ablations). Since the mixers are alike, exchanging the taps gives the same model
under another draw of its weights.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.kernels import Dropout
from models.layers import FlattenHead, Forecast, Windows, count_patches, normalize_window, split_patches
from models.llm_blocks import read_with
from models.options import LogoLLMOptions, Shape

Tokens = Float[Tensor, "s n d"]


class LogoLLM(nn.Module):
    capturable = True  # as a CUDA graph: bench/train/step.py

    def __init__(self, shape: Shape, options: LogoLLMOptions) -> None:
        super().__init__()
        if not 0 <= options.local_tap <= options.blocks or not 0 <= options.global_tap <= options.blocks:
            raise ValueError(
                f"taps {options.local_tap} and {options.global_tap} are not within {options.blocks} blocks"
            )
        self.patch, self.stride = options.patch, options.stride
        self.local_tap, self.global_tap = options.local_tap, options.global_tap
        mixes_local, mixes_global = options.mixers in ("both", "local"), options.mixers in ("both", "global")
        deepest = max(self.local_tap if mixes_local else 0, self.global_tap if options.mixers != "local" else 0, 1)
        # Blocks that no tap reads are left out; a state is normed only where it is that of the last block.
        self.blocks = read_with(options.reader, options.backbone, deepest, final_norm=deepest == options.blocks)
        self.blocks.train_norms_and_positions()
        width = self.blocks.width
        self.embed = nn.Linear(options.patch, width)
        self.local_mixer = Mixer(width, options.dropout) if mixes_local else None
        self.global_mixer = Mixer(width, options.dropout) if mixes_global else None
        self.head = FlattenHead(count_patches(shape.context, options.patch, options.stride), width, shape.horizon)

    def forward(self, x: Windows) -> Forecast:
        normalised, restore = normalize_window(x)
        tokens, states = self.read(normalised)
        parts = [tokens]
        if self.local_mixer:
            parts.append(self.local_mixer(tokens, states[self.local_tap]))
        if self.global_mixer:
            parts.append(self.global_mixer(tokens, states[self.global_tap]))
        merged = sum(parts) / len(parts) if len(parts) > 1 else states[self.global_tap]
        return restore(self.head(merged, channels=x.shape[-1]))

    def read(self, normalised: Windows) -> tuple[Tokens, tuple[Tokens, ...]]:
        """The embedded patches of every channel, and the states: the input of the blocks, then the output of each."""
        tokens = self.embed(split_patches(normalised, self.patch, self.stride))
        return tokens, self.blocks(tokens)


class Mixer(nn.Module):
    """Merges the patched input with one feature of the language model: `dropout(MLP([input, feature]))`."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width), Dropout(dropout))

    def forward(self, tokens: Tokens, feature: Tokens) -> Tokens:
        mixed: Tokens = self.mlp(torch.cat([tokens, feature], dim=-1))
        return mixed
