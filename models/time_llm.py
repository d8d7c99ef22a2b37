"""Time-LLM-lite (arXiv 2310.01728) reprograms patches into text prototypes that a frozen language model reads.

It follows the paper: window normalisation, patch embedding by a circular convolution of width 3, multi-head
cross-attention from patches to 1000 text prototypes, a prompt in front, every weight of the language model frozen, the
first `feedforward` features of its last hidden states, a flatten head.

It differs:
- The language model is the suite's small one (officially LLaMA-7B).
- The prompt is fixed per data set and horizon (description and task; no statistics of the single window). It is read
  once and kept as keys and values. No prompt is padded, so a forecast does not depend on the rest of its batch; in the
  official code it does.
- Prototypes are linear combinations of the word embeddings E (V x d). The official layer learns them as W E with
  W (1000 x V), 50 million weights. E has rank d, so W E = G B with B (d x d) a fixed basis of E's row space, and only
  G (1000 x d) is learned: the same set of prototypes with the same spread at the start, but without the bias. Adam
  takes other steps in G than in W.
- The prompt describes the run's data set; the official scripts describe ETT for every data set.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from models.kernels import Dropout
from models.layers import Attention, FlattenHead, Forecast, Past, Tokens, count_patches, normalize_window, split_patches
from models.llm_blocks import Blocks, read_with, tokenize, word_embeddings
from models.options import Shape, TimeLLMOptions


class TimeLLMLite(nn.Module):
    """Reprogrammed patches through the frozen blocks, behind a prompt, and a flatten head."""

    capturable = True  # as a CUDA graph: bench/train/step.py
    prefix: Tensor | None

    def __init__(self, shape: Shape, options: TimeLLMOptions) -> None:
        super().__init__()
        self.patch, self.stride, self.features = options.patch, options.stride, options.feedforward
        self.blocks = read_with(options.reader, options.backbone, options.blocks)
        words = word_embeddings(options.backbone)
        prefix = None  # a stand-in reads no prompt
        if isinstance(self.blocks, Blocks):
            prompt = words[torch.tensor(tokenize(options.backbone, prompt_of(shape)))]
            self.blocks.eval()  # no dropout on the prompt
            prefix = self.blocks.read_prefix(prompt)
        self.register_buffer("prefix", prefix, persistent=False)
        self.embed = nn.Conv1d(options.patch, options.width, 3, padding=1, padding_mode="circular", bias=False)
        nn.init.kaiming_normal_(self.embed.weight, mode="fan_in", nonlinearity="leaky_relu")
        self.dropout = Dropout(options.dropout)
        self.reprogram = Reprogramming(words, options)
        patches = count_patches(shape.context, options.patch, options.stride)
        self.head = FlattenHead(patches, options.feedforward, shape.horizon, options.dropout)

    def forward(self, x: Past) -> Forecast:
        x, restore = normalize_window(x)
        patches = split_patches(x, self.patch, self.stride)
        embedded = self.embed(rearrange(patches, "s n p -> s p n"))
        tokens = self.reprogram(self.dropout(rearrange(embedded, "s d n -> s n d")))
        return restore(self.head(self.behind_prompt(tokens)[..., : self.features], channels=x.shape[-1]))

    def behind_prompt(self, tokens: Tokens) -> Tokens:
        """Return the last hidden state of the tokens behind the prompt."""
        return self.blocks(tokens, self.prefix)[-1]


class Reprogramming(nn.Module):
    """Cross-attention from patches to text prototypes, which are mixtures of the word embeddings."""

    basis: Tensor

    def __init__(self, words: Float[Tensor, "vocabulary d"], options: TimeLLMOptions) -> None:
        super().__init__()
        width, inner = words.shape[1], options.heads * options.feedforward
        self.register_buffer("basis", _row_space(words), persistent=False)
        # The official W is uniform in +-1/sqrt(V): its rows have variance 1/(3V) in any orthonormal basis.
        self.mixture = nn.Parameter(torch.randn(options.prototypes, width) / (3 * len(words)) ** 0.5)
        self.attention = Attention(options.width, width, inner, options.heads, options.dropout)
        self.out = nn.Linear(inner, width)

    def forward(self, patches: Float[Tensor, "s n d_patch"]) -> Tokens:
        return self.out(self.attention(patches, self.mixture @ self.basis))


def _row_space(words: Float[Tensor, "vocabulary d"]) -> Float[Tensor, "d d"]:
    """Return B with B^T B = E^T E: an orthonormal basis of E's row space, scaled by the singular values."""
    squares, directions = torch.linalg.eigh((words.T @ words).double())
    return (squares.clamp(min=0).sqrt()[:, None] * directions.T).float()


def prompt_of(shape: Shape) -> str:
    """Return the sentence in front of every series: the data, then the task."""
    return (
        f"Dataset description: {shape.about}. Task description: forecast the next {shape.horizon} steps "
        f"given the previous {shape.context} steps information;"
    )
