"""Names that command lines offer before anything else is imported."""

from __future__ import annotations

from typing import Literal

TableName = Literal[
    "main",
    "full",
    "seeds",
    "ranks",
    "regimes",
    "few_shot",
    "zero_shot",
    "ablation",
    "taps",
    "layers",
    "losses",
    "efficiency",
    "published",
]
Format = Literal["text", "md", "latex", "csv", "json"]
Metric = Literal["mse", "mae", "rmse", "mase", "wape", "smape", "mae_original", "rmse_original"]
Rerun = Literal["missing", "failed", "all"]
"""What a command runs: what has no record or failed, what failed alone, or all."""
What = Literal["forecasts", "weights"]
"""What a run can keep beside its record."""
