"""Whatever a file holds: a result, or one line that names it. Never a traceback, never code, never a path elsewhere."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.core.base import ROOT, BenchError
from bench.core.card import DatasetCard
from bench.core.record import RunResult
from bench.core.store import Store
from bench.plan import registry
from tests.builders import done, make_spec, waves


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
    for path in (*(ROOT / "bench").rglob("*.py"), *(ROOT / "models").rglob("*.py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) != "torch.load", f"{path.name}:{node.lineno}: take safetensors"
                assert not any(word.arg == "allow_pickle" for word in node.keywords), f"{path.name}:{node.lineno}"
                names += [node.func.id] if isinstance(node.func, ast.Name) else []
            assert not forbidden & {name.partition(".")[0] for name in names}, f"{path.name}:{node.lineno}"
