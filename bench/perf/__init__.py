"""Timing: our training loop beside the loop as peers write it, and beside the hardware's limit (`bench perf`).

from rich.console import Console

from bench.perf.measure import perf, perf_specs, perf_text
from bench.plan.suite import Filters

specs = perf_specs("efficiency", Filters(models=("patchtst",)), None)
print(perf_text(perf(specs, "cpu", 1, True, 3, Console())))  # one thread, beside the plain loops, three rounds
"""
