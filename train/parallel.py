"""Several processes, one model, and what makes its layers cheaper; the network knows nothing of it.

ddp: every process holds the whole model and takes its share of every batch; gradients are
averaged by one all-reduce a step, after the last chunk of rays has been back-propagated
(`DistributedDataParallel` expects one backward pass through one forward call, which deferred
back-propagation is not). fsdp: parameters, gradients and moments are spread over the processes
(PyTorch's `fully_shard`), except the few of MLP_nerf, which is called once a chunk.

What a step computes does not depend on the number of processes, up to the order of sums.
"""

from __future__ import annotations

import datetime
import functools
import os
import warnings
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint

from model.lrm import LRM
from train.muon import team_size
from train.recipe import RunConfig

# Said where `run.compile` meets float32 products: there are few of them, small and so on purpose.
warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores .* available but not enabled")

# A lost node ends the job after this, not after NCCL's half hour.
COLLECTIVE_TIMEOUT = datetime.timedelta(minutes=3)


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

    def average_gradients(self, model: nn.Module, stop: bool) -> Tensor:
        """Average the gradients over all processes; those that FSDP spreads are already.

        Returns:
            A scalar above 0 if any process wants to stop, unread.
        """
        if self.size == 1:
            return torch.tensor(float(stop))
        trained = [p for p in model.parameters() if p.requires_grad]
        whole = [p for p in trained if not isinstance(p, DTensor)]
        # A process whose samples were all unreadable has none, and takes part with zeros.
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in whole]
        flag = gradients[0].new_full((1,), float(stop))
        flat = torch.cat([g.flatten() for g in gradients] + [flag])
        dist.all_reduce(flat)
        parts = flat[:-1].div_(self.size).split([g.numel() for g in gradients])
        for parameter, part in zip(whole, parts, strict=True):
            parameter.grad = part.view_as(parameter)
        return flat[-1]

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
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=COLLECTIVE_TIMEOUT)
    return Group(dist.get_rank(), dist.get_world_size()), device


def arrange(model: LRM, config: RunConfig, group: Group, device: torch.device) -> None:
    """Apply what the recipe says about layers and processes, in place.

    Raises:
        ValueError: fsdp is asked of a single process.
    """
    layers = model.layers()
    for layer in layers:
        if config.activation_checkpointing:
            layer.forward = functools.partial(  # type: ignore[method-assign]
                checkpoint,
                layer.forward,
                use_reentrant=False,
                preserve_rng_state=False,  # nothing in a layer is random
            )
        if config.compile:
            layer.forward = torch.compile(layer.forward)  # type: ignore[method-assign]
    if config.parallel == "ddp":
        return
    if group.size == 1:
        raise ValueError("run.parallel is 'fsdp', which needs several processes; this run has one")
    mesh = init_device_mesh(device.type, (group.size,))
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh, ignored_params=set(model.nerf.parameters()))


def team_mesh(group: Group, device: torch.device) -> DeviceMesh | None:
    """This process's team, neighbours by rank, which share an optimiser's work; None: it is alone.

    All processes must call this.
    """
    team = team_size(group.size)
    if team == 1:
        return None
    names = ("teams", "team")
    return init_device_mesh(device.type, (group.size // team, team), mesh_dim_names=names)["team"]


def is_spread(model: nn.Module) -> bool:
    """Whether the model's parameters are spread by FSDP."""
    return isinstance(model, FSDPModule)


def sum_gradients_over_parts(model: nn.Module, last: bool) -> None:
    """Before each part of a step: FSDP averages over processes after the last one only."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(last)


def release_gathered(model: nn.Module) -> None:
    """After a forward pass without a backward one: FSDP must gather the parameters anew."""
    if isinstance(model, FSDPModule):
        model.reshard()


def whole(tensor: Tensor) -> Tensor:
    """A copy of a parameter on the CPU, gathered where FSDP spreads it; all must call this."""
    tensor = tensor.detach()
    tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return tensor.to("cpu", copy=True)
