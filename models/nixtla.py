"""neuralforecast's forecasters (`nixtla:TimesNet`), each one network that is trained here as any other model.

What is the library's own is the network alone. Windows, scaling, loss, optimiser, early stopping and test are this
project's, for every model the same. Networks that forecast one series see the channels as a batch; the others
(`MULTIVARIATE`) see all channels at once. No network reads the calendar or other further series.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import logging
import random
import warnings
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from einops import rearrange
from torch import nn

from models import LIBRARIES
from models.errors import BenchError, UnknownName
from models.layers import Forecast, Past, normalize_window
from models.options import Shape

REFUSED = {
    "DeepAR": "it forecasts the parameters of a distribution",
    "HINT": "it is no network of its own, but reconciles the forecasts of another",
    "Informer": "it draws which keys are attended to anew in each pass, so no forecast is the same twice",
    "TimeLLM": "it downloads its language model while it is built, and `time_llm_lite` is here",
}
"""Class -> why it cannot be run."""
NEEDED = dict(LIBRARIES["nixtla"].needs)
READS_ITS_BATCH = ("StemGNN", "TimesNet")
"""A class that takes means over its batch, of spectra or of attention. Where a forecast counts, each window is a batch
of its own, as Time-Series-Library tests TimesNet; otherwise it would change with its neighbours."""
SELF_NORMALIZING = ("revin", "revin_affine", "use_norm")
"""A class with one of these options normalises each window itself."""


def adapted(name: str) -> type[nn.Module]:
    """Return the class of this name as a forecaster that is built and called as this project's are.

    Raises BenchError for a class that is refused or that the library does not have, and ImportError without it.
    """
    with _silent():
        library = importlib.import_module("neuralforecast.models")
    if name in REFUSED:
        raise BenchError(f"model nixtla:{name}: {REFUSED[name]}. Do: name another model")
    if name not in library.__all__:
        raise UnknownName("class of neuralforecast", name, sorted(set(library.__all__) - set(REFUSED)), "nixtla")
    if (needed := NEEDED.get(name)) and importlib.util.find_spec(needed) is None:
        raise ModuleNotFoundError(f"neuralforecast's {name} needs it", name=needed)
    return type(name, (Network,), {"library_class": getattr(library, name)})


class Network(nn.Module):
    """One network of the library."""

    library_class: ClassVar[Any]

    def __init__(self, shape: Shape, options: dict[str, Any]) -> None:
        super().__init__()
        settings = dict(options)
        self.normalize = bool(settings.pop("normalize"))
        if self.library_class.MULTIVARIATE:
            settings["n_series"] = shape.channels
        seed = int(torch.randint(2**32, ()))  # from the run's own seed
        with _silent():
            self.network = self.library_class(
                h=shape.horizon, input_size=shape.context, random_seed=seed, max_steps=1, **settings
            )

    @classmethod
    def Options(cls, **given: Any) -> dict[str, Any]:  # noqa: N802  (as the dataclass of other models)
        """Return the options of the class with `normalize` (scale each window, as `normalize_window` does) filled in.

        By default a class that does not do so itself is normalised. Raises BenchError for an option that it lacks.
        """
        own = set(inspect.signature(cls.library_class).parameters) - _shared_parameters()
        if unknown := sorted(set(given) - own - {"normalize"}):
            raise UnknownName(f"option of nixtla:{cls.__name__}", unknown[0], sorted(own | {"normalize"}))
        if given.get("recurrent"):
            cause = "one step after the other is no way to forecast here"
            raise BenchError(f"option recurrent of nixtla:{cls.__name__}: {cause}. Do: leave it out")
        return {"normalize": not own & set(SELF_NORMALIZING), **given}

    def forward(self, x: Past) -> Forecast:
        if self.training or type(self).__name__ not in READS_ITS_BATCH:
            return self._forecast(x)
        return torch.cat([self._forecast(window) for window in x.split(1)])

    def _forecast(self, x: Past) -> Forecast:
        series, restore = normalize_window(x) if self.normalize else (x, lambda forecast: forecast)
        if not self.network.MULTIVARIATE:
            series = rearrange(series, "b l c -> (b c) l 1")
        further = dict.fromkeys(("futr_exog", "hist_exog", "stat_exog"))
        forecast = self.network({"insample_y": series, "insample_mask": torch.ones_like(series), **further})
        if not self.network.MULTIVARIATE:
            forecast = rearrange(forecast, "(b c) h 1 -> b h c", c=x.shape[-1])
        return restore(forecast)


def _shared_parameters() -> set[str]:
    """Return the parameters of every class: shape, training, data and further series, which are not the network's."""
    base = importlib.import_module("neuralforecast.common._base_model").BaseModel
    return {*inspect.signature(base.__init__).parameters} | {"self"}


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep the library's warnings and messages back, and the random generators as they are: its classes seed them."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    loggers = [logging.getLogger(name) for name in ("lightning_fabric", "pytorch_lightning")]
    levels = [logger.level for logger in loggers]
    try:
        with warnings.catch_warnings(action="ignore"):
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
