"""The benchmark harness: plan, run, record and report (see README.md)."""
