"""The training loop; reads from top to bottom."""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from model.cameras import rays_through_pixels
from model.device import choose_dtype
from model.lrm import LRM, initialize
from model.rendering import RenderedRays, render_rays
from model.triplane import sample_planes
from train.checkpoint import CHECKPOINT_NAME, load_checkpoint, save_checkpoint, write_recipe
from train.dataset import Sample, TrainingSamples
from train.deferred import Rays, backward_through_rays
from train.evaluation.heldout import load_heldout, predict_views, score_views
from train.losses import Perceptual, build_perceptual, psnr
from train.optimizer import build_optimizer, learning_rate
from train.parallel import Group, join_group
from train.recipe import Recipe
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
        FloatingPointError: the loss is no longer a number.
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
        model.encoder.load_pretrained()
    model.to(device)
    optimizer = build_optimizer(model, recipe.optimizer)
    first_step = load_checkpoint(run, model, optimizer, recipe)
    dtype = choose_dtype(config.dtype, device)
    if group.leads:
        run.mkdir(parents=True, exist_ok=True)
        write_recipe(run, recipe)
        logger = RunLog(run, first_step)
        preview = Preview(data, recipe)

    bar = tqdm(
        total=config.steps,
        initial=first_step,
        unit="step",
        disable=quiet or not group.leads,
        mininterval=1.0,
        dynamic_ncols=True,
    )
    with bar, stop_on_signals() as signals:
        started, step = time.perf_counter(), first_step
        for batch in batches(samples, recipe, first_step, group):
            rate = learning_rate(step, config.steps, recipe.optimizer)
            for parameters in optimizer.param_groups:
                parameters["lr"] = rate
            terms = training_step(model, batch.to(device), recipe, perceptual, dtype)
            stop = group.average_gradients(model, stop=bool(signals))
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.optimizer.clip_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            bar.update()

            last = step == config.steps or stop
            if step % config.log_every == 0 or last:
                line = group.average(terms)
                now = time.perf_counter()
                steps_since = (step - first_step - 1) % config.log_every + 1
                line["samples_per_s"] = steps_since * config.batch_size / (now - started)
                line |= {"lr": rate, "grad_norm": float(norm)}
                started = now
                bar.set_postfix(
                    loss=f"{line['loss']:.4f}",
                    psnr=f"{psnr(line['mse']):.1f}",
                    samples_per_s=f"{line['samples_per_s']:.1f}",
                )
                if group.leads:
                    logger.scalars(step, line)
                if not math.isfinite(line["loss"]):
                    raise FloatingPointError(
                        f"the loss is {line['loss']} at step {step}; the last checkpoint in "
                        f"{run} is good: go on from it with a lower optimizer.lr"
                    )
            if group.leads and (step % config.preview_every == 0 or step == config.steps):
                logger.preview(step, *preview.render(model))
                started = time.perf_counter()
            if group.leads and (step % config.checkpoint_every == 0 or last):
                save_checkpoint(run, model, optimizer, recipe, step)
            if stop:
                break
    return step >= config.steps


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


class Preview:
    """Renders a few unseen objects (training objects where the data has no held-out ones)."""

    def __init__(self, data: list[Path], recipe: Recipe) -> None:
        reader = ShardReader(data, split="heldout")
        self.kind = "heldout" if len(reader) else "train"
        if not len(reader):
            reader = ShardReader(data, split="train")
        count = min(len(reader), recipe.run.preview_objects)
        spread = np.linspace(0, len(reader) - 1, count).astype(int)
        size = recipe.model.encoder.image_size
        self.resolution = min(128, size)
        self.objects = [load_heldout(reader, int(i), size, self.resolution, 2) for i in spread]

    def render(self, model: LRM) -> tuple[str, float, Tensor]:
        """Which split, mean PSNR, and a picture (3, H, W): input | true, predicted per view."""
        scores, rows = [], []
        for item in self.objects:
            predicted = predict_views(model, item.image, item.cameras, self.resolution)
            scores.append(score_views(predicted, item.targets).psnr_db)
            image = torch.nn.functional.interpolate(item.image[None], self.resolution)[0]
            pairs = [
                p for t, q in zip(item.targets, predicted, strict=True) for p in (t[:3], q[:3])
            ]
            rows.append(torch.cat([image, *pairs], dim=2))
        return self.kind, float(np.mean(scores)), torch.cat(rows, dim=1)


class RunLog:
    """`log.jsonl`, TensorBoard where it is installed, and preview pictures as PNG."""

    def __init__(self, run: Path, first_step: int) -> None:
        self.run = run
        path = run / "log.jsonl"
        kept = []
        if path.is_file():  # steps after the checkpoint are taken again
            for text in path.read_text().splitlines():
                try:
                    kept.append(text) if json.loads(text)["step"] <= first_step else None
                except (json.JSONDecodeError, KeyError):
                    continue
        path.write_text("".join(line + "\n" for line in kept))
        self.file = path.open("a", buffering=1)
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.board = None
        else:
            self.board = SummaryWriter(run / "tensorboard", purge_step=first_step or None)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        self.file.write(json.dumps({"step": step, **values}) + "\n")
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(f"train/{name}", value, step)

    def preview(self, step: int, kind: str, psnr_db: float, picture: Tensor) -> None:
        from PIL import Image

        self.scalars(step, {f"preview_{kind}_psnr": psnr_db})
        if self.board is not None:
            self.board.add_image(f"preview/{kind}", picture, step)
        folder = self.run / "previews"
        folder.mkdir(exist_ok=True)
        pixels = (picture * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{step:07d}.png")


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
