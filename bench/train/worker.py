"""The one door to training: an engine puts questions to `answer` in a worker process or on a Ray node."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from bench.core.base import BenchError
from bench.core.card import cards
from bench.core.jobs import Job, Progress, Saved
from bench.core.record import RunResult, Where
from bench.core.spec import RunSpec, weights_of
from bench.data.series import load_series
from bench.plan import registry
from bench.plan.own_code import trace_of, watched
from bench.train.checkpoint import Checkpoint, OutOfTime
from bench.train.device import keep_freed_memory, pick_device, provenance
from bench.train.execute import identity, run_one
from bench.train.loop import Watch
from bench.train.windows import split_windows
from models.llm_blocks import prepare
from models.llm_files import locate

REPORT_EVERY = 0.2
"""Seconds between two progress reports of a run."""


def answer(what: str, about: Any, device: str, report: Callable[[Progress], None] = lambda _: None) -> Any:
    """Answer `greet` (about None), `check` or `load` (about specs) or `train` (about a job). `device`: as --device.

    An error that concerns all runs is an answer too, so that it can travel between processes.
    """
    questions = {
        "greet": lambda: greet(device),
        "check": lambda: check(about),
        "load": lambda: load(about),
        "train": lambda: train(about, device, report),
    }
    try:
        return questions[what]()
    except BenchError as error:
        carried = BenchError(str(error))
        if error.__cause__:  # what a user's own file raised; --debug prints it
            carried.add_note(trace_of(error.__cause__))
        return carried


def use_threads(count: int) -> None:
    """Let torch use this many threads in this process."""
    torch.set_num_threads(count)


def greet(name: str) -> tuple[list[str], Where]:
    """Return the devices that a value of --device selects, and the provenance of runs on the first of them."""
    device = pick_device(name)
    devices = [str(device)]
    if device.type == "cuda" and device.index is None:
        devices = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return devices, provenance(device, {}, None)


def check(specs: Sequence[RunSpec]) -> None:
    """Verify data files, windows, weights, the registry's models and (converting them) backbones. Raises BenchError."""
    # 1. Data: each file has its SHA-256, and each split holds at least one window.
    for task in {spec.task.model_dump_json(): spec.task for spec in specs}.values():
        for card in (cards()[name] for name in task.datasets):
            load_series(card)
            split_windows(card, torch.empty(card.rows, 1), task.context, task.horizon, task.train_fraction)
    # 2. Weights, before models: their files exist.
    for weights in weights_of(specs):
        locate(weights)
    # 3. Models: each can be imported.
    for spec in {spec.model: spec for spec in specs if not spec.own}.values():
        registry.make_options(spec.model, registry.load(spec.model), spec.options)
    # 4. Backbones again: convert them (slow, so last).
    for backbone in sorted({spec.backbone for spec in specs if spec.backbone}):
        prepare(backbone)


def load(specs: Sequence[RunSpec]) -> None:
    """Import users' own models, from the files that were planned, and make their options. Raises BenchError."""
    for spec in {(spec.model, spec.code, *spec.options.items()): spec for spec in specs}.values():
        with watched(spec.model, spec.code):
            registry.make_options(spec.model, registry.load(spec.model), spec.options)


def train(job: Job, name: str, report: Callable[[Progress], None]) -> RunResult | Saved:
    """Do a job on the device that `name` selects; `report` receives its progress. Raises grid-wide BenchErrors."""
    # 1. Make the process as good as new.
    as_new()
    device = pick_device(name)
    # 2. Train, and report progress at most every REPORT_EVERY seconds.
    last_report = 0.0

    def report_sometimes(progress: Progress) -> None:
        nonlocal last_report
        if time.monotonic() - last_report >= REPORT_EVERY:
            report(progress)
            last_report = time.monotonic()

    report(Progress(0, 0, None))
    checkpoint = Checkpoint(job.checkpoint, identity(job.spec, device), job.deadline) if job.checkpoint else None
    try:
        return run_one(job.spec, device, Watch(report_sometimes, checkpoint), job.keep)
    except OutOfTime:
        return Saved()


def as_new() -> None:
    """Undo what a model may have set for its whole process, so that no run changes the numbers of another."""
    keep_freed_memory()
    torch.set_default_dtype(torch.float32)
    torch.set_float32_matmul_precision("highest")
    torch.set_grad_enabled(True)
    if torch.are_deterministic_algorithms_enabled():  # the next line imports torch's compiler, which takes a second
        torch.use_deterministic_algorithms(False)
