"""The identity of a run: every field counts, order does not."""

from __future__ import annotations

from typing import Any

import pytest

from bench.core.base import BenchError, nearest, parse
from bench.core.card import DatasetCard, cards
from bench.core.record import RunResult
from bench.core.spec import RunSpec, Task, TrainConfig
from bench.plan.suite import Suite

SPEC = RunSpec(
    task=Task(dataset="ETTh1", context=96, horizon=96, cards={"ETTh1": "abc"}),
    model="dlinear",
    options={"kernel": 25},
    train=TrainConfig(epochs=10, batch=32, lr=1e-3),
    seed=2021,
)
OTHER: dict[str, Any] = {
    "task.dataset": "ETTh2",
    "task.context": 36,
    "task.horizon": 192,
    "task.train_fraction": 0.1,
    "task.test_on": ["ETTm1"],
    "task.probe": "states",
    "task.cards": {"ETTh1": "abd"},
    "model": "patchtst",
    "options": {"kernel": 24},
    "train.epochs": 9,
    "train.batch": 31,
    "train.lr": 2e-3,
    "train.schedule": "halve",
    "train.period": 11,
    "train.rise": 0.2,
    "train.loss": "l1",
    "train.patience": 4,
    "train.clip": 1.0,
    "train.precision": "bf16",
    "train.max_steps": 5,
    "seed": 2022,
    "code": "f" * 64,
    "protocol": 0,
}


def _fields(kind: type, prefix: str = "") -> set[str]:
    return {prefix + name for name in kind.model_fields}


def test_the_table_below_flips_every_field_of_a_spec() -> None:
    everything = _fields(RunSpec) - {"task", "train"} | _fields(Task, "task.") | _fields(TrainConfig, "train.")
    assert set(OTHER) == everything


@pytest.mark.parametrize("field", OTHER)
def test_every_field_changes_the_key_and_the_path_of_the_record(field: str) -> None:
    values = SPEC.model_dump(mode="json")
    *outer, last = field.split(".")
    table = values
    for name in outer:
        table = table[name]
    assert table[last] != OTHER[field]
    table[last] = OTHER[field]
    changed = RunSpec.model_validate(values)
    assert changed.key != SPEC.key
    assert changed.path != SPEC.path


def test_the_order_of_fields_and_the_way_a_number_is_written_do_not_change_the_key() -> None:
    values = SPEC.model_dump(mode="json")
    reordered = dict(reversed(values.items())) | {"train": dict(reversed(values["train"].items()))}
    assert RunSpec.model_validate(reordered).key == SPEC.key
    values["train"]["lr"] = "0.001"
    assert RunSpec.model_validate(values).key == SPEC.key


def test_a_key_stays_what_it_was() -> None:
    """Changing how keys are made orphans every published result: raise PROTOCOL and this value knowingly."""
    assert SPEC.key[:8] == "4957eb40"
    assert str(SPEC.path) == f"ETTh1/h96/dlinear/s2021-{SPEC.key[:8]}.json"


def test_a_users_model_becomes_one_plain_folder_name() -> None:
    own = SPEC.model_copy(update={"model": "mine.net:Net"})
    assert own.path.parts[2] == "mine.net.Net"
    named = [own.model_copy(update={"options": {"backbone": name}}).backbone for name in ("gpt2", "resnet18")]
    assert named == ["gpt2", None], "an option of that name may be another thing's"
    for hostile in ("../x:Y", "a/b:C", "a:b:c", ""):
        with pytest.raises(BenchError):
            parse(RunSpec, SPEC.model_dump() | {"model": hostile}, "test")


def test_unknown_fields_are_refused_with_the_nearest_name() -> None:
    with pytest.raises(BenchError, match=r"place: no key 'epoch'; nearest: epochs"):
        parse(TrainConfig, {"epoch": 1, "batch": 1, "lr": 1}, "place")
    with pytest.raises(BenchError, match=r"place: lr: input should be greater than 0, got '-1'"):
        parse(TrainConfig, {"epochs": 1, "batch": 1, "lr": -1}, "place")


def test_a_place_is_named_as_the_file_has_it_without_the_names_of_types() -> None:
    """A type that is one of several, or a text's pattern, adds names of its own to the path that pydantic gives."""
    suite = {"name": "a", "title": "t", "about": "a", "models": ["dlinear"], "datasets": ["EPF"], "seeds": [1]}
    suite |= {"backbone": "gpt2"}
    for change, said in (
        ({"horizons": [0]}, "horizons.0: input should be greater than 0, got '0'"),
        ({"horizons": "longest"}, "horizons: input should be a valid tuple, got 'longest'"),
        ({"context": 1e8}, "context: input should be less than or equal to 1000000"),
        ({"variant": [{"title": "v", "sweep": {"kernel": [[1]]}}]}, "variant.0.sweep.kernel.0: input should be"),
        ({"override": [{"dlinear": {"options": {"a": {}}}}]}, "override.0.dlinear.options.a: input should be"),
        ({"override": [{"all": {"when": [{"horizons": [0]}]}}]}, "override.0.all.when.0.horizons.0: input should be"),
        ({"override": [{"all": {"when": [{"trian": {}}]}}]}, "override.0.all.when.0.trian: extra inputs"),
        ({"variant": [{}]}, "variant.0.title: field required"),
        ({"tuned": {"int": 3}}, "tuned"),
    ):
        with pytest.raises(BenchError) as refusal:
            parse(Suite, suite | change, "place")
        assert str(refusal.value).startswith(f"place: {said}")
    card = cards()["EPF"].model_dump() | {"channels": [1]}
    with pytest.raises(BenchError, match=r"^place: channels: input should be|^place: channels\.0: input should be"):
        parse(DatasetCard, card, "place")
    with pytest.raises(BenchError, match=r"^place: task\.probe: input should be False"):
        parse(RunSpec, SPEC.model_dump_json().replace('"probe":false', '"probe":3'), "place")


def test_nearest_lists_everything_where_nothing_is_close() -> None:
    assert nearest("PATCHTSt", ["patchtst", "dlinear"]) == "nearest: patchtst"
    assert nearest("qqq", ["patchtst", "dlinear"]) == "known: patchtst, dlinear"


def test_records_refuse_numbers_that_are_none() -> None:
    with pytest.raises(ValueError, match="finite"):
        RunResult.model_validate(
            {
                "spec": SPEC,
                "status": "done",
                "evaluations": [{"dataset": "a", "mse": float("nan"), "mae": 1, "windows": 1}],
            }
        )


def test_a_copy_with_another_seed_has_a_key_of_its_own() -> None:
    """model_copy copies what a model has cached: the key must not be."""
    assert SPEC.key != SPEC.model_copy(update={"seed": SPEC.seed + 1}).key
