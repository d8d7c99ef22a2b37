"""Ray: nodes that are lost, processes that die, and the numbers of a machine alone. The nodes are processes here."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

ray = pytest.importorskip("ray")

from ray.cluster_utils import Cluster as Nodes  # noqa: E402

from bench.core.base import ROOT, BenchError  # noqa: E402
from bench.core.jobs import Event, Job  # noqa: E402
from bench.core.record import RunResult  # noqa: E402
from bench.core.spec import RunSpec  # noqa: E402
from bench.core.store import Store  # noqa: E402
from bench.data.series import data_dir  # noqa: E402
from bench.grid import cluster  # noqa: E402
from bench.grid.cluster import Cluster, share_out  # noqa: E402
from bench.grid.driver import Orders, Tally, run_grid  # noqa: E402
from bench.grid.engine import Engine  # noqa: E402
from bench.grid.local import Workers, sharing  # noqa: E402
from bench.plan.suite import Filters, PlannedRun, entries, load_suite  # noqa: E402

MINE = """\
import os
import time
import uuid
from pathlib import Path

import ray
import torch
from torch import nn


class Slow(nn.Module):
    \"""Touches a file named after its node while it trains, and trains as long as it is held.\"""

    def __init__(self, shape, options):
        super().__init__()
        self.map = nn.Linear(shape.context, shape.horizon)
        self.name = f"{ray.get_runtime_context().get_node_id()}-{uuid.uuid4()}"

    def forward(self, x):
        while self.training:
            Path(PROJECT, "marks", self.name).touch()
            time.sleep(0.05)
            if not Path(PROJECT, "hold").exists():
                break
        return self.map(x.mT).mT


class Dies(Slow):
    def forward(self, x):
        os._exit(7)
"""
QUICK_TO_NOTICE = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 300,
    "health_check_failure_threshold": 3,
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with models of the user's own."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("bench", "models", "datasets"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "cache"))
    (folder / "marks").mkdir()
    (folder / "mymodel.py").write_text(f"PROJECT = {str(folder)!r}\n{MINE}")
    return folder


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """Three machines of one CPU."""
    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("RAY_worker_niceness", "0")  # else other tests, which are not nice, leave its workers no core
        started = Nodes(
            initialize_head=True,
            head_node_args={**small, "include_dashboard": False, "_system_config": QUICK_TO_NOTICE},
        )
        try:
            for _ in range(2):
                started.add_node(**small)
            yield started
        finally:
            ray.shutdown()
            started.shutdown()


@pytest.fixture(scope="module")
def connected(nodes: Nodes, project: Path) -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        patch.setattr(cluster, "ROOT", project)
        patch.setattr(cluster, "RETRIES", 1)
        started = Cluster(nodes.address, "auto", None)
        yield started
        started.close()


@pytest.fixture
def engine(connected: Cluster) -> Cluster:
    """One connection for all tests: the nodes' processes have torch loaded after the first."""
    connected.problem = None
    for key in list(connected.running):
        connected.stop(key)
    return connected


def tiny(*models: str, steps: int = 4) -> list[PlannedRun]:
    """The quick suite with these models, cut short."""

    def cut(spec: RunSpec) -> RunSpec:
        return spec.model_copy(update={"train": spec.train.model_copy(update={"max_steps": steps})})

    found = entries(load_suite("quick"), Filters(models=models, horizons=(24,)))
    return [entry._replace(spec=cut(entry.spec)) for entry in found]


def run(planned: list[PlannedRun], root: Path, engine: Engine) -> tuple[Tally, dict[str, RunResult]]:
    """The grid, and what it has left behind. The engine stays."""
    store = Store(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "close", lambda: None)
        tally = run_grid(planned, store, Orders(), lambda: engine, Console(file=io.StringIO()))
    results = {entry.spec.key: store.get(entry.spec) for entry in planned}
    return tally, {key: result for key, result in results.items() if result}


def numbers(result: RunResult) -> tuple[object, ...]:
    """All that may not depend on where a run was done."""
    curve = [epoch.model_dump(exclude={"seconds"}) for epoch in result.curve]
    return result.spec, result.status, result.evaluations, result.best_epoch, curve


def drain(engine: Cluster, limit: float = 180) -> Iterator[Event]:
    """Every event until nothing runs, or what the engine raises."""
    until = time.monotonic() + limit
    while engine.running or engine.problem:
        assert time.monotonic() < until
        yield from engine.events(1.0)


def test_a_cluster_gives_the_numbers_of_a_machine_alone(
    engine: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = tiny("dlinear", "itransformer", "repeat_last")
    assert (engine.slots, engine.where.threads) == (3, 1)
    tally, theirs = run(planned, tmp_path / "ray", engine)
    workers = Workers("cpu", jobs=2)
    _, ours = run(planned, tmp_path / "local", workers)
    workers.close()
    assert {result.where.sharing for result in (*theirs.values(), *ours.values())} == {None}, "there is no GPU"
    assert tally == Tally(done=len(planned))
    assert {result.where.git for result in theirs.values()} == {engine.facts["git"]}
    assert {key: numbers(result) for key, result in theirs.items()} == {
        key: numbers(result) for key, result in ours.items()
    }


def test_errors_that_concern_all_runs_come_last(engine: Cluster) -> None:
    """Here a card that was edited since the runs were planned; an innocent run is told before."""
    innocent, other = (entry.spec for entry in tiny("repeat_last")[:2])
    stale = other.model_copy(update={"task": other.task.model_copy(update={"cards": {"EPF": "another"}})})
    engine.start(Job(innocent))
    engine.start(Job(stale))
    ray.wait(list(engine.running.values()), num_returns=2, timeout=60)
    told = []
    with pytest.raises(BenchError, match=r"^EPF: its card has changed since this run was planned.*on Ray node"):
        for event in drain(engine):
            told.append(event)
    assert [event.key for event in told] == [innocent.key]


def test_a_model_that_a_node_would_not_have_is_refused(
    engine: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tiny("mymodel:Slow")[0].spec
    engine.check([spec])
    (tmp_path / "elsewhere.py").write_text("from mymodel import Slow\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    line = rf"^model elsewhere:Slow: its file {tmp_path}/elsewhere\.py is not .*elsewhere\.py.*put it there$"
    with pytest.raises(BenchError, match=line):
        engine.check([spec.model_copy(update={"model": "elsewhere:Slow"})])
    engine.start(Job(spec.model_copy(update={"code": "0" * 64})))
    with pytest.raises(BenchError, match="its code has changed since the run was planned"):
        list(drain(engine))


@pytest.fixture
def hold(project: Path) -> Iterator[Path]:
    """While this file is there, slow models train."""
    path = project / "hold"
    path.touch()
    yield path
    path.unlink(missing_ok=True)


def test_a_run_that_is_stopped_is_dead_and_heard_of_no_more(engine: Cluster, project: Path, hold: Path) -> None:
    slow, quick = tiny("mymodel:Slow")[0].spec, tiny("repeat_last")[0].spec
    before = set((project / "marks").iterdir())
    engine.start(Job(slow))
    until = time.monotonic() + 60
    while not (begun := set((project / "marks").iterdir()) - before):
        assert time.monotonic() < until
        time.sleep(0.05)
    engine.stop(slow.key)
    engine.start(Job(quick))
    assert [event.key for event in drain(engine)] == [quick.key]
    time.sleep(0.5)
    (last,) = (path.stat().st_mtime_ns for path in begun)
    time.sleep(0.5)
    assert {path.stat().st_mtime_ns for path in set((project / "marks").iterdir()) - before} == {last}


def test_a_lost_node_costs_no_run(
    engine: Cluster, nodes: Nodes, project: Path, tmp_path: Path, hold: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node goes while it trains; what it trained is begun again elsewhere."""
    planned = tiny("mymodel:Slow", "dlinear", "repeat_last")
    slow = [entry for entry in planned if entry.spec.model == "mymodel:Slow"]
    events, lost, until = engine.events, [], time.monotonic() + 60
    before = set((project / "marks").iterdir())

    def begun() -> list[str]:
        return [path.name for path in set((project / "marks").iterdir()) - before]

    def watch(timeout: float) -> list[Event]:
        """At most one of the two slow models is held on the head, which is no node to lose."""
        training = {name.partition("-")[0] for name in begun()}
        seen = [node for node in nodes.worker_nodes if node.node_id in training]
        if seen and not lost:
            nodes.remove_node(seen[0], allow_graceful=False)
            lost.append(seen[0])
        if len(begun()) > len(slow) or time.monotonic() > until:
            hold.unlink(missing_ok=True)
        return events(0.1)

    monkeypatch.setattr(engine, "events", watch)
    tally, results = run(planned, tmp_path, engine)
    assert lost
    assert tally == Tally(done=len(planned))
    assert {result.status for result in results.values()} == {"done"}
    assert len(begun()) > len(slow)


def test_a_model_that_kills_its_process_fails_alone(engine: Cluster, tmp_path: Path) -> None:
    planned = [*tiny("mymodel:Dies")[:1], *tiny("repeat_last")]
    tally, results = run(planned, tmp_path, engine)
    assert tally == Tally(done=len(planned) - 1, failed=1)
    failed = results[planned[0].spec.key]
    assert (failed.status, failed.error) == ("failed", "its process died, each of the 2 times that it was started")


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_that_nobody_answers_is_one_line(scheme: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"{scheme}127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(BenchError, match=rf"^--address {address}: no Ray cluster answers .*ray start --head[^\n]*$"):
        Cluster(address, "cpu", None)


def test_without_ray_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "bench.grid.cluster")
    with pytest.raises(BenchError, match=r"^--engine ray: Ray is not installed\. Do: pip install -e '\.\[cluster\]'$"):
        importlib.import_module("bench.grid.cluster")


def test_a_node_without_the_drivers_data_directory_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("HF_HUB_OFFLINE", "BENCH_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", "hub")
    monkeypatch.setenv("BENCH_DATA", "data")
    told = cluster._environment()
    assert told == {"BENCH_DATA": str(tmp_path / "data"), "HF_HOME": str(tmp_path / "hub")}
    monkeypatch.setenv("BENCH_DATA", told["BENCH_DATA"])
    assert cluster._settle.__wrapped__().endswith(f"which has no folder {tmp_path / 'data'}")
    assert data_dir() == ROOT / "datasets" / "cache"
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    assert "no folder" not in cluster._settle.__wrapped__()
    assert data_dir() == tmp_path


def test_records_say_how_many_runs_shared_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [sharing(slots, ["cuda:0", "cuda:1"]) for slots in (2, 3, 8)] == [1, 2, 4]
    assert sharing(8, ["cpu"]) is None
    monkeypatch.setattr("bench.grid.local.sharing", lambda slots, devices: 7 * slots)
    with contextlib.closing(Workers("cpu", jobs=1)) as workers:
        _, records = run(tiny("repeat_last"), tmp_path, workers)
    assert {result.where.sharing for result in records.values()} == {7}


@pytest.mark.parametrize(
    ("nodes_have", "device", "jobs", "threads", "expected"),
    [
        ([{"CPU": 4}, {"CPU": 8}], "auto", None, 1, (12, 1, 0, "cpu", None)),
        ([{"CPU": 4}, {"CPU": 8}], "auto", 3, 1, (3, 1, 0, "cpu", None)),
        ([{"CPU": 5}, {"CPU": 4}], "auto", None, 2, (4, 2, 0, "cpu", None)),  # no run spans two nodes
        ([{"CPU": 8, "GPU": 2}, {"CPU": 8}], "auto", None, 1, (2, 1, 1, "cuda", 1)),
        ([{"CPU": 8, "GPU": 2}], "cuda", 3, 2, (3, 2, 0.5, "cuda", 2)),
        ([{"CPU": 8, "GPU": 2}], "cuda", 6, 1, (6, 1, 0.3333, "cuda", 3)),
        ([{"CPU": 8, "GPU": 2}], "cpu", 2, 4, (2, 4, 0, "cpu", None)),
    ],
)
def test_what_a_run_gets_of_a_cluster(
    nodes_have: list[dict[str, float]], device: str, jobs: int | None, threads: int, expected: tuple[object, ...]
) -> None:
    assert dataclasses.astuple(share_out(nodes_have, device, jobs, threads)) == expected


@pytest.mark.parametrize(
    ("nodes_have", "device", "line"),
    [
        ([{"CPU": 4}], "cuda", "--device cuda: the Ray cluster has no GPU. Do: --device cpu"),
        ([{"GPU": 4}], "cuda:1", "--device cuda:1: Ray chooses the GPU itself. Do: --device auto, cpu or cuda"),
        ([{"CPU": 1}] * 3, "auto", "--engine ray: no node has 2 CPUs, one for each thread of a run"),
    ],
)
def test_what_a_cluster_cannot_give_is_said(nodes_have: list[dict[str, float]], device: str, line: str) -> None:
    with pytest.raises(BenchError, match=line):
        share_out(nodes_have, device, None, threads=2)
