"""Chronos-Bolt (arXiv 2403.07815 and its model card), small: an encoder-decoder of 48 million parameters. Nothing
trains."""

from __future__ import annotations

import warnings

from jaxtyping import Float
from torch import Tensor
from transformers import T5Config

from models.errors import BenchError
from models.forecaster_files import CHRONOS_BOLT
from models.options import NoOptions, Shape
from models.pretrained import Pretrained, filled

try:
    from chronos.chronos_bolt import ChronosBoltModelForForecasting, ChronosBoltPipeline
except ImportError:
    remedy = "Do: pip install 'chronos-forecasting>=2.3,<3'"
    raise BenchError(f"model chronos_bolt: chronos-forecasting is not installed. {remedy}") from None


class ChronosBolt(Pretrained):
    """Forecast 64 steps; beyond, append each of nine quantiles to the context, forecast again, and take the quantiles
    of all forecasts, as its package does. It reads at most 2,048 steps."""

    def __init__(self, shape: Shape, options: NoOptions) -> None:
        config = T5Config(**CHRONOS_BOLT.architecture)
        super().__init__(shape, filled(ChronosBoltModelForForecasting(config), CHRONOS_BOLT))
        self.median = config.chronos_config["quantiles"].index(0.5)

    def forecast(self, series: Float[Tensor, "s l"]) -> Float[Tensor, "s h"]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it advises against more than 64 steps
            quantiles = ChronosBoltPipeline(self.network).predict(series, prediction_length=self.horizon)
        return quantiles[:, self.median].to(series)
