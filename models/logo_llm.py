"""Logo-LLM (arXiv 2505.11017) reads a frozen language model at a shallow and a deep block and adds its input.

It follows the official code: window normalisation, replication-padded patches, a linear input layer, the first blocks
of the language model with trainable layer norms and positions, Local-Mixer and Global-Mixer (concatenate, two-layer
MLP, dropout), the mean of input and both mixers, a flatten head. It differs in three points: both taps are options (the
code fixes the local tap at block 5), evaluation is in eval mode throughout, and suites may choose bf16.

`reader` and `mixers` take parts away (ablations). The mixers are alike: exchanged taps give the same model under
another draw of its weights.
"""

from __future__ import annotations

import torch
from torch import nn

from models.kernels import Dropout, fuse
from models.layers import FlattenHead, Forecast, Past, Restore, Tokens, count_patches, normalized_patches, split_patches
from models.llm_blocks import NORMS_AND_POSITIONS, read_with
from models.options import LogoLLMOptions, Shape


class LogoLLM(nn.Module):
    """Patches through the blocks, two mixers and a flatten head. Raises ValueError for a tap beyond the blocks."""

    capturable = fusible = True  # as a CUDA graph, by a compiler: bench/train/step.py

    def __init__(self, shape: Shape, options: LogoLLMOptions) -> None:
        super().__init__()
        if not 0 <= options.local_tap <= options.blocks or not 0 <= options.global_tap <= options.blocks:
            wrong = f"taps {options.local_tap} and {options.global_tap} are not within {options.blocks} blocks"
            raise ValueError(f"{wrong}. Do: set the options `local_tap` and `global_tap` to 0 to {options.blocks}")
        self.patch, self.stride = options.patch, options.stride
        self.local_tap, self.global_tap = options.local_tap, options.global_tap
        mixes_local, mixes_global = options.mixers in ("both", "local"), options.mixers in ("both", "global")
        settings = {"final_norm": options.final_norm, "trained": NORMS_AND_POSITIONS}
        self.blocks = read_with(options.reader, options.backbone, options.deepest, **settings)
        width = self.blocks.width
        self.embed = nn.Linear(options.patch, width)
        self.local_mixer = Mixer(width, options.dropout) if mixes_local else None
        self.global_mixer = Mixer(width, options.dropout) if mixes_global else None
        self.head = FlattenHead(count_patches(shape.context, options.patch, options.stride), width, shape.horizon)

    def forward(self, x: Past) -> Forecast:
        tokens, restore = self._tokens(x)
        return self._forecast(tokens, self.blocks(tokens), x.shape[-1], restore)

    def read(self, normalised: Past) -> tuple[Tokens, tuple[Tokens, ...]]:
        """Return the embedded patches of every channel, and the blocks' states: their input, then each output."""
        tokens = self.embed(split_patches(normalised, self.patch, self.stride))
        return tokens, self.blocks(tokens)

    @fuse
    def _tokens(self, x: Past) -> tuple[Tokens, Restore]:
        patches, restore = normalized_patches(x, self.patch, self.stride)
        return self.embed(patches), restore

    @fuse
    def _forecast(self, tokens: Tokens, states: tuple[Tokens, ...], channels: int, restore: Restore) -> Forecast:
        mixers = (self.local_mixer, self.local_tap), (self.global_mixer, self.global_tap)
        parts = [tokens, *(mixer(tokens, states[tap]) for mixer, tap in mixers if mixer)]
        merged = sum(parts) / len(parts) if len(parts) > 1 else states[self.global_tap]
        return restore(self.head(merged, channels=channels))


class Mixer(nn.Module):
    """Merge the patched input with one feature of the language model: `dropout(MLP([input, feature]))`."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width), Dropout(dropout))

    def forward(self, tokens: Tokens, feature: Tokens) -> Tokens:
        return self.mlp(torch.cat([tokens, feature], dim=-1))
