"""The loop and the metrics: equal mathematics to the plain way, selection on validation, no view of the test part."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from bench.core.base import BenchError
from bench.core.card import DatasetCard
from bench.core.schedule import StepPlan
from bench.core.spec import TrainConfig
from bench.data.series import load_series
from bench.train.evaluate import SERIES_PER_BATCH, evaluate
from bench.train.execute import run_one
from bench.train.loop import TrainingDiverged, fit
from bench.train.step import LOSSES
from bench.train.windows import Windows, split_windows, standardized
from tests.builders import SHAPE, SMALL, make_spec, waves

pytestmark = pytest.mark.usefixtures("slim_backbones")

MakeCard = Callable[..., DatasetCard]


class Net(nn.Module):
    """One linear layer over time, and dropout so that training mode shows."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.linear = nn.Linear(32, 8)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.dropout(x).transpose(1, 2)).transpose(1, 2)


def windows(rows: int = 200, part: str = "train") -> Windows:
    values = torch.tensor(waves(rows, 3), dtype=torch.float32)
    return Windows(values, 0, rows - 39, 32, 8) if part == "train" else Windows(values, 20, rows - 59, 32, 8)


@pytest.mark.parametrize("per_batch", [3, 7, 512])
def test_errors_equal_a_naive_loop_over_every_window_step_and_channel(
    monkeypatch: pytest.MonkeyPatch, per_batch: int
) -> None:
    monkeypatch.setitem(SERIES_PER_BATCH, "cpu", per_batch)
    torch.manual_seed(0)
    model, part = Net(dropout=0.5), windows(90)
    errors = evaluate(model, part, "float32")
    weight, bias = (parameter.detach().double().numpy() for parameter in model.linear.parameters())
    values = part.series.double().numpy()
    squared, absolute, count = 0.0, 0.0, 0
    for start in range(90 - 39):
        forecast = weight @ values[start : start + 32] + bias[:, None]
        for step in range(8):
            for channel in range(3):
                error = forecast[step, channel] - values[start + 32 + step, channel]
                squared, absolute, count = squared + error**2, absolute + abs(error), count + 1
    assert errors.windows == 51
    assert errors.mse == pytest.approx(squared / count, rel=1e-5)
    assert errors.mae == pytest.approx(absolute / count, rel=1e-5)


def _plan(schedule: str, windows: int = 100, **more: object) -> StepPlan:
    config = TrainConfig.model_validate({"epochs": 6, "batch": 10, "lr": 0.1, "schedule": schedule, **more})
    return StepPlan(config, windows)


@pytest.mark.parametrize(
    ("schedule", "build"),
    [
        ("cosine", lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)),
        ("constant", lambda optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)),
    ],
)
def test_epoch_schedules_equal_torchs(schedule: str, build: Callable) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler, plan = build(optimizer), _plan(schedule)
    for epoch in range(6):
        assert plan.lr(epoch * 10) == pytest.approx(optimizer.param_groups[0]["lr"])
        assert plan.lr(epoch * 10 + 9) == plan.lr(epoch * 10)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize(
    ("schedule", "official"),
    [
        ("halve", {1: 0.1, 2: 0.05, 3: 0.025, 4: 0.0125, 5: 0.00625}),
        ("decay", {1: 0.1, 2: 0.1, 3: 0.1, 4: 0.09, 5: 0.081}),
    ],
)
def test_decaying_schedules_equal_the_official_loops_which_set_the_rate_after_an_epoch(
    schedule: str, official: dict[int, float]
) -> None:
    """Their adjust_learning_rate(optimizer, n) is first called, with n = 1, when the first epoch has ended."""
    rates = [0.1, *official.values()]
    assert [_plan(schedule).lr(epoch * 10 + 9) for epoch in range(6)] == pytest.approx(rates)


@pytest.mark.parametrize(("rise", "max_steps"), [(0.3, None), (0.4, None), (0.2, 37)])
def test_onecycle_equals_torchs_at_every_step(rise: float, max_steps: int | None) -> None:
    plan = _plan("onecycle", rise=rise, max_steps=max_steps)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=plan.total, pct_start=rise)
    for step in range(plan.total):
        assert plan.lr(step) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        if step + 1 < plan.total:
            scheduler.step()


@pytest.mark.parametrize("loss", LOSSES)
def test_training_equals_a_plain_loop_with_the_same_order(loss: str) -> None:
    train, val = windows(), windows(part="val")
    config = TrainConfig.model_validate({"epochs": 3, "batch": 16, "lr": 1e-2, "schedule": "halve", "loss": loss})
    torch.manual_seed(0)
    ours, plain = Net(), Net()
    plain.load_state_dict(ours.state_dict())
    fitted = fit(ours, train, val, config, 5)

    order = torch.Generator().manual_seed(5)
    optimizer = torch.optim.Adam(plain.parameters(), lr=1e-2)
    criterion = {"mse": nn.MSELoss(), "l1": nn.L1Loss(), "smooth_l1": nn.SmoothL1Loss()}[loss]
    for epoch in range(3):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * [1, 1, 0.5][epoch]
        for index in torch.randperm(len(train), generator=order).split(16):
            x = torch.stack([train.series[i : i + 32] for i in index])
            y = torch.stack([train.series[i + 32 : i + 40] for i in index])
            optimizer.zero_grad()
            criterion(plain(x), y).backward()
            optimizer.step()
    assert fitted.best_epoch == 3
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)


def test_the_weights_of_the_best_validation_epoch_are_kept_and_patience_ends_training() -> None:
    train = windows()
    val = Windows(-train.series.flip(0), 0, 60, 32, 8)  # what helps on train hurts here
    config = TrainConfig(epochs=30, batch=16, lr=0.05, patience=2)
    torch.manual_seed(3)
    model = Net()
    fitted = fit(model, train, val, config, 1)
    scores = [epoch.val_loss for epoch in fitted.curve]
    assert fitted.best_epoch == 1 + int(np.argmin(scores)) < len(scores) < 30
    assert len(scores) == fitted.best_epoch + 2
    assert evaluate(model, val, "float32").mse == pytest.approx(min(scores))


def test_validation_follows_the_loss() -> None:
    for loss, metric in (("mse", "mse"), ("l1", "mae"), ("smooth_l1", "mae")):
        torch.manual_seed(0)
        model = Net()
        config = TrainConfig.model_validate({"epochs": 1, "batch": 16, "lr": 1e-3, "loss": loss})
        fitted = fit(model, windows(), windows(part="val"), config, 1)
        assert fitted.curve[0].val_loss == getattr(evaluate(model, windows(part="val"), "float32"), metric)


def test_batch_clip_max_steps_and_epochs_do_what_they_say() -> None:
    def steps(**train: object) -> int:
        config = TrainConfig.model_validate({"epochs": 2, "batch": 16, "lr": 1e-3, **train})
        return fit(Net(), windows(), windows(part="val"), config, 1).steps

    assert steps() == 2 * math.ceil(161 / 16)
    assert steps(batch=161) == 2
    assert steps(epochs=1) == 11
    assert steps(max_steps=13) == 13

    def moved(clip: float | None) -> float:
        torch.manual_seed(0)
        model, optimizer = Net(), torch.optim.SGD
        before = model.linear.weight.detach().clone()
        with pytest.MonkeyPatch.context() as patch:  # Adam hides the length of a gradient
            patch.setattr(torch.optim, "Adam", lambda parameters, lr, **_: optimizer(parameters, lr=lr))
            config = TrainConfig(epochs=1, batch=161, lr=1.0, clip=clip)
            fit(model, windows(), windows(part="val"), config, 1)
        return float((model.linear.weight.detach() - before).norm())

    assert moved(1e-3) <= 1.001e-3 < moved(None)


def test_bf16_changes_the_arithmetic_a_little_and_stores_what_is_frozen_in_it() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[0].requires_grad_(False)

    class Wrapped(Net):
        def __init__(self) -> None:
            super().__init__()
            self.frozen = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + self.frozen(x[:, -8:, :].transpose(1, 2)).transpose(1, 2)

    torch.manual_seed(0)
    wrapped = Wrapped()
    exact = evaluate(wrapped, windows(), "float32").mse
    config = TrainConfig(epochs=1, batch=16, lr=1e-9, precision="bf16")
    fit(wrapped, windows(), windows(part="val"), config, 1)
    assert model[0].weight.dtype == torch.bfloat16
    assert model[0].bias.dtype == model[1].weight.dtype == torch.float32
    rounded = evaluate(wrapped, windows(), "bf16").mse
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=2e-2)


@pytest.mark.parametrize(("count", "kept", "joined"), [(65, 5, 4), (64, 4, 4), (66, 5, 5), (1, 1, 1), (17, 2, 1)])
def test_a_last_batch_of_one_window_can_join_the_batch_before(count: int, kept: int, joined: int) -> None:
    config = TrainConfig(epochs=2, batch=16, lr=1e-3)
    for joins, batches in ((False, kept), (True, joined)):
        plan = StepPlan(config, count, joins)
        assert plan.per_epoch == batches
        assert sum(plan.batch_sizes) == plan.windows(plan.per_epoch) == count
        assert 1 not in plan.batch_sizes or not joins or count == 1


def test_no_batch_of_one_window_reaches_a_model_of_the_users_own() -> None:
    class Counting(Net):
        def __init__(self, norm: nn.Module) -> None:
            super().__init__()
            self.norm = norm
            self.sizes: list[int] = []

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.training:
                self.sizes.append(len(x))
            return super().forward(self.norm(x.flatten(1)).view_as(x))

    config = TrainConfig(epochs=2, batch=32, lr=1e-3)
    assert len(windows()) % 32 == 1
    for norm in (nn.BatchNorm1d(96), nn.Identity()):
        model = Counting(norm)
        done = fit(model, windows(), windows(part="val"), config, 1, joins_single=True)
        assert model.sizes == 2 * [32, 32, 32, 32, 33]
        assert (done.steps, done.windows) == (10, 2 * len(windows()))
    model = Counting(nn.Identity())
    fit(model, windows(), windows(part="val"), config, 1)
    assert model.sizes == 2 * [32, 32, 32, 32, 32, 1]


def test_a_loss_that_is_no_number_stops_training() -> None:
    class Broken(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * float("nan")

    with pytest.raises(TrainingDiverged, match="training loss is nan in epoch 1"):
        fit(Broken(), windows(), windows(part="val"), TrainConfig(epochs=2, batch=16, lr=1e-3), 1)


def test_a_forecast_of_another_shape_is_refused_instead_of_broadcast() -> None:
    class Short(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x)[:, :1]

    with pytest.raises(BenchError, match=r"its forecast has shape \(16, 1, 3\)"):
        fit(Short(), windows(), windows(part="val"), TrainConfig(epochs=1, batch=16, lr=1e-3), 1)


@pytest.mark.parametrize("model", ["dlinear", "patchtst", "logo_llm"])
def test_changing_the_test_rows_never_changes_trained_weights(
    model: str, make_card: MakeCard, cpu: torch.device
) -> None:
    values = waves(260, SHAPE.channels)
    other = values.copy()
    other[-52:] = 1000 * np.random.default_rng(9).normal(size=(52, SHAPE.channels))
    trained = []
    for rows in (values, other):
        card = make_card(rows)
        parts = split_windows(card, standardized(load_series(card), cpu), SHAPE.context, SHAPE.horizon)
        torch.manual_seed(7)
        from bench.plan import registry

        network = registry.load(model)(SHAPE, SMALL[model])
        fit(network, parts["train"], parts["val"], TrainConfig(epochs=1, batch=32, lr=1e-3), 7)
        trained.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
    assert all(torch.equal(tensor, trained[1][name]) for name, tensor in trained[0].items())


def test_a_run_gives_the_same_numbers_whatever_ran_before_it(make_card: MakeCard, cpu: torch.device) -> None:
    card = make_card(waves(260, SHAPE.channels))
    specs = [make_spec(card, model, seed) for model in ("patchtst", "itransformer") for seed in (1, 2)]
    first = [run_one(spec, cpu) for spec in specs]
    torch.randn(17)
    again = [run_one(spec, cpu) for spec in reversed(specs)][::-1]
    assert all(result.status == "done" for result in first)
    assert [result.evaluations for result in first] == [result.evaluations for result in again]
    assert len({result.evaluations[0].mse for result in first}) == 4


def test_a_record_holds_what_was_trained_and_with_what(make_card: MakeCard, cpu: torch.device) -> None:
    card = make_card(waves(260, SHAPE.channels))
    result = run_one(make_spec(card, "dlinear"), cpu)
    assert result.evaluations[0].windows == 52 - 8 + 1
    assert result.where.data_sha256 == {card.name: card.sha256[0]}
    assert result.where.versions["torch"] == torch.__version__
    assert result.cost is not None
    assert result.cost.params == result.cost.trainable == 2 * (32 * 8 + 8)
    assert result.cost.steps == 2 * math.ceil((156 - 39) / 16)
    assert result.cost.flops == 2 * 2 * 3 * 32 * 8


def test_zero_shot_tests_one_training_on_every_target(make_card: MakeCard, cpu: torch.device) -> None:
    source, target = make_card(waves(260, 3)), make_card(5 + 3 * waves(300, 3, seed=4), name="Other")
    spec = make_spec(source)
    task = spec.task.model_copy(
        update={"test_on": (target.name,), "cards": {source.name: source.digest, target.name: target.digest}}
    )
    result = run_one(spec.model_copy(update={"task": task}), cpu)
    assert [(each.dataset, each.windows) for each in result.evaluations] == [("Waves", 45), ("Other", 53)]
    assert result.evaluations[0] == run_one(spec, cpu).evaluations[0]


def test_the_floors_equal_what_their_names_say(make_card: MakeCard, cpu: torch.device) -> None:
    card = make_card(waves(260, 3))
    scaled = standardized(load_series(card), cpu).double().numpy()
    for model, source in (
        ("repeat_last", lambda t, s: scaled[t - 1]),
        ("seasonal_naive", lambda t, s: scaled[t - 8 + s]),
    ):
        errors = [scaled[t + s] - source(t, s) for t in range(208, 253) for s in range(8)]
        result = run_one(make_spec(card, model), cpu)
        assert result.evaluations[0].mse == pytest.approx(float(np.square(errors).mean()), rel=1e-5)
        by_channel = np.stack([np.square(errors).mean(0), np.abs(errors).mean(0)], axis=1)  # of window and step
        assert np.array(result.evaluations[0].channels) == pytest.approx(by_channel, rel=1e-5)


@pytest.mark.parametrize("model", ["logo_llm", "itransformer", "patchtst", "dlinear"])
def test_data_as_wide_as_traffic_trains_and_is_scored_whole(model: str, make_card: MakeCard, cpu: torch.device) -> None:
    card = make_card(waves(100, 862), split=(82, 9, 9))
    result = run_one(make_spec(card, model, batch=1, max_steps=1), cpu)
    assert result.status == "done", result.error
    assert result.evaluations[0].windows == 9 - 8 + 1
