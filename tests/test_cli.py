"""The command line as people use it: what it prints, what it leaves behind, and how it fails."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.core.base import ROOT
from bench.core.store import Store
from bench.plan.suite import Filters, load_suite, plan
from tests.builders import command_in, environment, in_process, python

Refused = Callable[..., str]

HEAVY = {"torch", "transformers", "peft", "ray"}

SUITE = """\
title = "Tiny"
about = "Three steps of training."
models = ["dlinear", "repeat_last"]
datasets = ["EPF"]
horizons = [24]
seeds = [1]
backbone = "smollm2-135m"
"""
THREE_STEPS = "\n[override.all]\ntrain = { max_steps = 3 }\n"

MINE = """\
from torch import nn


class Mine(nn.Module):
    def __init__(self, shape, options):
        super().__init__()
        self.map = nn.Linear(shape.context, shape.horizon)

    def forward(self, x):
        return self.map(x.mT).mT
"""

BROKEN = """\
from pathlib import Path

import torch

from mymodel import Mine


class Raises(Mine):
    def forward(self, x):
        if not Path("mended").exists():
            raise RuntimeError("the roof is on fire")
        return super().forward(x)


class WrongShape(Mine):
    def forward(self, x):
        return super().forward(x)[:, :-1]


class LossIsNaN(Mine):
    def forward(self, x):
        return super().forward(x) * torch.nan


class ForecastIsNaN(Mine):
    def forward(self, x):
        return super().forward(x) * (1.0 if self.training else torch.nan)
"""

TINY = """\
import numpy
import torch
from torch import nn


class MLP(nn.Module):
    def __init__(self, shape, options):
        super().__init__()
        self.map = nn.Sequential(
            nn.Linear(shape.context, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, shape.horizon)
        )

    def forward(self, x):
        return self.map(x.mT).mT


class NumpyDraws(nn.Module):
    def __init__(self, shape, options):
        super().__init__()
        draws = numpy.random.normal(size=(shape.context, shape.horizon)) / shape.context
        self.register_buffer("draws", torch.tensor(draws, dtype=torch.float32))

    def forward(self, x):
        return (x.mT @ self.draws).mT
"""

SLOW = """\
import time
from pathlib import Path

from mymodel import Mine


class Slow(Mine):
    def forward(self, x):
        Path("started").touch()
        while Path("slow").exists():
            time.sleep(0.02)
        return super().forward(x)
"""

PROBE = """\
import importlib, json, sys
try:
    code = importlib.import_module(sys.argv[1]).main(sys.argv[2:])
except SystemExit as stop:
    code = stop.code
print("\\n" + json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]))
"""

REPORT = "bench.report.__main__"
WITHOUT = """\
import importlib, sys


class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "transformers", "peft", "ray"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Absent())
sys.exit(importlib.import_module(sys.argv[1]).main(sys.argv[2:]))
"""


def bench(*words: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """`python -m bench ...` in a process of its own; with `report` as first word `python -m bench.report ...`."""
    return python(*program(*words), env=env)


def program(*words: object) -> list[str]:
    if words[0] == "report":
        return ["-m", "bench.report", *map(str, words[1:])]
    return ["-m", "bench", *map(str, words)]


def probe(module: str, *words: object) -> tuple[int, set[str]]:
    """Exit code of the program, and every top-level module it had imported when it ended."""
    ended = python("-c", PROBE, module, *words)
    code, modules = json.loads(ended.stdout.splitlines()[-1])
    return code, set(modules)


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test stands in its own directory, which holds no data; imports from there are undone afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "data"))


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Calls the program in this process, finds it refused as it should be, and gives the line on stderr."""

    def call(*words: object) -> str:
        capsys.readouterr()
        try:
            code = in_process(*words)
        except SystemExit as stop:
            code = stop.code
        said = capsys.readouterr().err
        assert code == 2
        assert len(said.splitlines()) == 1
        assert "Traceback" not in said
        return said

    return call


def suite_file(folder: Path, text: str) -> Path:
    path = folder / "tiny.toml"
    path.write_text(text)
    return path


def records(results: Path) -> dict[str, dict]:
    """Every record below a results directory, by model and seed."""
    read = [json.loads(path.read_text()) for path in sorted(results.rglob("*.json"))]
    return {f"{record['spec']['model']} {record['spec']['seed']}": record for record in read}


def holes(table: str) -> list[int]:
    """The footnotes of the dashes and the partial means in the row of EPF."""
    (row,) = (line for line in table.splitlines() if line.startswith("EPF"))
    return [int(note) for note in re.findall(r"(?:-|\)) ?\[(\d+)\]", row)]


def test_help_is_answered_without_heavy_imports() -> None:
    ended = bench("--help")
    assert ended.returncode == 0
    for verb in ("list", "plan", "fetch", "run", "show"):
        assert verb in ended.stdout
    for words in (
        ["bench.__main__", "--help"],
        ["bench.__main__", "run", "--help"],
        ["bench.report.__main__", "--help"],
    ):
        code, modules = probe(*words)
        assert code == 0
        assert not modules & {*HEAVY, "pandas", "pydantic"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["list"], 0),
        (["plan", "--suite", "quick", "--results", "none"], 0),
        (["show", "--suite", "quick", "--models", "dlinear", "--results", "tests"], 1),
    ],
    ids=["list", "plan", "show"],
)
def test_looking_imports_no_torch(words: list[str], expected: int) -> None:
    code, modules = probe("bench.__main__", *words)
    assert code == expected
    assert "pydantic" in modules
    assert not modules & HEAVY


def test_list_names_every_model_data_set_backbone_and_suite(capsys: pytest.CaptureFixture[str]) -> None:
    assert in_process("list") == 0
    words = capsys.readouterr().out.split()
    for name in ("logo_llm", "repeat_last", "ETTh1", "EPF", "gpt2", "smollm2-135m", "quick", "paper"):
        assert name in words


def test_names_are_taken_in_any_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "--suite", "quick", "--models", "DLinear", "dlinear", "--datasets", "epf", "--results", tmp_path]
    assert in_process(*words) == 0
    assert "4 runs: 0 done, 0 failed, 4 missing" in capsys.readouterr().out


def test_show_says_of_a_missing_run_that_it_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--suite", "quick", "--models", "dlinear", "--horizons", "24", "--seeds", "7", "--results", tmp_path]
    assert in_process("show", *words) == 1
    said = capsys.readouterr().out
    assert "dlinear EPF h24 s7" in said
    assert "not run" in said
    assert "kernel=25" in said


def test_a_table_without_results_is_dashes_and_footnotes_on_a_machine_without_torch(tmp_path: Path) -> None:
    words = [
        "-c",
        WITHOUT,
        "bench.report.__main__",
        "--table",
        "main",
        "--suite",
        "quick",
        "--results",
        tmp_path,
    ]
    ended = python(*words)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert holes(ended.stdout) == [1] * 16
    assert "[1] None of its runs has been done." in ended.stdout
    partial = python(*words, "--partial")
    assert partial.returncode == 0
    assert partial.stdout == ended.stdout


@pytest.mark.parametrize("words", [["list"], ["plan"], ["run"], ["show"], ["report", "--table", "main"]], ids=" ".join)
def test_outside_its_environment_it_says_how_to_get_there(words: list[str]) -> None:
    ended = python("-S", *program(*words))  # -S: without installed packages
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "has no package" in ended.stderr
    assert "run_all.sh" in ended.stderr
    assert "Traceback" in python("-S", *program(*words, "--debug")).stderr


def test_training_where_there_is_no_torch_is_refused_alike(tmp_path: Path) -> None:
    ended = python("-c", WITHOUT, "bench.__main__", "run", "--suite", "quick", "--results", tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "has no package 'torch'" in ended.stderr


BAD_WORDS = {
    "model": (["plan", "--suite", "quick", "--models", "patchtts"], ["'patchtts'", "nearest: patchtst"]),
    "data set": (["plan", "--suite", "quick", "--datasets", "ETTh3"], ["'ETTh3'", "nearest: ETTh"]),
    "horizon": (["plan", "--suite", "quick", "--horizons", "720"], ["no horizon 720", "quick", "24, 96"]),
    "horizon of no number": (["plan", "--suite", "quick", "--horizons", "long"], ["--horizons", "'long'"]),
    "seed": (["plan", "--suite", "quick", "--seeds", "-1"], ["seed", "-1"]),
    "seed of no number": (["plan", "--suite", "quick", "--seeds", "one"], ["--seeds", "'one'"]),
    "seed too large": (["run", "--suite", "quick", "--models", "dlinear", "--seeds", str(2**70)], ["seed", str(2**70)]),
    "suite": (["plan", "--suite", "quik"], ["'quik'", "nearest: quick"]),
    "suite of a report": (["report", "--table", "main", "--suite", "quik"], ["'quik'", "nearest: quick"]),
    "suite file": (["plan", "--suite", "absent.toml"], ["absent.toml", "cannot be read"]),
    "backbone": (["plan", "--suite", "quick", "--backbone", "gpt3"], ["no backbone", "'gpt3'", "nearest: gpt2"]),
    "table": (["report", "--suite", "quick", "--table", "mian"], ["--table", "'mian'", "main"]),
    "format": (["report", "--suite", "quick", "--table", "main", "--format", "pdf"], ["--format", "'pdf'", "latex"]),
    "verb": (["trian"], ["'trian'", "run"]),
    "option": (["plan", "--suit", "quick", "--model-s", "dlinear"], ["--model-s"]),
    "rerun": (["run", "--suite", "quick", "--rerun", "some"], ["--rerun", "'some'", "missing"]),
    "device": (["run", "--suite", "quick", "--models", "dlinear", "--device", "abacus"], ["--device abacus", "cpu"]),
    "device of another make": (
        ["run", "--suite", "quick", "--models", "dlinear", "--device", "meta"],
        ["--device meta", "cpu"],
    ),
    "jobs": (["run", "--suite", "quick", "--jobs", "0"], ["--jobs", "'0'"]),
    "engine": (["run", "--suite", "quick", "--engine", "slurm"], ["--engine", "'slurm'", "ray"]),
    "shard beyond the last": (["run", "--suite", "quick", "--shard", "3/2"], ["--shard", "'3/2'"]),
    "shard before the first": (["run", "--suite", "quick", "--shard", "0/2"], ["--shard", "'0/2'"]),
    "shard of no number": (["run", "--suite", "quick", "--shard", "first"], ["--shard", "'first'"]),
    "time budget": (["run", "--suite", "quick", "--time-budget", "soon"], ["--time-budget", "'soon'"]),
    "run timeout": (["run", "--suite", "quick", "--run-timeout", "-3m"], ["--run-timeout"]),
    "bundle that is none": (["run", "--suite", "quick", "--offline", "nowhere"], ["nowhere", "not a complete bundle"]),
    "bundle into a full folder": (["fetch", "--suite", "quick", "--into", str(ROOT / "docs")], ["docs", "not empty"]),
    "module": (["plan", "--suite", "quick", "--models", "nowhere:Mine"], ["nowhere:Mine", "PYTHONPATH"]),
    "module below none": (["plan", "--suite", "quick", "--models", "nowhere.at:Mine"], ["nowhere.at:Mine"]),
    "module without a file": (["plan", "--suite", "quick", "--models", "sys:Mine"], ["sys:Mine"]),
    "frozen module": (["plan", "--suite", "quick", "--models", "os:Mine"], ["os:Mine"]),
    "blank in a model": (
        ["plan", "--suite", "quick", "--models", "my model:Mine"],
        ["'my model:Mine'", "module:Class"],
    ),
    "path as a model": (["plan", "--suite", "quick", "--models", "../mymodel:Mine"], ["'../mymodel:Mine'"]),
    "model without a class": (["plan", "--suite", "quick", "--models", "mymodel:"], ["'mymodel:'", "module:Class"]),
    "data file": (
        ["run", "--suite", "quick", "--models", "repeat_last", "--datasets", "ETTh1"],
        ["ETTh1: no file", "ETTh1.csv", "bench fetch", "BENCH_DATA"],
    ),
}


@pytest.mark.parametrize("thing", BAD_WORDS)
def test_an_unusable_word_is_one_line_with_the_thing_and_what_there_is(
    refused: Refused, tmp_path: Path, thing: str
) -> None:
    words, expected = BAD_WORDS[thing]
    said = refused(*words, *([] if thing == "verb" or words[0] == "fetch" else ["--results", tmp_path / "results"]))
    for word in expected:
        assert word in said
    assert not (tmp_path / "results").exists() or not records(tmp_path / "results")


@pytest.mark.parametrize("content", [None, b"", b"\x89PNG\r\n\x00", b"a,b\n1,2\n"])
def test_a_file_that_is_no_series_is_refused_in_one_line(
    refused: Refused, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "mine.csv"
    if content is not None:
        path.write_bytes(content)
    assert "mine.csv" in refused("add-dataset", path)


def test_a_damaged_checkpoint_stops_the_command_with_the_remedy(refused: Refused, tmp_path: Path) -> None:
    suite = suite_file(tmp_path, SUITE + THREE_STEPS)
    (spec,) = plan(load_suite(str(suite)), Filters(models=("dlinear",)))
    checkpoint = Store(tmp_path / "results").work(spec) / "checkpoint.safetensors"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{not it}")
    said = refused("run", "--suite", suite, "--models", "dlinear", "--results", tmp_path / "results")
    assert f"checkpoint {checkpoint}: damaged" in said
    assert "delete it: its run starts over" in said


def test_a_gpu_that_is_not_there_is_refused(refused: Refused, tmp_path: Path) -> None:
    import torch

    there = torch.cuda.device_count()
    words = ["run", "--suite", "quick", "--models", "dlinear", "--results", tmp_path]
    for device in [f"cuda:{there}", *(["cuda"] if there == 0 else [])]:
        said = refused(*words, "--device", device)
        assert f"--device {device}: {there} CUDA GPUs are visible. Do: --device cpu" in said


BAD_SUITES = {
    "unknown option": ("[override.dlinear]\noptions = { kernle = 3 }", ["dlinear", "'kernle'", "nearest: kernel"]),
    "unknown train key": ("[override.dlinear]\ntrain = { epoch = 3 }", ["dlinear", "'epoch'", "nearest: epochs"]),
    "option of a wrong type": ('[override.dlinear]\noptions = { kernel = "wide" }', ["dlinear", "kernel", "'wide'"]),
    "train value of a wrong type": ('[override.dlinear]\ntrain = { epochs = "many" }', ["dlinear", "epochs", "'many'"]),
    "train value out of range": ("[override.dlinear]\ntrain = { lr = -1.0 }", ["dlinear", "lr", "-1.0"]),
    "batch of more windows than fit": ("[override.dlinear]\ntrain = { batch = 1000000000000 }", ["batch", "1000000,"]),
    "learning rate beyond reason": ("[override.dlinear]\ntrain = { lr = 1e300 }", ["lr", "1e+300"]),
    "option out of range": ("[override.dlinear]\noptions = { kernel = 1000000000000 }", ["dlinear.kernel", "1000000,"]),
    "option of nothing": ("[override.dlinear]\noptions = { kernel = 0 }", ["dlinear.kernel", "or equal to 1,"]),
    "look-back beyond reason": ("context = 100000000", ["context", "1000000,"]),
    "share of nothing": ("fractions = [1e-300]", ["fractions.0", "0.000001"]),
    "unknown schedule": ('[override.dlinear]\ntrain = { schedule = "halved" }', ["dlinear", "'halved'", "'halve'"]),
    "unknown key of an override": ("[override.dlinear]\ntrian = { lr = 1.0 }", ["dlinear", "trian"]),
    "override of an unknown model": ("[override.dlinaer]\ntrain = { lr = 1.0 }", ["'dlinaer'", "nearest: dlinear"]),
    "override on an unknown data set": (
        '[[override.dlinear.when]]\ndatasets = ["EFP"]\ntrain = { lr = 1.0 }',
        ["'EFP'", "EPF"],
    ),
    "override on an unknown backbone": (
        '[[override.dlinear.when]]\nbackbones = ["gpt3"]\ntrain = { lr = 1.0 }',
        ["'gpt3'", "gpt2"],
    ),
    "unknown table": ("[overide.dlinear]\ntrain = { lr = 1.0 }", ["tiny.toml", "'overide'", "nearest: override"]),
    "name that leads out of reports": ('name = "../../evil"', ["tiny.toml", "name", "../../evil"]),
    "invalid TOML": ("[override.dlinear\ntrain = { lr = 1.0 }", ["tiny.toml", "not valid TOML", "line 8"]),
}


@pytest.mark.parametrize("thing", BAD_SUITES)
def test_a_suite_that_makes_no_sense_is_refused_when_planned(refused: Refused, tmp_path: Path, thing: str) -> None:
    text, expected = BAD_SUITES[thing]
    said = refused("plan", "--suite", suite_file(tmp_path, SUITE + text), "--results", tmp_path / "results")
    for word in expected:
        assert word in said


BAD_LINES = {
    "no models": ("models", "[]"),
    "no data sets": ("datasets", "[]"),
    "no seeds": ("seeds", "[]"),
    "negative seed": ("seeds", "[-1]"),
    "horizon of nothing": ("horizons", "[0]"),
    "unknown model": ("models", '["patchtts"]'),
    "unknown data set": ("datasets", '["EFP"]'),
    "unknown backbone": ("backbone", '"gpt3"'),
    "title of no text": ("title", "3"),
}


@pytest.mark.parametrize("verb", ["plan", "report --table main"])
@pytest.mark.parametrize("thing", BAD_LINES)
def test_a_suite_line_that_makes_no_sense_is_refused_by_every_verb(
    refused: Refused, tmp_path: Path, thing: str, verb: str
) -> None:
    key, value = BAD_LINES[thing]
    lines = [f"{key} = {value}" if line.startswith(f"{key} =") else line for line in SUITE.splitlines()]
    path = suite_file(tmp_path, "\n".join(lines))
    said = refused(*verb.split(), "--suite", path, "--results", tmp_path / "results")
    assert key.rstrip("s") in said or value.strip('[]"') in said


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", None], ids=["binary", "a folder"])
def test_a_suite_file_that_cannot_be_read_is_named(refused: Refused, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "tiny.toml"
    path.mkdir() if content is None else path.write_bytes(content)
    assert f"{path}: cannot be read" in refused("plan", "--suite", path, "--results", tmp_path / "results")


LARGE_SUITES = {
    "nested lists": ("seeds", "[" * 100_000 + "]" * 100_000, "nested too deeply"),
    "a number of 5,000 digits": ("seeds", f"[{'9' * 5000}]", "cannot be read"),
    "a key of 200,000 parts": ("seeds", "[1]\n" + "a." * 200_000 + "a = 1", "nested too deeply"),
    "a horizon of 400 digits": ("horizons", f"[{'9' * 400}]", "less than or equal to 1000000, got"),
    "two million seeds": ("seeds", str(list(range(2_000_000))), "larger than 1 MiB"),
    "more seeds than a suite may have": ("seeds", str(list(range(1001))), "seeds: tuple should have at most 1000"),
    "more horizons": ("horizons", str(list(range(1, 100_000))), "horizons"),
    "more runs than a grid may have": ("seeds", str(list(range(1000))), "at most 100000"),
}


@pytest.mark.parametrize("verb", ["plan", "report --table main"])
@pytest.mark.parametrize("thing", LARGE_SUITES)
def test_a_suite_beyond_the_limits_is_refused_within_a_second(
    refused: Refused, tmp_path: Path, thing: str, verb: str
) -> None:
    key, value, expected = LARGE_SUITES[thing]
    lines = [f"{key} = {value}" if line.startswith(f"{key} =") else line for line in SUITE.splitlines()]
    if "runs" in thing:
        lines = [f"horizons = {list(range(1, 900))}" if line.startswith("horizons") else line for line in lines]
    path = suite_file(tmp_path, "\n".join(lines))
    (tmp_path / "results").mkdir()
    began = time.monotonic()
    assert expected in refused(*verb.split(), "--suite", path, "--results", tmp_path / "results")
    assert time.monotonic() - began < 2  # seconds; a busy machine gets one more


def test_a_suite_that_is_no_regular_file_is_refused_at_once(refused: Refused, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    assert "not a regular file" in refused("plan", "--suite", tmp_path / "pipe.toml", "--results", tmp_path / "results")


def test_an_override_counts_whatever_the_case_of_its_model_and_data_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = (
        '[override.DLinear]\noptions = { kernel = 3 }\n[[override.DLinear.when]]\ndatasets = ["epf"]\n'
        "train = { epochs = 7 }"
    )
    path = suite_file(tmp_path, SUITE + changes)
    in_process("show", "--suite", path, "--models", "dlinear", "--results", tmp_path, "--long")
    said = capsys.readouterr().out
    assert "kernel=3 " in said.replace("\n", " ")
    assert "epochs=7 " in said


@pytest.mark.parametrize("verb", ["plan", "run", "show", "report --table main"])
def test_a_results_directory_that_cannot_be_is_refused_before_anything_is_trained(
    refused: Refused, tmp_path: Path, verb: str
) -> None:
    (tmp_path / "file").write_text("not a folder")
    results = tmp_path / "file" / "results"
    said = refused(*verb.split(), "--suite", suite_file(tmp_path, SUITE + THREE_STEPS), "--results", results)
    assert str(results) in said


def test_a_data_file_with_another_hash_is_refused_with_both_hashes_and_the_remedy(
    refused: Refused, tmp_path: Path
) -> None:
    path = tmp_path / "data" / "ETT-small" / "ETTh1.csv"
    path.parent.mkdir(parents=True)
    path.write_text("date,OT\n2016-07-01 00:00:00,1\n")
    words = ["--suite", "quick", "--models", "repeat_last", "--datasets", "ETTh1", "--results", tmp_path / "results"]
    for said in (refused("run", *words), refused("fetch", *words[:-2])):
        assert "ETTh1:" in said
        assert f"{path} has SHA-256 " in said
        assert "f18de3ad" in said
        assert "delete it" in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_under_the_output_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, *program("plan", "--suite", "quick")]
        ended = subprocess.run(command, env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr == "python -m bench: [Errno 28] No space left on device\n"


def test_debug_shows_the_traceback() -> None:
    ended = bench("plan", "--suite", "quik", "--debug")
    assert ended.returncode != 0
    assert "Traceback" in ended.stderr
    assert "no suite 'quik'; nearest: quick" in ended.stderr


BAD_MODULES = {
    "classless": ({"classless.py": "Other = 1\n"}, "no class Mine"),
    "instance": ({"instance.py": "Mine = 1\n"}, "no class Mine"),
    "raising": ({"raising.py": "raise RuntimeError('no\\nroof')\n"}, "RuntimeError: no roof"),
    "misspelt": ({"misspelt.py": "class Mine:\n  def\n"}, "SyntaxError"),
    "leaving": ({"leaving.py": "import sys\nsys.exit(0)\n"}, "SystemExit"),
    "falling.inner": (
        {"falling/__init__.py": "raise RuntimeError('no floor')\n", "falling/inner.py": MINE},
        "RuntimeError: no floor",
    ),
    "folder": ({"folder/inner.py": MINE}, "no module 'folder'"),
}


@pytest.mark.parametrize("module", BAD_MODULES)
def test_a_user_model_that_cannot_be_imported_is_named_with_the_reason(
    refused: Refused, tmp_path: Path, module: str
) -> None:
    files, expected = BAD_MODULES[module]
    for file, text in files.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    path = suite_file(tmp_path, SUITE + THREE_STEPS)
    words = ["--suite", path, "--device", "cpu", "--results", tmp_path / "results"]
    said = refused("run", *words, "--models", "repeat_last", f"{module}:Mine")
    assert f"{module}:Mine" in said
    assert expected in said
    assert not records(tmp_path / "results")


def test_an_absent_language_model_is_refused_with_the_command_that_brings_it(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))  # for the worker
    words = ["--models", "logo_llm", "--backbone", "gpt2", "--results", tmp_path / "results"]
    line = refused("run", "--suite", "quick", *words)
    assert "backbone gpt2: no model.safetensors in the Hugging Face cache" in line
    assert "python -m bench fetch" in line
    assert not records(tmp_path / "results")


def test_fetch_without_network_says_what_it_could_not_reach_and_where_to_put_the_file(tmp_path: Path) -> None:
    words = ["fetch", "--suite", "quick", "--models", "repeat_last", "--datasets", "ETTh1"]
    env = {"BENCH_DATA": str(tmp_path), "HF_HOME": str(tmp_path / "hub"), "HF_ENDPOINT": "http://127.0.0.1:1"}
    env |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    ended = bench(*words, env=env)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert "ETTh1: could not reach thuml/Time-Series-Library" in line
    assert str(tmp_path / "ETT-small" / "ETTh1.csv") in line
    assert not list(tmp_path.rglob("*.csv"))


def test_fetch_of_what_is_here_needs_no_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert in_process("fetch", "--suite", "quick", "--models", "repeat_last") == 0
    assert "EPF: here, verified" in capsys.readouterr().out


def repeat_last(verb: str, results: Path, *words: object) -> int:
    """`verb` on repeat_last at two seeds."""
    device = ["--device", "cpu"] if verb == "run" else []
    filters = ["--models", "repeat_last", "--horizons", "24", "--seeds", "1", "2"]
    return in_process(verb, "--suite", "quick", *filters, "--results", results, *device, *words)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results directory with repeat_last at two seeds; tests work on copies."""
    results = tmp_path_factory.mktemp("recorded") / "results"
    assert repeat_last("run", results) == 0
    return results


@pytest.fixture
def results(recorded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(recorded, tmp_path / "results"))


def test_what_is_done_is_not_run_again(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in results.rglob("*.json")}
    assert len(before) == 2
    assert repeat_last("run", results) == 0
    assert "0 runs done, 0 failed, 2 done before" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in results.rglob("*.json")} == before
    assert repeat_last("plan", results) == 0
    assert "2 runs: 2 done, 0 failed, 0 missing" in capsys.readouterr().out


def test_rerun_all_runs_again_and_finds_the_same_numbers(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bytes_before = {path: path.read_bytes() for path in results.rglob("*.json")}
    before = records(results)
    assert repeat_last("run", results, "--rerun", "all") == 0
    assert "2 runs done, 0 failed, 0 done before" in capsys.readouterr().out
    assert all(path.read_bytes() != old for path, old in bytes_before.items())
    for name, record in records(results).items():
        assert record["evaluations"] == before[name]["evaluations"]


def test_json_has_every_run_with_all_digits(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert repeat_last("show", results, "--format", "json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert {row["path"] for row in shown} == {str(path) for path in results.rglob("*.json")}
    assert all(row["record"] == json.loads(Path(row["path"]).read_text()) for row in shown)
    assert repeat_last("plan", results, "--format", "json") == 0
    assert all("done" in row["seeds"] for row in json.loads(capsys.readouterr().out))


def test_show_gives_the_numbers_and_where_they_came_from(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert repeat_last("show", results) == 0
    said = capsys.readouterr().out
    for record in records(results).values():
        assert f"mse {record['evaluations'][0]['mse']:.4f}" in said
        assert record["where"]["versions"]["torch"] in said
        assert record["where"]["data_sha256"]["EPF"] in said


DAMAGED = {
    "cut short": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "not text": lambda content: b"\xff\xfe" + content,
    "another kind of JSON": lambda content: b"[1, 2]",
    "a key too many": lambda content: content.replace(b'"status"', b'"mood": 1, "status"'),
    "steps of a model that trains nothing": lambda content: content.replace(b'"steps": 0', b'"steps": 5'),
    "no finite number": lambda content: content.replace(b'"mse":', b'"mse": NaN, "was":'),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_record_is_named_and_never_taken_for_a_result(
    refused: Refused, capsys: pytest.CaptureFixture[str], results: Path, damage: str
) -> None:
    path = min(results.rglob("*.json"))
    path.write_bytes(DAMAGED[damage](path.read_bytes()))
    before = path.read_bytes()
    words = ["--suite", "quick", "--models", "repeat_last", "--horizons", "24", "--seeds", "1", "2"]
    assert str(path) in refused("run", *words, "--results", results)
    assert path.read_bytes() == before
    assert in_process("report", *words, "--results", results, "--table", "main") == 1
    table, said = capsys.readouterr()
    assert "1 of 2 runs missing: EPF h24 s1 refused (" in table
    assert str(path) in said
    assert "move it away" in said


def test_a_record_of_another_run_is_named_and_never_taken_for_this_one(
    refused: Refused, capsys: pytest.CaptureFixture[str], results: Path
) -> None:
    one, other = sorted(results.rglob("*.json"))
    shutil.copy(one, other)
    words = ["--suite", "quick", "--models", "repeat_last", "--horizons", "24", "--seeds", "1", "2"]
    for verb in ("plan", "run", "show"):
        said = refused(verb, *words, "--results", results)
        assert f"{other}: holds the record of another run. Do: move it away and run again" in said
    assert in_process("report", *words, "--results", results, "--table", "main") == 1
    table, said = capsys.readouterr()
    assert holes(table) == [1, 1]
    assert "refused (holds the record of another run)" in table
    assert f"{other}: holds the record of another run. Do: move it away and run again" in said


BROKEN_MODELS = {
    "Raises": "RuntimeError: the roof is on fire",
    "WrongShape": "expected [batch, horizon, channels]",
    "LossIsNaN": "TrainingDiverged: the training loss is nan",
    "ForecastIsNaN": "TrainingDiverged: the validation score",
}


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A folder of the user's with models that work and models that do not, all run by one command; and how it ended."""
    folder = tmp_path_factory.mktemp("grid")
    (folder / "mymodel.py").write_text(MINE)
    (folder / "broken.py").write_text(BROKEN)
    names = ", ".join(f'"broken:{name}"' for name in BROKEN_MODELS)
    models = f'models = [{names}, "mymodel:Mine", "repeat_last"]'
    suite_file(folder, SUITE.replace('models = ["dlinear", "repeat_last"]', models) + THREE_STEPS)
    return folder, command_in(folder, "run", "--suite", "tiny.toml", "--results", "results", "--device", "cpu")


Grid = tuple[Path, subprocess.CompletedProcess[str]]


def test_a_users_own_model_is_trained_and_is_a_column_of_the_table(grid: Grid) -> None:
    folder, _ = grid
    record = records(folder / "results")["mymodel:Mine 1"]
    assert record["status"] == "done"
    assert record["cost"]["steps"] == 3
    assert record["cost"]["trainable"] == 97 * 24
    words = ["report", "--table", "main", "--suite", "tiny.toml", "--results", "results"]
    models = ["--models", "mymodel:Mine", "repeat_last"]
    ended = command_in(folder, *words, *models, "--format", "json")
    assert ended.returncode == 0
    table = json.loads(ended.stdout)
    assert table["columns"] == [[model, metric] for model in models[1:] for metric in ("mse", "mae")]
    evaluation = record["evaluations"][0]
    assert table["rows"]["EPF"][:2] == [evaluation["mse"], evaluation["mae"]]
    header = command_in(folder, *words, *models).stdout.splitlines()[2]
    assert header.split() == ["mymodel:Mine", "Repeat", "last"]


def test_editing_the_file_of_a_users_own_model_makes_its_run_missing_again(grid: Grid, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(grid[0], tmp_path / "copy"))
    words = ["plan", "--suite", "tiny.toml", "--results", "results", "--models", "mymodel:Mine", "repeat_last"]
    assert "2 runs: 2 done, 0 failed, 0 missing" in command_in(folder, *words).stdout
    (folder / "mymodel.py").write_text(MINE.replace("self.map(x.mT).mT", "self.map(x.mT).mT + 1"))
    assert "2 runs: 1 done, 0 failed, 1 missing" in command_in(folder, *words).stdout


def test_a_user_model_that_fails_is_recorded_with_its_reason_and_the_grid_goes_on(grid: Grid) -> None:
    folder, ended = grid
    assert ended.returncode == 1
    assert ended.stderr == ""
    assert f"2 runs done, {len(BROKEN_MODELS)} failed, 0 done before" in ended.stdout
    found = records(folder / "results")
    for model in BROKEN_MODELS:
        record = found[f"broken:{model} 1"]
        assert record["status"] == "failed"
        assert record["error"]
        assert not record["evaluations"]
        assert record["error"] in ended.stdout
    assert found["mymodel:Mine 1"]["status"] == found["repeat_last 1"]["status"] == "done"


@pytest.mark.parametrize("model", BROKEN_MODELS)
def test_the_reason_of_a_failure_is_one_that_the_models_author_understands(grid: Grid, model: str) -> None:
    error = records(grid[0] / "results")[f"broken:{model} 1"]["error"]
    assert BROKEN_MODELS[model] in error
    assert "pydantic" not in error


def test_a_failed_run_is_a_dash_with_its_reason_and_planned_as_failed(grid: Grid) -> None:
    folder, _ = grid
    words = ["--suite", "tiny.toml", "--results", "results"]
    ended = command_in(folder, "report", "--table", "main", *words)
    assert ended.returncode == 1
    assert holes(ended.stdout) == [note for note in range(1, 5) for _ in ("mse", "mae")]
    found = records(folder / "results")
    for model in BROKEN_MODELS:
        error = found[f"broken:{model} 1"]["error"]
        note = f"{model}: 1 of 1 runs missing: EPF h24 s1 failed ({error})"
        assert note in " ".join(ended.stdout.split()), "notes are wrapped"
    planned = command_in(folder, "plan", *words).stdout
    assert f"6 runs: 2 done, {len(BROKEN_MODELS)} failed, 0 missing" in planned
    assert planned.count("1 failed") == len(BROKEN_MODELS)


def test_a_failed_run_is_tried_again_by_the_next_command(grid: Grid, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(grid[0], tmp_path / "copy"))
    (folder / "mended").touch()
    words = ["--suite", "tiny.toml", "--results", "results", "--models", "broken:Raises", "repeat_last"]
    ended = command_in(folder, "run", *words, "--device", "cpu")
    assert ended.returncode == 0
    assert "1 runs done, 0 failed, 1 done before" in ended.stdout
    record = records(folder / "results")["broken:Raises 1"]
    assert record["status"] == "done"
    assert record["error"] is None


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict]]:
    """The records of one grid, run in one order of models and seeds and in the reverse."""
    folder = tmp_path_factory.mktemp("orders")
    (folder / "tiny.py").write_text(TINY)
    suite_file(folder, SUITE + THREE_STEPS)
    models, seeds = ["dlinear", "tiny:MLP", "tiny:NumpyDraws"], ["1", "2"]

    def run(name: str, step: int) -> dict[str, dict]:
        words = ["--models", *models[::step], "--seeds", *seeds[::step], "--device", "cpu", "--results", name]
        assert command_in(folder, "run", "--suite", "tiny.toml", *words).returncode == 0
        return records(folder / name)

    return [run("forward", 1), run("backward", -1)]


@pytest.mark.parametrize("model", ["dlinear", "tiny:MLP", "tiny:NumpyDraws"])
def test_a_run_gives_the_same_numbers_to_the_bit_in_whatever_order_the_grid_is_run(
    orders: list[dict[str, dict]], model: str
) -> None:
    forward, backward = orders
    assert list(forward) == list(backward)
    for seed in (1, 2):
        assert forward[f"{model} {seed}"]["evaluations"] == backward[f"{model} {seed}"]["evaluations"]
        losses = [[epoch["val_loss"] for epoch in found[f"{model} {seed}"]["curve"]] for found in orders]
        assert losses[0] == losses[1]


def test_another_seed_gives_other_numbers(orders: list[dict[str, dict]]) -> None:
    found = orders[0]
    assert found["tiny:MLP 1"]["evaluations"] != found["tiny:MLP 2"]["evaluations"]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Children inherit ignored signals (of a background job, of nohup); they shall not here."""
    defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in defaults.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    "sent",
    [signal.SIGTERM, *(pytest.param(each, marks=pytest.mark.nightly) for each in (signal.SIGINT, signal.SIGHUP))],
)
def test_an_interrupted_run_leaves_nothing_half_done_and_can_be_started_again(
    tmp_path: Path, sent: signal.Signals
) -> None:
    (tmp_path / "mymodel.py").write_text(MINE)
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "slow").touch()
    suite_file(tmp_path, SUITE + THREE_STEPS)
    words = ["run", "--suite", "tiny.toml", "--models", "repeat_last", "slow:Slow", "--device", "cpu"]
    command = [sys.executable, *program(*words, "--results", "results")]
    with subprocess.Popen(
        command, env=environment(), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            wait_for(tmp_path / "started", running)
            running.send_signal(sent)
            _, said = running.communicate(timeout=30)
        finally:
            running.kill()
    assert running.returncode == 130
    (line,) = said.splitlines()
    assert "interrupted" in line
    assert "start it again" in line
    assert [path.parent.name for path in (tmp_path / "results").rglob("*.json")] == ["repeat_last"]
    (tmp_path / "slow").unlink()
    again = command_in(tmp_path, *words, "--results", "results")
    assert again.returncode == 0
    assert "1 runs done, 0 failed, 1 done before" in again.stdout


def wait_for(path: Path, running: subprocess.Popen[str]) -> None:
    limit = time.monotonic() + 60
    while not path.exists():
        assert running.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.02)
