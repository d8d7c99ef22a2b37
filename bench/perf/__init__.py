"""Timing: our training loop beside the loop as peers write it, and beside the hardware's limit (`bench perf`).

from bench.perf.measure import perf, perf_specs, perf_text

specs = perf_specs("efficiency", Filters(models=("patchtst",)), None)
print(perf_text(perf(specs, "cpu", True, 3, Console())))
"""
