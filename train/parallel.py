"""Several processes, one model: each takes its share of every batch, gradients are averaged.

Data parallel by one all-reduce a step, after the last chunk of rays has been back-propagated:
`DistributedDataParallel` expects one backward pass through one forward call, which deferred
back-propagation is not. What a step computes does not depend on the number of processes, up
to the order of sums.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Group:
    """This process's place among all processes of the run."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that logs and saves."""
        return self.rank == 0

    def share(self, batch: range) -> range:
        """This process's part of a batch's sample indices.

        Raises:
            ValueError: the batch cannot be split evenly.
        """
        if len(batch) % self.size:
            raise ValueError(
                f"run.batch_size is {len(batch)}; it must be a multiple of the {self.size} "
                "processes"
            )
        part = len(batch) // self.size
        return batch[self.rank * part : (self.rank + 1) * part]

    def average_gradients(self, model: nn.Module, stop: bool) -> bool:
        """Average the gradients over all processes; true if any of them wants to stop."""
        if self.size == 1:
            return stop
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        flag = gradients[0].new_full((1,), float(stop))
        flat = torch.cat([g.flatten() for g in gradients] + [flag])
        dist.all_reduce(flat)
        parts = flat[:-1].div_(self.size).split([g.numel() for g in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        return bool(flat[-1] > 0)

    def average(self, values: dict[str, Tensor]) -> dict[str, float]:
        """Scalars averaged over all processes; all of them must call this."""
        stacked = torch.stack(list(values.values())).float()
        if self.size > 1:
            dist.all_reduce(stacked)
            stacked /= self.size
        return dict(zip(values, stacked.tolist(), strict=True))


def join_group(device: torch.device) -> tuple[Group, torch.device]:
    """Join the processes that torchrun or a like launcher started; a group of one without.

    Returns:
        The group, and this process's device: `cuda` becomes its local rank's GPU.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Group(), device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Group(dist.get_rank(), dist.get_world_size()), device
