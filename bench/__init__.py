"""The harness around the forecasters in models/: plan a suite, run it as a grid, report from the records.

    python -m bench list                              models, data sets, backbones, suites
    python -m bench run --suite quick                 train and test what is missing
    python -m bench.report --suite quick              tables, figures and the page

In Python, the same as pandas frames (bench/api.py; `help(bench.api)`):

    import bench

    bench.load_records(datasets="ILI")                a row per run and data set that it is tested on
    bench.plan("paper")                               a row per planned run, with its state
    bench.run("quick", models="dlinear")              train and test what is missing
    bench.table("main", "quick")                      a table of the report, also as text or LaTeX
    bench.forecasts(key), bench.errors(key)           what a run kept by keep="forecasts", and its errors

Floors, top to bottom: __main__; api; report; overview and perf; grid; cli, train and analysis; plan and data; core; and
models, which knows nothing of bench. A room imports from lower floors only (pyproject.toml, import-linter).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if (found := find_spec("models")) and Path(str(found.origin)).parent != Path(__file__).parents[1] / "models":
    raise ImportError(f"{found.origin} hides the package models of this project. Do: rename that file or folder")

if TYPE_CHECKING:
    from bench.api import BenchError, errors, forecasts, load_records, plan, run, table

__all__ = ["BenchError", "errors", "forecasts", "load_records", "plan", "run", "table"]


def __getattr__(name: str) -> Any:
    """Import the Python door when it is first used: the commands start without pandas."""
    if name not in __all__:
        raise AttributeError(f"module 'bench' has no attribute {name!r}")
    from bench import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
