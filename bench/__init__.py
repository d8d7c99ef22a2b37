"""The harness around the forecasters in models/: plan a suite, run it as a grid, report from the records.

    python -m bench list                              models, data sets, backbones, suites
    python -m bench run --suite quick                 train and test what is missing
    python -m bench.report --suite quick              tables, figures and the page

Floors, top to bottom: __main__ and report; overview and perf; grid; cli, train and analysis; plan and data; core; and
models, which knows nothing of bench. A room imports from lower floors only (pyproject.toml, import-linter).
"""
