"""Files to verified series; no torch."""
