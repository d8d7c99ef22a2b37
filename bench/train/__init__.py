"""One run, from its spec to its record; the only package that computes with torch.

import torch
from bench.train.execute import run_one

record = run_one(spec, torch.device("cpu"))
print(record.status, record.evaluations)
"""
