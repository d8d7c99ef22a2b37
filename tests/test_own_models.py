"""Users' own models: what code is theirs, that nothing of it runs before its run, and that no other run feels them."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from pathlib import Path

import pytest
import torch
from torch import nn

from bench.core.base import BenchError
from bench.core.card import DatasetCard
from bench.core.jobs import Event, Job, Lost, Progress
from bench.core.record import TRACEBACK, RunResult
from bench.core.spec import RunSpec
from bench.core.store import LOG, Store
from bench.grid import local
from bench.grid.local import Workers
from bench.grid.process import ORPHANED
from bench.overview import plan_rows
from bench.plan import capacity
from bench.plan import own_code as finding
from bench.plan.estimate import Estimate
from bench.plan.own_code import own_code, summaries
from bench.plan.suite import Filters, PlannedRun, load_suite, plan
from bench.train.evaluate import predict
from bench.train.execute import run_one
from bench.train.windows import Windows
from bench.train.worker import answer, load
from tests.builders import HERE, command_in, done, environment, in_process, make_spec, python, waves

SUITE = """\
title = "Tiny"
about = "Three steps of training."
models = ["dlinear"]
datasets = ["EPF"]
horizons = [24]
seeds = [1]
backbone = "smollm2-135m"

[override.all]
train = { max_steps = 3 }
"""
NET = """\
from torch import nn


class Net(nn.Module):
    def __init__(self, shape, options):
        super().__init__()
        self.map = nn.Linear(shape.context, shape.horizon)

    def forward(self, x):
        return self.map(x.mT).mT
"""
RUNS = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\nraise SystemExit(3)\n"
"""A line of this in a file is felt if anything runs it."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the current directory of the test, on the import path; what is imported from it is forgotten after."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.syspath_prepend(str(here))
    before = set(sys.modules)
    yield here
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


# What code is the user's


IMPORTS: dict[str, tuple[dict[str, str], str, list[str]]] = {
    "import": ({"net.py": "import helper"}, "net", ["helper.py"]),
    "import as": ({"net.py": "import numpy, helper as h"}, "net", ["helper.py"]),
    "from": ({"net.py": "from helper import K"}, "net", ["helper.py"]),
    "star": ({"net.py": "from helper import *"}, "net", ["helper.py"]),
    "in a function": ({"net.py": "def f():\n    import helper"}, "net", ["helper.py"]),
    "under a condition": ({"net.py": "if False:\n    from helper import K"}, "net", ["helper.py"]),
    "tried": ({"net.py": "try:\n    import helper\nexcept ImportError:\n    import absent"}, "net", ["helper.py"]),
    "by its name": ({"net.py": "import importlib\nimportlib.import_module('helper')"}, "net", ["helper.py"]),
    "through another": ({"net.py": "import middle", "middle.py": "import helper"}, "net", ["middle.py", "helper.py"]),
    "in a circle": ({"net.py": "import helper", "helper.py": "import net"}, "net", ["helper.py"]),
    "relative": (
        {"pkg/__init__.py": "", "pkg/net.py": "from .helper import K", "pkg/helper.py": ""},
        "pkg.net",
        ["pkg/__init__.py", "pkg/helper.py"],
    ),
    "relative module": (
        {"pkg/__init__.py": "", "pkg/net.py": "from . import helper", "pkg/helper.py": ""},
        "pkg.net",
        ["pkg/__init__.py", "pkg/helper.py"],
    ),
    "relative, upwards": (
        {"pkg/sub/net.py": "from ..other.helper import K", "pkg/other/helper.py": ""},
        "pkg.sub.net",
        ["pkg/other/helper.py"],
    ),
    "out of its package": ({"net.py": "from ... import helper\nfrom . import helper"}, "net", []),
    "package's own file": (
        {"pkg/__init__.py": "from pkg import helper", "pkg/net.py": "", "pkg/helper.py": ""},
        "pkg.net",
        ["pkg/__init__.py", "pkg/helper.py"],
    ),
    "folder without __init__": (
        {"pkg/net.py": "import pkg.deep.helper", "pkg/deep/helper.py": ""},
        "pkg.net",
        ["pkg/deep/helper.py"],
    ),
    "submodule as": (
        {"net.py": "import pkg.sub as s", "pkg/__init__.py": "", "pkg/sub.py": ""},
        "net",
        ["pkg/__init__.py", "pkg/sub.py"],
    ),
    "whole package": (
        {"net.py": "from pkg import *", "pkg/__init__.py": "__all__ = ['sub']", "pkg/sub.py": ""},
        "net",
        ["pkg/__init__.py", "pkg/sub.py"],
    ),
    "class in a package's own file": (
        {"pkg/__init__.py": "from .net import Net", "pkg/net.py": ""},
        "pkg",
        ["pkg/net.py"],
    ),
    "not by the project": ({"net.py": "import bench.core.spec, models.dlinear, torch, json"}, "net", []),
}


@pytest.mark.parametrize("case", IMPORTS)
def test_the_key_covers_every_file_that_the_model_imports_and_no_other(folder: Path, case: str) -> None:
    files, module, helpers = IMPORTS[case]
    write(folder, {"helper.py": "", "unused.py": ""} | {name: f"{text}\n{RUNS}" for name, text in files.items()})
    own = module.replace(".", "/") + ".py"
    own = own if (folder / own).is_file() else f"{module}/__init__.py"
    found = own_code(f"{module}:Net")
    assert {path.relative_to(folder).as_posix() for path in found.hashes} == {own, *helpers}
    assert not found.installed
    for name in [own, *helpers, "unused.py"]:
        text = (folder / name).read_text()
        (folder / name).write_text(f"{text}# edited\n")
        assert (own_code(f"{module}:Net").digest == found.digest) == (name == "unused.py"), name
        (folder / name).write_text(text)
    assert not list(folder.rglob("ran")), "nothing was run"
    assert f"{module}:Net" not in sys.modules


def test_a_model_keeps_its_key_where_it_is_moved(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, {"net.py": "import helper", "helper.py": "K = 1"})
    before = own_code("net:Net")
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    for name in ("net.py", "helper.py"):
        (folder / name).rename(elsewhere / name)
    monkeypatch.syspath_prepend(str(elsewhere))
    assert own_code("net:Net").digest == before.digest
    lines = summaries(map(own_code, ("net:Net", "net:Other", "helper:K")))
    files = [f"{elsewhere}/net.py, {elsewhere}/helper.py", f"{elsewhere}/helper.py"]
    assert lines == [f"net:Net, net:Other run {files[0]}", f"helper:K runs {files[1]}"]


def install(site: Path, name: str, version: str) -> None:
    """Make a distribution as pip leaves it."""
    shutil.rmtree(site, ignore_errors=True)
    about = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    write(site, {f"{name}/__init__.py": RUNS, f"{about}/METADATA": metadata, f"{about}/top_level.txt": name})
    finding._distributions.cache_clear()
    finding._holds_packages.cache_clear()


def test_an_installed_package_counts_by_its_version(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = folder.parent / "site"
    install(site, "layerstuff", "1.0")
    monkeypatch.syspath_prepend(str(site))
    write(folder, {"net.py": "import torch, einops, layerstuff.inner"})
    first = own_code("net:Net")
    assert first.installed == {"layerstuff": "1.0"}
    assert {path.name for path in first.hashes} == {"net.py"}
    (site / "layerstuff" / "__init__.py").write_text("# edited")
    assert own_code("net:Net").digest == first.digest
    install(site, "layerstuff", "1.1")
    assert own_code("net:Net").digest != first.digest
    assert own_code("layerstuff:Net").hashes, "a model that is installed itself is known by its files too"
    finding._distributions.cache_clear()


UNREADABLE = {
    "no such module": ({}, "no module 'net' that is a file in "),
    "no Python": ({"net.abi3.so": "\x7fELF"}, "no module 'net' that is a file in "),
    "a folder": ({"net/other.py": ""}, "no module 'net' that is a file in "),
    "a syntax error": ({"net.py": "import helper", "helper.py": "def\n"}, "helper.py: SyntaxError: "),
    "a zero byte": ({"net.py": "a = 1\0"}, "net.py: "),
    "no text": ({"net.py": "a = '\udcff'"}, "net.py: SyntaxError: "),
    "nested too deep": ({"net.py": "(" * 5000 + ")" * 5000}, "net.py: "),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_code_that_cannot_be_read_is_refused_in_one_line(folder: Path, case: str) -> None:
    files, expected = UNREADABLE[case]
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BenchError) as refused:
        own_code("net:Net")
    line = str(refused.value)
    assert line.startswith(f"model net:Net: {expected}") and ". Do: " in line and "\n" not in line


@pytest.mark.parametrize("written", ["net.py:Net", "deep/net.py:Net", "deep/net:Net"])
def test_a_path_in_place_of_a_module_is_answered_with_the_module(folder: Path, written: str) -> None:
    with pytest.raises(BenchError, match=f"Do: write {written.replace('/', '.').replace('.py', '')}, and start where"):
        own_code(written)


@pytest.mark.parametrize("verb", ["plan", "show", "run", "report --table main"])
def test_a_suite_runs_no_code_from_outside_the_current_directory(
    folder: Path, verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = folder.parent / "outside"
    write(outside, {"evilpkg/__init__.py": RUNS, "evilpkg/m.py": RUNS + NET})
    monkeypatch.syspath_prepend(str(outside))
    (folder / "results").mkdir()
    suite = folder / "tiny.toml"
    suite.write_text(SUITE.replace('"dlinear"', '"dlinear", "evilpkg.m:Net"'))
    words = [*verb.split(), "--suite", suite, "--results", folder / "results"]
    assert in_process(*words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"suite tiny names model evilpkg.m:Net, which lies outside {folder}" in line
    assert line.endswith("Do: name it by --models evilpkg.m:Net, if you trust it")
    if verb != "run":
        assert in_process(*words, "--models", "evilpkg.m:Net") != 2
    write(folder, {"evilpkg/__init__.py": RUNS, "evilpkg/m.py": RUNS + NET})
    monkeypatch.syspath_prepend(str(folder))
    if verb != "run":
        assert in_process(*words) != 2, "now it lies here"
    assert not list(folder.parent.rglob("ran")), "nothing was run"


# What a run imports is compared with the plan


def own(card: DatasetCard, model: str = "net:Net", seed: int = 1) -> RunSpec:
    """Return a small run of a user's own model."""
    return make_spec(card, seed=seed).model_copy(update={"model": model, "options": {}, "code": own_code(model).digest})


@pytest.fixture
def card(make_card: Callable[..., DatasetCard]) -> DatasetCard:
    return make_card(waves(120, 3))


HIDDEN = {
    "by a name that is put together": "import importlib\nimportlib.import_module('hel' + 'per')",
    "by its path": (
        "from importlib import util\nspec = util.spec_from_file_location('h', 'helper.py')\n"
        "spec.loader.exec_module(util.module_from_spec(spec))"
    ),
    "by its path, run": "import runpy\nrunpy.run_path('helper.py')",
    "by its text": "exec(open('helper.py').read())",
    "by a part of its text": "exec(open('helper.py').read().strip() + '\\n#')",
    "by its bytes": "from pathlib import Path\nexec(Path('helper.py').read_bytes())",
    "by its compiled text": "exec(compile(open('helper.py').read(), 'K', 'exec'))",
    "by its tree": "import ast\nexec(compile(ast.parse(open('helper.py').read()), 'K', 'exec'))",
}


@pytest.mark.parametrize("way", HIDDEN)
def test_code_that_planning_cannot_see_is_refused_when_models_are_checked(
    folder: Path, card: DatasetCard, way: str
) -> None:
    write(folder, {"net.py": f"{HIDDEN[way]}\n{NET}", "helper.py": "K = 1\n"})
    line = r"^model net:Net runs or reads helper\.py, which planning cannot see\. Do: import it by an import statement"
    with pytest.raises(BenchError, match=line):
        load([own(card)])
    write(folder, {"net.py": f"import helper\n{HIDDEN[way]}\n{NET}"})
    for name in ("net", "helper"):
        sys.modules.pop(name, None)
    load([own(card)])


def test_honest_models_are_not_refused(folder: Path, card: DatasetCard, cpu: torch.device) -> None:
    """Data files, its own source, written code, compiled code, generated classes, a lazy and a relative import."""
    honest = """\
import dataclasses
import inspect
import typing
from collections import namedtuple
from pathlib import Path

import torch
from pkg import helper
from torch import nn

numbers = [float(line) for line in open(Path(__file__).with_name("numbers.txt"))]
Point = namedtuple("Point", "x y")
Path("made.py").write_text("K = 2")
assert inspect.getsource(helper)


@dataclasses.dataclass
class Options:
    size: int = 3


class Net(nn.Module):
    def __init__(self, shape, options):
        super().__init__()
        assert inspect.getsource(Net) and eval(compile("1 + 1", "text", "eval")) == 2
        self.map = nn.Linear(shape.context, shape.horizon)

    def forward(self, x):
        from .lazy import K
        return self.map(x.mT).mT * K
"""
    files = {"pkg/net.py": honest, "pkg/__init__.py": "", "pkg/helper.py": "K = 1", "pkg/lazy.py": "K = 1"}
    write(folder, files | {"pkg/numbers.txt": "1\n2\n"})
    load([own(card, "pkg.net:Net")])
    result = run_one(own(card, "pkg.net:Net"), cpu)
    assert (result.status, result.error) == ("done", None)


@pytest.mark.parametrize("package", finding.PROJECT)
def test_a_file_of_the_users_beside_the_projects_is_the_users(folder: Path, package: str) -> None:
    checkout = folder / "checkout"
    for name in finding.PROJECT:
        shutil.copytree(finding.ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    (checkout / package / "helper.py").write_text("K = 1")
    net = f"from models.layers import Attention\nfrom {package}.helper import K\n{NET}"
    for place in ("net.py", f"{package}/net.py"):
        (checkout / place).write_text(net)
    env = {"PYTHONPATH": str(checkout)}
    show = "c = o(name); print(c.digest, *c.files)"
    code = f"from bench.plan.own_code import own_code as o\nfor name in ('net:Net', '{package}.net:Net'): {show}"
    found = [python("-c", code, cwd=checkout, env=env).stdout.split()]
    (checkout / package / "helper.py").write_text("K = 2")
    (checkout / "models" / "layers.py").open("a").write("# edited")
    found.append(python("-c", code, cwd=checkout, env=env).stdout.split())
    assert found[0][1:3] == found[1][1:3] == ["net", f"{package}.helper"] and found[0][0] != found[1][0]
    assert found[0][4:] == found[1][4:] == [f"{package}.net", f"{package}.helper"] and found[0][3] != found[1][3]


def test_all_of_the_project_is_reached_from_its_programs() -> None:
    files = {path.resolve() for name in finding.PROJECT for path in (finding.ROOT / name).rglob("*.py")}
    assert finding._project_files() == files


def test_an_import_that_is_only_seen_in_the_run_fails_it(folder: Path, card: DatasetCard, cpu: torch.device) -> None:
    lazy = NET.replace(
        "        return", "        import sys\n        sys.path.append('lib')\n        import helper\n        return"
    )
    write(folder, {"net.py": lazy, "lib/helper.py": ""})
    load([own(card)])
    result = run_one(own(card), cpu)
    assert (result.status, result.evaluations) == ("failed", ())
    assert "runs or reads lib/helper.py, which planning cannot see" in str(result.error)


def test_a_helper_that_was_edited_since_the_plan_stops_the_grid(
    folder: Path, card: DatasetCard, cpu: torch.device
) -> None:
    write(folder, {"net.py": f"from helper import K\n{NET}", "helper.py": "K = 1"})
    spec = own(card)
    (folder / "helper.py").write_text("K = 2")
    for action in (lambda: load([spec]), lambda: run_one(spec, cpu)):
        with pytest.raises(BenchError, match="its code has changed since the run was planned"):
            action()


def test_a_file_may_be_edited_while_its_model_trains(folder: Path, card: DatasetCard, cpu: torch.device) -> None:
    edits = NET.replace(
        "        return", "        from pathlib import Path\n        Path('net.py').write_text('')\n        return"
    )
    write(folder, {"net.py": edits})
    assert run_one(own(card), cpu).status == "done"


# Evaluation


WINDOWS = Windows(torch.arange(300.0).view(100, 3), 10, 40, 32, 8, torch.zeros(100, 4))


class Reads(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.bytes = x.untyped_storage().nbytes()
        self.frame = sys._getframe()
        self.locals = []
        frame = self.frame.f_back
        while frame:
            self.locals += [value for value in frame.f_locals.values() if isinstance(value, torch.Tensor)]
            frame = frame.f_back
        return x[:, -8:]


def test_a_model_is_given_no_memory_that_holds_targets() -> None:
    model, index = Reads(), torch.tensor([3, 7])
    forecast, y = predict(model, WINDOWS, index, "float32")
    expected_x, expected_y = WINDOWS.contexts(index), WINDOWS.targets(index)
    assert torch.equal(y, expected_y) and torch.equal(forecast, expected_x[:, -8:])
    assert model.bytes == expected_x.numel() * 4
    assert not any(each.shape == y.shape and torch.equal(each, y) for each in model.locals)


WRONG = {
    "tuple": (lambda y: (y, None), "forward returned a tuple; return the forecast tensor alone"),
    "dict": (lambda y: {"prediction": y}, "forward returned a dict; return the forecast tensor alone"),
    "list": (lambda y: [y], "forward returned a list; return the forecast tensor alone"),
    "int": (lambda y: 1, "forward returned an int; return the forecast tensor alone"),
    "array": (lambda y: y.detach().numpy(), "forward returned a ndarray; return the forecast tensor alone"),
    "nothing": (lambda y: None, "forward returned None; return the forecast tensor alone"),
    "complex": (lambda y: y + 0j, "forecast is torch.complex64; a real floating-point tensor is expected"),
    "integer": (lambda y: y.long(), "forecast is torch.int64; a real floating-point tensor is expected"),
    "boolean": (lambda y: y > 0, "forecast is torch.bool; a real floating-point tensor is expected"),
    "short": (lambda y: y[:, :-1], "its forecast has shape (2, 7, 3), expected [batch, horizon, channels] = (2, 8, 3)"),
    "no dimension": (lambda y: y.sum(), "its forecast has shape (), expected [batch, horizon, channels] = (2, 8, 3)"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_forecast_is_one_real_tensor(kind: str) -> None:
    change, expected = WRONG[kind]
    model = nn.Module()
    model.forward = lambda x: change(x[:, -8:])  # type: ignore[method-assign]
    with pytest.raises(BenchError) as refused:
        predict(model, WINDOWS, torch.tensor([3, 7]), "float32")
    assert str(refused.value) == f"model Module: {expected}"


# Failures


RAISED = {
    "SystemExit": ("raise SystemExit(0)", "SystemExit: 0"),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", "KeyboardInterrupt: no message"),
    "GeneratorExit": ("raise GeneratorExit('out')", "GeneratorExit: out"),
    "in torch": ("return self.map(x)", "RuntimeError: mat1 and mat2 shapes cannot be multiplied (512x3 and 32x8)"),
    "long": ("raise ValueError('x' * 100_000)", "ValueError: " + 1000 * "x"),
}


@pytest.mark.parametrize("case", RAISED)
def test_whatever_a_model_raises_is_a_failed_run_that_names_its_line(
    folder: Path, card: DatasetCard, cpu: torch.device, case: str
) -> None:
    statement, expected = RAISED[case]
    write(folder, {"net.py": NET.replace("return self.map(x.mT).mT", statement)})
    result = run_one(own(card), cpu)
    assert result.status == "failed" and result.error and result.traceback
    assert result.error.startswith(expected)
    assert result.error.endswith(", raised at net.py:10 in forward") and len(result.error) <= 2000
    assert len(result.traceback) <= TRACEBACK
    first, _, whole = result.traceback.partition("\n\n")
    assert first.startswith('In files of your own:\n  File "net.py", line 10, in forward\n') or case == "long"
    assert case == "long" or 'File "bench/train/evaluate.py", line ' in whole, "as seen from the checkout"
    assert (case == "in torch") == ('File "torch/nn/modules/linear.py", line ' in whole)
    assert not re.search('File "/', result.traceback)
    assert RunResult.model_validate_json(result.model_dump_json()) == result
    assert result.fault is None
    assert "traceback" not in json.loads(result.model_dump_json(exclude_defaults=True)) or result.traceback


def test_the_traceback_of_an_import_that_fails_crosses_the_process(folder: Path, card: DatasetCard) -> None:
    write(folder, {"net.py": "import helper", "helper.py": "1 / 0"})
    reply = pickle.loads(pickle.dumps(answer("load", [own(card)], "cpu")))
    assert isinstance(reply, BenchError) and ", raised at helper.py:1 in <module>" in str(reply)
    shown = "".join(traceback.format_exception(reply))
    assert 'In files of your own:\n  File "net.py", line 1, in <module>\n' in shown
    assert 'File "helper.py", line 1, in <module>\n' in shown


def test_a_model_that_exits_while_it_is_timed_is_a_row_of_the_plan(tmp_path: Path, card: DatasetCard) -> None:
    def exits(spec: RunSpec) -> Estimate:
        raise SystemExit(0)

    (row,), _ = plan_rows([PlannedRun(make_spec(card))], Store(tmp_path / "results"), exits)
    assert row["by"] == "not timed: 0"


def test_only_a_failed_record_has_a_traceback(card: DatasetCard) -> None:
    result = done(make_spec(card), card)
    assert result.fault is None
    assert result.model_copy(update={"traceback": "Traceback"}).fault == "is done and has a reason for a failure"


def test_show_prints_the_traceback_of_a_failed_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, {"tiny.toml": SUITE})
    (spec,) = plan(load_suite("tiny.toml"))
    trace = 'Traceback (most recent call last):\n  File "net.py"\nValueError: \x1b[2J'
    Store(folder / "results").put(
        RunResult(spec=spec, status="failed", where=HERE, error="ValueError", traceback=trace)
    )
    assert in_process("show", "--suite", "tiny.toml", "--results", "results") == 1
    assert (
        '    Traceback (most recent call last):\n      File "net.py"\n    ValueError: \\u001b[2J\n'
        in capsys.readouterr().out
    )


# Logs


def test_what_a_model_printed_is_kept_beside_its_record_cut_to_its_end(tmp_path: Path, card: DatasetCard) -> None:
    store, spec = Store(tmp_path / "results"), make_spec(card)
    store.open()
    path = (store.root / spec.path).with_suffix(".log")
    assert store.keep_log(spec) is None, "a registered model has none"
    for text, kept in (
        (b"", None),
        (b"a line\n", b"a line\n"),
        (b"a" * LOG + b"end", b"a" * (LOG - 3) + b"end"),
        (b"", None),
    ):
        store.log(spec).write_bytes(text)
        assert store.keep_log(spec) == (path if kept else None)
        store.put(done(spec, card))
        assert (path.read_bytes() if kept else path.exists()) == (kept or False)
        assert not store.work(spec).exists()
    (store.work(spec)).mkdir()
    (store.work(spec) / "checkpoint.safetensors").touch()
    store.log(spec).write_bytes(b"of a process that was lost")
    store.keep_log(spec)
    assert [each.name for each in store.work(spec).iterdir()] == ["checkpoint.safetensors"]


def test_a_worker_whose_driver_was_killed_prints_into_no_log_of_the_run_that_takes_its_place(
    tmp_path: Path, card: DatasetCard
) -> None:
    """It dies soon, but on a busy machine another command may have begun, or even ended, its run by then."""
    spec, killed, next_one = make_spec(card), Store(tmp_path / "results"), Store(tmp_path / "results")
    killed.open()
    log = killed.log(spec)
    with log.open("ab", buffering=0) as still_open:
        still_open.write(b"while its driver lived\n")
        assert next_one.log(spec).read_bytes() == b"while its driver lived\n"
        still_open.write(b"after that\n")
        log.write_bytes(b"opened only now\n")
    kept = next_one.keep_log(spec)
    assert kept and kept.read_bytes() == b"while its driver lived\n"


def test_a_log_that_grows_without_end_is_cut_while_its_run_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("ab") as file:
        for number in range(9):
            file.write(b"%d" % number * LOG)
            file.flush()
            local._shorten(log)
            assert log.stat().st_size <= 4 * LOG
    assert log.read_bytes().endswith(b"8" * LOG)


# Processes


class FakeWorker:
    """The driver's end of a process that there is not; each answers its job at once."""

    def __init__(self, device: str, threads: int) -> None:
        self.device, self.job, self.used, self.dead, self.killed = device, None, False, False, False
        self.pipe, self.theirs = Pipe()
        self.asked: list[tuple[str, object]] = []

    def send(self, what: str, about: object) -> None:
        self.asked.append((what, about))
        self.theirs.send("ready")

    def receive(self) -> object:
        self.pipe.recv()
        what, about = self.asked[-1]
        if what == "greet":
            return [self.device], HERE
        return RunResult(spec=about.spec, status="failed", where=HERE, error="x") if what == "train" else None

    def kill(self) -> None:
        self.killed = True


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_process_that_had_a_users_model_has_nothing_else(
    card: DatasetCard, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    made: list[FakeWorker] = []

    def make(device: str, threads: int) -> FakeWorker:
        made.append(FakeWorker(device, threads))
        return made[-1]

    monkeypatch.setattr(local, "Worker", make)
    theirs = [make_spec(card, seed=seed) for seed in range(8)]
    ours = [spec.model_copy(update={"model": "net:Net", "code": "0" * 64}) for spec in theirs]
    engine = Workers("cpu", jobs)
    engine.check([*theirs, *ours])
    for pair in zip(theirs, ours, strict=True):
        for spec in pair[:: 1 if pair[0].seed % 3 else -1]:
            while sum(worker.job is not None for worker in engine.workers) == jobs:
                engine.events(1)
            engine.start(Job(spec))
    while any(worker.job for worker in engine.workers):
        engine.events(1)
    engine.close()
    trained = [[about.spec.code for what, about in worker.asked if what == "train"] for worker in made]
    assert sorted(map(len, trained))[-1] > 1 or jobs == 2, "the registry's models share one"
    assert all(len(codes) == 1 or not any(codes) for codes in trained)
    assert sum(map(len, trained)) == 16
    loaded = [[what for what, _ in worker.asked] for worker in made]
    assert ["load"] in loaded and not any("load" in asked and len(asked) > 1 for asked in loaded)
    assert all(worker.killed for worker in made)


MANY = """\
import ctypes
import multiprocessing
import os
import subprocess
import sys

import torch
from torch import nn

lock = multiprocessing.RLock()  # a named semaphore, as a progress bar has one
print("[1/1] looks like a line of the driver")
os.system("echo of a shell")
ctypes.CDLL(None).printf(b"of C\\n")
print("of stderr", file=sys.stderr)


class Net(nn.Module):
    def __init__(self, shape, options):
        super().__init__()
        self.map = nn.Linear(shape.context, shape.horizon)

    def forward(self, x):
        return self.map(x.mT).mT


class Patches(Net):
    def forward(self, x):
        nn.Linear.forward = lambda self, x: 1 / 0
        torch.nn.functional.mse_loss = torch.Tensor.sub
        return super().forward(x)


class Interrupts(Net):
    def forward(self, x):
        raise KeyboardInterrupt


class LeavesAChild(Net):
    def forward(self, x):
        if self.training:
            child = subprocess.Popen(["sleep", "600"], start_new_session=True)
            bare = subprocess.Popen(["/bin/sleep", "600"], start_new_session=True, env={})
            orphan = subprocess.check_output(["/bin/sh", "-c", "setsid sleep 600 >&- & echo $!"], env={}, text=True)
            print("child", child.pid, bare.pid, orphan)
        return super().forward(x)


class Crashes(Net):
    def forward(self, x):
        ctypes.string_at(0)
"""


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A folder with models that misbehave between two that do not, run by one command; and how it ended."""
    folder = tmp_path_factory.mktemp("grid")
    write(folder, {"many.py": MANY, "tiny.toml": SUITE})
    ours = [f"many:{name}" for name in ("Patches", "Interrupts", "LeavesAChild", "Crashes")]
    words = ["--suite", "tiny.toml", "--device", "cpu", "--results", "results", "--debug", "--jobs", "2"]
    return folder, command_in(folder, "run", *words, "--models", *ours, "dlinear", "many:Net")


Grid = tuple[Path, subprocess.CompletedProcess[str]]


def records(folder: Path) -> dict[str, dict]:
    found = [json.loads(path.read_text()) for path in (folder / "results").rglob("*.json")]
    return {record["spec"]["model"]: record for record in found}


def logs(folder: Path) -> dict[str, str]:
    return {path.parent.name.partition(".")[2]: path.read_text() for path in (folder / "results").rglob("*.log")}


def test_a_model_that_breaks_torch_breaks_no_run_but_its_own(grid: Grid, tmp_path: Path) -> None:
    folder, ended = grid
    found = records(folder)
    assert ended.returncode == 1
    assert {name for name, record in found.items() if record["status"] == "done"} == {
        "dlinear", "many:Net", "many:LeavesAChild",
    }  # fmt: skip
    assert found["many:Patches"]["error"] == "ZeroDivisionError: division by zero, raised at many.py:28 in <lambda>"
    assert found["many:Net"]["evaluations"] == found["many:LeavesAChild"]["evaluations"]


def test_each_failure_of_a_users_model_says_what_and_where(grid: Grid) -> None:
    found = records(grid[0])
    assert found["many:Interrupts"]["error"] == "KeyboardInterrupt: no message, raised at many.py:35 in forward"
    assert found["many:Crashes"]["error"] == "its process was killed by SIGSEGV"
    assert 'many.py", line 50 in forward' in logs(grid[0])["Crashes"], "the log has the frame"
    assert "Traceback (most recent call last)" in grid[1].stdout, "--debug"


def test_what_a_model_prints_goes_to_its_log_and_the_driver_names_it(grid: Grid) -> None:
    folder, ended = grid
    assert ended.stderr == ""
    assert "many:Crashes, many:Net run many.py\n" in ended.stdout
    assert "looks like a line of the driver" not in ended.stdout
    for text in logs(folder).values():
        assert sorted(text.splitlines()[:4]) == [
            "[1/1] looks like a line of the driver", "of C", "of a shell", "of stderr",
        ]  # fmt: skip
    (line,) = (line for line in ended.stdout.splitlines() if "many:Net EPF" in line)
    assert (folder / line.rpartition("output: ")[2]).read_text() == logs(folder)["Net"]
    assert not list((folder / "results").rglob("dlinear/*.log"))
    assert [path.name for path in (folder / "results" / ".work").iterdir()] == ["claims"]


def test_a_process_that_a_model_started_ends_with_its_run(grid: Grid) -> None:
    lines = [line.split()[1:] for line in logs(grid[0])["LeavesAChild"].splitlines() if "child" in line]
    assert list(map(len, lines)) == [3, 3, 3], "three for each step"
    pids = [int(pid) for line in lines for pid in line]
    assert all(map(ends, pids))


def ends(pid: int) -> bool:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_reports_and_plans_do_not_stumble_over_logs(grid: Grid, capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = grid
    words = ["--suite", "tiny.toml", "--results", "results", "--models", "many:Net", "dlinear"]
    assert command_in(folder, "report", "--table", "main", *words).returncode == 0
    assert "2 runs: 2 done" in command_in(folder, "plan", *words).stdout


HOLDS = """\
import os
import subprocess
import time
from pathlib import Path

from net import Net as Plain


class Net(Plain):
    def forward(self, x):
        child = subprocess.Popen(["sleep", "600"], start_new_session=True)
        bare = subprocess.Popen(["/bin/sleep", "600"], start_new_session=True, env={})
        fork = os.fork()
        if fork == 0:
            os.setsid()
            time.sleep(600)
        Path("pids.part").write_text(f"{child.pid} {fork} {bare.pid}")
        Path("pids.part").rename("pids")
        time.sleep(600)
"""


def wait_for(path: Path) -> str:
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    return path.read_text()


def test_a_process_that_a_model_started_ends_with_the_driver(folder: Path) -> None:
    write(folder, {"net.py": NET, "holds.py": HOLDS, "tiny.toml": SUITE})
    words = ["--suite", "tiny.toml", "--device", "cpu", "--results", "results", "--models", "holds:Net"]
    with subprocess.Popen(
        [sys.executable, "-m", "bench", "run", *words], cwd=folder, env=environment(), stdout=subprocess.DEVNULL
    ) as driver:
        pids = wait_for(folder / "pids").split()
        driver.kill()
    assert all(ends(int(pid)) for pid in pids)


def test_a_worker_that_is_killed_from_outside_is_not_called_out_of_memory(folder: Path) -> None:
    write(folder, {"net.py": NET, "holds.py": HOLDS, "tiny.toml": SUITE})
    (spec,) = plan(load_suite("tiny.toml"), Filters(models=("holds:Net",)))
    engine = Workers("cpu")
    try:
        engine.start(Job(spec, log=folder / "log"))
        child, fork, bare = map(int, wait_for(folder / "pids").split())
        os.kill(engine.workers[0].process.pid or 0, signal.SIGKILL)
        found: list[Event] = []
        while not any(isinstance(event.what, Lost) for event in found):
            found += engine.events(1)
        assert found[-1].what == Lost("its process was killed by SIGKILL (out of memory, or by somebody)")
        assert ends(child) and ends(fork), "what it started in its environment ends with it"
        os.kill(bare, signal.SIGKILL)  # nothing is left that knows whose it was
        began = time.perf_counter()
        engine.workers[0].kill()
        assert time.perf_counter() - began < 2
    finally:
        engine.close()


def test_a_run_goes_on_when_the_process_that_its_worker_was_forked_from_is_killed() -> None:
    (spec,) = plan(load_suite("quick"), Filters(models=("dlinear",), horizons=(24,), seeds=(1,)))
    endless = spec.model_copy(update={"train": spec.train.model_copy(update={"epochs": 10**6, "patience": 10**6})})
    engine = Workers("cpu", 1)
    try:
        worker = engine.workers[0]
        server = int(Path(f"/proc/{worker.process.pid}/stat").read_text().rpartition(")")[2].split()[1])
        engine.start(Job(spec))
        os.kill(server, signal.SIGKILL)
        worker.process.join(10)
        assert worker.process.exitcode == ORPHANED
        assert last(engine).status == "done"  # type: ignore[union-attr]
        engine.start(Job(endless))
        os.kill(worker.process.pid or 0, signal.SIGKILL)
        assert last(engine) == Lost("its process has ended, or was killed")
        engine.start(Job(spec))
        assert last(engine).status == "done", "in a worker of a new one"  # type: ignore[union-attr]
        assert engine.workers[0] is not worker
    finally:
        engine.close()


def last(engine: Workers) -> object:
    """What the running run ends with."""
    found: list[Event] = []
    while not found or isinstance(found[-1].what, Progress):
        found += engine.events(1)
    return found[-1].what


def test_a_worker_that_cannot_be_started_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_fork(*_: object) -> object:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("multiprocessing.popen_forkserver.Popen._launch", no_fork)
    with pytest.raises(BenchError, match=r"could not be started \(.*unavailable\). Do: end other processes, or lower"):
        Workers("cpu", 1)


def test_a_worker_has_the_variables_of_its_driver_and_the_threads_of_a_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the process that workers are forked from was started with others.

    Threads depend neither on the cores, nor on the runs at once, nor on the environment.
    """
    write(folder, {"net.py": f"import os\n{NET}\nprint('has', os.environ.get('FOUND'))", "tiny.toml": SUITE})
    (spec,) = plan(load_suite("tiny.toml"), Filters(models=("net:Net",)))
    monkeypatch.setattr(capacity, "cores", lambda: 6)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    for value, jobs, threads, slots in (("first", None, 2, 3), ("second", 4, 1, 4), ("third", None, 7, 1)):
        monkeypatch.setenv("FOUND", value)
        engine = Workers("cpu", jobs, threads)
        try:
            assert (engine.where.threads, engine.slots, len(engine.workers)) == (threads, slots, 1)
            engine.start(Job(spec, log=folder / value))
            found: list[Event] = []
            while not any(isinstance(event.what, RunResult) for event in found):
                found += engine.events(1)
        finally:
            engine.close()
        assert found[-1].what.status == "done" and found[-1].what.where.threads == threads
        assert f"has {value}\n" in (folder / value).read_text()


def test_no_cell_mixes_two_versions_of_a_model(folder: Path) -> None:
    """The helper is edited between two seeds: both seeds are run anew, and the table holds none of the old."""
    net = NET.replace("return self.map(x.mT).mT", "return self.map(x.mT).mT * 0 + K")
    write(folder, {"pkg/net.py": f"from pkg.helper import K\n{net}", "pkg/helper.py": "K = 1", "tiny.toml": SUITE})
    words = ["--suite", "tiny.toml", "--results", "results", "--models", "pkg.net:Net"]
    device = ["--device", "cpu"]
    first = command_in(folder, "run", *words, *device, "--seeds", 2021)
    assert "1 runs done, 0 failed, 0 done before" in first.stdout, first.stderr
    (folder / "pkg" / "helper.py").write_text("K = 9")
    second = command_in(folder, "run", *words, *device, "--seeds", 2021, 2022)
    assert "2 runs done, 0 failed, 0 done before" in second.stdout, second.stderr
    shown = command_in(folder, "show", *words, "--seeds", 2021, 2022).stdout
    scores = [float(line.split("mse ")[1].split()[0]) for line in shown.splitlines() if "test on" in line]
    assert len(scores) == 2 and scores[0] == scores[1] > 50, "both with K = 9"


def test_a_model_that_ends_its_process_on_import_is_named(folder: Path) -> None:
    write(folder, {"net.py": f"import os\nos._exit(5)\n{NET}", "tiny.toml": SUITE})
    words = ["--suite", "tiny.toml", "--device", "cpu", "--results", "results", "--models", "net:Net"]
    ended = command_in(folder, "run", *words)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert "model net:Net: while it was imported, its process ended by itself (exit code 5). Do: python -c " in line


def test_a_batch_norm_over_windows_trains_although_one_window_is_left_over(
    folder: Path, card: DatasetCard, cpu: torch.device
) -> None:
    norm = NET.replace("return self", "x = self.norm(x.flatten(1)).view_as(x)\n        return self").replace(
        "self.map = ", "self.norm = nn.BatchNorm1d(shape.context * shape.channels)\n        self.map = ", 1
    )
    write(folder, {"normed.py": norm})
    count = card.windows("train", card.context, card.horizons[0])
    spec = own(card, "normed:Net").model_copy(update={"train": make_spec(card, batch=(count - 1) // 2, epochs=1).train})
    result = run_one(spec, cpu)
    assert (result.status, result.error) == ("done", None)
    assert result.cost is not None and result.cost.steps == 2


def test_options_that_cannot_be_made_stop_the_command_before_it_trains(folder: Path) -> None:
    options = "class Options:\n        def __init__(self, **options): raise ValueError('too wide')\n"
    write(
        folder, {"net.py": NET.replace("    def __init__", f"    {options}\n    def __init__", 1), "tiny.toml": SUITE}
    )
    ended = command_in(folder, "run", "--suite", "tiny.toml", "--models", "net:Net", "--results", "results")
    assert ended.returncode == 2 and "model net:Net: ValueError: too wide, raised at net.py:" in ended.stderr
    assert not [*(folder / "results").glob("*/h*/*/*.json")]
