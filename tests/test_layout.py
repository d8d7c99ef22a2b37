"""The shape of the project itself."""

from __future__ import annotations

import ast
import importlib
import os
import re
import tomllib
from pathlib import Path

import yaml

from bench.core.base import ROOT
from bench.plan.suite import suite_names
from models import MODELS


def test_no_python_lies_among_data_results_and_reports() -> None:
    """`datasets/` with an __init__.py would shadow the Hugging Face package of that name for every library."""
    assert [path for folder in ("datasets", "results", "reports") for path in (ROOT / folder).rglob("*.py")] == []


def test_every_folder_with_python_is_a_package_that_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found = {path.parent.relative_to(ROOT) for top in ("bench", "models") for path in (ROOT / top).rglob("*.py")}
    cards = Path("bench", "cards")  # datasets/, which holds no Python
    assert project["tool"]["setuptools"]["package-dir"] == {"bench.cards": "datasets"}
    assert project["tool"]["setuptools"]["packages"] == sorted(".".join(folder.parts) for folder in {*found, cards})


def test_every_dependency_of_the_project_is_pinned() -> None:
    import re

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    pinned = {
        line.partition("==")[0].lower().replace("_", "-") for line in (ROOT / "requirements.lock").read_text().split()
    }
    names = {re.split(r"[<>=!\[ ]", name)[0].lower() for name in wanted}
    assert names <= pinned


def test_the_readme_is_a_page_and_names_every_model_and_suite() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 140
    assert all(len(line) <= 100 for line in readme.splitlines())
    assert all(f"`{name}`" in readme for name in (*MODELS, *suite_names()))


def test_the_file_map_names_every_module() -> None:
    words = set(re.findall(r"[\w.]+", (ROOT / "docs" / "files.md").read_text()))
    modules = [path for path in (ROOT / "bench").glob("*/*.py") if not path.stem.startswith("__")]
    assert len(modules) > 50 and {path.stem for path in modules} <= words


def test_every_link_in_the_readme_and_the_guides_leads_somewhere() -> None:
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            target, _, part = link.partition("#")
            if "://" in link:
                continue
            found = (page.parent / target).resolve() if target else page
            assert found.exists(), (page.name, link)
            headings = re.findall(r"^#+ (.+)$", found.read_text(), re.MULTILINE) if part else []
            assert not part or part in [heading.lower().replace(" ", "-") for heading in headings], (page.name, link)


def test_ci_runs_the_readmes_test_command() -> None:
    assert "bash run_all.sh test" in (ROOT / ".ci" / "run").read_text()
    assert "bash run_all.sh test" in (ROOT / "README.md").read_text()


def test_the_workflow_calls_ci_and_the_container_copies_what_is_there() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert [step["run"] for step in workflow["jobs"]["test"]["steps"] if "run" in step] == [".ci/run"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    lines = [line.split() for line in (ROOT / "Dockerfile").read_text().splitlines()]
    copied = [name for word, *names in filter(None, lines) if word == "COPY" for name in names[:-1]]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {"pyproject.toml", "requirements.lock", project["project"]["readme"], *project["project"]["license-files"]}
    folders = {name.partition(".")[0] for name in project["tool"]["setuptools"]["packages"]}
    assert {*copied} == needed | folders | {*project["tool"]["setuptools"]["package-dir"].values()}
    assert all((ROOT / name).exists() for name in copied)
    assert ["ENTRYPOINT", '["logo-bench"]'] in lines
    target, _, function = project["project"]["scripts"]["logo-bench"].partition(":")
    assert callable(getattr(importlib.import_module(target), function))


def test_the_citation_is_the_readmes() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    readme = (ROOT / "README.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"title = {{{citation['title']}}}" in readme
    assert f"year = {{{citation['date-released'].year}}}" in readme
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert all(each["name"] in (ROOT / "LICENSE").read_text() for each in citation["authors"])
    assert f"## {project['version']} " in (ROOT / "CHANGELOG.md").read_text()


def imported(file: Path) -> set[str]:
    """Return the modules that a file imports, by full name; `from a import b` counts as `a` and `a.b`."""
    found = set()
    package = ".".join(file.parent.relative_to(ROOT).parts)
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = ".".join(filter(None, (package if node.level else "", node.module)))
            found |= {source, *(f"{source}.{alias.name}" for alias in node.names)}
    return found


def test_no_test_file_imports_another_one_or_conftest() -> None:
    """What several share is in builders.py, or a fixture in conftest.py."""
    files = sorted((ROOT / "tests").glob("*.py"))
    private = {f"tests.{file.stem}" for file in files if file.stem.startswith("test_") or file.stem == "conftest"}
    assert len(private) > 30
    assert {file.name: sorted(found) for file in files if (found := imported(file) & private)} == {}
