"""OpenLRM and TripoSR, translated, give what the projects' own code gave.

`published.json` was made once by that code, with the weights of `foreign_states`, of the pictures
that `picture_of` makes. For each model, in the model's world turned as ours is and its box scaled
to ours: the first four numbers of the first and the last image token; of the planes, turned to lie
as ours do, channels 0 and 3 at row 1 and column 5; densities and colours at `POINTS`; pixels
(1, 3), (4, 4) and (6, 2) of a picture of 8² on white, from where `model.cameras.orbit` puts the
first camera; and of the mesh of PyMCubes on 24³ points at `threshold` the number, mean and extent
of the vertices that do not lie on the box. `benchmarks.published_parity` tells how pictures were
taken, and compares both in full, at every published size.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from model.cameras import orbit
from model.config import LrmConfig
from model.lrm import LRM
from model.nerf import Field
from model.published import openlrm, triposr
from model.published.reading import read_settings
from model.rendering import render_view
from model.surface.grid import sample_around_surface
from model.surface.marching import triangulate
from tests.parity import foreign_states

GOLDEN = json.loads(Path(__file__).with_name("published.json").read_text())
POINTS = torch.tensor(
    [[0.1, -0.3, 0.55], [-0.7, 0.2, -0.15], [0.93, 0.05, -0.4], [0.3, 0.99, 0.98]]
)
NAMES = ["openlrm", "triposr"]


def picture_of(size: int) -> Tensor:
    """(1, 3, S, S): 0.5 + 0.5 sin(0.3 (channel + 1) column + 0.2 row)."""
    channel, row, column = (
        torch.arange(float(count)).view(shape)
        for count, shape in ((3, (3, 1, 1)), (size, (size, 1)), (size, (size,)))
    )
    return (0.5 + 0.5 * torch.sin(0.3 * (channel + 1) * column + 0.2 * row))[None]


def translated_openlrm(_folder: Path) -> tuple[LrmConfig, dict[str, Tensor]]:
    settings = openlrm.OpenLrmSettings.of(foreign_states.OPENLRM)
    config = openlrm.config_of(settings, "openlrm", foreign_states.OPENLRM_IMAGE_SIZE)
    return config, openlrm.weights_of(foreign_states.openlrm_state(), config)


def translated_triposr(folder: Path) -> tuple[LrmConfig, dict[str, Tensor]]:
    (folder / "config.yaml").write_text(json.dumps(foreign_states.TRIPOSR))  # JSON is YAML
    settings = triposr.TripoSrSettings.of(read_settings(folder / "config.yaml"))
    config = triposr.config_of(settings, "triposr")
    return config, triposr.weights_of(foreign_states.triposr_state(), config)


@pytest.fixture(scope="module", params=NAMES)
def translated(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[LRM, Field, dict[str, Any]]:
    """The model, its field of the picture, and the golden numbers."""
    translate: Callable[[Path], tuple[LrmConfig, dict[str, Tensor]]] = {
        "openlrm": translated_openlrm,
        "triposr": translated_triposr,
    }[request.param]
    config, weights = translate(tmp_path_factory.mktemp("settings"))
    model = LRM(config)
    model.load_state_dict(weights, strict=True)
    model.eval().requires_grad_(False)
    (field,) = model.reconstruct(picture_of(config.encoder.image_size))
    return model, field, GOLDEN[request.param]


def assert_equal(found: Tensor, golden: list[float], tolerance: float = 1e-4) -> None:
    """Relative to the largest number."""
    expected = torch.tensor(golden)
    error = (found.flatten() - expected).abs().max() / expected.abs().max()
    assert error < tolerance, float(error)


def test_tokens(translated: tuple[LRM, Field, dict[str, Any]]) -> None:
    model, _, golden = translated
    tokens = model.encoder(picture_of(model.config.encoder.image_size))
    assert_equal(tokens[0, [0, -1], :4], golden["tokens"])


def test_planes(translated: tuple[LRM, Field, dict[str, Any]]) -> None:
    _, field, golden = translated
    assert_equal(field.planes[:, [0, 3], 1, 5], golden["planes"])


@pytest.mark.parametrize("fast", [False, True])
def test_densities_and_colors(translated: tuple[LRM, Field, dict[str, Any]], fast: bool) -> None:
    _, field, golden = translated
    densities, colors = (field.at_points() if fast else field).density_and_color(POINTS)
    assert_equal(densities, golden["densities"])
    assert_equal(colors, golden["colors"])


def test_a_picture(translated: tuple[LRM, Field, dict[str, Any]]) -> None:
    model, field, golden = translated
    view, per = model.config.view, model.config.nerf.density_per
    # TripoSR's was taken with its own number of samples, OpenLRM's with as many as count.
    samples, elevation = (view.samples_per_ray, 0.0) if per == "ray" else (2048, 20.0)
    camera = orbit(1, elevation, view.camera_distance, view.fov_degrees)[0]
    seen = render_view(
        field.density_and_color, camera, 8, 8, samples, background=1.0, density_per=per
    )
    assert_equal(seen.colors[[1, 4, 6], [3, 4, 2]], golden["picture"])


def test_a_mesh(translated: tuple[LRM, Field, dict[str, Any]]) -> None:
    _, field, golden = translated
    vertices, _ = triangulate(sample_around_surface(field, 24, golden["threshold"], exact=True))
    found = vertices.numpy()
    inside = found[np.abs(found).max(axis=1) < 1 - 1e-9]
    assert len(inside) == golden["vertices"]
    tenth_of_a_cell = 0.1 * 2 / 23
    extent = np.concatenate([inside.min(axis=0), inside.max(axis=0)])
    np.testing.assert_allclose(
        inside.mean(axis=0), golden["vertex_mean"], atol=tenth_of_a_cell / 10
    )
    np.testing.assert_allclose(extent, golden["vertex_extent"], atol=tenth_of_a_cell)
