"""What is said of meshes, against trimesh and by construction."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import trimesh

from model.surface import Mesh, extract_mesh
from model.surface.cleanup import without_flaps
from model.surface.quality import quality_of
from tests.unit.fields import SHAPES, AnalyticField, ball, ball_and_crumb


def mesh_of(shape: str, **arguments: object) -> Mesh:
    return extract_mesh(AnalyticField(SHAPES[shape], 0.05), 64, **arguments)  # type: ignore[arg-type]


def without_face(mesh: Mesh) -> Mesh:
    return dataclasses.replace(mesh, faces=mesh.faces[1:])


def with_face_turned(mesh: Mesh) -> Mesh:
    faces = mesh.faces.copy()
    faces[0] = faces[0, ::-1]
    return dataclasses.replace(mesh, faces=faces)


def test_a_sound_mesh_has_no_flags() -> None:
    mesh = mesh_of("torus", target_faces=2000)
    quality = quality_of(mesh, 0.9)
    assert quality.flags == ()
    assert (quality.pieces, quality.watertight, quality.touches_box) == (1, True, False)
    assert quality.faces == len(mesh.faces)
    assert (quality.silhouette_iou, quality.photo_share) == (None, None)


def test_seams_of_a_texture_do_not_count_as_holes() -> None:
    mesh = mesh_of("torus", target_faces=2000, texture_size=64)
    assert not trimesh.Trimesh(mesh.vertices_world, mesh.faces, process=False).is_watertight
    quality = quality_of(mesh, 0.9)
    assert quality.flags == ()
    assert quality.photo_share == 0


@pytest.mark.parametrize("damage", [without_face, with_face_turned])
def test_holes_and_turned_faces(damage: object) -> None:
    mesh = damage(mesh_of("ball"))  # type: ignore[operator]
    assert quality_of(mesh, 0.9).flags == ("open",)
    assert not trimesh.Trimesh(mesh.vertices_world, mesh.faces).is_volume


def test_pieces_are_counted() -> None:
    field = AnalyticField(ball_and_crumb, 0.02)
    mesh = extract_mesh(field, 144, smallest_share=0)
    assert quality_of(mesh, 0.9).pieces == 2
    assert quality_of(mesh, 0.9).flags == ("fragments",)


def test_what_the_box_cuts_off() -> None:
    assert quality_of(mesh_of("ball cut by the box"), 0.9).flags == ("touches-box",)


@pytest.mark.parametrize("target_faces", [1000, 300, 100])
def test_simplified_surfaces_stay_in_the_box_and_tell_that_it_cuts_them(target_faces: int) -> None:
    field = AnalyticField(ball((0.5, 0.1, 0.0), 0.505))  # cut off by half a percent of the box
    mesh = extract_mesh(field, 97, target_faces=target_faces)
    assert np.abs(mesh.vertices_world).max() <= 1
    assert quality_of(mesh, 0.9).flags == ("touches-box",)


@pytest.mark.parametrize(("iou", "flags"), [(0.95, ()), (0.85, ("misfit",))])
def test_another_silhouette_than_the_photos(iou: float, flags: tuple[str, ...]) -> None:
    mesh = mesh_of("ball", texture_size=64)
    assert mesh.atlas is not None
    seen = np.full((64, 64), 51, np.uint8)
    atlas = dataclasses.replace(mesh.atlas, silhouette_iou=iou, seen=seen)
    quality = quality_of(dataclasses.replace(mesh, atlas=atlas), 0.9)
    assert quality.flags == flags
    assert quality.silhouette_iou == iou
    assert quality.photo_share == pytest.approx(0.2)


def test_flaps_are_taken_off_and_the_surface_stays_closed() -> None:
    tetrahedron = [[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]]
    flap = [[0, 1, 4], [1, 0, 4]]  # two triangles back to back on an edge
    found = without_flaps(np.array([*tetrahedron[:2], *flap, *tetrahedron[2:]], np.int32))
    np.testing.assert_array_equal(found, tetrahedron)


def test_of_triangles_on_the_same_vertices_what_prevails_stays() -> None:
    faces = np.array([[0, 1, 2], [2, 0, 1], [5, 4, 3], [3, 5, 4], [4, 5, 3]], np.int32)
    # The first ones are of two sheets; of the second set two lie back to back.
    np.testing.assert_array_equal(without_flaps(faces), [[0, 1, 2], [2, 0, 1], [5, 4, 3]])


def test_no_flaps_nothing_changes() -> None:
    faces = mesh_of("torus").faces
    np.testing.assert_array_equal(without_flaps(faces), faces)
