"""GPT4TS (One Fits All, arXiv 2302.11939) reads patches through the first blocks of a frozen language model.

It follows the official code: window normalisation, replication-padded patches, a linear input layer, the blocks with
trainable layer norms and positions and the final norm, a flatten head. It is Logo-LLM without mixers and without a
second tap, and the paper's nearest ancestor.
"""

from __future__ import annotations

from torch import nn

from models.kernels import fuse
from models.layers import FlattenHead, Forecast, Past, Restore, Tokens, count_patches, normalized_patches
from models.llm_blocks import NORMS_AND_POSITIONS, read_with
from models.options import GPT4TSOptions, Shape


class GPT4TS(nn.Module):
    """Patches through the blocks, and a flatten head over the last block's normed state."""

    capturable = fusible = True  # as a CUDA graph, by a compiler: bench/train/step.py

    def __init__(self, shape: Shape, options: GPT4TSOptions) -> None:
        super().__init__()
        self.patch, self.stride = options.patch, options.stride
        self.blocks = read_with(options.reader, options.backbone, options.blocks, trained=NORMS_AND_POSITIONS)
        self.embed = nn.Linear(options.patch, self.blocks.width)
        patches = count_patches(shape.context, options.patch, options.stride)
        self.head = FlattenHead(patches, self.blocks.width, shape.horizon)

    def forward(self, x: Past) -> Forecast:
        tokens, restore = self._tokens(x)
        return self._forecast(self.blocks(tokens)[-1], x.shape[-1], restore)

    @fuse
    def _tokens(self, x: Past) -> tuple[Tokens, Restore]:
        patches, restore = normalized_patches(x, self.patch, self.stride)
        return self.embed(patches), restore

    @fuse
    def _forecast(self, state: Tokens, channels: int, restore: Restore) -> Forecast:
        return restore(self.head(state, channels=channels))
