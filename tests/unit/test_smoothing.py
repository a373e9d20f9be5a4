"""Smooth normals: across seams, not across hard edges, and soon where triangles crowd."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np
import pytest
import trimesh

from model.formats.mesh_parts import MeshPart, TexturedMesh, merged
from model.formats.meshes import read_mesh, textured_mesh
from model.formats.writing import write_mesh
from model.rasterizing import render
from model.rasterizing.smoothing import smoothed
from model.surface import FileMesh
from model.surface.mesh import Atlas
from tests.unit.simple_meshes import RED, ball, front_camera

PICTURE = np.full((8, 8, 3), 200, np.uint8)


def cut(part: MeshPart) -> MeshPart:
    """Its triangles by themselves, each with UVs of its own, as if all edges were seams."""
    flat = part.faces.ravel()
    loose = dataclasses.replace(
        part.of_vertices(flat), faces=np.arange(len(flat)).reshape(-1, 3), texture=PICTURE
    )
    return dataclasses.replace(loose, uv=np.random.default_rng(0).random((len(flat), 2)))


def corner_normals(part: MeshPart) -> np.ndarray:
    """(M, 3, 3) of what is drawn."""
    drawn = smoothed(part)
    assert drawn.normals is not None
    np.testing.assert_array_equal(
        drawn.vertices_world[drawn.faces], part.vertices_world[part.faces]
    )
    return drawn.normals[drawn.faces]


def test_seams_are_not_seen() -> None:
    (whole,) = ball(2).parts
    seamed = cut(whole)
    outward = whole.vertices_world[whole.faces] / 0.7
    for part in (whole, seamed, dataclasses.replace(seamed, normals=seamed.vertices_world)):
        assert np.sum(corner_normals(part) * outward, axis=-1).min() > np.cos(np.deg2rad(1))
    uv, drawn = seamed.uv, smoothed(seamed)
    assert uv is not None
    assert drawn.uv is not None
    np.testing.assert_array_equal(drawn.uv[drawn.faces], uv[seamed.faces])
    plain = dataclasses.replace(
        whole, texture=PICTURE, uv=np.zeros((len(whole.vertices_world), 2), np.float32)
    )
    pictures = [render(TexturedMesh((part,)), front_camera(), 64) for part in (plain, seamed)]
    np.testing.assert_allclose(pictures[0], pictures[1], atol=2)  # of 255 levels


def test_edges_that_the_file_keeps_hard_stay_hard() -> None:
    """A ball whose triangles are flat by their normals, though no edge is sharp."""
    (whole,) = ball(2).parts
    loose = cut(whole)
    a, b, c = np.moveaxis(loose.vertices_world[loose.faces], 1, 0)
    flat = np.cross(b - a, c - a)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    hard = dataclasses.replace(loose, normals=np.repeat(flat, 3, axis=0))
    np.testing.assert_allclose(corner_normals(hard), np.repeat(flat[:, None], 3, 1), atol=1e-6)
    (joined,) = merged([hard, hard])
    assert joined.normals is not None
    assert len(joined.normals) == 2 * len(loose.vertices_world)


def test_sharp_edges_stay_sharp_without_normals_in_the_file() -> None:
    box = trimesh.creation.box()
    part = MeshPart(np.asarray(box.vertices), np.asarray(box.faces, np.int64), RED)
    for each in (part, cut(part)):
        np.testing.assert_allclose(
            corner_normals(each), np.repeat(box.face_normals[:, None], 3, 1), atol=1e-6
        )


@pytest.mark.parametrize("winding", [1, -1])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_surface_that_is_there_twice_is_smooth(winding: int, share: float) -> None:
    """All of a ball or its half, with another layer in the same places."""
    (whole,) = ball(2).parts
    count = len(whole.vertices_world)
    second = whole.faces[: int(share * len(whole.faces))][:, ::winding] + count
    twice = dataclasses.replace(
        whole,
        vertices_world=np.concatenate([whole.vertices_world] * 2),
        faces=np.concatenate([whole.faces, second]),
    )
    outward = whole.vertices_world[whole.faces] / 0.7
    directions = corner_normals(twice)[: len(whole.faces)]
    assert np.sum(directions * outward, axis=-1).min() > np.cos(np.deg2rad(1))


def textured_ball() -> FileMesh:
    (part,) = ball(2).parts
    loose = cut(part)
    assert loose.uv is not None
    normals = (loose.vertices_world / 0.7).astype(np.float32)
    vertices = loose.vertices_world.astype(np.float32)
    grey = np.full((len(vertices), 3), 200, np.uint8)
    atlas = Atlas(loose.uv.astype(np.float32), PICTURE)
    return FileMesh(vertices, loose.faces.astype(np.int32), grey, normals, atlas)


def test_our_files_are_read_without_creases(tmp_path: Path) -> None:
    mesh = textured_ball()
    parts = list(textured_mesh(mesh).parts)
    for name in ("a.glb", "a.obj", "a.ply"):
        write_mesh(tmp_path / name, mesh)
        parts += read_mesh(tmp_path / name).parts
    assert len(parts) == 4
    for part in parts:
        outward = part.vertices_world[part.faces] / 0.7
        assert np.sum(corner_normals(part) * outward, axis=-1).min() > np.cos(np.deg2rad(1))


@pytest.mark.parametrize("name", ["a.glb", "a.obj", "a.ply"])
def test_files_keep_their_edges_hard(tmp_path: Path, name: str) -> None:
    """The sides of a prism, 30 degrees from each other, flat by the file's normals."""
    turn = np.linspace(0, 2 * np.pi, 13)
    rim = np.column_stack([np.cos(turn), np.sin(turn)])
    corners = np.concatenate([np.insert(rim, 2, z, axis=1) for z in (0, 1)])
    side = np.arange(12)
    faces = np.concatenate(
        [
            np.column_stack([side, side + 1, side + 14]),
            np.column_stack([side, side + 14, side + 13]),
        ]
    )
    vertices = corners[faces].reshape(-1, 3).astype(np.float32)
    middle = turn[:-1] + np.pi / 12
    flat = np.column_stack([np.cos(middle), np.sin(middle), np.zeros(12)])
    normals = np.repeat(np.concatenate([flat, flat]), 3, axis=0).astype(np.float32)
    grey = np.full(vertices.shape, 100, np.uint8)
    own = np.arange(len(vertices), dtype=np.int32).reshape(-1, 3)
    write_mesh(tmp_path / name, FileMesh(vertices, own, grey, normals))
    (part,) = read_mesh(tmp_path / name).parts
    directions = corner_normals(part)
    np.testing.assert_allclose(directions, directions[:, :1].repeat(3, 1), atol=1e-6)


def test_collada_objects_are_smooth(tmp_path: Path) -> None:
    path = tmp_path / "ball.dae"
    path.write_bytes(trimesh.creation.icosphere(2, 0.7).export(file_type="dae"))
    (part,) = read_mesh(path).parts
    assert part.normals is not None
    outward = part.vertices_world[part.faces] / 0.7
    assert np.sum(corner_normals(part) * outward, axis=-1).min() > np.cos(np.deg2rad(1))


@pytest.mark.parametrize(("second", "sharp"), [(1, False), (2, True)])
def test_an_obj_file_s_normals_tell_its_hard_edges(
    second: int, sharp: bool, tmp_path: Path
) -> None:
    """Two triangles with a fold of six degrees between them."""
    path = tmp_path / "fold.obj"
    path.write_text(
        "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 1 1 0.1\nvn 0 0 1\nvn 0 1 0\n"
        f"f 1//1 2//1 3//1\nf 2//{second} 4//{second} 3//{second}\n"
    )
    (part,) = read_mesh(path, up="z").parts
    directions = corner_normals(part)
    assert np.allclose(directions[0, 1], directions[0, 0]) is sharp
    assert np.allclose(directions[0, 1], directions[1, 0]) is not sharp


def fan(count: int) -> MeshPart:
    """Triangles around one edge."""
    turn = 2 * np.pi * np.arange(count) / count
    rim = np.column_stack([np.cos(turn), np.sin(turn), np.full(count, 0.5)])
    corner = np.arange(count)
    faces = np.column_stack([0 * corner, 0 * corner + 1, 2 + corner]).astype(np.int64)
    return MeshPart(np.vstack([[0, 0, 0], [0, 0, 1], rim]), faces, RED)


@pytest.mark.parametrize("seams", [False, True])
def test_triangles_around_one_edge_cost_no_minutes(seams: bool) -> None:
    part = cut(fan(3000)) if seams else fan(3000)
    started = time.perf_counter()
    directions = corner_normals(part)
    assert time.perf_counter() - started < 5  # by VTK's search for neighbours, half a minute
    np.testing.assert_allclose(directions, directions[:, :1].repeat(3, 1), atol=1e-6)  # flat


def test_what_is_not_crowded_is_smooth() -> None:
    """A cone: many corners at its tip, no crowded edge."""
    cone = trimesh.creation.cone(1.0, 1.0, sections=1000)
    part = MeshPart(np.asarray(cone.vertices), np.asarray(cone.faces, np.int64), RED)
    directions = corner_normals(part)
    sides = directions[np.abs(directions[:, 0, 2]) < 0.9]
    assert (np.abs(sides - sides[:, :1]).max(axis=(1, 2)) > 1e-4).any()
