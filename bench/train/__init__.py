"""One run, with torch."""
