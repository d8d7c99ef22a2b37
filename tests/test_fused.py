"""Models under a compiler: one graph for all layers of a kind, and the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from bench.core.spec import TrainConfig
from bench.plan import registry
from bench.train.device import seed_everything
from bench.train.step import WORTH_COMPILING, Stepper, is_compiled
from bench.train.windows import Windows
from models import kernels as fast
from models.baselines import DLinear
from models.kernels import fused, is_fused
from models.layers import Attention
from models.llm_blocks import NORMS_AND_POSITIONS, Blocks
from models.patchtst import PatchTST
from tests.builders import SHAPE, SMALL, TRAINED, waves

NORMS = {"trained": NORMS_AND_POSITIONS}
LORA = {"lora": (4, 8, 0.0)}
GRAPHS = {
    "logo_llm": 3,  # tokens, blocks, forecast
    "gpt4ts": 3,
    "time_llm_lite": 3,
    "calf_lite": 6,  # tokens, text tokens, blocks with and without LoRA, outcome of a branch, comparison
    "patchtst": 4,  # tokens, first layer, other layers, forecast
    "itransformer": 3,
}
"""Model -> graphs that its training step is compiled to."""


@pytest.fixture
def compile_with(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Have torch.compile use this backend and these settings. Ours decides what is compiled, not by what."""
    compile_ = torch.compile
    yield lambda **settings: monkeypatch.setattr(torch, "compile", partial(compile_, **settings))
    torch.compiler.reset()


def made(name: str, set_free: dict[str, Any], seed: int = 1, count: int = 3) -> Blocks:
    torch.manual_seed(seed)
    blocks = Blocks(name, count, **set_free)
    for part in blocks.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return blocks.train()


def states_and_gradients(blocks: Blocks, tokens: Tensor, prefix: Tensor | None) -> list[Tensor]:
    blocks.zero_grad()
    states = blocks(tokens, prefix)
    along = torch.randn(states[-1].shape, generator=torch.Generator().manual_seed(1))
    (states[-1] * along).sum().backward()
    gradients = [each.grad for each in blocks.parameters() if each.grad is not None]
    assert gradients
    return [*(state.detach() for state in states), *gradients]


@pytest.mark.parametrize(
    ("name", "set_free", "prompted"),
    [
        ("gpt2-random", NORMS, False),
        ("smollm2-135m-random", NORMS, False),
        ("smollm2-135m-random", LORA, False),
        ("gpt2-random", NORMS, True),
        ("smollm2-135m-random", NORMS, True),
    ],
)
def test_blocks_are_one_graph_that_serves_all_of_them_and_the_next_model(
    name: str, set_free: dict[str, Any], prompted: bool, compile_with: Callable[..., None]
) -> None:
    compile_with(backend="eager", fullgraph=True)
    counters.clear()
    for seed in (1, 2):
        blocks = made(name, set_free, seed)
        tokens = torch.randn(5, 12, blocks.width, requires_grad=True)  # as an input layer's are
        prefix = blocks.read_prefix(torch.randn(7, blocks.width)) if prompted else None
        expected = states_and_gradients(blocks, tokens, prefix)
        with fused():
            assert is_fused()
            compiled = states_and_gradients(blocks, tokens, prefix)
        assert not is_fused()
        assert len(compiled) == len(expected)
        for ours, theirs in zip(compiled, expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5 * theirs.abs().max().item(), rtol=0)
    rotary = name.startswith("smollm2")
    assert counters["stats"]["unique_graphs"] == 1 + rotary, "blocks, and their rotary positions"
    assert not counters["graph_break"]


def test_a_process_compiles_more_shapes_than_torch_would(compile_with: Callable[..., None]) -> None:
    compile_with(backend="eager", fullgraph=True)
    blocks = made("smollm2-135m-random", NORMS, count=1)
    counters.clear()
    with fused():
        for series in range(2, 12):
            blocks(torch.randn(series, 3, blocks.width))
    assert counters["stats"]["unique_graphs"] == 20, "of the blocks and of their rotary positions"


def test_where_the_compiler_fails_blocks_run_as_they_are(
    compile_with: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says so, and it is not tried again."""
    monkeypatch.setattr(fast, "_gave_up", False)
    asked = []

    def fails(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        asked.append(graph)
        raise RuntimeError("no C compiler")

    compile_with(backend=fails)
    blocks = made("gpt2-random", NORMS)
    tokens = torch.randn(2, 12, blocks.width)
    expected = states_and_gradients(blocks, tokens, None)
    with fused(), pytest.warns(UserWarning, match="torch cannot compile here.*no C compiler") as said:
        for _ in range(2):
            got = states_and_gradients(blocks, tokens, None)
    assert len(asked) == len(said) == 1
    assert "\n" not in str(said[0].message)
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5 * theirs.abs().max().item(), rtol=0)


def stepper(model: str, seed: int = 3, dropout: float = 0.0) -> Stepper:
    """What trains a small model without a CUDA graph, its masks of dropout of this share."""
    seed_everything(seed)
    built: nn.Module = registry.load(model)(SHAPE, SMALL[model])
    for part in built.modules():
        if isinstance(part, nn.Dropout):
            part.p = dropout
        if isinstance(part, Attention):
            part.dropout = dropout
    values = torch.tensor(waves(300, SHAPE.channels), dtype=torch.float32)
    calendar = torch.rand(300, 4, generator=torch.Generator().manual_seed(0))
    windows = Windows(values, 0, 200, SHAPE.context, SHAPE.horizon, calendar)
    return Stepper(built.train(), windows, TrainConfig(epochs=1, batch=16, lr=1e-3, schedule="constant", clip=1.0))


def trained(step: Stepper) -> tuple[list[float], dict[str, Tensor]]:
    """The losses of three steps, and the first step's gradients: Adam moves a weight even by a gradient of rounding."""
    losses = [step(torch.arange(16), 1e-3).item()]
    gradients = {name: each.grad.clone() for name, each in step.model.named_parameters() if each.grad is not None}
    return losses + [step(torch.arange(start, start + 16), 1e-3).item() for start in (16, 32)], gradients


def assert_trains_alike(model: str) -> None:
    expected, gradients = trained(stepper(model))
    with fused():
        losses, compiled = trained(stepper(model))
    assert losses == pytest.approx(expected, rel=1e-4)
    assert compiled.keys() == gradients.keys()
    largest = max(gradient.abs().max().item() for gradient in gradients.values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(compiled[name], gradient, atol=1e-5 * largest, rtol=1e-3, msg=name)


@pytest.mark.parametrize("model", GRAPHS)
def test_a_step_of_a_whole_model_is_a_few_graphs_that_serve_the_next_model(
    model: str, compile_with: Callable[..., None], slim_backbones: None
) -> None:
    compile_with(backend="aot_eager", fullgraph=True)
    counters.clear()
    assert_trains_alike(model)
    assert counters["stats"]["unique_graphs"] == GRAPHS[model]
    with fused():
        trained(stepper(model, seed=4))
    assert counters["stats"]["unique_graphs"] == GRAPHS[model]
    assert not counters["graph_break"]


def test_batch_norm_keeps_its_running_statistics_under_a_compiler(compile_with: Callable[..., None]) -> None:
    compile_with(backend="aot_eager", fullgraph=True)
    eager, compiled = stepper("patchtst"), stepper("patchtst")
    before = {name: buffer.clone() for name, buffer in eager.model.named_buffers()}
    for start in (0, 16, 32):
        eager(torch.arange(start, start + 16), 0.0)
        with fused():
            compiled(torch.arange(start, start + 16), 0.0)
    got = dict(compiled.model.named_buffers())
    assert len(before) == 3 * 2 * SMALL["patchtst"].layers
    for name, expected in eager.model.named_buffers():
        assert not torch.equal(expected, before[name])
        torch.testing.assert_close(got[name], expected, atol=1e-6, rtol=1e-4)


@pytest.mark.nightly
@pytest.mark.parametrize("model", GRAPHS)
def test_code_that_torch_generates_trains_alike_and_draws_new_masks(model: str, slim_backbones: None) -> None:
    """As `test_gpu` on a GPU, in C++ here: half a minute for a model."""
    assert_trains_alike(model)
    step = stepper(model, dropout=0.5)
    with fused():
        losses = [step(torch.arange(16), 0.0).item() for _ in range(4)]
    assert len(set(losses)) == 4, "the same windows and weights, other masks"
    torch.compiler.reset()


@pytest.mark.parametrize("model", TRAINED)
def test_models_of_ours_are_compiled_in_all_but_the_shortest_runs(model: str) -> None:
    built = registry.load(model)(SHAPE, SMALL[model])
    assert is_compiled(built, WORTH_COMPILING) == (model in GRAPHS)
    assert not is_compiled(built, WORTH_COMPILING - 1)


def test_a_users_model_is_never_compiled_whatever_it_is_made_of() -> None:
    class Mine(PatchTST):
        pass

    class Copied(nn.Module):
        fusible = True

    class Around(nn.Module):
        capturable = True

        def __init__(self) -> None:
            super().__init__()
            self.model = PatchTST(SHAPE, SMALL["patchtst"])

    assert not is_compiled(Mine(SHAPE, SMALL["patchtst"]), WORTH_COMPILING)
    assert not is_compiled(Copied(), WORTH_COMPILING)
    assert not is_compiled(Around(), WORTH_COMPILING)
    assert not is_compiled(DLinear(SHAPE, SMALL["dlinear"]), WORTH_COMPILING), "it has nothing between its products"
