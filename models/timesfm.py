"""TimesFM 2.5 (arXiv 2310.10688 and its model card): a decoder of 231 million parameters. Nothing trains."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import TimesFm2_5Config, TimesFm2_5ModelForPrediction

from models.forecaster_files import TIMESFM
from models.options import NoOptions, Shape
from models.pretrained import Pretrained, filled


class TimesFM(Pretrained):
    """Forecast 128 steps; beyond, append their medians to the context and forecast again, as its authors' code does.

    As there, a series and its mirror image are each forecast to the end, and the mean of both is taken. What their code
    does for data that are never negative is switched off: channels are standardised, and it would look at the whole
    batch. It reads at most 16,384 steps.
    """

    def __init__(self, shape: Shape, options: NoOptions) -> None:
        config = TimesFm2_5Config(**TIMESFM.architecture)
        super().__init__(shape, filled(TimesFm2_5ModelForPrediction(config), TIMESFM))

    def forecast(self, series: Float[Tensor, "s l"]) -> Float[Tensor, "s h"]:
        return (self._roll_out(series) - self._roll_out(-series)) / 2

    def _roll_out(self, series: Tensor) -> Tensor:
        """Forecast block after block until the horizon is full."""
        config, known = self.network.config, series
        while known.shape[1] < series.shape[1] + self.horizon:
            patches = -(-min(known.shape[1], config.context_length) // config.patch_length)
            block = self.network(
                past_values=known.unbind(0),
                forecast_context_len=patches * config.patch_length,  # whole patches: the first is filled up in front
                force_flip_invariance=False,
                truncate_negative=False,
            ).mean_predictions  # the median, whatever its name
            known = torch.cat([known, block], dim=1)
        return known[:, series.shape[1] :][:, : self.horizon]
