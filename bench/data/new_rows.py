"""Read new rows of a data set from a user's own file, for a trained model to forecast what follows them. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bench.core.base import BenchError
from bench.core.card import DatasetCard
from bench.core.text import printable
from bench.data.add_dataset import Given, examined
from bench.data.problems import Problems, Refusal


def new_rows(file: Path, card: DatasetCard, channels: Sequence[str], least: int) -> pd.DataFrame:
    """Return a column for each channel, in the data set's order, by stamp; there are `least` rows or more.

    The file is read as `add-dataset` reads one, wide or long; columns that are no channel are left out. Raises
    BenchError with all that is wrong with it: a channel or a cell is missing, or rows are not one step apart.
    """
    place, rows = f"--on {printable(str(file))}", pd.DataFrame()
    try:
        for long in (False, True):
            problems = Problems()
            rows, _, _ = examined(file, Given(step=card.step, channels=channels, long=long), problems, {})
            if "long" not in problems.options:
                break
        if problems.found:
            remedy = "; ".join(problems.by_hand) or "correct the file"
            raise Refusal(f"{'; '.join(problems.found)}. Do: {remedy}")
        if len(rows) < least:
            raise Refusal(f"has {len(rows)} rows; the model reads the last {least}. Do: add the rows before")
    except Refusal as error:
        raise BenchError(f"{place}: {str(error).replace(' for --channels', f', a channel of {card.name}')}") from None
    except OSError as error:
        raise BenchError(f"{place}: cannot be read: {error}. Do: check the path") from None
    return rows[list(channels)]
