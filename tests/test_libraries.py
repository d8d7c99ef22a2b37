"""Networks of other libraries as models: `nixtla:Class` and `transformers:Class`."""

from __future__ import annotations

import importlib.metadata
import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bench.core.base import BenchError, UnknownName
from bench.core.card import DatasetCard
from bench.core.spec import RunSpec, Task, TrainConfig
from bench.plan import registry
from bench.plan.own_code import own_code
from bench.plan.suite import Filters, load_suite, plan
from bench.train.checkpoint import Checkpoint, OutOfTime
from bench.train.conformance import checks
from bench.train.execute import identity, run_one
from bench.train.loop import Watch
from models import LIBRARIES, MODELS, library_of
from models.options import Shape
from tests.builders import SHAPE, waves

neuralforecast = pytest.importorskip("neuralforecast.models", reason="the extra `zoo` is not installed")
nixtla = pytest.importorskip("models.nixtla")

NETWORKS = sorted(set(neuralforecast.__all__) - set(nixtla.REFUSED) - set(nixtla.NEEDED))
SMALLER: dict[str, dict[str, Any]] = {"TimesNet": {"hidden_size": 16, "conv_hidden_size": 16, "num_kernels": 2}}


def build(name: str, shape: Shape = SHAPE, seed: int = 0, **options: object) -> nn.Module:
    seed_all(seed)
    loaded = registry.load(name)
    return loaded(shape, registry.make_options(name, loaded, {**SMALLER.get(name.partition(":")[2], {}), **options}))


def seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def inputs(batch: int = 4, shape: Shape = SHAPE) -> torch.Tensor:
    return torch.randn(batch, shape.context, shape.channels, generator=torch.Generator().manual_seed(1)).cumsum(1)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_of_neuralforecast_forecasts_each_window_by_itself_and_twice_the_same(name: str) -> None:
    model = build(f"nixtla:{name}").eval()
    with torch.no_grad():
        together = model(inputs())
        assert together.shape == (4, SHAPE.horizon, SHAPE.channels)
        assert torch.equal(together, model(inputs()))
        torch.testing.assert_close(model(inputs()[2:3]), together[2:3], atol=1e-4, rtol=1e-4)
    model.train()(inputs()).square().mean().backward()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


UNUSED = ("FEDformer", "RMoK", "StemGNN", "TFT", "TimeMixer")
"""Classes with weights that their own network does not use without further series, or in no forecast of this shape."""
KNOWN = dict.fromkeys(UNUSED, "gradients") | {"Autoformer": "bf16", "KAN": "seed"}
"""Class -> the check that it fails: Autoformer chooses among correlations, which rounding to bf16 exchanges; KAN begins
with a least-squares solution whose last digits depend on the place of its input in memory."""


@pytest.mark.nightly
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_of_neuralforecast_passes_every_check_of_a_model(name: str) -> None:
    loaded = registry.load(f"nixtla:{name}")
    options = registry.make_options(f"nixtla:{name}", loaded, SMALLER.get(name, {}))
    found = {each.check: each.found for each in checks(lambda shape: loaded(shape, options), SHAPE) if each.found}
    assert set(found) <= {KNOWN.get(name)}, found


def test_what_is_refused_is_a_class_that_cannot_be_a_model_and_says_why() -> None:
    for name, reason in nixtla.REFUSED.items():
        assert name in neuralforecast.__all__
        with pytest.raises(BenchError, match=re.escape(reason)):
            registry.load(f"nixtla:{name}")
    attends = neuralforecast.Informer(h=8, input_size=32, max_steps=1).eval()
    window = {"insample_y": inputs()[:, :, :1], "futr_exog": None}
    with torch.no_grad():
        assert not torch.equal(attends(window), attends(window))
    with pytest.raises(BenchError, match=r"nixtla:xLSTM: it needs xlstm .* Do: pip install xlstm"):
        registry.load("nixtla:xLSTM")
    with pytest.raises(BenchError, match=r"option recurrent of nixtla:LSTM: .* Do: leave it out"):
        build("nixtla:LSTM", recurrent=True)
    with pytest.raises(UnknownName, match="no class of neuralforecast 'Timesnet'; nearest: TimesNet"):
        registry.load("nixtla:Timesnet")
    with pytest.raises(UnknownName, match="nearest: PatchTSTForPrediction"):
        registry.load("transformers:PatchTSTForRegression")


def test_the_network_is_the_librarys_own_and_its_weights_follow_from_the_seed_alone() -> None:
    """It is built as the library builds it, from the seed that the run's generator gives."""
    ours = build("nixtla:NHITS", seed=3, normalize=False).eval()
    seed_all(3)
    seed = int(torch.randint(2**32, ()))
    theirs = neuralforecast.NHITS(h=SHAPE.horizon, input_size=SHAPE.context, random_seed=seed, max_steps=1).eval()
    channel = inputs()[:, :, 1:2]
    with torch.no_grad():
        window = {"insample_y": channel, "insample_mask": torch.ones_like(channel)}
        expected = theirs(window | dict.fromkeys(("futr_exog", "hist_exog", "stat_exog")))
        assert torch.equal(ours(inputs())[:, :, 1:2], expected)
    again, other = build("nixtla:NHITS", seed=3, normalize=False), build("nixtla:NHITS", seed=4, normalize=False)
    assert torch.equal(again.eval()(inputs()), ours(inputs()))
    assert not torch.equal(other.eval()(inputs()), ours(inputs()))


def test_building_a_network_says_nothing_and_leaves_the_generators_as_they_were(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    seed_all(5)
    torch.randint(2**32, ())
    expected = random.random(), np.random.random(), torch.rand(1)
    build("nixtla:TiDE", seed=5)
    assert (random.random(), np.random.random(), torch.rand(1)) == expected
    said = capfd.readouterr()
    assert said.out == said.err == caplog.text == ""


def test_windows_are_normalised_once() -> None:
    """By the adapter, unless the class does so itself or the option says no; then shift and scale pass through."""
    x = inputs()
    for name in ("TiDE", "TimeMixer", "NLinear"):
        model = build(f"nixtla:{name}").eval()
        assert model.normalize == (name != "TimeMixer")
        with torch.no_grad():
            torch.testing.assert_close(model(3 * x + 50), 3 * model(x) + 50, atol=2e-2, rtol=1e-3)
    bare = build("nixtla:MLP", normalize=False).eval()
    with torch.no_grad():
        assert not torch.allclose(bare(3 * x + 50), 3 * bare(x) + 50, atol=1)


@pytest.mark.parametrize(
    ("name", "known"), [("nixtla:TiDE", "hidden_size"), ("transformers:PatchTSTForPrediction", "d_model")]
)
def test_an_option_reaches_the_class_or_is_refused_before_anything_is_built(name: str, known: str) -> None:
    small, large = (sum(each.numel() for each in build(name, **{known: width}).parameters()) for width in (16, 32))
    assert small < large
    with pytest.raises(UnknownName, match=f"no option of {name} 'hiden'"):
        registry.make_options(name, registry.load(name), {"hiden": 1})
    for decided in ("h", "input_size", "max_steps", "loss", "context_length"):
        with pytest.raises(UnknownName):
            registry.make_options(name, registry.load(name), {decided: 1})


@pytest.mark.parametrize("name", ["PatchTSTForPrediction", "PatchTSMixerForPrediction"])
def test_forecasters_of_transformers_are_its_own(name: str) -> None:
    import transformers

    ours = build(f"transformers:{name}", patch_length=8, patch_stride=8, d_model=16).eval()
    configuration = {"PatchTST": transformers.PatchTSTConfig, "PatchTSMixer": transformers.PatchTSMixerConfig}
    torch.manual_seed(0)
    theirs = getattr(transformers, name)(
        configuration[name.removesuffix("ForPrediction")](
            context_length=SHAPE.context, prediction_length=SHAPE.horizon, num_input_channels=SHAPE.channels,
            patch_length=8, patch_stride=8, d_model=16,
        )
    ).eval()  # fmt: skip
    with torch.no_grad():
        assert torch.equal(ours(inputs()), theirs(past_values=inputs()).prediction_outputs)
        torch.testing.assert_close(ours(inputs()[1:2]), ours(inputs())[1:2], atol=1e-5, rtol=1e-5)


def test_titles_are_those_of_papers_and_no_two_models_share_one() -> None:
    names = (
        "nixtla:TimesNet",
        "nixtla:DLinear",
        "transformers:PatchTSTForPrediction",
        "dlinear",
        "patchtst",
        "mine:DLinear",
    )
    assert [registry.title(name) for name in names] == [
        "TimesNet (nixtla)",
        "DLinear (nixtla)",
        "PatchTST (transformers)",
        "DLinear",
        "PatchTST",
        "mine:DLinear",
    ]
    assert registry.printed("nixtla:DLinear") == registry.printed("dlinear") == "DLinear"
    assert registry.printed("mine:DLinear") is None


def planned(model: str = "nixtla:TimesNet") -> RunSpec:
    chosen = Filters(models=(model,), datasets=("ILI",), horizons=(24,), seeds=(1,))
    (spec,) = plan(load_suite("zoo"), chosen)
    return spec


def test_another_version_of_the_library_is_another_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not installed, runs are planned as with the version that committed records were made with."""
    found, version = planned(), importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "9.9" if name == "neuralforecast" else version(name)
    )
    assert planned().key != found.key

    def missing(name: str) -> str:
        if name == "neuralforecast":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert planned().key == found.key


def test_the_versions_in_keys_are_those_of_the_lock_file() -> None:
    lock = (Path(__file__).parents[1] / "requirements.lock").read_text()
    packages = {each.package for each in (*MODELS.values(), *LIBRARIES.values()) if each.package}
    for package in packages:
        assert f"\n{package.name}=={package.version}\n" in lock


def test_a_librarys_network_is_nobodys_own_code() -> None:
    assert library_of("nixtla:TimesNet") is LIBRARIES["nixtla"]
    assert library_of("mine:TimesNet") is library_of("dlinear") is None
    assert (planned().own, planned("dlinear").own) == (False, False)
    assert own_code("nixtla:TimesNet").files == {}


def test_an_interrupted_run_goes_on_to_the_same_bits(
    make_card: Callable[..., DatasetCard], tmp_path: Path, cpu: torch.device
) -> None:
    card, model = make_card(waves(260, 3)), "nixtla:TiDE"
    task = Task(dataset=card.name, context=card.context, horizon=card.horizons[0], cards={card.name: card.digest})
    train = TrainConfig(epochs=2, batch=16, lr=1e-3)
    spec = RunSpec(
        task=task, model=model, options={"hidden_size": 16}, train=train, seed=7, code=own_code(model).digest
    )
    whole = run_one(spec, cpu)
    assert whole.status == "done", whole.error
    checkpoint, pieces, parts = Checkpoint(tmp_path / "c.safetensors", identity(spec, cpu), deadline=0.0), 0, None
    while parts is None:
        try:
            parts = run_one(spec, cpu, Watch(checkpoint=checkpoint))
        except OutOfTime:
            pieces += 1  # at a deadline that is past, every step is saved and is the last one
            checkpoint.deadline = 0.0 if pieces < 3 else math.inf
    assert pieces == 3
    assert parts.evaluations == whole.evaluations
    assert [each.val_loss for each in parts.curve] == [each.val_loss for each in whole.curve]


def test_the_package_that_a_class_needs_besides_is_part_of_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {*own_code("nixtla:TiDE").installed} == {"neuralforecast"}
    assert {*own_code("nixtla:xLSTM").installed} == {"neuralforecast", "xlstm"}
    before, version = own_code("nixtla:xLSTM").digest, importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.0" if name == "xlstm" else version(name))
    assert own_code("nixtla:xLSTM").digest != before
