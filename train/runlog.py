"""What a run tells: numbers line by line, TensorBoard, and pictures."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from model.atomic import write_atomically
from train.checkpoint import Training
from train.loading import Parts
from train.parallel import Group


class Since:
    """What is gathered between two lines of the log; terms are added up unread."""

    def __init__(self, training: Training, parts: Parts) -> None:
        self.training = training
        self.parts = parts
        self.first_step = training.step
        self.waited_s = parts.waited_s
        self.started = time.perf_counter()
        self.bad_samples = 0  # of this process
        self.sums: dict[str, Tensor] = {}

    def add(self, terms: dict[str, Tensor]) -> None:
        self.sums = {
            name: value + self.sums[name] if self.sums else value for name, value in terms.items()
        }

    @contextmanager
    def not_counting(self) -> Iterator[None]:
        """What happens in here is not the training's time."""
        before = time.perf_counter()
        yield
        self.started += time.perf_counter() - before

    def line(self, group: Group, batch_size: int) -> dict[str, float]:
        """Means over all processes since the last line; all of them must call this."""
        training = self.training
        steps = training.step - self.first_step
        means = {name: value / steps for name, value in self.sums.items()}
        bad = torch.full_like(means["loss"], self.bad_samples)
        line = group.average({**means, "bad_samples": bad})
        training.bad_samples += round(line["bad_samples"] * group.size)
        line["bad_samples"] = training.bad_samples
        seconds = time.perf_counter() - self.started
        line["samples_per_s"] = steps * batch_size / seconds
        line["waiting_for_data"] = (self.parts.waited_s - self.waited_s) / seconds
        line["skipped_steps"] = float(training.steps.skipped[0])
        return line


class RunLog:
    """`log.jsonl`, TensorBoard where it is installed, and pictures as PNG."""

    def __init__(self, run: Path, first_step: int) -> None:
        self.run = run
        path = run / "log.jsonl"
        lines = path.read_text("utf-8").splitlines() if path.is_file() else []
        kept = [line for line in lines if _step_of(line) <= first_step]  # later ones come again
        write_atomically(path, "".join(line + "\n" for line in kept).encode())
        self.file = path.open("a", buffering=1, encoding="utf-8")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.board = None
        else:
            self.board = SummaryWriter(run / "tensorboard", purge_step=first_step + 1)

    def close(self) -> None:
        self.file.close()
        if self.board is not None:
            self.board.close()

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """A line of numbers; in TensorBoard under `train/`, or under what stands before a `/`."""
        self.file.write(json.dumps({"step": step, **values}) + "\n")
        if self.board is not None:
            for name, value in values.items():
                tag = name if "/" in name else f"train/{name}"
                self.board.add_scalar(tag, value, step)

    def picture(self, step: int, name: str, picture: Tensor) -> None:
        """A (3, H, W) picture in 0..1, also as `pictures/STEP.png`."""
        if self.board is not None:
            self.board.add_image(name, picture, step)
        folder = self.run / "pictures"
        folder.mkdir(exist_ok=True)
        pixels = (picture * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{step:07d}.png")


def _step_of(line: str) -> float:
    """The step of a line of `log.jsonl`; infinite for a line that a killed run left unfinished."""
    try:
        return json.loads(line)["step"]
    except json.JSONDecodeError:
        return math.inf
