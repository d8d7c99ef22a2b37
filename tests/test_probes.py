"""Probes of blocks: known answers on states made for it, and runs that nothing changes but what is measured."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.core.card import DatasetCard
from bench.core.record import Layer, RunResult
from bench.core.spec import RunSpec
from bench.train import execute
from bench.train.execute import run_one
from bench.train.probes import STRENGTHS, _scaled, held_out_r2, probe, slow_power, trailing_mean
from bench.train.windows import Windows
from models.layers import split_patches
from tests.builders import SHAPE, make_spec, waves

MakeCard = Callable[..., DatasetCard]
State = Callable[[Tensor], Tensor]


class Holds(nn.Module):
    """States made to order from the normalised windows that a model is read with."""

    patch, stride = 8, 4

    def __init__(self, *states: State) -> None:
        super().__init__()
        self.states = states

    def read(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return x, tuple(state(x) for state in self.states)


def local(x: Tensor) -> Tensor:
    return split_patches(x, 8, 4).diff(dim=-1)


def trend(x: Tensor) -> Tensor:
    return trailing_mean(x, 8, 4)


def both(x: Tensor) -> Tensor:
    return torch.cat([local(x), trend(x)], dim=-1)


def noise(x: Tensor) -> Tensor:
    return torch.randn(x.shape[0] * x.shape[2], 8, 16, generator=torch.Generator().manual_seed(len(x)))


def parts(seed: int = 0) -> tuple[Windows, Windows]:
    """Training and validation windows of three channels: slow waves under noise."""
    time = np.arange(1200)[:, None]
    values = np.sin(2 * np.pi * time / np.array([91, 130, 173])) + np.random.default_rng(seed).normal(size=(1200, 3))
    series = torch.tensor(values, dtype=torch.float32)
    return Windows(series, 0, 800, 32, 8), Windows(series, 840, 300, 32, 8)


def measure(*states: State) -> tuple[Layer, ...]:
    return probe(Holds(*states), *parts(), "float32", "untrained")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_state_is_found_to_hold_what_it_was_made_of() -> None:
    rotation, spread = random(7, 16).float(), random(1, 16, seed=1).float()
    of_local, of_trend, of_both, of_noise = measure(
        lambda x: local(x) @ rotation, lambda x: trend(x) @ spread, both, noise
    )
    assert [layer.block for layer in (of_local, of_trend, of_both, of_noise)] == [0, 1, 2, 3]
    assert of_local.local_r2 > 0.99 and of_trend.trend_r2 > 0.99
    assert of_local.trend_r2 < 0.1 and of_trend.local_r2 < 0.1
    assert of_local.local_share > 0.9 and of_trend.trend_share > 0.9
    assert abs(of_local.trend_share) < 0.01 and abs(of_trend.local_share) < 0.01
    assert of_both.local_r2 > 0.99 and of_both.trend_r2 > 0.99
    assert of_both.local_share == pytest.approx(7 / 8, abs=0.02)  # seven features of eight
    assert of_both.trend_share == pytest.approx(1 / 8, abs=0.02)
    assert all(abs(getattr(of_noise, name)) < 0.02 for name in ("local_r2", "trend_r2", "local_share", "trend_share"))
    assert of_trend.slow_power > 0.3 > 0.1 > of_local.slow_power
    assert abs(of_noise.slow_power) < 0.02


def test_the_scale_of_a_feature_and_what_a_position_adds_to_every_window_tell_nothing() -> None:
    scales, positions = 10 ** random(8).float(), 50 * random(8, 8, seed=1).float()
    plain, changed = measure(both, lambda x: both(x) * scales + positions)
    for name in ("local_r2", "trend_r2", "local_share", "trend_share", "slow_power"):
        assert getattr(changed, name) == pytest.approx(getattr(plain, name), abs=1e-3)


def test_features_that_are_constant_do_no_harm() -> None:
    def padded(x: Tensor) -> Tensor:
        return torch.cat([both(x), torch.full((len(both(x)), 8, 3), 0.1)], dim=-1)

    plain, changed = measure(both, padded)
    for name in ("local_r2", "trend_r2", "slow_power"):
        assert getattr(changed, name) == pytest.approx(getattr(plain, name), abs=1e-3)


def test_a_state_that_never_changes_holds_nothing() -> None:
    (dead,) = measure(lambda x: torch.ones(len(local(x)), 8, 4))
    assert (dead.local_r2, dead.trend_r2, dead.local_share, dead.trend_share) == pytest.approx((0, 0, 0, 0), abs=1e-3)


def test_probing_reads_no_target_and_no_validation_window_that_shares_a_row_with_training() -> None:
    (train, val), clean = parts(), measure(both)
    for part in (train, val):
        part.series[part.first + len(part) - 1 + part.context :][: part.horizon] = float("nan")
    val.series[val.first : val.first + val.context] = float("nan")  # look-back of the first ones: rows before the part
    assert probe(Holds(both), train, val, "float32", "untrained") == clean


def test_tokens_whose_half_look_back_begins_before_the_window_are_left_out() -> None:
    def spoilt(tokens: int) -> State:
        return lambda x: torch.cat([noise(x)[:, :tokens, :1], trend(x)[:, tokens:]], dim=1)

    left_out, used = measure(spoilt(2), spoilt(3))  # patches end with steps 7, 11, 15, ...; half a look-back is 16
    assert left_out.trend_r2 > 0.99 > 0.95 > used.trend_r2


def test_a_probe_equals_ridge_regression_in_closed_form_with_its_strength_chosen_on_the_last_fifth() -> None:
    chosen = set()
    for seed, share in ((0, 0.01), (1, 1.0), (2, 3.0), (3, 30.0)):
        x, held_x, weights = random(40, 3, 30, seed=seed), random(20, 3, 30, seed=seed + 10), random(30, 2, seed=seed)
        for features in (x, held_x):  # pairs that are nearly the same: strength matters
            features[..., 15:] = features[..., :15] + 0.01 * features[..., 15:]
        y = x @ weights + share * random(40, 3, 2, seed=seed + 20)
        held_y = held_x @ weights + share * random(20, 3, 2, seed=seed + 30)
        rows = [each.numpy().reshape(-1, each.shape[-1]) for each in (x, y, held_x, held_y)]
        cut = 32 * 3
        scores = [_closed_form(rows[0][:cut], rows[1][:cut], rows[0][cut:], rows[1][cut:], s) for s in STRENGTHS]
        best = STRENGTHS[int(np.argmax(scores))]
        chosen.add(best)
        found = held_out_r2(x, (y, y[..., :1]), held_x, (held_y, held_y[..., :1]))
        assert found[0] == pytest.approx(_closed_form(*rows, best), abs=1e-8)
        assert found[1:] == held_out_r2(x, (y[..., :1],), held_x, (held_y[..., :1],))
    assert len(chosen) > 2, "the choice must matter here"


def _closed_form(x: np.ndarray, y: np.ndarray, held_x: np.ndarray, held_y: np.ndarray, strength: float) -> float:
    """W = (X'X/n + s tr(X'X/n)/k I)^-1 X'y/n, and 1 - |held y - held X W|^2 / |held y - its mean|^2."""
    gram = x.T @ x / len(x)
    weights = np.linalg.solve(gram + strength * np.trace(gram) / len(gram) * np.eye(len(gram)), x.T @ y / len(x))
    return float(1 - np.square(held_y - held_x @ weights).sum() / np.square(held_y - held_y.mean(0)).sum())


def test_a_probe_is_scored_on_rows_it_has_not_seen() -> None:
    """Noise of as many features as rows is learnt by heart, and worth nothing on the held-out rows."""
    x, y = random(60, 2, 100), random(60, 2, 1, seed=1)
    (seen,) = held_out_r2(x, (y,), x, (y,))
    (unseen,) = held_out_r2(x, (y,), random(60, 2, 100, seed=2), (random(60, 2, 1, seed=3),))
    assert seen > 0.3 > 0.05 > unseen


def test_both_parts_are_scaled_by_the_training_part_alone() -> None:
    ours, held = 5 + 3 * random(30, 4, 2), 7 + random(20, 4, 2, seed=1)
    ours[..., 1] = 2.5
    mean = ours.numpy().mean(0)
    spread = [np.sqrt(np.square(ours.numpy() - mean)[..., 0].mean()), 1.0]
    for found, raw in zip(_scaled(ours, held), (ours, held), strict=True):
        assert np.allclose(found.numpy(), (raw.numpy() - mean) / spread, atol=1e-12)


@pytest.mark.parametrize(("context", "patch", "stride"), [(32, 8, 4), (33, 8, 4), (36, 24, 2), (10, 3, 3)])
def test_the_trend_of_a_patch_is_the_mean_over_the_half_look_back_that_ends_with_it(
    context: int, patch: int, stride: int
) -> None:
    x = random(2, context, 3)
    found = trailing_mean(x, patch, stride)
    count = (context - patch) // stride + 2
    assert found.shape == (6, count, 1)
    for window in range(2):
        for channel in range(3):
            values = x[window, :, channel].tolist()
            for i in range(count):
                end = min(i * stride + patch, context) - 1  # the padding repeats the last value
                half = [values[max(0, step)] for step in range(end - context // 2 + 1, end + 1)]
                assert found[window * 3 + channel, i, 0].item() == pytest.approx(sum(half) / len(half))


@pytest.mark.parametrize("patches", [4, 5, 8, 9, 12])
def test_slow_power_is_the_share_of_the_two_lowest_frequencies_in_a_plain_fourier_sum(patches: int) -> None:
    """Three of the N terms of the sum are frequencies 0, 1 and -1: white noise has 3/N of its power there."""
    state, steps = random(5, patches, 3), np.arange(patches)
    power = [
        sum(abs(np.exp(-2j * np.pi * f * steps / patches) @ each) ** 2 for each in state.numpy()).sum() for f in steps
    ]
    share = (power[0] + power[1] + power[-1]) / sum(power)
    assert slow_power(state) == pytest.approx((share - 3 / patches) / (1 - 3 / patches))


def test_slow_power_is_one_of_periods_of_the_look_back_and_none_of_noise() -> None:
    for patches in (4, 11, 12):
        angle = 2 * torch.pi * torch.arange(patches, dtype=torch.float64)[None, :, None] / patches
        nothing_there = -(3 / patches) / (1 - 3 / patches)
        assert slow_power(torch.cos(angle + 0.3)) == pytest.approx(1)
        assert slow_power(1 + torch.zeros(1, patches, 1)) == pytest.approx(1)
        assert slow_power(torch.cos(2 * angle + 0.3)) == pytest.approx(nothing_there)
        assert slow_power(torch.cos(patches // 2 * angle + 0.3)) == pytest.approx(nothing_there)
        assert slow_power(random(4000, patches, 1)) == pytest.approx(0, abs=0.03)
    assert slow_power(random(5, 3, 2)) == 0  # three patches have no other frequencies


@pytest.fixture
def probed(slim_backbones: None, make_card: MakeCard, cpu: torch.device) -> Callable[..., RunResult]:
    """A small run on a slim random backbone, probed if asked for; and on other test rows."""

    def run(
        model: str = "logo_llm",
        ask: bool | str = "training",
        test: float = 1.0,
        precision: str = "float32",
        **options: object,
    ) -> RunResult:
        values = waves(260, SHAPE.channels)
        values[-52:] *= test
        spec: RunSpec = make_spec(make_card(values), model, epochs=1, precision=precision)
        task = spec.task.model_copy(update={"probe": ask})
        return run_one(spec.model_copy(update={"task": task, "options": spec.options | options}), cpu)

    return run


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_run_with_probes_is_the_same_run_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch, probed: Callable[..., RunResult], precision: str
) -> None:
    models: list[nn.Module] = []
    build = execute.build
    monkeypatch.setattr(execute, "build", lambda spec, series: models.append(build(spec, series)) or models[-1])
    without, with_probes = (probed(ask=ask, precision=precision) for ask in (False, "training"))
    assert without.status == with_probes.status == "done"
    assert without.layers == ()
    assert with_probes.evaluations == without.evaluations
    assert with_probes.best_epoch == without.best_epoch
    curves = [[epoch.model_dump(exclude={"seconds"}) for epoch in run.curve] for run in (without, with_probes)]
    assert curves[0] == curves[1]
    weights = [model.state_dict() for model in models]
    assert all(torch.equal(tensor, weights[1][key]) for key, tensor in weights[0].items())


@pytest.mark.parametrize(
    ("options", "blocks", "normed"),
    [
        ({}, 2, True),
        ({"mixers": "local"}, 1, False),
        ({"reader": "attention"}, 2, False),
        ({"blocks": 3}, 2, False),
    ],
)
def test_every_block_that_is_built_is_measured_before_and_after_training(
    probed: Callable[..., RunResult], options: dict, blocks: int, normed: bool
) -> None:
    layers = probed(**options).layers
    states = [*((block, False) for block in range(blocks + 1)), *[(blocks, True)] * normed]
    expected = [(stage, *state) for stage in ("untrained", "trained") for state in states]
    assert [(layer.stage, layer.block, layer.normed) for layer in layers] == expected
    assert all(
        before.trend_r2 != after.trend_r2  # the local one is within rounding of 1 here
        for before, after in zip(layers[: len(states)], layers[len(states) :], strict=True)
    )


def test_states_before_the_final_norm_are_those_of_blocks_without_one(probed: Callable[..., RunResult]) -> None:
    """With three blocks planned and two built there is no final norm; the weights are drawn alike."""
    *blocks, normed = probed(ask="states").layers
    assert normed.normed and normed.local_r2 != blocks[-1].local_r2
    for ours, bare in zip(blocks, probed(ask="states", blocks=3).layers, strict=True):
        assert ours.model_dump() == pytest.approx(bare.model_dump(), abs=1e-6)


def test_probing_states_alone_trains_and_tests_nothing_and_measures_what_a_run_does_before_training(
    probed: Callable[..., RunResult],
) -> None:
    alone, whole = probed(ask="states"), probed()
    assert alone.status == "done" and alone.cost is not None
    assert (alone.evaluations, alone.curve, alone.cost.steps, alone.cost.infer_ms) == ((), (), 0, None)
    assert alone.layers == whole.layers[: len(alone.layers)]


def test_changing_the_test_rows_changes_no_measurement(probed: Callable[..., RunResult]) -> None:
    run, other = probed(), probed(test=1000.0)
    assert run.evaluations != other.evaluations
    assert run.layers == other.layers


@pytest.mark.parametrize("model", ["time_llm_lite", "calf_lite", "patchtst", "dlinear", "repeat_last"])
def test_a_model_without_states_per_block_cannot_be_probed_and_its_record_says_so(
    probed: Callable[..., RunResult], model: str
) -> None:
    result = probed(model)
    assert result.status == "failed" and not result.evaluations and not result.layers
    assert result.error is not None and "has no states per block to probe" in result.error
