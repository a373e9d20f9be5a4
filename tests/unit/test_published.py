"""Files of other projects: what is translated, and what is refused with which sentence."""

from __future__ import annotations

import json
import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from model.catalogue import CC_BY_NC, MIT
from model.config import EncoderConfig
from model.published import vit
from model.published.converting import Checkpoint, convert, translate
from model.published.reading import read_settings, read_weights
from model.published.state import ForeignState
from model.weights import load_model
from tests.parity import foreign_states

SIZE = foreign_states.OPENLRM_IMAGE_SIZE


@pytest.fixture(scope="module")
def openlrm_state() -> dict[str, Tensor]:
    return foreign_states.openlrm_state()


def write_openlrm(
    folder: Path, state: dict[str, Tensor], config: dict[str, Any] = foreign_states.OPENLRM
) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(state, folder / "model.safetensors")
    return folder


@pytest.fixture
def checkpoint(openlrm_state: dict[str, Tensor], tmp_path: Path) -> Path:
    return write_openlrm(tmp_path / "theirs", openlrm_state)


def assert_refused(folder: Path, *words: str) -> None:
    with pytest.raises(ValueError, match=r"cannot be translated|damaged") as caught:
        translate(Checkpoint.at(folder), "x", SIZE)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_a_translated_model_is_a_model(checkpoint: Path, tmp_path: Path) -> None:
    config = convert(
        Checkpoint.at(checkpoint), tmp_path / "ours", "mine", "# Mine", image_size=SIZE
    )
    assert config.license == CC_BY_NC
    model = load_model(tmp_path / "ours")
    assert model.config == config
    (field,) = model.reconstruct(torch.rand(1, 3, SIZE, SIZE))
    assert field.planes.shape == (3, 6, 8, 8)
    assert (tmp_path / "ours" / "README.md").read_text() == "# Mine"
    with pytest.raises(ValueError, match=r"there is a config\.json in"):
        convert(Checkpoint.at(checkpoint), tmp_path / "ours", "mine", "", image_size=SIZE)
    with pytest.raises(ValueError, match="is the config of a model that lrm reads as it is"):
        translate(Checkpoint.at(tmp_path / "ours"), "x")


def test_version_1_0_comes_with_its_settings_in_the_weights_file(
    openlrm_state: dict[str, Tensor], tmp_path: Path
) -> None:
    old = {
        name.replace("upsampler.", "transformer.deconv."): value
        for name, value in openlrm_state.items()
    }
    old["transformer.pos_embed"] = old.pop("pos_embed")
    kwargs = {"model": foreign_states.OPENLRM, "infer": {"source_size": SIZE}}
    torch.save({"weights": old, "kwargs": kwargs}, tmp_path / "model.pth")
    new = write_openlrm(tmp_path / "new", openlrm_state)
    expected_config, expected = translate(Checkpoint.at(new), "x", SIZE)
    config, found = translate(Checkpoint.at(tmp_path / "model.pth"), "x")
    assert config == expected_config
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_triposr_s_licence_and_references_between_settings(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(json.dumps(foreign_states.TRIPOSR))
    torch.save(foreign_states.triposr_state(), tmp_path / "model.ckpt")
    config, state = translate(Checkpoint.at(tmp_path), "x")
    assert config.license == MIT
    assert config.decoder.width == 64
    assert config.view.camera_distance == pytest.approx(1.9 / 0.87)
    assert state["decoder.tokens"].shape == (48, 64)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("pos_embed", None, "cannot be translated: it lacks pos_embed"),
        ("more.weight", torch.zeros(2), "it has the unknown more.weight"),
        ("upsampler.bias", torch.zeros(7), "upsampler.bias is (7,) instead of (6,)"),
        ("encoder.model.norm.bias", torch.zeros(384, 1), "is (384, 1) instead of (384,)"),
        ("pos_embed", torch.zeros(1, 48, 64, dtype=torch.int64), "no tensor of floating-point"),
    ],
)
def test_tensors_that_are_not_its(
    openlrm_state: dict[str, Tensor],
    tmp_path: Path,
    name: str,
    value: Tensor | None,
    sentence: str,
) -> None:
    state = {key: tensor for key, tensor in openlrm_state.items() if key != name}
    if value is not None:
        state[name] = value
    assert_refused(write_openlrm(tmp_path / "theirs", state), sentence)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"transformer_dim": "wide"}, "config.transformer_dim is 'wide'"),
        ({"depth": 3}, "config has no depth"),
        ({"encoder_model_name": "dinov2_vitg14"}, "its encoder is dinov2 dinov2_vitg14; lrm knows"),
        ({"transformer_heads": 5}, "decoder.width is 64; it must be a multiple of heads 5"),
        ({"triplane_low_res": 0}, "its planes have 8 texels along a side for 0 tokens"),
        ({"triplane_high_res": 10}, "its planes have 10 texels along a side for 4 tokens"),
    ],
)
def test_settings_that_are_not_its(
    openlrm_state: dict[str, Tensor], tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    config = foreign_states.OPENLRM | change
    assert_refused(write_openlrm(tmp_path / "theirs", openlrm_state, config), sentence)


@pytest.mark.parametrize("config", [{"model": 5}, {"model": None}, {"model": ["camera_embed_dim"]}])
def test_configs_of_neither_project(tmp_path: Path, config: dict[str, Any]) -> None:
    folder = write_openlrm(tmp_path / "theirs", {"a": torch.zeros(1)}, config)
    with pytest.raises(ValueError, match=r"config\.json is neither TripoSR's nor OpenLRM's"):
        translate(Checkpoint.at(folder), "x", SIZE)
    torch.save({"weights": 1, "kwargs": 2}, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"model\.pth is neither TripoSR's nor OpenLRM's"):
        translate(Checkpoint.at(tmp_path / "model.pth"), "x", SIZE)


@pytest.mark.parametrize("infer", [None, {"source_size": "large"}])
def test_the_side_of_pictures_is_asked_for_where_no_file_tells(
    openlrm_state: dict[str, Tensor], tmp_path: Path, infer: dict[str, Any] | None
) -> None:
    config = {"model": foreign_states.OPENLRM, "infer": infer}
    checkpoint = write_openlrm(tmp_path / "theirs", openlrm_state, config)
    with pytest.raises(ValueError, match="do not tell the side of its pictures; give --image-size"):
        translate(Checkpoint.at(checkpoint), "x")


def test_truncated_files(checkpoint: Path, tmp_path: Path) -> None:
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert_refused(checkpoint, "model.safetensors is damaged or cut off")
    path = tmp_path / "model.pth"
    for zipped in (True, False):
        torch.save({"a": torch.zeros(1000)}, path, _use_new_zipfile_serialization=zipped)
        whole = path.read_bytes()
        for length in (len(whole) - 100, 2000, 10, 0):
            path.write_bytes(whole[:length])
            with pytest.raises(ValueError, match=r"model\.pth is damaged or cut off"):
                read_weights(path)


def test_code_in_pickles_is_not_run(tmp_path: Path) -> None:
    class Malicious:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "run"),)

    for legacy in (False, True):
        torch.save(
            {"weights": Malicious()},
            tmp_path / "model.pth",
            _use_new_zipfile_serialization=not legacy,
        )
        with pytest.raises(ValueError, match="opening it would run code that is in it"):
            read_weights(tmp_path / "model.pth")
    assert not (tmp_path / "run").exists()


def test_files_that_are_no_weights_at_all(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(b"nothing that torch has written")
    with pytest.raises(ValueError, match=r"model\.pth is damaged"):
        read_weights(path)
    path.write_bytes(pickle.dumps({"a": 1}, protocol=4))
    with warnings.catch_warnings(action="error"), pytest.raises(ValueError, match="is damaged"):
        read_weights(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="it ends too early"):
        read_weights(path)


def test_a_pickle_of_something_else(tmp_path: Path) -> None:
    torch.save([torch.zeros(3)], tmp_path / "model.pth")
    with pytest.raises(ValueError, match="holds no weights"):
        read_weights(tmp_path / "model.pth")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- 1", "it is no mapping"),
        ("a: ${b.c}", "refers to nothing"),
        ("a: ${b}\nb: {c: 1}", "refers to no plain value"),
        ("a: [", "cannot be read as a config"),
        ("a: !!python/object/apply:os.getcwd []", "cannot be read as a config"),
    ],
)
def test_settings_that_cannot_be_read(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match="config") as caught:
        read_settings(tmp_path / "config.yaml")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folders_with_nothing_known_in_them(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").touch()
    for source in (tmp_path, tmp_path / "weights.bin", tmp_path / "none"):
        with pytest.raises(ValueError, match="is no checkpoint that lrm can translate"):
            Checkpoint.at(source)


def test_position_embeddings_of_the_same_grid_stay() -> None:
    embedding = torch.randn(1, 1 + 16, 3)
    assert vit.resized(embedding, 4, vit.DINO) is embedding


@pytest.mark.parametrize(
    ("side", "how"), [(14, vit.DINO), (37, vit.DINOV2_WITH_REGISTERS)], ids=["DINO", "DINOv2"]
)
def test_position_embeddings_fill_any_grid(side: int, how: vit.Resize) -> None:
    embedding = torch.zeros(1, 1 + side**2, 1)
    for grid in range(1, 129):  # 37 * (39 / 37) is 38.99… in floating point
        assert vit.resized(embedding, grid, how).shape == (1, 1 + grid**2, 1)


def test_a_translation_that_does_not_fit_its_config_is_refused(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vit, "resized", lambda embedding, grid, how: embedding[:, :5])
    assert_refused(
        checkpoint, "the translated weights do not fit the config: encoder.vit.pos_embed"
    )


def test_what_is_below_a_prefix_is_taken_from_the_whole() -> None:
    state = ForeignState({"a.b.c": torch.ones(2), "a.d": torch.ones(3)})
    assert state.below("a.").below("b.").take("c", 2).sum() == 2
    with pytest.raises(ValueError, match=r"unknown a\.d"):
        state.finish()
    state.below("a.").drop("d")
    state.finish()


def test_registers_and_weights_to_start_from_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="null for an encoder with registers"):
        EncoderConfig(registers=4)
