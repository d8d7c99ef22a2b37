"""What kind of series each channel is: strength of trend and of season, spectral entropy, unit root.

python docs/features.py ETTh1 ILI     adds data sets (default: all whose files are at hand) to datasets/features.csv

The table `regimes` bins channels by these numbers (bench/analysis/regimes.py). Strengths are those of Hyndman and
Athanasopoulos (Forecasting: principles and practice, 4.3) from an STL decomposition with the card's season; they are
between 0 and 1, as is the entropy. Every row of the file is used.
"""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pandas as pd
from scipy.signal import periodogram
from statsmodels.tsa.seasonal import STL
from statsmodels.tsa.stattools import adfuller

from bench.analysis.regimes import FILE, features
from bench.core.card import CARDS, canonical_card, cards
from bench.data.series import DataError, load_series


def described(series: np.ndarray, season: int) -> dict[str, float]:
    """Return the features of one channel."""
    parts = STL(series, period=season, robust=False, seasonal_jump=season // 8 + 1, trend_jump=season // 8 + 1).fit()
    rest = parts.resid.var()
    _, power = periodogram(series, detrend="linear")
    share = power[1:] / power[1:].sum()
    with warnings.catch_warnings():  # of another type of result in a later statsmodels, whose second part is p too
        warnings.simplefilter("ignore", FutureWarning)
        unit_root = float(adfuller(series, maxlag=min(season, 48), autolag=None)[1])
    return {
        "trend": max(0.0, 1 - rest / (parts.trend + parts.resid).var()),
        "season": max(0.0, 1 - rest / (parts.seasonal + parts.resid).var()),
        "entropy": float(
            -(share * np.log(share, where=share > 0, out=np.zeros_like(share))).sum() / np.log(len(share))
        ),
        "unit_root_p": unit_root,
    }


def main(*names: str) -> None:
    chosen = [canonical_card(name) for name in names] or list(cards().values())
    rows = []
    for card in chosen:
        try:
            values = load_series(card).values
        except DataError as error:
            print(error, file=sys.stderr)
            continue
        found = [described(series, card.season) for series in values.T]
        rows.append(pd.DataFrame(found).round(3).rename_axis("channel").reset_index().assign(dataset=card.name))
        print(rows[-1].to_string(index=False), flush=True)
    known = features()
    new = pd.concat(rows)[known.columns]
    kept = known[~known.dataset.isin(new.dataset)]
    pd.concat([kept, new]).sort_values(["dataset", "channel"], kind="stable").to_csv(CARDS / FILE, index=False)


if __name__ == "__main__":
    print(__doc__) if "--help" in sys.argv else main(*sys.argv[1:])
