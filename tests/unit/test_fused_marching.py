"""The marching kernel: interpreted on the CPU, compiled without a GPU, run on one where it is
there; and when it is asked."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

triton = pytest.importorskip("triton")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from model import ray_marching  # noqa: E402
from model.cameras import orbit  # noqa: E402
from model.cells import KnownCells  # noqa: E402
from model.config import NerfConfig  # noqa: E402
from model.field_rendering import FieldRenderer  # noqa: E402
from model.kernels import KernelWarning  # noqa: E402
from model.kernels.fused_marching import (  # noqa: E402
    RAYS_PER_TILE,
    STAGES,
    WARPS,
    FusedRayMarcher,
)
from model.kernels.fused_marching_kernels import march_kernel  # noqa: E402
from model.nerf import Field, FieldPoints  # noqa: E402
from model.ray_marching import RayMarcher, fastest_marcher, fused_marcher, fused_works  # noqa: E402
from tests.unit.fused_field import make_mlp  # noqa: E402
from tests.unit.interpreting import run_interpreted  # noqa: E402
from tests.unit.marched_rays import (  # noqa: E402
    EXPONENTIAL,
    FOG,
    SURFACE,
    camera_rays,
    check_marching,
    smooth_field,
)

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def test_equal_to_plain_pytorch_in_the_interpreter() -> None:
    run_interpreted(Path(__file__).with_name("interpreted_marching_kernel.py"))


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("slopes", [False, True])
@pytest.mark.parametrize("activation", ["softplus", "trunc_exp"])
def test_compiles_for_gpus_without_one(
    capability: int, slopes: bool, activation: str, tmp_path: Path
) -> None:
    """On an H100, whose products read weights from shared memory, all numbers fit registers."""
    constants = {
        **{"W": 64, "L": 8, "P": RAYS_PER_TILE, "SLOPES": slopes},
        **{"ACTIVATION": activation, "PRECISION": "tf32x3"},
    }
    whole = ("rays", "samples", "bins", "B", "C", "R")
    signature = {
        name: "constexpr"
        if name in constants
        else "*fp32"
        if name.endswith("_ptr")
        else "i32"
        if name in whole
        else "fp32"
        for name in march_kernel.arg_names
    }
    aligned = [["tt.divisibility", 16]]  # as PyTorch's tensors are
    attributes = {(i,): aligned for i, type_ in enumerate(signature.values()) if type_[0] == "*"}
    compiled = triton.compile(
        ASTSource(march_kernel, signature, constants, attributes),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": WARPS, "num_stages": STAGES},
    )
    assert ("wgmma" if capability == 90 else "mma.sync") in compiled.asm["ptx"]
    assert compiled.metadata.shared <= 64 * 1024  # several programs a multiprocessor
    cubin = tmp_path / "marching.cubin"
    cubin.write_bytes(compiled.asm["cubin"])
    cuobjdump = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    usage = subprocess.run(
        [cuobjdump, "--dump-resource-usage", cubin], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert found, usage
    registers, spilled = map(int, found.groups())
    print(f"sm_{capability} slopes {slopes} {activation}: {registers} registers, {spilled} spilled")
    assert spilled <= (0 if capability == 90 else 256)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("config", [FOG, SURFACE, EXPONENTIAL, NerfConfig()])
@pytest.mark.parametrize("slopes", [False, True])
def test_on_a_gpu(config: NerfConfig, slopes: bool) -> None:
    field, rays = smooth_field(config, "cuda"), camera_rays(45, 33, 128, "cuda")
    assert fused_works(config, field.device, slopes)
    check_marching(field, rays, 128, slopes=slopes, cells_along=96)


@pytest.mark.gpu
@needs_gpu
def test_pictures_on_a_gpu_are_those_of_the_cpu() -> None:
    camera = orbit(12, 20.0, 2.4, 50.0)[1]
    views = []
    for device in ("cpu", "cuda"):
        renderer = FieldRenderer(smooth_field(SURFACE, device), depth=True, normals=True)
        views.append(renderer.render(camera, 61, 85))
    expected, found = views
    np.testing.assert_allclose(found.colors, expected.colors, atol=0.01)
    np.testing.assert_allclose(found.opacity, expected.opacity, atol=0.01)
    for name in ("depth_world", "normals_world"):
        off = np.abs(getattr(found, name) - getattr(expected, name))
        assert (off < 0.02).mean() > 0.99  # on the outline a pixel is seen by one of them only


def test_the_fastest_is_the_fused_one_where_it_may_run_and_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    field = smooth_field(FOG)
    cells, points = KnownCells(field, 12), field.at_points()
    monkeypatch.setattr(ray_marching, "compiled_works", lambda: False)
    for may_run in (False, True):
        for works in (False, True):
            monkeypatch.setattr(ray_marching, "kernel_may_run", lambda *_, may=may_run: may)
            monkeypatch.setattr(ray_marching, "fused_works", lambda *_, works=works: works)
            found = fastest_marcher(cells, points, 8, slopes=False, device=field.device)
            assert type(found) is (FusedRayMarcher if may_run and works else RayMarcher)


def test_fields_that_are_no_planes_are_marched_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    field = smooth_field(FOG)
    monkeypatch.setattr(ray_marching, "compiled_works", lambda: False)
    found = fastest_marcher(KnownCells(field, 12), field, 8, slopes=False, device=field.device)
    assert type(found) is RayMarcher


def test_one_that_cannot_be_compiled_is_not_used() -> None:
    # Not interpreted, and without a GPU, it fails as it would with no compiler there.
    with pytest.warns(KernelWarning, match="the marching kernel cannot be used here: "):
        assert not fused_works.__wrapped__(NerfConfig(), torch.device("cpu"), False)


def test_what_it_does_not_take() -> None:
    field = Field(torch.zeros(3, 5, 4, 4), make_mlp(3, 24).requires_grad_(False), 10.0)
    with pytest.raises(ValueError, match=r"float32 of width 24; .* of width 16, 32, 64"):
        fused_marcher(KnownCells(field, 12), FieldPoints(field), 8, slopes=False)
