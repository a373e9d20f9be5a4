"""The encoder against Hugging Face's ViT and timm's, and its resize against a loop."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from model.config import EncoderConfig
from model.encoder import ImageEncoder, resize_position_embedding

CONFIG = EncoderConfig(image_size=48, patch_size=16, width=32, layers=3, heads=4, pretrained=None)


LAYER_NAMES = {
    "norm1": ["layernorm_before"],
    "norm2": ["layernorm_after"],
    "attn.qkv": ["attention.q_proj", "attention.k_proj", "attention.v_proj"],
    "attn.proj": ["attention.o_proj"],
    "mlp.fc1": ["mlp.fc1"],
    "mlp.fc2": ["mlp.fc2"],
}


def hugging_face_state(timm_state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of timm's ViT under the names of transformers' ViTModel (5.x)."""
    state = {}
    for name, value in timm_state.items():
        parts = name.split(".")
        if name == "cls_token":
            state["embeddings.cls_token"] = value
        elif name == "pos_embed":
            state["embeddings.position_embeddings"] = value
        elif parts[0] == "patch_embed":
            state[f"embeddings.patch_embeddings.projection.{parts[-1]}"] = value
        elif parts[0] == "norm":
            state[f"layernorm.{parts[-1]}"] = value
        else:
            _, index, *inner, kind = parts
            targets = LAYER_NAMES[".".join(inner)]
            for target, part in zip(targets, value.chunk(len(targets)), strict=True):
                state[f"layers.{index}.{target}.{kind}"] = part
    return state


@pytest.fixture
def encoder() -> ImageEncoder:
    torch.manual_seed(0)
    module = ImageEncoder(CONFIG)
    for parameter in module.parameters():  # nothing stays at 0 or 1
        torch.nn.init.normal_(parameter, std=0.2)
    return module.eval()


def test_tokens_equal_hugging_face(encoder: ImageEncoder) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.ViTModel(
        transformers.ViTConfig(
            image_size=48,
            patch_size=16,
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=128,
            layer_norm_eps=1e-6,
        ),
        add_pooling_layer=False,
    ).eval()
    theirs.load_state_dict(hugging_face_state(encoder.vit.state_dict()), strict=True)
    images = torch.rand(2, 3, 48, 48)
    # ImageNet's statistics, as DINO's own preprocessing has them.
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalized = (images - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        found = encoder(images)
        expected = theirs(normalized).last_hidden_state
    assert found.shape == (2, 1 + 9, 32)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("registers", [0, 3])
def test_tokens_equal_timm(registers: int) -> None:
    from timm.models.vision_transformer import VisionTransformer

    config = dataclasses.replace(CONFIG, registers=registers)
    encoder = ImageEncoder(config)
    theirs = VisionTransformer(
        img_size=48,
        patch_size=16,
        embed_dim=32,
        depth=3,
        num_heads=4,
        reg_tokens=registers,
        num_classes=0,
        global_pool="",
        norm_layer=partial(torch.nn.LayerNorm, eps=config.norm_eps),
    ).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    encoder.vit.load_state_dict(theirs.state_dict(), strict=True)
    assert list(encoder.vit.state_dict()) == list(theirs.state_dict())  # their order, too
    images = torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        found = encoder(images)
        expected = theirs.forward_features((images - encoder.mean) / encoder.std)
    expected = torch.cat([expected[:, :1], expected[:, 1 + registers :]], dim=1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("side", "grid"), [(14, 32), (5, 3), (4, 4)])
def test_position_embedding_is_resized_bilinearly(side: int, grid: int) -> None:
    rng = np.random.default_rng(0)
    embedding = rng.normal(size=(1, 1 + side * side, 3))
    patches = embedding[0, 1:].reshape(side, side, 3)
    expected = np.zeros((grid, grid, 3))
    for row, column in np.ndindex(grid, grid):
        # Centres of the new grid in texels of the old, clamped to its outermost centres.
        y, x = (min(max((k + 0.5) * side / grid - 0.5, 0), side - 1) for k in (row, column))
        for i in {math.floor(y), math.ceil(y)}:
            for j in {math.floor(x), math.ceil(x)}:
                expected[row, column] += (1 - abs(y - i)) * (1 - abs(x - j)) * patches[i, j]
    found = resize_position_embedding(torch.from_numpy(embedding), grid).numpy()
    np.testing.assert_allclose(found[0, 0], embedding[0, 0])
    np.testing.assert_allclose(found[0, 1:].reshape(grid, grid, 3), expected, atol=1e-12)


def test_pretrained_weights_are_taken_and_only_positions_change(
    encoder: ImageEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    import timm

    def create_model(name: str, **_: object) -> torch.nn.Module:
        assert name == "some.weights"
        return encoder.vit

    monkeypatch.setattr(timm, "create_model", create_model)
    larger = ImageEncoder(
        EncoderConfig(
            image_size=96, patch_size=16, width=32, layers=3, heads=4, pretrained="some.weights"
        )
    )
    larger.load_pretrained()
    assert larger.vit.pos_embed.shape == (1, 1 + 36, 32)
    given, taken = encoder.vit.state_dict(), larger.vit.state_dict()
    assert all(torch.equal(given[name], taken[name]) for name in given if name != "pos_embed")
    # A resize keeps the mean of each channel up to its treatment of the border.
    assert math.isclose(
        given["pos_embed"][:, 1:].mean(), taken["pos_embed"][:, 1:].mean(), abs_tol=0.02
    )


def test_weights_out_of_reach_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    def create_model(*_: object, **__: object) -> None:
        raise OSError("no route to the hub")

    monkeypatch.setattr(timm, "create_model", create_model)
    module = ImageEncoder(
        EncoderConfig(image_size=32, width=32, layers=1, heads=2, pretrained="some.weights")
    )
    with pytest.raises(ValueError, match=r"'some.weights'.*model.encoder.pretrained=null"):
        module.load_pretrained()


def test_no_weights_are_asked_for_when_none_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    monkeypatch.delattr(timm, "create_model")
    ImageEncoder(CONFIG).load_pretrained()


def test_timm_is_imported_for_starting_weights_only() -> None:
    script = (
        "import sys, torch, lrm_cli.reconstructor, lrm_cli.renderer, train.trainer\n"
        "from model.config import preset\n"
        "from model.lrm import LRM\n"
        "LRM(preset('lrm-tiny'))\n"
        "print(sorted({'timm', 'torchvision'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
