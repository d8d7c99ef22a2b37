"""CALF-lite (arXiv 2403.07300) trains a time branch and a text branch of one language model to agree.

It follows the official code: window normalisation; each channel's look-back is a token; one encoder layer over the
channels; cross-attention onto principal components of the word embeddings gives the text branch its input; the time
branch trains LoRA, layer norms and positions, the text branch only positions; both add their input to their output;
one output layer; the loss is task + output consistency + layer-wise feature consistency with the official weights.

It differs: one optimiser and one learning rate for everything (the official code keeps every parameter named `_proj`,
which are the feature projections and the inner maps of both attentions, at a constant 1e-4); LoRA as the paper
describes it (the released code omits it or fails); linear maps start as torch's; feature and output consistency use
the training loss, as in the official scripts; the best epoch is chosen by the metric of the training loss, as for every
model here (officially by MSE); suites may choose bf16 (officially float32).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from models.kernels import layer
from models.layers import Attention, EncoderLayer, Forecast, Past, Restore, normalize_window
from models.llm_blocks import NORMS_AND_POSITIONS, POSITIONS, read_with, word_embeddings
from models.llm_files import bundle_dir, find
from models.options import CALFOptions, Shape

ChannelTokens = Float[Tensor, "b c d"]


class CALFLite(nn.Module):
    """Two branches of blocks over channel tokens; forecasts come from the time branch."""

    capturable = True  # as a CUDA graph: bench/train/step.py
    words: Tensor

    def __init__(self, shape: Shape, options: CALFOptions) -> None:
        super().__init__()
        self.options = options
        reader = options.reader, options.backbone, options.blocks
        lora = options.rank, options.alpha, options.lora_dropout
        self.time_blocks = read_with(*reader, trained=NORMS_AND_POSITIONS, lora=lora)
        self.text_blocks = read_with(*reader, trained=POSITIONS)
        width, states = self.time_blocks.width, options.blocks + 1
        origin = find(options.backbone).sha256, width, bundle_dir(), torch.get_default_device()
        words = words_of(options.backbone, options.components, *origin)
        self.register_buffer("words", words, persistent=False)
        self.embed = nn.Linear(shape.context, width)
        self.encode = EncoderLayer(width, options.heads, options.feedforward, options.dropout, nn.ReLU)
        self.attend_to_words = Attention(width, width, width, options.heads, dropout=0.0)
        self.words_out = nn.Linear(width, width)
        self.time_projections = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(states))
        self.text_projections = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(states))
        self.head = nn.Linear(width, shape.horizon)

    def forward(self, x: Past) -> Forecast:
        x, restore = normalize_window(x)
        return self._branch(self._tokens(x), self.time_blocks, (), restore)[0]

    def training_loss(self, x: Past, y: Forecast, criterion: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Return the task loss plus the branches' distance at the output and, decaying towards the input, per layer."""
        # 1. Run both branches.
        x, restore = normalize_window(x)
        tokens = self._tokens(x)
        text_tokens = self.words_out(layer(self.attend_to_words)(tokens, self.words))
        time, time_features = self._branch(tokens, self.time_blocks, self.time_projections, restore)
        text, text_features = self._branch(text_tokens, self.text_blocks, self.text_projections, restore)
        # 2. Compare their features, last layer first, and their outputs.
        options = self.options
        pairs = zip(time_features[::-1], text_features[::-1], strict=True)
        distances = [options.feature_decay**depth * criterion(*pair) for depth, pair in enumerate(pairs)]
        feature, output = torch.stack(distances).sum(), criterion(time, text)
        return criterion(time, y) + options.output_weight * output + options.feature_weight * feature

    def _tokens(self, x: Past) -> ChannelTokens:
        return layer(self.encode)(self.embed(rearrange(x, "b l c -> b c l")))

    def _branch(
        self, tokens: ChannelTokens, blocks: nn.Module, projections: Iterable[nn.Module], restore: Restore
    ) -> tuple[Forecast, list[ChannelTokens]]:
        """Return a branch's forecast and its projected states: the input, then one per block.

        The last state is the sum of input and output. The head is in float32 under autocast, as its output is the
        forecast.
        """
        *states, last = blocks(tokens)
        states.append(last + tokens)
        features = [project(state) for project, state in zip(projections, states, strict=False)]
        with torch.autocast(last.device.type, enabled=False):
            forecast = rearrange(self.head(states[-1].float()), "b c h -> b h c")
        return restore(forecast), features


@lru_cache(maxsize=2)
def words_of(backbone: str, components: int, *origin: object) -> Float[Tensor, "components d"]:
    """Return the principal words of a backbone, computed once for all runs of a process; nobody may write into them.

    `origin` is all else that they follow from: its weights' hash, its width, the bundle, torch's default device.
    """
    return principal_words(word_embeddings(backbone), components)


def principal_words(words: Float[Tensor, "vocabulary d"], components: int) -> Float[Tensor, "components d"]:
    """Return principal components over the vocabulary: E^T (d x V), each word centred, on its first directions.

    The official code runs scikit-learn's PCA on E^T; the same scores follow from the d x d Gram matrix. The sign of a
    component is arbitrary; here its largest entry is positive. Raises ValueError beyond d components.
    """
    if components > words.shape[1]:
        wrong = f"{components} components asked for; word embeddings of width {words.shape[1]} have no more"
        raise ValueError(f"{wrong}. Do: set the option `components` to that width or less")
    gram = (words.T @ words).double()
    centred = gram - gram.mean(0) - gram.mean(1, keepdim=True) + gram.mean()
    squares, directions = torch.linalg.eigh(centred)
    largest_first = torch.arange(len(squares) - 1, len(squares) - 1 - components, -1)
    scores = directions[:, largest_first] * squares[largest_first].clamp(min=0).sqrt()
    signs = scores.gather(0, scores.abs().argmax(0, keepdim=True)).sign()
    return (scores * signs).T.float()
