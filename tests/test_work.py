"""What a worker does before and around a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from bench.core.base import BenchError
from bench.core.card import DatasetCard
from bench.core.jobs import Job
from bench.core.record import RunResult
from bench.data.series import load_series
from bench.plan.own_code import own_code
from bench.train import execute
from bench.train.device import keep_freed_memory, peak_mb, reset_peak
from bench.train.execute import run_one
from bench.train.windows import standardized
from bench.train.worker import load, train
from tests.builders import make_spec, waves

MakeCard = Callable[..., DatasetCard]


def test_what_a_model_sets_for_its_process_changes_no_other_run(make_card: MakeCard, cpu: torch.device) -> None:
    spec = make_spec(make_card(waves(120, 3)), "dlinear")
    alone = run_one(spec, cpu)
    torch.set_default_dtype(torch.float64)
    torch.set_float32_matmul_precision("medium")
    after = train(Job(spec), "cpu", lambda progress: None)
    assert isinstance(after, RunResult)
    assert after.evaluations == alone.evaluations


def test_what_an_earlier_run_has_freed_is_no_memory_of_the_next(cpu: torch.device) -> None:
    keep_freed_memory()
    if not reset_peak(cpu):
        pytest.skip("this system tells no peak")
    before = peak_mb(cpu)
    blocks = [torch.ones(2**22) for _ in range(20)]  # 16 MiB each
    del blocks
    assert peak_mb(cpu) > before + 300
    reset_peak(cpu)
    assert peak_mb(cpu) < before + 50


def test_a_model_of_ones_own_that_was_edited_since_the_plan_is_not_trained_under_its_old_name(
    make_card: MakeCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "edited_model.py").write_text("from torch import nn\nclass Mine(nn.Linear):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    spec = make_spec(make_card(waves(120, 3)), "dlinear").model_copy(
        update={"model": "edited_model:Mine", "options": {}, "code": own_code("edited_model:Mine").digest}
    )
    (tmp_path / "edited_model.py").write_text("from torch import nn\nclass Mine(nn.Bilinear):\n    pass\n")
    for action in (lambda: load([spec]), lambda: train(Job(spec), "cpu", lambda progress: None)):
        with pytest.raises(BenchError, match="has changed since the run was planned"):
            action()


def test_a_record_shows_the_last_channel_of_the_window_in_the_middle_of_the_test_part(
    make_card: MakeCard, cpu: torch.device
) -> None:
    card = make_card(waves(120, 3))
    shown = run_one(make_spec(card, "repeat_last"), cpu).sample
    assert shown is not None
    series = standardized(load_series(card), cpu)[:, -1].numpy()
    first, last = card.bounds()["test"]
    assert shown.window == (last - first - 8 + 1) // 2
    assert shown.channel == 2
    begin = first + shown.window
    assert shown.past == pytest.approx(series[begin - 32 : begin], abs=1e-4)
    assert shown.truth == pytest.approx(series[begin : begin + 8], abs=1e-4)
    assert shown.forecast == (shown.past[-1],) * 8


class Fails(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise ValueError("bad \udc80 name")


class Unbounded(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.full((len(x), 8, 3), float("nan"))


@pytest.mark.parametrize(
    ("model", "said"), [(Fails(), r"bad \udc80 name"), (Unbounded(), "the test error on Waves is nan")]
)
def test_an_error_of_whatever_text_can_be_recorded(
    model: nn.Module, said: str, make_card: MakeCard, cpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "build", lambda spec, series: model)
    result = run_one(make_spec(make_card(waves(120, 3)), "dlinear"), cpu)
    assert result.status == "failed"
    assert said in (result.error or "")
    assert RunResult.model_validate_json(result.model_dump_json()) == result
