"""What a plan says of a run, against the paper and by hand; `test_costs` has the counting."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from model.lrm import LRM, parameter_counts
from tests.unit.planned import A100, by_part, plan, recipe_with
from train.costs import flops_per_sample, optimizer_flops
from train.muon import orthogonalize
from train.optimizer import hidden_matrices
from train.plan import (
    GPUS,
    PAPER_GPUS,
    PAPER_SAMPLES_PER_EPOCH,
    paper_efficiency,
    plan_rows,
    plan_training,
)
from train.recipe import DataConfig, LossConfig, OptimizerConfig, Recipe, RunConfig

H200 = GPUS["h200"]

# It builds the model on the meta device; these tests ask again and again.
COUNTED_ONCE = functools.cache(parameter_counts)


@pytest.fixture(autouse=True)
def count_parameters_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.plan.parameter_counts", COUNTED_ONCE)


def test_lrm_large_as_the_paper_trained_it() -> None:
    planned = plan(Recipe())
    assert PAPER_SAMPLES_PER_EPOCH == 1_391_305
    assert planned.steps == pytest.approx(30 * 1_391_305 / 1024, abs=1)
    assert planned.run_flops == pytest.approx(4.3e20, rel=0.25)
    assert paper_efficiency() == pytest.approx(0.04, abs=0.01)
    # Three days at that efficiency are what the plan says of it.
    again = plan_training(Recipe(), PAPER_GPUS, A100, paper_efficiency())
    assert again.days == pytest.approx(3.0)


def test_recomputing_is_told_apart_and_costs_no_useful_flops() -> None:
    plain, checkpointed = (
        recipe_with(perceptual=term, activation_checkpointing=again)
        for term, again in (("none", False), ("ssim", True))
    )
    assert sum(p.recomputed for p in flops_per_sample(plain)) == 0
    again = {name: part.recomputed for name, part in by_part(checkpointed).items()}
    parts = by_part(checkpointed)
    for name in ("field: MLP", "decoder: MLP", "decoder: cross-attention"):
        assert again[name] == parts[name].forward
    assert 0.99 * parts["encoder"].forward < again["encoder"] < parts["encoder"].forward
    assert again["plane upsampling"] == again["camera embedding"] == 0
    assert plan(plain).step_s == plan(checkpointed).step_s
    assert plan(plain).memory.peak > plan(checkpointed).memory.peak


def test_time_falls_with_gpus_and_efficiency() -> None:
    one = plan_training(Recipe(), 1, H200, 0.5)
    two = plan_training(Recipe(), 2, H200, 0.25)
    assert one.step_s == pytest.approx(1024 * one.flops_per_sample / (989e12 * 0.5))
    assert two.step_s == pytest.approx(one.step_s)
    assert one.days == pytest.approx(one.step_s * one.steps / 86_400)
    assert plan_training(Recipe(), 1, H200, 0.5, samples_per_epoch=2048).steps == 60


def test_processes_share_what_fsdp_spreads() -> None:
    total = plan(Recipe()).parameters["total"]
    ddp, fsdp = (
        plan(recipe_with(parallel=p, ema_decay=0.999, micro_batch_size=8), gpus=64).memory
        for p in ("ddp", "fsdp")
    )
    # Two micro batches of eight: FSDP holds whole gradients from one to the next.
    names = ["weights", "gradients", "the optimizer's moments", "averaged weights (EMA)"]
    assert [ddp.lasting[n] for n in names] == [4 * total, 4 * total, 8 * total, 4 * total]
    assert [fsdp.lasting[n] for n in names] == [
        *(4 * total // 64, 4 * total, 8 * total // 64, 4 * total // 64)
    ]
    whole = plan(recipe_with(parallel="fsdp"), gpus=64).memory
    assert whole.lasting["gradients"] == 4 * total // 64
    assert (ddp.exchange, fsdp.exchange) == (4 * total, 0)
    assert plan(Recipe(), gpus=1).memory.exchange == 0


def test_muon_keeps_one_moment_of_the_matrices_it_steps() -> None:
    adamw, muon = (
        plan(dataclasses.replace(Recipe(), optimizer=OptimizerConfig(name=name))).memory.lasting[
            "the optimizer's moments"
        ]
        for name in ("adamw", "muon")
    )
    width, image_width = 1024, 768  # a multiply by MLP_mod's two layers in each of three norms
    cross = 2 * width**2 + 2 * width * image_width
    decoder = cross + 4 * width**2 + 8 * width**2
    modulation = 3 * (width**2 + 2 * width**2)
    assert adamw - muon == 4 * (16 * (decoder + modulation) + 12 * 12 * image_width**2)


def test_what_muon_computes_is_what_torch_counts() -> None:
    recipe = dataclasses.replace(Recipe(), optimizer=OptimizerConfig(name="muon"))
    with torch.device("meta"):
        matrices = hidden_matrices(LRM(recipe.model))
    with FlopCounterMode(display=False) as counter:
        for matrix in matrices:
            orthogonalize(matrix.detach()[None])
    assert optimizer_flops(recipe, 1) == counter.get_total_flops()
    assert optimizer_flops(Recipe(), 1) == 0
    adamw, muon = plan(Recipe(), gpus=128), plan(recipe, gpus=128)
    rate = A100.bf16_flops_per_s * adamw.efficiency
    flops = optimizer_flops(recipe, 128)
    assert (muon.step_s - adamw.step_s) * rate == pytest.approx(flops)
    rows = [dict(plan_rows(planned)) for planned in (adamw, muon)]
    label = "  in it Muon's products, on each GPU"
    assert label not in rows[0]
    assert rows[1][label].endswith(" TFLOP")


def test_the_plan_tells_what_a_step_of_muon_takes() -> None:
    """It counts where a part of a step takes less: it comes after the backward pass."""
    small = RunConfig(
        batch_size=128, micro_batch_size=1, rays_per_chunk=64, activation_checkpointing=True
    )
    data, loss = DataConfig(views=1, crop=16), LossConfig(perceptual="none")
    adamw = Recipe(data=data, loss=loss, run=small)
    muon = dataclasses.replace(adamw, optimizer=OptimizerConfig(name="muon"))
    label = "  at a time: Muon's step, after the backward pass"
    assert label not in dict(plan_rows(plan(adamw)))
    assert dict(plan_rows(plan(muon)))[label].endswith(" GB")
    # Of each layer two of cross-attention, one of self-attention and three of MLP_mod are 1024².
    square = 16 * 6 * 1024**2
    memory = plan(muon, gpus=1).memory
    assert memory.step == 4 * square + 2 * 6 * square
    assert memory.peak == sum(memory.lasting.values()) + memory.step
    assert plan(muon, gpus=128).memory.step == 3 * 4 * square  # gradients and results are whole
    spread = dataclasses.replace(muon, run=dataclasses.replace(small, parallel="fsdp"))
    assert plan(spread, gpus=8).memory.step < memory.step / 6


def test_the_largest_micro_batch_is_the_last_that_fits() -> None:
    recipe = recipe_with(batch_size=64, rays_per_chunk=8192)
    largest = plan(recipe, gpus=1).largest_micro_batch
    assert 1 <= largest < 64
    assert not plan(recipe, gpus=1).fits
    for size, fits in ((largest, True), (largest + 1, False)):
        changed = recipe_with(batch_size=64, rays_per_chunk=8192, micro_batch_size=size)
        planned = plan(changed, gpus=1)
        assert (planned.micro_batch, planned.fits) == (size, fits)
        label = "fits" if fits else "DOES NOT FIT"
        row = dict(plan_rows(planned))[f"memory per GPU, {size} samples a forward pass"]
        assert row.endswith(f"of 40 GB: {label}")


def test_rows_say_what_is_assumed_and_left_out() -> None:
    rows = dict(plan_rows(plan(Recipe())))
    assert rows["parameters"].startswith("502,")
    assert rows["efficiency of useful FLOPs"].startswith("40.0% of")
    assert rows["efficiency of useful FLOPs"].endswith("(assumed)")
    assert "all-reduce is not modelled" in rows["time per step"]
    assert {"  encoder", "  field: MLP", "  perceptual (VGG-16)", "  weights"} <= rows.keys()
    given = dict(plan_rows(plan_training(Recipe(), 8, A100, 0.3)))
    assert given["efficiency of useful FLOPs"].endswith("(as given)")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"gpus": 3}, "run.batch_size is 1024; it must be a multiple of the 3 GPUs"),
        ({"gpus": 0}, "gpus is 0; it must be at least 1"),
        ({"efficiency": 0.0}, "efficiency is 0.0; it must be more than 0 and at most 1"),
        ({"efficiency": 1.5}, "efficiency is 1.5"),
        ({"samples_per_epoch": 0}, "samples_per_epoch is 0; it must be at least 1"),
    ],
)
def test_what_does_not_fit_is_told(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        plan_training(**{"recipe": Recipe(), "gpus": 4, "gpu": A100, **changes})
    assert sentence in str(caught.value)


def test_fsdp_needs_several_gpus() -> None:
    with pytest.raises(ValueError, match="needs several GPUs"):
        plan_training(recipe_with(parallel="fsdp"), 1, A100)
