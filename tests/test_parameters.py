"""How many parameters each model of suite `paper` has, and how many train: counted by hand from the papers.

Settings: ETTh1, look-back 96, horizon 96, seven channels. Models are built on torch's meta device: shapes, no values.
"""

from __future__ import annotations

import pytest
import torch

from bench.core.card import cards
from bench.plan.suite import Filters, load_suite, plan
from bench.train.execute import build
from models import MODELS
from models.llm_files import find

HORIZON = CONTEXT = 96
PATCHES = (CONTEXT - 16) // 8 + 2  # patches of 16 steps every 8, one of them from the padding: 12

BACKBONES = ["gpt2-random", "smollm2-135m-random"]
WIDTH = {"gpt2": 768, "smollm2-135m": 576}
LOGO_AND_TIME_LLM_BLOCKS = {"gpt2": 12, "smollm2-135m": 6}


def linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def block(shape: str) -> int:
    """Weights of one block that belong to no norm."""
    d = WIDTH[shape]
    if shape == "gpt2":  # queries, keys, values in one; output; a feed-forward four times as wide
        return linear(d, 3 * d) + linear(d, d) + linear(d, 4 * d) + linear(4 * d, d)
    return d * d + 2 * d * 192 + d * d + 3 * d * 1536  # three of nine heads have keys and values; SwiGLU; no biases


def norms(shape: str, blocks: int) -> int:
    """Two in each block and the last one: layer norms with weight and bias, or RMS norms with a weight."""
    return (2 * blocks + 1) * WIDTH[shape] * (2 if shape == "gpt2" else 1)


def positions(shape: str) -> int:
    """Learned in GPT-2, rotary in Llama."""
    return 1024 * 768 if shape == "gpt2" else 0


def lora(shape: str, rank: int) -> int:
    """Two factors for what feeds the attention of one block: the one matrix of GPT-2, the three of Llama."""
    d = WIDTH[shape]
    targets = [(d, 3 * d)] if shape == "gpt2" else [(d, d), (d, 192), (d, 192)]
    return sum(rank * (inputs + outputs) for inputs, outputs in targets)


def encoder_layer(d: int, feedforward: int) -> int:
    """Queries, keys, values, output; feed-forward; two norms."""
    return 4 * linear(d, d) + linear(d, feedforward) + linear(feedforward, d) + 2 * 2 * d


def logo_llm(shape: str) -> tuple[int, int]:
    """Norms and positions of the language model train, and all that is new."""
    d, blocks = WIDTH[shape], LOGO_AND_TIME_LLM_BLOCKS[shape]
    mixer = linear(2 * d, d) + linear(d, d)
    new = linear(16, d) + 2 * mixer + linear(PATCHES * d, HORIZON)
    trainable = new + norms(shape, blocks) + positions(shape)
    return trainable + blocks * block(shape), trainable


def time_llm_lite(shape: str) -> tuple[int, int]:
    """Nothing of the language model trains; 1000 prototypes of every sixth or seventh word and a bias; 8 heads of width
    128, of which the head reads one's."""
    d, blocks = WIDTH[shape], LOGO_AND_TIME_LLM_BLOCKS[shape]
    embed = 32 * 16 * 3
    words = {"gpt2": 7180, "smollm2-135m": 8192}[shape]
    reprogram = linear(words, 1000) + linear(32, 8 * 128) + 2 * linear(d, 8 * 128) + linear(8 * 128, d)
    trainable = embed + reprogram + linear(PATCHES * 128, HORIZON)
    return trainable + blocks * block(shape) + norms(shape, blocks) + positions(shape), trainable


def calf_lite(shape: str) -> tuple[int, int]:
    """Six blocks twice: norms, positions and LoRA of rank 8 train in the time branch, positions in the text branch."""
    d, blocks = WIDTH[shape], 6
    words = 3 * linear(d, d) + linear(d, d)
    projections = 2 * (blocks + 1) * d * d
    new = linear(CONTEXT, d) + encoder_layer(d, 2048) + words + projections + linear(d, HORIZON)
    trainable = new + norms(shape, blocks) + 2 * positions(shape) + blocks * lora(shape, 8)
    return trainable + 2 * blocks * block(shape) + norms(shape, blocks), trainable


def patchtst(_: str) -> tuple[int, int]:
    """Width 16, three layers, feed-forward 128: the official script for ETTh1."""
    total = linear(16, 16) + PATCHES * 16 + 3 * encoder_layer(16, 128) + linear(PATCHES * 16, HORIZON)
    return total, total


def itransformer(_: str) -> tuple[int, int]:
    """Width and feed-forward 256, two layers and a last norm: the official script for ETTh1 at 96."""
    total = linear(CONTEXT, 256) + 2 * encoder_layer(256, 256) + 2 * 256 + linear(256, HORIZON)
    return total, total


def dlinear(_: str) -> tuple[int, int]:
    return 2 * linear(CONTEXT, HORIZON), 2 * linear(CONTEXT, HORIZON)


def nothing(_: str) -> tuple[int, int]:
    return 0, 0


def gpt4ts(shape: str) -> tuple[int, int]:
    """Norms and positions of the language model train, an input layer and a head."""
    d = WIDTH[shape]
    trainable = linear(16, d) + linear(PATCHES * d, HORIZON) + norms(shape, 6) + positions(shape)
    return trainable + 6 * block(shape), trainable


EXPECTED = {
    "logo_llm": logo_llm,
    "time_llm_lite": time_llm_lite,
    "calf_lite": calf_lite,
    "patchtst": patchtst,
    "itransformer": itransformer,
    "dlinear": dlinear,
    "seasonal_naive": nothing,
    "repeat_last": nothing,
    "gpt4ts": gpt4ts,
}
assert list(EXPECTED) == [name for name in MODELS if not MODELS[name].weights]  # the others: test_pretrained.py


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("model", EXPECTED)
def test_parameters_and_those_that_train_are_as_many_as_the_paper_says(
    monkeypatch: pytest.MonkeyPatch, model: str, backbone: str
) -> None:
    def no_words(name: str) -> torch.Tensor:
        return torch.empty(find(name).vocabulary, find(name).width)

    monkeypatch.setattr("models.time_llm.word_embeddings", no_words)
    monkeypatch.setattr("models.calf.word_embeddings", no_words)
    chosen = Filters(models=(model,), datasets=("ETTh1",), horizons=(96,), seeds=(2021,), backbone=backbone)
    (spec,) = plan(load_suite("paper"), chosen)
    with torch.device("meta"):
        built = build(spec, cards()["ETTh1"])
    total = sum(parameter.numel() for parameter in built.parameters())
    trainable = sum(parameter.numel() for parameter in built.parameters() if parameter.requires_grad)
    assert (total, trainable) == EXPECTED[model](backbone.removesuffix("-random"))


def test_the_count_of_blocks_norms_and_positions_adds_up_to_the_published_sizes() -> None:
    """GPT-2 has 124,439,808 parameters and SmolLM2-135M 134,515,008, word embeddings included and tied."""
    assert block("gpt2") + 4 * 768 == 7_087_872
    for shape, blocks, vocabulary, published in (
        ("gpt2", 12, 50257, 124_439_808),
        ("smollm2-135m", 30, 49152, 134_515_008),
    ):
        words = vocabulary * WIDTH[shape]
        assert words + positions(shape) + blocks * block(shape) + norms(shape, blocks) == published
        assert (find(shape).blocks, find(shape).vocabulary, find(shape).width) == (blocks, vocabulary, WIDTH[shape])
