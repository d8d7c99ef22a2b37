"""What only a GPU can show. Skipped without one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from bench.execute import run_one
from bench.spec import DatasetCard
from models import MODELS
from tests.conftest import make_spec, waves

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU is visible"),
]


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("model", MODELS)
def test_a_run_on_a_gpu_agrees_with_the_same_run_on_a_cpu(
    model: str, precision: str, make_card: Callable[..., DatasetCard]
) -> None:
    spec = make_spec(make_card(waves(400, 3)), model, precision=precision)
    on_cpu, on_gpu = (run_one(spec, torch.device(name), lambda _: None) for name in ("cpu", "cuda"))
    assert on_gpu.status == "done", on_gpu.error
    # Dropout draws other numbers there; everything else is the same mathematics.
    assert on_gpu.evaluations[0].mse == pytest.approx(on_cpu.evaluations[0].mse, rel=0.1)
    assert on_gpu.evaluations[0].windows == on_cpu.evaluations[0].windows
    assert on_gpu.where.device == torch.cuda.get_device_name()
