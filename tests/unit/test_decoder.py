"""Attention against a softmax written out, layers against Eq. 3–5, gradients by differences."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from model.config import DecoderConfig
from model.decoder import CrossAttention, DecoderLayer, SelfAttention, TriplaneDecoder

CONFIG = DecoderConfig(layers=2, width=4, heads=2, token_resolution=2, camera_width=3)
TRANSFORMER_1D = dataclasses.replace(
    CONFIG,
    order="self_first",
    modulation="none",
    feed_forward="geglu",
    attention_out_bias=True,
    ends="residual",
)


def attention(queries: np.ndarray, keys: np.ndarray, values: np.ndarray, heads: int) -> np.ndarray:
    """Eq. 12–16, one query and one head after the other; keys scaled by √(C / heads)."""
    width = queries.shape[-1] // heads
    out = np.empty_like(queries)
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        for j, query in enumerate(queries):
            scores = np.array([query[part] @ key[part] / math.sqrt(width) for key in keys])
            alpha = np.exp(scores - scores.max())
            alpha /= alpha.sum()
            out[j, part] = sum(a * value[part] for a, value in zip(alpha, values, strict=True))
    return out


def matrix(linear: nn.Linear) -> np.ndarray:
    return linear.weight.detach().numpy()


def self_attention(module: SelfAttention, tokens: np.ndarray) -> np.ndarray:
    w_q, w_k, w_v = np.split(matrix(module.to_query_key_value), 3)
    out = attention(tokens @ w_q.T, tokens @ w_k.T, tokens @ w_v.T, module.heads)
    return out @ matrix(module.to_out).T


def cross_attention(module: CrossAttention, tokens: np.ndarray, image: np.ndarray) -> np.ndarray:
    w_k, w_v = np.split(matrix(module.to_key_value), 2)
    queries = tokens @ matrix(module.to_query).T
    return attention(queries, image @ w_k.T, image @ w_v.T, module.heads) @ matrix(module.to_out).T


def test_self_attention() -> None:
    torch.manual_seed(0)
    module = SelfAttention(width=12, heads=3).double()
    tokens = torch.randn(2, 5, 12).double()
    expected = np.stack([self_attention(module, t) for t in tokens.numpy()])
    np.testing.assert_allclose(module(tokens).detach(), expected, atol=1e-12)


def test_cross_attention() -> None:
    torch.manual_seed(0)
    module = CrossAttention(width=12, image_width=7, heads=3).double()
    tokens, image = torch.randn(2, 5, 12).double(), torch.randn(2, 4, 7).double()
    pairs = zip(tokens.numpy(), image.numpy(), strict=True)
    expected = np.stack([cross_attention(module, t, i) for t, i in pairs])
    np.testing.assert_allclose(module(tokens, image).detach(), expected, atol=1e-12)


def test_layer_is_equations_3_to_5() -> None:
    torch.manual_seed(0)
    layer = DecoderLayer(CONFIG, image_width=5).double()
    tokens, image = torch.randn(3, 4).double(), torch.randn(6, 5).double()
    embedding = torch.randn(1, 3).double()

    def modulated(norm: nn.Module, x: np.ndarray) -> np.ndarray:  # tested by itself
        return norm(torch.from_numpy(x)[None], embedding)[0].detach().numpy()

    f_in = tokens.numpy()
    f_cross = f_in + cross_attention(
        layer.cross_attention, modulated(layer.cross_norm, f_in), image.numpy()
    )
    f_self = f_cross + self_attention(layer.self_attention, modulated(layer.self_norm, f_cross))
    first, _, second = layer.mlp
    hidden = modulated(layer.mlp_norm, f_self) @ matrix(first).T + first.bias.detach().numpy()
    gelu = np.vectorize(lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2))))(hidden)
    f_out = f_self + gelu @ matrix(second).T + second.bias.detach().numpy()

    assert hidden.shape[-1] == 4 * CONFIG.width  # App. A.2
    found = layer(tokens[None], image[None], embedding)[0].detach()
    np.testing.assert_allclose(found, f_out, atol=1e-12)


def test_a_layer_that_attends_to_itself_first_and_gates_its_mlp() -> None:
    torch.manual_seed(0)
    layer = DecoderLayer(TRANSFORMER_1D, image_width=5).double()
    tokens, image = torch.randn(3, 4).double(), torch.randn(6, 5).double()

    def normed(norm: nn.Module, x: np.ndarray) -> np.ndarray:
        return norm(torch.from_numpy(x)[None], None)[0].detach().numpy()

    f_in = tokens.numpy()
    own, cross = layer.self_attention, layer.cross_attention
    f_self = f_in + self_attention(own, normed(layer.self_norm, f_in))
    f_self += own.to_out.bias.detach().numpy()
    f_cross = f_self + cross_attention(cross, normed(layer.cross_norm, f_self), image.numpy())
    f_cross += cross.to_out.bias.detach().numpy()
    first, _, second = layer.mlp
    hidden = normed(layer.mlp_norm, f_cross) @ matrix(first).T + first.bias.detach().numpy()
    value, gate = np.split(hidden, 2, axis=-1)  # Shazeer 2020, GEGLU
    gated = value * np.vectorize(lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2))))(gate)
    f_out = f_cross + gated @ matrix(second).T + second.bias.detach().numpy()
    for context in (torch.enable_grad(), torch.no_grad()):  # the plain way and the fast one
        with context:
            found = layer(tokens[None], image[None], None)[0].detach()
        np.testing.assert_allclose(found, f_out, atol=1e-12)


def test_a_decoder_between_a_group_norm_and_its_own_tokens() -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(TRANSFORMER_1D, width=64)
    decoder = TriplaneDecoder(config, image_width=5).double()
    nn.init.normal_(decoder.tokens)
    image = torch.randn(2, 6, 5).double()
    ends, learned = decoder.ends, decoder.tokens.detach()
    groups = learned.view(12, 32, 2)  # of two channels and all tokens
    mean, variance = groups.mean((0, 2)), groups.var((0, 2), correction=0)
    normed = (groups - mean[:, None]) / (variance[:, None] + 1e-6).sqrt()
    expected = ends.to_layers(normed.view(12, 64)).repeat(2, 1, 1)
    for layer in decoder.layers:
        expected = layer(expected, image, None)
    expected = ends.from_layers(expected) + learned
    torch.testing.assert_close(decoder(image, None), expected)


def test_sub_layers_share_no_parameters_and_attention_has_no_bias() -> None:
    decoder = TriplaneDecoder(CONFIG, image_width=5)
    parameters = [
        id(parameter)
        for layer in decoder.layers
        for norm in (layer.cross_norm, layer.self_norm, layer.mlp_norm)
        for parameter in norm.parameters()
    ]
    # Three sub-layers, each with weights and biases of a norm and of two linear layers.
    assert len(parameters) == len(set(parameters)) == CONFIG.layers * 3 * 6
    for layer in decoder.layers:
        for attention_module in (layer.cross_attention, layer.self_attention):
            assert all(p.ndim == 2 for p in attention_module.parameters())


def test_decoder_starts_from_its_tokens_and_ends_in_a_layer_norm() -> None:
    torch.manual_seed(0)
    decoder = TriplaneDecoder(CONFIG, image_width=5).double()
    nn.init.normal_(decoder.tokens)
    image, embedding = torch.randn(2, 6, 5).double(), torch.randn(2, 3).double()
    out = decoder(image, embedding)
    assert out.shape == (2, 3 * 2 * 2, 4)
    torch.testing.assert_close(out.mean(-1), torch.zeros(2, 12).double(), atol=1e-9, rtol=0)

    expected = decoder.tokens.repeat(2, 1, 1)
    for layer in decoder.layers:
        expected = layer(expected, image, embedding)
    mean, variance = expected.mean(-1, keepdim=True), expected.var(-1, keepdim=True, correction=0)
    torch.testing.assert_close(out, (expected - mean) / (variance + 1e-5).sqrt())


@pytest.mark.parametrize("kind", ["self", "cross", "layer"])
def test_gradients(kind: str) -> None:
    torch.manual_seed(0)
    tokens = torch.randn(1, 2, 4, dtype=torch.float64, requires_grad=True)
    image = torch.randn(1, 2, 3, dtype=torch.float64, requires_grad=True)
    embedding = torch.randn(1, 3, dtype=torch.float64, requires_grad=True)
    if kind == "self":
        module, inputs = SelfAttention(4, 2).double(), (tokens,)
    elif kind == "cross":
        module, inputs = CrossAttention(4, 3, 2).double(), (tokens, image)
    else:
        module, inputs = DecoderLayer(CONFIG, 3).double(), (tokens, image, embedding)
    parameters = tuple(module.parameters())
    count = len(inputs)
    assert torch.autograd.gradcheck(
        lambda *x: module(*x[:count]), (*inputs, *parameters), fast_mode=True
    )
