"""Every command in README and the guides works as it is printed.

A command that reads is run on a copy of the committed records. One that trains is planned by `--dry-run`; one that
fetches, searches or times goes through the command line up to where its work begins. What cannot be run in a test
(network, cluster, root) stands in EXEMPT with its reason.
"""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import pytest
import torch

from bench import api, cli
from bench.analysis.verdicts import Judged
from bench.core import card as card_module
from bench.core.base import ROOT
from bench.core.card import cards
from bench.core.store import Store
from bench.grid.driver import Tally
from bench.plan.suite import Filters, suite_names
from bench.report import contents, write
from models import MODELS
from models.llm_files import BACKBONES
from models.options import Shape
from tests.builders import in_process, python, waves

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "datasets" / "README.md")
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
PROGRAM = r"(?:[A-Z_]+=\S+ +)*(?:python3?|bash|pip|pytest|source|git|ray|apt|sha256sum|sbatch)"
"""A line of a block begins with it, or a piece of inline code, if it is a command; so do the lines behind it."""
DRY = ("--dry-run", "--rerun", "all")
"""What `run` gets too: it then names every run that it plans, and does none."""
READ = ("list", "plan", "show", "export", "check", "report")
UP_TO_ITS_WORK = ("fetch", "tune", "perf")

LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUP = (ROOT / "run_all.sh").read_text(encoding="utf-8")
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def _normal(name: str) -> str:
    """A package's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


PINNED = {_normal(line.partition("==")[0]) for line in LOCK.splitlines()}


def _named(command: str) -> list[str]:
    """The packages that `pip install -c FILE` names."""
    return shlex.split(command)[4:]


REVIEW = (
    "pip install -c requirements.lock pandas scipy scikit-posthocs tabulate pydantic rich matplotlib seaborn jinja2"
)


def _in_dev(extra: str) -> bool:
    """Tell whether the extra `dev` holds all of another one."""
    extras = PROJECT["project"]["optional-dependencies"]
    return {*extras[extra]} <= {*extras["dev"]}


EXEMPT: dict[str, tuple[str, Callable[[], bool]]] = {
    "git clone <this repository>": ("the address is the reader's own", lambda: True),
    "cd <its folder>": ("the folder is the reader's own", lambda: True),
    "python3 -m venv .review": ("makes an environment: run_all.sh makes its own so in CI", lambda: "-m venv" in SETUP),
    "source .review/bin/activate": ("changes the shell that it is typed in", lambda: True),
    "source .venv/bin/activate": ("changes the shell that it is typed in", lambda: ".venv/bin/python" in SETUP),
    REVIEW: ("network; what it names suffices: a test below", lambda: {*_named(REVIEW)} <= PINNED),
    "pip install -e '.[cluster]'": ("network; CI installs the extra `dev`, which holds it", lambda: _in_dev("cluster")),
    "pip install -e '.[zoo]'": ("network; CI installs the extra `dev`, which holds it", lambda: _in_dev("zoo")),
    "pip install -e '.[chronos]'": ("network; CI installs the extra `dev`, which holds it", lambda: _in_dev("chronos")),
    "python -m pytest tests/test_gpu.py": ("needs a GPU", (ROOT / "tests/test_gpu.py").is_file),
    "pip install .": ("network; tests/test_install.py builds and runs it", (ROOT / "tests/test_install.py").is_file),
    "pip install pyarrow": ("network; it is the extra `parquet`, which CI has by `dev`", lambda: _in_dev("parquet")),
    "apt install python3-venv": (
        "root; run_all.sh names the same package",
        lambda: "apt install python3-venv" in SETUP,
    ),
    "apt install gcc python3-dev": ("root, and only of use with a GPU", lambda: True),
    "ray start --head": ("a cluster; tests/test_cluster.py has one", (ROOT / "tests/test_cluster.py").is_file),
    "ray start --address=HOST:6379": ("a cluster of several machines", (ROOT / "tests/test_cluster.py").is_file),
    "sha256sum FILE": ("no program of this project", lambda: shutil.which("sha256sum") is not None),
    "pytest -m nightly": (
        "takes minutes; without it the marked tests are left out",
        lambda: any(each.startswith("nightly:") for each in PROJECT["tool"]["pytest"]["ini_options"]["markers"]),
    ),
    "python -m tests.committed": (
        "writes into reports/; tests/test_committed.py compares what it makes",
        lambda: "python -m tests.committed" in (ROOT / "tests/test_committed.py").read_text(encoding="utf-8"),
    ),
}
"""Command -> why no test runs it, and what is checked instead."""


@lru_cache
def commands() -> dict[str, list[str]]:
    """Return each command of the pages once, with the pages that print it."""
    found: dict[str, list[str]] = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        lines = [
            line for language, block in FENCE.findall(text) if language in ("", "sh", "bash") for line in _typed(block)
        ]
        inline = (" ".join(code.split()) for code in re.findall(r"`([^`]+)`", FENCE.sub("", text)))
        comments = (code for line in lines for code in re.findall(r"`([^`]+)`", line.partition(" #")[2]))
        lines += [code for code in (*inline, *comments) if re.match(f"{PROGRAM} ", code)]
        for line in lines:
            for command in re.split(r" && ", re.sub(r"(^|\s)#.*", "", line)):
                if command := command.strip():
                    found.setdefault(command, []).append(page.name)
    return found


def _typed(block: str) -> list[str]:
    """Return the lines that are typed of a block: all before its first empty line, if it begins with a command."""
    lines = re.sub(r" *\\\n *", " ", textwrap.dedent(block)).partition("\n\n")[0].splitlines()
    first = next((line for line in lines if not line.startswith("#")), "")
    return lines if re.match(f"{PROGRAM} ", first) else []


def verb(command: str) -> str | None:
    """Return the verb of a command of the harness, `report` for bench.report; None for other commands."""
    words = re.match(r"python -m bench(?:\.(report)| (\S+))", command)
    return words and (words[1] or words[2])


def of(*verbs: str) -> list[str]:
    return [command for command in commands() if verb(command) in verbs]


SCRIPTS = [command for command in commands() if command.startswith("python docs/")]
FRONT = [command for command in commands() if "bash run_all.sh" in command]
CLASSES = (of(*READ), of("run"), of(*UP_TO_ITS_WORK), of("add-dataset"), of("predict"), SCRIPTS, FRONT, list(EXEMPT))


def test_every_command_is_in_one_class_and_every_exemption_is_printed_somewhere() -> None:
    assert len(commands()) > 50
    for command, pages in commands().items():
        assert sum(command in each for each in CLASSES) == 1, f"{pages}: how is {command!r} tested?"
    for command, (reason, holds) in EXEMPT.items():
        assert command in commands(), f"no page prints {command!r} any more"
        assert reason and holds(), command


@pytest.mark.parametrize("command", commands())
def test_the_shell_can_read_every_command(command: str) -> None:
    text = re.sub(r"<[^<>]+>", "PLACE", command)
    ended = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


# Commands of the harness


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy what commands read: records and cards, and the files that the guides tell their reader to write."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "results", folder / "results", ignore=shutil.ignore_patterns(".work"))
    shutil.copytree(ROOT / "datasets", folder / "datasets", ignore=shutil.ignore_patterns("cache"))
    shutil.copytree(folder / "results" / "ILI", folder / "again" / "ILI")  # what `run --results again` leaves there
    (folder / "mymodel.py").write_text(printed_model())
    (folder / "mine.toml").write_text(blocks("toml")[0])
    rows = "".join(f"{2000 + row // 12}-{row % 12 + 1:02d}-01,{value}\n" for row, (value,) in enumerate(waves(400, 1)))
    for name in ("FILE.csv", "my_series.csv"):
        (folder / name).write_text(f"month,sales\n{rows}")
    return folder


def blocks(language: str) -> list[str]:
    """Return the blocks of a language in all pages, those of the researchers' guide first."""
    first = sorted(PAGES, key=lambda page: page.name != "researchers.md")
    found = [each for page in first for each in FENCE.findall(page.read_text(encoding="utf-8"))]
    return [textwrap.dedent(block) for name, block in found if name == language]


Verdicts = Callable[[str | None, Filters, Store], list[Judged]]


@pytest.fixture(scope="module")
def judged_once() -> Verdicts:
    """Return `verdicts`, for records that stay as they are: several commands print the same ones."""
    judge, found = contents.verdicts, {}

    def once(suite: str | None, filters: Filters, store: Store) -> list[Judged]:
        asked = (suite, filters, store.root)
        if asked not in found:
            found[asked] = judge(*asked[:2], store)
        return found[asked]

    return once


def printed_model() -> str:
    """Return the model that the guide prints."""
    (code,) = (block for block in blocks("python") if "(nn.Module)" in block)
    return code


@pytest.fixture
def checkout(copied: Path, judged_once: Verdicts, monkeypatch: pytest.MonkeyPatch, one_figure: None) -> Iterator[Path]:
    """Let commands work in the copy: it is the current directory, and has results/, reports/ and datasets/."""
    for module in (cli, write):
        monkeypatch.setattr(module, "RESULTS", copied / "results")
    monkeypatch.setattr(write, "REPORTS", copied / "reports")
    for module in (contents, write):
        monkeypatch.setattr(module, "verdicts", judged_once)
    monkeypatch.setattr(card_module, "CARDS", copied / "datasets")
    monkeypatch.setenv("BENCH_DATA", str(copied / "data"))
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.chdir(copied)
    monkeypatch.syspath_prepend(str(copied))
    cards.cache_clear()
    yield copied
    cards.cache_clear()
    sys.modules.pop("mymodel", None)


def typed(command: str, *more: str) -> int:
    """Do what a command of the harness does, with more options behind it; return the exit code."""
    words = shlex.split(os.path.expandvars(command), comments=True)[2:]
    return in_process(*(["report", *words[1:]] if words[0] == "bench.report" else words[1:]), *more)


@pytest.mark.parametrize("command", of(*READ))
def test_a_command_that_reads_answers_from_the_committed_records(
    command: str, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = typed(command)
    out, err = capsys.readouterr()
    assert code in ((cli.DONE,) if "--partial" in command else (cli.DONE, cli.INCOMPLETE)), err
    if code == cli.INCOMPLETE and verb(command) == "report":
        assert re.search(r" are (missing|not tested, of the suites [\w, ]+)\. Do: python -m bench run ", err)
    assert out.strip()
    if verb(command) == "report" and "--table" not in command:
        made = Path(re.findall(r"^wrote (\S+)$", out, re.MULTILINE)[0]).parent
        assert made.is_relative_to(checkout)
        assert {"index.html", "report.md", "tables", "figures"} <= {path.name for path in made.iterdir()}


@pytest.mark.parametrize("command", of("run"))
def test_a_command_that_trains_plans_its_runs(command: str, checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(command, *DRY) == cli.DONE
    out = capsys.readouterr().out
    assert re.search(r" h\d+ s\d+ +\S+\.json$", out, re.MULTILINE)


@pytest.mark.parametrize("command", of(*UP_TO_ITS_WORK))
def test_a_command_that_fetches_searches_or_times_reaches_its_work(
    command: str, checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    work: list[object] = []
    for place, answer in {
        "bench.data.fetch.fetch_data": "data",
        "bench.data.fetch.fetch_weights": "weights",
        "bench.data.bundle.make_bundle": ["bundle"],
        "bench.__main__._run_all": Tally(),
        "bench.plan.tuning.write_searches": checkout / "tune.json",
        "bench.perf.measure.perf": {},
        "bench.perf.measure.perf_text": "times",
        "bench.perf.grids.perf_records": {},
        "bench.perf.grids.records_text": "times",
    }.items():
        monkeypatch.setattr(place, lambda *given, answer=answer: work.append(given) or answer)
    assert typed(command) in (cli.DONE, cli.INCOMPLETE)
    assert work and capsys.readouterr().out.strip()


@pytest.mark.parametrize("command", of("predict"))
def test_a_command_that_predicts_reaches_its_work(
    command: str, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work: list[object] = []
    monkeypatch.setattr("bench.core.kept.find_run", lambda store, text: (store, text))
    for place in ("_predict_test", "_predict_rows"):
        monkeypatch.setattr(f"bench.__main__.{place}", lambda *given: work.append(given) or cli.DONE)
    assert typed(command) == cli.DONE and work


@pytest.mark.parametrize("command", of("add-dataset"))
def test_a_series_of_ones_own_is_added_and_then_known(command: str, checkout: Path) -> None:
    assert typed(command) == cli.DONE
    cards.cache_clear()
    name = shlex.split(command)[-1].removesuffix(".csv")
    assert cards()[name].rows == 400
    assert typed(f"python -m bench run --suite quick --models dlinear --datasets {name}", *DRY) == cli.DONE


@pytest.mark.parametrize("number", range(len(blocks("toml"))))
def test_a_suite_that_a_page_prints_can_be_planned(number: int, checkout: Path) -> None:
    (checkout / "printed.toml").write_text(blocks("toml")[number])
    assert typed("python -m bench run --suite printed.toml", *DRY) == cli.DONE


def test_the_model_that_the_guide_prints_forecasts() -> None:
    named: dict[str, type] = {}
    exec(printed_model(), named)
    model = named["Mine"](Shape(context=32, horizon=8, channels=3, season=1, about=""), {})
    assert model(torch.zeros(2, 32, 3)).shape == (2, 8, 3)


@pytest.mark.parametrize("code", [block for block in blocks("python") if "import bench" in block])
def test_calls_of_the_python_door_that_a_page_prints_fit_its_functions(code: str) -> None:
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    doors = [(node, name) for node in calls if (name := ast.unparse(node.func)).startswith("bench.")]
    assert doors
    for node, name in doors:
        given = [ast.unparse(each) for each in node.args], {each.arg: ast.unparse(each.value) for each in node.keywords}
        function = getattr(api, name.removeprefix("bench."))
        inspect.signature(function).bind(*given[0], **given[1])
        assert {*given[1]} <= {*inspect.signature(function).parameters, *api.Filtering.__annotations__}


# Other programs


@pytest.mark.parametrize("command", SCRIPTS)
def test_a_measurement_takes_the_words_that_are_printed_and_explains_itself(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, script, *words = shlex.split(command)
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    loaded = runpy.run_path(str(ROOT / script), run_name="__main__")
    assert capsys.readouterr().out.strip() == loaded["__doc__"].strip()
    inspect.signature(loaded["main"]).bind(*words)
    known = {*suite_names(), *MODELS, *cards(), *BACKBONES, "NAME", "CHECKOUT"}
    assert all(word in known or word.isdigit() for word in words)


FAKE = """#!/bin/bash
case "$*" in
  *hashlib*) cat > /dev/null; echo state ;;
  *"import sys, torch"*) exit 1 ;;
  "-m pip --version") ;;
  *) echo "${0##*/} $*" >> log ;;
esac
"""
"""Stands for every program of .venv: it has all installed and no GPU, and logs what it is asked to do."""
DOES = {
    "": [f"python -m {words} --suite quick" for words in ("bench fetch", "bench run", "bench.report")],
    "test": ["ruff check .", "ruff format --check .", "mypy ", "lint-imports "],
}


@pytest.mark.parametrize("command", FRONT)
def test_the_front_door_does_what_the_page_says(command: str, tmp_path: Path, checkout: Path) -> None:
    for name in ("run_all.sh", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "bench" / "suites", tmp_path / "bench" / "suites")
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "ruff", "mypy", "lint-imports"):
        (programs / name).write_text(FAKE)
        (programs / name).chmod(0o755)
    (tmp_path / ".venv" / "installed-dev").write_text("state\n")
    ended = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    done = (tmp_path / "log").read_text().splitlines()
    what = command.partition("run_all.sh")[2].strip()
    if what == "test":
        assert command in CI.splitlines(), "CI runs it whole"
        assert done[:-1] == DOES[what] and done[-1].startswith("python -m pytest ")
    else:
        assert done == DOES[what]
        assert typed(done[1], *DRY) == cli.DONE


BLOCK = """
import sys
from bench.report.__main__ import main

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Absent())
sys.exit(main(["--suite", "efficiency", "--partial", "--into", sys.argv[1]]))
"""


def test_a_report_needs_no_more_than_the_packages_that_the_page_names(tmp_path: Path) -> None:
    needed: set[str] = set()
    todo = _named(REVIEW)
    while todo:
        if (name := todo.pop()) in PINNED - needed:
            needed.add(name)
            wanted = [each for each in importlib.metadata.requires(name) or () if "extra ==" not in each]
            todo += [_normal(re.split(r"[^\w.-]", each)[0]) for each in wanted]
    owners = importlib.metadata.packages_distributions()
    absent = {module for module, names in owners.items() if not {*map(_normal, names)} & needed} - {"bench", "models"}
    assert {"torch", "transformers", "einops"} <= absent
    ended = python("-c", BLOCK.format(absent=absent), tmp_path / "made")
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "made" / "index.html").is_file()
