"""Time-LLM-lite (arXiv 2310.01728) reprograms patches into text prototypes that a frozen language model reads.

It follows the paper: window normalisation, patch embedding by a circular convolution of width 3, multi-head
cross-attention from patches to 1000 text prototypes, a prompt in front, every weight of the language model frozen, the
first `feedforward` features of its last hidden states, a flatten head.

It differs:
- The language model is the suite's small one (officially LLaMA-7B).
- The prompt is fixed per data set and horizon (description and task; no statistics of the single window). It is read
  once and kept as keys and values. No prompt is padded, so a forecast does not depend on the rest of its batch; in the
  official code it does.
- Prototypes are mixtures of word embeddings, learned as officially, but of every n-th word (option `words`; see
  `Prototypes`) and not of all 50 thousand, whose weights would be most of the work of a step.
- The prompt describes the run's data set; the official scripts describe ETT for every data set.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from models.kernels import Dropout, fuse
from models.layers import Attention, FlattenHead, Forecast, Past, Restore, Tokens, count_patches, normalized_patches
from models.llm_blocks import Blocks, read_with, tokenize, word_embeddings
from models.options import Shape, TimeLLMOptions


class TimeLLMLite(nn.Module):
    """Reprogrammed patches through the frozen blocks, behind a prompt, and a flatten head."""

    capturable = fusible = True  # as a CUDA graph, by a compiler: bench/train/step.py
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
        tokens, restore = self._tokens(x)
        return self._forecast(self.behind_prompt(tokens), x.shape[-1], restore)

    def behind_prompt(self, tokens: Tokens) -> Tokens:
        """Return the last hidden state of the tokens behind the prompt."""
        return self.blocks(tokens, self.prefix)[-1]

    @fuse
    def _tokens(self, x: Past) -> tuple[Tokens, Restore]:
        patches, restore = normalized_patches(x, self.patch, self.stride)
        embedded = self.embed(rearrange(patches, "s n p -> s p n"))
        return self.reprogram(self.dropout(rearrange(embedded, "s d n -> s n d"))), restore

    @fuse
    def _forecast(self, state: Tokens, channels: int, restore: Restore) -> Forecast:
        return restore(self.head(state[..., : self.features], channels=channels))


class Reprogramming(nn.Module):
    """Cross-attention from patches to text prototypes."""

    def __init__(self, words: Float[Tensor, "vocabulary d"], options: TimeLLMOptions) -> None:
        super().__init__()
        width, inner = words.shape[1], options.heads * options.feedforward
        self.prototypes = Prototypes(words, options.prototypes, options.words)
        self.attention = Attention(options.width, width, inner, options.heads, options.dropout)
        self.out = nn.Linear(inner, width)

    def forward(self, patches: Float[Tensor, "s n d_patch"]) -> Tokens:
        return self.out(self.attention(patches, self.prototypes()))


class Prototypes(nn.Module):
    """Text prototypes W E + b: learned mixtures of the word embeddings E, as the official layer learns them.

    With fewer than all V words, W is learned for every n-th word (they are sorted by frequency), K in all, and the
    product is scaled by V / K. Adam moves each weight by its rate, whatever the scale of its gradient; so a step moves
    the prototypes by V / K times the sum over K words, which estimates the sum over V that the official step is. W
    starts with the variance that gives the prototypes the official spread. docs/prototypes.py measures the difference.
    """

    words: Tensor

    def __init__(self, words: Float[Tensor, "vocabulary d"], count: int, most: int) -> None:
        super().__init__()
        sample = words[:: math.ceil(len(words) / most)]
        scale = len(words) / len(sample)
        bound = len(words) ** -0.5  # of the official layer
        self.register_buffer("words", scale * sample, persistent=False)
        self.mixture = nn.Parameter(torch.empty(count, len(sample)).uniform_(-bound, bound) * scale**-0.5)
        self.bias = nn.Parameter(torch.empty(count, 1).uniform_(-bound, bound))

    def forward(self) -> Float[Tensor, "count d"]:
        return self.mixture @ self.words + self.bias


def prompt_of(shape: Shape) -> str:
    """Return the sentence in front of every series: the data, then the task."""
    return (
        f"Dataset description: {shape.about}. Task description: forecast the next {shape.horizon} steps "
        f"given the previous {shape.context} steps information;"
    )
