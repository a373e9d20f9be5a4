"""Fields in files: what was saved comes back to the bit, and nothing else is taken for it."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from model.config import NerfConfig, ViewConfig
from model.formats.saved_triplane import TriplaneNotes, load_triplane, save_triplane
from model.nerf import Field
from model.surface import extract_mesh
from tests.unit.test_nerf import make_mlp

NERF = NerfConfig(layers=3, width=8, density_bias=0.5, density_scale=20.0, color_margin=0.01)
NOTES = TriplaneNotes(
    model={"name": "box", "sha256": "ab" * 32},
    source="cups/cup 茶碗.png",
    source_sha256="cd" * 32,
    view=ViewConfig(fov_degrees=40.0, background=0.5),
    file_from_world=(
        (0.5, 0.0, 0.0, 0.1),
        (0.0, 0.0, 0.5, 0.2),
        (0.0, -0.5, 0.0, 1 / 3),
        (0, 0, 0, 1),
    ),
)


def make_field(dtype: torch.dtype = torch.float32) -> Field:
    planes = torch.randn(3, 4, 6, 6, generator=torch.Generator().manual_seed(1))
    return Field(planes.to(dtype).float(), make_mlp(NERF, channels=4), 12.5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_triplane(tmp_path / "cup.triplane.safetensors", make_field(), NOTES)
    return tmp_path / "cup.triplane.safetensors"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_field_comes_back_to_the_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    field = make_field(dtype)
    save_triplane(tmp_path / "field", field, NOTES)
    assert load_file(tmp_path / "field")["planes"].dtype == dtype
    found, notes = load_triplane(tmp_path / "field")
    assert notes == NOTES
    assert found.iso_density == 12.5
    assert found.mlp.config == NERF
    assert found.planes.dtype == torch.float32
    points = torch.rand(500, 3, generator=torch.Generator().manual_seed(2)) * 2.2 - 1.1
    with torch.inference_mode():
        for before, after in zip(
            field.density_and_color(points), found.density_and_color(points), strict=True
        ):
            assert torch.equal(before, after)
        first, second = (extract_mesh(f, 32) for f in (field, found))
    for name in ("vertices_world", "faces", "colors_srgb", "normals_world"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_the_same_field_gives_the_same_bytes_and_no_half_file(path: Path) -> None:
    before = path.read_bytes()
    save_triplane(path, make_field(), NOTES)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    with pytest.raises(OSError, match="No such file"):
        save_triplane(path.parent / "nowhere" / "field", make_field(), NOTES)


def test_other_readers_find_planes_weights_and_metadata(path: Path) -> None:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    about = json.loads(metadata["lrm.triplane"])
    assert about["model"] == NOTES.model
    assert about["source"] == NOTES.source
    assert about["box_world"] == [-1, 1]
    np.testing.assert_allclose(about["file_from_world"], NOTES.file_from_world, rtol=0)
    shapes = {name: tuple(tensor.shape) for name, tensor in load_file(path).items()}
    assert shapes["planes"] == (3, 4, 6, 6)
    assert shapes["nerf.layers.0.weight"] == (8, 12)
    assert len(shapes) == 1 + 2 * 3


def refused(path: Path, *words: str) -> None:
    with pytest.raises(ValueError, match=path.name) as caught:
        load_triplane(path)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message
    assert str(path.parent) not in message


def rewritten(path: Path, tensors: dict[str, Any] | None = None, **about: Any) -> Path:
    """The file with other tensors (None: without it) and other metadata (None: without it)."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    entry = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["lrm.triplane"])
    entry = {k: v for k, v in (entry | about).items() if v is not None}
    kept = {k: v for k, v in (load_file(path) | (tensors or {})).items() if v is not None}
    save_file(kept, path, {"lrm.triplane": json.dumps(entry)})
    return path


def test_files_that_are_none(tmp_path: Path, path: Path) -> None:
    refused(tmp_path / "nothing.safetensors", "cannot be read (No such file or directory)")
    content = path.read_bytes()
    for size in (0, 5, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        refused(path, "cut off, or no safetensors file")
    path.write_bytes(content + b"more")
    refused(path, "cut off, or no safetensors file")
    path.write_bytes(b"\x89PNG and no tensors at all")
    refused(path, "cut off, or no safetensors file")


def test_other_safetensors_files(tmp_path: Path) -> None:
    other = tmp_path / "model.safetensors"
    save_file({"planes": torch.zeros(3, 4, 6, 6)}, other)
    refused(other, "no triplane that lrm has saved")
    save_file({"planes": torch.zeros(3, 4, 6, 6)}, other, {"format": "pt"})
    refused(other, "no triplane that lrm has saved")
    for text in ("{", "[]", "{}", "3"):
        save_file({"planes": torch.zeros(3, 4, 6, 6)}, other, {"lrm.triplane": text})
        refused(other, "damaged", "metadata is unreadable")


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"planes": None}, ("no planes",)),
        ({"planes": torch.zeros(3, 4, 6, 5)}, ("(3, 4, 6, 5) instead of (3, C, R, R)",)),
        ({"planes": torch.zeros(3, 5, 6, 6)}, ("nerf.layers.0.weight is (8, 12)", "(8, 15)")),
        ({"planes": torch.zeros(3, 4, 6, 6, dtype=torch.int32)}, ("planes", "finite")),
        ({"planes": torch.full((3, 4, 6, 6), torch.nan)}, ("planes holds no finite numbers",)),
        ({"nerf.layers.1.bias": None}, ("nerf.layers.1.bias is missing", "(8,)")),
        ({"nerf.layers.7.bias": torch.zeros(4)}, ("nerf.layers.7.bias is (4,)", "none belongs")),
        ({"nerf.layers.1.weight": torch.zeros(8, 9)}, ("nerf.layers.1.weight is (8, 9)",)),
    ],
)
def test_tensors_that_do_not_fit(path: Path, tensors: dict[str, Any], words: tuple) -> None:
    refused(rewritten(path, tensors), "damaged", *words)


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"version": 2}, ("of version 2", "reads 1")),
        ({"box_world": [-2, 2]}, ("the box [-2, 2]",)),
        ({"nerf": {"layers": 3, "wide": 8}}, ("nerf has no wide",)),
        ({"nerf": {"layers": 3, "width": 16}}, ("nerf.layers.0.bias is (8,)", "(16,)")),
        ({"nerf": {"density_activation": "relu"}}, ("nerf.density_activation is 'relu'",)),
        ({"view": None}, ("its metadata has no view",)),
        ({"iso_density": "much"}, ("much",)),
        ({"file_from_world": [[1, 0], [0, 1]]}, ("4 × 4",)),
    ],
)
def test_metadata_that_does_not_fit(path: Path, about: dict[str, Any], words: tuple) -> None:
    refused(rewritten(path, **about), *words)
