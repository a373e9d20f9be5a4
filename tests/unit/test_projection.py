"""A photo projected onto a mesh: what is seen, what it says, and how it mixes with the field."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model.cameras import canonical_camera, pixel_centers, rays_through_pixels
from model.surface import Mesh, extract_mesh
from model.surface.projection import (
    FramedPhoto,
    Projection,
    blend,
    depth_picture,
    project,
    silhouette_iou,
    to_pixels,
)
from model.surface.texels import SurfaceTexels, texels_on_surface
from tests.unit.fields import AnalyticField, ball, union

CAMERA = canonical_camera(60.0)
PHOTO = 512
RADIUS = 0.5
BALL = AnalyticField(ball((0.0, 0.0, 0.0), RADIUS), width=0.05)


def traced_ball(radius: float, size: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(S, S, 3) where a pixel's ray meets a ball around the origin, and (S, S) whether."""
    origins, directions = rays_through_pixels(CAMERA, pixel_centers(size, size).flatten(0, 1))
    o, d = origins.double().numpy(), directions.double().numpy()
    middle = (o * d).sum(axis=1)
    root = middle**2 - (o * o).sum(axis=1) + radius**2
    hit = root > 0
    points = o + d * (-middle - np.sqrt(np.where(hit, root, 0)))[:, None]
    return points.reshape(size, size, 3), hit.reshape(size, size)


def pattern(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Colours (..., 3) that tell places apart, finer than the field's."""
    return 0.5 + 0.4 * np.sin(points * np.array([9.0, 7.0, 11.0]))


def photo_of_ball(radius: float = RADIUS) -> FramedPhoto:
    points, hit = traced_ball(radius, PHOTO)
    rgba = np.concatenate([pattern(points), np.ones((PHOTO, PHOTO, 1))], axis=2) * hit[..., None]
    return FramedPhoto(rgba.astype(np.float32), CAMERA)


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    return extract_mesh(BALL, 64, target_faces=6000, texture_size=256)


@pytest.fixture(scope="module")
def texels(mesh: Mesh) -> SurfaceTexels:
    assert mesh.atlas is not None
    return texels_on_surface(mesh, mesh.atlas.uv, 256)


def test_pixels_of_points_are_where_their_rays_started() -> None:
    points, hit = traced_ball(RADIUS, 64)
    pixels, distances = to_pixels(points[hit], CAMERA, 64)
    rows, columns = np.nonzero(hit)
    np.testing.assert_allclose(pixels, np.stack([columns, rows], axis=1) + 0.5, atol=1e-4)
    np.testing.assert_allclose(distances, points[hit][:, 1] + 2, atol=1e-6)  # it looks along +y


def test_the_depth_picture_is_that_of_traced_rays(mesh: Mesh) -> None:
    points, hit = traced_ball(RADIUS, 128)
    depth = depth_picture(mesh, CAMERA, 128)
    seen = np.isfinite(depth)
    assert (seen & hit).sum() / (seen | hit).sum() > 0.99
    both = seen & hit
    assert np.abs(depth - points[..., 1] - 2)[both].mean() < 2e-3


def test_seen_texels_take_the_photos_colours(mesh: Mesh, texels: SurfaceTexels) -> None:
    photo = photo_of_ball()
    depth = depth_picture(mesh, CAMERA, len(photo.rgba))
    assert silhouette_iou(depth, photo) > 0.99
    projection = project(texels, photo, depth)
    sure = projection.shares > 0.99
    expected = pattern(texels.points_world[sure])
    assert np.abs(projection.colors[sure] - expected).max() < 0.05
    # From a distance of 2 a ball shows what lies on this side of the tangent cone.
    assert texels.points_world[projection.shares > 0][:, 1].max() < -(RADIUS**2) / 2
    # Seen at a slant, the photo fades out.
    towards = np.array([0, -2, 0]) - texels.points_world
    cosine = (towards * texels.points_world).sum(axis=1) / (
        np.linalg.norm(towards, axis=1) * np.linalg.norm(texels.points_world, axis=1)
    )
    assert (projection.shares[cosine < 0.19] == 0).all()
    assert (sure == (cosine > 0.5)).mean() > 0.98
    assert 0.1 < sure.mean() < 0.3


def test_what_stands_behind_something_is_not_seen() -> None:
    field = AnalyticField(
        union(ball((0.0, -0.4, 0.0), 0.2), ball((0.0, 0.4, 0.0), 0.3)), width=0.05
    )
    mesh = extract_mesh(field, 64, target_faces=6000, texture_size=256)
    assert mesh.atlas is not None
    texels = texels_on_surface(mesh, mesh.atlas.uv, 256)
    rgba = np.ones((PHOTO, PHOTO, 4), np.float32)
    depth = depth_picture(mesh, CAMERA, len(rgba))
    shares = project(texels, FramedPhoto(rgba, CAMERA), depth).shares
    x, y, z = texels.points_world.T
    # The front ball's shadow, with the camera at (0, -2, 0) for a lamp.
    shadow = 0.2 / np.sqrt(1.6**2 - 0.2**2)
    off_axis = np.hypot(x, z) / (y + 2)
    behind = y > 0
    assert (shares[behind & (off_axis < shadow * 0.93)] == 0).all()
    assert (shares[behind & (off_axis > shadow * 1.15) & (y < 0.2)] > 0.5).all()
    assert (shares[(y < -0.45) & (off_axis < shadow * 0.6)] > 0.99).all()


def test_transparent_pixels_say_nothing(mesh: Mesh, texels: SurfaceTexels) -> None:
    photo = photo_of_ball()
    photo.rgba[:, : PHOTO // 2] = 0
    depth = depth_picture(mesh, CAMERA, len(photo.rgba))
    assert silhouette_iou(depth, photo) == pytest.approx(0.5, abs=0.01)
    projection = project(texels, photo, depth)
    assert (projection.shares[texels.points_world[:, 0] < 0] == 0).all()
    assert (projection.shares[texels.points_world[:, 0] > 0.1] > 0).any()


def test_a_photo_that_does_not_fit_is_not_used() -> None:
    kwargs = {"resolution": 64, "target_faces": 3000, "texture_size": 128}
    plain, fits, other = (
        extract_mesh(BALL, photo=photo, **kwargs).atlas
        for photo in (None, photo_of_ball(), photo_of_ball(0.35))
    )
    assert plain is not None
    assert fits is not None
    assert other is not None
    assert fits.seen is not None
    assert fits.silhouette_iou is not None
    assert fits.silhouette_iou > 0.98
    assert not np.array_equal(fits.colors_srgb, plain.colors_srgb)
    assert other.seen is None
    assert other.silhouette_iou is not None
    assert other.silhouette_iou < 0.6
    np.testing.assert_array_equal(other.colors_srgb, plain.colors_srgb)


def test_the_front_is_as_sharp_as_the_photo() -> None:
    """Seen from the photo's camera, the pattern is there, which the field does not know."""
    from model.formats.meshes import MeshPart, TexturedMesh
    from model.rasterizing import render

    truth = photo_of_ball()
    errors = []
    for photo in (None, truth):
        mesh = extract_mesh(BALL, 64, target_faces=6000, texture_size=1024, photo=photo)
        assert mesh.atlas is not None
        part = MeshPart(
            mesh.vertices_world,
            mesh.faces.astype(np.int64),
            base_color=(1.0, 1.0, 1.0, 1.0),
            uv=mesh.atlas.uv,
            texture=mesh.atlas.colors_srgb,
        )
        camera = CAMERA[None]
        (picture,) = render(TexturedMesh((part,)), camera, PHOTO, lighting="unlit")
        inner = traced_ball(RADIUS * 0.8, PHOTO)[1]
        difference = picture[..., :3] / 255 - truth.rgba[..., :3]
        errors.append(float(np.square(difference[inner]).mean()))
    plain_db, photo_db = (-10 * np.log10(error) for error in errors)
    assert photo_db > 30
    assert photo_db > plain_db + 15


def test_blending_matches_the_fields_colours_to_the_photos() -> None:
    rng = np.random.default_rng(0)
    photo = rng.uniform(0.2, 0.8, (1000, 3))
    field = ((photo - 0.5) * 0.8 + 0.4) * 255  # darker, with less contrast
    shares = np.where(np.arange(1000) < 500, 1.0, 0.0)
    blended = blend(field.round().astype(np.uint8), Projection(photo, shares)) / 255
    np.testing.assert_allclose(blended[:500], photo[:500], atol=0.003)
    np.testing.assert_allclose(blended[500:], photo[500:], atol=0.01)  # matched, though not seen


def test_blending_without_anything_seen_changes_nothing() -> None:
    field = np.arange(30, dtype=np.uint8).reshape(10, 3)
    nothing = Projection(np.zeros((10, 3)), np.zeros(10))
    np.testing.assert_array_equal(blend(field, nothing), field)


def test_matching_stretches_colours_within_bounds() -> None:
    field = np.tile(np.array([[100], [101]], np.uint8), (50, 3))
    photo = np.tile(np.array([[0.0], [1.0]]), (50, 3))
    shares = np.where(np.arange(100) < 98, 1.0, 0.0)
    blended = blend(field, Projection(photo, shares))
    # 2 is the largest gain: one level apart becomes two, not 255.
    assert abs(int(blended[99, 0]) - int(blended[98, 0])) <= 2
