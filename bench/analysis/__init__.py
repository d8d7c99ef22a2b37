"""Records become numbers: tables, ranks, published values, verdicts on the paper's claims. No torch.

from bench.analysis.results import Results
from bench.analysis.tables import main_table

results = Results.read(entries(suite), store)   # each planned run with its record
(table,) = main_table(results)
"""
