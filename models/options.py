"""These dataclasses hold each model's options, and the shape of the problem that it is built for. No torch.

Defaults are the general setting of each paper or its official code; bench/suites/settings.toml overrides them by data
set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal


@dataclass(frozen=True)
class Within:
    """The least and the greatest value of an option. Pydantic asks for it, which this module does not import."""

    ge: float
    le: float

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return {**handler(source), "ge": self.ge, "le": self.le}


Size = Annotated[int, Within(1, 10**6)]
Rate = Annotated[float, Within(0, 0.99)]
Weight = Annotated[float, Within(0, 1e6)]
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
    kernel: Size = 25
    """Width of the moving average that splits trend and remainder; odd."""


@dataclass(frozen=True)
class PatchTSTOptions:
    patch: Size = 16
    stride: Size = 8
    width: Size = 128
    heads: Size = 16
    layers: Size = 3
    feedforward: Size = 256
    dropout: Rate = 0.2
    head_dropout: Rate = 0.0
    residual_attention: bool = True
    """Attention scores are added to those of the layer before (the official default)."""


@dataclass(frozen=True)
class ITransformerOptions:
    width: Size = 512
    heads: Size = 8
    layers: Size = 2
    feedforward: Size = 512
    dropout: Rate = 0.1
    calendar: bool = True
    """Read hour of day, day of week, of month and of year as further tokens, as the official runs do."""


@dataclass(frozen=True)
class LogoLLMOptions:
    backbone: str = "gpt2"
    blocks: int = 12
    local_tap: int = 5
    """The local feature is the output of this block (1 = the first)."""
    global_tap: int = 12
    patch: Size = 16
    stride: Size = 8
    dropout: Rate = 0.3
    """Dropout rate of both mixers."""
    reader: Reader = "blocks"
    mixers: Literal["both", "local", "global", "none"] = "both"
    """Ablations: one mixer alone; or none, and the head reads the global tap itself (as arXiv 2302.11939 does)."""

    @property
    def deepest(self) -> int:
        """The number of blocks that are built: those that no tap reads are not."""
        local = self.local_tap if self.mixers in ("both", "local") else 0
        return max(local, self.global_tap if self.mixers != "local" else 0, 1)

    @property
    def final_norm(self) -> bool:
        """Whether the language model's final norm is built; it belongs to its last block's state alone."""
        return self.reader == "blocks" and self.deepest == self.blocks


@dataclass(frozen=True)
class GPT4TSOptions:
    backbone: str = "gpt2"
    blocks: int = 6
    patch: Size = 16
    stride: Size = 8
    reader: Reader = "blocks"


@dataclass(frozen=True)
class TimeLLMOptions:
    backbone: str = "gpt2"
    blocks: int = 12
    patch: Size = 16
    stride: Size = 8
    width: Size = 32
    """Width of a patch before it is reprogrammed."""
    feedforward: Size = 128
    """Width of each reprogramming head, and how many output features of the language model are read."""
    heads: Size = 8
    prototypes: Size = 1000
    words: Size = 8192
    """Most words of the vocabulary that prototypes are mixtures of (officially all)."""
    dropout: Rate = 0.1
    reader: Reader = "blocks"


@dataclass(frozen=True)
class CALFOptions:
    backbone: str = "gpt2"
    blocks: int = 6
    components: Size = 500
    """Principal components of the word embeddings that the text branch attends to."""
    heads: Size = 12
    feedforward: Size = 2048
    """Width of the encoder layer's feed-forward."""
    dropout: Rate = 0.1
    rank: Size = 8
    alpha: Weight = 32.0
    lora_dropout: Rate = 0.1
    output_weight: Weight = 1.0
    feature_weight: Weight = 0.01
    feature_decay: Weight = 0.8
    """Factor on the feature loss per layer, counted from the last."""
    reader: Reader = "blocks"
    """Reader of both branches."""
