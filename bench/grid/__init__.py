"""Many runs: the driver claims and records them, an engine trains them in processes here or as Ray tasks. No torch.

from bench.grid.driver import Orders, run_grid
from bench.grid.local import Workers

tally = run_grid(entries(suite), store, Orders(), lambda: Workers("cpu", 2), Console())
print(tally.done, tally.failed)
"""
