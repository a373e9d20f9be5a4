"""How training asks the field: in plain PyTorch, or fused where that is right and faster here."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from model.cameras import canonical_camera, intersect_box, pixel_centers, rays_through_pixels
from model.config import NerfConfig
from model.nerf import NerfMLP
from model.triplane import sample_planes
from train.recipe import Recipe

# The MLP, planes (B, 3, C, R, R), points (B, N, S, 3) on rays, and how many pixels make a row of
# rays (None: they have no order), to densities (B, N, S) and colours (B, N, S, 3).
FieldQuery = Callable[[NerfMLP, Tensor, Tensor, int | None], tuple[Tensor, Tensor]]

# How far from float32 the fused results may be: so many times as far as the plain ones of the
# same dtype are, and a little.
_TIMES_AS_FAR, _FAR = 2.0, 1e-3
_REPEATS = 5
_POINTS_TO_TRY = 1 << 20  # of fewer the device has had enough before all were started


def query_plain(
    mlp: NerfMLP, planes: Tensor, points: Tensor, _row: int | None
) -> tuple[Tensor, Tensor]:
    """A `FieldQuery` of PyTorch's own operations."""
    densities, colors = mlp(sample_planes(planes, points.flatten(1, 2), mlp.config.plane_padding))
    return densities.unflatten(1, points.shape[1:3]), colors.unflatten(1, points.shape[1:3])


def query_fused(
    mlp: NerfMLP,
    planes: Tensor,
    points: Tensor,
    row: int | None,
    gradient_cutoff: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """A `FieldQuery` of one kernel each way; the recipe's `run.gradient_cutoff`."""
    from model.kernels.field import fused_field  # needs Triton

    if not _is_fusible(mlp.config):
        raise ValueError(
            "the fused field takes nerf.activation relu and nerf.plane_padding border, not "
            f"{mlp.config.activation} and {mlp.config.plane_padding}"
        )
    raw = fused_field(planes, points, mlp.linear_layers(), row, gradient_cutoff)
    return mlp.activate(raw)


def _is_fusible(config: NerfConfig) -> bool:
    """Whether the kernels know such a field; those of published models they do not."""
    return config.activation == "relu" and config.plane_padding == "border"


def choose_query(
    recipe: Recipe, mlp: NerfMLP, device: torch.device, dtype: torch.dtype
) -> FieldQuery:
    """What the recipe's `run.fused_field` says; `auto` compares both on one chunk of rays.

    They are compared without a cutoff, that is, where both must give the same.

    Raises:
        ValueError: it says `on` and the device has no Triton.
    """
    wanted = recipe.run.fused_field
    if wanted == "on" and device.type != "cuda":
        raise ValueError(f"run.fused_field is 'on', which needs a CUDA device, not {device.type}")
    if wanted == "off" or device.type != "cuda":
        return query_plain
    if wanted == "auto" and not _is_fusible(mlp.config):
        return query_plain
    chosen: FieldQuery = query_fused
    if wanted == "auto":
        chosen = faster_if_equal(recipe, mlp, device, dtype, query_fused)
    if chosen is query_fused and recipe.run.gradient_cutoff > 0:
        return partial(query_fused, gradient_cutoff=recipe.run.gradient_cutoff)
    return chosen


def faster_if_equal(
    recipe: Recipe, mlp: NerfMLP, device: torch.device, dtype: torch.dtype, fused: FieldQuery
) -> FieldQuery:
    """The faster one of plain and fused; plain, with a warning, where fused fails or differs.

    They are compared on rays of as many samples as a part of a step has, or a million points.
    """
    try:
        exact, _ = _try(query_plain, recipe, mlp, device, torch.float32)
        plain, plain_s = _try(query_plain, recipe, mlp, device, dtype)
        found, fused_s = _try(fused, recipe, mlp, device, dtype)
    except Exception as error:  # compilers and drivers raise many kinds
        reason = str(error).partition("\n")[0] or type(error).__name__
        warnings.warn(f"the fused field cannot be used here: {reason}", stacklevel=2)
        return query_plain
    errors = _relative_errors(found, exact)
    if not bool((errors <= _TIMES_AS_FAR * _relative_errors(plain, exact) + _FAR).all()):
        warnings.warn(
            f"the fused field is wrong on this device (by {errors.max():.0%}) and is not used",
            stacklevel=2,
        )
        return query_plain
    return fused if fused_s < plain_s else query_plain


def _relative_errors(found: list[Tensor], exact: list[Tensor]) -> Tensor:
    pairs = zip(found, exact, strict=True)
    return torch.stack([(f - e).norm() / e.norm().clamp_min(1e-12) for f, e in pairs])


def _try(
    query: FieldQuery, recipe: Recipe, mlp: NerfMLP, device: torch.device, dtype: torch.dtype
) -> tuple[list[Tensor], float]:
    """A query's densities, colours and gradients on one chunk of rays, and its seconds."""
    planes, points, row = _chunk(recipe, mlp, device)
    parameters = [planes, *mlp.parameters()]

    def run() -> list[Tensor]:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            densities, colors = query(mlp, planes, points, row)
        loss = densities.sum() / 10 + colors.float().square().sum()
        return [densities.detach(), colors.detach(), *torch.autograd.grad(loss, parameters)]

    results = run()  # compiles
    _wait(device)
    seconds = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        run()
        _wait(device)
        seconds.append(time.perf_counter() - start)
    return [r.float() for r in results], min(seconds)  # a mean would tell of other work, too


def _chunk(recipe: Recipe, mlp: NerfMLP, device: torch.device) -> tuple[Tensor, Tensor, int | None]:
    """Random planes of some samples, points of a chunk of their rays, and how long rows are.

    Rays lie as the recipe's do: the kernels are made for neighbours and slow for scattered ones.
    """
    config, view = recipe.model, recipe.model.view
    side = recipe.data.crop
    camera = canonical_camera(view.fov_degrees, view.camera_distance).to(device)
    generator = torch.Generator(device).manual_seed(0)
    if recipe.data.rays == "scattered":
        row, places = None, torch.rand(side**2, 2, generator=generator, device=device)
    else:  # a region in the middle of a picture of the mean resolution
        scale = 2 * side / (recipe.data.resolution_min + recipe.data.resolution_max)
        middle = pixel_centers(side, side, device).flatten(0, 1) - 0.5
        row, places = side, middle * scale + 0.5
    origins, directions = rays_through_pixels(camera, places)
    rays = slice(0, recipe.run.rays_per_chunk)
    enter, leave = (t[rays] for t in intersect_box(origins, directions))
    samples = recipe.run.samples_per_ray
    part = min(recipe.run.micro_batch_size or recipe.run.batch_size, recipe.run.batch_size)
    count = max(1, min(part, _POINTS_TO_TRY // (len(enter) * samples)))
    distances = enter + (leave - enter) * (torch.arange(samples, device=device) + 0.5) / samples
    points = origins[rays, None] + directions[rays, None] * distances[..., None]
    resolution = config.decoder.token_resolution * config.triplane.upsample
    shape = (count, 3, config.triplane.channels, resolution, resolution)
    planes = torch.randn(shape, generator=generator, device=device)
    return planes.requires_grad_(), points.expand(count, -1, -1, -1), row


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
