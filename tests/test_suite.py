"""Suites, settings and filters."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.spec import BenchError
from bench.suite import Filters, cards, entries, load_suite, plan, suite_names
from models import MODELS


def test_every_suite_plans_and_no_two_of_its_runs_share_a_record() -> None:
    assert {"paper", "quick"} <= set(suite_names())
    for name in suite_names():
        paths = [spec.path for spec in plan(load_suite(name))]
        assert len(paths) == len(set(paths)) > 0


def test_the_paper_suite_is_the_papers_grid() -> None:
    specs = plan(load_suite("paper"))
    assert len(specs) == 9 * 4 * 3 * len(MODELS)
    assert {spec.task.context for spec in specs if spec.task.dataset != "ILI"} == {96}
    assert {spec.task.context for spec in specs if spec.task.dataset == "ILI"} == {36}
    logo = next(spec for spec in specs if spec.model == "logo_llm")
    assert (logo.options["backbone"], logo.options["local_tap"], logo.options["global_tap"]) == ("gpt2", 5, 12)


def test_the_quick_suite_shows_every_model_at_two_horizons_with_two_seeds_on_a_pretrained_backbone() -> None:
    specs = plan(load_suite("quick"))
    assert {spec.model for spec in specs} == set(MODELS)
    assert len({spec.task.horizon for spec in specs}) >= 2
    assert len({spec.seed for spec in specs}) >= 2
    assert {spec.options["backbone"] for spec in specs if "backbone" in spec.options} == {"smollm2-135m"}


def test_official_settings_differ_by_data_set_and_horizon() -> None:
    def only(model: str, dataset: str, horizon: int):
        filters = Filters(models=(model,), datasets=(dataset,), horizons=(horizon,), seeds=(1,))
        (spec,) = plan(load_suite("paper"), filters)
        return spec

    assert only("itransformer", "ETTh1", 96).options["width"] == 256
    assert only("itransformer", "ETTh1", 720).options["width"] == 512
    assert only("itransformer", "Traffic", 96).train.lr == 1e-3
    assert only("patchtst", "ETTh1", 96).options["width"] == 16
    assert only("patchtst", "ILI", 24).options["patch"] == 24
    assert only("dlinear", "ETTh1", 96).train.lr == 5e-3
    assert only("calf_lite", "Weather", 96).train.loss == "smooth_l1"
    assert only("time_llm_lite", "ETTh1", 336).train.schedule == "cosine"


def test_filters_take_names_in_any_case_and_drop_repeats() -> None:
    filters = Filters(models=("DLINEAR", "dlinear"), datasets=("etth1",), horizons=(96,), seeds=(1, 1))
    assert [entry.label for entry in entries(load_suite("paper"), filters)] == ["dlinear ETTh1 h96 s1"]


def test_models_and_data_sets_outside_the_suite_can_be_added_by_name() -> None:
    filters = Filters(models=("repeat_last",), datasets=("ETTm1",), horizons=(24,), seeds=(7,))
    (spec,) = plan(load_suite("quick"), filters)
    assert (spec.task.dataset, spec.task.horizon, spec.seed) == ("ETTm1", 24, 7)


def test_a_backbone_can_be_exchanged_and_brings_its_own_taps() -> None:
    filters = Filters(models=("logo_llm",), datasets=("ETTh1",), horizons=(96,), seeds=(1,), backbone="smollm2-135m")
    (spec,) = plan(load_suite("paper"), filters)
    taken = {name: spec.options[name] for name in ("backbone", "blocks", "local_tap", "global_tap")}
    assert taken == {"backbone": "smollm2-135m", "blocks": 6, "local_tap": 2, "global_tap": 6}


def test_the_digest_of_a_card_follows_what_can_change_a_number_and_nothing_else() -> None:
    card = cards()["ETTh1"]
    assert card.model_copy(update={"notes": "x", "title": "y", "license": "z"}).digest == card.digest
    for change in ({"split": (8000.0, 2880.0, 2880.0)}, {"season": 12}, {"about": "x"}, {"sha256": ("0" * 64,)}):
        assert card.model_copy(update=change).digest != card.digest


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("modles = ['dlinear']", "no key 'modles'; nearest: models"),
        ("models = ['dlinaer']", "no model 'dlinaer'; nearest: dlinear"),
        ("datasets = ['ETTh3']", "no data set 'ETTh3'; nearest: ETTh"),
        ("backbone = 'gpt3'", "no backbone 'gpt3'; nearest: gpt2"),
        ("seeds = []", "seeds: tuple should have at least 1 item"),
        ("[override.dlinaer]\ntrain = {}", "no model 'dlinaer'; nearest: dlinear"),
        ("[override.dlinear]\noptions = { kernle = 3 }", "no option of dlinear 'kernle'; nearest: kernel"),
        ("[override.dlinear]\noptions = { kernel = 'wide' }", "option dlinear.kernel"),
        ("[override.dlinear]\ntrain = { lr = 'fast' }", "lr: input should be a valid number"),
        ("[override.dlinear]\ntrain = { rate = 1 }", "no key 'rate'; "),
        ("models = [", "not valid TOML"),
    ],
)
def test_a_suite_file_with_a_mistake_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    base = {
        "title": "'t'",
        "about": "'a'",
        "models": "['dlinear']",
        "datasets": "['EPF']",
        "seeds": "[1]",
        "backbone": "'gpt2'",
    }
    key = text.partition("=")[0].strip()
    lines = [f"{name} = {value}" for name, value in base.items() if name != key]
    path = tmp_path / "mine.toml"
    path.write_text("\n".join([*lines, text]))
    with pytest.raises(BenchError) as caught:
        plan(load_suite(str(path)))
    assert said in str(caught.value)
