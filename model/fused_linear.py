"""A linear layer and its activation in one pass over memory, on the CPU and without gradients.

PyTorch writes the bias, the product and its activation one after the other, the first and the last
into fresh memory. oneDNN, which does the product, can add the bias and apply the activation while
a tile of it is still in registers. PyTorch's compiler asks it to, through operators that can be
called without compiling anything. They are no public interface, so they are tried before they
are used; wherever they do not answer, or wrongly, plain PyTorch does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Activation = Literal["relu", "gelu", "silu"]
_PLAIN: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu, "silu": F.silu}
_ONEDNN_NAMES = {"relu": "relu", "gelu": "gelu", "silu": "swish"}


def activated_linear(x: Tensor, weight: Tensor, bias: Tensor, activation: Activation) -> Tensor:
    """activation(x · weightᵀ + bias); GELU is the exact one.

    Args:
        x: (..., I).
        weight: (O, I).
        bias: (O,).

    Returns:
        (..., O).
    """
    if (
        x.device.type == "cpu"
        and x.dtype == weight.dtype
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and _fused_works(activation, x.dtype)
    ):
        return _fused(x, weight, bias, activation)
    return _PLAIN[activation](F.linear(x, weight, bias))


def _fused(x: Tensor, weight: Tensor, bias: Tensor, activation: Activation) -> Tensor:
    how = "none" if activation == "gelu" else ""  # as opposed to "tanh"
    name = _ONEDNN_NAMES[activation]
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, name, [], how)


@functools.cache
def _fused_works(activation: Activation, dtype: torch.dtype) -> bool:
    """Whether the operator is there, takes this dtype and gives what it should."""
    if dtype not in (torch.float32, torch.bfloat16):
        return False
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 5, 32, generator=generator).to(dtype)
    weight = torch.randn(16, 32, generator=generator).to(dtype)
    bias = torch.randn(16, generator=generator).to(dtype)
    exact = _PLAIN[activation](F.linear(x.double(), weight.double(), bias.double()))
    try:
        found = _fused(x, weight, bias, activation).double()
    except (RuntimeError, AttributeError):  # this PyTorch, or this CPU, has none
        return False
    return bool((found - exact).abs().max() < 8 * torch.finfo(dtype).eps * exact.abs().max())
