"""The project installed as a user would, by `pip install .`, works in a directory of the user's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.core.card import cards
from bench.core.system import HOME, INSTALLED, ROOT
from bench.plan.suite import suite_names

QUICK = ("--suite", "quick", "--models", "dlinear", "--horizons", "24", "--seeds", "2021")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build and install a copy of the project, without its dependencies and without network."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("environment") / "site"
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("bench", "models", "datasets"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "cache"))
    (source / "datasets" / "cache").mkdir()
    (source / "datasets" / "cache" / "Big.csv").write_text("not for the wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return target


def python(site: Path, here: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the installed copy before this checkout, in the directory `here`."""
    kept = {name: value for name, value in os.environ.items() if name not in ("BENCH_DATA", "BENCH_BUNDLE")}
    environment = kept | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, check=False, timeout=300)


def printed(site: Path, here: Path, *words: str) -> str:
    ended = python(site, here, *words)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_a_checkout_reads_and_writes_in_its_own_folder() -> None:
    assert not INSTALLED and HOME == ROOT and (ROOT / "pyproject.toml").is_file()


def test_the_installed_copy_holds_code_cards_suites_and_page_but_no_data(site: Path) -> None:
    installed = site / "bench"
    cards_and_features = {*(f"{name}.toml" for name in cards()), "features.csv"}
    assert {path.name for path in (installed / "cards").iterdir()} == cards_and_features
    for folder in ("suites", "report/assets"):
        assert {path.name for path in (installed / folder).iterdir()} == {
            path.name for path in (ROOT / "bench" / folder).iterdir()
        }
    assert not (site / "datasets").exists()


def test_the_installed_copy_lists_models_cards_and_suites_of_its_own(site: Path, tmp_path: Path) -> None:
    assert Path(printed(site, tmp_path, "-c", "import bench; print(bench.__file__)").strip()).is_relative_to(site)
    text = printed(site, tmp_path, "-m", "bench", "list")
    assert all(name in text for name in (*cards(), *suite_names(), "logo_llm"))
    assert list(tmp_path.iterdir()) == []


def test_the_console_script_of_the_installed_copy_lists_and_reports(site: Path, tmp_path: Path) -> None:
    script = str(site / "bin" / "logo-bench")
    assert "ETTh1" in printed(site, tmp_path, script, "list")
    ended = python(site, tmp_path, script, "report", "--suite", "quick", "--table", "main", "--models", "dlinear")
    assert ended.returncode == 1 and "Do: logo-bench run --suite quick --models dlinear" in ended.stderr


def test_runs_and_reports_of_an_installed_copy_lie_in_the_current_directory(site: Path, tmp_path: Path) -> None:
    printed(site, tmp_path, "-m", "bench", "run", *QUICK, "--device", "cpu")
    (record,) = (tmp_path / "results" / "EPF" / "h24" / "dlinear").glob("s2021*.json")
    assert '"git": null' in record.read_text() or '"git":null' in record.read_text()
    printed(site, tmp_path, "-m", "bench.report", *QUICK)
    page = (tmp_path / "reports" / "quick-part" / "index.html").read_text(encoding="utf-8")
    assert f"../../results/{record.relative_to(tmp_path / 'results')}" in page
    assert not any((site / name).exists() for name in ("results", "reports", "datasets"))


def test_no_record_of_an_installed_copy_names_a_git_repository_around_it(site: Path, tmp_path: Path) -> None:
    name = ["-c", "user.name=x", "-c", "user.email=x@x"]
    for words in (["init", "-q"], [*name, "commit", "-q", "--allow-empty", "-m", "other code"]):
        subprocess.run(["git", *words], cwd=site.parent, check=True)
    code = "from bench.train import device; print(device.commit(), len(device.build_digest()))"
    assert printed(site, tmp_path, "-c", code).split() == ["(None,", "None)", "64"]


def test_a_card_of_the_users_own_is_written_and_read_in_the_current_directory(site: Path, tmp_path: Path) -> None:
    rows = (f"2024-01-{1 + hour // 24:02} {hour % 24:02}:00:00,{hour % 24}" for hour in range(24 * 28))
    (tmp_path / "mine.csv").write_text("\n".join(["date,load", *rows]) + "\n")
    printed(site, tmp_path, "-m", "bench", "add-dataset", "mine.csv", "--name", "Mine")
    assert (tmp_path / "datasets" / "Mine.toml").is_file()
    assert (tmp_path / "datasets" / "cache" / "own" / "Mine.csv").is_file()
    text = printed(site, tmp_path, "-m", "bench", "list")
    assert "Mine" in text and "ETTh1" in text
    assert "Mine" not in printed(site, site.parent, "-m", "bench", "list")


def test_ray_nodes_cannot_get_an_installed_copy(site: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    ended = python(site, tmp_path, "-m", "bench", "run", *QUICK, "--device", "cpu", "--engine", "ray")
    assert ended.returncode == 2
    assert "checkout" in ended.stderr and len(ended.stderr.strip().splitlines()) == 1
