"""Muon: matrices of hidden layers change by steps whose singular values are all about one.

K. Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks". The scale of a
step is that of J. Liu et al. 2025, "Muon is scalable for LLM training" (section 2.2), with which
AdamW's learning rate and weight decay serve both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate, Shard

# Of the quintic polynomial that drives singular values to 0.7…1.2 in five rounds.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ROUNDS = 5
# Root mean square of what AdamW's steps change, in learning rates.
_ADAMW_RMS = 0.2


class Muon(torch.optim.Optimizer):
    """Nesterov's momentum, orthogonalised; decoupled weight decay.

    Args:
        parameters: matrices, whole or spread by FSDP.

    Attributes:
        found_inf: a scalar set before each step, as a fused AdamW has it: 1 leaves all as it is.
    """

    found_inf: Tensor

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, momentum: float, weight_decay: float
    ) -> None:
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
        rate = lr * (1 - self.found_inf)
        rows, columns = parameters[0].shape
        scale = rate * _ADAMW_RMS * max(rows, columns) ** 0.5
        steps = scale * _of_whole(orthogonalize, ahead, parameters[0])
        torch._foreach_mul_(parts, 1 - rate * weight_decay)
        torch._foreach_sub_(parts, steps.unbind())


def orthogonalize(matrices: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """U Vᵀ of U S Vᵀ for each of (N, R, C), about: singular values end between 0.7 and 1.2.

    Args:
        dtype: of the Newton-Schulz iteration's products; None: bf16 on a GPU, else the matrices'.
    """
    dtype = dtype or (torch.bfloat16 if matrices.is_cuda else matrices.dtype)
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = (x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-12)).to(dtype)
    a, b, c = _COEFFICIENTS
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return (x.mT if tall else x).to(matrices.dtype)


def _part(tensor: Tensor) -> Tensor:
    """What this process has of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _of_whole(function: Callable[[Tensor], Tensor], parts: Tensor, like: Tensor) -> Tensor:
    """This process's part of what a function makes of whole matrices.

    Args:
        parts: (N, …) its parts of matrices that are spread as `like` is.
    """
    if not isinstance(like, DTensor):
        return function(parts)
    mesh, (placement,) = like.device_mesh, like.placements
    assert isinstance(placement, Shard)
    spread = [Shard(placement.dim + 1)]
    shape = torch.Size((len(parts), *like.shape))
    stride = (shape[1] * shape[2], shape[2], 1)
    whole = DTensor.from_local(parts, mesh, spread, shape=shape, stride=stride).full_tensor()
    copies = DTensor.from_local(function(whole), mesh, [Replicate()])
    return copies.redistribute(placements=spread).to_local()
