"""Scenes of glTF files made by hand, against closed forms."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from model.formats.meshes import MeshPart
from tests.gltf_files import TRIANGLE, Gltf
from tests.unit.gltf_quad import quad, read


def corners(part: MeshPart) -> list[tuple[float, ...]]:
    return sorted(tuple(np.round(vertex, 5).tolist()) for vertex in part.vertices_world)


def test_nodes_place_their_meshes_once_each(tmp_path: Path) -> None:
    """A chain of matrix and TRS; a mesh in two places, one of which holds a camera too."""
    gltf = Gltf(scene=0, scenes=[{"nodes": [0, 1, 2]}])  # 1 is a child of 0 as well
    gltf.mesh()
    half = math.sqrt(0.5)
    shift = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 5, 0, 0, 1]
    gltf.add("nodes", {"matrix": shift, "children": [1]})
    turned = {"rotation": [0, 0, half, half], "scale": [2, 1, 1], "translation": [0, 1, 0]}
    gltf.add("nodes", {"mesh": 0, **turned})
    gltf.add("nodes", {"mesh": 0, "camera": 0, "scale": [-1, 1, 1]})
    gltf.add("cameras", {"type": "perspective", "perspective": {"yfov": 1, "znear": 0.1}})
    parts = read(tmp_path, gltf)
    assert len(parts) == 2
    # (x, y) -> scale (2x, y) -> a quarter turn (-y, 2x) -> (5 - y, 1 + 2x)
    assert corners(parts[0]) == [(4, 1, 0), (5, 1, 0), (5, 3, 0)]
    assert corners(parts[1]) == [(-1, 0, 0), (0, 0, 0), (0, 1, 0)]
    a, b, c = parts[1].vertices_world[parts[1].faces[0]]
    assert np.cross(b - a, c - a)[2] > 0  # mirrored, and still facing where it did


@pytest.mark.parametrize(("scene", "expected"), [(1, 7), (None, 3), (0, 3)])
def test_the_default_scene_alone_is_taken(
    tmp_path: Path, scene: int | None, expected: float
) -> None:
    gltf = Gltf(
        scenes=[{"nodes": [0]}, {"nodes": [1]}], **({} if scene is None else {"scene": scene})
    )
    gltf.mesh()
    for x in (3, 7):
        gltf.add("nodes", {"mesh": 0, "translation": [x, 0, 0]})
    (part,) = read(tmp_path, gltf)
    assert part.vertices_world[:, 0].min() == expected


def test_without_scenes_and_without_nodes_nothing_is_lost(tmp_path: Path) -> None:
    gltf = Gltf()
    gltf.mesh()
    gltf.mesh(TRIANGLE + 1)
    assert len(read(tmp_path, gltf)) == 2
    gltf.add("nodes", {"children": [1]})
    gltf.add("nodes", {"mesh": 1})
    assert len(read(tmp_path, gltf)) == 1


def test_skins_stand_as_their_joints_do(tmp_path: Path) -> None:
    """Two joints, one lifted by 3 since it was bound; the mesh's own node is not heard."""
    gltf = Gltf(scene=0, scenes=[{"nodes": [0, 1]}])
    binds = np.stack([np.eye(4), np.eye(4)])
    binds[1, 0, 3] = -1  # the second joint was bound at x = 1
    stored = gltf.accessor(binds.transpose(0, 2, 1).astype("<f4").reshape(2, 16))
    gltf.add("skins", {"joints": [1, 2], "inverseBindMatrices": stored})
    joints = gltf.accessor(np.array([[0, 1, 0, 0]] * 3, "u1"))
    weights = gltf.accessor(np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0.5, 0.5, 0, 0]], "<f4"))
    gltf.mesh(attributes={"JOINTS_0": joints, "WEIGHTS_0": weights})
    gltf.add("nodes", {"mesh": 0, "skin": 0, "translation": [100, 0, 0]})
    gltf.add("nodes", {"children": [2], "translation": [0, 0, 10]})
    gltf.add("nodes", {"translation": [1, 0, 3]})
    (part,) = read(tmp_path, gltf)
    assert corners(part) == [(0, 0, 10), (0, 1, 11.5), (1, 0, 13)]


def test_morph_targets_at_default_weights_also_sparse_ones(tmp_path: Path) -> None:
    gltf = Gltf()
    lifted = gltf.accessor(np.array([[0, 0, 4], [0, 0, 0], [0, 0, 0]], "<f4"))
    where = gltf.view(np.array([2], "<u2").tobytes())
    what = gltf.view(np.array([0, 8, 0], "<f4").tobytes())
    sparse = {
        "count": 1,
        "indices": {"bufferView": where, "componentType": 5123},
        "values": {"bufferView": what},
    }
    stretched = gltf.add(
        "accessors", {"componentType": 5126, "count": 3, "type": "VEC3", "sparse": sparse}
    )
    gltf.mesh(targets=[{"POSITION": lifted}, {"POSITION": stretched}], weights=[0.25, 0.5])
    gltf.add("nodes", {"mesh": 0})
    assert corners(read(tmp_path, gltf)[0]) == [(0, 0, 1), (0, 5, 0), (1, 0, 0)]
    gltf.json["nodes"][0]["weights"] = [0, 0]  # the node's go before the mesh's
    assert corners(read(tmp_path, gltf)[0]) == [(0, 0, 0), (0, 1, 0), (1, 0, 0)]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [(4, [(0, 1, 2)]), (5, [(0, 1, 2), (2, 1, 3)]), (6, [(0, 1, 2), (0, 2, 3)])],
)
def test_strips_and_fans_keep_their_winding(
    tmp_path: Path, mode: int, expected: list[tuple[int, ...]]
) -> None:
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], "<f4")
    if mode == 6:
        points = points[[0, 1, 3, 2]]
    gltf = Gltf()
    gltf.mesh(points, mode=mode)
    (part,) = read(tmp_path, gltf)
    found = [
        [points.tolist().index(part.vertices_world[i].tolist()) for i in f] for f in part.faces
    ]
    assert sorted(tuple(sorted(face)) for face in found) == [tuple(sorted(f)) for f in expected]
    for a, b, c in part.vertices_world[part.faces]:
        assert np.cross(b - a, c - a)[2] > 0


@pytest.mark.parametrize("suffix", [".glb", ".gltf"])
def test_quantised_positions_and_strides(tmp_path: Path, suffix: str) -> None:
    """KHR_mesh_quantization: normalised 16-bit places, every vertex in 8 bytes."""
    gltf = Gltf()
    rows = np.zeros((3, 4), "<i2")
    rows[:, :3] = (TRIANGLE * 32767).astype("<i2")
    number = gltf.view(rows.tobytes(), byteStride=8)
    entry = {"bufferView": number, "componentType": 5122, "count": 3, "type": "VEC3"}
    position = gltf.add("accessors", entry | {"normalized": True})
    gltf.add("meshes", {"primitives": [{"attributes": {"POSITION": position}}]})
    assert corners(read(tmp_path, gltf, suffix)[0]) == [(0, 0, 0), (0, 1, 0), (1, 0, 0)]


def test_primitives_take_what_they_need_of_a_shared_array(tmp_path: Path) -> None:
    """A thousand triangles of one array; each with all of it would be 20 GB."""
    count = 1000
    spread = np.random.default_rng(0).uniform(-1, 1, (300 * count, 3)).astype("<f4")
    gltf = Gltf()
    position = gltf.accessor(spread)
    corners = np.arange(3 * count, dtype="<u4").reshape(count, 3) * 100
    primitives = [
        {"attributes": {"POSITION": position}, "indices": gltf.accessor(three)} for three in corners
    ]
    gltf.add("meshes", {"primitives": primitives})
    parts = read(tmp_path, gltf)
    assert len(parts) == count
    assert all(len(part.vertices_world) == 3 for part in parts)
    np.testing.assert_allclose(parts[7].vertices_world[parts[7].faces[0]], spread[corners[7]])


def test_damaged_normals_cost_no_mesh(tmp_path: Path) -> None:
    for make in (lambda gltf: gltf.accessor(TRIANGLE[:2]), lambda gltf: 99):
        gltf = Gltf()
        gltf.mesh(attributes={"NORMAL": make(gltf)})
        (part,) = read(tmp_path, gltf)
        assert part.normals is None


def test_what_is_compressed_is_named(tmp_path: Path) -> None:
    gltf = Gltf()
    gltf.mesh()
    gltf.json["bufferViews"][0]["extensions"] = {"EXT_meshopt_compression": {"buffer": 0}}
    with pytest.raises(ValueError, match="compressed by EXT_meshopt_compression"):
        read(tmp_path, gltf)
    gltf = Gltf()
    texture = gltf.add("textures", {"extensions": {"KHR_texture_basisu": {"source": 0}}})
    quad(gltf, {"pbrMetallicRoughness": {"baseColorTexture": {"index": texture}}})
    with pytest.raises(ValueError, match="compressed by KHR_texture_basisu"):
        read(tmp_path, gltf)
