"""One conformance test over the registry, and what each model promises of itself."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from bench import registry
from bench.spec import BenchError, UnknownName
from bench.train import LOSSES
from models import MODELS, layers
from models.calf import principal_words
from models.layers import normalize_window, split_patches
from models.options import DLinearOptions, LogoLLMOptions, NoOptions, Shape
from models.time_llm import _row_space
from tests.conftest import SHAPE, SMALL

TRAINED = [name for name in MODELS if name not in ("repeat_last", "seasonal_naive")]


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


@pytest.mark.parametrize("name", MODELS)
def test_a_forecast_has_the_shape_of_its_target_and_repeats_itself_in_eval_mode(name: str) -> None:
    model = build(name).eval()
    with torch.no_grad():
        assert forecast(model, inputs()).shape == (4, SHAPE.horizon, SHAPE.channels)
        assert torch.equal(forecast(model, inputs()), forecast(model, inputs()))


@pytest.mark.parametrize("name", MODELS)
def test_a_forecast_never_depends_on_the_rest_of_its_batch(name: str) -> None:
    model = build(name).eval()
    with torch.no_grad():
        together = forecast(model, inputs())
        alone = torch.cat([forecast(model, x[None]) for x in inputs()])
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_step_changes_every_trainable_parameter_and_no_other(name: str, precision: str) -> None:
    model = build(name).train()
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
    for key, parameter in model.named_parameters():
        read = not (key.endswith("wpe.weight") or "attention.key.bias" in key)  # softmax cancels a shift of all keys
        if parameter.requires_grad and read:
            assert not torch.equal(parameter, before[key]), f"{key} should train"
        elif not parameter.requires_grad:
            assert parameter.grad is None
            assert torch.equal(parameter, before[key]), f"{key} should be frozen"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("logo_llm", ["ln_1", "ln_2", "ln_f", "wpe", "embed", "local_mixer", "global_mixer", "head"]),
        ("time_llm_lite", ["embed", "reprogram", "head"]),
        ("calf_lite", ["time_blocks", "wpe", "embed", "encode", "words_out", "attend_to_words", "projections", "head"]),
    ],
)
def test_only_the_intended_parts_of_a_language_model_train(name: str, parts: list[str]) -> None:
    trainable = {key for key, parameter in build(name).named_parameters() if parameter.requires_grad}
    assert all(any(part in key for part in parts) for key in trainable)
    assert all(any(part in key for key in trainable) for part in parts)
    frozen_matrices = {key for key in trainable if ".attn." in key or ".mlp.c_" in key}
    assert all("lora_" in key for key in frozen_matrices)


@pytest.mark.parametrize("name", ["logo_llm", "time_llm_lite", "calf_lite", "patchtst", "itransformer"])
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
        "kernel": 9, "prototypes": 30, "components": 12, "rank": 4, "alpha": 1.0, "lora_dropout": 0.9,
        "output_weight": 0.0, "feature_weight": 5.0, "feature_decay": 0.1, "calendar": False, "reader": "attention",
        "mixers": "local",
    }  # fmt: skip

    def fingerprint(model: nn.Module) -> list[object]:
        shapes = [tuple(parameter.shape) for parameter in model.parameters()]
        for parameter_name, parameter in model.named_parameters():
            if "lora_B" in parameter_name:  # starts at zero, which would hide LoRA's other options
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


def test_dlinear_splits_trend_and_remainder_as_a_plain_moving_average_does() -> None:
    model = registry.load("dlinear")(SHAPE, DLinearOptions(kernel=5))
    nn.init.normal_(model.trend.weight)
    nn.init.normal_(model.remainder.weight)
    x = inputs(1)
    padded = np.pad(x[0].double().numpy(), ((2, 2), (0, 0)), mode="edge")
    trend = np.stack([padded[i : i + 5].mean(0) for i in range(32)])
    weights = [tensor.detach().double().numpy() for tensor in model.state_dict().values()]
    expected = weights[0] @ trend + weights[1][:, None] + weights[2] @ (x[0].numpy() - trend) + weights[3][:, None]
    assert np.allclose(model(x)[0].detach().numpy(), expected, atol=1e-4)


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
            to.load_state_dict(source.state_dict())
    tokens = torch.randn(4, channels, 16)
    with torch.no_grad():
        assert torch.allclose(model.encoder(tokens), theirs(tokens), atol=1e-5)


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


def test_the_reduced_prototypes_of_time_llm_lite_are_those_of_the_full_map() -> None:
    words = torch.randn(300, 24, generator=torch.Generator().manual_seed(0))
    basis = _row_space(words)
    assert torch.allclose(basis.T @ basis, words.T @ words, atol=1e-2)
    full = torch.randn(7, 300) @ words  # any W E ...
    mixture = torch.linalg.solve(basis.T.double(), full.T.double()).T
    assert torch.allclose(mixture.float() @ basis, full, atol=1e-3)  # ... is G B for some G


def test_patchtst_equals_transformers_patchtst_with_the_same_weights() -> None:
    """Where the two agree: transformers has no end padding and no residual attention, so both are fed and set alike."""
    from transformers import PatchTSTConfig, PatchTSTForPrediction

    ours = build("patchtst", residual_attention=False).eval()
    config = PatchTSTConfig(
        num_input_channels=3, context_length=SHAPE.context + 4, patch_length=8, patch_stride=4, num_hidden_layers=2,
        d_model=16, num_attention_heads=4, ffn_dim=32, norm_type="batchnorm", pre_norm=False, pooling_type=None,
        positional_encoding_type="random", use_cls_token=False, scaling=None, prediction_length=SHAPE.horizon,
    )  # fmt: skip
    theirs = PatchTSTForPrediction(config).eval()
    encoder = theirs.model.encoder
    with torch.no_grad():
        for norm in (module for module in ours.modules() if isinstance(module, nn.BatchNorm1d)):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            norm.weight.normal_()
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
        x = inputs()
        normal, restore = normalize_window(x)
        padded = torch.cat([normal, normal[:, -1:].expand(-1, 4, -1)], dim=1)
        expected = restore(theirs(past_values=padded).prediction_outputs)
        assert torch.allclose(ours(x), expected, atol=1e-4)


def test_residual_attention_adds_the_scores_of_the_layer_before() -> None:
    model = build("patchtst").eval()
    tokens = torch.randn(2, 8, 16)
    with torch.no_grad():
        _, scores = model.layers[0](tokens, None)
        _, more = model.layers[1](tokens, scores)
        _, alone = model.layers[1](tokens, None)
        assert torch.allclose(more, alone + scores, atol=1e-5)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_dropout_keeps_its_share_and_the_mean_and_its_gradient_is_its_mask(share):
    torch.manual_seed(0)
    x = torch.ones(300, 12, 128, requires_grad=True)
    y = layers.dropout(x, share, training=True)
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
    assert torch.equal(layers.dropout(x, share, training=True), y), "equal seeds, equal masks"
    assert layers.dropout(x, share, training=False) is x


@pytest.mark.parametrize("tokens", [1, 5, 12, 16, 63, 70])
def test_softmax_of_few_tokens_is_torchs(tokens):
    scores = torch.randn(3, 2, 7, tokens, requires_grad=True)
    masked = scores.masked_fill(torch.arange(tokens) > 4, float("-inf"))
    weights = torch.randn(3, 2, 7, tokens)
    ours = torch.autograd.grad((layers.softmax(masked) * weights).sum(), scores, retain_graph=True)[0]
    theirs = torch.autograd.grad((masked.softmax(-1) * weights).sum(), scores)[0]
    torch.testing.assert_close(layers.softmax(masked), masked.softmax(-1))
    torch.testing.assert_close(ours, theirs)
