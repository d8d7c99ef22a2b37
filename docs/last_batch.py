"""What an epoch's last batch of one window does: kept (as we do), joined to the batch before, or dropped (officially).

python docs/last_batch.py lookback_336 dlinear ETTh1 336 720     trains each nine times (three seeds, SmolLM2)
python docs/last_batch.py paper patchtst ILI 48
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from tabulate import tabulate
from torch import Tensor

from bench.core.card import cards
from bench.core.schedule import StepPlan
from bench.core.spec import RunSpec, TrainConfig
from bench.data.series import load_series
from bench.plan.suite import Filters, load_suite, plan
from bench.train import loop
from bench.train.device import seed_everything
from bench.train.evaluate import evaluate
from bench.train.execute import build, windows_of

CPU = torch.device("cpu")


class WholeBatches(StepPlan):
    """A plan whose epochs have no step for the rest."""

    @property
    def per_epoch(self) -> int:
        return self.train_windows // self.config.batch


class Dropped(loop._Training):
    def __init__(self, model: torch.nn.Module, train: loop.Windows, config: TrainConfig, *others: object) -> None:
        super().__init__(model, train, config, *others)  # type: ignore[arg-type]
        self.plan = WholeBatches(config, len(train))

    def batches(self) -> Sequence[Tensor]:
        return super().batches()[: self.plan.per_epoch]


FORMS = {"kept": (loop._Training, False), "joined": (loop._Training, True), "dropped": (Dropped, False)}
"""Form -> class of the training, and whether a last batch of one window joins the one before."""


def error(spec: RunSpec, training: type[loop._Training], joins_single: bool) -> float:
    """Return the test MSE of a run that draws its batches so."""
    series = load_series(cards()[spec.task.dataset])
    parts = windows_of(spec, series, CPU)
    seed_everything(spec.seed)
    model = build(spec, series.card)
    loop._Training = training  # type: ignore[misc]
    loop.fit(model, parts["train"], parts["val"], spec.train, spec.seed, joins_single=joins_single)
    return evaluate(model, parts["test"], spec.train.precision).mse


def main(suite: str, model: str, dataset: str, *horizons: str) -> None:
    chosen = Filters(models=(model,), datasets=(dataset,), horizons=tuple(map(int, horizons)), backbone="smollm2-135m")
    rows = []
    for spec in plan(load_suite(suite), chosen):
        count = cards()[dataset].windows("train", spec.task.context, spec.task.horizon, 1.0)
        errors = {name: error(spec, *form) for name, form in FORMS.items()}
        rows.append({"horizon": spec.task.horizon, "seed": spec.seed, "last": count % spec.train.batch} | errors)
        print(tabulate(rows[-1:], headers="keys", floatfmt=".4f"), flush=True)
    print(tabulate(rows, headers="keys", floatfmt=".4f"))


if __name__ == "__main__":
    print(__doc__) if "--help" in sys.argv else main(*sys.argv[1:])
