"""Probe what each block of a backbone tells of a window: its local change and its slow trend. Trains no model.

Logo-LLM claims that shallow blocks of a language model carry local dynamics, and deep blocks global trends. Probes test
the claim for every block, on contexts alone (never on targets):

- Each token (a patch of a normalised window and channel) has a *local* change: the differences between its steps; and a
  *trend*: the mean over the half context that ends with the patch. Tokens whose half context begins before the window
  count in `slow_power` only.
- `local_r2`, `trend_r2`: R^2 of a linear probe from the state to each (ridge regression fitted on training windows, its
  strength chosen on their last fifth; scored on validation windows without rows in common). The blocks' input is a
  linear map of the patch: its R^2 is the share that the patch alone tells, and attention adds the rest.
- `local_share`, `trend_share`: the other direction, the share of the state's variance that only one of them explains:
  R^2 of the state from both, minus R^2 from the other alone, on validation windows. Fifteen differences explain more
  than one mean: compare blocks, not the two shares.
- `slow_power`: the share of the state's variance along the patch axis in periods of the whole context and longer
  (Fourier frequencies 0 and 1), scaled so that white noise has 0 and a purely slow state 1.

States are first centred per patch position and scaled per feature: the mean of a position is no property of a window,
and a few large features of language models would hide the others. Every state is read before the final norm, so that
blocks are alike; the normed state of the last block, which a model's head reads, is measured besides.

A profile from local to trend does not prove knowledge in the weights: local change is complete at the input, and trend
can only come from attention. The control is the backbone with random weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Literal

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from bench.core.record import Layer
from bench.train.evaluate import autocast
from bench.train.windows import Windows
from models.layers import normalize_window, split_patches

TOKENS = 6144
"""Limit of probed tokens of a split; the series (a channel in a window) that they come from are drawn from all."""
PIECE = 64
"""Series that are read at once; few, so that what a block computes stays in the caches."""
STRENGTHS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Strengths of the ridge, as shares of the features' mean variance."""

Rows = Float[Tensor, "s n k"]


def probe(
    model: Any, train: Windows, val: Windows, precision: str, stage: Literal["untrained", "trained"]
) -> tuple[Layer, ...]:
    """Return one measurement per block, the blocks' input first. Raises ValueError for a model without `read`."""
    if not hasattr(model, "read"):
        raise ValueError(f"{type(model).__name__} has no states per block to probe")
    norm = getattr(getattr(model, "blocks", None), "norm", None)
    # 1. Read states and targets. Validation windows that look back into training rows are skipped if others remain.
    local, trend, states = _read(model, norm, train, 0, precision)
    first = val.context if len(val) > val.context else 0
    held_local, held_trend, held_states = _read(model, norm, val, first, precision)
    # 2. Scale the targets of the tokens whose half context lies in the window.
    whole = patch_ends(train.context, model.patch, model.stride) >= train.context // 2 - 1
    local, held_local = _scaled(local[:, whole], held_local[:, whole])
    trend, held_trend = _scaled(trend[:, whole], held_trend[:, whole])
    both, held_both = torch.cat([local, trend], dim=-1), torch.cat([held_local, held_trend], dim=-1)
    # 3. Probe each block in both directions.
    layers = []
    for place, (raw, held_raw) in enumerate(zip(states, held_states, strict=True)):
        normed = norm is not None and place == len(states) - 1
        state, held = _scaled(raw[:, whole], held_raw[:, whole])
        local_r2, trend_r2 = held_out_r2(state, (local, trend), held, (held_local, held_trend))
        (of_both,) = held_out_r2(both, (state,), held_both, (held,))
        (of_local,) = held_out_r2(local, (state,), held_local, (held,))
        (of_trend,) = held_out_r2(trend, (state,), held_trend, (held,))
        shares = {"local_share": of_both - of_trend, "trend_share": of_both - of_local}
        slow = slow_power(_scaled(raw, held_raw)[1])
        read = {"local_r2": local_r2, "trend_r2": trend_r2, "slow_power": slow, **shares}
        layers.append(Layer(block=place - normed, normed=normed, stage=stage, **read))
    return tuple(layers)


@torch.inference_mode()
def _read(
    model: Any, norm: nn.Module | None, windows: Windows, first: int, precision: str
) -> tuple[Rows, Rows, list[Rows]]:
    """Return local change and trend of each token, and all states, in series drawn from window `first` on.

    The states are the blocks' input, the output of each block before the final norm, and, with a norm, its output.
    """
    device, channels = windows.series.device, windows.series.shape[1]
    series = (len(windows) - first) * channels
    limit = max(1, TOKENS // len(patch_ends(windows.context, model.patch, model.stride)))
    drawn = torch.randperm(series, generator=torch.Generator().manual_seed(0))[:limit].sort().values.to(device)
    model.eval()
    local, trend, states = [], [], []
    last: list[Tensor] = []  # what the norm reads
    for part in drawn.split(PIECE):
        x = windows.contexts(first + part // channels)[torch.arange(len(part), device=device), :, part % channels]
        x, _ = normalize_window(x[..., None])
        patches = split_patches(x, model.patch, model.stride)
        local.append(patches.diff(dim=-1))
        trend.append(trailing_mean(x, model.patch, model.stride))
        with ExitStack() as hooks, autocast(device, precision):
            if norm:
                hooks.enter_context(norm.register_forward_pre_hook(lambda _, args: last.append(args[0])))
            *inner, outermost = model.read(x)[1]
        states.append([state.float() for state in (*inner, *last, outermost)])
        last.clear()
    return torch.cat(local), torch.cat(trend), [torch.cat(block) for block in zip(*states, strict=True)]


def patch_ends(context: int, patch: int, stride: int) -> Int[Tensor, "n"]:
    """Return the last step of each patch (the last patch repeats the context's last step)."""
    steps = torch.arange(context, dtype=torch.float32)[None, :, None]
    return split_patches(steps, patch, stride)[0, :, -1].long()


def trailing_mean(x: Float[Tensor, "b l c"], patch: int, stride: int) -> Rows:
    """Return each patch's mean over the half context that ends with it (the first value continues to the left)."""
    width = x.shape[1] // 2
    before = x[:, :1].expand(-1, width - 1, -1)
    means = torch.cat([before, x], dim=1).unfold(1, width, 1).mean(-1)
    return rearrange(means[:, patch_ends(x.shape[1], patch, stride)], "b n c -> (b c) n 1")


def _scaled(ours: Rows, held_out: Rows) -> tuple[Rows, Rows]:
    """Scale both by `ours`: minus its mean per position, over its deviation per feature; in float64."""
    mean = ours.double().mean(dim=0, keepdim=True)
    spread = (ours.double() - mean).square().mean(dim=(0, 1), keepdim=True).sqrt()
    spread = torch.where(spread > 1e-12, spread, 1.0)
    return (ours.double() - mean) / spread, (held_out.double() - mean) / spread


def held_out_r2(
    features: Rows, targets: Sequence[Rows], held_features: Rows, held_targets: Sequence[Rows]
) -> list[float]:
    """Return the R^2, on the held-out rows, of a ridge regression from the features to each target.

    Of STRENGTHS, the one that is best on the last fifth of the series is used, in a fit on all series.
    """
    # 1. Moments of the first four fifths, then of the last; all targets side by side.
    cut = max(1, len(features) * 4 // 5)
    early, late, held = (rows.flatten(0, 1) for rows in (features[:cut], features[cut:], held_features))
    joined = torch.cat(list(targets), dim=-1)
    early_target, late_target = joined[:cut].flatten(0, 1), joined[cut:].flatten(0, 1)
    gram, product = early.T @ early, early.T @ early_target
    late_gram, late_product = late.T @ late, late.T @ late_target
    trial = _ridge(gram, product, len(early), STRENGTHS)
    # 2. Choose a strength for each target, fit it on all series, and score it.
    scores, first = [], 0
    for target, held_target in zip(targets, held_targets, strict=True):
        own = slice(first, first := first + target.shape[-1])
        weights, chosen = trial[:, :, own], STRENGTHS[len(STRENGTHS) // 2]
        if len(late):  # the squared errors, but for the targets' own squares, which all strengths share
            errors = (weights * (late_gram @ weights - 2 * late_product[:, own])).sum(dim=(1, 2))
            chosen = STRENGTHS[int(errors.argmin())]
        (final,) = _ridge(gram + late_gram, (product + late_product)[:, own], len(early) + len(late), (chosen,))
        scores.append(float(_r2(held @ final, held_target.flatten(0, 1))))
    return scores


def _ridge(
    gram: Float[Tensor, "k k"], product: Float[Tensor, "k m"], rows: int, strengths: Sequence[float]
) -> Float[Tensor, "strengths k m"]:
    """Return the weights of a ridge regression at each strength, from x'x and x'y over this many rows."""
    scale = (gram.diagonal().mean() / rows).clamp(min=1e-12)
    ridges = torch.tensor(strengths).to(gram)[:, None, None] * scale * torch.eye(len(gram)).to(gram)
    return torch.cholesky_solve(product / rows, torch.linalg.cholesky(gram / rows + ridges))


def _r2(forecast: Float[Tensor, "rows m"], truth: Float[Tensor, "rows m"]) -> Float[Tensor, ""]:
    """Return the R^2 over all columns together, against the columns' means in `truth`; 0 if nothing varies."""
    variance = truth.var(dim=0, unbiased=False).sum()
    errors = (forecast - truth).square().mean(dim=0).sum()
    return 1 - errors / variance if variance > 0 else torch.zeros_like(errors)


def slow_power(state: Rows) -> float:
    """Return the share of variance along the patch axis in frequencies 0 and 1: 0 for white noise, 1 for all."""
    patches = state.shape[1]
    if patches < 4:  # fewer patches have no other frequencies
        return 0.0
    power = torch.fft.rfft(state, dim=1).abs().square().mean(dim=(0, 2))
    power[1 : (patches + 1) // 2] *= 2  # a real signal has these frequencies twice
    by_chance = 3 / patches
    share = power[:2].sum() / power.sum() if power.sum() > 0 else by_chance
    return float((share - by_chance) / (1 - by_chance))
