"""What all rooms share: errors, text, data set cards, specs, records, the store of records, jobs, this machine.

from bench.core.card import cards
from bench.core.store import Store

card = cards()["ETTh1"]             # rows, channels, split, hashes
record = Store(path).get(spec)      # the record of a run, or None
"""
