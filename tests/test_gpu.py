"""What only a GPU can show. Skipped without one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from bench.data import calendar, split_windows, standardized
from bench.execute import build, run_one
from bench.randomness import seed_everything
from bench.series import load_series
from bench.spec import DatasetCard
from bench.step import Stepper
from bench.suite import cards
from models import MODELS
from tests.conftest import make_spec, waves

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU is visible"),
]


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("model", MODELS)
def test_a_run_on_a_gpu_agrees_with_the_same_run_on_a_cpu(
    model: str, precision: str, make_card: Callable[..., DatasetCard]
) -> None:
    spec = make_spec(make_card(waves(400, 3)), model, precision=precision)
    on_cpu, on_gpu = (run_one(spec, torch.device(name)) for name in ("cpu", "cuda"))
    assert on_gpu.status == "done", on_gpu.error
    # Dropout draws other numbers there; everything else is the same mathematics.
    assert on_gpu.evaluations[0].mse == pytest.approx(on_cpu.evaluations[0].mse, rel=0.1)
    assert on_gpu.evaluations[0].windows == on_cpu.evaluations[0].windows
    assert on_gpu.where.device == torch.cuda.get_device_name()


@pytest.mark.parametrize("model", [name for name in MODELS if name not in ("repeat_last", "seasonal_naive")])
def test_steps_replayed_as_a_graph_equal_steps_taken_one_by_one(
    model: str, make_card: Callable[..., DatasetCard]
) -> None:
    spec = make_spec(make_card(waves(400, 3)), model)
    series = load_series(cards()[spec.task.dataset])
    train = split_windows(
        series.card,
        standardized(series, torch.device("cuda")),
        spec.task.context,
        spec.task.horizon,
        calendar=calendar(series, torch.device("cuda")),
    )["train"]
    batches = torch.randperm(len(train)).to("cuda").split(16)  # the last is small
    losses = []
    for graphs in (False, True):
        seed_everything(1)
        built = build(spec, series).to("cuda").train()
        step = Stepper(built, train, spec.train.model_copy(update={"batch": 16}), graphs=graphs)
        losses.append([step(index, 1e-3).item() for index in batches])
        assert (step.graph is not None) == graphs
        assert not graphs or (step.graph.graph is not None and not step.graph.refused)
    # The masks of dropout may differ, and sums run in another order.
    assert losses[1][:3] == pytest.approx(losses[0][:3], rel=1e-3)
    assert losses[1] == pytest.approx(losses[0], rel=0.2)
