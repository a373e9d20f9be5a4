"""The plan against torch's FLOP counter, against what autograd saves, and against the paper."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from model.cameras import Cameras
from model.config import (
    DecoderConfig,
    EncoderConfig,
    LrmConfig,
    NerfConfig,
    TriplaneConfig,
    preset,
)
from model.lrm import LRM, parameter_counts
from model.nerf import NerfMLP
from model.rendering import render_rays
from model.triplane import sample_planes
from train.costs import PartFlops, flops_per_sample, memory_per_gpu, optimizer_flops
from train.muon import orthogonalize
from train.optimizer import hidden_matrices
from train.plan import (
    GPUS,
    PAPER_GPUS,
    PAPER_SAMPLES_PER_EPOCH,
    Plan,
    paper_efficiency,
    plan_rows,
    plan_training,
)
from train.recipe import DataConfig, LossConfig, OptimizerConfig, Recipe, RunConfig

A100, H200 = GPUS["a100"], GPUS["h200"]

# It builds the model on the meta device; these tests ask again and again.
COUNTED_ONCE = functools.cache(parameter_counts)

# Small, and yet wide and long enough that what the formulas leave out does not matter.
SMALL = LrmConfig(
    encoder=EncoderConfig(image_size=96, patch_size=8, width=48, layers=2, heads=2),
    decoder=DecoderConfig(layers=3, width=64, heads=2, token_resolution=8, camera_width=8),
    triplane=TriplaneConfig(channels=4),
)


@pytest.fixture(autouse=True)
def count_parameters_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.plan.parameter_counts", COUNTED_ONCE)


def recipe_with(model: LrmConfig | None = None, perceptual: Any = "lpips", **run: Any) -> Recipe:
    return Recipe(
        model=model or LrmConfig(), loss=LossConfig(perceptual=perceptual), run=RunConfig(**run)
    )


def by_part(recipe: Recipe) -> dict[str, PartFlops]:
    return {part.part: part for part in flops_per_sample(recipe)}


def inputs_of(config: LrmConfig, batch: int, device: str) -> tuple[Tensor, Cameras]:
    size = config.encoder.image_size
    images = torch.rand(batch, 3, size, size, device=device)
    cameras = Cameras(torch.rand(batch, 4, 4, device=device), torch.rand(batch, 4, device=device))
    return images, cameras


BASE = preset("lrm-base")
NETWORKS = {
    **{name: preset(name) for name in ("lrm-large", "lrm-base", "lrm-tiny")},
    "as OpenLRM": dataclasses.replace(
        BASE,
        encoder=EncoderConfig(image_size=336, patch_size=14, registers=4, pretrained=None),
        decoder=dataclasses.replace(BASE.decoder, modulation="linear"),
        triplane=dataclasses.replace(BASE.triplane, axes=("+x+y", "+x+z", "+z+y")),
    ),
    "as TripoSR": dataclasses.replace(
        BASE,
        decoder=dataclasses.replace(
            BASE.decoder, modulation="none", feed_forward="geglu", ends="residual"
        ),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_s_flops_are_those_that_torch_counts(name: str) -> None:
    config = NETWORKS[name]
    with torch.device("meta"):
        model = LRM(config).to("meta")
    # MATH: attention as plain products. Fused kernels compute theirs again in backward, and the
    # counter counts that, which is not useful work. (On meta it is what torch chooses anyway.)
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as forward:
            planes = model(*inputs_of(config, 1, "meta"))
        with FlopCounterMode(display=False) as backward:
            planes.sum().backward()
    parts = by_part(recipe_with(config))
    network = [p for name, p in parts.items() if not name.startswith(("field", "perceptual"))]
    assert sum(p.forward for p in network) == pytest.approx(forward.get_total_flops(), rel=1e-3)
    assert sum(p.backward for p in network) == pytest.approx(backward.get_total_flops(), rel=1e-3)

    def counted(*names: str) -> int:
        counts = forward.get_flop_counts()
        return sum(sum(counts[n].values()) for n in counts if n.endswith(names))

    for part, names in {
        "encoder": ["LRM.encoder"],
        "camera embedding": ["LRM.camera_embedding"],
        "modulation (MLP_mod)": ["norm.mlp"],
        "decoder: cross-attention": [".cross_attention"],
        "decoder: self-attention": [".self_attention"],
        "plane upsampling": ["LRM.upsampler"],
    }.items():
        found = parts[part].forward if part in parts else 0
        assert found == pytest.approx(counted(*names), rel=1e-3), part
    assert ("decoder: ends" in parts) == (config.decoder.ends == "residual")
    assert ("camera embedding" in parts) == (config.decoder.modulation != "none")


@pytest.mark.parametrize("name", ["lrm-large", "lrm-base", "lrm-tiny"])
def test_the_field_s_flops_are_those_that_torch_counts(name: str) -> None:
    config = preset(name)
    data = DataConfig(views=3, crop=20)
    recipe = Recipe(model=config, data=data, run=RunConfig(samples_per_ray=7))
    side = config.decoder.token_resolution * config.triplane.upsample
    with torch.device("meta"):
        mlp = NerfMLP(config.nerf, 3 * config.triplane.channels)
        planes = torch.empty(1, 3, config.triplane.channels, side, side, requires_grad=True)
        points = torch.empty(1, 3 * 20**2 * 7, 3)
    with FlopCounterMode(display=False) as forward:
        densities, colors = mlp(sample_planes(planes, points))  # sampling is not counted
    with FlopCounterMode(display=False) as backward:
        (densities.sum() + colors.sum()).backward()
    part = by_part(recipe)["field: MLP"]
    assert part.forward == forward.get_total_flops()
    assert part.backward == backward.get_total_flops()
    assert planes.grad is not None
    # Of four texels of every plane, each channel: a product and a sum.
    sampling = by_part(recipe)["field: plane sampling"]
    assert sampling.forward == sampling.backward == 8 * 3 * config.triplane.channels * 3 * 400 * 7


def test_lpips_costs_what_torch_counts_and_keeps_about_what_autograd_saves() -> None:
    lpips = pytest.importorskip("lpips")
    with torch.device("meta"):
        network = lpips.LPIPS(net="vgg", pretrained=False, pnet_rand=True, verbose=False)
        network = network.eval().requires_grad_(False).to("meta")
        predicted = torch.empty(4, 3, 128, 128, requires_grad=True)
        target = torch.empty(4, 3, 128, 128)
    with FlopCounterMode(display=False) as counter:
        saved = saved_bytes(network, lambda: network(predicted, target).sum().backward())
    assert by_part(Recipe())["perceptual (VGG-16)"].useful == pytest.approx(
        counter.get_total_flops(), rel=0.02
    )
    planned = memory_per_gpu(Recipe(), 128, 1, plan(Recipe()).parameters).passing
    # Besides what is saved, LPIPS holds features of both pictures until it is done.
    assert 1.0 < planned["perceptual network"] / saved < 1.6


def saved_bytes(module: nn.Module, run: Callable[[], object]) -> int:
    """Bytes of the distinct storages, parameters left out, that autograd saves in `run`."""
    own = {p.untyped_storage()._cdata for p in module.parameters()}
    kept: dict[int, Tensor] = {}  # tensors stay alive here: no storage takes another's place

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(t.untyped_storage().nbytes() for key, t in kept.items() if key not in own)


def plan(recipe: Recipe, gpus: int = PAPER_GPUS) -> Plan:
    return plan_training(recipe, gpus, A100)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_transformer_s_activations_are_what_autograd_saves(
    dtype: str, checkpointing: bool
) -> None:
    model = LRM(SMALL)
    if checkpointing:
        for layer in (*model.encoder.vit.blocks, *model.decoder.layers):
            forward = layer.forward
            layer.forward = (  # type: ignore[method-assign]
                lambda *x, forward=forward: checkpoint(forward, *x, use_reentrant=False)
            )
    images, cameras = inputs_of(SMALL, 4, "cpu")
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
        saved = saved_bytes(model, lambda: model(images, cameras))
    run = {"batch_size": 4, "dtype": dtype, "activation_checkpointing": checkpointing}
    held = plan(recipe_with(SMALL, **run), gpus=1).memory.held
    copies = held.get("bf16 copies of the weights", 0)
    assert (copies > 0) == (dtype == "bf16" and not checkpointing)
    assert held["activations of the transformer"] + copies == pytest.approx(saved, rel=0.05)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_chunk_of_rays_takes_what_autograd_saves(dtype: str) -> None:
    config = dataclasses.replace(SMALL, nerf=NerfConfig(layers=6, width=32))
    mlp = NerfMLP(config.nerf, 3 * config.triplane.channels)
    planes = torch.rand(2, 3, config.triplane.channels, 16, 16, requires_grad=True)

    def field(points: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
            return mlp(sample_planes(planes, points))

    origins = torch.tensor([0.0, -2.0, 0.0]).expand(2, 256, 3)
    directions = nn.functional.normalize(torch.randn(2, 256, 3) * 0.1 + torch.tensor([0, 1.0, 0]))
    saved = saved_bytes(
        mlp, lambda: render_rays(field, origins, directions, 16, 1.0, torch.rand(2, 256, 1))
    )
    recipe = recipe_with(config, batch_size=2, dtype=dtype, samples_per_ray=16, rays_per_chunk=512)
    chunk = plan(recipe, gpus=1).memory.passing["one chunk of rays"]
    assert chunk == pytest.approx(saved, rel=0.05)


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


def test_what_muon_computes_is_divided() -> None:
    """Evenly where each shape's matrices are a multiple of the GPUs that share them."""
    recipe = dataclasses.replace(Recipe(), optimizer=OptimizerConfig(name="muon"))
    with torch.device("meta"):
        matrices = hidden_matrices(LRM(recipe.model))
    counts = Counter(matrix.shape for matrix in matrices).values()
    assert all(count % 4 == 0 for count in counts)
    alone = optimizer_flops(recipe, 1)
    assert optimizer_flops(recipe, 4) == alone / 4
    assert optimizer_flops(recipe, 12) == alone / 4  # teams of four
    assert alone / 8 <= optimizer_flops(recipe, 128) < alone / 6
    spread = dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, parallel="fsdp"))
    assert optimizer_flops(spread, 4) == alone / 4
    assert optimizer_flops(spread, 128) < alone / 12  # no fewer than one of each shape


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
