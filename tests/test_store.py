"""Records: whole or absent, and only ever the run they name."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bench.core.base import BenchError
from bench.core.card import DatasetCard
from bench.core.record import RunResult
from bench.core.store import WORK, Store
from bench.train.execute import run_one
from tests.builders import make_spec, waves


@pytest.fixture
def result(make_card: Callable[..., DatasetCard], cpu: torch.device) -> RunResult:
    return run_one(make_spec(make_card(waves(260, 3)), "repeat_last"), cpu)


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
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(BenchError, match=r"cannot be written: .*No space left on device\. Do: free the disk"):
        store.put(failed)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert list((store.root / WORK).iterdir()) == []


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
        Store(tmp_path / "file" / "results").open()


def test_a_record_that_finds_no_room_is_kept_elsewhere(
    tmp_path: Path, result: RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = Store(tmp_path / "results")
    store.open()
    (tmp_path / "results").rename(tmp_path / "unmounted")
    (tmp_path / "results").mkdir()
    with pytest.raises(
        BenchError, match=r"not the directory any more .*; the record is kept as (.*\.json)$"
    ) as refusal:
        store.put(result)
    assert list((tmp_path / "results").iterdir()) == [], "nothing is written where a mount has gone"
    kept = Path(str(refusal.value).rpartition("kept as ")[2])
    assert kept.parent == tmp_path
    assert RunResult.model_validate_json(kept.read_text()) == result


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"spec": {"protocol": 0}}, "is a record of protocol 0; this is protocol 1"),
        ({"where": {"data_sha256": {"Waves": "0" * 64}}}, "its data of Waves have SHA-256 '00000000', the card says"),
        ({"where": {"data_sha256": {}}}, "its data of Waves have SHA-256 ''"),
        ({"evaluations": []}, "has no errors on Waves"),
    ],
)
def test_a_foreign_record_is_refused_by_name_and_never_averaged_in(
    tmp_path: Path, result: RunResult, change: dict, said: str
) -> None:
    store = Store(tmp_path)
    path = store.put(result)
    values = json.loads(path.read_text())
    for part, fields in change.items():
        values[part] = {**values[part], **fields} if isinstance(fields, dict) else fields
    path.write_text(json.dumps(values))
    with pytest.raises(BenchError, match=re.escape(said)) as refusal:
        store.get(result.spec)
    assert str(path) in str(refusal.value)
    assert "move it away and run again" in str(refusal.value)


def test_weights_that_this_code_does_not_know_make_a_record_foreign(
    tmp_path: Path, make_card: Callable[..., DatasetCard], cpu: torch.device
) -> None:
    store = Store(tmp_path)
    result = run_one(make_spec(make_card(waves(120, 3)), "logo_llm", max_steps=1), cpu)
    store.put(result)
    assert store.get(result.spec) == result
    store.put(result.model_copy(update={"where": result.where.model_copy(update={"backbone_sha256": "1" * 64})}))
    with pytest.raises(BenchError, match="its weights of gpt2-random are other ones"):
        store.get(result.spec)


CLAIM = """
import sys
from pathlib import Path
from bench.core.record import RunResult
from bench.core.store import Store

spec = RunResult.model_validate_json(Path(sys.argv[2]).read_text()).spec
store = Store(Path(sys.argv[1]))
store.open()
print(store.claim(spec), flush=True)
sys.stdin.read()
"""


def test_a_claim_holds_against_other_processes_and_ends_with_its_own(tmp_path: Path, result: RunResult) -> None:
    """The other process gets it neither while it is held here nor keeps it when it is killed."""
    store = Store(tmp_path / "results")
    path = store.put(result)
    store.open()
    other = result.spec.model_copy(update={"seed": 2})

    def ask() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", CLAIM, str(store.root), str(path)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    assert store.claim(result.spec)
    with ask() as asked:
        assert asked.communicate()[0] == "False\n"
    store.release(result.spec)
    with ask() as asked:
        assert asked.stdout is not None
        assert asked.stdout.readline() == "True\n"
        assert not store.claim(result.spec)
        assert store.claim(other), "another run is free"
        asked.kill()
    assert store.claim(result.spec)
    store.close()
