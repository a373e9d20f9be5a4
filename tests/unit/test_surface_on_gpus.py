"""What a GPU would mind in the way to a surface, found without one."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from model.config import NerfConfig
from model.matting import DEFAULT_MATTING_MODEL, Matting
from model.nerf import Field, NerfMLP
from model.photos import prepare_photo
from model.surface import components, extract_mesh
from model.surface.components import by_contraction
from model.surface.cube_cases import cube_cases
from model.weights import load_model
from tests.unit.fields import (
    COARSE_CELLS,
    ISO_DENSITY,
    RESOLUTION,
    SHAPES,
    AnalyticField,
    surface_of,
)

PHOTO = Path(__file__).parents[2] / "examples/photos/office-chair.png"
aten = torch.ops.aten
# What has to know numbers before it can go on: their sizes depend on them.
WAITS = {
    aten.nonzero.default,
    aten._local_scalar_dense.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.unique_dim.default,
    aten.repeat_interleave.Tensor,
    aten.equal.default,
}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}


class CountingWaits(TorchDispatchMode):
    """Counts where a GPU's results would be waited for."""

    count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        masks = func in INDEXING and any(i is not None and i.dtype == torch.bool for i in args[1])
        self.count += func in WAITS or masks
        return func(*args, **(kwargs or {}))


class PlacedField(AnalyticField):
    """Makes its own tensors on the CPU, whatever the default device is."""

    calls = 0

    def density(self, points_world: Tensor) -> Tensor:
        self.calls += 1
        with torch.device("cpu"):
            return super().density(points_world)


def surface(field: AnalyticField) -> tuple[np.ndarray, np.ndarray]:
    return surface_of(field, RESOLUTION, ISO_DENSITY, exact=False, coarse_cells=COARSE_CELLS)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("name", ["torus", "ball cut by the box"])
def test_all_tensors_are_on_the_fields_device(
    name: str, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As GPUs find the pieces.
    monkeypatch.setattr(
        components, "_by_scipy", lambda start, end, n: by_contraction(start.long(), end.long(), n)
    )
    # The field is on the CPU, and tensors without a stated device are on one that has no numbers:
    # the two do not mix, as the CPU and a GPU do not.
    cube_cases.cache_clear()
    expected = extract_mesh(PlacedField(SHAPES[name]), 49, exact=exact)
    cube_cases.cache_clear()
    with torch.device("meta"):
        found = extract_mesh(PlacedField(SHAPES[name]), 49, exact=exact)
    np.testing.assert_array_equal(found.vertices_world, expected.vertices_world)
    np.testing.assert_array_equal(found.colors_srgb, expected.colors_srgb)
    np.testing.assert_array_equal(found.faces, expected.faces)


def small_field() -> Field:
    mlp = NerfMLP(NerfConfig(3, 8), 12).requires_grad_(False)
    return Field(torch.randn(3, 4, 6, 6), mlp, 10.0)


def test_all_tensors_at_points_are_on_the_fields_device() -> None:
    field, points = small_field(), torch.rand(50, 3) * 2 - 1
    expected = field.at_points().density_and_color(points)
    with torch.device("meta"):
        found = field.at_points().density_and_color(points)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_all_tensors_of_a_lattice_are_on_the_fields_device() -> None:
    field = small_field()
    axis, first = torch.linspace(-1, 1, 9), torch.tensor([[0, 3, 7]])
    expected = field.lattice(axis).blocks(first, 4)
    with torch.device("meta"):
        found = field.lattice(axis).blocks(first, 4)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["torus", "ball cut by the box", "wire"])
def test_large_calls_give_the_same_surface(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = PlacedField(SHAPES[name]), PlacedField(SHAPES[name])
    expected = surface(small)
    for module in ("occupancy", "surface.grid"):
        monkeypatch.setattr(f"model.{module}.points_per_call", lambda device: 2**20)
    vertices, faces = surface(large)
    np.testing.assert_array_equal(vertices, expected[0])
    np.testing.assert_array_equal(faces, expected[1])
    assert large.calls <= min(10, small.calls - 1)


@pytest.mark.parametrize("name", ["torus", "ball cut by the box", "wire"])
def test_a_gpu_is_rarely_waited_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("occupancy", "surface.grid"):
        monkeypatch.setattr(f"model.{module}.points_per_call", lambda device: 2**20)
    with CountingWaits() as waits:
        surface(PlacedField(SHAPES[name]))
    assert 5 < waits.count < 30, waits.count


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_finds_the_same_mesh() -> None:
    model = load_model("lrm-tiny")
    photo = prepare_photo(PHOTO.read_bytes(), model.config, Matting("alpha", DEFAULT_MATTING_MODEL))
    (field,) = model.reconstruct(photo.picture[None])
    device = torch.device("cuda", torch.cuda.current_device())
    there = Field(field.planes.to(device), copy.deepcopy(field.mlp).to(device), field.iso_density)
    expected, found = (extract_mesh(each, 128, smallest_share=1.0) for each in (field, there))
    assert len(found.faces) == pytest.approx(len(expected.faces), rel=2e-3)
    cell = 2 / 127
    for one, other in ((found, expected), (expected, found)):
        distance, nearest = cKDTree(other.vertices_world).query(one.vertices_world)
        assert np.quantile(distance, 0.99) < 0.01 * cell
        difference = other.colors_srgb[nearest].astype(int) - one.colors_srgb
        assert np.quantile(np.abs(difference), 0.99) <= 1
