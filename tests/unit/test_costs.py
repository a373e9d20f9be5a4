"""What is counted of a training sample, against torch's FLOP counter and what autograd saves."""

from __future__ import annotations

import dataclasses
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
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
from model.lrm import LRM
from model.nerf import NerfMLP
from model.rendering import render_rays
from model.triplane import sample_planes
from tests.unit.planned import by_part, plan, recipe_with
from train.costs import memory_per_gpu, optimizer_flops
from train.muon import Muon, step_bytes
from train.optimizer import hidden_matrices
from train.recipe import DataConfig, OptimizerConfig, Recipe, RunConfig

# Small, and yet wide and long enough that what the formulas leave out does not matter.
SMALL = LrmConfig(
    encoder=EncoderConfig(image_size=96, patch_size=8, width=48, layers=2, heads=2),
    decoder=DecoderConfig(layers=3, width=64, heads=2, token_resolution=8, camera_width=8),
    triplane=TriplaneConfig(channels=4),
)


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


def inputs_of(config: LrmConfig, batch: int, device: str) -> tuple[Tensor, Cameras]:
    size = config.encoder.image_size
    images = torch.rand(batch, 3, size, size, device=device)
    cameras = Cameras(torch.rand(batch, 4, 4, device=device), torch.rand(batch, 4, device=device))
    return images, cameras


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


class AllocatedBytes(TorchDispatchMode):
    """Follows the bytes of storages that are made in here, and the most there were at once."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.most = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        old = {t.untyped_storage()._cdata for t in tree_leaves(args) if isinstance(t, Tensor)}
        result = func(*args, **(kwargs or {}))
        for storage in (t.untyped_storage() for t in tree_leaves(result) if isinstance(t, Tensor)):
            if (key := storage._cdata) not in old and key not in self.sizes:
                self.sizes[key] = storage.nbytes()
                weakref.finalize(storage, self.sizes.pop, key)
        self.most = max(self.most, sum(self.sizes.values()))
        return result


@pytest.mark.parametrize(("device", "product_bytes"), [("cpu", 4), ("cuda", 2)])
@pytest.mark.parametrize("shape", [(64, 64), (64, 256), (512, 64)])
def test_a_step_of_muon_takes_what_is_allocated(
    device: str, product_bytes: int, shape: tuple[int, int]
) -> None:
    with FakeTensorMode():  # has the sizes of a GPU's tensors, and no GPU
        matrices = [nn.Parameter(torch.zeros(shape, device=device)) for _ in range(5)]
        muon = Muon([*matrices, nn.Parameter(torch.zeros(9, 9, device=device))], 0.1, 0.9, 0.1)
        muon.found_inf = torch.zeros((), device=device)
        for matrix in muon.param_groups[0]["params"]:
            matrix.grad = torch.ones_like(matrix)
        with AllocatedBytes() as allocated:
            muon.step()
    shapes = [matrix.shape for matrix in muon.param_groups[0]["params"]]
    assert step_bytes(shapes, 1, 1, product_bytes) == pytest.approx(allocated.most, rel=0.02)


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
