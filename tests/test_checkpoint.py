"""Interrupted runs: taken up again they are the runs that were never interrupted, bit for bit."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.core.card import DatasetCard
from bench.core.jobs import Progress
from bench.core.record import RunResult
from bench.core.spec import RunSpec
from bench.train import checkpoint as checkpoints
from bench.train.checkpoint import Checkpoint, CheckpointError, OutOfTime, State
from bench.train.device import build_digest
from bench.train.execute import identity, run_one
from bench.train.loop import Watch
from models import MODELS
from tests.builders import SMALL, TRAINED, make_spec, waves

pytestmark = pytest.mark.usefixtures("slim_backbones")

MakeCard = Callable[..., DatasetCard]


def numbers(result: RunResult) -> dict:
    """All that a record says but for times, dates and what it was resumed on."""
    kept = result.model_dump(mode="json", include={"spec", "status", "evaluations", "layers", "best_epoch", "error"})
    curve = [epoch.model_dump(exclude={"seconds"}) for epoch in result.curve]
    cost = result.cost and result.cost.model_dump(include={"steps", "params", "trainable", "flops", "micro_batch"})
    return {**kept, "curve": curve, "cost": cost}


class Killed(Exception):
    """Stands for a kill: nothing is saved when it comes."""


@pytest.fixture(autouse=True)
def never_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "EVERY", math.inf)


def kill_after(cut: int, checkpoint: Checkpoint) -> Watch:
    """Saved after this step (or its validation), killed after the next, whose work is lost."""

    saved: list[int] = []

    def report(progress: Progress) -> None:
        if saved:
            raise Killed
        if progress.step == cut:
            saved.append(cut)
            checkpoint.every = 0

    return Watch(report, checkpoint)


def run_in_pieces(spec: RunSpec, file: Path, cuts: list[int], device: str = "cpu") -> RunResult:
    on = torch.device(device)
    for cut in cuts:
        torch.manual_seed(cut)  # whatever was drawn in a process before
        with pytest.raises(Killed):
            _run(spec, on, kill_after(cut, Checkpoint(file, identity(spec, on))))
    return _run(spec, on, Watch(checkpoint=Checkpoint(file, identity(spec, on))))


def _run(spec: RunSpec, device: torch.device, watch: Watch) -> RunResult:
    result = run_one(spec, device, watch)
    if result.error and "Killed" in result.error:
        raise Killed
    return result


@pytest.mark.parametrize("model", TRAINED)
def test_a_resumed_run_equals_one_that_was_never_interrupted(
    model: str, make_card: MakeCard, cpu: torch.device, tmp_path: Path
) -> None:
    """Cut in the middle of an epoch, after its last step (before validation), and in the next one.

    Language models take seconds to build: once, in the next one.
    """
    precision = "bf16" if MODELS[model].uses_backbone else "float32"
    card = make_card(waves(120, 3))
    spec = make_spec(card, model, epochs=2, batch=8, patience=2, clip=1.0, precision=precision)
    whole = run_one(spec, cpu)
    assert whole.cost is not None
    steps = whole.cost.steps // 2
    cuts = [steps + 1] if MODELS[model].uses_backbone else [2, steps, steps + 1, whole.cost.steps]
    pieces = run_in_pieces(spec, tmp_path / "c.safetensors", cuts)
    assert pieces.where.resumed == whole.where.machines, "all parts were made on this machine"
    assert pieces.where.devices == (whole.where.device,)
    assert numbers(pieces) == numbers(whole)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU is visible")
@pytest.mark.parametrize("model", ["logo_llm", "calf_lite", "itransformer"])
def test_on_a_gpu_a_resumed_run_draws_the_masks_it_would_have_drawn(
    model: str, make_card: MakeCard, tmp_path: Path
) -> None:
    """Its steps are replayed from a graph again; sums there run in no fixed order."""
    spec = make_spec(make_card(waves(400, 3)), model, epochs=3, batch=8, patience=3)
    whole = run_one(spec, torch.device("cuda"))
    assert whole.cost is not None
    pieces = run_in_pieces(spec, tmp_path / "c.safetensors", [whole.cost.steps // 2], "cuda")
    losses = [[epoch.train_loss for epoch in run.curve] for run in (pieces, whole)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert pieces.evaluations[0].mse == pytest.approx(whole.evaluations[0].mse, rel=1e-3)


def test_early_stopping_and_the_best_epoch_survive_an_interruption(
    make_card: MakeCard, cpu: torch.device, tmp_path: Path
) -> None:
    spec = make_spec(make_card(waves(260, 3)), "dlinear", epochs=30, patience=2, lr=0.3)
    whole = run_one(spec, cpu)
    assert whole.cost is not None
    assert whole.best_epoch is not None
    assert whole.best_epoch < len(whole.curve) < 30
    per_epoch = whole.cost.steps // len(whole.curve)
    cuts = [whole.best_epoch * per_epoch, whole.best_epoch * per_epoch + 1, whole.cost.steps - 1]
    assert numbers(run_in_pieces(spec, tmp_path / "c.safetensors", cuts)) == numbers(whole)


def test_without_its_checkpoint_the_comparison_would_fail(
    make_card: MakeCard, cpu: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards the tests above: leave the random state out, and they see it."""
    spec = make_spec(make_card(waves(260, 3)), "patchtst", epochs=2)
    whole = run_one(spec, cpu)
    monkeypatch.setattr("bench.train.loop.set_random_state", lambda *_: None)
    assert numbers(run_in_pieces(spec, tmp_path / "c.safetensors", [4])) != numbers(whole)


def test_at_the_deadline_a_run_is_saved_and_goes_on_later(
    make_card: MakeCard, cpu: torch.device, tmp_path: Path
) -> None:
    spec = make_spec(make_card(waves(260, 3)), "itransformer")
    file = tmp_path / "deep" / "c.safetensors"
    done: list[int] = []
    with pytest.raises(OutOfTime):
        watch = Watch(lambda at: done.append(at.step), Checkpoint(file, identity(spec, cpu), deadline=time.time() - 1))
        run_one(spec, cpu, watch)
    assert done == [1]
    assert [each.name for each in file.parent.iterdir()] == [file.name]
    assert numbers(run_in_pieces(spec, file, [])) == numbers(run_one(spec, cpu))


def test_a_run_is_saved_only_as_often_as_it_is_worth(
    make_card: MakeCard, cpu: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: float(next(clock)))
    saves: list[int] = []
    monkeypatch.setattr(checkpoints, "EVERY", 10.0)
    checkpoint = Checkpoint(tmp_path / "c", "a run")
    monkeypatch.setattr(Checkpoint, "save", lambda self, state: (saves.append(1), setattr(self, "last", next(clock))))
    for _ in range(95):
        checkpoint.keep(lambda: None)  # type: ignore[arg-type, return-value]
    assert 8 <= len(saves) <= 10
    assert math.isinf(checkpoint.deadline)


def test_tensors_that_share_memory_are_saved(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    checkpoint = Checkpoint(tmp_path / "c", "a run")
    checkpoint.save(State("{}", {"whole": whole, "part": whole[2:], "again": whole}))
    saved = checkpoint.load()
    assert saved is not None
    assert torch.equal(saved.tensors["part"], whole[2:])


def test_where_saving_is_slow_it_is_rarer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 100.0, 102.0])
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: next(clock))
    checkpoint = Checkpoint(tmp_path / "c", "a run")
    checkpoint.save(State("{}", {"weight": torch.zeros(2)}))
    assert checkpoint.every == math.inf, "as the other tests here have it"
    monkeypatch.setattr(checkpoints, "EVERY", 30.0)
    clock = iter([200.0, 202.0])
    checkpoint.save(State("{}", {"weight": torch.zeros(2)}))
    assert checkpoint.every == 60.0


def test_a_checkpoint_of_another_code_or_device_is_left_alone_and_the_run_starts_over(
    make_card: MakeCard, cpu: torch.device, tmp_path: Path
) -> None:
    spec = make_spec(make_card(waves(260, 3)), "dlinear")
    file = tmp_path / "c.safetensors"
    with pytest.raises(Killed):
        _run(spec, cpu, kill_after(5, Checkpoint(file, "another build")))
    steps: list[int] = []
    result = run_one(spec, cpu, Watch(lambda at: steps.append(at.step), Checkpoint(file, identity(spec, cpu))))
    assert steps[0] == 1
    assert result.where.resumed == ()


def damage(file: Path, how: str) -> None:
    content = bytearray(file.read_bytes())
    match how:
        case "empty":
            content.clear()
        case "truncated":
            del content[len(content) // 2 :]
        case "flipped bit":
            content[-3] ^= 1
        case "absurd header":
            content[:8] = b"\xff" * 8
        case "pickle":
            torch.save({"a": torch.zeros(1)}, file)
            return
        case "pipe":
            file.unlink()
            os.mkfifo(file)
            return
        case "no hash":
            save_file(load_file(file), file)
            return
    file.write_bytes(bytes(content))


@pytest.mark.parametrize("how", ["empty", "truncated", "flipped bit", "absurd header", "pickle", "pipe", "no hash"])
def test_a_damaged_checkpoint_is_one_line_with_the_remedy(
    how: str, make_card: MakeCard, cpu: torch.device, tmp_path: Path
) -> None:
    spec = make_spec(make_card(waves(260, 3)), "dlinear")
    file = tmp_path / "c.safetensors"
    with pytest.raises(Killed):
        _run(spec, cpu, kill_after(5, Checkpoint(file, identity(spec, cpu))))
    damage(file, how)
    with pytest.raises(CheckpointError, match=r"c\.safetensors: damaged \(.*\). Do: delete it: its run starts over"):
        run_one(spec, cpu, Watch(checkpoint=Checkpoint(file, identity(spec, cpu))))


def test_a_checkpoint_that_fits_another_model_is_damaged_not_a_traceback(
    make_card: MakeCard, cpu: torch.device, tmp_path: Path
) -> None:
    card = make_card(waves(260, 3))
    file = tmp_path / "c.safetensors"
    with pytest.raises(Killed):
        _run(make_spec(card, "itransformer"), cpu, kill_after(5, Checkpoint(file, "the same")))
    with pytest.raises(CheckpointError, match="damaged"):
        run_one(make_spec(card, "patchtst"), cpu, Watch(checkpoint=Checkpoint(file, "the same")))


def test_a_checkpoint_that_cannot_be_written_stops_the_run_and_leaves_no_rubbish(
    make_card: MakeCard, cpu: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)
    spec = make_spec(make_card(waves(260, 3)), "dlinear")
    with pytest.raises(CheckpointError, match=r"No space left on device\. Do: free the disk"):
        run_one(spec, cpu, Watch(checkpoint=Checkpoint(tmp_path / "w" / "c", identity(spec, cpu))))
    assert list((tmp_path / "w").iterdir()) == []


def test_every_model_has_been_resumed() -> None:
    assert set(TRAINED) == {name for name in SMALL if MODELS[name].trains}


def test_the_build_changes_with_the_content_and_the_place_of_every_python_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of one name in two packages are two files: content that moves from one to the other is another build."""
    monkeypatch.setattr("bench.train.device.ROOT", tmp_path)
    first, second = (tmp_path / "bench" / package / "cost.py" for package in ("plan", "report/figures"))
    for path in (first, second):
        path.parent.mkdir(parents=True)
    digests = []
    for contents in (("a", "b"), ("a", "c"), ("b", "a"), ("ab", "")):
        first.write_text(contents[0])
        second.write_text(contents[1])
        digests.append(build_digest.__wrapped__())
    second.rename(tmp_path / "bench" / "report" / "cost.py")
    digests.append(build_digest.__wrapped__())
    assert len(set(digests)) == 5
    assert build_digest.__wrapped__() == digests[-1]
