"""One conformance test over the registry, and what each model promises of itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GPT2Config, GPT2Model, PatchTSTConfig, PatchTSTForPrediction

from bench.core.base import BenchError, UnknownName
from bench.plan import registry
from bench.train.conformance import checks
from bench.train.step import LOSSES
from models import kernels as fast
from models.calf import principal_words, words_of
from models.kernels import plain
from models.layers import normalize_window, split_patches
from models.llm_blocks import Blocks, word_embeddings
from models.llm_files import BACKBONES, find
from models.options import CALFOptions, DLinearOptions, LogoLLMOptions, NoOptions, Shape
from models.time_llm import Prototypes
from tests.builders import BUILT, LANGUAGE_MODELS, SHAPE, SMALL, TRAINED

pytestmark = pytest.mark.usefixtures("slim_backbones")

VARIANTS = [
    *((name, {"reader": reader}) for name in LANGUAGE_MODELS for reader in ("attention", "nothing")),
    *(("logo_llm", {"mixers": mixers}) for mixers in ("local", "global", "none")),
    *(("logo_llm", {"local_tap": local, "global_tap": last}) for local, last in ((0, 2), (2, 1), (1, 1), (2, 0))),
    *((name, {"backbone": "smollm2-135m-random"}) for name in LANGUAGE_MODELS),
    ("logo_llm", {"backbone": "smollm2-135m-random", "mixers": "local"}),
    ("calf_lite", {"backbone": "smollm2-135m-random", "reader": "attention"}),
]
PARITY: Any = {"atol": 1e-5, "rtol": 0}


def build(name: str, **changes: object) -> nn.Module:
    torch.manual_seed(0)
    model = registry.load(name)(SHAPE, dataclasses.replace(SMALL[name], **changes))
    assert isinstance(model, nn.Module)
    return model


def inputs(batch: int = 4, seed: int = 1) -> torch.Tensor:
    return torch.randn(batch, SHAPE.context, SHAPE.channels, generator=torch.Generator().manual_seed(seed)).cumsum(1)


def forecast(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What the harness calls: with the calendar of the look-back for a model that reads it."""
    if getattr(model, "reads_calendar", False):
        return model(x, torch.linspace(-0.5, 0.5, 4).expand(len(x), x.shape[1], 4))
    return model(x)


@pytest.mark.parametrize("name", BUILT)
def test_a_registered_model_passes_every_check_of_bench_check(name: str) -> None:
    """Shapes, gradients, seeds, eval mode, independence of the batch, bf16, saving: bench/train/conformance.py."""
    model_class = registry.load(name)
    outcomes = [*checks(lambda shape: model_class(shape, SMALL[name]), SHAPE)]
    assert [str(each) for each in outcomes if not each.passed] == []
    skipped = {each.check for each in outcomes if each.skipped} - {"device"}  # told on a GPU, or by shapes alone
    assert skipped == (set() if name in TRAINED else {"training step", "gradients", "loss", "seed"})


@pytest.mark.parametrize(
    ("name", "changes", "precision"),
    [(name, {}, precision) for name in TRAINED for precision in ("float32", "bf16")]
    + [(name, changes, "float32") for name, changes in VARIANTS],
    ids=str,
)
def test_a_step_changes_every_trainable_parameter_and_no_other(name: str, changes: dict, precision: str) -> None:
    model = build(name, **changes).train()
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=1e-2)
    for seed in (1, 2):  # LoRA's first factor has no gradient before its second, which starts at zero, has moved
        x, y = inputs(seed=seed), torch.randn(4, SHAPE.horizon, SHAPE.channels)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            if hasattr(model, "training_loss"):
                loss = model.training_loss(x, y, LOSSES["mse"])
            else:
                loss = LOSSES["mse"](forecast(model, x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    reads_language_model = name in LANGUAGE_MODELS and changes.get("reader", "blocks") == "blocks"
    assert any(is_frozen(name, key) for key in before) == reads_language_model
    for key, parameter in model.named_parameters():
        if is_frozen(name, key):
            assert parameter.grad is None, f"{key} should have no gradient"
            assert torch.equal(parameter, before[key]), f"{key} should be frozen"
        else:
            assert parameter.grad is not None, f"{key} should have a gradient"
            if "attention.key.bias" not in key:  # softmax cancels a shift of all keys
                assert parameter.grad.any(), f"{key} should have a gradient"
                assert not torch.equal(parameter, before[key]), f"{key} should train"


def is_frozen(name: str, key: str) -> bool:
    """What the papers leave as it was pretrained: the language model but for norms, positions and LoRA's factors.

    Time-LLM leaves all of it, and CALF's text branch all but the positions.
    """
    if ".model." not in key or "lora_" in key:
        return False
    if name == "time_llm_lite":
        return True
    if key.startswith("text_blocks"):
        return "wpe" not in key
    return any(part in key for part in (".attn.", ".self_attn.", ".mlp."))


@pytest.mark.parametrize("name", ["logo_llm", "time_llm_lite", "calf_lite", "gpt4ts", "patchtst", "itransformer"])
def test_models_that_normalise_each_window_follow_its_shift_and_scale(name: str) -> None:
    model = build(name).eval()
    with torch.no_grad():
        x = inputs()
        assert torch.allclose(forecast(model, 3 * x + 50), 3 * forecast(model, x) + 50, atol=2e-2)


@pytest.mark.parametrize("name", TRAINED)
def test_every_option_is_read(name: str) -> None:
    """Flipping it changes the parameters' shapes, or the forecast in training, or the loss."""
    different = {
        "backbone": None, "blocks": 3, "local_tap": 0, "global_tap": 1, "patch": 16, "stride": 8, "width": 24,
        "heads": 2, "layers": 3, "feedforward": 48, "dropout": 0.9, "head_dropout": 0.5, "residual_attention": False,
        "kernel": 9, "prototypes": 30, "words": 300, "components": 12, "rank": 4, "alpha": 1.0, "lora_dropout": 0.9,
        "output_weight": 0.0, "feature_weight": 5.0, "feature_decay": 0.1, "calendar": False, "reader": "attention",
        "mixers": "local",
    }  # fmt: skip

    def fingerprint(model: nn.Module) -> list[object]:
        shapes = [tuple(parameter.shape) for parameter in model.parameters()]
        for parameter_name, parameter in model.named_parameters():
            # Starts that hide options: LoRA's at zero, DLinear's at equal weights for the trend and the remainder.
            if "lora_B" in parameter_name or parameter_name == "trend.weight":
                nn.init.normal_(parameter, generator=torch.Generator().manual_seed(3))
        torch.manual_seed(5)
        model.train()
        y = torch.zeros(4, SHAPE.horizon, SHAPE.channels)
        loss = (
            model.training_loss(inputs(), y, LOSSES["mse"])
            if hasattr(model, "training_loss")
            else forecast(model, inputs())
        )
        return [shapes, loss.detach().sum().item()]

    usual = fingerprint(build(name))
    assert fingerprint(build(name)) == usual
    for field in dataclasses.fields(SMALL[name]):
        if field.name != "backbone":
            assert fingerprint(build(name, **{field.name: different[field.name]})) != usual, field.name


def test_an_unknown_model_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"no model 'patchTSR'; nearest: patchtst"):
        registry.canonical("patchTSR")
    with pytest.raises(BenchError, match="module:Class"):
        registry.canonical("my model:Class")


def test_window_normalisation_is_undone_exactly() -> None:
    x = inputs()
    normal, restore = normalize_window(x)
    assert torch.allclose(normal.mean(1), torch.zeros(4, 3), atol=1e-5)
    assert torch.allclose(normal.var(1, unbiased=False), torch.ones(4, 3), atol=1e-3)
    assert torch.allclose(restore(normal), x, atol=1e-4)


def test_patches_are_the_windows_slices_with_the_last_value_repeated() -> None:
    x = inputs(2)
    patches = split_patches(x, 8, 4)
    padded = np.pad(x.numpy(), ((0, 0), (0, 4), (0, 0)), mode="edge")
    for window in range(2):
        for channel in range(3):
            for patch in range(8):
                expected = padded[window, 4 * patch : 4 * patch + 8, channel]
                assert np.array_equal(patches[window * 3 + channel, patch].numpy(), expected)


def test_seasonal_naive_repeats_the_last_season_and_the_last_value_where_it_cannot_see_one() -> None:
    model = registry.load("seasonal_naive")
    x = inputs()
    y = model(Shape(32, 20, 3, season=8), NoOptions())(x)
    assert torch.equal(y, torch.cat([x[:, -8:], x[:, -8:], x[:, -8:-4]], dim=1))
    unseen = model(Shape(32, 20, 3, season=33), NoOptions())(x)
    assert torch.equal(unseen, x[:, -1:].expand(-1, 20, -1))


@pytest.mark.parametrize("batch", [1, 12])  # fewer series than steps of the look-back, and more
def test_dlinear_splits_trend_and_remainder_as_a_plain_moving_average_does(batch: int) -> None:
    model = registry.load("dlinear")(SHAPE, DLinearOptions(kernel=5))
    nn.init.normal_(model.trend.weight)
    nn.init.normal_(model.remainder.weight)
    x = torch.cat([inputs(1) / 10, inputs(batch - 1)])
    padded = np.pad(x[0].double().numpy(), ((2, 2), (0, 0)), mode="edge")
    trend = np.stack([padded[i : i + 5].mean(0) for i in range(32)])
    weights = [tensor.detach().double().numpy() for tensor in model.state_dict().values()]
    expected = weights[0] @ trend + weights[1][:, None] + weights[2] @ (x[0].numpy() - trend) + weights[3][:, None]
    assert np.allclose(model(x)[0].detach().numpy(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kernel", [4, 5, 40])  # even, odd, longer than the look-back
def test_dlinear_as_one_map_has_the_gradients_of_its_two_layers(kernel: int) -> None:
    model = registry.load("dlinear")(SHAPE, DLinearOptions(kernel=kernel))
    found = []
    for mode in (nullcontext(), plain()):
        model.zero_grad()
        with mode:
            model(inputs(12)).square().mean().backward()
        found.append([parameter.grad.clone() for parameter in model.parameters()])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("channels", [3, 70])  # few tokens, and more than models.layers.FEW_TOKENS
def test_itransformer_equals_torchs_own_encoder_with_the_same_weights(channels: int) -> None:
    model = build("itransformer").eval()
    theirs = nn.Sequential(
        *(nn.TransformerEncoderLayer(16, 4, 32, 0.1, activation="gelu", batch_first=True) for _ in model.encoder)
    ).eval()
    for ours, layer in zip(model.encoder, theirs, strict=True):
        qkv = [ours.attention.query, ours.attention.key, ours.attention.value]
        layer.self_attn.in_proj_weight.data = torch.cat([part.weight for part in qkv])
        layer.self_attn.in_proj_bias.data = torch.cat([part.bias for part in qkv])
        pairs = [
            (layer.self_attn.out_proj, ours.out), (layer.linear1, ours.feedforward[0]),
            (layer.linear2, ours.feedforward[3]), (layer.norm1, ours.norm_attention),
            (layer.norm2, ours.norm_feedforward),
        ]  # fmt: skip
        for to, source in pairs:
            for parameter in source.parameters() if isinstance(source, nn.LayerNorm) else ():
                nn.init.normal_(parameter)  # norms start alike, which would hide an exchange
            to.load_state_dict(source.state_dict())
    tokens = torch.randn(4, channels, 16)
    with torch.no_grad():
        torch.testing.assert_close(model.encoder(tokens), theirs(tokens), **PARITY)


@pytest.mark.parametrize("mixers", ["both", "local", "global", "none"])
def test_logo_llm_is_the_mean_of_its_input_and_its_mixers_of_transformers_own_states(mixers: str) -> None:
    model = build("logo_llm", mixers=mixers, local_tap=1, global_tap=2).eval()
    language_model = GPT2Model(GPT2Config(n_embd=192, n_head=3, n_layer=2, vocab_size=1)).eval()
    x = inputs() / 5
    with torch.no_grad():
        make_uneven(model)
        taken = language_model.load_state_dict(model.blocks.model.state_dict(), strict=False)
        mean, scale = x.mean(1, keepdim=True), (x.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
        series = ((x - mean) / scale).transpose(1, 2).reshape(12, 32)
        padded = torch.cat([series, series[:, -1:].expand(-1, 4)], dim=1)
        patches = torch.stack([padded[:, start : start + 8] for start in range(0, 32, 4)], dim=1)
        tokens = patches @ model.embed.weight.T + model.embed.bias
        # Where only the first block is read, the second is not there and neither has the weights for it.
        states = language_model(inputs_embeds=tokens, output_hidden_states=True).hidden_states
        assert all("h.1." in key or key.startswith(("wte", "ln_f")) for key in taken.missing_keys)

        def mixed(mixer: nn.Module, state: torch.Tensor) -> torch.Tensor:
            first, _, second, _ = mixer.mlp
            hidden = (torch.cat([tokens, state], -1) @ first.weight.T + first.bias).clamp(min=0)
            return hidden @ second.weight.T + second.bias

        if mixers == "none":
            merged = states[2]
        else:
            parts = [mixed(model.local_mixer, states[1])] if mixers != "global" else []
            parts += [mixed(model.global_mixer, states[2])] if mixers != "local" else []
            merged = torch.stack([tokens, *parts]).mean(0)
        head = model.head.linear
        forecast = (merged.reshape(12, -1) @ head.weight.T + head.bias).view(4, 3, 8).transpose(1, 2)
        torch.testing.assert_close(model(x), forecast * scale + mean, **PARITY)


@pytest.mark.parametrize(
    ("mixers", "local_tap", "global_tap", "built"),
    [
        ("both", 1, 4, 4), ("both", 4, 1, 4), ("both", 1, 3, 3), ("both", 2, 0, 2), ("local", 1, 4, 1),
        ("local", 4, 1, 4), ("global", 4, 2, 2), ("none", 4, 3, 3), ("none", 1, 4, 4),
    ],
)  # fmt: skip
def test_blocks_beyond_the_deepest_tap_are_left_out_and_would_change_no_forecast(
    mixers: str, local_tap: int, global_tap: int, built: int
) -> None:
    """Nor would the norm after the last of all blocks, which is there only with that block."""
    model = build("logo_llm", blocks=4, mixers=mixers, local_tap=local_tap, global_tap=global_tap).eval()
    make_uneven(model)
    assert model.blocks.count == len(model.blocks.model.h) == built
    assert isinstance(model.blocks.model.ln_f, nn.LayerNorm if built == 4 else nn.Identity)
    whole = Blocks("gpt2-random", 4).eval()
    make_uneven(whole)
    left_out = whole.model.load_state_dict(model.blocks.model.state_dict(), strict=False).missing_keys
    assert {key.split(".")[1] for key in left_out if key.startswith("h.")} == {str(i) for i in range(built, 4)}
    with torch.no_grad():
        expected = model(inputs())
        model.blocks = whole
        assert torch.equal(model(inputs()), expected)


def make_uneven(model: nn.Module) -> None:
    """A random language model's weights ten times as large, and norms of all kinds: each block changes its input."""
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "wpe" in key or (".h." in key and parameter.ndim > 1):
                parameter.mul_(10)
            elif "ln_" in key:
                nn.init.normal_(parameter)


def test_exchanging_the_taps_of_logo_llm_exchanges_its_mixers_and_nothing_else() -> None:
    model = build("logo_llm", local_tap=1, global_tap=2).eval()
    exchanged = build("logo_llm", local_tap=2, global_tap=1).eval()
    shapes = [{key: p.shape for key, p in each.named_parameters()} for each in (model, exchanged)]
    assert shapes[0] == shapes[1]
    other = {"local_mixer": "global_mixer", "global_mixer": "local_mixer"}
    weights = {".".join(other.get(part, part) for part in key.split(".")): p for key, p in model.state_dict().items()}
    with torch.no_grad():
        assert not torch.allclose(exchanged(inputs()), model(inputs()), atol=1e-3)
        exchanged.load_state_dict(weights)
        torch.testing.assert_close(exchanged(inputs() / 5), model(inputs() / 5), **PARITY)


def test_logo_llm_refuses_taps_beyond_its_blocks() -> None:
    with pytest.raises(ValueError, match="taps 1 and 3 are not within 2 blocks"):
        registry.load("logo_llm")(SHAPE, LogoLLMOptions("gpt2-random", blocks=2, local_tap=1, global_tap=3))


def test_principal_words_are_the_scores_of_a_plain_svd() -> None:
    words = torch.randn(300, 24, generator=torch.Generator().manual_seed(0))
    found = principal_words(words, 5).numpy()
    centred = words.T.numpy() - words.T.numpy().mean(0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    expected = (left * singular)[:, :5].T
    signs = np.sign((found * expected).sum(1, keepdims=True))
    assert np.allclose(found, signs * expected, atol=1e-3)


def test_principal_words_are_computed_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def words_of_a_model() -> torch.Tensor:
        return registry.load("calf_lite")(SHAPE, CALFOptions("gpt2-random", blocks=1, components=5)).words

    words = words_of_a_model()
    assert torch.equal(words, principal_words(word_embeddings("gpt2-random"), 5))
    assert words_of_a_model().data_ptr() == words.data_ptr()
    assert not torch.equal(words_of("smollm2-135m-random", 5)[:, :9], words[:, :9])
    narrower = dataclasses.replace(find("gpt2-random"), width=128)  # under the same name, as tests make them
    monkeypatch.setitem(BACKBONES, "gpt2-random", narrower)
    assert words_of_a_model().shape == (5, 128)


def moved(layer: nn.Module, prototypes: Callable[[], Tensor], steps: int) -> Tensor:
    """How far Adam moves prototypes in so many steps towards a target, through a bounded function of them."""
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-5)
    draw = torch.Generator().manual_seed(1)
    readers = torch.randn(steps, 16, 8, generator=draw)  # another batch each step
    target = torch.rand(50, 8, generator=draw)
    start = prototypes().detach()
    for reader in readers:
        optimizer.zero_grad()
        ((prototypes() @ reader).tanh() - target).square().mean().backward()
        optimizer.step()
    return prototypes().detach() - start


@pytest.mark.parametrize(("most", "error"), [(6000, 1e-4), (3000, 0.05)])
@pytest.mark.parametrize("steps", [1, 3, 20])
def test_prototypes_move_as_those_of_the_official_layer(most: int, error: float, steps: int) -> None:
    """The official layer is a linear map over the vocabulary of word embeddings: of unequal length, off centre."""
    draw = torch.Generator().manual_seed(0)
    words = torch.randn(6000, 16, generator=draw) * (1 + torch.rand(6000, 1, generator=draw)) + 0.5
    torch.manual_seed(0)
    ours, official = Prototypes(words, 50, most), nn.Linear(6000, 50)
    start = official(words.T).T.detach()
    shift = start - ours().detach()  # both start alike
    assert ours().std().item() == pytest.approx(start.std().item(), rel=0.2)  # 50 draws of each
    found = moved(ours, lambda: ours() + shift, steps)
    expected = moved(official, lambda: official(words.T).T, steps)
    assert torch.cosine_similarity(found, expected, dim=1).min() > 1 - error
    assert (found.norm(dim=1) / expected.norm(dim=1) - 1).abs().max() < error


def test_patchtst_equals_transformers_patchtst_with_the_same_weights() -> None:
    """Both scale a channel by its look-back's mean and deviation (population variance plus 1e-5) and embed its patches;
    they add learned positions, apply post-norm layers (attention, GELU feed-forward, batch norm over the features) and
    map all features of a channel to its horizon by one linear head. So far they agree, to 1e-5.

    They differ in two things, set alike here. Ours repeats the last value `stride` times and cuts patches from the
    first step on; theirs pads nothing and cuts them so that the last step is in: theirs is given the padded window, its
    padding masked so that it does not count in the scaling. Ours adds to the attention scores those of the layer before
    (as the official code does); theirs cannot, so that is off (the next test is about it).

    Not compared, since they show in training only: dropout (ours twice after attention, as officially; theirs once, and
    on the attention weights) and where positions start (ours within 0.02 of zero, theirs with deviation one).
    """
    ours = build("patchtst", residual_attention=False).eval()
    config = PatchTSTConfig(
        num_input_channels=3, context_length=SHAPE.context + 4, patch_length=8, patch_stride=4, num_hidden_layers=2,
        d_model=16, num_attention_heads=4, ffn_dim=32, norm_type="batchnorm", pre_norm=False, pooling_type=None,
        positional_encoding_type="random", use_cls_token=False, scaling="std", prediction_length=SHAPE.horizon,
    )  # fmt: skip
    theirs = PatchTSTForPrediction(config).eval()
    encoder = theirs.model.encoder
    with torch.no_grad():
        for norm in (module for module in ours.modules() if isinstance(module, nn.BatchNorm1d)):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            norm.weight.normal_()
            norm.bias.normal_()
        encoder.positional_encoder.position_enc.copy_(ours.position)
        pairs = [(encoder.embedder.input_embedding, ours.embed), (theirs.head.projection, ours.head.linear)]
        for layer, mine in zip(encoder.layers, ours.layers, strict=True):
            for name, part in zip(("q_proj", "k_proj", "v_proj"), range(3), strict=True):
                projection = getattr(layer.self_attn, name)
                projection.weight.copy_(mine.qkv.weight.chunk(3)[part])
                projection.bias.copy_(mine.qkv.bias.chunk(3)[part])
            pairs += [
                (layer.self_attn.out_proj, mine.out), (layer.ff[0], mine.feedforward[0]),
                (layer.ff[3], mine.feedforward[3]), (layer.norm_sublayer1.batchnorm, mine.norm_attention),
                (layer.norm_sublayer3.batchnorm, mine.norm_feedforward),
            ]  # fmt: skip
        for to, source in pairs:
            to.load_state_dict(source.state_dict())
        x = inputs() / 5
        padded = torch.cat([x, x[:, -1:].expand(-1, 4, -1)], dim=1)
        observed = (torch.arange(SHAPE.context + 4) < SHAPE.context)[None, :, None].expand(4, -1, 3)
        expected = theirs(past_values=padded, past_observed_mask=observed).prediction_outputs
        torch.testing.assert_close(ours(x), expected, **PARITY)


def test_residual_attention_adds_the_scores_of_the_layer_before() -> None:
    model = build("patchtst").eval()
    tokens = torch.randn(2, 8, 16)
    with torch.no_grad():
        first, second = model.layers
        _, scores = first(tokens, None)
        attended, more = second._attend(tokens, scores)
        _, alone = second._attend(tokens, None)
        torch.testing.assert_close(more, alone + scores, **PARITY)
        q, k, v = (part.view(2, 8, 4, 4).transpose(1, 2) for part in second.qkv(tokens).chunk(3, dim=-1))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=scores)
        torch.testing.assert_close(attended, second.out(mixed.transpose(1, 2).reshape(2, 8, 16)), **PARITY)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_dropout_keeps_its_share_and_the_mean_and_its_gradient_is_its_mask(share):
    torch.manual_seed(0)
    x = torch.ones(300, 12, 128, requires_grad=True)
    y = fast.dropout(x, share, training=True)
    kept = y != 0
    n = y.numel()
    assert abs(kept.double().mean().item() - (1 - share)) < 5 * (share * (1 - share) / n) ** 0.5
    assert y[kept].unique().numel() == 1 and y[kept][0].item() == pytest.approx(1 / (1 - share), rel=1e-4)
    y.sum().backward()
    torch.testing.assert_close(x.grad, y.detach())
    runs = kept.flatten().double()
    correlation = torch.corrcoef(torch.stack([runs[:-1], runs[1:]]))[0, 1].item()
    assert abs(correlation) < 5 / n**0.5, "neighbours share a random word, but must be independent"
    torch.manual_seed(0)
    assert torch.equal(fast.dropout(x, share, training=True), y), "equal seeds, equal masks"
    assert fast.dropout(x, share, training=False) is x


@pytest.mark.parametrize("tokens", [1, 5, 12, 16, 63, 70])
def test_softmax_of_few_tokens_is_torchs(tokens):
    scores = torch.randn(3, 2, 7, tokens, requires_grad=True)
    masked = scores.masked_fill(torch.arange(tokens) > 4, float("-inf"))
    weights = torch.randn(3, 2, 7, tokens)
    ours = torch.autograd.grad((fast.softmax(masked) * weights).sum(), scores, retain_graph=True)[0]
    theirs = torch.autograd.grad((masked.softmax(-1) * weights).sum(), scores)[0]
    torch.testing.assert_close(fast.softmax(masked), masked.softmax(-1))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gelu_is_gpt2s_activation(dtype):
    from transformers.activations import NewGELUActivation

    x = torch.linspace(-9, 9, 4001).to(dtype).requires_grad_()
    exact = x.detach().double().requires_grad_()
    upstream = torch.randn(4001, dtype=torch.float64)
    expected = NewGELUActivation()(exact)
    (slope,) = torch.autograd.grad((expected * upstream).sum(), exact)
    ours = fast.GELU()(x)
    (our_slope,) = torch.autograd.grad((ours * upstream.to(dtype)).sum(), x)
    near = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 8e-3}
    torch.testing.assert_close(ours.double(), expected, **near)
    torch.testing.assert_close(
        our_slope.double(), slope, **(near if dtype == torch.float32 else {"rtol": 5e-2, "atol": 3e-2})
    )
    with torch.no_grad():
        assert torch.equal(fast.GELU()(x), ours), "with and without a gradient to come"


def test_rms_norm_is_torchs_and_rounds_once_for_products():
    x = torch.randn(5, 7, 48, requires_grad=True)
    weight = nn.Parameter(torch.randn(48))
    upstream = torch.randn(5, 7, 48)
    norm = fast.RMSNorm(weight, 1e-5, for_products=True)
    ours, theirs = norm(x), F.rms_norm(x, (48,), weight, 1e-5)
    torch.testing.assert_close(ours, theirs, **PARITY)
    for mine, reference in zip(
        torch.autograd.grad((ours * upstream).sum(), (x, weight)),
        torch.autograd.grad((theirs * upstream).sum(), (x, weight)),
        strict=True,
    ):
        torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(norm(x), theirs.bfloat16())
        assert fast.RMSNorm(weight, 1e-5, for_products=False)(x).dtype == torch.float32


def test_patchtst_in_pieces_is_patchtst(monkeypatch):
    from models import layers

    x, y = torch.randn(4, SHAPE.context, SHAPE.channels), torch.randn(4, SHAPE.horizon, SHAPE.channels)
    outcomes = []
    for series in (4096, 5):
        monkeypatch.setitem(layers.SERIES_PER_PIECE, "cpu", series)
        torch.manual_seed(0)
        model = build("patchtst").train()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        loss = F.mse_loss(model(x), y)
        loss.backward()
        running = [buffer.clone() for buffer in model.buffers()]
        outcomes.append((loss.detach(), [parameter.grad for parameter in model.parameters()], running))
    (whole, gradients, running), (pieces, their_gradients, their_running) = outcomes
    torch.testing.assert_close(pieces, whole)
    torch.testing.assert_close(their_gradients, gradients, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(their_running, running)  # batch norm saw the batch once, and whole


def test_pieces_draw_the_same_masks_again_for_the_gradient(monkeypatch):
    from models import layers

    monkeypatch.setitem(layers.SERIES_PER_PIECE, "cpu", 3)
    x = torch.ones(10, 6, requires_grad=True)
    (out,) = layers.in_pieces(lambda part: (fast.dropout(part, 0.5, True),), x)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())
    assert 0 < (out == 0).sum() < 60


def test_gpt4ts_is_transformers_gpt2_between_two_linear_layers() -> None:
    """As One-Fits-All writes it: pad by the stride, cut, embed, the first blocks and the final norm, flatten, map."""
    ours = build("gpt4ts").eval()
    theirs = GPT2Model(GPT2Config(n_embd=192, n_layer=2, n_head=ours.blocks.model.config.n_head, vocab_size=600)).eval()
    own = ours.blocks.model.state_dict()
    theirs.load_state_dict({**theirs.state_dict(), **own}, strict=True)
    x = inputs()
    mean, scale = x.mean(1, keepdim=True), (x.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    series = ((x - mean) / scale).transpose(1, 2)
    patches = nn.functional.pad(series, (0, 4), mode="replicate").unfold(-1, 8, 4).flatten(0, 1)
    with torch.no_grad():
        states = theirs(inputs_embeds=ours.embed(patches)).last_hidden_state
        expected = ours.head.linear(states.flatten(1)).view(4, SHAPE.channels, SHAPE.horizon).transpose(1, 2)
        torch.testing.assert_close(ours(x), expected * scale + mean, **PARITY)
