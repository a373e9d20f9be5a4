"""Kernels: interpreted on the CPU, compiled without a GPU, and run on one where it is there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

triton = pytest.importorskip("triton")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from model.kernels import field_kernels  # noqa: E402
from tests.unit.fused_field import check_fused_field, make_mlp, points_on_rays  # noqa: E402
from tests.unit.interpreting import run_interpreted  # noqa: E402


def test_equal_to_plain_pytorch_in_the_interpreter() -> None:
    run_interpreted(Path(__file__).with_name("interpreted_kernels.py"))


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("kernel", ["forward_kernel", "live_tiles_kernel", "backward_kernel"])
def test_compiles_for_gpus_without_one(capability: int, kernel: str) -> None:
    """A100 and H100 machine code, with lrm-large's sizes and the registers that they are given."""
    options = {"num_warps": 4} | ({"maxnreg": 168} if kernel == "forward_kernel" else {})
    function = getattr(field_kernels, kernel)
    constants = {"W": 64, "L": 8, "COPIES": 16, "PRECISION": "tf32"}
    constants = {name: v for name, v in constants.items() if name in function.arg_names}
    sizes, integers = {"rays", "row", "samples", "R"}, {"live_ptr", "count_ptr"}
    in_float32 = {"points_ptr", "raw_ptr", "limit_ptr"}
    in_float32 |= {name for name in function.arg_names if name[:2] == "d_"}
    signature = {
        name: "constexpr"
        if name in constants
        else "i32"
        if name in sizes
        else "*i32"
        if name in integers
        else "*fp32"
        if name in in_float32
        else "*bf16"
        for name in function.arg_names
    }
    compiled = triton.compile(
        ASTSource(function, signature, constants),
        target=GPUTarget("cuda", capability, 32),
        options=options,
    )
    assert compiled.asm["cubin"]
    assert compiled.metadata.shared <= 160 * 1024  # of an A100's multiprocessor
    if kernel != "live_tiles_kernel":  # the products are the tensor cores'
        assert ("wgmma" if capability == 90 else "mma.sync") in compiled.asm["ptx"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_on_a_gpu(dtype: torch.dtype, tolerance: float) -> None:
    mlp = make_mlp(layers=10, width=64, channels=80).cuda()
    points = points_on_rays(side=32, samples=128, batch=2)
    check_fused_field(points, mlp, tolerance, 64, row=32, dtype=dtype)
