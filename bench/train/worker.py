"""What trains a run, wherever it is: look at what is needed, train, answer with a record."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import torch

from bench.core.base import BenchError
from bench.core.card import cards
from bench.core.jobs import Job, Progress, Saved
from bench.core.record import RunResult, Where
from bench.core.spec import RunSpec
from bench.data.series import load_series
from bench.plan import registry
from bench.train.checkpoint import Checkpoint, OutOfTime
from bench.train.device import keep_freed_memory, pick_device, provenance
from bench.train.execute import identity, run_one
from bench.train.loop import Watch
from bench.train.windows import split_windows
from models.llm_blocks import prepare
from models.llm_files import find, locate

REPORT_EVERY = 0.2
"""Seconds between two reports of a run's progress."""


def greet(name: str) -> tuple[list[str], Where]:
    """The devices that a word on the command line stands for, and what numbers are made with on the first of them."""
    device = pick_device(name)
    devices = [str(device)]
    if device.type == "cuda" and device.index is None:
        devices = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return devices, provenance(device, {}, None)


def check(specs: Iterable[RunSpec]) -> None:
    """Verify every data file and that it holds windows, import every model, verify (and convert) every backbone.

    Raises BenchError.
    """
    specs = list(specs)
    for task in {spec.task.model_dump_json(): spec.task for spec in specs}.values():
        for card in (cards()[name] for name in task.datasets):
            load_series(card)
            split_windows(card, torch.empty(card.rows, 1), task.context, task.horizon, task.train_fraction)
    backbones = sorted({spec.backbone for spec in specs if spec.backbone})
    for backbone in backbones:
        locate(find(backbone))
    for spec in {spec.model: spec for spec in specs}.values():
        _require_planned_code(spec)
        registry.load(spec.model)
    for backbone in backbones:
        prepare(backbone)


def train(job: Job, name: str, report: Callable[[Progress], None]) -> RunResult | Saved:
    """Do a job on the device of this name. Raises BenchError for what concerns all runs."""
    keep_freed_memory()
    as_new()
    _require_planned_code(job.spec)
    device = pick_device(name)
    told = 0.0

    def tell(progress: Progress) -> None:
        nonlocal told
        if time.monotonic() - told >= REPORT_EVERY:
            report(progress)
            told = time.monotonic()

    report(Progress(0, 0, None))
    checkpoint = Checkpoint(job.checkpoint, identity(job.spec, device), job.deadline) if job.checkpoint else None
    try:
        return run_one(job.spec, device, Watch(tell, checkpoint))
    except OutOfTime:
        return Saved()


def as_new() -> None:
    """Undo what a model may have set for the whole process, so that no run changes the numbers of another."""
    torch.set_default_dtype(torch.float32)
    torch.set_float32_matmul_precision("highest")
    torch.set_grad_enabled(True)
    torch.use_deterministic_algorithms(False)


def _require_planned_code(spec: RunSpec) -> None:
    """A user's own model that was edited since is another run."""
    if registry.code_digest(spec.model) != spec.code:
        raise BenchError(f"model {spec.model}: its file has changed since the run was planned; start the command again")
