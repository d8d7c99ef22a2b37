"""Whatever a file holds: a result, or one line that names it. Never a traceback, never code, never a path elsewhere."""

from __future__ import annotations

import ast
import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.core.base import ROOT, BenchError, parse
from bench.core.card import CARDS, DatasetCard
from bench.core.record import RunResult
from bench.core.store import Store
from bench.plan import registry
from bench.plan.settings import SUITES
from bench.plan.suite import load_suite, plan
from models.llm_files import BackboneError
from tests.builders import done, make_spec, waves

NASTY = (
    "", "0", "-1", "1e400", "nan", "inf", "true", '""', "[]", "{}", "[[[", '"\\u0000"', "'../../x'", "9" * 20,
    '["os:system"]', "\ufeff", "\x00", "=", "\n", "# ", '"é\u2028"', "[override.all]\n", "1979-05-27", "0.5", "'''",
)  # fmt: skip
Edits = list[tuple[float, int, str]]
EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), st.sampled_from(NASTY)), min_size=1, max_size=4)
FUZZ = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))


def edited(text: str, edits: Edits) -> str:
    """Pieces of the text replaced: where (as a share of it), how many characters, by what."""
    for where, length, by in edits:
        at = int(where * len(text))
        text = text[:at] + by + text[at + length :]
    return text


def one_line(action: Callable[[], object]) -> None:
    try:
        action()
    except (BenchError, BackboneError) as error:
        assert " ".join(str(error).split()), "an error that says nothing"


@FUZZ
@given(name=st.sampled_from(["quick", "ablation", "zero_shot", "losses"]), edits=EDITS)
def test_a_damaged_suite_is_planned_or_refused(
    name: str, edits: Edits, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.toml"
    text = edited((SUITES / f"{name}.toml").read_text(), edits)
    path.write_bytes(text.encode())
    one_line(lambda: plan(load_suite(str(path))))


@FUZZ
@given(name=st.sampled_from(["ETTh1", "EPF", "Weather"]), edits=EDITS)
def test_a_damaged_card_is_a_card_or_refused(name: str, edits: Edits) -> None:
    try:
        values = tomllib.loads(edited((CARDS / f"{name}.toml").read_text(), edits))
    except tomllib.TOMLDecodeError:
        return
    one_line(lambda: parse(DatasetCard, values, name).bounds())


@FUZZ
@given(edits=EDITS)
def test_a_damaged_record_is_this_run_or_refused(edits: Edits, record: tuple[Store, RunResult]) -> None:
    store, result = record
    path = store.root / result.spec.path
    path.write_bytes(edited(result.model_dump_json(indent=1), edits).encode())
    try:
        found = store.get(result.spec)
    except BenchError as error:
        assert str(path) in str(error)
        assert "move it away and run again" in str(error)
    else:
        assert found is not None
        assert found.spec == result.spec


@pytest.fixture
def record(tmp_path: Path, make_card: Callable[..., DatasetCard]) -> tuple[Store, RunResult]:
    card = make_card(waves(120, 3))
    store, result = Store(tmp_path / "results"), done(make_spec(card), card)
    store.put(result)
    return store, result


@pytest.mark.parametrize("name", ["subprocess:Popen", "http.server:HTTPServer", "pathlib:Path"])
def test_only_a_model_is_built_from_a_name(name: str) -> None:
    """A suite file may name any module that Python finds; nothing of it is called unless it is a torch module."""
    with pytest.raises(BenchError, match=r"is no torch\.nn\.Module"):
        registry.load(name)


def test_a_record_cannot_lead_out_of_the_results_directory(record: tuple[Store, RunResult]) -> None:
    """Paths come from planned runs, whose data sets have cards; what a file says of itself is not followed."""
    store, result = record
    path = store.root / result.spec.path
    values = json.loads(path.read_text())
    values["spec"]["task"]["dataset"] = "../../elsewhere"
    path.write_text(json.dumps(values))
    with pytest.raises(BenchError, match="holds the record of another run"):
        store.get(result.spec)


def test_nothing_in_the_project_unpickles_or_evaluates_what_a_file_says() -> None:
    forbidden = {"pickle", "marshal", "shelve", "joblib", "dill", "eval", "exec", "load_pickle", "read_pickle"}
    for path in (*(ROOT / "bench").glob("*.py"), *(ROOT / "models").glob("*.py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) != "torch.load", f"{path.name}:{node.lineno}: take safetensors"
                assert not any(word.arg == "allow_pickle" for word in node.keywords), f"{path.name}:{node.lineno}"
                names += [node.func.id] if isinstance(node.func, ast.Name) else []
            assert not forbidden & {name.partition(".")[0] for name in names}, f"{path.name}:{node.lineno}"
