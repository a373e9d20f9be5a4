"""Muon: its polynomial against singular vectors, its step against PyTorch's own, what it steps."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from model.config import LrmConfig
from model.initialization import initialize
from model.lrm import LRM
from train.muon import Muon, orthogonalize, team_size
from train.optimizer import GuardedSteps, build_optimizers
from train.parallel import Group, team_mesh
from train.recipe import OptimizerConfig

MUON = OptimizerConfig(name="muon", lr=0.01, momentum=0.8, weight_decay=0.1)


@pytest.mark.parametrize("shape", [(3, 24, 24), (2, 16, 48), (2, 48, 16), (1, 1, 8)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(None, 1e-4), (torch.bfloat16, 0.05)])
def test_singular_vectors_stay_and_singular_values_come_near_one(
    shape: tuple[int, int, int], dtype: torch.dtype | None, tolerance: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    left = torch.linalg.qr(torch.randn(shape[0], shape[1], shape[1], generator=generator))[0]
    right = torch.linalg.qr(torch.randn(shape[0], shape[2], shape[2], generator=generator))[0]
    rank = min(shape[1:])
    values = torch.linspace(1.0, 0.05, rank)
    left, right = left[..., :rank], right[..., :rank]
    steps = orthogonalize(7 * (left * values) @ right.mT, dtype)
    assert steps.dtype == (dtype or torch.float32)
    found = left.mT @ steps.float() @ right
    diagonal = found.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(found, torch.diag_embed(diagonal), rtol=0, atol=tolerance)
    assert diagonal.min() > 0.65
    assert diagonal.max() < 1.25


def test_no_gradient_at_all_is_no_step() -> None:
    assert torch.equal(orthogonalize(torch.zeros(2, 4, 8)), torch.zeros(2, 4, 8))


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this PyTorch has no Muon")
def test_steps_are_those_of_pytorchs_muon() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(8, 24), (24, 8), (8, 24)]
    start = [torch.randn(shape, generator=generator) for shape in shapes]
    ours, theirs = ([torch.nn.Parameter(t.clone()) for t in start] for _ in range(2))
    muon = Muon(ours, lr=0.1, momentum=0.9, weight_decay=0.2)
    muon.found_inf = torch.zeros(())
    other = torch.optim.Muon(
        theirs, lr=0.1, momentum=0.9, weight_decay=0.2, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(3):
        for mine, its in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator)
            its.grad = mine.grad.clone()
        muon.step()
        other.step()
    for mine, its, first in zip(ours, theirs, start, strict=True):
        # Theirs is in bf16: singular values, of which steps are made, differ by hundredths.
        change = (its - first).norm()
        assert change > 0.2
        assert (mine - its).norm() < 0.02 * change


def test_it_steps_the_matrices_of_the_transformers(tiny_config: LrmConfig) -> None:
    model = LRM(tiny_config)
    names = {id(p): name for name, p in model.named_parameters()}
    adamw, muon = build_optimizers(model, MUON)
    by_adamw, by_muon = (
        {names[id(p)] for group in optimizer.param_groups for p in group["params"]}
        for optimizer in (adamw, muon)
    )
    assert by_adamw | by_muon == set(names.values())
    assert not by_adamw & by_muon
    assert all(model.get_parameter(name).ndim == 2 for name in by_muon)
    settings = {name: value for name, value in muon.param_groups[0].items() if name != "params"}
    assert settings == {"lr": 0.01, "momentum": 0.8, "weight_decay": 0.1}
    assert {
        "encoder.vit.blocks.0.attn.qkv.weight",
        "decoder.layers.0.cross_attention.to_key_value.weight",
        "decoder.layers.0.mlp.2.weight",
    } <= by_muon
    assert {
        "decoder.tokens",
        "camera_embedding.0.weight",
        "nerf.layers.1.weight",
        "decoder.layers.0.mlp.0.bias",
    } <= by_adamw


def set_gradients(model: LRM, value: float | None = None) -> None:
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    if value is not None:
        next(model.parameters()).grad.flatten()[0] = value  # type: ignore[union-attr]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e9])
def test_unsound_gradients_change_nothing(tiny_config: LrmConfig, bad: float) -> None:
    model = LRM(tiny_config)
    initialize(model, 0)
    steps = GuardedSteps(build_optimizers(model, MUON), MUON)
    set_gradients(model)
    steps.step(0.01)

    def state() -> list[torch.Tensor]:
        kept = [value for p in model.parameters() for value in steps.moments(p).values()]
        return [t.detach().clone() for t in (*model.parameters(), *kept)]

    before = state()
    set_gradients(model, bad)
    assert float(steps.step(0.01)) == pytest.approx(bad, nan_ok=True)
    assert steps.skipped.tolist() == [1, 1]
    assert all(torch.equal(a, b) for a, b in zip(state(), before, strict=True))
    set_gradients(model)
    steps.step(0.01)
    assert not any(torch.equal(a, b) for a, b in zip(state(), before, strict=True))


def test_the_rate_is_that_of_the_schedule(tiny_config: LrmConfig) -> None:
    config = dataclasses.replace(MUON, weight_decay=0.0)
    changes = []
    for rate in (0.01, 0.02):
        model = LRM(tiny_config)
        initialize(model, 0)
        weight = model.layers()[0].get_parameter("attn.qkv.weight")
        before = weight.detach().clone()
        steps = GuardedSteps(build_optimizers(model, config), config)
        set_gradients(model)
        steps.step(rate)
        changes.append(weight.detach() - before)
    torch.testing.assert_close(changes[1], 2 * changes[0], rtol=1e-3, atol=1e-6)
    # As large as AdamW's steps are.
    assert changes[0].square().mean().sqrt() == pytest.approx(0.2 * 0.01, rel=0.25)


# Five of one shape for four processes, one for one of them, and one with too few rows for all.
SHAPES = [(8, 12)] * 5 + [(12, 8), (2, 6)]
PROCESSES, TEAM = 4, 2


def two_steps(muon: Muon) -> None:
    muon.found_inf = torch.zeros(())
    for seed in (1, 2):
        generator = torch.Generator().manual_seed(seed)
        for matrix in muon.param_groups[0]["params"]:
            gradient = torch.randn(matrix.shape, generator=generator)
            if isinstance(matrix, DTensor):
                gradient = distribute_tensor(gradient, matrix.device_mesh, matrix.placements)
            matrix.grad = gradient
        muon.step()


def keep_company(rank: int, folder: Path) -> None:
    """One of the processes."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=PROCESSES
    )
    for products in (torch.float32, torch.bfloat16):
        step_alone_and_together(rank, products)
    dist.destroy_process_group()


def step_alone_and_together(rank: int, products: torch.dtype) -> None:
    """The matrices spread and not, among all processes and in teams."""
    mesh = init_device_mesh("cpu", (PROCESSES,))
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator) for shape in SHAPES]
    alone, together = ([torch.nn.Parameter(t.clone()) for t in start] for _ in range(2))
    spread = [torch.nn.Parameter(distribute_tensor(t, mesh, [Shard(0)])) for t in start]
    worked_on: list[int] = []

    def counted(matrices: torch.Tensor) -> torch.Tensor:
        worked_on.append(len(matrices))
        return orthogonalize(matrices, products)

    settings = (0.1, 0.9, 0.2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("train.muon.orthogonalize", counted)
        two_steps(Muon(alone, *settings))
        assert worked_on == [5, 1, 1] * 2
        worked_on.clear()
        patch.setattr("train.muon._TEAM", TEAM)
        team = team_mesh(Group(rank, PROCESSES), torch.device("cpu"))
        assert team is not None
        two_steps(Muon(together, *settings, team))
        two_steps(Muon(spread, *settings))
    # Of five, one and one: in a team of two, and of all four.
    in_team = [[3, 1, 1], [2, 0, 0]][rank % TEAM]
    among_all = [[2, 1, 1], [2, 0, 0], [1, 0, 0], [0, 0, 0]][rank]
    assert worked_on == in_team * 2 + among_all * 2
    tolerance = 1e-4 if products == torch.float32 else 0.02
    for before, one, other, part in zip(start, alone, together, spread, strict=True):
        change = (one - before).norm()
        assert change > 0.1
        assert (other - one).norm() < tolerance * change
        assert (part.full_tensor() - one).norm() < tolerance * change  # type: ignore[attr-defined]


def test_processes_share_the_work_and_agree(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(keep_company, (tmp_path,), nprocs=PROCESSES)


@pytest.mark.parametrize(("processes", "team"), [(1, 1), (2, 2), (6, 2), (8, 8), (12, 4), (128, 8)])
def test_teams_are_neighbours_of_at_most_eight(processes: int, team: int) -> None:
    assert team_size(processes) == team
