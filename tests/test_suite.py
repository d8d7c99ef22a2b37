"""Suites, settings and filters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.core.base import BenchError
from bench.core.card import DatasetCard, cards
from bench.core.spec import RunSpec
from bench.plan.suite import Filters, Suite, entries, left_out, load_suite, plan, suite_names
from models import MODELS
from tests.builders import BUILT, waves


def mine(folder: Path, text: str, name: str = "mine") -> Suite:
    """A suite of a user's own."""
    path = folder / f"{name}.toml"
    path.write_text(text)
    return load_suite(str(path))


def one_each(suite: str, backbone: str = "gpt2") -> dict[tuple[str, str], RunSpec]:
    """The suite's runs on ETTh1 at 96 with seed 2021, by model and variant."""
    filters = Filters(datasets=("ETTh1",), horizons=(96,), seeds=(2021,), backbone=backbone)
    return {(spec.model, variant): spec for spec, variant in entries(load_suite(suite), filters)}


def changes(spec: RunSpec, usual: RunSpec) -> dict[str, object]:
    """Every field of a run, of its task, training and options, in which it is not as the usual one."""

    def flat(run: RunSpec) -> dict[str, object]:
        nested = run.model_dump(include={"task", "train", "options"})
        return run.model_dump(exclude=set(nested)) | nested["task"] | nested["train"] | nested["options"]

    usually = flat(usual)
    return {name: value for name, value in flat(spec).items() if value != usually[name]}


def test_every_suite_plans_and_no_two_of_its_runs_share_a_record() -> None:
    assert {"paper", "quick"} <= set(suite_names())
    for name in suite_names():
        paths = [spec.path for spec in plan(load_suite(name))]
        assert len(paths) == len(set(paths)) > 0


def test_the_paper_suite_is_the_papers_grid() -> None:
    specs = plan(load_suite("paper"))
    assert len(specs) == 9 * 4 * 3 * len([name for name in MODELS if not MODELS[name].weights and name != "gpt4ts"])
    read = [spec for spec in specs if spec.model != "seasonal_naive"]  # which reads whole seasons: test_season.py
    assert {spec.task.context for spec in read if spec.task.dataset != "ILI"} == {96}
    assert {spec.task.context for spec in read if spec.task.dataset == "ILI"} == {36}
    logo = next(spec for spec in specs if spec.model == "logo_llm")
    assert (logo.options["backbone"], logo.options["local_tap"], logo.options["global_tap"]) == ("gpt2", 5, 12)


def test_the_quick_suite_has_the_papers_models_at_two_horizons_with_two_seeds_on_a_real_backbone() -> None:
    specs = plan(load_suite("quick"))
    assert {spec.model for spec in specs} == set(BUILT) - {"gpt4ts", "fracast"}
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
        ("base = 'papr'", "mine.toml: no suite 'papr'; nearest: paper"),
        ("base = 3", "mine.toml: base: must be the name of a suite, got 3"),
        ("horizons = 'longest'", "mine.toml: horizons"),
        ("fractions = [0.0]", "fractions.0: input should be greater than or equal to 0.000001"),
        ("fractions = [10]", "fractions.0: input should be less than or equal to 1"),
        ("[contexts]\nETTh3 = 96", "no data set 'ETTh3'; nearest: ETTh"),
        ("[transfer]\nEPF = ['ETTh3']", "no data set 'ETTh3'; nearest: ETTh"),
        ("[transfer]\nETTh1 = ['EPF']", "suite mine tests nothing that is trained on EPF; it has ETTh1"),
        ("[transfer]\nEPF = ['epf']", "transfer: EPF to itself"),
        ("tables = ['mian']", "tables.0: input should be 'main', 'full'"),
        ("tables = ['zero_shot']", "the table zero_shot needs a table [transfer]"),
        ("tables = ['main', 'losses']", "the table losses needs a [[variant]]"),
        ("[[variant]]\nmodels = ['dlinear']", "variant.0.title: field required"),
        (
            "[[variant]]\ntitle = 'v'\n[[variant]]\ntitle = 'v'\ntrain = { lr = 1.0 }",
            "two variants of dlinear are called 'v'",
        ),
        ("[[variant]]\ntitle = 'v'\nsweep = { kernel = [3, 5] }", "two variants of dlinear are called 'v'"),
        ("[[variant]]\ntitle = 'v'\nmodles = ['dlinear']", "variant.0.modles"),
        ("[[variant]]\ntitle = 'v'\nmodels = ['dlinaer']", "no model 'dlinaer'; nearest: dlinear"),
        ("[[variant]]\ntitle = 'v'\nbackbones = ['gpt3']", "no backbone 'gpt3'; nearest: gpt2"),
        (
            "[[variant]]\ntitle = 'v'\noptions = { kernle = 3 }",
            "variant v: no option of dlinear 'kernle'; nearest: kernel",
        ),
        ("[[variant]]\ntitle = 'v'\noptions = { kernel = 'wide' }", "variant v: option dlinear.kernel"),
        ("[[variant]]\ntitle = 'v'\ntrain = { lr = -1.0 }", "variant v: lr: input should be greater than 0"),
        ("[[variant]]\ntitle = 'v'\nsweep = { kernel = [3], width = [1] }", "variant v: sweep: one option at a time"),
        ("[[variant]]\ntitle = 'v {kernle}'\nsweep = { kernle = [3] }", "variant v 3: no option of dlinear 'kernle'"),
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


def test_a_suite_has_the_keys_of_its_base_where_it_is_silent(tmp_path: Path) -> None:
    found = mine(tmp_path, "base = 'quick'\nabout = 'Mine.'\nseeds = [7]")
    own = {"name": "mine", "title": "mine", "question": "", "about": "Mine.", "seeds": (7,)}
    assert found.model_dump() == load_suite("quick").model_dump() | own
    assert mine(tmp_path, "base = 'quick'\nabout = 'Mine.'\ntitle = 'Own'").title == "Own"


def test_what_is_true_of_a_base_is_not_taken_for_true_of_the_suite(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"mine\.toml: about: field required"):
        mine(tmp_path, "base = 'quick'")


def test_a_base_may_have_a_base(tmp_path: Path) -> None:
    mine(tmp_path, "base = 'quick'\nabout = 'Middle.'\nseeds = [7]", "middle")
    found = mine(tmp_path, f"base = '{tmp_path / 'middle.toml'}'\nabout = 'Mine.'\nhorizons = [24]")
    assert (found.seeds, found.horizons, found.datasets) == ((7,), (24,), ("EPF",))


@pytest.mark.parametrize("spelled", ["dlinear", "DLinear"])
def test_overrides_are_applied_after_those_of_the_base_and_only_to_their_own_model(
    tmp_path: Path, spelled: str
) -> None:
    settings = "train = { lr = 1.0 }\noptions = { kernel = 3 }"
    suite = mine(tmp_path, f"base = 'quick'\nabout = 'a'\n[override.{spelled}]\n{settings}")
    filters = Filters(horizons=(24,), seeds=(2021,))
    found, before = ({spec.model: spec for spec in plan(each, filters)} for each in (suite, load_suite("quick")))
    assert before["dlinear"].train.epochs == found["dlinear"].train.epochs == 3
    assert changes(found["dlinear"], before["dlinear"]) == {"lr": 1.0, "kernel": 3}
    assert all(found[model] == before[model] for model in found if model != "dlinear")


def test_an_override_comes_also_after_the_conditions_of_its_base(tmp_path: Path) -> None:
    text = "[override.calf_lite]\noptions = { output_weight = 0.5 }"
    suite = mine(tmp_path, f"base = 'few_shot'\nabout = 'a'\n{text}")
    (spec, _) = plan(suite, Filters(models=("calf_lite",), datasets=("ETTh1",), horizons=(96,), seeds=(2021,)))
    assert (spec.options["output_weight"], spec.options["feature_weight"]) == (0.5, 0.0)


@pytest.mark.parametrize("last", ["a", "b", "../{}/a", "./b"])
def test_suites_that_are_based_on_each_other_are_refused(tmp_path: Path, last: str) -> None:
    last = last.format(tmp_path.name)
    (tmp_path / "a.toml").write_text(f"base = '{tmp_path / 'b.toml'}'\nabout = 'a'")
    (tmp_path / "b.toml").write_text(f"base = '{last}.toml'\nabout = 'b'")
    with pytest.raises(BenchError, match=rf"b\.toml: base: \S*{last}\.toml is in turn based on this suite"):
        load_suite(str(tmp_path / "a.toml"))


def test_a_long_chain_of_bases_is_refused(tmp_path: Path) -> None:
    for number in range(1200):
        (tmp_path / f"s{number}.toml").write_text(f"base = 's{number + 1}.toml'\nabout = 'a'")
    with pytest.raises(BenchError, match=r"s0\.toml: base: more than 20 suites in a row"):
        load_suite(str(tmp_path / "s0.toml"))


def test_horizons_that_do_not_fit_are_named_and_a_filter_that_asks_for_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('base = "quick"\ntitle = "T"\nabout = "A."\ndatasets = ["EPF", "ILI"]\nhorizons = [24, 336]\n')
    suite = load_suite(str(file))
    assert {(each.spec.task.dataset, each.spec.task.horizon) for each in entries(suite)} == {
        ("EPF", 24), ("EPF", 336), ("ILI", 24),
    }  # fmt: skip
    assert left_out(suite, Filters()) == "left out, since a split holds no window of it: ILI 336"
    assert left_out(suite, Filters(datasets=("EPF",))) == left_out(load_suite("paper"), Filters()) == ""


def test_settings_of_a_model_of_ones_own_that_the_suite_lacks_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'base = "quick"\nabout = "A."\nmodels = ["mine:Net"]\n[override."mine:Nett"]\ntrain = { epochs = 1 }\n'
    )
    with pytest.raises(BenchError, match=r"override: no model mine:Nett in the suite; nearest: mine:Net\. Do: "):
        load_suite(str(file))


def test_settings_that_a_base_has_for_another_model_of_ones_own_stay(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(
        'base = "quick"\nabout = "A."\nmodels = ["mine:NetA", "mine:NetB"]\n'
        '[override."mine:NetB"]\ntrain = { epochs = 1 }\n'
    )
    (tmp_path / "mine.toml").write_text('base = "base.toml"\nabout = "B."\nmodels = ["mine:NetA"]\n')
    assert load_suite(str(tmp_path / "mine.toml")).models == ("mine:NetA",)


def test_look_backs_of_single_data_sets_come_before_that_of_the_suite() -> None:
    filters = Filters(models=("repeat_last",), seeds=(2021,))
    found = {spec.task.dataset: spec.task.context for spec in plan(load_suite("lookback_336"), filters)}
    assert found.pop("ILI") == 104
    assert len(found) == 8
    assert set(found.values()) == {336}


def test_shortest_is_the_shortest_horizon_of_each_card() -> None:
    found = {(spec.task.dataset, spec.task.horizon) for spec in plan(load_suite("layers"), Filters(seeds=(2021,)))}
    assert found == {*((name, 96) for name in ("ETTh1", "ETTh2", "ETTm1", "Weather", "Exchange")), ("ILI", 24)}
    with pytest.raises(BenchError, match=r"no horizon 192 in suite layers .* it has 24, 96"):
        plan(load_suite("layers"), Filters(horizons=(192,)))


def test_shares_of_the_windows_are_runs_of_their_own_and_the_whole_is_the_usual_run(tmp_path: Path) -> None:
    suite = mine(tmp_path, "base = 'few_shot'\nabout = 'a'\nfractions = [1.0, 0.1, 0.05, 0.1]")
    filters = Filters(models=("dlinear",), datasets=("ETTh1",), horizons=(96,), seeds=(2021,))
    found = entries(suite, filters)
    labels = ["dlinear ETTh1 h96 s2021", "dlinear ETTh1 10% h96 s2021", "dlinear ETTh1 5% h96 s2021"]
    assert [entry.label for entry in found] == labels
    keys = [entry.spec.key for entry in found]
    assert len(set(keys)) == 3
    assert keys[0] == plan(load_suite("paper"), filters)[0].key
    assert [changes(entry.spec, found[0].spec) for entry in found[1:]] == [
        {"train_fraction": 0.1},
        {"train_fraction": 0.05},
    ]


def test_few_shot_runs_of_calf_leave_out_its_consistency_losses_where_its_scripts_do() -> None:
    filters = Filters(models=("calf_lite",), datasets=("ETTh1", "Exchange"), horizons=(96,), seeds=(2021,))
    weights = {
        spec.task.dataset: (spec.options["output_weight"], spec.options["feature_weight"])
        for spec in plan(load_suite("few_shot"), filters)
    }
    assert weights == {"ETTh1": (0.0, 0.0), "Exchange": (1.0, 0.01)}


def test_zero_shot_pairs_are_the_papers_and_their_tasks_hold_the_card_of_every_target() -> None:
    specs = plan(load_suite("zero_shot"), Filters(models=("dlinear",), horizons=(96,), seeds=(2021,)))
    assert {spec.task.dataset: spec.task.test_on for spec in specs} == {
        "ETTh1": ("ETTh2", "ETTm2"),
        "ETTh2": ("ETTh1", "ETTm2"),
        "ETTm1": ("ETTh2", "ETTm2"),
        "ETTm2": ("ETTh2", "ETTm1"),
    }
    for spec in specs:
        concerned = (spec.task.dataset, *spec.task.test_on)
        assert spec.task.cards == {name: cards()[name].digest for name in concerned}


def test_a_data_set_that_nothing_is_transferred_from_is_refused() -> None:
    with pytest.raises(BenchError, match="zero_shot tests nothing that is trained on ILI; it has ETTh1, ETTh2, ETTm1"):
        plan(load_suite("zero_shot"), Filters(datasets=("ILI",)))


def test_the_first_ablation_is_the_papers_run_and_every_other_changes_what_its_title_says() -> None:
    found, papers = one_each("ablation"), one_each("paper")
    ablated = ("logo_llm", "time_llm_lite", "calf_lite")
    for model in ablated:
        assert next(variant for who, variant in found if who == model) == "full"
        assert found[model, "full"].key == papers[model, ""].key
    changed = {who: changes(spec, found[who[0], "full"]) for who, spec in found.items() if who[1] != "full"}
    assert changed == {
        ("logo_llm", "without Local-Mixer"): {"mixers": "global"},
        ("logo_llm", "without Global-Mixer"): {"mixers": "local"},
        ("logo_llm", "last layer only"): {"mixers": "none"},
        ("logo_llm", "taps exchanged"): {"local_tap": 12, "global_tap": 5},
        **{(model, "random backbone"): {"backbone": "gpt2-random"} for model in ablated},
        **{(model, "no backbone"): {"reader": "nothing"} for model in ablated},
        **{(model, "one attention layer"): {"reader": "attention"} for model in ablated},
    }


def test_variants_follow_the_shape_of_the_language_model_and_its_random_twin_keeps_blocks_and_taps() -> None:
    found = one_each("ablation", "smollm2-135m")
    full = found["logo_llm", "full"]
    assert changes(found["logo_llm", "taps exchanged"], full) == {"local_tap": 6, "global_tap": 2}
    assert changes(found["logo_llm", "random backbone"], full) == {"backbone": "smollm2-135m-random"}
    random = found["logo_llm", "random backbone"].options
    assert [random[name] for name in ("blocks", "local_tap", "global_tap")] == [6, 2, 6]


def test_layers_are_read_at_every_tap_and_cut_at_every_depth_with_all_else_as_usual() -> None:
    found = {variant: spec for (_, variant), spec in one_each("taps").items()}
    usual = found["pretrained"]
    expected = {"pretrained": {}, "random": {"backbone": "gpt2-random"}}
    for tap in (0, 1, 2, 3, 7, 9, 11, 12):
        expected[f"local tap {tap}"] = {"local_tap": tap, "probe": False}
    for blocks in (5, 7, 9, 11):
        expected[f"{blocks} blocks"] = {"blocks": blocks, "global_tap": blocks, "probe": False}
    assert {variant: changes(spec, usual) for variant, spec in found.items()} == expected
    assert list(found) == list(expected)
    assert [variant for _, variant in one_each("taps", "smollm2-135m")][2:] == [
        *(f"local tap {tap}" for tap in (0, 1, 3, 4, 5, 6)),
        *(f"{blocks} blocks" for blocks in (2, 3, 4, 5)),
    ]


def test_probes_are_part_of_the_key_and_change_nothing_else() -> None:
    found, usual = one_each("taps"), one_each("paper")["logo_llm", ""]
    assert {variant for (_, variant), spec in found.items() if spec.task.probe} == {
        "pretrained",
        "random",
    }
    probed = found["logo_llm", "pretrained"]
    assert changes(probed, usual) == {"probe": "training"}
    assert probed.key != usual.key


def test_layers_are_probed_through_the_whole_language_model_and_train_nothing() -> None:
    for backbone, blocks in (("gpt2", 12), ("smollm2-135m", 30)):
        found = one_each("layers", backbone)
        assert [variant for _, variant in found] == ["pretrained", "random"]
        assert {spec.task.probe for spec in found.values()} == {"states"}
        assert {spec.options["blocks"] for spec in found.values()} == {blocks}
        assert [spec.backbone for spec in found.values()] == [backbone, f"{backbone}-random"]


def test_under_one_loss_for_all_nothing_but_the_loss_of_a_model_changes() -> None:
    found, papers = one_each("losses"), one_each("paper")
    for (model, variant), spec in found.items():
        loss = {"MSE": "mse", "L1": "l1"}[variant]
        usual = papers[model, ""]
        assert changes(spec, usual) == ({} if usual.train.loss == loss else {"loss": loss})
    assert len(found) == 2 * 6


def test_a_model_that_no_variant_names_is_run_as_it_is(tmp_path: Path) -> None:
    text = "[[variant]]\ntitle = '{width} wide'\nmodels = ['PatchTST']\nsweep = { width = [16, 32] }"
    suite = mine(tmp_path, f"base = 'quick'\nabout = 'a'\nmodels = ['dlinear', 'patchtst']\n{text}")
    found = entries(suite, Filters(horizons=(24,), seeds=(2021,)))
    assert [entry.who for entry in found] == ["dlinear", "patchtst (16 wide)", "patchtst (32 wide)"]
    assert [entry.spec.options["width"] for entry in found[1:]] == [16, 32]


def test_variants_that_are_the_same_run_are_both_in_the_table_and_planned_once(tmp_path: Path) -> None:
    suite = mine(tmp_path, "base = 'quick'\nabout = 'a'\n[[variant]]\ntitle = 'x'\n[[variant]]\ntitle = 'y'")
    specs = plan(suite)
    assert len({spec.key for spec in specs}) == len(specs) == len(entries(suite)) / 2


@pytest.mark.parametrize(
    ("text", "backbone", "said"),
    [
        ("[[variant]]\ntitle = 'x'\nrandom = true", "gpt2-random", "gpt2-random is one. Do: take gpt2"),
        ("[[variant]]\ntitle = 'x'\nbackbones = ['gpt2']", "smollm2-135m", "is for the backbone smollm2-135m"),
        ("[[variant]]\ntitle = 'x'\nprobe = 'states'", "gpt2", "probe: only logo_llm has a state"),
        ("[[variant]]\ntitle = 'x'\nsweep = { width = [] }", "gpt2", "at least 1 item"),
    ],
)
def test_a_variant_that_cannot_be_run_is_refused_when_planned(
    tmp_path: Path, text: str, backbone: str, said: str
) -> None:
    with pytest.raises(BenchError) as caught:
        plan(mine(tmp_path, f"base = 'quick'\nabout = 'a'\n{text}"), Filters(backbone=backbone))
    assert said in str(caught.value)


def test_a_suites_own_override_of_all_comes_after_its_base(tmp_path: Path) -> None:
    own = "[override.all]\ntrain = { max_steps = 5, lr = 1.0 }\n[override.logo_llm]\ntrain = { lr = 2.0 }"
    for spec in plan(mine(tmp_path, f"base = 'quick'\nabout = 'a'\n{own}")):
        assert spec.train.max_steps == 5
        assert spec.train.lr == (2.0 if spec.model == "logo_llm" else 1.0)


def test_a_base_in_a_file_is_found_beside_the_suite_that_names_it_and_does_not_lend_its_name(tmp_path: Path) -> None:
    (tmp_path / "first.toml").write_text("base = 'quick'\nname = 'lent'\nabout = 'a'\nseeds = [7]")
    suite = mine(tmp_path, "base = 'first.toml'\nabout = 'b'")
    assert (suite.seeds, suite.name) == ((7,), "mine")


def test_a_suite_of_ones_own_is_not_named_as_one_of_the_project(tmp_path: Path) -> None:
    path = tmp_path / "paper.toml"
    path.write_text('base = "quick"\nabout = "Mine."\n')
    with pytest.raises(BenchError, match=r"name: 'paper' is a suite of the project\. Do: give this one another name"):
        load_suite(str(path))
    path.write_text('base = "quick"\nabout = "Mine."\nname = "mine"\n')
    assert load_suite(str(path)).name == "mine"


def test_horizons_that_a_data_set_cannot_hold_are_left_out_unless_they_are_asked_for(
    make_card: Callable[..., DatasetCard], monkeypatch: pytest.MonkeyPatch
) -> None:
    card = make_card(waves(300, 2)).model_copy(update={"horizons": (8, 24, 96)})  # its val split has 60 rows
    monkeypatch.setitem(cards(), card.name, card)
    quick = load_suite("quick")
    horizons = {spec.task.horizon for spec in plan(quick, Filters(datasets=(card.name,), models=("dlinear",)))}
    assert horizons == {8, 24}, "those of its card, as it is none of the suite's"
    asked = plan(quick, Filters(datasets=(card.name,), models=("dlinear",), horizons=(96,)))
    assert {spec.task.horizon for spec in asked} == {96}
