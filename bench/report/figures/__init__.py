"""The kinds of figure, one family in each module; catalogue.py says which suite has which."""
