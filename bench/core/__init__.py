"""The words that all rooms share: errors, cards, specs, records, the store, jobs, the system."""
