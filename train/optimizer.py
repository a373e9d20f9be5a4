"""Appendix B: AdamW in two groups, cosine schedule with linear warm-up, clipping.

In place of AdamW the matrices of the transformers' layers may have `train.muon`.

Nothing here waits for the device: whether a step is sound is decided and counted there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from model.lrm import LRM
from train.muon import Muon
from train.recipe import OptimizerConfig


def freeze(model: LRM, config: OptimizerConfig) -> None:
    """Have the parts that the recipe names stay as they are.

    Raises:
        ValueError: nothing would be left to train.
    """
    for part in config.freeze:
        module = getattr(model, part)
        if module is not None:  # a model may have no camera embedding
            module.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        names = ", ".join(config.freeze)
        raise ValueError(f"optimizer.freeze is {names}: nothing is left to train")


def build_optimizers(
    model: nn.Module, config: OptimizerConfig, mesh: DeviceMesh | None = None
) -> list[torch.optim.AdamW | Muon]:
    """What steps the parameters, each of them one: AdamW, and Muon where the recipe says so.

    Weight decay only on weights that are neither biases nor in layer norms (App. B).

    Args:
        mesh: see `Muon`.
    """
    hidden = hidden_matrices(model) if config.name == "muon" else []
    by_muon = {id(matrix) for matrix in hidden}
    plain = {
        id(p)
        for module in model.modules()
        for name, p in module.named_parameters(recurse=False)
        if isinstance(module, nn.LayerNorm) or name == "bias"
    }
    # A fused step takes tensors of one kind only: those that FSDP spreads, or whole ones.
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad and id(parameter) not in by_muon:
            kind = (id(parameter) in plain, isinstance(parameter, DTensor))
            groups.setdefault(kind, []).append(parameter)
    adamw = torch.optim.AdamW(
        [
            {"params": groups[kind], "weight_decay": 0.0 if kind[0] else config.weight_decay}
            for kind in sorted(groups)
        ],
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        fused=True,
    )
    if not hidden:
        return [adamw]
    return [adamw, Muon(hidden, config.lr, config.momentum, config.weight_decay, mesh)]


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """What Muon steps: the weights of linear layers within the transformers."""
    assert isinstance(model, LRM)
    modules = [module for layer in model.layers() for module in layer.modules()]
    matrices = [
        module.get_parameter("weight") for module in modules if isinstance(module, nn.Linear)
    ]
    return [matrix for matrix in matrices if matrix.requires_grad]


def learning_rate(step: int, total_steps: int, config: OptimizerConfig) -> float:
    """The rate of step 0, 1, …: linear warm-up to lr, then a half cosine to lr · final ratio."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    span = max(1, total_steps - config.warmup_steps)
    progress = min(1.0, (step - config.warmup_steps) / span)
    floor = config.lr * config.final_lr_ratio
    return floor + (config.lr - floor) * 0.5 * (1 + math.cos(math.pi * progress))


class GuardedSteps:
    """Takes the steps whose gradient is sound and counts the others.

    Attributes:
        skipped: (2,) steps not taken: in all, and in a row up to now.
    """

    def __init__(self, optimizers: list[torch.optim.AdamW | Muon], config: OptimizerConfig) -> None:
        self.optimizers = optimizers
        self.config = config
        parameters = self.parameters()
        spread = [p for p in parameters if isinstance(p, DTensor)]
        whole = [p for p in parameters if not isinstance(p, DTensor)]
        self._kinds = [kind for kind in (spread, whole) if kind]
        self.skipped = torch.zeros(2, device=parameters[0].device)

    def parameters(self) -> list[nn.Parameter]:
        """All that are trained."""
        return [p for o in self.optimizers for group in o.param_groups for p in group["params"]]

    def moments(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """What is kept of a parameter's gradients, by name; steps change it in place."""
        if not parameter.requires_grad:
            return {}
        adamw, *muon = self.optimizers
        if muon and parameter in muon[0].state:
            return muon[0].state[parameter]
        kept = adamw.state[parameter]
        if not kept:  # AdamW makes them at its first step only
            kept["step"] = torch.zeros((), device=parameter.device)
            kept["exp_avg"] = torch.zeros_like(parameter.detach())
            kept["exp_avg_sq"] = torch.zeros_like(parameter.detach())
        return kept

    def step(self, rate: float) -> Tensor:
        """Clip, step where the gradient is sound, forget the gradients.

        Returns:
            The gradients' norm before clipping.
        """
        norm = self._norm()
        for kind in self._kinds if self.config.clip_norm else ():
            nn.utils.clip_grads_with_norm_(kind, self.config.clip_norm, norm)
        bad = (~(norm.isfinite() & (norm <= self.config.skip_norm))).float()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            # What a gradient scaler tells a fused optimiser: leave everything as it is.
            optimizer.found_inf = bad  # type: ignore[union-attr]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.skipped = torch.stack([self.skipped[0] + bad, (self.skipped[1] + 1) * bad])
        return norm

    def _norm(self) -> Tensor:
        norms = []
        for kind in self._kinds:
            norm = nn.utils.get_total_norm([p.grad for p in kind if p.grad is not None])
            norms.append(norm.full_tensor() if isinstance(norm, DTensor) else norm)
        return torch.stack(norms).norm()


class AveragedWeights:
    """An exponential moving average of a model's parameters.

    The decay grows to its final value over the first steps, so that the initial weights are
    forgotten early.

    Attributes:
        values: by parameter name, spread over processes as the parameters are.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._parameters = dict(model.named_parameters())
        self.values = {name: p.detach().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after `step` steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        spread: list[tuple[Tensor, Tensor]] = []
        whole: list[tuple[Tensor, Tensor]] = []  # operations on lists take tensors of one kind only
        for name, parameter in self._parameters.items():
            pair = self.values[name], parameter.detach()
            (spread if isinstance(parameter, DTensor) else whole).append(pair)
        for pairs in filter(None, (spread, whole)):
            values, parameters = zip(*pairs, strict=True)
            torch._foreach_lerp_(values, parameters, 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """In here the model computes with the averaged weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self._parameters.items():
            own = parameter.detach().clone()
            parameter.copy_(self.values[name])
            self.values[name].copy_(own)
