"""OpenLRM and TripoSR: what their own code gives beside what ours gives, with the same weights.

    python -m benchmarks.published_parity SHAPE CHECKOUT [--json FILE]

SHAPE is triposr, or one of OpenLRM's: small-1.1, base-1.1, large-1.1, small-1.0, base-1.0,
large-1.0. CHECKOUT is a clone of VAST-AI-Research/TripoSR (which needs omegaconf and einops) or of
3DTopia/OpenLRM. Both get the same random weights, so that nothing is downloaded.

Errors of tokens, planes, densities and colours are the largest one over the largest value. Pictures
are compared at equal sampling: in the middles of the same bins along the same rays. OpenLRM's code
averages raw outputs at the ends of a bin instead of asking in its middle, and draws points at
random; so it is asked without chance and in bins so narrow that this comes to the same. TripoSR's
code keeps rays out of the outermost thousandth of its box; this margin is taken away. Vertices of
meshes are compared with the nearest of the other mesh, in cells of the lattice.
"""

from __future__ import annotations

import argparse
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.figures import add_json_flag, report_figures
from benchmarks.hardware import commit, hardware
from benchmarks.originals import (
    OPENLRM,
    TRIPOSR,
    config_of,
    load_openlrm,
    load_triposr,
    published_names,
    randomize,
)
from model.cameras import Cameras, orbit
from model.config import LrmConfig
from model.lrm import LRM
from model.nerf import Field
from model.published import openlrm, triposr
from model.rendering import render_view
from model.surface.grid import sample_around_surface
from model.surface.marching import triangulate

_PIXELS = 12
_OPENLRM_SAMPLES = 8192  # of narrow bins; see above


class Original(ABC):
    """Another project's model with random weights, asked in our world."""

    config: LrmConfig
    weights: dict[str, Tensor]
    samples: int

    @abstractmethod
    def tokens(self, picture: Tensor) -> Tensor:
        """(1, N, C) of a picture (1, 3, S, S)."""

    @abstractmethod
    def planes(self, picture: Tensor) -> Tensor:
        """(3, C, R, R) as its own network writes them."""

    @abstractmethod
    def arranged(self, planes: Tensor) -> Tensor:
        """The same planes as ours lie."""

    @abstractmethod
    def field(self, planes: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Densities (N,) and colours (N, 3) at points (N, 3) of our world."""

    @abstractmethod
    def picture(self, planes: Tensor, camera: Cameras) -> Tensor:
        """(H, W, 3) on white."""

    @abstractmethod
    def vertices(self, planes: Tensor, resolution: int, threshold: float) -> np.ndarray:
        """(N, 3) of its mesh, in our world."""


class OpenLrm(Original):
    samples = _OPENLRM_SAMPLES

    def __init__(self, checkout: Path, shape: str) -> None:
        values = OPENLRM[shape]
        self.model = load_openlrm(checkout, values)
        randomize(self.model)
        self.config = config_of(shape)
        self.weights = openlrm.weights_of(published_names(self.model), self.config)
        from openlrm.models.rendering.utils import renderer

        class NoChance:
            """PyTorch for its renderer, whose jitter is zero."""

            rand_like = staticmethod(torch.zeros_like)

            def __getattr__(self, name: str) -> Any:
                return getattr(torch, name)

        renderer.torch = NoChance()
        self.model.synthesizer.rendering_kwargs |= {
            "depth_resolution": self.samples + 1,  # ends of bins
            "depth_resolution_importance": 0,
        }

    def tokens(self, picture: Tensor) -> Tensor:
        return self.model.encoder(picture)

    def planes(self, picture: Tensor) -> Tensor:
        # Its source camera: OpenGL's axes, at 2 on the -y axis, focal length 0.75.
        extrinsics = torch.tensor([[1.0, 0, 0, 0], [0, 0, -1, -2], [0, 1, 0, 0]])
        camera = torch.cat([extrinsics.flatten(), torch.tensor([0.75, 0.75, 0.5, 0.5])])
        return self.model.forward_planes(picture, camera[None])[0]

    def arranged(self, planes: Tensor) -> Tensor:
        return torch.stack([planes[0], planes[1], planes[2].transpose(-1, -2)])

    def field(self, planes: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        found = self.model.synthesizer.forward_points(planes[None], points[None])
        return found["sigma"][0, :, 0], found["rgb"][0].clamp(0, 1)

    def picture(self, planes: Tensor, camera: Cameras) -> Tensor:
        opengl = camera.camera_to_world @ torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
        fx, fy, cx, cy = camera.intrinsics.tolist()
        matrix = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        found = self.model.synthesizer(
            planes[None],
            torch.cat([opengl.flatten(), matrix.flatten()])[None, None],
            torch.zeros(1, 1, 2),
            torch.full((1, 1, 1), float(_PIXELS)),
            torch.ones(1, 1, 1),
            _PIXELS,
        )
        return found["images_rgb"][0, 0].permute(1, 2, 0).clamp(0, 1)

    def vertices(self, planes: Tensor, resolution: int, threshold: float) -> np.ndarray:
        import mcubes

        density = self.model.synthesizer.forward_grid(planes[None], resolution)["sigma"]
        vertices, _ = mcubes.marching_cubes(density[0, ..., 0].numpy(), threshold)
        return vertices / (resolution - 1) * 2 - 1


class TripoSr(Original):
    def __init__(self, checkout: Path) -> None:
        self.model = load_triposr(checkout)
        randomize(self.model)
        self.config = config_of("triposr")
        self.weights = triposr.weights_of(published_names(self.model), self.config)
        self.samples = self.config.view.samples_per_ray
        self.radius = TRIPOSR["renderer"]["radius"]
        from tsr.models import nerf_renderer

        tight = nerf_renderer.rays_intersect_bbox
        nerf_renderer.rays_intersect_bbox = lambda origins, directions, radius: tight(
            origins, directions, radius / 0.999
        )

    def tokens(self, picture: Tensor) -> Tensor:
        return self.model.image_tokenizer(picture[:, None])[0].transpose(1, 2)

    def planes(self, picture: Tensor) -> Tensor:
        return self.model([picture[0].permute(1, 2, 0).numpy()], "cpu")[0]

    def arranged(self, planes: Tensor) -> Tensor:
        # Its x is our -y, its y our x.
        xy, xz, yz = planes
        return torch.stack([xy.transpose(-1, -2).flip(-2), yz, xz.flip(-1)])

    def field(self, planes: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        x, y, z = points.unbind(1)
        theirs = torch.stack([-y, x, z], dim=1) * self.radius
        found = self.model.renderer.query_triplane(self.model.decoder, theirs, planes)
        return found["density_act"][:, 0], found["color"]

    def picture(self, planes: Tensor, camera: Cameras) -> Tensor:
        from tsr.utils import get_spherical_cameras

        # The one that looks from where `camera` does: the first of a level orbit.
        origins, directions = get_spherical_cameras(1, 0.0, 1.9, 40.0, _PIXELS, _PIXELS)
        return self.model.renderer(self.model.decoder, planes, origins[0], directions[0])

    def vertices(self, planes: Tensor, resolution: int, threshold: float) -> np.ndarray:
        (mesh,) = self.model.extract_mesh(planes[None], False, resolution, threshold)
        x, y, z = np.asarray(mesh.vertices).T / self.radius
        return np.stack([y, -x, z], axis=1)


@torch.inference_mode()
def compare(original: Original, resolution: int) -> dict[str, Any]:
    """Errors of everything between a picture and a mesh."""
    config = original.config
    ours = LRM(config)
    ours.load_state_dict(original.weights)
    ours.eval()
    size = config.encoder.image_size
    picture = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    planes = original.planes(picture)
    (found,) = ours.reconstruct(picture)
    points = torch.rand(20_000, 3, generator=torch.Generator().manual_seed(2)) * 2 - 1
    densities, colors = original.field(planes, points)
    field_found, fast_found = (f.density_and_color(points) for f in (found, found.at_points()))
    threshold = float(densities.quantile(0.8))
    return {
        "tokens": _error(ours.encoder(picture), original.tokens(picture)),
        "planes": _error(found.planes, original.arranged(planes)),
        "densities": _error(field_found[0], densities),
        "colors": _error(field_found[1], colors),
        "densities_fast": _error(fast_found[0], densities),
        "colors_fast": _error(fast_found[1], colors),
        "picture": _picture_error(original, planes, found),
        "density_range": [float(densities.quantile(q)) for q in (0.01, 0.5, 0.99)],
        **_mesh_error(
            original.vertices(planes, resolution, threshold), found, resolution, threshold
        ),
    }


def _error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def _picture_error(original: Original, planes: Tensor, field: Field) -> float:
    view, per = original.config.view, original.config.nerf.density_per
    elevation = 0.0 if per == "ray" else 20.0
    camera = orbit(1, elevation, view.camera_distance, view.fov_degrees)[0]
    found = render_view(
        field.density_and_color,
        camera,
        _PIXELS,
        _PIXELS,
        original.samples,
        1.0,
        rays_per_chunk=64,
        density_per=per,
    )
    return _error(found.colors, original.picture(planes, camera))


def _mesh_error(
    expected: np.ndarray, field: Field, resolution: int, threshold: float
) -> dict[str, Any]:
    from scipy.spatial import cKDTree

    vertices, _ = triangulate(sample_around_surface(field, resolution, threshold))
    found = vertices.numpy()
    inside = found[np.abs(found).max(axis=1) < 1]  # ours is closed where the box cuts it
    cell = 2 / (resolution - 1)
    there = cKDTree(found).query(expected)[0] / cell
    back = cKDTree(expected).query(inside)[0] / cell
    return {
        "vertices": [len(expected), len(found)],
        "vertices_apart_cells": float(max(there.max(), back.max())),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", choices=["triposr", *OPENLRM])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--resolution", type=int, default=96, help="of the meshes' lattice")
    add_json_flag(parser)
    arguments = parser.parse_args()
    original: Original
    with torch.inference_mode():
        if arguments.shape == "triposr":
            original = TripoSr(arguments.checkout)
        else:
            original = OpenLrm(arguments.checkout, arguments.shape)
    figures = {
        "shape": arguments.shape,
        "hardware": hardware(torch.device("cpu")),
        "torch": torch.__version__,
        "commit": commit(),
        **compare(original, arguments.resolution),
    }
    report_figures(figures, arguments.json)


if __name__ == "__main__":
    main()
