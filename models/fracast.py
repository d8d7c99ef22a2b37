"""Fracast-0 (github.com/ztxtech/fracast-0): 85 thousand parameters, which its package ships. Nothing trains."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from fracast import FracastModel
from fracast._core.periodic.official_encoding import _phase_encoding, _recency_encoding
from fracast._core.periodic.seasonal_fill import detect_periods
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.forecaster_files import FRACAST
from models.llm_files import verified
from models.options import NoOptions, Shape
from models.pretrained import Pretrained

KEPT = 256
"""Most beginnings of a window (`Beginning`) that are kept, of about 1 MB each."""


class Beginning(NamedTuple):
    """What the encoder makes of the steps before the context, which it reads as not observed."""

    inputs: list[Float[Tensor, "n d"]]
    """Of each block: the states that the context's states reach back to."""
    outputs: Float[Tensor, "n d"]


class Fracast(Pretrained):
    """Forecast 48 steps; beyond, append their medians to the context and forecast again, as its package does.

    The parts are the package's, in float32 weights; it reads 2,048 steps, the observed ones last, and at least 8. What
    comes before a short context depends on the periods that are found in it alone, and the encoder never looks ahead:
    these states are computed once for all series of the same periods, which takes a tenth of the time.
    """

    core: Any
    head: Any
    pieces = 64

    def __init__(self, shape: Shape, options: NoOptions) -> None:
        verified(FRACAST)
        theirs = FracastModel.from_pretrained(weights="fp32")
        super().__init__(shape, nn.ModuleList([theirs.core, theirs.head]))
        self.core, self.head = self.network
        self.window, self.median = theirs.context_length, theirs.quantiles.index(0.5)
        self.beginning = lru_cache(KEPT)(self._read_beginning)

    def forecast(self, series: Float[Tensor, "s l"]) -> Float[Tensor, "s h"]:
        known = series
        while known.shape[1] < series.shape[1] + self.horizon:
            known = torch.cat([known, self._block(known[:, -self.window :])], dim=1)
        return known[:, series.shape[1] :][:, : self.horizon]

    def _block(self, series: Float[Tensor, "s l"]) -> Float[Tensor, "s h"]:
        """Return the medians of the next 48 steps."""
        # 1. Scale each series to [0, 1], at the end of the window.
        low, high = series.double().aminmax(dim=1, keepdim=True)
        span = (high - low).clamp(min=1e-5)
        values = series.new_zeros(len(series), self.window)
        values[:, -series.shape[1] :] = ((series - low) / span).float()
        observed = torch.arange(self.window, device=series.device) >= self.window - series.shape[1]
        observed = observed.expand_as(values)
        # 2. Encode it; a context of more than half the window leaves little to share.
        if 2 * series.shape[1] > self.window:
            states = self.core(values[:, None], observed[:, None], observed[:, None].float())
        else:
            periods = detect_periods(values, observed, **self.head.period_kw)
            states = self._encode(values[:, -series.shape[1] :], periods)
        # 3. Decode.
        quantiles = self.head.forward_horizon(states, last_obs=values[:, -1:], ctx=values, ctx_mask=observed)
        return (quantiles[..., self.median] * span + low).float()

    def _encode(self, values: Float[Tensor, "s l"], periods: Int[Tensor, "s k"]) -> Float[Tensor, "s n d"]:
        """Return the states of the whole window, from the values at its end."""
        length = values.shape[1]
        before = [self.beginning(self.window - length, tuple(row), values.device) for row in periods.tolist()]
        x = self._embed(values, torch.ones_like(values), periods, self.window - length)
        for number, dilation in enumerate(self.core.dilations()):
            inputs = torch.stack([each.inputs[number] for each in before])
            reach = inputs.shape[1] // 2
            x = self.core.block(torch.cat([inputs, self.core.scale(x, dilation)], dim=1), reach)[:, 2 * reach :]
        return torch.cat([torch.stack([each.outputs for each in before]), self.core.norm(x)], dim=1)

    def _read_beginning(self, length: int, periods: tuple[int, ...], device: torch.device) -> Beginning:
        """Encode so many steps that are not observed."""
        context = self.window - length
        blank = torch.zeros(1, length, device=device)
        x = self._embed(blank, blank, torch.tensor([periods], device=device), 0)
        inputs = []
        for dilation in self.core.dilations():
            x, reach = self.core.scale(x, dilation), min(dilation, context)
            # A state reads those `dilation` and 2 `dilation` steps before it; kept is what the context's states read.
            inputs.append(torch.cat([x[0, -steps:][:reach] for steps in (2 * dilation, dilation)]))
            x = self.core.block(x, dilation)
        return Beginning(inputs, self.core.norm(x)[0])

    def _embed(self, values: Tensor, observed: Tensor, periods: Tensor, first: int) -> Tensor:
        """Return the input of the first block for values that begin at the step `first` of the window."""
        at = torch.arange(first, first + values.shape[1], device=values.device).expand_as(values)
        seen = torch.stack([values, observed], dim=-1)
        recency = _recency_encoding(at, self.window)
        x: Tensor = self.core.in_proj(torch.cat([seen, recency], dim=-1))
        return x + self.core.periodic.proj(_phase_encoding(at, periods))
