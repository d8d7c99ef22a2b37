"""Products with frozen weights: the bits of torch's own, forward and backward, wherever they are used."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers.pytorch_utils import Conv1D

from bench.train.loop import store_frozen
from models import llm_blocks
from models.frozen import FrozenLinear, multiplies_bf16
from models.llm_blocks import NORMS_AND_POSITIONS, Blocks, _replace_slow_parts

IN_BF16 = {"device_type": "cpu", "dtype": torch.bfloat16}

fits = pytest.mark.skipif(not multiplies_bf16(), reason="this CPU does not multiply bf16 numbers")


def layers() -> list[nn.Module]:
    torch.manual_seed(0)
    made = [nn.Linear(96, 160), nn.Linear(160, 64, bias=False), Conv1D(192, 96), Conv1D(96, 384)]
    nn.init.normal_(made[2].bias)
    for layer in made:
        layer.requires_grad_(False)
    return made


def outcome(layer: nn.Module, x: Tensor) -> list[Tensor]:
    """The output of a layer in bf16 and the gradient of its input, where both layers of a pair see the same."""
    x = x.clone().requires_grad_()
    with torch.autocast(**IN_BF16):
        out = layer(x)
    out.backward(torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype))
    return [out, x.grad]


@fits
@pytest.mark.parametrize("rows", [(1,), (7,), (3, 12), (224, 13)], ids=str)
@pytest.mark.parametrize("number", range(4))
def test_a_product_has_the_bits_of_torchs_own_in_both_directions(number: int, rows: tuple[int, ...]) -> None:
    torch.set_num_threads(1)
    model = nn.Sequential(layers()[number])
    store_frozen(model, "bf16")
    inputs = model[0].weight.shape[0 if isinstance(model[0], Conv1D) else 1]
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(*rows, inputs).to(dtype)
        theirs = outcome(model[0], x)
        ours = nn.Sequential(model[0])
        _replace_slow_parts(ours)
        assert isinstance(ours[0], FrozenLinear)
        for one, other in zip(outcome(ours[0], x), theirs, strict=True):
            assert one.dtype == other.dtype and torch.equal(one, other)


@fits
@pytest.mark.parametrize("number", range(4))
def test_in_float32_it_is_torchs_own_product(number: int) -> None:
    model = nn.Sequential(layers()[number])
    x = torch.randn(5, 9, model[0].weight.shape[0 if isinstance(model[0], Conv1D) else 1])
    theirs = model(x)
    _replace_slow_parts(model)
    assert isinstance(model[0], FrozenLinear) and torch.equal(model(x), theirs)


@fits
def test_a_weight_that_changed_is_laid_out_anew_and_a_copy_has_its_own() -> None:
    model = nn.Sequential(layers()[0])
    store_frozen(model, "bf16")
    _replace_slow_parts(model)
    x = torch.randn(4, 96)
    with torch.autocast(**IN_BF16):
        before = model(x)
        other = copy.deepcopy(model)
        with torch.no_grad():
            model[0].weight.mul_(2)
        doubled = model(x)
        assert torch.equal(other(x), before)
    bias = model[0].bias.to(torch.bfloat16)
    torch.testing.assert_close(doubled - bias, 2 * (before - bias), rtol=0.02, atol=0.02)


def test_layers_that_train_stay_as_they_are() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    _replace_slow_parts(model)
    assert type(model[0]) is nn.Linear


@fits
@pytest.mark.parametrize("name", ["gpt2-random", "smollm2-135m-random"])
@pytest.mark.parametrize("how", [{"trained": NORMS_AND_POSITIONS}, {"lora": (4, 8, 0.1)}], ids=["norms", "lora"])
def test_blocks_train_to_the_bits_that_they_have_without(name: str, how: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(freezes: bool) -> list[Tensor]:
        with monkeypatch.context() as patch:
            if not freezes:
                patch.setattr(llm_blocks, "multiplies_bf16", lambda: False)
            torch.manual_seed(1)
            blocks = Blocks(name, 2, **how)
        store_frozen(blocks, "bf16")
        assert freezes == any(isinstance(part, FrozenLinear) for part in blocks.modules())
        torch.manual_seed(2)
        tokens = torch.randn(6, 12, blocks.width, requires_grad=True)
        for _ in range(2):
            with torch.autocast(**IN_BF16):
                states = blocks(tokens)
            states[-1].float().square().sum().backward()
        return [tokens.grad, *states, *(each.grad for each in blocks.parameters() if each.grad is not None)]

    for one, other in zip(trained(True), trained(False), strict=True):
        assert torch.equal(one, other)


@fits
def test_its_operations_are_counted() -> None:
    model = nn.Sequential(layers()[2])
    store_frozen(model, "bf16")
    counted = []
    for _ in range(2):
        with FlopCounterMode(display=False) as counter, torch.autocast(**IN_BF16):
            model(torch.randn(3, 5, 96, requires_grad=True)).sum().backward()
        counted.append(counter.get_total_flops())
        _replace_slow_parts(model)
    assert counted == [2 * (2 * 15 * 96 * 192)] * 2
