"""Train on a Ray cluster: one Ray task per run. The only module that imports ray.

Ray copies the project's folder to every node when the command begins. Each node uses its own data and backbones, and
fetches the missing ones. Nodes need Python and this project's dependencies, but no shared file system. Therefore there
are no checkpoints: a run whose node is lost starts over on another, and nothing is saved at a deadline.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
import platform
import re
import socket
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bench.core.base import ROOT, BenchError
from bench.core.card import cards
from bench.core.jobs import Job, Lost
from bench.core.spec import RunSpec, weights_of
from bench.core.system import INSTALLED, THREADS
from bench.data.series import data_dir
from bench.grid.engine import Engine
from bench.plan.own_code import own_code

RETRIES = 3
"""Times that a run is started again after its process or its node died."""

os.environ.setdefault("RAY_task_oom_retries", str(RETRIES))  # by default Ray tries again without end
try:
    import ray
    from ray import exceptions
except ImportError:
    raise BenchError("--engine ray: Ray is not installed. Do: pip install -e '.[cluster]'") from None

PATIENCE = 8.0
"""Seconds to wait for a cluster to answer at its address."""
STAYS_HERE = [".?*", "__pycache__", "*.egg-info", "/datasets/cache", "/results", "/reports", "/tests", "/docs"]
"""Parts of the project that are not copied to nodes (nor is what git ignores)."""


class Cluster(Engine):
    """Train `jobs` runs at once on a Ray cluster (None: one for each GPU, else as many as its CPUs allow).

    `address` as in ray.init: None is RAY_ADDRESS, else the cluster this machine belongs to, else this machine alone.
    Each run has `threads` threads, and reports nothing until it ends. Raises BenchError if no cluster answers, or it
    has no such device.
    """

    worker, log = "--engine ray: a node", "its Ray logs"

    def __init__(self, address: str | None, device: str, jobs: int | None, threads: int = THREADS) -> None:
        self.running: dict[str, Any] = {}
        _connect(address)
        try:
            alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            self.share = share = share_out(alive, device, jobs, threads)
            self.slots = share.slots
            # With num_gpus set here, Ray ends a process that had a GPU after one task: the next may get another GPU.
            placed: dict[str, Any] = {"num_cpus": share.threads, "num_gpus": share.gpus}
            placed |= {"max_retries": RETRIES, "retry_exceptions": False}
            self.task = ray.remote(**placed)(_answer_on_node)
            self.last_task = ray.remote(**placed, max_calls=1)(_answer_on_node)  # its process ends after it
            _, where = self._ask("greet")
            from bench.train.device import commit

            git, dirty = commit()  # of the copied code: nodes have no git checkout
            self._describe(where, sharing=share.sharing, git=git, dirty=dirty)
        except BaseException:
            self.close()
            raise

    def check(self, specs: Sequence[RunSpec]) -> None:
        for model in {spec.model for spec in specs if spec.own}:
            _require_in_project(model)
        super().check(specs)

    def start(self, job: Job) -> None:
        """Begin a job without checkpoint and deadline: nothing can be saved, and the driver ends a run that is late."""
        if job.keep:
            cause = f"{job.spec.path}: keeps files beside it, which a run on Ray's nodes cannot keep again"
            raise BenchError(f"{cause}. Do: run it with --engine local, or move the record and its files away")
        self.running[job.spec.key] = self._begin("train", Job(job.spec))

    def stop(self, key: str) -> None:
        if key in self.running:
            ray.cancel(self.running.pop(key), force=True)

    def close(self) -> None:
        for key in list(self.running):
            self.stop(key)
        ray.shutdown()

    def _messages(self, timeout: float) -> list[tuple[str, Any]]:
        keys = {ref: key for key, ref in self.running.items()}
        ready, _ = ray.wait(list(keys), timeout=timeout)
        if ready:  # Ray returns after the first; ask for all that are ready
            ready, _ = ray.wait(list(keys), num_returns=len(keys), timeout=0)
        return [(keys[ref], _get(self.running.pop(keys[ref]))) for ref in ready]

    def _answer(self, what: str, about: Any) -> Any:
        return _get(self._begin(what, about))

    def _begin(self, what: str, about: Any) -> Any:
        own = what == "load" or (what == "train" and about.spec.own)
        task = self.last_task if own else self.task
        return task.options(name=what).remote(what, about, self.share.device, self.share.threads)


@dataclass(frozen=True)
class Share:
    """The number of runs at once, and each run's part of the cluster."""

    slots: int
    threads: int
    gpus: float
    device: str
    sharing: int | None
    """Runs on each GPU; None on CPUs."""


def share_out(nodes: Sequence[dict[str, float]], device: str, jobs: int | None, threads: int) -> Share:
    """Divide a cluster: each run gets a CPU for each thread, and a part of one GPU. `nodes`: resource -> amount."""
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    if device not in ("auto", "cpu", "cuda"):
        raise BenchError(f"--device {device}: Ray chooses the GPU itself. Do: --device auto, cpu or cuda")
    if device == "cuda" and not gpus:
        raise BenchError("--device cuda: the Ray cluster has no GPU. Do: --device cpu")
    on_gpus = gpus > 0 and device != "cpu"
    places = sum(int(node.get("CPU", 0)) // threads for node in nodes)
    if not places:
        raise BenchError(
            f"--engine ray: no node has {threads} CPUs, one for each thread of a run. Do: add nodes, or lower --threads"
        )
    slots = jobs or (gpus if on_gpus else places)
    if on_gpus:
        sharing = math.ceil(slots / gpus)
        part = math.floor(10_000 / sharing) / 10_000  # Ray counts in steps of 1/10000
        return Share(slots, threads, part, "cuda", sharing)
    return Share(slots, threads, 0, "cpu", None)


def _connect(address: str | None) -> None:
    if INSTALLED:
        raise BenchError(
            "--engine ray: nodes get the project's folder, and this copy of bench is installed outside one. Do: run "
            "`python -m bench` in a checkout, or use --engine local"
        )
    named = address or os.environ.get("RAY_ADDRESS", "")
    place = f"--address {named}" if address else f"RAY_ADDRESS={named}" if named else "--engine ray"
    if at := re.fullmatch(r"(?:ray://)?\[?(.+?)\]?:(\d+)", named):  # Ray itself would try for 30 s, and print about it
        try:
            socket.create_connection((at[1], int(at[2])), timeout=PATIENCE).close()
        except (OSError, OverflowError) as error:
            remedy = "start one there with 'ray start --head', or drop the address to use this machine"
            raise BenchError(f"{place}: no Ray cluster answers ({error}). Do: {remedy}") from None
    shipped = {"working_dir": str(ROOT), "excludes": STAYS_HERE, "env_vars": _environment()}
    quiet: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    try:
        ray.init(address, runtime_env=shipped, **quiet)
    except Exception as error:  # Ray raises errors of many types
        ray.shutdown()
        raise BenchError(f"{place}: {_first_line(error)}. Do: run this on a machine of the cluster") from None


def _environment() -> dict[str, str]:
    """Return the environment variables of the driver (name -> value) that nodes need to find data and backbones."""
    folders = {name: os.environ.get(name) for name in ("HF_HOME", "BENCH_BUNDLE")} | {"BENCH_DATA": str(data_dir())}
    variables = {name: str(Path(folder).expanduser().absolute()) for name, folder in folders.items() if folder}
    if offline := os.environ.get("HF_HUB_OFFLINE"):
        variables["HF_HUB_OFFLINE"] = offline
    return variables


def _require_in_project(model: str) -> None:
    for module, path in own_code(model).files.items():
        stem = ROOT.resolve().joinpath(*module.split("."))
        if path not in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py"):
            cause = f"its file {path} is not {stem}.py; nodes get the project's folder"
            raise BenchError(f"model {model}: {cause}. Do: put it there")


def _get(ref: Any) -> Any:
    """Return the answer of a task, an error that concerns all runs, or Lost."""
    times = f"each of the {RETRIES + 1} times that it was started"
    try:
        return ray.get(ref)
    except exceptions.RuntimeEnvSetupError as error:
        why = f"a node could not copy the project's folder: {_first_line(error)}"
        return BenchError(f"--engine ray: {why}. Do: look into its Ray logs")
    except exceptions.OutOfMemoryError:
        return Lost(f"its node ran out of memory, {times}")
    except (exceptions.NodeDiedError, exceptions.ObjectLostError):
        return Lost(f"its node was lost, {times}")
    except exceptions.WorkerCrashedError:
        return Lost(f"its process died, {times}")
    except exceptions.RayError as error:
        cause = getattr(error, "cause", error)
        return Lost(f"{type(cause).__name__}: {_first_line(cause)}")


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


def _answer_on_node(what: str, about: Any, device: str, threads: int) -> Any:
    """Answer a question of the driver, with everything fetched that it needs. Runs on a node."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    from bench.train import worker

    worker.use_threads(threads)
    node = _settle()
    try:
        if what == "check":
            _fetch(about)
        elif what == "train":
            _fetch([about.spec])
            worker.check([about.spec])
        reply = worker.answer(what, about, device)
    except BenchError as error:
        reply = error
    if isinstance(reply, BenchError):
        reply.args = (f"{reply} ({node})",)
    return reply


@cache
def _settle() -> str:
    """Name this node for people. Without the driver's data directory, the node uses its own project's."""
    node = f"on Ray node {platform.node()}"
    if data_dir().is_dir():
        return node
    return f"{node}, which has no folder {os.environ.pop('BENCH_DATA')}"


def _fetch(specs: Sequence[RunSpec]) -> None:
    """Fetch the data and weights of these runs to this node, and verify them."""
    from bench.data.fetch import fetch_data, fetch_weights
    from models.llm_blocks import prepare

    path = Path(tempfile.gettempdir()) / f"logo-llm-bench-{os.getuid()}.lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # one process of a node at a time: the first fetches, the others find it
        for name in dict.fromkeys(name for spec in specs for name in spec.task.datasets):
            fetch_data(cards()[name])
        for weights in weights_of(specs):
            fetch_weights(weights)
        for name in dict.fromkeys(spec.backbone for spec in specs if spec.backbone):
            prepare(name)
