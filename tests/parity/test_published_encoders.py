"""Published encoders through timm against Hugging Face's, with the same weights, at other sizes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from model.config import EncoderConfig
from model.encoder import ImageEncoder
from model.published import vit
from model.published.state import ForeignState
from tests.parity.foreign_states import dino_shapes, dinov2_shapes, random_state

SMALL = {"width": 32, "layers": 2, "heads": 4, "pretrained": None}
PICTURE = torch.rand(2, 3, 84, 84, generator=torch.Generator().manual_seed(0))


def small_state(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The first two of the twelve layers."""
    later = tuple(f".{index}." for index in range(2, 12))
    return random_state(
        {name: shape for name, shape in shapes.items() if not any(part in name for part in later)}
    )


def tokens_of(config: EncoderConfig, weights: dict[str, Tensor], pictures: Tensor) -> Tensor:
    encoder = ImageEncoder(config).eval()
    encoder.vit.load_state_dict(weights, strict=True)
    with torch.no_grad():
        return encoder(pictures)


def assert_equal(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-5)


def hugging_face_dinov2_name(name: str) -> list[str]:
    """Names of transformers' Dinov2WithRegistersModel (5.x) for one of facebookresearch's."""
    for theirs, ours in (
        ("blocks.", "encoder.layer."),
        ("ls1.gamma", "layer_scale1.lambda1"),
        ("ls2.gamma", "layer_scale2.lambda1"),
        ("attn.proj", "attention.o_proj"),
        ("patch_embed.proj", "embeddings.patch_embeddings.projection"),
    ):
        name = name.replace(theirs, ours)
    if name.startswith("norm."):
        return [f"layernorm{name.removeprefix('norm')}"]
    if "attn.qkv" in name:
        return [name.replace("attn.qkv", f"attention.{part}_proj") for part in "qkv"]
    embeddings = {"pos_embed": "position_embeddings"}
    if name in ("cls_token", "pos_embed", "register_tokens"):
        return [f"embeddings.{embeddings.get(name, name)}"]
    return [name]


def test_dinov2_with_registers() -> None:
    transformers = pytest.importorskip("transformers")
    state = small_state(dinov2_shapes("", width=32))
    config = EncoderConfig(image_size=84, patch_size=14, registers=4, **SMALL)
    theirs = transformers.Dinov2WithRegistersModel(
        transformers.Dinov2WithRegistersConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=518,
            patch_size=14,
            num_register_tokens=4,
        )
    ).eval()
    renamed = {"embeddings.mask_token": torch.zeros(1, 32)}
    for name, value in state.items():
        targets = hugging_face_dinov2_name(name)
        renamed |= dict(zip(targets, value.chunk(len(targets)), strict=True))
    theirs.load_state_dict(renamed, strict=True)
    with torch.no_grad():
        tokens = theirs(PICTURE).last_hidden_state  # of pictures as they are, 0 to 1
    expected = torch.cat([tokens[:, :1], tokens[:, 5:]], dim=1)
    foreign = ForeignState(state)
    assert_equal(tokens_of(config, vit.dinov2_weights(foreign, config), PICTURE), expected)
    foreign.finish()


def test_dino(monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers")
    state = small_state(dino_shapes("", width=32))
    config = EncoderConfig(image_size=96, norm_eps=1e-12, **SMALL)
    theirs = transformers.ViTModel(
        transformers.ViTConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128
        ),
        add_pooling_layer=False,
    ).eval()
    renamed = {}
    for name, value in state.items():
        for old, new in (
            ("encoder.layer.", "layers."),
            ("attention.attention.query", "attention.q_proj"),
            ("attention.attention.key", "attention.k_proj"),
            ("attention.attention.value", "attention.v_proj"),
            ("attention.output.dense", "attention.o_proj"),
            ("intermediate.dense", "mlp.fc1"),
            ("output.dense", "mlp.fc2"),
        ):
            name = name.replace(old, new)
        renamed[name] = value
    theirs.load_state_dict(renamed, strict=True)
    pictures = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalized = (pictures - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        expected = theirs(normalized, interpolate_pos_encoding=True).last_hidden_state
    # Today's transformers leave out what both projects' time added; the next test has it.
    monkeypatch.setattr(vit, "DINO", vit.Resize(antialias=False, offset=0.0))
    foreign = ForeignState(state)
    assert_equal(tokens_of(config, vit.dino_weights(foreign, config), pictures), expected)
    foreign.finish()


def cubic(x: float) -> float:
    """Keys' kernel of 1981 with a = -0.75, as PyTorch and OpenCV have it."""
    a, x = -0.75, abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


@pytest.mark.parametrize(("side", "grid", "offset"), [(14, 32, 0.1), (14, 6, 0.1), (5, 8, 0.0)])
def test_positions_are_resized_bicubically(side: int, grid: int, offset: float) -> None:
    embedding = torch.randn(1, 1 + side**2, 2, generator=torch.Generator().manual_seed(0))
    patches = embedding[0, 1:].view(side, side, 2).double().numpy()
    expected = np.zeros((grid, grid, 2))
    places = [(k + 0.5) * side / (grid + offset) - 0.5 for k in range(grid)]
    for row, column in np.ndindex(grid, grid):
        y, x = places[row], places[column]
        for i in range(math.floor(y) - 1, math.floor(y) + 3):
            for j in range(math.floor(x) - 1, math.floor(x) + 3):
                texel = patches[min(max(i, 0), side - 1), min(max(j, 0), side - 1)]
                expected[row, column] += cubic(y - i) * cubic(x - j) * texel
    found = vit.resized(embedding, grid, vit.Resize(antialias=False, offset=offset))
    assert torch.equal(found[:, 0], embedding[:, 0])
    np.testing.assert_allclose(found[0, 1:].view(grid, grid, 2), expected, atol=1e-5)
