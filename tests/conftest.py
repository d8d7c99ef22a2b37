"""Shared fixtures: a small generated data set, and specs on it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import settings

from bench.core.card import DatasetCard, Source, cards
from bench.core.spec import RunSpec, Task, TrainConfig
from models import MODELS, options
from models.options import Shape

settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")  # a test that fails now and then says nothing of the change it fails on

LONGEST = ("test_grid", "test_cluster", "test_cli")
"""Files that begin first, so that no process is left alone with one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.stem not in LONGEST)


SHAPE = Shape(context=32, horizon=8, channels=3, season=8, about="Three waves")
SMALL_LLM = {"backbone": "gpt2-random", "blocks": 2}
SMALL = {
    "logo_llm": options.LogoLLMOptions(**SMALL_LLM, local_tap=1, global_tap=2, patch=8, stride=4),
    "time_llm_lite": options.TimeLLMOptions(**SMALL_LLM, patch=8, stride=4, width=8, feedforward=16, prototypes=20),
    "calf_lite": options.CALFOptions(**SMALL_LLM, components=10, feedforward=32),
    "patchtst": options.PatchTSTOptions(patch=8, stride=4, width=16, heads=4, layers=2, feedforward=32),
    "itransformer": options.ITransformerOptions(width=16, heads=4, feedforward=32),
    "dlinear": options.DLinearOptions(kernel=5),
    "seasonal_naive": options.NoOptions(),
    "repeat_last": options.NoOptions(),
}
"""Every registered model, small enough to train in a test."""

assert set(SMALL) == set(MODELS)


def waves(rows: int, channels: int, seed: int = 0) -> np.ndarray:
    """Sines of period 8 with a slow trend and noise, [rows, channels]."""
    noise = np.random.default_rng(seed).normal(size=(rows, channels))
    time = np.arange(rows)[:, None]
    return np.sin(time * np.pi / 4 + np.arange(channels)) + 0.002 * time + 0.1 * noise


@pytest.fixture
def make_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., DatasetCard]:
    """Writes values as a data set file below BENCH_DATA and returns its card, known to every verb in this process."""
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "data"))

    def make(
        values: np.ndarray, name: str = "Waves", split: tuple[float, float, float] = (0.6, 0.2, 0.2)
    ) -> DatasetCard:
        channels = [f"c{i}" for i in range(values.shape[1])]
        frame = pd.DataFrame(values, columns=channels)
        frame.insert(0, "date", pd.date_range("2020-01-01", periods=len(values), freq="h").astype(str))
        path = tmp_path / "data" / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        frame.to_csv(path, index=False)
        card = DatasetCard(
            name=name,
            title="Generated waves",
            about="Three waves",
            license="none",
            sha256=(hashlib.sha256(path.read_bytes()).hexdigest(),),
            stamp="date",
            step="1h",
            rows=len(values),
            channels=tuple(channels),
            season=8,
            split=split,
            context=SHAPE.context,
            horizons=(SHAPE.horizon,),
            source=Source(path=f"{name}.csv"),
        )
        monkeypatch.setitem(cards(), name, card)
        return card

    return make


def make_spec(card: DatasetCard, model: str = "dlinear", seed: int = 1, **train: object) -> RunSpec:
    """A small run of a registered model on a generated card."""
    import dataclasses

    settings = {"epochs": 2, "batch": 16, "lr": 1e-3, **train}
    return RunSpec(
        task=Task(dataset=card.name, context=card.context, horizon=card.horizons[0], cards={card.name: card.digest}),
        model=model,
        options=dataclasses.asdict(SMALL[model]),
        train=TrainConfig.model_validate(settings),
        seed=seed,
    )


@pytest.fixture
def cpu() -> torch.device:
    return torch.device("cpu")
