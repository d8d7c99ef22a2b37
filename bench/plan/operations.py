"""What a model takes for one window, counted layer by layer: operations, and numbers kept. No torch.

A test holds the counts against torch's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from models import MODELS, options
from models.llm_files import Backbone, find
from models.options import Shape

SCORE = 3
"""Numbers kept per attention score: normed, dropped, and the mask."""


@dataclass
class Size:
    """What a model takes for one window (all channels), added up layer by layer."""

    forward: float = 0
    """Operations of a forecast, two per multiply-add, as torch counts them."""
    training: float = 0
    """The same forward and backward; a frozen weight needs no gradient."""
    shared: float = 0
    """The part of `forward` that a batch needs once, not once per window."""
    kept: float = 0
    """Numbers that training keeps for the gradient."""
    trained: float = 0
    frozen: float = 0

    def linear(self, rows: float, inputs: int, outputs: int, freeze: bool = False) -> None:
        self._operations(2.0 * rows * inputs * outputs, 2 if freeze else 3)
        self.kept += rows * outputs
        if freeze:
            self.frozen += inputs * outputs
        else:
            self.trained += inputs * outputs

    def attend(self, rows: float, keys: float, width: int, heads: int) -> None:
        self._operations(4.0 * rows * keys * width, 3)
        self.kept += SCORE * heads * rows * keys

    def encoder(self, rows: int, keys: int, width: int, heads: int, feedforward: int) -> None:
        """One layer of a transformer encoder."""
        self.linear(rows, width, 3 * width)
        self.attend(rows, keys, width, heads)
        self.linear(rows, width, width)
        self.linear(rows, width, feedforward)
        self.linear(rows, feedforward, width)

    def read(self, o: Any, count: int, rows: int, keys: int) -> None:
        """The blocks of a language model, frozen, or what stands in their place."""
        backbone = find(o.backbone)
        width = backbone.width
        if o.reader == "attention":
            self.linear(rows, width, 4 * width)
            self.attend(rows, keys, width, width // 64)
        elif o.reader == "blocks":
            for inputs, outputs in _products(backbone) * count:
                self.linear(rows, inputs, outputs, freeze=True)
            for _ in range(count):
                self.attend(rows, keys, width, width // 64)

    def _operations(self, forward: float, passes: int) -> None:
        self.forward += forward
        self.training += passes * forward


def _products(backbone: Backbone) -> list[tuple[int, int]]:
    """Inputs and outputs of the matrices in one block."""
    width = backbone.width
    if backbone.family == "gpt2":
        return [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)]
    inner, of_keys = backbone.architecture["intermediate_size"], 64 * backbone.architecture["num_key_value_heads"]
    return [(width, width + 2 * of_keys), (width, width), (width, 2 * inner), (inner, width)]


def _patches(shape: Shape, o: Any) -> int:
    return (shape.context - o.patch) // o.stride + 2


def _patchtst(size: Size, shape: Shape, o: options.PatchTSTOptions) -> None:
    n = _patches(shape, o)
    rows = shape.channels * n
    size.linear(rows, o.patch, o.width)
    for _ in range(o.layers):
        size.encoder(rows, n, o.width, o.heads, o.feedforward)
    size.linear(shape.channels, n * o.width, shape.horizon)


def _itransformer(size: Size, shape: Shape, o: options.ITransformerOptions) -> None:
    tokens = shape.channels + 4 * o.calendar
    size.linear(tokens, shape.context, o.width)
    for _ in range(o.layers):
        size.encoder(tokens, tokens, o.width, o.heads, o.feedforward)
    size.linear(tokens, o.width, shape.horizon)


def _logo_llm(size: Size, shape: Shape, o: options.LogoLLMOptions) -> None:
    n, width = _patches(shape, o), find(o.backbone).width
    rows = shape.channels * n
    taps = {"both": (o.local_tap, o.global_tap), "local": (o.local_tap,)}.get(o.mixers, (o.global_tap,))
    size.linear(rows, o.patch, width)
    size.read(o, max(*taps, 1), rows, n)
    for _ in range({"both": 2, "none": 0}.get(o.mixers, 1)):
        size.linear(rows, 2 * width, width)
        size.linear(rows, width, width)
    size.linear(shape.channels, n * width, shape.horizon)


def _time_llm_lite(size: Size, shape: Shape, o: options.TimeLLMOptions) -> None:
    n, backbone = _patches(shape, o), find(o.backbone)
    rows, inner = shape.channels * n, o.heads * o.feedforward
    prompt = (len(shape.about) + 110) / (4.5 if backbone.pretrained else 1)  # letters per token
    size.linear(o.prototypes, backbone.width, backbone.width)
    size.linear(o.prototypes, backbone.width, 2 * inner)
    size.shared, size.kept = size.forward, 0.0  # the prototypes are the same for all windows
    size.linear(rows, 3 * o.patch, o.width)
    size.linear(rows, o.width, inner)
    size.attend(rows, o.prototypes, inner, o.heads)
    size.linear(rows, inner, backbone.width)
    size.read(o, o.blocks, rows, n + int(prompt))
    size.linear(shape.channels, n * o.feedforward, shape.horizon)


def _calf_lite(size: Size, shape: Shape, o: options.CALFOptions) -> None:
    width, tokens = find(o.backbone).width, shape.channels
    size.linear(tokens, shape.context, width)
    size.encoder(tokens, tokens, width, o.heads, o.feedforward)
    size.read(o, o.blocks, tokens, tokens)
    size.linear(tokens, width, shape.horizon)
    text = Size()  # trains beside the time branch, and forecasts nothing
    text.linear(tokens, width, 2 * width)
    text.attend(tokens, o.components, width, o.heads)
    text.read(o, o.blocks, tokens, tokens)
    for _ in range(2 * (o.blocks + 1)):
        text.linear(tokens, width, width)
    size.training += text.training
    size.kept += text.kept
    size.trained += text.trained
    size.frozen += text.frozen


def _dlinear(size: Size, shape: Shape, o: options.DLinearOptions) -> None:
    size.linear(shape.channels, shape.context, shape.horizon)
    size.linear(shape.channels, shape.context, shape.horizon)


COUNTS: dict[str, Callable[[Size, Shape, Any], None]] = {
    "patchtst": _patchtst,
    "itransformer": _itransformer,
    "logo_llm": _logo_llm,
    "time_llm_lite": _time_llm_lite,
    "calf_lite": _calf_lite,
    "dlinear": _dlinear,
}


def size_of(model: str, given: Mapping[str, Any], shape: Shape) -> Size:
    """Counted for a registered model (the naive ones multiply nothing); others are taken for a default iTransformer."""
    size = Size(kept=shape.channels * (shape.context + shape.horizon))
    if model in COUNTS:
        COUNTS[model](size, shape, MODELS[model].options(**given))
    elif model not in MODELS:
        _itransformer(size, shape, options.ITransformerOptions())
    return size
