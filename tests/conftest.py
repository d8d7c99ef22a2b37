"""Shared fixtures and hooks; builders without a fixture's life are in tests/builders.py."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import settings
from safetensors.torch import save_file

from bench.core.card import DatasetCard, Source, cards
from bench.report.figures import catalogue
from models.llm_files import BACKBONES
from tests.builders import SHAPE

if TYPE_CHECKING:
    from transformers import GPT2Model

settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")  # a test that fails now and then says nothing of the change it fails on

os.environ.pop("COLUMNS", None)  # pytest-xdist sets it in its processes, and tables would be cut to it

LONGEST = (
    "test_cluster", "test_grid", "test_claims", "test_report", "test_plots", "test_docs", "test_own_data_commands",
    "test_step", "test_perf", "test_cli", "test_page", "test_models", "test_own_models", "test_committed", "test_fuzz",
    "test_fused", "test_text", "test_install",
)  # fmt: skip
"""Files that begin first, in this order, so that no process is left alone with one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONGEST)))


def pytest_collection_finish() -> None:
    """Spare the garbage collector all that was imported: libraries ask for collections, 0.7 s each among all of it."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def one_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a report draw one figure: all of them take seconds."""
    monkeypatch.setattr(catalogue, "PLOTS", {"ranks": catalogue.PLOTS["ranks"]})


@pytest.fixture
def make_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., DatasetCard]:
    """Return a function that writes values as a data set below BENCH_DATA and registers and returns its card."""
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


@pytest.fixture
def slim_backbones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make random backbones small, to save time: 600 words, and a quarter of GPT-2's width."""
    for name, width in (("gpt2-random", 192), ("smollm2-135m-random", 576)):
        slim = dataclasses.replace(BACKBONES[name], width=width, vocabulary=600)
        monkeypatch.setitem(BACKBONES, name, slim)


@pytest.fixture
def cpu() -> torch.device:
    return torch.device("cpu")


@pytest.fixture
def tiny_gpt2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[GPT2Model, Path]:
    """Put a GPT-2 of three narrow blocks into a Hugging Face cache; return it and its folder.

    Its weights are five times as large as fresh ones are: attention is uneven, and every block changes its input.
    """
    from transformers import GPT2Config, GPT2Model

    torch.manual_seed(0)
    config = GPT2Config(
        n_embd=128, n_head=2, n_layer=3, vocab_size=300, bos_token_id=None, eos_token_id=None, initializer_range=0.1
    )
    model = GPT2Model(config).eval()
    folder = tmp_path / "models--openai-community--gpt2" / "snapshots" / "abc123"
    folder.mkdir(parents=True)
    save_file(model.state_dict(), folder / "model.safetensors")
    merges = ["#version: 0.2", "h e", "l l"]
    symbols = [chr(c) for c in range(33, 127)] + ["Ġ", "he", "ll"]
    (folder / "vocab.json").write_text(json.dumps({symbol: i for i, symbol in enumerate(symbols)}))
    (folder / "merges.txt").write_text("\n".join(merges) + "\n")
    hashes = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in ("model.safetensors", "vocab.json", "merges.txt")
    }
    small = dataclasses.replace(BACKBONES["gpt2"], blocks=3, width=128, files=hashes, revision="abc123")
    monkeypatch.setitem(BACKBONES, "gpt2", small)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return model, folder
