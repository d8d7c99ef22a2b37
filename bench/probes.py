"""What each block of a backbone holds of a window: its local change, its slow trend. A measurement, not a training.

Logo-LLM rests on a claim: shallow blocks of a language model carry local dynamics, deep blocks global trends. It is
measured on the states of the model as it is, for every block, on look-backs alone (no target is read):

- Two things are said of each token, that is of each patch of a normalised window and channel. *Local*: the changes from
  step to step inside the patch. *Trend*: the mean over the half look-back that ends with the patch.
- `local_r2`, `trend_r2`: how well a linear probe reads them off the state (ridge regression fitted on training windows,
  its strength chosen on the last fifth of them; R^2 on validation windows, which the probe has not seen).
- `local_share`, `trend_share`: the other way round, the share of the state's variance that only the one explains: R^2
  of the state given both, less R^2 given the other alone, on validation windows, averaged over the state's features.
- `slow_power`: the share of the state's variance along the patch axis in periods of the whole look-back and longer
  (discrete Fourier transform over the patches, frequencies 0 and 1).

Everything is centred per patch position and scaled per feature first: what a position adds to every window alike tells
nothing of the window, and a few features of language models are large enough to drown all others.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from bench.data import Windows
from bench.metrics import autocast
from bench.spec import Layer
from models.layers import normalize_window, split_patches

SERIES = 2048
"""At most so many series (windows times channels) of a part are probed, evenly spaced over it."""
STRENGTHS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Of the ridge, as shares of the features' mean variance."""

Rows = Float[Tensor, "s n k"]


class Sample(NamedTuple):
    """Series of one part: local change and trend of every token, and the states of every block."""

    local: Rows
    trend: Rows
    states: list[Rows]


def probe(
    model: nn.Module, train: Windows, val: Windows, precision: str, stage: Literal["untrained", "trained"]
) -> tuple[Layer, ...]:
    """One measurement per block, the blocks' input first. Raises ValueError for a model without `read`."""
    if not hasattr(model, "read"):
        raise ValueError(f"{type(model).__name__} has no states per block to probe; only logo_llm has")
    ours, held_out = (_sample(model, part, precision) for part in (train, val))
    layers = []
    local, held_local = _scaled(ours.local, held_out.local)
    trend, held_trend = _scaled(ours.trend, held_out.trend)
    both, held_both = torch.cat([local, trend], dim=-1), torch.cat([held_local, held_trend], dim=-1)
    for block, (raw, held_raw) in enumerate(zip(ours.states, held_out.states, strict=True)):
        state, held = _scaled(raw, held_raw)
        explained = {
            name: held_out_r2(features, state, held_features, held)
            for name, features, held_features in (
                ("both", both, held_both),
                ("local", local, held_local),
                ("trend", trend, held_trend),
            )
        }
        layers.append(
            Layer(
                block=block,
                stage=stage,
                local_r2=held_out_r2(state, local, held, held_local),
                trend_r2=held_out_r2(state, trend, held, held_trend),
                local_share=explained["both"] - explained["trend"],
                trend_share=explained["both"] - explained["local"],
                slow_power=slow_power(held),
            )
        )
    return tuple(layers)


@torch.inference_mode()
def _sample(model: Any, windows: Windows, precision: str) -> Sample:
    device, channels = windows.series.device, windows.series.shape[1]
    count = min(len(windows), max(1, SERIES // channels))
    index = torch.linspace(0, len(windows) - 1, count, device=device).round().long()
    model.eval()
    local, trend, states = [], [], []
    for part in index.split(max(1, SERIES // 8 // channels)):
        x, _ = normalize_window(windows.gather(part)[0])
        patches = split_patches(x, model.patch, model.stride)
        local.append(patches.diff(dim=-1))
        trend.append(trailing_mean(x, model.patch, model.stride))
        with autocast(device, precision):
            states.append([state.float() for state in model.read(x)[1]])
    return Sample(torch.cat(local), torch.cat(trend), [torch.cat(block) for block in zip(*states, strict=True)])


def trailing_mean(x: Float[Tensor, "b l c"], patch: int, stride: int) -> Rows:
    """Of each patch: the mean over the half look-back that ends with it; before the window its first value stands."""
    width = x.shape[1] // 2
    before = x[:, :1].expand(-1, width - 1, -1)
    means = torch.cat([before, x], dim=1).unfold(1, width, 1).mean(-1)
    ends = split_patches(torch.arange(x.shape[1], device=x.device, dtype=x.dtype)[None, :, None], patch, stride)
    return rearrange(means[:, ends[0, :, -1].long()], "b n c -> (b c) n 1")


def _scaled(ours: Rows, held_out: Rows) -> tuple[Rows, Rows]:
    """Both less our mean at each position, over our deviation of each feature; in float64."""
    mean = ours.double().mean(dim=0, keepdim=True)
    spread = (ours.double() - mean).square().mean(dim=(0, 1), keepdim=True).sqrt()
    spread = torch.where(spread > 1e-12, spread, 1.0)
    return (ours.double() - mean) / spread, (held_out.double() - mean) / spread


def held_out_r2(features: Rows, targets: Rows, held_features: Rows, held_targets: Rows) -> float:
    """R^2 on the held-out rows of a ridge regression from features to targets, averaged over the targets' columns.

    Its strength is the one of STRENGTHS that does best on the last fifth of the rows it is then fitted on.
    """
    cut = max(1, len(features) * 4 // 5)
    x, y, held_x, held_y = (
        rearrange(rows, "s n k -> (s n) k") for rows in (features, targets, held_features, held_targets)
    )
    split = cut * features.shape[1]
    if split < len(x):
        scores = [_r2(x[split:] @ weights, y[split:]) for weights in _ridge(x[:split], y[:split])]
        best = max(range(len(STRENGTHS)), key=lambda i: scores[i])
    else:
        best = len(STRENGTHS) // 2
    return _r2(held_x @ _ridge(x, y)[best], held_y)


def _ridge(x: Float[Tensor, "rows k"], y: Float[Tensor, "rows m"]) -> list[Float[Tensor, "k m"]]:
    """The weights at each of STRENGTHS, from one decomposition."""
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    projected = vectors.T @ (x.T @ y / len(x))
    values, scale = values.clamp(min=0), values.mean()
    return [vectors @ (projected / (values + strength * scale)[:, None]) for strength in STRENGTHS]


def _r2(forecast: Float[Tensor, "rows m"], truth: Float[Tensor, "rows m"]) -> float:
    """Mean over the columns that vary; against the held-out rows' own mean."""
    error = (forecast - truth).square().mean(dim=0)
    variance = truth.var(dim=0, unbiased=False)
    varies = variance > 1e-12
    return float((1 - error[varies] / variance[varies]).mean()) if varies.any() else 0.0


def slow_power(state: Rows) -> float:
    """Share of the variance along the patch axis that lies in frequencies 0 and 1 (whole look-back and longer)."""
    patches = state.shape[1]
    power = torch.fft.rfft(state, dim=1).abs().square().mean(dim=(0, 2))
    power[1 : (patches + 1) // 2] *= 2  # the frequencies that a real signal has twice
    return float(power[:2].sum() / power.sum())
