"""What is drawn for a report: a mesh for the viewer, views all around, a copy of the photo."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image

from lrm_cli.report import pictures
from model.formats.writing import write_mesh
from tests.unit.colored_box import colored_box


def arrays(part: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    def read(name: str, kind: str, width: int) -> np.ndarray:
        return np.frombuffer(base64.b64decode(part[name]), kind).reshape(-1, width)

    return read("positions", "<f4", 3), read("normals", "i1", 4)[:, :3], read("indices", "<u4", 3)


def test_the_viewer_gets_the_mesh(tmp_path: Path) -> None:
    """A ball's normals are its places; it fills the viewer's sphere; its surface is closed."""
    ball = trimesh.creation.icosphere(3, radius=5)
    ball.visual.vertex_colors = np.tile([200, 100, 50, 255], (len(ball.vertices), 1))
    ball.export(tmp_path / "ball.ply")
    order = pictures.Order("ball", tmp_path / "ball.ply", "", 12.5)
    script = pictures.viewer_mesh(order)[".mesh.js"].decode()
    mesh = json.loads(re.fullmatch(r"showMesh\((.*)\);\n", script)[1])  # type: ignore[index]
    assert mesh["elevation"] == 12.5
    (part,) = mesh["parts"]
    positions, normals, faces = arrays(part)
    np.testing.assert_allclose(np.linalg.norm(positions, axis=1), 0.75, atol=1e-5)
    np.testing.assert_allclose(normals / 127, positions / 0.75, atol=0.02)
    assert trimesh.Trimesh(positions, faces).is_watertight
    colors = np.frombuffer(base64.b64decode(part["colors"]), np.uint8).reshape(-1, 4)
    assert (colors == [200, 100, 50, 255]).all()
    assert part["unlit"] is False


def test_the_viewer_hears_of_unlit_meshes(tmp_path: Path) -> None:
    write_mesh(tmp_path / "box.glb", dataclasses.replace(colored_box(), unlit=True))
    script = pictures.viewer_mesh(pictures.Order("box", tmp_path / "box.glb", ""))[".mesh.js"]
    (part,) = json.loads(script.removeprefix(b"showMesh(").removesuffix(b");\n"))["parts"]
    assert part["unlit"] is True


def test_views_start_where_the_photo_was_taken(tmp_path: Path) -> None:
    """Of a box with one red side towards the camera, the first view is red, the fifth is not."""
    box = trimesh.creation.box((1, 1, 1))
    box.unmerge_vertices()  # each side's have colours of their own
    red = np.repeat(box.face_normals[:, 1:2] < -0.5, 3, axis=0)
    box.visual.vertex_colors = np.where(red, (255, 0, 0, 255), (0, 0, 255, 255))
    box.export(tmp_path / "box.ply")
    views = pictures.views_around(pictures.Order("box", tmp_path / "box.ply", ""))
    assert list(views) == [f".view-{number}.webp" for number in range(1, 9)]
    (tmp_path / "view.webp").write_bytes(views[".view-1.webp"])
    pixels = np.asarray(Image.open(tmp_path / "view.webp").convert("RGBA"))
    center = pixels.shape[0] // 2
    assert pixels[center, center, 0] > pixels[center, center, 2]
    assert pixels[0, 0, 3] == 0
    (tmp_path / "view.webp").write_bytes(views[".view-5.webp"])
    back = np.asarray(Image.open(tmp_path / "view.webp").convert("RGBA"))
    assert back[center, center, 2] > back[center, center, 0]


def test_a_photo_is_copied_small_on_white_if_it_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.new("RGBA", (1024, 400), (0, 0, 0, 0)).save(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "copy.jpg").write_bytes(
        pictures.photo_copy(pictures.Order("photo", path, digest))[".photo.jpg"]
    )
    copy = Image.open(tmp_path / "copy.jpg")
    assert copy.size == (512, 200)
    assert np.asarray(copy).min() > 250
    with pytest.raises(ValueError, match="has changed since its mesh was made"):
        pictures.photo_copy(pictures.Order("photo", path, "0" * 64))
