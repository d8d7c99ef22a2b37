"""Decoder blocks of a language model are loaded from its files tensor by tensor, cut to the first N, and frozen.

No other module imports peft or tokenizers. It never touches the network.
"""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from models.kernels import FEW_TOKENS, GELU, Dropout, RMSNorm, fuse, is_plain, softmax
from models.kernels import dropout as drop
from models.layers import Attention, Tokens
from models.llm_files import WEIGHTS, Backbone, BackboneError, Published, bundle_dir, find, not_in_bundle, verified
from models.options import Reader

NORMS_AND_POSITIONS = re.compile(r"(^|\.)(ln_1|ln_2|ln_f|wpe|norm|input_layernorm|post_attention_layernorm)\.")
"""Parameter names of the norms and the position embeddings (which GPT-2 alone has)."""
POSITIONS = re.compile(r"(^|\.)wpe\.")
"""Parameter name of the position embeddings."""
WORDS = {"gpt2": "wte.weight", "llama": "embed_tokens.weight"}
"""Family -> tensor of the word embeddings."""
ATTENTION_INPUTS = {"gpt2": ["c_attn"], "llama": ["q_proj", "k_proj", "v_proj"]}
"""Family -> the projections that LoRA updates."""


class Blocks(nn.Module):
    """The first `count` blocks of a backbone and its final norm: embeddings in, hidden states out.

    `forward` returns count + 1 states as transformers does: the input (plus learned positions, if any), then the
    output of each block; the last output is normed if `final_norm`. All is frozen but the parameters whose names
    `trained` matches, and `lora`: low-rank updates (arXiv 2106.09685) of the projections that feed attention, with this
    rank, alpha and dropout. Raises BackboneError for too many blocks.
    """

    def __init__(
        self,
        name: str,
        count: int,
        final_norm: bool = True,
        trained: re.Pattern[str] | None = None,
        lora: tuple[int, float, float] | None = None,
    ) -> None:
        super().__init__()
        backbone = find(name)
        if not 1 <= count <= backbone.blocks:
            wrong = f"{count} blocks asked for; it has {backbone.blocks}"
            raise BackboneError(f"backbone {name}: {wrong}. Do: set the option `blocks` to 1 to {backbone.blocks}")
        self.family, self.width, self.count = backbone.family, backbone.width, count
        # 1. Build the blocks, and fill them with the pretrained weights.
        self.model = _build(backbone, count)
        if backbone.pretrained:
            copy_tensors(self.model, _files(backbone)[WEIGHTS], backbone)
        if not final_norm:
            setattr(self.model, "ln_f" if self.family == "gpt2" else "norm", nn.Identity())
        # 2. Freeze all but what is to train.
        self.requires_grad_(False)
        if lora:
            _add_lora(self.model, self.family, *lora)
        for parameter_name, parameter in self.model.named_parameters():
            if trained and trained.search(parameter_name):
                parameter.requires_grad_()
        # 3. Exchange torch's slow operations.
        if not is_plain():
            _replace_slow_parts(self.model)

    @property
    def norm(self) -> nn.Module | None:
        """The norm of the last block's state; None without it."""
        found = self.model.get_submodule("ln_f" if self.family == "gpt2" else "norm")
        return None if isinstance(found, nn.Identity) else found

    def forward(self, tokens: Tokens, prefix: Tensor | None = None) -> tuple[Tokens, ...]:
        """Return the hidden states. With `prefix`, from `read_prefix`, the tokens follow that prompt."""
        start = 0 if prefix is None else prefix.shape[-2]
        positions = torch.arange(start, start + tokens.shape[1], device=tokens.device)[None]
        if is_plain():
            wanted = {"output_hidden_states": True, "output_attentions": True}
            return self.model(inputs_embeds=tokens, position_ids=positions, use_cache=False, **wanted).hidden_states
        model: Any = self.model
        # The model's own forward records states by hooks, which no compiler sees through.
        if self.family == "gpt2":
            state, rotary = model.drop(tokens + model.wpe(positions)), {}
            blocks, norm = model.h, model.ln_f
        else:
            state, rotary = tokens, {"position_embeddings": fuse(model.rotary_emb.forward)(tokens, positions)}
            blocks, norm = model.layers, model.norm
        states = [state]
        for number, block in enumerate(blocks):
            run = fuse(block.forward)  # one compilation serves all
            state = run(state, prefix=None if prefix is None else prefix[number], **rotary)
            states.append(state)
        states[-1] = norm(state)
        return tuple(states)

    @torch.no_grad()
    def read_prefix(self, prompt: Float[Tensor, "n d"]) -> Float[Tensor, "blocks kv heads n e"]:
        """Return the keys and values of a prompt in every block, computed once for all windows."""
        cache = self.model(inputs_embeds=prompt[None], use_cache=True).past_key_values
        return torch.stack([torch.stack([layer.keys[0], layer.values[0]]) for layer in cache.layers])


class StandIn(nn.Module):
    """An ablation that replaces the language model, with the interface of `Blocks`; all of it trains.

    With `nothing` the states are the tokens themselves. With `attention` every state but the input is the output of
    one fresh self-attention layer with residual sum and layer norm ("LLM2Attn" of arXiv 2406.16964).
    """

    def __init__(self, name: str, count: int, reader: Reader) -> None:
        super().__init__()
        self.width, self.count = find(name).width, count
        self.layer: nn.Module = nn.Identity() if reader == "nothing" else _OneAttention(self.width)

    def forward(self, tokens: Tokens, prefix: None = None) -> tuple[Tokens, ...]:
        return (tokens, *[self.layer(tokens)] * self.count)


class _OneAttention(nn.Module):
    """Self-attention over all tokens (no mask), residual sum, layer norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = Attention(width, width, width, heads=width // 64, dropout=0.1)
        self.out, self.norm = nn.Linear(width, width), nn.LayerNorm(width)

    def forward(self, tokens: Tokens) -> Tokens:
        return self.norm(tokens + self.out(self.attention(tokens, tokens)))


def read_with(reader: Reader, name: str, count: int, **settings: Any) -> Blocks | StandIn:
    """Return the module that turns tokens into states: `Blocks` with these settings, or a stand-in of their width."""
    return Blocks(name, count, **settings) if reader == "blocks" else StandIn(name, count, reader)


def word_embeddings(name: str) -> Float[Tensor, "vocabulary d"]:
    """Return the word embeddings in float32; for a random backbone they are random and the same for every seed."""
    backbone = find(name)
    if not backbone.pretrained:
        generator = torch.Generator().manual_seed(0)
        spread = _config(backbone, 1).initializer_range
        return torch.randn(backbone.vocabulary, backbone.width, generator=generator) * spread
    with safe_open(_files(backbone)[WEIGHTS], framework="pt") as file:
        if bundle_dir() and WORDS[backbone.family] not in file.keys():  # noqa: SIM118  (a file, no mapping)
            raise not_in_bundle(backbone, "word embeddings")
        return file.get_tensor(WORDS[backbone.family]).float()


def tokenize(name: str, text: str) -> list[int]:
    """Return the token ids of a prompt; for a random backbone each byte is a token."""
    backbone = find(name)
    if not backbone.pretrained:
        return list(text.encode())
    from tokenizers import ByteLevelBPETokenizer, Tokenizer

    paths = [str(path) for path in tokenizer_files(name)]
    tokenizer: Any = ByteLevelBPETokenizer(*paths) if len(paths) > 1 else Tokenizer.from_file(*paths)
    return tokenizer.encode(text).ids


def tokenizer_files(name: str) -> list[Path]:
    """Return the files of a pretrained backbone's tokenizer: vocabulary and merges, or one file."""
    backbone = find(name)
    paths = _files(backbone)
    names = ("vocab.json", "merges.txt") if backbone.family == "gpt2" else ("tokenizer.json",)
    if bundle_dir() and not paths.keys() >= set(names):
        raise not_in_bundle(backbone, "tokenizer")
    return [paths[file] for file in names]


def prepare(name: str) -> None:
    """Verify a backbone's files and convert them if needed (SmolLM2: half a minute, once)."""
    backbone = find(name)
    if backbone.pretrained:
        _files(backbone)


def _build(backbone: Backbone, count: int) -> nn.Module:
    """Return the freshly initialised architecture with `count` blocks and no word embeddings."""
    from transformers import AttentionInterface, AutoModel

    AttentionInterface.register("logo_llm_bench", _attend)
    attention = "eager" if is_plain() else "logo_llm_bench"
    model = AutoModel.from_config(_config(backbone, count), attn_implementation=attention)
    model.set_input_embeddings(nn.Identity())
    return model


def _config(backbone: Backbone, count: int) -> Any:
    """Return transformers' configuration of the backbone with `count` blocks and no vocabulary."""
    from transformers import AutoConfig

    sizes = {"hidden_size": backbone.width, "num_hidden_layers": count, "num_attention_heads": backbone.width // 64}
    no_words = {"vocab_size": 1, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    return AutoConfig.for_model(backbone.family, **{**sizes, **no_words, **backbone.architecture})


def _add_lora(model: nn.Module, family: str, rank: int, alpha: float, dropout: float) -> None:
    """Add low-rank updates to the projections that feed attention; they alone train then."""
    from peft import LoraConfig, inject_adapter_in_model

    sizes: Any = {"r": rank, "lora_alpha": alpha, "lora_dropout": dropout}
    config = LoraConfig(**sizes, target_modules=ATTENTION_INPUTS[family], fan_in_fan_out=family == "gpt2")
    inject_adapter_in_model(config, model)


def _replace_slow_parts(model: nn.Module) -> None:
    """Replace dropout, GPT-2's activation and RMS norm by the faster ones of `models.kernels`."""
    from transformers.activations import NewGELUActivation
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    for parent in list(model.modules()):
        for name, child in parent.named_children():
            match child:
                case nn.Dropout():
                    setattr(parent, name, Dropout(child.p))
                case NewGELUActivation():
                    setattr(parent, name, GELU())
                case LlamaRMSNorm():
                    setattr(parent, name, RMSNorm(child.weight, child.variance_epsilon, for_products=name != "norm"))


def copy_tensors(model: nn.Module, weights: Path, source: Published) -> None:
    """Fill every parameter of `model` from the file. Raises BackboneError for an absent or misshapen tensor."""
    # Its hash was verified: the file is the entry's.
    entry = "Do: mend its entry in models/llm_files.py or models/forecaster_files.py"
    with safe_open(weights, framework="pt") as file, torch.no_grad():
        names = set(file.keys())
        for name, parameter in model.named_parameters():
            if name not in names and bundle_dir():
                raise not_in_bundle(source, f"tensor {name}")
            if name not in names:
                raise BackboneError(f"{source.kind} {source.name}: {weights} holds no tensor {name}. {entry}")
            tensor = file.get_tensor(name)
            if tensor.shape != parameter.shape:
                shapes = f"has shape {tuple(tensor.shape)}, expected {tuple(parameter.shape)}"
                raise BackboneError(f"{source.kind} {source.name}: {name} in {weights} {shapes}. {entry}")
            parameter.copy_(tensor)


def _files(backbone: Backbone) -> dict[str, Path]:
    """Return file name -> path of weights (`WEIGHTS`) and tokenizer, verified and, for a GGUF file, converted."""
    return verified(backbone) if backbone.family == "gpt2" or bundle_dir() else _converted(backbone)


def _converted(backbone: Backbone) -> dict[str, Path]:
    """Return file name -> path of what a GGUF file is converted to at its first use.

    The folder is named after the file's hash and moved into place whole: if it exists, it is complete.
    """
    from huggingface_hub.constants import HF_HOME

    folder = Path(HF_HOME) / "logo-llm-bench" / f"{backbone.name}-{(backbone.sha256 or '')[:12]}"
    if not folder.is_dir():
        (gguf,) = verified(backbone).values()
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".converting-") as scratch:
                _convert(gguf, Path(scratch, "copy"))
                Path(scratch, "copy").rename(folder)
        except OSError as error:
            if not folder.is_dir():  # else another process was first, with the same content
                wrong = f"cannot write {folder} ({error})"
                raise BackboneError(f"backbone {backbone.name}: {wrong}. Do: set HF_HOME to another folder") from error
    return {name: folder / name for name in (WEIGHTS, "tokenizer.json")}


def _convert(gguf: Path, folder: Path) -> None:
    """Write model.safetensors (dequantised, rounded to bf16) and tokenizer.json of a GGUF file into a new folder."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder.mkdir()
    with contextlib.redirect_stderr(io.StringIO()):  # transformers draws two progress bars even without a terminal
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name).model
    tensors = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / WEIGHTS)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    prefix: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend causally among a series' few tokens, behind a prompt that all series share.

    The signature is transformers': [s, heads, n, e] in, [s, n, heads, e] out; `dropout` is 0 outside training. Heads
    that share keys are folded into one product, and the whole batch reads the prompt's keys in place instead of a copy
    per series. Many tokens (the channels of wide data; a patched window has a dozen) go to the fused kernel.
    """
    # 1. Many tokens: use the fused kernel.
    tokens, groups = query.shape[2], query.shape[1] // key.shape[1]
    if prefix is None and tokens > FEW_TOKENS:
        how: Any = {"dropout_p": dropout, "scale": scaling, "enable_gqa": groups > 1}
        fused = F.scaled_dot_product_attention(query, key, value, is_causal=True, **how)
        return rearrange(fused, "s heads n e -> s n heads e"), None
    # 2. Score every pair of tokens, fold heads that share keys, and mask the future.
    query = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    q = rearrange(query, "s (kv g) n e -> s kv (g n) e", g=groups)
    future = torch.ones(tokens, tokens, dtype=torch.bool, device=query.device).triu(1).repeat(groups, 1)
    scores = (q @ key.transpose(-1, -2)).masked_fill(future, float("-inf"))
    # 3. Mix the values; behind a prompt, over its keys and values too.
    if prefix is None:
        mixed = drop(softmax(scores), dropout, training=True) @ value
    else:
        keys, values = prefix
        shared = rearrange(q, "s kv m e -> kv (s m) e") @ keys.transpose(-1, -2)
        scores = torch.cat([rearrange(shared, "kv (s m) p -> s kv m p", s=len(q)), scores], dim=-1)
        weights = drop(softmax(scores), dropout, training=True)
        of_prompt, of_tokens = weights[..., :-tokens], weights[..., -tokens:]
        read = rearrange(of_prompt, "s kv m p -> kv (s m) p") @ values
        mixed = of_tokens @ value + rearrange(read, "kv (s m) e -> s kv m e", s=len(q))
    return rearrange(mixed, "s kv (g n) e -> s n (kv g) e", g=groups), None
