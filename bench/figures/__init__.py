"""The kinds of figure, one family in each module; bench/plots.py says which suite has which."""
