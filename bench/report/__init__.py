"""Numbers to pages; no torch."""
