"""Whole grids through the command line: killed, crowded, with models that crash or hang, and short of time."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from bench.core.base import ROOT
from tests.forked import Forked

SUITE = """\
title = "Grid"
about = "Trained for a moment."
models = ["tired:Tired"]
datasets = ["EPF"]
horizons = [24]
seeds = [1, 2, 3, 4]
backbone = "smollm2-135m"

[override.all]
train = { epochs = 3, batch = 256, max_steps = 60, lr = 1e-3 }
"""
SUITE_WORDS = ["--suite", "grid.toml", "--device", "cpu", "--results"]
TIRED = """\
import multiprocessing
import os
import time
from pathlib import Path

import torch
from torch import nn

import bench.train.checkpoint

bench.train.checkpoint.EVERY = 0.2  # seconds; half a minute is too long for a test


class Tired(nn.Module):
    '''Draws random numbers in training, says when it is built and when it trains, and takes its time.'''

    def __init__(self, shape, options):
        super().__init__()
        self.map, self.drop = nn.Linear(shape.context, shape.horizon), nn.Dropout(0.2)
        with Path("built").open("a") as file:
            file.write(f"{torch.initial_seed()}\\n")

    def forward(self, x):
        if self.training:
            Path(f"trains-{multiprocessing.parent_process().pid}").write_text(str(os.getpid()))
            time.sleep(float(os.environ.get("TIRED", 0)))
        return self.map(self.drop(x).mT).mT


class Crashes(Tired):
    def forward(self, x):
        os._exit(3)


class IsKilled(Tired):
    def forward(self, x):
        os.kill(os.getpid(), 9)


class Hangs(Tired):
    def forward(self, x):
        time.sleep(1000)


class LeavesAChild(Tired):
    '''Dies while a child of its holds on to all that it had open.'''

    def forward(self, x):
        if os.fork():
            os._exit(4)
        time.sleep(1000)


class NeedsTooMuch(Tired):
    def forward(self, x):
        return torch.empty(2**50)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tired.py").write_text(TIRED)
    (tmp_path / "grid.toml").write_text(SUITE)
    return tmp_path


def start(folder: Path, *words: str, tired: float = 0.0, results: str = "results") -> subprocess.Popen[str]:
    """`bench run`, to be killed."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TIRED": str(tired), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "bench", "run", *SUITE_WORDS, results, *words], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def fork(folder: Path, *words: str, tired: float = 0.0, results: str = "results") -> Forked:
    """The same, but forked: within milliseconds, where a command needs seconds to import what it needs."""
    return Forked([*SUITE_WORDS, results, *words], folder, {"TIRED": str(tired), "OMP_NUM_THREADS": "1"})


def end(process: subprocess.Popen[str] | Forked, timeout: float = 120) -> tuple[int | None, str, str]:
    said, complained = process.communicate(timeout=timeout)
    return process.returncode, said, complained


def content(results: Path) -> dict[str, dict]:
    """Every record without what differs from machine to machine and from minute to minute."""
    found = {}
    for path in sorted(results.glob("*/h*/*/*.json")):
        record = json.loads(path.read_text())
        record["cost"] = {name: record["cost"][name] for name in ("steps", "params", "trainable", "flops")}
        record["curve"] = [{**epoch, "seconds": 0} for epoch in record["curve"]]
        record["where"] = {name: record["where"][name] for name in ("data_sha256", "versions")}
        found[path.relative_to(results).as_posix()] = record
    return found


def rubbish(results: Path) -> list[str]:
    """Files that are no records, but for the file of claims."""
    files = (path.relative_to(results).as_posix() for path in results.rglob("*") if path.is_file())
    return [name for name in files if not name.endswith(".json") and name != ".work/claims"] + [
        path.name for path in (results / ".work").glob("*") if path.is_dir()
    ]


def killed_again_and_again(folder: Path, chance: random.Random, times: int) -> list[float]:
    """Drivers killed at random moments, half of them with their workers; the others' must follow by themselves."""
    lived = []
    for number in range(times):
        began = time.monotonic()
        process = fork(folder, tired=0.02)
        trains = folder / f"trains-{process.pid}"
        early = chance.random() < 0.3  # at any moment, else at one in which it trains, tests or records
        until = began + (chance.uniform(0, 3) if early else 60)
        while time.monotonic() < until and not trains.exists() and process.poll() is None:
            time.sleep(0.01)
        if not early:
            time.sleep(chance.uniform(0, 0.8))
        for pid in [*(trains.read_text().split() if number % 2 and trains.exists() else []), process.pid]:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        end(process)
        lived.append(time.monotonic() - began)
    return lived


def test_a_grid_whose_processes_are_killed_twelve_times_ends_as_if_nothing_had_happened(folder: Path) -> None:
    """Two drivers at a time work on it, each killed six times; what is left is done by a last one."""
    with ThreadPoolExecutor(2) as both:
        lived = list(both.map(lambda seed: killed_again_and_again(folder, random.Random(seed), 6), (1, 2)))
    assert sum(map(len, lived)) == 12
    built_before = len((folder / "built").read_text().split())
    code, said, complained = end(fork(folder))
    assert (code, complained) == (0, ""), said
    assert end(fork(folder, results="undisturbed"))[0] == 0
    assert content(folder / "results") == content(folder / "undisturbed")
    assert len(content(folder / "results")) == 4
    assert rubbish(folder / "results") == []
    assert built_before > 4, "runs were begun again: the kills struck"


@pytest.mark.nightly
def test_sixty_kills_by_all_signals_of_drivers_and_workers_change_no_record_of_a_grid_of_24_runs(folder: Path) -> None:
    """Some minutes: a killed worker's run is a failure, which the next command tries again."""
    chance, seeds = random.Random(60), ["--seeds", *map(str, range(24)), "--jobs", "2"]
    struck: Counter[tuple[str, str]] = Counter()
    while struck.total() < 60:
        process = start(folder, *seeds, tired=0.1)
        trains = folder / f"trains-{process.pid}"
        while process.poll() is None and struck.total() < 60:
            waits = chance.uniform(0, 3) if trains.exists() or chance.random() < 0.2 else 0.05
            time.sleep(waits)
            if waits == 0.05:
                continue  # not yet in training, when most kills shall strike
            who, sent = chance.choice(["driver", "worker"]), chance.choice(["SIGKILL", "SIGTERM", "SIGHUP"])
            victims = [process.pid] if who == "driver" else descendants(process.pid)
            with suppress(ProcessLookupError, IndexError):
                os.kill(chance.choice(victims), getattr(signal, sent))
                struck[who, sent] += 1
        process.kill() if struck.total() == 60 else None
        end(process)
    assert len(struck) == 6, struck
    code, said, complained = end(start(folder, *seeds), timeout=600)
    assert (code, complained) == (0, ""), said
    assert end(start(folder, *seeds, results="undisturbed"), timeout=600)[0] == 0
    assert content(folder / "results") == content(folder / "undisturbed")
    assert len(content(folder / "results")) == 24
    assert rubbish(folder / "results") == []


def test_eight_processes_share_a_grid_and_train_each_run_once(folder: Path) -> None:
    seeds = [str(seed) for seed in range(16)]
    processes = [fork(folder, "--seeds", *seeds) for _ in range(8)]
    ends = [end(process, 240) for process in processes]
    assert [code for code, _, _ in ends] == [0] * 8, [complained for _, _, complained in ends]
    records = content(folder / "results")
    assert len(records) == 16
    assert {record["status"] for record in records.values()} == {"done"}
    assert Counter((folder / "built").read_text().split()) == Counter(seeds)
    assert sum(int(said.splitlines()[-1].split(" runs done")[0]) for _, said, _ in ends) == 16
    assert rubbish(folder / "results") == []


def test_models_that_crash_hang_or_ask_for_too_much_are_recorded_and_the_grid_goes_on(folder: Path) -> None:
    names = ["Crashes", "IsKilled", "Hangs", "LeavesAChild", "NeedsTooMuch", "Tired"]
    words = ["--models", *(f"tired:{name}" for name in names), "--seeds", "1", "--jobs", "2", "--run-timeout", "10s"]
    code, said, complained = end(start(folder, *words))
    assert code == 1, complained
    assert "1 runs done, 5 failed, 0 done before" in said
    paths = (folder / "results").rglob("s1-*.json")
    errors = {path.parent.name: json.loads(path.read_text())["error"] for path in paths}
    assert errors == {
        "tired.Crashes": "its process ended by itself (exit code 3)",
        "tired.IsKilled": "its process was killed by SIGKILL (out of memory, or by somebody)",
        "tired.LeavesAChild": "its process ended by itself (exit code 4)",
        "tired.Hangs": "took longer than --run-timeout 10 s",
        "tired.NeedsTooMuch": errors["tired.NeedsTooMuch"],
        "tired.Tired": None,
    }
    assert "allocate" in errors["tired.NeedsTooMuch"]


def test_a_run_stopped_by_the_budget_is_finished_by_the_next_command_with_the_same_numbers(folder: Path) -> None:
    """Sixty steps of a second each, and eleven seconds for them; a forked worker starts at once."""
    words = ["--seeds", "1"]
    code, said, _ = end(fork(folder, *words, "--time-budget", "11s", tired=1.0))
    assert code == 1
    assert "0 runs done, 0 failed, 0 done before, 1 left" in said
    assert content(folder / "results") == {}
    code, said, _ = end(fork(folder, *words))
    assert code == 0
    (path,) = (folder / "results").glob("EPF/h24/*/*.json")
    assert json.loads(path.read_text())["where"]["resumed"], "it was taken up, not begun again"
    assert end(fork(folder, *words, results="undisturbed"))[0] == 0
    assert content(folder / "results") == content(folder / "undisturbed")


def test_workers_end_with_their_driver(folder: Path) -> None:
    process = start(folder, "--jobs", "2", tired=0.05)
    while len(workers := descendants(process.pid)) < 4:  # two workers, the process that they are forked from, and
        assert process.poll() is None  # multiprocessing's own
        time.sleep(0.05)
    process.kill()
    process.wait()
    until = time.monotonic() + 10
    while alive := [pid for pid in workers if Path(f"/proc/{pid}").exists() and "Z" not in _state(pid)]:
        assert time.monotonic() < until, alive
        time.sleep(0.05)


def descendants(pid: int) -> list[int]:
    """Return the children of a driver, and theirs: the workers."""
    found = children(pid)
    return found + [child for each in found for child in children(each)]


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"
