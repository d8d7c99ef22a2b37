"""`bench check` finds each planted fault by the one check meant for it, in one line, and none in a good model."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.plan.suite import Filters, entries, load_suite
from bench.train import conformance
from bench.train.conformance import CHECKS, Outcome, checks
from models.options import Shape
from tests.builders import SHAPE, in_process


class Good(nn.Module):
    """A small network with what models have: options, dropout, a norm of each window, a buffer, two layers."""

    def __init__(self, shape: Shape, width: int = 16) -> None:
        super().__init__()
        self.shape = shape
        self.first, self.second = nn.Linear(shape.context, width), nn.Linear(width, shape.horizon)
        self.dropout = nn.Dropout(0.1)
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        return self.read((x - mean) * self.scale) + mean

    def read(self, x: Tensor) -> Tensor:
        return self.second(self.dropout(F.gelu(self.first(x.mT)))).mT


class InFrequencies(Good):
    """It has weights that are complex numbers, as FEDformer has."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.spectrum = nn.Parameter(torch.ones(shape.context // 2 + 1, 1, dtype=torch.complex64))

    def read(self, x: Tensor) -> Tensor:
        return super().read(torch.fft.irfft(torch.fft.rfft(x, dim=1) * self.spectrum, n=x.shape[1], dim=1))


# Each of these has one fault, and is good in every other way.


class NoOptions(Good):
    def __init__(self) -> None:
        super().__init__(SHAPE)


class Seeds(Good):
    def __init__(self, shape: Shape) -> None:
        torch.manual_seed(0)
        super().__init__(shape)


class SeedsNumpy(Good):
    def forward(self, x: Tensor) -> Tensor:
        np.random.seed(3)
        return super().forward(x)


class SetsThreads(Good):
    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        torch.set_num_threads(torch.get_num_threads() + 1)


class ChannelsFirst(Good):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).mT


class NotFinite(Good):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).sqrt()


class CountsCalls(Good):
    def forward(self, x: Tensor) -> Tensor:
        self.scale.mul_(1.0001)
        return super().forward(x)


class SqueezesBatch(Good):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).squeeze(0)


class SqueezesChannels(Good):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).squeeze(2)


class WrongHorizon(Good):
    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.second = nn.Linear(16, 8)


class WrongContext(Good):
    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.first = nn.Linear(32, 16)


class WritesInput(Good):
    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        return self.read(x.sub_(mean)) + mean


class RootOfZero(Good):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + (self.second.bias - self.second.bias).pow(2).sqrt()[:, None]


class Detached(Good):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).detach()


class DeadParameter(Good):
    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.unused = nn.Linear(3, 3)


class DeadByZero(Good):
    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.third = nn.Parameter(torch.ones(shape.horizon, 1))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.third * 0


class WrongSign(Good):
    def training_loss(self, x: Tensor, y: Tensor, criterion: nn.Module) -> Tensor:
        loss = criterion(self(x), y)
        return 2 * loss.detach() - loss


class OwnGenerator(Good):
    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        noise = np.random.default_rng().normal(size=self.first.weight.shape)
        self.first.weight.data += 0.1 * torch.from_numpy(noise).float()


class OwnMasks(Good):
    def forward(self, x: Tensor) -> Tensor:
        noise = np.random.default_rng().uniform(-0.05, 0.05) if self.training else 0  # too small to hide that it learns
        return super().forward(x) * (1 + noise)


class Remembers(Good):
    last: Tensor | float = 0

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x) + 0.01 * self.last
        self.last = x.detach().mean()
        return y


class DropoutLeftOn(Good):
    def read(self, x: Tensor) -> Tensor:
        return super().read(F.dropout(x, 0.1))


class BatchMean(Good):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 0.1 * x.mean(0, keepdim=True).mean(1, keepdim=True)


class IgnoresInput(Good):
    def forward(self, x: Tensor) -> Tensor:
        return self.read(torch.ones_like(x))


class MissesNewest(Good):
    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.first = nn.Linear(shape.context - 1, 16)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, :-1])


class DividesBySpread(Good):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x / x.std(1, keepdim=True))


class RootOfVariance(Good):
    """Its forecast is finite; the gradient of its learned scale is not where a window does not move."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.gain = nn.Parameter(torch.ones(shape.channels))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + (self.gain * x).var(1, keepdim=True).sqrt()


class Overflows(Good):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1e-9 * x.exp().mean(1, keepdim=True).log1p()


class OneType(Good):
    def forward(self, x: Tensor) -> Tensor:
        y = x.new_zeros(len(x), self.shape.horizon, x.shape[2])
        y[torch.ones_like(y, dtype=torch.bool)] = super().read(x).flatten()
        return y


class TrainsOutside(Good):
    level = 0.0

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.level += 1e-4
        return super().forward(x) + self.level


class OnTheCpu(Good):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 0.01 * torch.arange(self.shape.horizon)[:, None]


class PlainTensor(Good):
    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.weights = torch.linspace(1, 2, shape.horizon)[:, None]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.weights


class Lazy(Good):
    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.first = nn.LazyLinear(16)


PLANTED: dict[type[Good], tuple[str, str]] = {
    NoOptions: ("constructor", "TypeError: "),
    Lazy: ("constructor", "first.weight"),
    Seeds: ("global state", "its constructor seeds the generator of torch"),
    SeedsNumpy: ("global state", "its forward seeds the generator of numpy"),
    SetsThreads: ("global state", "it sets the number of threads"),
    ChannelsFirst: ("forecast", "shape (8, 3, 8), expected [batch, horizon, channels] = (8, 8, 3)"),
    NotFinite: ("forecast", "% are not finite"),
    CountsCalls: ("weights in eval", "changes scale"),
    SqueezesBatch: ("batch of one", "shape (8, 3), expected"),
    SqueezesChannels: ("one channel", "shape (8, 8), expected"),
    WrongHorizon: ("another shape", "shape (8, 8, 3), expected [batch, horizon, channels] = (8, 60, 3)"),
    WrongContext: ("another shape", "RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
    WritesInput: ("input", "eval mode"),
    RootOfZero: ("training step", "gradients that are not finite, of second.bias"),
    Detached: ("training step", "RuntimeError: "),
    DeadParameter: ("gradients", "none for unused.weight, unused.bias"),
    DeadByZero: ("gradients", "only zeros for third"),
    WrongSign: ("loss", "a loss from "),
    OwnGenerator: ("seed", "two instances that differ in first.weight"),
    OwnMasks: ("seed", "two trainings with other losses"),
    Remembers: ("memory", "under one seed"),
    DropoutLeftOn: ("randomness", "under two seeds"),
    BatchMean: ("other windows", "of the largest apart "),
    IgnoresInput: ("look-back", "3 of 3 channels with one forecast for all look-backs"),
    MissesNewest: ("look-back", "the newest row of the look-back changes nothing"),
    DividesBySpread: ("constant window", "% are not finite"),
    RootOfVariance: ("constant window", "gradients that are not finite, of gain"),
    Overflows: ("large values", "% are not finite"),
    OneType: ("bf16", "RuntimeError: "),
    TrainsOutside: ("save and load", "of the largest apart"),
    OnTheCpu: ("device", "one of the CPU in an operation with others"),
    PlainTensor: ("device", "one of the CPU in an operation with others"),
}
"""Class -> the one check that finds its fault, and a part of what is said to be found."""


def tried(kind: type[nn.Module], *options: object) -> list[Outcome]:
    torch.manual_seed(11)
    return list(checks(lambda shape: kind(shape, *options), SHAPE))


def faults(outcomes: list[Outcome]) -> dict[str, str]:
    return {each.check: each.found for each in outcomes if not each.passed}


@pytest.mark.parametrize("kind", [Good, InFrequencies])
def test_a_good_model_passes_every_check_and_none_is_skipped(kind: type[Good]) -> None:
    outcomes = tried(kind)
    assert faults(outcomes) == {}
    assert [(each.check, each.skipped) for each in outcomes] == [(check.name, "") for check in CHECKS]


@pytest.mark.parametrize("kind", PLANTED, ids=lambda kind: kind.__name__)
def test_a_planted_fault_is_one_line_of_the_check_that_is_meant_for_it(kind: type[Good]) -> None:
    check, found = PLANTED[kind]
    outcomes = tried(kind)
    assert [*faults(outcomes)] == [check]
    (line,) = (str(each) for each in outcomes if not each.passed)
    assert found in line and "\n" not in line
    assert line.startswith("fault  ") and "; found " in line and ". Do: " in line


def test_a_fault_is_planted_for_every_check() -> None:
    assert {check for check, _ in PLANTED.values()} == {check.name for check in CHECKS}


def test_what_a_model_sets_for_the_process_is_undone() -> None:
    threads, kind = torch.get_num_threads(), torch.get_default_dtype()
    tried(SetsThreads)
    assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, kind)
    assert torch.is_grad_enabled()


MODEL = """\
from dataclasses import dataclass

from torch import nn


@dataclass
class Options:
    width: int = 8


class Net(nn.Module):
    Options = Options

    def __init__(self, shape, options):
        super().__init__()
        self.first, self.second = nn.Linear(shape.context, options.width), nn.Linear(options.width, shape.horizon)

    def forward(self, x):
        return self.second(self.first(x.mT).relu()).mT


class Raises(Net):
    def forward(self, x):
        return super().forward(x if x.shape[2] > 1 else x.view(2, 2))
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "checkednet.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("checkednet", None)


Printed = pytest.CaptureFixture[str]


def test_the_command_tries_a_users_own_class_in_the_shape_of_a_suite(own: None, capsys: Printed) -> None:
    words = ["check", "checkednet:Net", "--device", "cpu", "--option", "width=5"]
    assert in_process(*words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["ok"] * len(CHECKS)
    assert "(629 parameters, 629 trainable)" in lines[0], "EPF: 96 and 24 steps"


def test_a_crash_is_one_line_with_the_last_frame_of_the_users_file(own: None, capsys: Printed) -> None:
    assert in_process("check", "checkednet:Raises", "--device", "cpu", "--debug") == 1
    out = capsys.readouterr().out
    (line,) = (line for line in out.splitlines() if line.startswith("fault"))
    assert line.startswith("fault  one channel") and ", raised at checkednet.py:24 in forward. Do: " in line
    assert 'In files of your own:\n  File "checkednet.py", line 24, in forward' in out, "--debug"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("check checkednet:Nut", "module checkednet has no class Nut"),
        ("check checkednut:Net", "no module 'checkednut'"),
        ("check dlinaer", "nearest: dlinear"),
        ("check dlinear --option kernl=3", "no option of dlinear 'kernl'; nearest: kernel"),
        ("check dlinear --option kernel=no", "option dlinear.kernel"),
        ("check checkednet:Net --option wide=3", "unexpected keyword argument 'wide'"),
        ("check dlinear --suite pepar", "nearest: paper"),
        ("check dlinear --device gpu", "--device gpu: no such device"),
        ("check dlinear --device cpu:0", "--device cpu:0: no such device"),
    ],
)
def test_what_cannot_be_tried_is_one_line_and_exit_code_2(
    own: None, capsys: Printed, words: str, expected: str
) -> None:
    assert in_process(*words.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line


def test_a_language_model_is_tried_on_random_weights(monkeypatch: pytest.MonkeyPatch, slim_backbones: None) -> None:
    monkeypatch.setattr(conformance, "CHECKS", CHECKS[:3])
    (run, *_) = entries(load_suite("quick"), Filters(models=("logo_llm",)))
    assert run.spec.options["backbone"] == "smollm2-135m"
    assert faults([*conformance.checked(run.spec, {"mixers": "local"}, "cpu")]) == {}
