"""The fast renderer of fields against the plain integral, and against closed forms."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.cameras import Cameras, intrinsics_from_fov, look_at, orbit, rays_through_pixels
from model.cells import RenderedField
from model.config import NerfConfig
from model.field_rendering import SEEN, FieldRenderer
from model.matting import DEFAULT_MATTING_MODEL, Matting
from model.nerf import Field, NerfMLP
from model.photos import prepare_photo
from model.rendering import RadianceField, render_view
from model.views import Renderer
from model.weights import load_model
from tests.unit.fields import SHAPES, AnalyticField, ball, nowhere

PHOTOS = Path(__file__).parents[2] / "examples" / "photos"
SIZE = 40


def camera_at(azimuth: int, elevation: float = 20.0, distance: float = 2.4) -> Cameras:
    return orbit(12, elevation, distance, 50.0)[azimuth]


def psnr(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float(-10 * np.log10(np.square(found - expected).mean() + 1e-20))


def forward_cosines(camera: Cameras, size: int) -> NDArray[np.float32]:
    """(size, size) of the angles between pixels' rays and the camera's axis."""
    steps = (torch.arange(size) + 0.5) / size
    pixels = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).flatten(0, 1)
    _, directions = rays_through_pixels(camera, pixels)
    cosines: NDArray[np.float32] = (directions @ camera.camera_to_world[:3, 2]).numpy()
    return cosines.reshape(size, size)


@torch.inference_mode()
def assert_equals_plain(
    field: RenderedField, plain: RadianceField, camera: Cameras, samples: int = 128
) -> None:
    """Colours and opacity to 50 dB, depth to 0.02 (a bin's length) for nearly all pixels."""
    view = FieldRenderer(field, samples, depth=True).render(camera, SIZE, SIZE)
    expected = render_view(plain, camera, SIZE, SIZE, samples, background=0.0)
    assert psnr(view.colors, expected.colors.numpy()) >= 50
    assert psnr(view.opacity, expected.opacities.numpy()) >= 50
    assert np.abs(view.opacity - expected.opacities.numpy()).max() < 0.03
    seen = (view.opacity >= SEEN) & (expected.opacities.numpy() >= SEEN)
    assert view.depth_world is not None
    depth = expected.depths.numpy() * forward_cosines(camera, SIZE)
    error = np.abs(view.depth_world - depth)[seen]
    assert (error < 0.02).mean() > 0.99 if seen.any() else True
    assert not view.depth_world[view.opacity < SEEN].any()


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_equal_the_plain_integral(name: str) -> None:
    field = AnalyticField(SHAPES[name])
    assert_equals_plain(field, field.density_and_color, camera_at(1))


@pytest.mark.parametrize("name", ["wire", "slanted wire", "thin sheet"])
def test_thin_structures_with_hard_sides(name: str) -> None:
    field = AnalyticField(SHAPES[name], width=0.005)
    assert_equals_plain(field, field.density_and_color, camera_at(2, elevation=35))


@pytest.mark.parametrize("samples", [7, 64, 130, 300])
def test_any_number_of_samples(samples: int) -> None:
    field = AnalyticField(SHAPES["torus"], width=0.05)
    assert_equals_plain(field, field.density_and_color, camera_at(1), samples)


def test_a_camera_inside_the_box() -> None:
    field = AnalyticField(SHAPES["two balls a hair apart"])
    assert_equals_plain(field, field.density_and_color, camera_at(4, distance=0.8))


def random_field(density_scale: float) -> Field:
    torch.manual_seed(0)
    mlp = NerfMLP(NerfConfig(layers=4, density_bias=-3.0, density_scale=density_scale), 12)
    for layer in mlp.linear_layers():
        torch.nn.init.kaiming_normal_(layer.weight)
    return Field(2 * torch.randn(3, 4, 24, 24), mlp.requires_grad_(False), 10.0)


@pytest.mark.parametrize("density_scale", [1.0, 10.0])
def test_random_fields_equal_the_plain_integral(density_scale: float) -> None:
    field = random_field(density_scale)
    assert_equals_plain(field, field.density_and_color, camera_at(3))


def test_densities_per_whole_ray_equal_the_plain_integral() -> None:
    field, camera = random_field(10.0), camera_at(3)
    view = FieldRenderer(field, 64, density_per="ray").render(camera, SIZE, SIZE)
    plain = render_view(
        field.density_and_color, camera, SIZE, SIZE, 64, background=0.0, density_per="ray"
    )
    by_length = render_view(field.density_and_color, camera, SIZE, SIZE, 64, background=0.0)
    assert (plain.opacities - by_length.opacities).abs().max() > 0.1
    assert psnr(view.colors, plain.colors.numpy()) >= 50


def shipped_field(photo: str) -> Field:
    model = load_model("lrm-tiny")
    matting = Matting("alpha", DEFAULT_MATTING_MODEL)
    content = (PHOTOS / photo).read_bytes()
    picture = prepare_photo(content, model.config, matting, "auto", 1).picture
    with torch.inference_mode():
        return model.reconstruct(picture[None])[0]


@pytest.mark.parametrize(("photo", "azimuth"), [("cabinet.png", 0), ("office-chair.png", 5)])
def test_fields_of_photos_equal_the_plain_integral(photo: str, azimuth: int) -> None:
    field = shipped_field(photo)
    assert_equals_plain(field, field.density_and_color, camera_at(azimuth))


def test_little_is_asked() -> None:
    field = AnalyticField(SHAPES["torus"])
    renderer = FieldRenderer(field)
    field.points_asked = 0
    renderer.render(camera_at(1), SIZE, SIZE)
    assert 0 < field.points_asked < 0.08 * SIZE * SIZE * 128


def test_depth_and_normals_of_a_ball() -> None:
    field = AnalyticField(ball((0.1, 0.0, -0.1), 0.5), width=0.005)
    camera = camera_at(2)
    renderer: Renderer = FieldRenderer(field, 256, depth=True, normals=True)
    view = renderer.render(camera, SIZE, SIZE)
    renderer.close()
    assert view.depth_world is not None
    assert view.normals_world is not None
    steps = (torch.arange(SIZE) + 0.5) / SIZE
    pixels = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).flatten(0, 1)
    origins, directions = (x.double().numpy() for x in rays_through_pixels(camera, pixels))
    to_ball = np.array([0.1, 0.0, -0.1]) - origins
    along = (to_ball * directions).sum(1)
    nearest = np.sqrt((to_ball**2).sum(1) - along**2)
    inner = (nearest < 0.4).reshape(SIZE, SIZE)  # near the outline light stops far behind
    assert inner.sum() > 100
    distance = along - np.sqrt(np.maximum(0.25 - nearest**2, 0))
    depth = (distance * forward_cosines(camera, SIZE).ravel()).reshape(SIZE, SIZE)
    assert np.abs(view.depth_world - depth)[inner].max() < 0.03
    normals = (distance[:, None] * directions - to_ball).reshape(SIZE, SIZE, 3) / 0.5
    assert (view.normals_world * normals).sum(-1)[inner].min() > math.cos(math.radians(5))
    lengths = np.linalg.norm(view.normals_world, axis=-1)
    np.testing.assert_allclose(lengths[view.opacity >= SEEN], 1, atol=1e-5)
    assert not lengths[view.opacity < SEEN].any()


def test_what_is_not_asked_for_is_not_there() -> None:
    view = FieldRenderer(AnalyticField(SHAPES["ball"])).render(camera_at(0), 6, 9)
    assert view.colors.shape == (6, 9, 3)
    assert view.opacity.shape == (6, 9)
    assert view.depth_world is None
    assert view.normals_world is None


def test_an_empty_field_is_an_empty_picture() -> None:
    renderer = FieldRenderer(AnalyticField(nowhere, width=0), depth=True, normals=True)
    view = renderer.render(camera_at(0), 8, 8)
    for channel in (view.colors, view.opacity, view.depth_world, view.normals_world):
        assert channel is not None
        assert not channel.any()


def test_a_camera_that_looks_away_sees_nothing() -> None:
    pose = look_at(torch.tensor([0.0, -3.0, 0.0]), torch.tensor([0.0, -9.0, 0.0]))
    away = Cameras(pose, intrinsics_from_fov(40.0))
    view = FieldRenderer(AnalyticField(SHAPES["ball"])).render(away, 8, 8)
    assert not view.opacity.any()


def test_a_damaged_field_gets_a_sentence() -> None:
    def broken(points: Tensor) -> Tensor:
        return torch.full_like(points[..., 0], math.nan)

    with pytest.raises(ValueError, match="not finite numbers"):
        FieldRenderer(AnalyticField(broken))


def test_no_samples_get_a_sentence() -> None:
    with pytest.raises(ValueError, match="samples is 0"):
        FieldRenderer(AnalyticField(SHAPES["ball"]), 0)
