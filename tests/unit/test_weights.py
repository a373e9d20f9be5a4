"""Models on disk: what was saved comes back, what does not fit is told in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from model import folders as folders_module
from model.config import preset
from model.folders import available_models, model_folder
from model.lrm import LRM
from model.weights import inference_dtype, load_model, save_model


@pytest.fixture
def folder(tiny_model: LRM, tmp_path: Path) -> Path:
    save_model(tiny_model, tmp_path / "saved")
    return tmp_path / "saved"


def change_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    """Replace tensors of the file; None removes one. `__` stands for a dot."""
    state = load_file(folder / "model.safetensors")
    for name, value in changes.items():
        state.pop(name.replace("__", "."), None)
        if value is not None:
            state[name.replace("__", ".")] = value
    save_file(state, folder / "model.safetensors")


def test_a_model_comes_back_as_it_was(tiny_model: LRM, folder: Path) -> None:
    loaded = load_model(folder)
    assert loaded.config == tiny_model.config
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    state = tiny_model.state_dict()
    assert all(torch.equal(p, state[name]) for name, p in loaded.state_dict().items())
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        expected, found = (m.reconstruct(images)[0].planes for m in (tiny_model, loaded))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_a_full_disk_leaves_what_was_there(
    tiny_model: LRM, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(_: object, path: Path, **__: object) -> None:
        path.write_bytes(b"half of")
        raise SafetensorError("No space left on device")

    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr("model.weights.save_file", fill)
    with pytest.raises(OSError, match=r"model\.safetensors cannot be written: No space left"):
        save_model(tiny_model, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_mlp_nerf_stays_float32(tiny_model: LRM, tmp_path: Path) -> None:
    save_model(tiny_model, tmp_path, dtype=torch.bfloat16)
    stored = load_file(tmp_path / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    loaded = load_model(tmp_path, dtype=torch.bfloat16)
    assert {p.dtype for p in loaded.decoder.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in loaded.nerf.parameters()} == {torch.float32}
    assert load_model(tmp_path).decoder.tokens.dtype == torch.float32


def assert_refused(folder: Path, *words: str) -> None:
    with pytest.raises(ValueError, match=r"safetensors|config") as caught:
        load_model(folder)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_a_missing_tensor(folder: Path) -> None:
    change_weights(folder, decoder__tokens=None)
    assert_refused(folder, "does not fit its config.json", "lacks decoder.tokens")


def test_an_unknown_tensor(folder: Path) -> None:
    change_weights(folder, decoder__extra=torch.zeros(3))
    assert_refused(folder, "does not fit its config.json", "decoder.extra")


def test_a_wrong_shape(folder: Path) -> None:
    change_weights(folder, decoder__tokens=torch.zeros(5, 32))
    assert_refused(folder, "decoder.tokens", "(5, 32)", "(48, 32)")


def test_another_model_s_weights_make_a_short_message(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["decoder"]["layers"] = 30
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"lacks decoder\.layers") as caught:
        load_model(folder)
    assert len(str(caught.value)) < 500


def test_a_truncated_file(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert_refused(folder, "cannot be read as model weights")


@pytest.mark.parametrize(
    ("text", "word"),
    [('{"hidden": 3}', "has no hidden"), ("{", "Expecting"), ("[]", "must be a mapping")],
)
def test_an_invalid_config(folder: Path, text: str, word: str) -> None:
    (folder / "config.json").write_text(text)
    assert_refused(folder, "config.json is not a valid model config", word)


def test_folders_and_names_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders_module, "PRETRAINED_DIR", tmp_path / "pretrained")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"it has no config.json and no model.safetensors"):
        model_folder(tmp_path / "empty")
    with pytest.raises(ValueError, match=r"there is no model 'nothing'"):
        model_folder("nothing")
    with pytest.raises(ValueError, match=r"no weights of lrm-large ship.*to be trained"):
        model_folder("lrm-large")


def test_models_that_ship_are_found_by_name(
    tiny_model: LRM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders_module, "PRETRAINED_DIR", tmp_path)
    assert available_models() == []
    save_model(tiny_model, tmp_path / "lrm-test")
    assert available_models() == ["lrm-test"]
    assert load_model("lrm-test").config == tiny_model.config


def test_small_networks_stay_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.weights.choose_dtype", lambda name, device: torch.bfloat16)
    cpu = torch.device("cpu")
    assert inference_dtype("auto", cpu, preset("lrm-tiny")) == torch.float32
    assert inference_dtype("auto", cpu, preset("lrm-large")) == torch.bfloat16
    assert inference_dtype("bf16", cpu, preset("lrm-tiny")) == torch.bfloat16
