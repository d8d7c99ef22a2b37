"""Data files: fetched, verified, carried in bundles, added by users; a card becomes a verified series. No torch.

from bench.core.card import cards
from bench.data.series import load_series

series = load_series(cards()["EPF"])
print(series.values.shape, series.sha256)   # [rows, channels], in the file's own units
"""
