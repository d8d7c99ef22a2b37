"""Numbers become pages: `python -m bench.report` prints tables and writes reports/SUITE/. No torch.

from bench.report.contents import read, tables_of
from bench.report.render import render

results = read(suite, Filters(), store)
print(render(tables_of("main", results, suite.about)[0], "text"))
"""
