"""transformers' own forecasters (`transformers:PatchTSTForPrediction`), trained here as any other model.

What is the library's own is the network alone, with its scaling of each window; windows, loss, optimiser, early
stopping and test are this project's.
"""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import transformers
from torch import nn

from models.errors import UnknownName
from models.layers import Forecast, Past
from models.options import Shape

FORECASTERS = ["PatchTSMixerForPrediction", "PatchTSTForPrediction"]
"""The library's classes that forecast points; its others give distributions."""
SHAPE = ("context_length", "prediction_length", "num_input_channels")
"""Fields of a configuration that the task decides."""


def adapted(name: str) -> type[nn.Module]:
    """Return the class of this name as a forecaster that is built and called as this project's are.

    Raises UnknownName for a class that is no forecaster of points.
    """
    if name not in FORECASTERS:
        raise UnknownName("forecaster of transformers", name, FORECASTERS, "transformers")
    return type(name, (Network,), {"library_class": getattr(transformers, name)})


class Network(nn.Module):
    """One network of the library."""

    library_class: ClassVar[Any]

    def __init__(self, shape: Shape, options: dict[str, Any]) -> None:
        super().__init__()
        task = dict(zip(SHAPE, (shape.context, shape.horizon, shape.channels), strict=True))
        self.network = self.library_class(self.library_class.config_class(**task, **options))

    @classmethod
    def Options(cls, **given: Any) -> dict[str, Any]:  # noqa: N802  (as the dataclass of other models)
        """Return the options as they are. Raises UnknownName for one that the configuration lacks."""
        general = {*inspect.signature(transformers.PretrainedConfig).parameters, "loss", "distribution_output"}
        known = set(inspect.signature(cls.library_class.config_class).parameters) - general - set(SHAPE)
        if unknown := sorted(set(given) - known):
            raise UnknownName(f"option of transformers:{cls.__name__}", unknown[0], sorted(known))
        return given

    def forward(self, x: Past) -> Forecast:
        return self.network(past_values=x).prediction_outputs
