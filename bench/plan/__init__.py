"""What is to be run: suites and settings become specs; and how long each run takes. No torch.

from bench.plan.suite import Filters, load_suite, plan

suite = load_suite("paper")
specs = plan(suite, Filters(models=("dlinear",), datasets=("ILI",)))
print(specs[0].key, specs[0].path)

`bench.plan(suite)` is the function of the Python door, `bench.api.plan`: this package can be called.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """A package that is a function too: its name is that of a function of the Python door."""

    def __call__(self, *given: Any, **named: Any) -> Any:
        return importlib.import_module("bench.api").plan(*given, **named)


sys.modules[__name__].__class__ = _Callable
