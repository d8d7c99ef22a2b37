"""Records: whole or absent, and only ever the run they name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bench.execute import run_one
from bench.spec import BenchError, DatasetCard, RunResult
from bench.store import Store
from tests.conftest import make_spec, waves


@pytest.fixture
def result(make_card: Callable[..., DatasetCard], cpu: torch.device) -> RunResult:
    return run_one(make_spec(make_card(waves(260, 3)), "repeat_last"), cpu, lambda _: None)


def test_a_record_reads_back_as_it_was_written(tmp_path: Path, result: RunResult) -> None:
    store = Store(tmp_path / "results")
    assert store.status(result.spec) == "missing"
    path = store.put(result)
    assert path == tmp_path / "results" / "Waves" / "h8" / "repeat_last" / f"s1-{result.spec.key[:8]}.json"
    assert store.get(result.spec) == result
    assert store.status(result.spec) == "done"


def test_a_write_that_breaks_off_leaves_the_old_record_and_no_rubbish(
    tmp_path: Path, result: RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "results")
    path = store.put(result)
    before = path.read_bytes()
    failed = RunResult(spec=result.spec, status="failed", where=result.where, error="x")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(BenchError, match=r"cannot be written: .*No space left on device; free the disk"):
        store.put(failed)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_torn_or_foreign_record_is_refused_by_name(tmp_path: Path, result: RunResult) -> None:
    store = Store(tmp_path)
    path = store.put(result)
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(BenchError, match=f"{path}: the whole of it: invalid JSON"):
        store.get(result.spec)
    path.write_text(text.replace('"seed": 1', '"seed": 2'))
    with pytest.raises(BenchError, match="holds the record of another run"):
        store.get(result.spec)


def test_records_of_another_protocol_count_as_missing(tmp_path: Path, result: RunResult) -> None:
    store = Store(tmp_path)
    older = result.spec.model_copy(update={"protocol": 0})
    store.put(result.model_copy(update={"spec": older}))
    assert store.status(result.spec) == "missing"


def test_a_directory_that_cannot_be_written_is_found_out_before_any_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchError, match=r"results directory .*file/results: cannot be written"):
        Store(tmp_path / "file" / "results").check_writable()
