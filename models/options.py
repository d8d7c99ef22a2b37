"""These dataclasses hold each model's options, and the shape of the problem that it is built for. No torch.

Defaults are the general setting of each paper or its official code; bench/suites/settings.toml overrides them by data
set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Reader = Literal["blocks", "attention", "nothing"]
"""Reader of the tokens: the language model's blocks or, as an ablation, a fresh attention layer or nothing."""


@dataclass(frozen=True)
class Shape:
    """A forecaster maps `x [batch, context, channels]` to `y [batch, horizon, channels]`."""

    context: int
    horizon: int
    channels: int
    season: int
    """Steps in the main period (24 for hourly data)."""
    about: str = ""
    """One sentence on the data, for models that read a prompt."""


@dataclass(frozen=True)
class NoOptions:
    """The model has no options."""


@dataclass(frozen=True)
class DLinearOptions:
    kernel: int = 25
    """Width of the moving average that splits trend and remainder; odd."""


@dataclass(frozen=True)
class PatchTSTOptions:
    patch: int = 16
    stride: int = 8
    width: int = 128
    heads: int = 16
    layers: int = 3
    feedforward: int = 256
    dropout: float = 0.2
    head_dropout: float = 0.0
    residual_attention: bool = True
    """Attention scores are added to those of the layer before (the official default)."""


@dataclass(frozen=True)
class ITransformerOptions:
    width: int = 512
    heads: int = 8
    layers: int = 2
    feedforward: int = 512
    dropout: float = 0.1
    calendar: bool = True
    """Read hour of day, day of week, of month and of year as further tokens, as the official runs do."""


@dataclass(frozen=True)
class LogoLLMOptions:
    backbone: str = "gpt2"
    blocks: int = 12
    local_tap: int = 5
    """The local feature is the output of this block (1 = the first)."""
    global_tap: int = 12
    patch: int = 16
    stride: int = 8
    dropout: float = 0.3
    """Dropout rate of both mixers."""
    reader: Reader = "blocks"
    mixers: Literal["both", "local", "global", "none"] = "both"
    """Ablations: one mixer alone; or none, and the head reads the global tap itself (as arXiv 2302.11939 does)."""


@dataclass(frozen=True)
class TimeLLMOptions:
    backbone: str = "gpt2"
    blocks: int = 12
    patch: int = 16
    stride: int = 8
    width: int = 32
    """Width of a patch before it is reprogrammed."""
    feedforward: int = 128
    """Width of each reprogramming head, and how many output features of the language model are read."""
    heads: int = 8
    prototypes: int = 1000
    words: int = 8192
    """Most words of the vocabulary that prototypes are mixtures of (officially all)."""
    dropout: float = 0.1
    reader: Reader = "blocks"


@dataclass(frozen=True)
class CALFOptions:
    backbone: str = "gpt2"
    blocks: int = 6
    components: int = 500
    """Principal components of the word embeddings that the text branch attends to."""
    heads: int = 12
    feedforward: int = 2048
    """Width of the encoder layer's feed-forward."""
    dropout: float = 0.1
    rank: int = 8
    alpha: float = 32.0
    lora_dropout: float = 0.1
    output_weight: float = 1.0
    feature_weight: float = 0.01
    feature_decay: float = 0.8
    """Factor on the feature loss per layer, counted from the last."""
    reader: Reader = "blocks"
    """Reader of both branches."""
