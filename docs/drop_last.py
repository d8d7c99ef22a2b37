"""What a test error becomes where the last, smaller batch of test windows is dropped, as in much of the literature.

python docs/drop_last.py ILI patchtst dlinear logo_llm     trains each model again (seed 2021, suite paper, SmolLM2)

The last windows of a series are not like the others: those of ILI hold its largest errors. Our harness scores every
window; this only shows what the others' numbers are worth (docs/experiments.md).
"""

from __future__ import annotations

import sys

import torch
from jaxtyping import Float
from tabulate import tabulate
from torch import Tensor

from bench.core.card import cards
from bench.core.spec import RunSpec
from bench.data.series import load_series
from bench.plan.suite import Filters, load_suite, plan
from bench.train.device import seed_everything
from bench.train.evaluate import predict
from bench.train.execute import build
from bench.train.loop import fit
from bench.train.windows import calendar, split_windows, standardized

BATCHES = (16, 32, 128)
CHANNEL_BATCH = 512
"""Logo-LLM's loader: single-channel windows, channel after channel."""
CPU = torch.device("cpu")


def squared_errors(spec: RunSpec) -> Float[Tensor, "window channel"]:
    """Of every test window and channel, after training as `bench run` does."""
    task, series = spec.task, load_series(cards()[spec.task.dataset])
    parts = split_windows(
        series.card, standardized(series, CPU), task.context, task.horizon, calendar=calendar(series, CPU)
    )
    seed_everything(spec.seed)
    model = build(spec, series.card)
    fit(model, parts["train"], parts["val"], spec.train, spec.seed)
    model.eval()
    found = []
    with torch.inference_mode():
        for index in torch.arange(len(parts["test"])).split(64):
            forecast, y = predict(model, parts["test"], index, spec.train.precision)
            found.append((forecast - y).square().double().mean(1))
    return torch.cat(found)


def without_rest(errors: Tensor, batch: int) -> float:
    """The mean of the whole batches."""
    return float(errors[: len(errors) // batch * batch].mean())


def main(dataset: str, *models: str) -> None:
    rows = []
    filters = Filters(models=models, datasets=(dataset,), seeds=(2021,), backbone="smollm2-135m")
    for spec in plan(load_suite("paper"), filters):
        errors = squared_errors(spec)
        windows = errors.mean(1)
        row = {"model": spec.model, "horizon": spec.task.horizon, "all windows": windows.mean().item()}
        row |= {f"batch {batch}": without_rest(windows, batch) for batch in BATCHES}
        rows.append(row | {f"channels, batch {CHANNEL_BATCH}": without_rest(errors.T.flatten(), CHANNEL_BATCH)})
    print(tabulate(rows, headers="keys", floatfmt=".3f"))


if __name__ == "__main__":
    print(__doc__) if "--help" in sys.argv else main(*sys.argv[1:])
