"""What is to be run: suites and settings become specs; and how long each run takes. No torch.

from bench.plan.suite import Filters, load_suite, plan

suite = load_suite("paper")
specs = plan(suite, Filters(models=("dlinear",), datasets=("ILI",)))
print(specs[0].key, specs[0].path)
"""
