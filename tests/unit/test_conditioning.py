"""ModLN against Eq. 1–2 written out, and its start as a plain LayerNorm (DiT's adaLN-Zero)."""

from __future__ import annotations

import numpy as np
import torch

from model.conditioning import CAMERA_FEATURES, CameraEmbedding, ModulatedLayerNorm
from model.config import LrmConfig
from model.initialization import initialize
from model.lrm import LRM


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def layer_norm(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


def test_modulation_is_equations_1_and_2() -> None:
    torch.manual_seed(0)
    module = ModulatedLayerNorm(width=6, camera_width=5).double()
    torch.nn.init.normal_(module.norm.weight)
    torch.nn.init.normal_(module.norm.bias)
    tokens, embedding = torch.randn(2, 3, 6).double(), torch.randn(2, 5).double()
    weights = {name: p.detach().numpy() for name, p in module.named_parameters()}

    expected = np.empty((2, 3, 6))
    for b in range(2):
        hidden = silu(weights["mlp.0.weight"] @ embedding[b].numpy() + weights["mlp.0.bias"])
        modulation = weights["mlp.2.weight"] @ hidden + weights["mlp.2.bias"]
        gamma, beta = modulation[:6], modulation[6:]
        for n in range(3):
            normed = layer_norm(tokens[b, n].numpy()) * weights["norm.weight"]
            expected[b, n] = (normed + weights["norm.bias"]) * (1 + gamma) + beta
    np.testing.assert_allclose(module(tokens, embedding).detach(), expected, atol=1e-12)


def test_one_camera_for_all_pictures_gives_what_each_its_own_would() -> None:
    torch.manual_seed(0)
    module = ModulatedLayerNorm(width=6, camera_width=5).double()
    torch.nn.init.normal_(module.norm.weight)
    torch.nn.init.normal_(module.norm.bias)
    tokens, embedding = torch.randn(3, 4, 6).double(), torch.randn(1, 5).double()
    torch.testing.assert_close(
        module(tokens, embedding), module(tokens, embedding.expand(3, 5)), atol=1e-12, rtol=0
    )


def test_modulation_by_one_layer_and_none() -> None:
    torch.manual_seed(0)
    module = ModulatedLayerNorm(6, 5, "linear", eps=1e-5).double()
    tokens, embedding = torch.randn(2, 3, 6).double(), torch.randn(2, 5).double()
    (linear,) = (part for part in module.mlp if isinstance(part, torch.nn.Linear))
    weight, bias = linear.weight.detach().numpy(), linear.bias.detach().numpy()
    modulation = silu(embedding.numpy()) @ weight.T + bias
    gamma, beta = np.split(modulation[:, None], 2, axis=-1)
    expected = layer_norm(tokens.numpy()) * (1 + gamma) + beta
    np.testing.assert_allclose(module(tokens, embedding).detach(), expected, atol=1e-12)

    plain = ModulatedLayerNorm(6, 5, "none").double()
    assert sum(1 for _ in plain.parameters()) == 2
    found = plain(tokens, None).detach()
    np.testing.assert_allclose(found, layer_norm(tokens.numpy()), atol=1e-12)


def test_gradients() -> None:
    torch.manual_seed(0)
    module = ModulatedLayerNorm(width=4, camera_width=3).double()
    tokens = torch.randn(1, 2, 4, dtype=torch.float64, requires_grad=True)
    embedding = torch.randn(1, 3, dtype=torch.float64, requires_grad=True)
    parameters = tuple(module.parameters())
    assert torch.autograd.gradcheck(lambda t, e, *_: module(t, e), (tokens, embedding, *parameters))


def test_a_new_model_starts_with_plain_layer_norms_that_can_learn(tiny_config: LrmConfig) -> None:
    model = LRM(tiny_config)
    initialize(model)
    tokens, embedding = torch.randn(2, 3, 32), torch.randn(2, 8)
    for layer in model.decoder.layers:
        for module in (layer.cross_norm, layer.self_norm, layer.mlp_norm):
            out = module(tokens, embedding)
            np.testing.assert_allclose(out.detach(), layer_norm(tokens.numpy()), atol=1e-5)
            out.square().sum().backward()
            assert module.mlp[-1].weight.grad.abs().max() > 0


def test_camera_embedding_maps_the_twenty_features() -> None:
    torch.manual_seed(0)
    module = CameraEmbedding(7).double()
    features = torch.randn(2, CAMERA_FEATURES).double()
    w0, b0, w1, b1 = (p.detach().numpy() for p in module.parameters())
    expected = silu(features.numpy() @ w0.T + b0) @ w1.T + b1
    assert CAMERA_FEATURES == 4 * 4 + 4
    np.testing.assert_allclose(module(features).detach(), expected, atol=1e-12)
