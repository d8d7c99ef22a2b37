"""The kinds of figure, one family in each module; catalogue.py maps suites to their figures."""
