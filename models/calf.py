"""CALF-lite (arXiv 2403.07300): a time branch and a text branch through the same language model, drawn together.

Faithful to the official code: window normalisation; each channel's look-back is a token; one encoder layer over the
channels; cross-attention onto principal components of the word embeddings gives the text branch its input; the time
branch trains LoRA, layer norms and positions, the text branch only positions; both add their input to their output;
one output layer; the loss is task + output consistency + layer-wise feature consistency with the official weights.

Lite, and stated: one optimiser and one learning rate for everything (the official code keeps every parameter named
`_proj`, that is the feature projections and the inner maps of both attentions, at a constant 1e-4); LoRA is what the
paper describes and the released code leaves out or fails on; linear maps start as torch's; feature and output
consistency use the training loss, as the official scripts set them; the best epoch is chosen by the metric of the
training loss, as for every model here (officially by MSE); bf16 where the suite says so (officially float32).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from models.layers import Attention, EncoderLayer, Forecast, Windows, normalize_window
from models.llm_blocks import read_with, word_embeddings
from models.options import CALFOptions, Shape

Tokens = Float[Tensor, "b c d"]
Criterion = Callable[[Tensor, Tensor], Tensor]


class Branch(NamedTuple):
    forecast: Forecast
    features: list[Tokens]
    """Projected hidden states: the input, then one per block."""


class CALFLite(nn.Module):
    capturable = True  # as a CUDA graph: bench/train/step.py
    words: Tensor

    def __init__(self, shape: Shape, options: CALFOptions) -> None:
        super().__init__()
        self.options = options
        self.time_blocks = read_with(options.reader, options.backbone, options.blocks)
        self.time_blocks.train_norms_and_positions()
        self.time_blocks.add_lora(options.rank, options.alpha, options.lora_dropout)
        self.text_blocks = read_with(options.reader, options.backbone, options.blocks)
        self.text_blocks.train_positions()
        width, states = self.time_blocks.width, options.blocks + 1
        self.register_buffer(
            "words", principal_words(word_embeddings(options.backbone), options.components), persistent=False
        )
        self.embed = nn.Linear(shape.context, width)
        self.encode = EncoderLayer(width, options.heads, options.feedforward, options.dropout, nn.ReLU)
        self.attend_to_words = Attention(width, width, width, options.heads, dropout=0.0)
        self.words_out = nn.Linear(width, width)
        self.time_projections = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(states))
        self.text_projections = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(states))
        self.head = nn.Linear(width, shape.horizon)

    def forward(self, x: Windows) -> Forecast:
        x, restore = normalize_window(x)
        tokens = self._tokens(x)
        return restore(self._read(self._states(tokens, self.time_blocks)[-1]))

    def training_loss(self, x: Windows, y: Forecast, criterion: Criterion) -> Tensor:
        """Task loss, plus the distance between the branches at the output and, decaying with depth, at each layer."""
        x, restore = normalize_window(x)
        tokens = self._tokens(x)
        text_tokens = self.words_out(self.attend_to_words(tokens, self.words))
        time = self._branch(tokens, self.time_blocks, self.time_projections, restore)
        text = self._branch(text_tokens, self.text_blocks, self.text_projections, restore)
        options = self.options
        feature = torch.stack(
            [
                options.feature_decay**depth * criterion(ours, theirs)
                for depth, (ours, theirs) in enumerate(zip(time.features[::-1], text.features[::-1], strict=True))
            ]
        ).sum()
        output = criterion(time.forecast, text.forecast)
        return criterion(time.forecast, y) + options.output_weight * output + options.feature_weight * feature

    def _tokens(self, x: Windows) -> Tokens:
        tokens: Tokens = self.encode(self.embed(rearrange(x, "b l c -> b c l")))
        return tokens

    def _branch(
        self,
        tokens: Tokens,
        blocks: nn.Module,
        projections: Iterable[nn.Module],
        restore: Callable[[Tensor], Tensor],
    ) -> Branch:
        states = self._states(tokens, blocks)
        features = [project(state) for project, state in zip(projections, states, strict=True)]
        return Branch(restore(self._read(states[-1])), features)

    @staticmethod
    def _states(tokens: Tokens, blocks: nn.Module) -> list[Tokens]:
        """Input, output of each block, and in place of the last the residual sum of both."""
        *states, last = blocks(tokens)
        return [*states, last + tokens]

    def _read(self, state: Tokens) -> Forecast:
        """The head, in float32 under autocast: its output is the forecast."""
        with torch.autocast(state.device.type, enabled=False):
            return rearrange(self.head(state.float()), "b c h -> b h c")


def principal_words(words: Float[Tensor, "vocabulary d"], components: int) -> Float[Tensor, "components d"]:
    """Principal components over the vocabulary: E^T (d x V), each word centred, projected on its first directions.

    The official code runs scikit-learn's PCA on E^T; the same scores follow from the d x d Gram matrix. The sign of a
    component is arbitrary; it is fixed so that its largest entry is positive. Raises ValueError beyond d components.
    """
    if components > words.shape[1]:
        raise ValueError(f"{components} components asked for; word embeddings of width {words.shape[1]} have no more")
    gram = (words.T @ words).double()
    centred = gram - gram.mean(0) - gram.mean(1, keepdim=True) + gram.mean()
    squares, directions = torch.linalg.eigh(centred)
    largest_first = torch.arange(len(squares) - 1, len(squares) - 1 - components, -1)
    scores = directions[:, largest_first] * squares[largest_first].clamp(min=0).sqrt()
    signs = scores.gather(0, scores.abs().argmax(0, keepdim=True)).sign()
    return (scores * signs).T.float()
