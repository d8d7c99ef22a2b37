"""Records: whole or absent, and only ever the run they name."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bench.core.base import BenchError
from bench.core.card import DatasetCard
from bench.core.reading import LARGEST, UnusableRecord
from bench.core.record import RunResult
from bench.core.store import WORK, Store
from bench.plan.estimate import records_of
from bench.train.execute import run_one
from tests.builders import done, make_spec, waves


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
        ({"where": {"data_sha256": {}}}, "names other data than its task"),
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


def fifo(path: Path) -> None:
    os.mkfifo(path)


def socket_(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.path.relpath(path))


def loop_of_links(path: Path) -> None:
    path.symlink_to(path.name)


def link_out(path: Path) -> None:
    secret = path.parents[5] / "secret.txt"
    secret.write_text("a secret")
    path.symlink_to(secret)


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(LARGEST + 1)


NO_FILES = {
    fifo: "is not a regular file",
    Path.mkdir: "is not a regular file",
    socket_: "is not a regular file",
    loop_of_links: "cannot be read",
    link_out: "is a link out of the results directory",
    huge: "is larger than 32 MiB",
}


@pytest.mark.parametrize("make", NO_FILES, ids=lambda make: make.__name__)
def test_what_is_no_regular_file_is_refused_at_once_and_without_its_content(
    make: Callable[[Path], None], tmp_path: Path, result: RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path may not be long
    store = Store(tmp_path / "deep" / "results")
    path = store.put(result)
    path.unlink()
    make(path)
    with pytest.raises(UnusableRecord, match=NO_FILES[make]) as refusal:
        store.get(result.spec)
    assert str(path) in str(refusal.value) and "secret" not in refusal.value.reason
    assert records_of(store.root, ["repeat_last"]) == []


def test_a_link_within_the_results_directory_is_followed(tmp_path: Path, result: RunResult) -> None:
    store = Store(tmp_path / "results")
    path = store.put(result)
    path.rename(tmp_path / "results" / "elsewhere.json")
    path.symlink_to(tmp_path / "results" / "elsewhere.json")
    assert store.get(result.spec) == result
    (tmp_path / "link").symlink_to(tmp_path / "results")
    assert Store(tmp_path / "link").get(result.spec) == result


@pytest.fixture(scope="module")
def made() -> dict[str, RunResult]:
    """Return kind -> record of a run, for all tests: each kind is trained once."""
    return {}


@pytest.fixture
def make_run(
    made: dict[str, RunResult], slim_backbones: None, make_card: Callable[..., DatasetCard], cpu: torch.device
) -> Callable[[str], RunResult]:
    """Return a function that makes a run of this kind, unless it was made before, and returns its record."""

    def make(kind: str) -> RunResult:
        card = make_card(waves(260, 3))
        if kind not in made:
            made[kind] = run(kind, card)
        return made[kind]

    def run(kind: str, card: DatasetCard) -> RunResult:
        spec = make_spec(card, {"untrained": "repeat_last", "probed": "logo_llm"}.get(kind, "dlinear"))
        if kind == "probed":
            spec = spec.model_copy(update={"task": spec.task.model_copy(update={"probe": "states"})})
        if kind == "stopped":  # after a first epoch that none improves on
            spec = make_spec(card, "dlinear", lr=100.0, epochs=10, patience=2)
        if kind == "own":
            spec = spec.model_copy(update={"model": "models.baselines:DLinear", "code": "0" * 64})
        result = run_one(spec, cpu) if kind not in ("failed", "own") else done(spec, card)
        if kind == "failed":
            return RunResult(spec=spec, status="failed", where=result.where, error="x")
        assert (result.status, bool(result.curve)) == ("done", kind not in ("untrained", "probed"))
        return result

    return make


LAYER = {"block": 0, "normed": False, "stage": "untrained", "local_r2": 0, "trend_r2": 0}
LAYER |= {"local_share": 0, "trend_share": 0, "slow_power": 0}
IMPOSSIBLE: list[tuple[str, object, str]] = [
    ("evaluations.0.mse", -0.1, "evaluations.0.mse: input should be greater than or equal to 0"),
    ("evaluations.0.mse", True, "evaluations.0.mse: input should be a valid number"),
    ("evaluations.0.mse", "0.385", "evaluations.0.mse: input should be a valid number"),
    ("evaluations.0.mse", 1e308, "evaluations.0.mse: input should be less than or equal to"),
    ("evaluations.0.mae", 1e6, "has errors of a mean beyond its root mean square"),
    ("evaluations.0.windows", 1, "has errors over another number of windows than the test part holds"),
    ("evaluations.0.windows", -5, "evaluations.0.windows: input should be greater than 0"),
    ("evaluations.0.windows", 45.0, "evaluations.0.windows: input should be a valid integer"),
    ("evaluations.0.channels", [[1.0, 1.0]], "has errors of another number of channels than the data"),
    ("evaluations.0.channels.0.0", 0.001, "has errors of a mean beyond its root mean square"),
    ("evaluations.0.channels.2.0", 3.0, "has errors that are not the means of its channels'"),
    ("evaluations.0.mse", 1e9, "has errors whose squares are larger than their sum allows"),
    ("evaluations.0.mse", 1.9, "has errors that are not the means of its channels'"),
    ("evaluations.0.mae", 0.5, "has errors that are not the means of its channels'"),
    ("best_epoch", 999, "has another best epoch than its curve"),
    ("best_epoch", 1, "has another best epoch than its curve"),
    ("best_epoch", None, "has another best epoch than its curve"),
    ("best_epoch", 0, "best_epoch: input should be greater than 0"),
    ("curve", [], "has steps or a speed without a curve, or the reverse"),
    ("curve.0.val_loss", 1e300, "curve.0.val_loss: input should be less than or equal to"),
    ("curve.0.val_loss", -1.0, "curve.0.val_loss: input should be greater than or equal to 0"),
    ("curve.0.train_loss", 1e300, "curve.0.train_loss: input should be less than or equal to"),
    ("curve.0.train_loss", -3.0, "has a negative loss"),
    ("where.date", "1800-01-01T00:00:00+00:00", "where.date: must be a time such as 2026-01-01T00:00:00+00:00"),
    ("curve.0.val_loss", 1e-9, "has another best epoch than its curve"),
    ("curve.1.lr", 1.0, "has other learning rates than its schedule"),
    ("curve.1.seconds", 100.0, "has another time of training than its epochs"),
    ("curve.1.seconds", 0.0, "curve.1.seconds: input should be greater than 0"),
    ("curve.0.epoch", 2, "has a curve whose epochs are not counted"),
    ("spec.train.epochs", 1, "holds the record of another run"),
    ("cost", None, "is done without a cost"),
    ("cost.trainable", 10**9, "trains more than it has"),
    ("cost.trainable", 0, "has the size of a model that trains where its own does not, or the reverse"),
    ("cost.flops", 0, "has the size of a model that trains where its own does not, or the reverse"),
    ("cost.steps", 0, "has steps or a speed without a curve, or the reverse"),
    ("cost.steps", 1, "has other steps than its epochs"),
    ("cost.samples_per_s", None, "has steps or a speed without a curve, or the reverse"),
    ("cost.samples_per_s", 1e-3, "trained more slowly than its epochs"),
    ("cost.micro_batch", 17, "has larger micro-batches than batches"),
    ("cost.train_s", 1e6, "has another time of training than its epochs"),
    ("cost.total_s", 1e-6, "took less time than training and test"),
    ("cost.infer_ms", 1e6, "took less time than training and test"),
    ("cost.infer_ms", None, "has a time per tested window without one, or the reverse"),
    ("cost.peak_mb", 0.0, "cost.peak_mb: input should be greater than 0"),
    ("cost.steps", -1, "cost.steps: input should be greater than or equal to 0"),
    ("sample.forecast", [0.0], "has a sample of another length"),
    ("sample.past", [0.0] * 31, "has a sample of another length"),
    ("sample.window", 0, "has a sample of another window or channel than the rule chooses"),
    ("sample.window", 10**6, "has a sample of another window or channel than the rule chooses"),
    ("sample.channel", 3, "has a sample of another window or channel than the rule chooses"),
    ("sample.forecast.0", 1e9, "has a sample that its errors rule out"),
    ("sample.past.0", 1e300, "sample.past.0: input should be less than or equal to"),
    ("layers", [LAYER], "does not hold the probes that it was to make"),
    ("status", "failed", "is failed without a reason"),
    ("error", "none", "is done and has a reason for a failure"),
    ("error", "", "error: string should match pattern"),
    ("traceback", "none", "is done and has a reason for a failure"),
    ("evaluations", [], "has no errors on Waves"),
    ("where.threads", 0, "where.threads: input should be greater than 0"),
    ("where.date", "yesterday", "where.date: must be a time such as 2026-01-01T00:00:00+00:00"),
    ("where.date", "2026-02-30T00:00:00+00:00", "where.date: "),
    ("where.date", "9" * 1_000_000, "where.date: string should have at most 25 characters"),
    ("where.git", "main", "where.git: string should match pattern"),
    ("where.git", None, "has a commit without its state, or the reverse"),
    ("where.versions", {}, "names other versions than those of a run"),
    ("where.versions.torch", " ", "where.versions.torch: string should match pattern"),
    ("where.device", "", "where.device: string should match pattern"),
    ("where.device", "x" * 1_000_000, "where.device: string should have at most 300 characters"),
    ("where.data_sha256.Waves", "x", "where.data_sha256.Waves: string should match pattern"),
    ("where.data_sha256.ETTh1", "0" * 64, "names other data than its task"),
    ("where.backbone_sha256", "gpt2", "where.backbone_sha256: string should match pattern"),
    ("where.backbone_sha256", "0" * 64, "names weights of a language model that it does not read"),
    ("where.resumed", ["CPU"], "where.resumed.0: string should match pattern"),
    ("where.resumed", ["CPU, 1 thread"] * 2, "names a machine of its earlier parts twice"),
]


def without_last(values: dict) -> list:
    """Take the last epoch away, and its share of all that is counted."""
    return with_epochs(values, values["curve"][:-1])


def with_another(values: dict) -> list:
    """Add an epoch, and its share of all that is counted."""
    return with_epochs(values, [*values["curve"], values["curve"][-1] | {"epoch": len(values["curve"]) + 1}])


def with_epochs(values: dict, curve: list[dict]) -> list[dict]:
    cost = values["cost"]
    cost["steps"] = cost["steps"] // len(values["curve"]) * len(curve)
    cost["train_s"] = sum(each["seconds"] for each in curve)
    cost["total_s"] += cost["train_s"]
    return curve


EPOCH = {"epoch": 1, "train_loss": 1.0, "val_loss": 1.0, "lr": 1e-3, "seconds": 0.1}
IMPOSSIBLE_OF_OTHERS: list[tuple[str, str, object, str]] = [
    ("untrained", "curve", [EPOCH], "has steps or a speed without a curve, or the reverse"),
    ("untrained", "cost.trainable", 5, "trains more than it has"),
    ("untrained", "best_epoch", 1, "has another best epoch than its curve"),
    ("untrained", "cost.steps", 5, "has steps or a speed without a curve, or the reverse"),
    ("untrained", "cost.samples_per_s", 5.0, "has steps or a speed without a curve, or the reverse"),
    ("untrained", "cost.micro_batch", 5, "has steps or a speed without a curve, or the reverse"),
    ("untrained", "cost.train_s", 0.001, "has another time of training than its epochs"),
    ("untrained", "cost.params", 5, "has the size of a model that trains where its own does not"),
    ("untrained", "where.resumed", ["CPU, 1 thread"], "has resumed a training that it did not make"),
    ("stopped", "spec.train.epochs", 9, "holds the record of another run"),
    ("stopped", "curve", without_last, "has a curve that ends where its training does not"),
    ("stopped", "curve", with_another, "has a curve that ends where its training does not"),
    ("failed", "error", "   ", "error: string should match pattern"),
    ("failed", "error", "", "error: string should match pattern"),
    ("failed", "error", None, "is failed without a reason"),
    ("failed", "error", "x" * 1_000_000, "error: string should have at most"),
    ("failed", "best_epoch", 1, "is failed and has the outcome of a training"),
    ("failed", "curve", [EPOCH], "is failed and has the outcome of a training"),
    ("failed", "where.resumed", ["CPU, 1 thread"], "is failed and has the outcome of a training"),
    ("failed", "where.data_sha256", {"ETTh1": "0" * 64}, "names other data than its task"),
    ("probed", "layers.0.block", 1, "does not hold the probes that it was to make"),
    ("probed", "layers.0.stage", "trained", "does not hold the probes that it was to make"),
    ("probed", "layers.1.normed", True, "does not hold the probes that it was to make"),
    ("probed", "layers.3.block", 1, "does not hold the probes that it was to make"),
    ("probed", "layers", [], "does not hold the probes that it was to make"),
    ("probed", "layers", [LAYER], "does not hold the probes that it was to make"),
    ("probed", "where.backbone_sha256", "0" * 64, "its weights of gpt2-random are other ones"),
    ("own", "curve", [], "has steps or a speed without a curve, or the reverse"),
    ("own", "cost.steps", 0, "has steps or a speed without a curve, or the reverse"),
    ("own", "cost.trainable", 10**9, "trains more than it has"),
]


@pytest.mark.parametrize(
    ("kind", "place", "value", "said"),
    [("trained", *each) for each in IMPOSSIBLE] + IMPOSSIBLE_OF_OTHERS,
    ids=lambda part: str(part)[:24],
)
def test_a_record_that_no_run_can_have_written_is_refused(
    kind: str, place: str, value: object, said: str, tmp_path: Path, make_run: Callable[[str], RunResult]
) -> None:
    store, result = Store(tmp_path / "results"), make_run(kind)
    path = store.put(result)
    assert store.get(result.spec) == result
    values = json.loads(path.read_text())
    *parts, last = [int(part) if part.isdigit() else part for part in place.split(".")]
    inside = values
    for part in parts:
        inside = inside[part]
    inside[last] = value(values) if callable(value) else value
    path.write_text(json.dumps(values))
    with pytest.raises(UnusableRecord, match=re.escape(said)) as refusal:
        store.get(result.spec)
    assert len(str(refusal.value)) < 600


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, '{"spec": ' * 10_000, "\x00", ""])
def test_text_that_is_no_record_is_refused_at_once(text: str, tmp_path: Path, result: RunResult) -> None:
    store = Store(tmp_path / "results")
    store.put(result).write_text(text)
    with pytest.raises(UnusableRecord, match="Do: move it away and run again") as refusal:
        store.get(result.spec)
    assert len(str(refusal.value)) < 600
