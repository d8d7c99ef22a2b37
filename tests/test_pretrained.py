"""Forecasters that come pretrained: their forecasts, their files, their records, and their place in tables."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fracast import FracastModel
from safetensors.torch import load_file, save_file

from bench.analysis.ranks import errors_by_dataset, ranks_table
from bench.analysis.regimes import regimes_table
from bench.analysis.results import Results
from bench.analysis.tables import Cell, full_table, main_table, zero_shot_table
from bench.core.base import BenchError
from bench.core.card import DatasetCard, cards
from bench.core.reading import UnusableRecord
from bench.core.store import Store
from bench.data.bundle import make_bundle, use_bundle
from bench.data.fetch import fetch_weights
from bench.plan import registry
from bench.plan.suite import Filters, entries, load_suite, suite_names
from bench.report.figures.cost import cost
from bench.report.figures.forecasts import forecasts
from bench.report.figures.heatmap import heatmap
from bench.report.figures.lines import horizons
from bench.report.figures.ranks import ranks
from bench.report.render import render
from bench.train.execute import run_one
from models import MODELS
from models.fracast import Fracast
from models.llm_files import WEIGHTS, BackboneError, Published, locate, sha256_of
from models.options import NoOptions, Shape
from models.pretrained import Pretrained
from tests.builders import make_spec, record, waves

PRETRAINED = [name for name, entry in MODELS.items() if entry.weights]
ON_HUB = ["chronos_bolt", "timesfm"]
CHRONOS = {"context_length": 64, "prediction_length": 8, "input_patch_size": 4, "input_patch_stride": 4}
TINY: dict[str, dict[str, Any]] = {
    "chronos_bolt": {
        **{"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0},
        "chronos_config": CHRONOS | {"quantiles": [0.1, 0.5, 0.9], "use_reg_token": True},
    },
    "timesfm": {
        **{"patch_length": 8, "context_length": 64, "horizon_length": 16, "output_quantile_len": 32},
        **{"num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 32, "head_dim": 8},
        **{"num_attention_heads": 4, "num_key_value_heads": 4},
    },
}
"""Model -> a small architecture of the real class."""


def network(name: str, architecture: dict[str, Any]) -> Any:
    """The real class of a forecaster with random weights, built without this project."""
    if name == "timesfm":
        from transformers import TimesFm2_5Config, TimesFm2_5ModelForPrediction

        return TimesFm2_5ModelForPrediction(TimesFm2_5Config(**architecture))
    from chronos.chronos_bolt import ChronosBoltModelForForecasting
    from transformers import T5Config

    return ChronosBoltModelForForecasting(T5Config(**architecture))


@pytest.fixture
def theirs(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A tiny network, whose weights lie in a Hugging Face cache and are the model's. Parametrised by its name."""
    name = request.param
    torch.manual_seed(0)
    tiny = network(name, TINY[name]).eval()
    source = MODELS[name].weights
    assert source and source.repo
    folder = tmp_path / f"models--{source.repo.replace('/', '--')}" / "snapshots" / "abc123"
    folder.mkdir(parents=True)
    save_file({key: tensor.clone() for key, tensor in tiny.named_parameters()}, folder / WEIGHTS)
    adopt(name, folder / WEIGHTS, monkeypatch, architecture=TINY[name], revision="abc123")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return tiny


def adopt(name: str, path: Path, monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    """Make this file the weights of a model."""
    sha256_of.cache_clear()  # which tells a file from its predecessor by its time alone
    entry = MODELS[name]
    assert entry.weights
    files = {WEIGHTS: hashlib.sha256(path.read_bytes()).hexdigest()}
    tiny = dataclasses.replace(entry.weights, files=files, **changes)
    monkeypatch.setitem(MODELS, name, dataclasses.replace(entry, weights=tiny))
    registry.load(name)
    monkeypatch.setattr(f"models.{name}.{name.upper()}", tiny)


def built(name: str, context: int, horizon: int, channels: int = 2) -> Pretrained:
    model = registry.load(name)(Shape(context, horizon, channels, season=8), NoOptions())
    assert isinstance(model, Pretrained)
    return model


def past(batch: int, context: int, channels: int = 2) -> torch.Tensor:
    return torch.stack([torch.from_numpy(waves(context, channels, seed)) for seed in range(batch)]).float()


# Forecasts


@pytest.mark.parametrize(("context", "horizon"), [(36, 60), (96, 24), (1100, 48)])
def test_fracast_forecasts_as_its_package_does(context: int, horizon: int) -> None:
    """With the beginning of the window computed once for series of the same periods, and without (1100 steps)."""
    x = past(3, context) * torch.tensor([1.0, 50.0]) + torch.tensor([0.0, 200.0])
    ours = built("fracast", context, horizon)(x)
    package = FracastModel.from_pretrained(weights="fp32")
    for window, forecast in zip(x, ours, strict=True):
        expected = package.forecast(window.T.numpy(), horizon=horizon)[..., package.quantiles.index(0.5)].T
        np.testing.assert_allclose(forecast.numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("theirs", ["chronos_bolt"], indirect=True)
@pytest.mark.parametrize("horizon", [5, 20])
def test_chronos_bolt_forecasts_as_its_package_does(theirs: Any, horizon: int) -> None:
    from chronos.chronos_bolt import ChronosBoltPipeline

    x = past(3, 30)
    with pytest.warns(match="We recommend") if horizon > 8 else torch.no_grad():
        quantiles = [ChronosBoltPipeline(theirs).predict(window.T, prediction_length=horizon) for window in x]
    expected = torch.stack([each[:, 1].T for each in quantiles])
    torch.testing.assert_close(built("chronos_bolt", 30, horizon)(x), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("theirs", ["timesfm"], indirect=True)
def test_timesfm_forecasts_as_its_class_does_and_goes_on_from_its_medians(theirs: Any) -> None:
    def block(known: torch.Tensor) -> torch.Tensor:
        """One step of the class, which fills up the first patch itself; mirrored, too."""
        length = 8 * -(-known.shape[1] // 8)
        options = {"forecast_context_len": length, "truncate_negative": False, "force_flip_invariance": False}
        return theirs(past_values=list(known), **options).full_predictions[..., 5]  # after the mean, 0.1 to 0.9

    x = past(2, 30)
    with torch.no_grad():
        once = theirs(past_values=list(x[0].T), forecast_context_len=32, truncate_negative=False)
        assert theirs.config.force_flip_invariance
        torch.testing.assert_close(built("timesfm", 30, 10)(x[:1])[0], once.mean_predictions[:, :10].T)
        series, halves = x[0].T, []
        for known in (series, -series):
            first = torch.cat([known, block(known)], dim=1)
            halves.append(torch.cat([first, block(first)], dim=1)[:, 30:50])
        torch.testing.assert_close(built("timesfm", 30, 20)(x[:1])[0], ((halves[0] - halves[1]) / 2).T)


@pytest.mark.parametrize(("name", "theirs"), [(name, name) for name in ON_HUB], indirect=["theirs"])
def test_a_forecast_depends_on_its_own_channel_alone_and_repeats_itself(name: str, theirs: Any) -> None:
    model = built(name, 32, 24).train()  # asked to train, it does not
    x = past(4, 32) + 3  # never negative: TimesFM's class would then look at the whole batch
    together = model(x)
    assert together.shape == (4, 24, 2) and not model.training
    assert torch.equal(together, model(x))
    torch.testing.assert_close(torch.cat([model(window[None]) for window in x]), together, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(built(name, 32, 24, 1)(x[..., 1:]), together[..., 1:], rtol=1e-4, atol=1e-4)
    lower = x - 6
    assert not torch.allclose(model(torch.cat([x, lower]))[4:], together)
    torch.testing.assert_close(model(torch.cat([x, lower]))[:4], together, rtol=1e-4, atol=1e-4)


# Files


@pytest.mark.parametrize("name", ON_HUB)
def test_the_architecture_has_as_many_parameters_as_the_published_file(name: str) -> None:
    """The files have 190,888,824 bytes, of which 16,760 are a header for 143 tensors, and 231,289,280 parameters."""
    weights = MODELS[name].weights
    assert weights
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in network(name, dict(weights.architecture)).parameters())
    assert count == {"chronos_bolt": (190_888_824 - 16_760) // 4, "timesfm": 231_289_280}[name]
    assert sum(parameter.numel() for parameter in built("fracast", 32, 8).parameters()) == 85_001


@pytest.mark.parametrize("name", ON_HUB)
def test_weights_that_are_not_here_are_named_with_the_command_that_brings_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    weights = MODELS[name].weights
    assert weights
    said = rf"^model {name}: no model\.safetensors in the Hugging Face cache\. Do: run 'python -m bench fetch --models "
    with pytest.raises(BackboneError, match=said + name):
        locate(weights)
    with pytest.raises(BackboneError, match=said):
        built(name, 36, 24)


def test_a_package_that_is_not_installed_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "models.chronos_bolt", raising=False)
    for module in ("chronos", "chronos.chronos_bolt"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        BenchError, match=r"^model chronos_bolt: chronos-forecasting is not installed\. Do: pip install "
    ):
        registry.load("chronos_bolt")


@pytest.mark.parametrize("theirs", ["timesfm"], indirect=True)
def test_another_file_is_refused_as_a_whole_and_by_its_tensors(
    theirs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = tmp_path.rglob(WEIGHTS)
    tensors = load_file(path)
    key = next(key for key in tensors if key.endswith("q_proj.weight"))
    save_file({**tensors, key: tensors[key] + 1}, path)
    with pytest.raises(BackboneError, match=r"^model timesfm: .* has SHA-256 .*, expected .*\. Do: delete it"):
        built("timesfm", 32, 8)
    save_file({name: tensor for name, tensor in tensors.items() if name != key}, path)
    adopt("timesfm", path, monkeypatch)
    with pytest.raises(BackboneError, match=rf"^model timesfm: .* holds no tensor {key}\."):
        built("timesfm", 32, 8)


@pytest.mark.parametrize("theirs", ["timesfm"], indirect=True)
def test_a_bundle_holds_the_weights_and_a_run_reads_them_there(
    theirs: Any,
    make_card: Callable[..., DatasetCard],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cpu: torch.device,
) -> None:
    card = make_card(waves(200, 2))
    specs = [make_spec(card, "timesfm"), make_spec(card, "fracast")]
    assert [fetch_weights(weights) for spec in specs if (weights := MODELS[spec.model].weights)] == [
        "timesfm: here, verified",
        "fracast: here, verified",
    ]
    expected = run_one(specs[0], cpu).evaluations
    make_bundle(specs[1:], tmp_path / "other")
    with pytest.raises(BenchError, match=r"^model timesfm: no weights of it in bundle .*\. Do: make it again"):
        use_bundle(tmp_path / "other", specs)
    make_bundle(specs, tmp_path / "bundle")
    monkeypatch.setenv("BENCH_BUNDLE", "")  # restored at the end, as BENCH_DATA is
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("models.llm_files._in_hub_cache", lambda source, name: None)
    use_bundle(tmp_path / "bundle", specs)
    assert run_one(specs[0], cpu).evaluations == expected
    assert run_one(specs[1], cpu).status == "done"


# Records


def test_a_record_holds_the_weights_and_the_size_of_a_model_that_trains_nothing(
    make_card: Callable[..., DatasetCard], tmp_path: Path, cpu: torch.device
) -> None:
    spec = make_spec(make_card(waves(200, 2)), "fracast")
    result, store = run_one(spec, cpu), Store(tmp_path / "results")
    assert result.status == "done" and result.fault is None and result.cost and result.curve == ()
    assert (result.cost.params, result.cost.trainable) == (85_001, 0) and result.cost.flops > 0
    weights = MODELS["fracast"].weights
    assert weights and result.where.weights_sha256 == weights.sha256
    store.put(result)
    assert store.get(spec) == result
    for size in ({"params": 0}, {"trainable": 1}, {"flops": 0}):
        damaged = result.model_copy(update={"cost": result.cost.model_copy(update=size)})
        assert damaged.fault and "size" in damaged.fault, size
    foreign = result.where.model_copy(update={"weights_sha256": "0" * 64})
    store.put(result.model_copy(update={"where": foreign}))
    with pytest.raises(UnusableRecord, match="its weights of fracast are other ones"):
        store.get(spec)
    naive = run_one(make_spec(cards()["Waves"], "repeat_last"), cpu)
    assert naive.fault is None and naive.where.weights_sha256 is None
    assert "pretrained" in str(naive.model_copy(update={"where": foreign}).fault)


@pytest.mark.parametrize("name", suite_names())
def test_every_suite_plans_them_without_settings_of_its_own(name: str) -> None:
    if name == "layers":  # which probes a language model
        return
    suite = load_suite(name)
    planned = entries(suite.model_copy(update={"variant": ()}), Filters(models=tuple(PRETRAINED), seeds=(2021,)))
    assert {entry.spec.model for entry in planned} == set(PRETRAINED)
    assert {entry.spec.options == {} and entry.spec.train.precision for entry in planned} == {"float32"}


# Tables


MODELS_SHOWN = ("patchtst", "dlinear", "seasonal_naive", "chronos_bolt")
"""Chronos-Bolt has the least errors of all (tests/builders.py), and has seen ECL."""


def shown(suite: str = "paper", **filters: Any) -> Results:
    """Records of four models on three data sets, and on what the suite transfers to."""
    chosen = Filters(models=MODELS_SHOWN, seeds=(2021, 2022), **filters)
    return Results([(entry, record(entry.spec)) for entry in entries(load_suite(suite), chosen)])


THREE = {"datasets": ("ETTh1", "ECL", "Weather")}
NOTE = "Chronos-Bolt was pretrained on ECL: no zero-shot result."


def of_chronos(cells: list[Cell]) -> list[Cell]:
    return cells[2 * MODELS_SHOWN.index("chronos_bolt") :]


def test_a_cell_of_seen_data_has_a_footnote_and_is_neither_best_nor_part_of_the_summary() -> None:
    (table,) = main_table(shown(**THREE))
    assert table.notes[0] == NOTE
    by_label = dict(table.rows)
    seen, unseen = of_chronos(by_label["ECL"]), of_chronos(by_label["ETTh1"])
    assert [cell.value for cell in seen] == [None, None] and [cell.note for cell in seen] == [1, 1]
    assert [cell.partial for cell in seen] == pytest.approx([0.541, 0.2705])  # 0.2, horizons' mean 0.336, seeds' 0.005
    assert [cell.mark for cell in unseen] == ["best", "best"] and [cell.note for cell in unseen] == [None, None]
    assert [cell.mark for cell in by_label["ECL"][:2]] == ["best", "best"]
    summary = dict(table.summary)
    label = next(label for label in summary if label.startswith("Average"))
    assert label == "Average (2 of 3 data sets)"
    assert of_chronos(summary["First places"])[0].value == 2
    text = render(table, "text")
    assert "(0.541)[1]" in text and f"[1] {NOTE}" in text
    assert NOTE in render(table, "latex") and "Runs are missing" not in render(table, "latex")
    assert "None" not in render(table, "json") and ",," in render(table, "csv")
    (full,) = full_table(shown(**THREE))
    assert sum(cell.note is not None for _, row in full.rows for cell in row) == 2 * 5  # four horizons and the average


def test_a_transfer_to_seen_data_counts_as_seen_and_one_from_them_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = dataclasses.replace(MODELS["chronos_bolt"], pretrained_on=("ETTh2",))
    monkeypatch.setitem(MODELS, "chronos_bolt", changed)
    (table,) = zero_shot_table(shown("zero_shot"))
    holes = {label for label, row in table.rows if any(cell.value is None for cell in of_chronos(row))}
    assert holes == {label for label, _ in table.rows if label.endswith("→ ETTh2")}
    assert any(label.startswith("ETTh2 →") for label, _ in table.rows) and len(holes) > 0


def test_seen_data_take_no_part_in_ranks_and_a_model_that_has_seen_most_is_left_out() -> None:
    planned = shown(**THREE)
    errors = errors_by_dataset(planned, "mse")
    assert errors.isna().sum().sum() == 1 and np.isnan(errors.loc["ECL", "Chronos-Bolt"])
    table = ranks_table(planned)[0]
    assert dict(table.rows)["Chronos-Bolt"][0].value == 1 and "2 of 3 data sets" in table.caption
    alone = ranks_table(shown(datasets=("ECL",)))[0]
    assert "Chronos-Bolt" not in dict(alone.rows)
    assert "Left out, since complete on few data sets that they were not pretrained on: Chronos-Bolt." in alone.notes
    (by_mse, _) = regimes_table(planned)
    assert any("Left out, as pretrained on some of these data sets: Chronos-Bolt." in note for note in by_mse.notes)


def test_figures_do_not_rank_it_there_either() -> None:
    planned = shown(**THREE)
    drawn = heatmap(planned)
    assert drawn and "Grey, without colour: Chronos-Bolt was pretrained on ECL." in drawn.caption
    assert "Chronos-Bolt on ECL" not in drawn.alt and "PatchTST on ECL" in drawn.alt
    seen = shown(datasets=("ECL",))
    assert all(plot and "Chronos" not in plot.alt for plot in (horizons(seen), cost(seen), forecasts(seen)))
    assert "Not drawn: Chronos-Bolt was pretrained on ECL." in horizons(planned).caption
    assert "Not compared: Chronos-Bolt was pretrained on ECL." in cost(planned).caption
    alone = Results([pair for pair in seen.runs if pair[0].spec.model == "chronos_bolt"])
    assert "Not drawn: Chronos-Bolt was pretrained on ECL." in horizons(alone).caption
    ordered = ranks(planned)
    assert ordered and "Chronos-Bolt 1.00" in ordered.alt
    left = ranks(shown(datasets=("ECL",)))
    assert left and "Chronos-Bolt" not in left.alt


def test_what_a_model_has_seen_is_a_data_set_of_this_project() -> None:
    for name in PRETRAINED:
        assert set(MODELS[name].pretrained_on) <= set(cards()) and MODELS[name].package
    assert not MODELS["fracast"].trains and issubclass(Fracast, Pretrained)
    assert all(isinstance(MODELS[name].weights, Published) for name in PRETRAINED)
