"""What only a GPU can show. Skipped without one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from bench.core.card import DatasetCard, cards
from bench.core.spec import RunSpec
from bench.data.series import load_series
from bench.perf.measure import measure, perf_specs
from bench.plan.suite import Filters
from bench.train import execute, step
from bench.train.device import generator, pick_device, seed_everything
from bench.train.evaluate import SERIES_PER_BATCH, evaluate, scorer
from bench.train.execute import build, run_one
from bench.train.graph import Graph
from bench.train.step import Stepper
from bench.train.windows import Windows, calendar, split_windows, standardized
from models import layers
from models.itransformer import ITransformer
from models.llm_blocks import Blocks
from models.patchtst import PatchTST
from tests.builders import BUILT, TRAINED, make_spec, waves

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU is visible"),
]

STEPS = Blocks.worth_compiling
"""Steps from which a language model's blocks are compiled."""


def without_dropout(model: nn.Module) -> nn.Module:
    """The model, none of whose masks are drawn: a CPU, a GPU and a compiler draw each its own."""
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        if isinstance(part, layers.Attention):
            part.dropout = 0.0
    return model


@pytest.mark.parametrize("precision, apart", [("float32", 5e-3), ("bf16", 2e-2)])
@pytest.mark.parametrize("model", BUILT)
def test_a_run_on_a_gpu_agrees_with_the_same_run_on_a_cpu(
    model: str,
    precision: str,
    apart: float,
    make_card: Callable[..., DatasetCard],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(execute, "build", lambda *of: without_dropout(build(*of)))
    spec = make_spec(make_card(waves(400, 3)), model, precision=precision)
    on_cpu, on_gpu = (run_one(spec, torch.device(name)) for name in ("cpu", "cuda"))
    assert on_gpu.status == "done", on_gpu.error
    assert on_gpu.evaluations[0].mse == pytest.approx(on_cpu.evaluations[0].mse, rel=apart)
    assert on_gpu.evaluations[0].windows == on_cpu.evaluations[0].windows
    assert on_gpu.where.device == torch.cuda.get_device_name()


def train_part(spec: RunSpec, device: torch.device) -> Windows:
    series = load_series(cards()[spec.task.dataset])
    tensor, features = standardized(series, device), calendar(series, device)
    return split_windows(series.card, tensor, spec.task.context, spec.task.horizon, calendar=features)["train"]


def steps_of(
    spec: RunSpec, graphs: bool, device: str = "cuda", wrap: Callable[[nn.Module], nn.Module] = lambda model: model
) -> tuple[list[float], Stepper]:
    """The losses of an epoch in batches of 16, of which the last is small, and what took the steps."""
    on = torch.device(device)
    train = train_part(spec, on)
    seed_everything(1)
    model = wrap(build(spec, load_series(cards()[spec.task.dataset]))).to(on).train()
    take_step = Stepper(model, train, spec.train.model_copy(update={"batch": 16}), graphs=graphs)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(2)).to(on)
    return [take_step(index, 1e-3).item() for index in order.split(16)], take_step


@pytest.mark.parametrize("model", TRAINED)
def test_steps_replayed_as_a_graph_equal_steps_taken_one_by_one(
    model: str, make_card: Callable[..., DatasetCard]
) -> None:
    spec = make_spec(make_card(waves(400, 3)), model)
    one_by_one, eager = steps_of(spec, graphs=False)
    replayed, graphed = steps_of(spec, graphs=True)
    assert eager.graph is None
    assert graphed.graph is not None and graphed.graph.graph is not None and not graphed.graph.refused
    # The masks of dropout may differ, and sums run in another order.
    assert replayed[:3] == pytest.approx(one_by_one[:3], rel=1e-3)
    assert replayed == pytest.approx(one_by_one, rel=0.2)


@pytest.mark.parametrize("precision, apart", [("float32", 1e-3), ("bf16", 2e-2)])
@pytest.mark.parametrize("model", ["logo_llm", "time_llm_lite", "calf_lite", "patchtst", "itransformer"])
def test_compiled_layers_train_as_they_do_when_they_are_not(
    model: str, precision: str, apart: float, make_card: Callable[..., DatasetCard], monkeypatch: pytest.MonkeyPatch
) -> None:
    for small in (PatchTST, ITransformer):
        monkeypatch.setattr(small, "worth_compiling", STEPS)
    spec = make_spec(make_card(waves(400, 3)), model, epochs=STEPS, precision=precision)
    one_by_one, _ = steps_of(spec, graphs=False, wrap=without_dropout)
    counters.clear()
    compiled, graphed = steps_of(spec, graphs=True, wrap=without_dropout)
    assert counters["stats"]["unique_graphs"] > 0
    assert not counters["graph_break"]
    assert graphed.graph is not None and graphed.graph.graph is not None and not graphed.graph.refused
    assert compiled == pytest.approx(one_by_one, rel=apart)


def test_compiled_layers_draw_other_masks_at_every_replay(make_card: Callable[..., DatasetCard]) -> None:
    def dropout_in_blocks_only(model: nn.Module) -> nn.Module:
        blocks = set(model.get_submodule("blocks.model.h").modules())
        for part in model.modules():
            if isinstance(part, nn.Dropout) and part not in blocks:
                part.p = 0.0
        return model

    spec = make_spec(make_card(waves(400, 3)), "logo_llm", epochs=STEPS)
    _, take_step = steps_of(spec, graphs=True, wrap=dropout_in_blocks_only)
    index = torch.arange(16, device="cuda")
    losses = [take_step(index, 0.0).item() for _ in range(8)]
    assert len(set(losses)) == 8, "the same windows and weights, other masks"


def test_a_users_subclass_is_replayed_but_never_compiled(
    make_card: Callable[..., DatasetCard], monkeypatch: pytest.MonkeyPatch
) -> None:
    def owned(model: nn.Module) -> nn.Module:
        model.__class__ = type("Mine", (type(model),), {})
        return model

    monkeypatch.setattr(PatchTST, "worth_compiling", STEPS)
    spec = make_spec(make_card(waves(400, 3)), "patchtst", epochs=STEPS)
    counters.clear()
    _, taken = steps_of(spec, graphs=True, wrap=owned)
    assert taken.graph is not None and taken.graph.graph is not None
    assert not counters["stats"]["unique_graphs"]


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("model", TRAINED)
def test_replayed_evaluation_has_the_same_numbers(
    model: str, precision: str, make_card: Callable[..., DatasetCard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SERIES_PER_BATCH, "cuda", 16 * 3)
    device, apart = torch.device("cuda"), {"float32": 1e-5, "bf16": 1e-2}[precision]
    spec = make_spec(make_card(waves(400, 3)), model)
    windows = train_part(spec, device)
    seed_everything(1)
    built = build(spec, load_series(cards()[spec.task.dataset])).to(device)
    shown: dict[bool, list[list[torch.Tensor]]] = {False: [], True: []}

    def errors(replayed: bool) -> float:
        see = [lambda *batch: shown[replayed].append([each.clone() for each in batch])]
        built.capturable = replayed
        return evaluate(built, windows, precision, see, score=score if replayed else None).mse

    score, state = scorer(built, windows, precision), generator(device).get_state()
    assert errors(replayed=True) == pytest.approx(errors(replayed=False), rel=1e-5)
    assert isinstance(score, Graph) and score.graph is not None and not score.refused
    for one, other in zip(shown[True], shown[False], strict=True):
        torch.testing.assert_close(one, other, rtol=apart, atol=apart)
    assert torch.equal(generator(device).get_state(), state), "it draws nothing"
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.mul_(0.9)
    assert errors(replayed=True) == pytest.approx(errors(replayed=False), rel=1e-5), "it reads the next epoch's weights"


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs a second GPU")
def test_graphs_are_made_on_the_gpu_that_trains(make_card: Callable[..., DatasetCard]) -> None:
    spec = make_spec(make_card(waves(400, 3)), "itransformer")
    try:
        second = pick_device("cuda:1")
        assert torch.cuda.current_device() == 1
        one_by_one, _ = steps_of(spec, graphs=False, device=str(second))
        replayed, _ = steps_of(spec, graphs=True, device=str(second))
    finally:
        torch.cuda.set_device(0)
    assert replayed == pytest.approx(one_by_one, rel=0.2)
    assert steps_of(spec, graphs=True, device="cuda:1")[0] == pytest.approx(replayed, rel=0.2)  # from another GPU too


class ReadsBack(nn.Module):
    """A model that no graph can hold, although it says so: the host asks for a value at each step."""

    capturable = True

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.dropout = model, nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dropped = self.dropout(x)
        return self.model(dropped) * (1 if dropped.mean().item() < 1e6 else 0)


def test_a_step_that_no_graph_can_hold_is_taken_as_it_is(make_card: Callable[..., DatasetCard]) -> None:
    spec = make_spec(make_card(waves(400, 3)), "dlinear")
    one_by_one, _ = steps_of(spec, graphs=False, wrap=ReadsBack)
    with pytest.warns(UserWarning, match="could not become a CUDA graph"):
        refused, taken = steps_of(spec, graphs=True, wrap=ReadsBack)
    assert taken.graph is not None and taken.graph.refused
    assert refused == pytest.approx(one_by_one, rel=1e-4), "the random numbers are those of a run without graphs"


def test_pieces_that_are_computed_again_are_never_captured(
    make_card: Callable[..., DatasetCard], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(make_card(waves(400, 3)), "patchtst")
    for limits in (step.SERIES_PER_MICRO_BATCH, layers.SERIES_PER_PIECE):
        monkeypatch.setitem(limits, "cuda", 8)
    losses, taken = steps_of(spec, graphs=True)
    assert taken.graph is None
    assert losses[-1] < losses[0]


def test_perf_times_steps_with_and_without_a_graph() -> None:
    specs = perf_specs("efficiency", Filters(models=("logo_llm", "itransformer"), horizons=(96,)), 32)
    for row in measure(specs, "cuda", threads=1, with_plain=True, rounds=1, seconds=0.2):
        assert row["one_by_one_ms"] and row["0 workers step_s"], "both are measured"
        assert 0 < row["ceiling_share"] < 1
