"""Records to numbers; no torch."""
