"""Forecasters that come pretrained share this: channels are a batch of series, and nothing trains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from models.forecaster_files import Forecaster
from models.layers import Forecast, Past
from models.llm_blocks import copy_tensors
from models.llm_files import WEIGHTS, verified
from models.options import Shape


class Pretrained(nn.Module, ABC):
    """A univariate forecaster with the weights it was published with: `forecast` maps series to their medians.

    It stays in eval mode and in float32, has no gradient, and draws no random numbers.
    """

    pieces = 512
    """Most series that pass through the network at once. Fixed: how a batch is cut may change last bits."""

    def __init__(self, shape: Shape, network: nn.Module) -> None:
        super().__init__()
        self.horizon = shape.horizon
        self.network: Any = network
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode, whatever is asked for."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, x: Past) -> Forecast:
        series = rearrange(x, "b l c -> (b c) l").float()
        with torch.autocast(x.device.type, enabled=False):
            pieces = [self.forecast(piece) for piece in series.split(self.pieces)]
        return rearrange(torch.cat(pieces), "(b c) h -> b h c", c=x.shape[-1])

    @abstractmethod
    def forecast(self, series: Float[Tensor, "s l"]) -> Float[Tensor, "s h"]:
        """Return the median forecast of each series for the whole horizon."""


def filled(network: nn.Module, weights: Forecaster) -> nn.Module:
    """Return the network with the tensors of its verified file. Raises BackboneError, as `copy_tensors` does."""
    copy_tensors(network, verified(weights)[WEIGHTS], weights)
    return network
