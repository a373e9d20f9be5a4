"""The training loop; reads from top to bottom."""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from model.cameras import rays_through_pixels
from model.device import choose_dtype
from model.initialization import initialize
from model.lrm import LRM
from model.rendering import RenderedRays, render_rays
from model.triplane import sample_planes
from model.weights import load_model
from train.card import write_card
from train.checkpoint import CHECKPOINT_NAME, load_checkpoint, save_checkpoint, write_recipe
from train.dataset import Sample, TrainingSamples
from train.deferred import Rays, backward_through_rays
from train.losses import Perceptual, build_perceptual, psnr
from train.optimizer import build_optimizer, learning_rate
from train.parallel import Group, join_group
from train.recipe import Recipe
from train.runlog import Preview, RunLog
from train.shards import ShardReader


def train(
    data: list[Path], recipe: Recipe, run: Path, device: torch.device, quiet: bool = False
) -> bool:
    """Train until the recipe's last step, going on from what stands in `run`.

    Args:
        data: data sets as `lrm preprocess` writes them; their training split is used.
        recipe: the run's settings.
        run: the run's folder; see `train.checkpoint`.
        device: where the model lives.
        quiet: no progress bar.

    Returns:
        True when done, False when a signal (Ctrl-C, SIGTERM) ended it early; all steps taken
        are in the checkpoint then.

    Raises:
        ValueError: the data, the recipe or the folder cannot be used.
        FloatingPointError: loss or gradients are no longer numbers; nothing of that is saved.
    """
    config = recipe.run
    group, device = join_group(device)
    samples = TrainingSamples(
        ShardReader(data, split="train"), recipe.data, recipe.model.encoder.image_size, config.seed
    )
    perceptual = build_perceptual(recipe.loss, device)
    model = LRM(recipe.model)
    initialize(model, config.seed)
    if not (run / CHECKPOINT_NAME).is_file():
        start_weights(model, recipe)
    model.to(device)
    optimizer = build_optimizer(model, recipe.optimizer)
    first_step = load_checkpoint(run, model, optimizer, recipe)
    dtype = choose_dtype(config.dtype, device)
    if group.leads:
        run.mkdir(parents=True, exist_ok=True)
        write_recipe(run, recipe)
        preview = Preview(data, recipe)

    bar = tqdm(
        total=config.steps,
        initial=first_step,
        unit="step",
        disable=quiet or not group.leads,
        mininterval=1.0,
        dynamic_ncols=True,
    )
    with bar, stop_on_signals() as signals, ExitStack() as stack:
        if group.leads:
            logger = stack.enter_context(closing(RunLog(run, first_step)))
        started, logged, step = time.perf_counter(), first_step, first_step
        sums: dict[str, Tensor] = {}  # terms since the last log, added up where they are, unread
        for batch in batches(samples, recipe, first_step, group):
            rate = learning_rate(step, config.steps, recipe.optimizer)
            for parameters in optimizer.param_groups:
                parameters["lr"] = rate
            terms = training_step(model, batch.to(device), recipe, perceptual, dtype)
            sums = {name: sums[name] + value if sums else value for name, value in terms.items()}
            stop = group.average_gradients(model, stop=bool(signals))
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.optimizer.clip_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            bar.update()

            last = step == config.steps or stop
            logs = step % config.log_every == 0 or last
            saves = step % config.checkpoint_every == 0 or last
            # Whatever went wrong in loss or weights shows in the gradients of this step.
            if (logs or saves) and not math.isfinite(norm):
                raise FloatingPointError(
                    f"the gradients are no longer numbers at step {step} (loss "
                    f"{float(terms['loss'])}): go on from the last checkpoint in {run}, "
                    "where there is one, with a lower optimizer.lr"
                )
            if logs:
                now = time.perf_counter()
                line = {name: v / (step - logged) for name, v in group.average(sums).items()}
                line["samples_per_s"] = (step - logged) * config.batch_size / (now - started)
                line |= {"lr": rate, "grad_norm": float(norm)}
                started, logged, sums = now, step, {}
                bar.set_postfix(
                    loss=f"{line['loss']:.4f}",
                    psnr=f"{psnr(line['mse']):.1f}",
                    samples_per_s=f"{line['samples_per_s']:.1f}",
                )
                if group.leads:
                    logger.scalars(step, line)
            if group.leads and (step % config.preview_every == 0 or step == config.steps):
                before = time.perf_counter()
                logger.preview(step, *preview.render(model))
                started += time.perf_counter() - before
            if group.leads and saves:
                save_checkpoint(run, model, optimizer, recipe, step)
                write_card(run, recipe, data, step)
            if stop:
                break
    return step >= config.steps


def start_weights(model: LRM, recipe: Recipe) -> None:
    """What a new run starts from: another model's weights, or the encoder's pretrained ones.

    Raises:
        ValueError: they cannot be had, or are of another architecture.
    """
    if recipe.run.init_from is None:
        model.encoder.load_pretrained()
        return
    other = load_model(recipe.run.init_from)
    if other.config.architecture() != model.config.architecture():
        raise ValueError(
            f"run.init_from names {recipe.run.init_from}, whose architecture is another than "
            "the recipe's model"
        )
    model.load_state_dict(other.state_dict())


def batches(
    samples: TrainingSamples, recipe: Recipe, first_step: int, group: Group
) -> Iterator[Sample]:
    """This process's share of the batches of steps first_step, first_step + 1, … of the run."""
    size = recipe.run.batch_size
    indices = [
        group.share(range(step * size, (step + 1) * size))
        for step in range(first_step, recipe.run.steps)
    ]
    workers = recipe.data.workers
    return iter(
        DataLoader(
            samples,
            batch_sampler=indices,  # type: ignore[arg-type]
            collate_fn=Sample.collate,
            num_workers=workers,
            pin_memory=torch.cuda.is_available(),
            prefetch_factor=4 if workers else None,
        )
    )


def training_step(
    model: LRM,
    batch: Sample,
    recipe: Recipe,
    perceptual: Perceptual | None,
    dtype: torch.dtype,
) -> dict[str, Tensor]:
    """Forward and backward of one batch; gradients are left in the parameters."""
    mixed = torch.autocast(batch.image.device.type, dtype=dtype, enabled=dtype != torch.float32)

    def render(planes: Tensor, rays: Rays) -> RenderedRays:
        def field(points: Tensor) -> tuple[Tensor, Tensor]:
            with mixed:
                return model.nerf(sample_planes(planes, points))

        return render_rays(
            field,
            rays.origins_world,
            rays.directions_world,
            recipe.run.samples_per_ray,
            recipe.model.view.background,
            rays.jitter,
        )

    with mixed:
        planes = model(batch.image, batch.cameras[:, 0])
    origins, directions = rays_through_pixels(batch.cameras, batch.points_image)
    rays = Rays(
        origins.flatten(1, 2),
        directions.flatten(1, 2),
        batch.jitter.flatten(1, 2),
        batch.target_rgba.flatten(1, 2),
    )
    crop = recipe.data.crop
    return backward_through_rays(
        planes.float(),
        rays,
        render,
        recipe.loss,
        perceptual,
        recipe.run.rays_per_chunk,
        (crop, crop),
    )


@contextmanager
def stop_on_signals() -> Iterator[list[int]]:
    """A list that is filled once Ctrl-C or SIGTERM asks the run to end after this step."""
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if received:  # asked twice: at once
            sys.exit(130)
        received.append(number)

    before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
