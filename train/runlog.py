"""What a run tells: numbers line by line, TensorBoard, and pictures of unseen objects."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from model.lrm import LRM
from train.heldout import comparison_row, load_heldout, predict_views, score_views
from train.recipe import Recipe
from train.shards import ShardReader


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
            rows.append(comparison_row(item, predicted))
        return self.kind, float(np.mean(scores)), torch.cat(rows, dim=1)


class RunLog:
    """`log.jsonl`, TensorBoard where it is installed, and preview pictures as PNG."""

    def __init__(self, run: Path, first_step: int) -> None:
        self.run = run
        path = run / "log.jsonl"
        lines = path.read_text().splitlines() if path.is_file() else []
        kept = [line for line in lines if _step_of(line) <= first_step]  # later ones come again
        part = path.with_name(path.name + ".part")
        part.write_text("".join(line + "\n" for line in kept))
        os.replace(part, path)
        self.file = path.open("a", buffering=1)
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.board = None
        else:
            self.board = SummaryWriter(run / "tensorboard", purge_step=first_step or None)

    def close(self) -> None:
        self.file.close()
        if self.board is not None:
            self.board.close()

    def scalars(self, step: int, values: dict[str, float]) -> None:
        self.file.write(json.dumps({"step": step, **values}) + "\n")
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(f"train/{name}", value, step)

    def preview(self, step: int, kind: str, psnr_db: float, picture: Tensor) -> None:
        self.scalars(step, {f"preview_{kind}_psnr": psnr_db})
        if self.board is not None:
            self.board.add_image(f"preview/{kind}", picture, step)
        folder = self.run / "previews"
        folder.mkdir(exist_ok=True)
        pixels = (picture * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{step:07d}.png")


def _step_of(line: str) -> float:
    """The step of a line of `log.jsonl`; infinite for a line that a killed run left unfinished."""
    try:
        return json.loads(line)["step"]
    except json.JSONDecodeError:
        return math.inf
