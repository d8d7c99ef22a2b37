"""A language model's blocks under a compiler: one graph for all of them, and the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from functorch.compile import nop
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.utils import counters

from bench.plan import registry
from bench.train.step import is_compiled
from models import kernels as fast
from models.kernels import fused, is_fused
from models.llm_blocks import NORMS_AND_POSITIONS, Blocks
from models.patchtst import PatchTST
from tests.builders import SHAPE, SMALL, TRAINED

NORMS = {"trained": NORMS_AND_POSITIONS}
LORA = {"lora": (4, 8, 0.0)}


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
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


def test_a_process_compiles_more_shapes_than_torch_would(compile_with: Callable[..., None]) -> None:
    compile_with(backend="eager", fullgraph=True)
    blocks = made("smollm2-135m-random", NORMS, count=1)
    counters.clear()
    with fused():
        for series in range(2, 12):
            blocks(torch.randn(series, 3, blocks.width))
    assert counters["stats"]["unique_graphs"] == 10


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_where_the_compiler_fails_blocks_run_as_they_are(
    direction: str, compile_with: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says so, and it is not tried again."""
    monkeypatch.setattr(fast, "_gave_up", False)
    asked = []

    def fails(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        asked.append(graph)
        raise RuntimeError("no C compiler")

    passes = {"fw_compiler": nop, "bw_compiler": nop, f"{direction[0]}w_compiler": fails}
    compile_with(backend=aot_autograd(**passes))
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


@pytest.mark.parametrize("model", TRAINED)
def test_language_models_are_compiled_in_all_but_the_shortest_runs_small_models_in_long_ones(
    model: str, slim_backbones: None
) -> None:
    built = registry.load(model)(SHAPE, SMALL[model])
    fewest = 60 if "backbone" in vars(SMALL[model]) else None if model == "dlinear" else 10_000
    assert [is_compiled(built, steps) for steps in (59, 60, 9_999, 10_000)] == [
        fewest is not None and steps >= fewest for steps in (59, 60, 9_999, 10_000)
    ]


def test_a_users_model_is_never_compiled_whatever_it_is_made_of() -> None:
    class Mine(PatchTST):
        pass

    class Around(nn.Module):
        capturable, worth_compiling = True, 1

        def __init__(self) -> None:
            super().__init__()
            self.blocks = Blocks("gpt2-random", 1)

    assert not is_compiled(Mine(SHAPE, SMALL["patchtst"]), 10**6)
    assert not is_compiled(Around(), 10**6)
