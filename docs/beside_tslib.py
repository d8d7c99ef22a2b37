"""Time an epoch of Time-Series-Library's own models and loaders beside ours and the plain loop of `bench perf`.

python docs/beside_tslib.py CHECKOUT [ROUNDS]     CHECKOUT: of https://github.com/thuml/Time-Series-Library

One thread each, in turns; ETTh1, horizon 96, batches of 32, training and validation, no processes that load data, the
settings of the suite `paper` in both. It needs scikit-learn, and the data set (python -m bench fetch --datasets ETTh1).
What the checkout imports for other tasks need not be installed.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Iterator
from statistics import median
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from bench.core.card import cards
from bench.core.spec import RunSpec
from bench.data.series import file_of
from bench.perf.measure import perf_specs
from bench.perf.timing import process_of
from bench.plan.suite import Filters

MODELS = {"patchtst": "PatchTST", "itransformer": "iTransformer", "dlinear": "DLinear"}
NAMES = {
    "width": "d_model", "heads": "n_heads", "layers": "e_layers", "feedforward": "d_ff", "dropout": "dropout",
    "kernel": "moving_avg",
}  # fmt: skip
"""Our option -> theirs, of their configuration."""
PATCHES = {"patch": "patch_len", "stride": "stride"}
"""Our option -> theirs, of a model's class."""
KNOWN = 48
"""Steps of the look-back that their loaders put before each target, for models with a decoder."""
OTHER_TASKS = ("reformer_pytorch", "sktime", "sktime.datasets", "patoolib", "datasets", "huggingface_hub")


class Nothing(ModuleType):
    """A module in the place of one that is imported and not used here."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return object


class TheirLoop:
    """Training and validation as their `exp_long_term_forecasting.py` does it, on their classes."""

    def __init__(self, spec: RunSpec) -> None:
        task, train = spec.task, spec.train
        file = file_of(cards()[task.dataset])
        sizes = {"seq_len": task.context, "label_len": KNOWN, "pred_len": task.horizon}
        channels = dict.fromkeys(("enc_in", "dec_in", "c_out"), cards()[task.dataset].width)
        fixed = {"task_name": "long_term_forecast", "activation": "gelu", "embed": "timeF", "freq": "h", "factor": 1}
        options = {NAMES[name]: value for name, value in spec.options.items() if name in NAMES}
        args = SimpleNamespace(**fixed, augmentation_ratio=0, **sizes, **channels, **options)
        data_set = importlib.import_module("data_provider.data_loader").Dataset_ETT_hour
        where = {"root_path": str(file.parent), "data_path": file.name, "features": "M", "timeenc": 1, "freq": "h"}
        self.parts = {part: data_set(args, flag=part, size=[*sizes.values()], **where) for part in ("train", "val")}
        model = importlib.import_module(f"models.{MODELS[spec.model]}").Model
        patches = {theirs: spec.options[ours] for ours, theirs in PATCHES.items() if ours in spec.options}
        self.model: nn.Module = model(args, **patches).float()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=train.lr)
        self.horizon, self.batch = task.horizon, train.batch

    def epoch(self) -> float:
        """Return the seconds of an epoch."""
        began = time.perf_counter()
        self.model.train()
        for loss in self._losses(self.parts["train"]):
            loss.item()
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
        self.model.eval()
        with torch.no_grad():
            for loss in self._losses(self.parts["val"]):
                loss.item()
        return time.perf_counter() - began

    def _losses(self, part: Dataset[Any]) -> Iterator[Tensor]:
        for batch in DataLoader(part, self.batch, shuffle=True):
            x, y, stamps, later = (each.float() for each in batch)
            known = torch.cat([y[:, :KNOWN], torch.zeros_like(y[:, -self.horizon :])], dim=1)
            forecast = self.model(x, stamps, known, later)
            yield nn.functional.mse_loss(forecast[:, -self.horizon :], y[:, -self.horizon :])


def their_loops(checkout: str, specs: list[RunSpec]) -> list[TheirLoop]:
    """Build them while their package `models` stands in the place of ours, which comes back."""

    def taken_out() -> dict[str, ModuleType]:
        return {name: sys.modules.pop(name) for name in [*sys.modules] if name.partition(".")[0] == "models"}

    ours = taken_out()
    sys.modules |= {name: Nothing(name) for name in OTHER_TASKS}
    sys.path.insert(0, checkout)
    try:
        return [TheirLoop(spec) for spec in specs]
    finally:
        sys.path.remove(checkout)
        taken_out()
        sys.modules |= ours


def main(checkout: str, rounds: str = "5") -> None:
    torch.set_num_threads(1)
    specs = perf_specs("paper", Filters(models=(*MODELS,), datasets=("ETTh1",), horizons=(96,)), batch=32)
    rows = []
    for spec, theirs in zip(specs, their_loops(checkout, specs), strict=True):
        with process_of("ours", spec, "cpu", 1, 4.0) as ours, process_of("plain", spec, "cpu", 1, 4.0) as plain:
            ours("start"), plain("start")
            theirs.epoch()  # warms up, as ours has done
            turns = []
            for _ in range(int(rounds)):
                turns.append((ours("round")["epoch_s"], plain("round")["0 workers epoch_s"], theirs.epoch()))
        ratios = [peer / own for own, _, peer in turns]
        medians = [f"{median(each):.2f}" for each in zip(*turns, strict=True)]
        rows.append([spec.model, *medians, f"{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"])
    print(tabulate(rows, ["seconds of an epoch", "ours", "plain loop", "theirs", "theirs over ours"]))


if __name__ == "__main__":
    print(__doc__) if "--help" in sys.argv else main(*sys.argv[1:])
