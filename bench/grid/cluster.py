"""Training on a Ray cluster: one Ray task per run. The only module that imports ray.

The project's folder goes to every node as it is when the command begins; data and backbones are looked for on each
node, and fetched where they are absent. Nodes need Python, this project's dependencies, and no shared file system: so
there are no checkpoints here. A run whose node is lost starts over on another, and at a deadline nothing is saved.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import math
import os
import platform
import re
import socket
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bench.core.base import ROOT, BenchError
from bench.core.card import cards
from bench.core.jobs import Event, Job, Lost
from bench.core.record import RunResult
from bench.core.spec import RunSpec
from bench.core.system import INSTALLED
from bench.data.series import data_dir, file_of
from models.llm_files import find

RETRIES = 3
"""How often a run is begun again after its process or its node died."""

os.environ.setdefault("RAY_task_oom_retries", str(RETRIES))  # Ray's own answer to too little memory is to try for ever
try:
    import ray
    from ray import exceptions
except ImportError:
    raise BenchError("--engine ray: Ray is not installed; pip install -e '.[cluster]'") from None

PATIENCE = 8.0
"""Seconds to wait for a cluster to answer at its address."""
STAYS_HERE = [".?*", "__pycache__", "*.egg-info", "/datasets/cache", "/results", "/reports", "/tests", "/docs"]
"""What of the project no node needs; what git ignores stays here too."""


class Cluster:
    """As many runs at once as said, else as the cluster has GPUs, else CPUs; each has its share of them.

    `address` as in ray.init: None is RAY_ADDRESS, else the cluster this machine belongs to, else this machine alone.
    Runs tell nothing until they end. Raises BenchError for a cluster or a device that is not there.
    """

    def __init__(self, address: str | None, device: str, jobs: int | None) -> None:
        self.running: dict[str, Any] = {}
        self.problem: Exception | None = None
        _connect(address)
        try:
            alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            self.share = share_out(alive, device, jobs)
            self.slots = self.share.slots
            # Ray ends a process that had a GPU after one task, if its share is said here: the next may get another GPU.
            self.task = ray.remote(
                num_cpus=self.share.cpus, num_gpus=self.share.gpus, max_retries=RETRIES, retry_exceptions=False
            )(_answer)
            self.known = {**_commit(), "sharing": self.share.sharing}
            self.where = self._ask("greet").model_copy(update=self.known)
        except BaseException:
            self.close()
            raise

    def check(self, specs: Sequence[RunSpec]) -> None:
        """Look, on one node, at everything that concerns more than one run. Raises BenchError."""
        for model, code in {(spec.model, spec.code) for spec in specs if spec.code}:
            _require_in_project(model, code)
        self._ask("check", specs)

    def start(self, job: Job) -> None:
        """Its checkpoint is not used. Nor is its deadline: there is nothing to save, and the driver ends the run."""
        self.running[job.spec.key] = self._begin("train", job.spec)

    def events(self, timeout: float) -> list[Event]:
        """Errors that concern all runs are raised once nothing else is left to be told."""
        keys = {ref: key for key, ref in self.running.items()}
        ready, _ = ray.wait(list(keys), timeout=0 if self.problem else timeout)
        if ready:
            ready, _ = ray.wait(list(keys), num_returns=len(keys), timeout=0)
        found = []
        for ref in ready:
            del self.running[keys[ref]]
            what = _get(ref)
            if isinstance(what, Exception):
                self.problem = what
                continue
            if isinstance(what, RunResult):
                what = what.model_copy(update={"where": what.where.model_copy(update=self.known)})
            found.append(Event(keys[ref], what))
        if self.problem and not found:
            raise self.problem
        return found

    def stop(self, key: str) -> None:
        if key in self.running:
            ray.cancel(self.running.pop(key), force=True)

    def close(self) -> None:
        for key in list(self.running):
            self.stop(key)
        ray.shutdown()

    def _begin(self, what: str, about: Any) -> Any:
        return self.task.options(name=what).remote(what, about, self.share.device, self.share.threads)

    def _ask(self, what: str, about: Any = None) -> Any:
        """Of whichever node is free."""
        answer = _get(self._begin(what, about))
        if isinstance(answer, Lost):
            raise BenchError(f"--engine ray: a node could not {what}: {answer.why}; its Ray logs may say more")
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass(frozen=True)
class Share:
    """How many runs there are at once, and what each gets of a cluster."""

    slots: int
    threads: int
    cpus: int
    gpus: float
    device: str
    sharing: int | None
    """Runs on a GPU; None on CPUs."""


def share_out(nodes: Sequence[dict[str, float]], device: str, jobs: int | None) -> Share:
    """Each run on one node, on the CPU or on one GPU, which it may share. `nodes`: what Ray says each of them has."""
    cpus, gpus = (int(sum(node.get(kind, 0) for node in nodes)) for kind in ("CPU", "GPU"))
    if device not in ("auto", "cpu", "cuda"):
        raise BenchError(f"--device {device}: with --engine ray it is auto, cpu or cuda; Ray chooses the GPU")
    if device == "cuda" and not gpus:
        raise BenchError("--device cuda: the Ray cluster has no GPU; try --device cpu")
    on_gpus = gpus > 0 and device != "cpu"
    slots = jobs or (gpus if on_gpus else cpus)
    if not slots:
        raise BenchError("--engine ray: the cluster has no CPU for runs; add nodes, or say --jobs if it adds them")
    widest = max(int(node.get("CPU", 0)) for node in nodes)
    threads = max(1, min(cpus // slots, widest))
    if on_gpus:
        sharing = math.ceil(slots / gpus)
        part = math.floor(10_000 / sharing) / 10_000  # Ray counts in steps of 1/10000
        return Share(slots, threads, 1, part, "cuda", sharing)
    return Share(slots, threads, threads, 0, "cpu", None)


def _connect(address: str | None) -> None:
    if INSTALLED:
        raise BenchError(
            "--engine ray: nodes get the project's folder, and this copy of bench is installed outside one. Do: run "
            "`python -m bench` in a checkout, or use --engine local"
        )
    named = address or os.environ.get("RAY_ADDRESS", "")
    place = f"--address {named}" if address else f"RAY_ADDRESS={named}" if named else "--engine ray"
    if at := re.fullmatch(r"(?:ray://)?\[?(.+?)\]?:(\d+)", named):  # Ray itself asks for half a minute, aloud
        try:
            socket.create_connection((at[1], int(at[2])), timeout=PATIENCE).close()
        except (OSError, OverflowError) as error:
            raise BenchError(
                f"{place}: no Ray cluster answers ({error}); start one there with 'ray start --head', or name none to "
                "use this machine"
            ) from None
    shipped = {"working_dir": str(ROOT), "excludes": STAYS_HERE, "env_vars": _environment()}
    try:
        ray.init(
            address, runtime_env=shipped, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
        )
    except Exception as error:  # Ray raises what it likes
        ray.shutdown()
        raise BenchError(f"{place}: {_first_line(error)}; run this on a machine of the cluster") from None


def _environment() -> dict[str, str]:
    """What nodes are told of the driver's folders."""
    folders = {name: os.environ.get(name) for name in ("HF_HOME", "BENCH_BUNDLE")} | {"BENCH_DATA": str(data_dir())}
    told = {name: str(Path(folder).expanduser().absolute()) for name, folder in folders.items() if folder}
    if offline := os.environ.get("HF_HUB_OFFLINE"):
        told["HF_HUB_OFFLINE"] = offline
    return told


def _commit() -> dict[str, Any]:
    """The commit that the shipped code is of: nodes get no git checkout."""
    import torch

    from bench.train.device import provenance

    return provenance(torch.device("cpu"), {}, None).model_dump(include={"git", "dirty"})


def _require_in_project(model: str, code: str) -> None:
    stem = ROOT.joinpath(*model.partition(":")[0].split("."))
    for path in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py"):
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == code:
            return
    raise BenchError(f"model {model}: its file is not {stem}.py, and Ray nodes get the project's folder; put it there")


def _get(ref: Any) -> Any:
    """What became of a task: its answer, an error that concerns all runs, or Lost."""
    try:
        return ray.get(ref)
    except exceptions.RuntimeEnvSetupError as error:
        return BenchError(f"--engine ray: a node could not take over the project's folder: {_first_line(error)}")
    except exceptions.RayError as error:
        return Lost(_why(error))


def _why(error: exceptions.RayError) -> str:
    times = f", each of the {RETRIES + 1} times that it was begun" if RETRIES else ""
    match error:
        case exceptions.OutOfMemoryError():
            return f"its node ran out of memory{times}"
        case exceptions.NodeDiedError() | exceptions.ObjectLostError():
            return f"its node was lost{times}"
        case exceptions.WorkerCrashedError():
            return f"its process died{times}"
        case exceptions.RayTaskError(cause=cause):
            return f"{type(cause).__name__}: {_first_line(cause)}"
    return f"{type(error).__name__}: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


def _answer(what: str, about: Any, device: str, threads: int) -> Any:
    """On a node: what the driver wants to know. Errors that concern all runs are answers too."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    from bench.train import worker as work

    torch.set_num_threads(threads)
    node = _settle()
    try:
        match what:
            case "greet":
                return work.greet(device)[1]
            case "check":
                return _prepare(about)
            case _:
                _prepare([about])
                return work.train(Job(about), device, lambda progress: None)
    except BenchError as error:
        return BenchError(f"{error} ({node})")


@cache
def _settle() -> str:
    """This node, for people. Data lie in the driver's data directory if the node has it, else in its own copy's."""
    node = f"on Ray node {platform.node()}"
    if data_dir().is_dir():
        return node
    return f"{node}, which has no folder {os.environ.pop('BENCH_DATA')}"


def _prepare(specs: Sequence[RunSpec]) -> None:
    """Have what these runs need on this node, verified."""
    from bench.data.fetch import fetch_backbone, fetch_data
    from bench.train.worker import check
    from models.llm_blocks import prepare

    with _alone_on_node():
        for name in dict.fromkeys(name for spec in specs for name in spec.task.datasets):
            fetch_data(cards()[name], file_of(cards()[name]))
        for name in dict.fromkeys(spec.backbone for spec in specs if spec.backbone):
            fetch_backbone(find(name))
            prepare(name)
    check(specs)


@contextlib.contextmanager
def _alone_on_node() -> Iterator[None]:
    """One process of a node at a time: what the first fetches, the others find."""
    path = Path(tempfile.gettempdir()) / f"logo-llm-bench-{os.getuid()}.lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
