"""Muon: matrices of hidden layers change by steps whose singular values are all about one.

K. Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks". The scale of a
step is that of J. Liu et al. 2025, "Muon is scalable for LLM training" (section 2.2), with which
AdamW's learning rate and weight decay serve both.

Of matrices of one shape each process orthogonalises its share, and they exchange what comes out.
What a step computes does not depend on their number.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard

# Of the quintic polynomial that drives singular values to 0.7…1.2 in five rounds.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ROUNDS = 5
# Root mean square of what AdamW's steps change, in learning rates.
_ADAMW_RMS = 0.2
_TEAM = 8  # as many as share a machine's fast links


class Muon(torch.optim.Optimizer):
    """Nesterov's momentum, orthogonalised; decoupled weight decay.

    Args:
        parameters: matrices, whole or spread by FSDP.
        mesh: of the processes that share the work where each has all of the matrices; None: each
            does all of it. Those among which FSDP spreads parameters do so anyway.

    Attributes:
        found_inf: a scalar set before each step, as a fused AdamW has it: 1 leaves all as it is.
    """

    found_inf: Tensor

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        momentum: float,
        weight_decay: float,
        mesh: DeviceMesh | None = None,
    ) -> None:
        self._mesh = mesh
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["exp_avg"] = torch.zeros_like(parameter.detach())

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of every matrix that has a gradient."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[nn.Parameter]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike.setdefault(parameter.shape, []).append(parameter)
            for parameters in alike.values():
                self._step_alike(parameters, **{k: v for k, v in group.items() if k != "params"})

    def _step_alike(
        self, parameters: list[nn.Parameter], lr: float, momentum: float, weight_decay: float
    ) -> None:
        """Of matrices of one shape, which are orthogonalised together."""
        # FSDP gives each process a part of every parameter; of equal ones equal parts.
        parts, averages, gradients = (
            [_part(tensor) for tensor in tensors]
            for tensors in (
                parameters,
                [self.state[p]["exp_avg"] for p in parameters],
                [cast(Tensor, p.grad) for p in parameters],
            )
        )
        average, gradient = torch.stack(averages), torch.stack(gradients)
        # An average moves towards itself where the gradient is unsound.
        gradient = torch.where(self.found_inf > 0, average, gradient)
        average = average.lerp(gradient, 1 - momentum)
        torch._foreach_copy_(averages, average.unbind())
        ahead = gradient.lerp(average, momentum)
        del average, gradient  # what comes takes memory, too
        rate = lr * (1 - self.found_inf)
        rows, columns = parameters[0].shape
        scale = rate * _ADAMW_RMS * max(rows, columns) ** 0.5
        steps = scale * self._orthogonalized(ahead, parameters[0]).to(ahead.dtype)
        torch._foreach_mul_(parts, 1 - rate * weight_decay)
        torch._foreach_sub_(parts, steps.unbind())

    def _orthogonalized(self, parts: Tensor, like: nn.Parameter) -> Tensor:
        """Of (N, …) parts of matrices that are spread as `like` is, the parts of the results."""
        size = torch.Size((len(parts), *like.shape))
        if isinstance(like, DTensor):
            (placement,) = like.placements
            assert isinstance(placement, Shard)
            rows = Shard(placement.dim + 1)
            return _divided(orthogonalize, parts, size, like.device_mesh, rows)
        if self._mesh is None:
            return orthogonalize(parts)
        return _divided(orthogonalize, parts, size, self._mesh, Replicate())


def step_bytes(shapes: Iterable[torch.Size], sharing: int, spread: int, product_bytes: int) -> int:
    """What a step needs for a while, on the busiest process, besides moments and gradients.

    Args:
        shapes: of all matrices.
        sharing: how many processes share the work.
        spread: over how many processes FSDP spreads parameters; 1 without it.
        product_bytes: of a value in the iteration's products, 2 on a GPU.
    """

    def bytes_alike(shape: torch.Size, count: int) -> int:
        held = 4 * count * shape.numel() // spread  # of one copy, in float32
        mine = math.ceil(count / sharing)
        whole = mine * shape.numel()
        gram = mine * min(shape) ** 2
        # x, its multiple, a product and their sum; or before it two of these and four of grams.
        products = product_bytes * max(4 * whole + gram, 2 * whole + 4 * gram)
        received = 4 * whole if sharing > 1 else 0
        # Three copies: gradient, average and one that is changed; later two of the result.
        return max(3 * held, held + received + products)

    return max(bytes_alike(*alike) for alike in Counter(shapes).items())


def team_size(processes: int) -> int:
    """How many of so many processes that hold all matrices share the work."""
    return math.gcd(processes, _TEAM)


def orthogonalize(matrices: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """U Vᵀ of U S Vᵀ for each of (N, R, C), about: singular values end between 0.7 and 1.2.

    Args:
        dtype: of the Newton-Schulz iteration's products and of what comes out; None: bf16 on a GPU,
            else the matrices'.
    """
    dtype = dtype or (torch.bfloat16 if matrices.is_cuda else matrices.dtype)
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = (x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-12)).to(dtype)
    a, b, c = _COEFFICIENTS
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.mT if tall else x


def _part(tensor: Tensor) -> Tensor:
    """What this process has of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _divided(
    function: Callable[[Tensor], Tensor],
    parts: Tensor,
    size: torch.Size,
    mesh: DeviceMesh,
    placement: Placement,
) -> Tensor:
    """This process's part of what a function makes of (N, R, C) matrices, of each by itself.

    Args:
        parts: this process's of the matrices, which lie on the mesh as `placement` says.
        size: N, R, C.
    """
    stride = (size[1] * size[2], size[2], 1)

    def exchanged(local: Tensor, before: Placement, after: Placement) -> Tensor:
        spread = DTensor.from_local(
            local.contiguous(), mesh, [before], run_check=False, shape=size, stride=stride
        )
        return spread.redistribute(placements=[after]).to_local()

    whole = exchanged(parts, placement, Shard(0))  # some of them, none in pieces
    return exchanged(function(whole), Shard(0), placement)
