"""The lattice kernel: interpreted on the CPU, compiled without a GPU, run on one where it is there;
when it is asked; and what its precision is worth."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

triton = pytest.importorskip("triton")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from model.config import NerfConfig  # noqa: E402
from model.kernels.lattice import (  # noqa: E402
    POINTS_PER_TILE,
    STAGES,
    WARPS,
    WIDTHS,
    FusedLattice,
    kernel_may_run,
)
from model.kernels.lattice_kernels import lattice_kernel  # noqa: E402
from model.matting import DEFAULT_MATTING_MODEL, Matting  # noqa: E402
from model.nerf import Field, FieldLattice, kernel_works  # noqa: E402
from model.photos import prepare_photo  # noqa: E402
from model.triplane import sample_planes  # noqa: E402
from model.weights import load_model  # noqa: E402
from tests.unit.fused_field import in_float64, make_mlp  # noqa: E402
from tests.unit.interpreting import run_interpreted  # noqa: E402
from tests.unit.tensor_cores import Precision, product  # noqa: E402

PHOTO = Path(__file__).parents[2] / "examples/photos/office-chair.png"
POINTS = 384  # per side


def test_equal_to_the_field_in_the_interpreter() -> None:
    run_interpreted(Path(__file__).with_name("interpreted_lattice_kernel.py"))


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    ("hidden", "activation"), [("relu", "softplus"), ("relu", "trunc_exp"), ("silu", "trunc_exp")]
)
def test_compiles_for_gpus_without_one(
    capability: int, width: int, hidden: str, activation: str, tmp_path: Path
) -> None:
    """A100 and H100 machine code that keeps the hidden layers in registers."""
    constants = {
        **{"W": width, "L": 8, "P": POINTS_PER_TILE},
        **{"HIDDEN": hidden, "ACTIVATION": activation, "PRECISION": "tf32x3"},
    }
    signature = {
        name: "constexpr"
        if name in constants
        else "*i64"
        if name == "first_ptr"
        else "*fp32"
        if name.endswith("_ptr")
        else "fp32"
        if name.startswith("density")
        else "i32"
        for name in lattice_kernel.arg_names
    }
    aligned = [["tt.divisibility", 16]]  # as PyTorch's tensors are
    attributes = {(i,): aligned for i, type_ in enumerate(signature.values()) if type_[0] == "*"}
    compiled = triton.compile(
        ASTSource(lattice_kernel, signature, constants, attributes),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": WARPS, "num_stages": STAGES},
    )
    ptx = compiled.asm["ptx"]
    assert ("wgmma" if capability == 90 else "mma.sync") in ptx  # the tensor cores'
    assert ("max.NaN" if hidden == "relu" else "min.NaN") in ptx  # the exponential's bound
    assert compiled.metadata.shared <= 64 * 1024  # several programs a multiprocessor
    cubin = tmp_path / "lattice.cubin"
    cubin.write_bytes(compiled.asm["cubin"])
    cuobjdump = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    usage = subprocess.run(
        [cuobjdump, "--dump-resource-usage", cubin], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", usage)
    assert found, usage
    registers, *spilled = map(int, found.groups())
    print(
        f"sm_{capability} width {width} {hidden} {activation}: {registers} registers, "
        f"{spilled} spilled"
    )
    assert spilled == [0, 0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu() -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    assert kernel_works(NerfConfig(), device)
    torch.manual_seed(1)
    mlp = make_mlp(10, 64, 80).to(device).requires_grad_(False)
    planes = torch.randn(3, 80, 64, 64, device=device)
    axis = torch.linspace(-1, 1, POINTS, device=device)
    first = torch.randint(-4, POINTS, (1000, 3), device=device)
    found = Field(planes, mlp, 10.0).lattice(axis).blocks(first, 5)
    exact_field = Field(planes.double(), mlp.double(), 10.0)
    exact = FieldLattice(exact_field, axis, fused=False).blocks(first, 5)
    assert (found - exact).norm() / exact.norm() < 1e-5


def test_when_the_kernel_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = make_mlp(4, 64).requires_grad_(False).linear_layers()[1:]
    assert not kernel_may_run(torch.zeros(3, 5, 5, 64), layers)  # on the CPU
    with FakeTensorMode():  # tensors without numbers, also of devices that are not there
        planes = torch.empty(3, 5, 5, 64, device="cuda")
        assert kernel_may_run(planes, layers)
        assert not kernel_may_run(planes.double(), layers)
        assert not kernel_may_run(planes.requires_grad_(), layers)
        for width in (8, 24, 128):
            others = make_mlp(4, width).linear_layers()[1:]
            assert not kernel_may_run(torch.empty(3, 5, 5, width, device="cuda"), others)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        assert not kernel_may_run(planes.detach(), layers)


def test_a_lattice_takes_the_kernel_where_it_may_run_and_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    field = Field(torch.zeros(3, 5, 4, 4), make_mlp(3, 16).requires_grad_(False), 10.0)
    first = torch.zeros((1, 3), dtype=torch.int64)
    monkeypatch.setattr(FusedLattice, "blocks", lambda *_: "fused")
    for may_run in (False, True):
        for works in (False, True):
            monkeypatch.setattr("model.nerf.kernel_may_run", lambda *_, may=may_run: may)
            monkeypatch.setattr("model.nerf.kernel_works", lambda *_, works=works: works)
            found = field.lattice(torch.linspace(-1, 1, 5)).blocks(first, 2)
            assert (found == "fused") == (may_run and works)


def test_one_that_cannot_be_compiled_is_not_used() -> None:
    # Not interpreted, and without a GPU, it fails as it would with no compiler there.
    with pytest.warns(UserWarning, match="the lattice kernel cannot be used here: "):
        assert not kernel_works.__wrapped__(NerfConfig(), torch.device("cpu"))


@pytest.mark.parametrize("width", [8, 24, 128])
def test_what_it_does_not_take(width: int) -> None:
    field = Field(torch.zeros(3, 5, 4, 4), make_mlp(3, width).requires_grad_(False), 10.0)
    with pytest.raises(ValueError, match=rf"float32 of width {width}; .* of width 16, 32, 64"):
        FieldLattice(field, torch.linspace(-1, 1, 5), fused=True)


def trained_field() -> Field:
    model = load_model("lrm-tiny", torch.device("cpu"))
    matting = Matting("alpha", DEFAULT_MATTING_MODEL)
    photo = prepare_photo(PHOTO.read_bytes(), model.config, matting)
    return model.reconstruct(photo.picture[None])[0]


def random_deep_field() -> Field:
    mlp = make_mlp(10, 64, 80)
    coarse = torch.randn(3, 80, 16, 16)
    planes = torch.nn.functional.interpolate(coarse, (64, 64), mode="bicubic")
    field = Field(planes, mlp, 1.0)
    field.iso_density = float(field.density(torch.rand(2000, 3) * 2 - 1).median())
    return field


# A tenth of a cell is what a surface may move by; the sharper the field, the less it moves.
@pytest.mark.parametrize(
    ("make", "tf32", "bf16"), [(trained_field, 0.01, 0.1), (random_deep_field, 0.02, 0.5)]
)
@torch.no_grad()
def test_what_precision_costs(make: Callable[[], Field], tf32: float, bf16: float) -> None:
    """How far products of fewer bits move a surface, in cells of a lattice of 384 points."""
    torch.manual_seed(0)
    field = make()
    numbers = points_near_surface(field, 800)
    errors = {p: cells_moved(field, numbers, p) for p in ("ieee", "tf32x3", "tf32", "bf16")}
    print({name: f"{error:.1e}" for name, error in errors.items()})
    assert errors["tf32x3"] < 1e-3
    assert errors["tf32x3"] < 10 * errors["ieee"]
    assert errors["tf32"] > tf32
    assert errors["bf16"] > bf16


def points_near_surface(field: Field, count: int) -> Tensor:
    """(count, 3) lattice points within a factor of two of the iso-value."""
    numbers = torch.randint(0, POINTS, (60000, 3))
    density = field.lattice(torch.linspace(-1, 1, POINTS)).blocks(numbers, 1).flatten()
    near = (density / field.iso_density).log().abs() < 0.7
    assert near.sum() >= count
    return numbers[near][:count]


def cells_moved(field: Field, numbers: Tensor, precision: Precision) -> float:
    """The largest error of the density's logarithm over its slope per cell."""
    points = torch.linspace(-1, 1, POINTS)[numbers]
    first, *middle, last = field.mlp.linear_layers()
    hidden = first(sample_planes(field.planes[None], points[None])[0])
    for layer in middle:
        hidden = product(hidden.relu(), layer.weight.T, precision) + layer.bias
    raw = hidden.relu() @ last.weight[3] + last.bias[3]
    found = field.mlp.activate_density(raw).double()
    exact = in_float64(field)
    step = torch.eye(3, dtype=torch.float64) / (POINTS - 1)  # half a cell
    around = points.double()[:, None] + torch.stack([step, -step])[:, None]
    levels = exact.density(around.flatten(0, 2)).log().view(2, -1, 3)
    slope = (levels[0] - levels[1]).norm(dim=1)
    error = (found / exact.density(points.double())).log().abs()
    return float((error / slope.clamp_min(1e-9)).max())
