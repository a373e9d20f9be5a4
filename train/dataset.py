"""What an epoch is, and one sample: an input picture, and rays of V views with true colours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from model.cameras import (
    Cameras,
    Normalization,
    normalize_cameras,
    pixel_centers,
    random_rotation,
    turn_cameras,
)
from train.recipe import DataConfig
from train.shards import ShardReader, UnreadableObjectError


@dataclass(frozen=True)
class Sample:
    """One sample, or with a leading B a batch. View 0 is the input view.

    Attributes:
        image: (3, S, S) the input picture on white, 0..1.
        cameras: (V,) posed as the recipe says: normalised (§4.2), as a rule.
        points_image: (V, N, 2) where the rays go through, as fractions of the picture.
        jitter: (V, N, 1) where in its bin each ray's points lie, 0..1.
        target_rgba: (V, N, 4) true colour on white, and alpha.
    """

    image: Tensor
    cameras: Cameras
    points_image: Tensor
    jitter: Tensor
    target_rgba: Tensor

    @staticmethod
    def collate(samples: list[Sample]) -> Sample:
        return Sample(
            torch.stack([s.image for s in samples]),
            Cameras(
                torch.stack([s.cameras.camera_to_world for s in samples]),
                torch.stack([s.cameras.intrinsics for s in samples]),
            ),
            torch.stack([s.points_image for s in samples]),
            torch.stack([s.jitter for s in samples]),
            torch.stack([s.target_rgba for s in samples]),
        )

    def to(self, device: torch.device) -> Sample:
        """Without waiting for the copies, where the memory is pinned."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Sample:
        """What a loader asks of its batches where there is a GPU."""
        return self.map(torch.Tensor.pin_memory)

    def tensors(self) -> list[Tensor]:
        """All of them, in the same order always."""
        cameras = [self.cameras.camera_to_world, self.cameras.intrinsics]
        return [self.image, *cameras, self.points_image, self.jitter, self.target_rgba]

    def map(self, change: Callable[[Tensor], Tensor]) -> Sample:
        """Each tensor changed."""
        return Sample(
            change(self.image),
            Cameras(change(self.cameras.camera_to_world), change(self.cameras.intrinsics)),
            change(self.points_image),
            change(self.jitter),
            change(self.target_rgba),
        )


@dataclass(frozen=True)
class Batch:
    """What a loader hands on.

    Attributes:
        samples: those that could be read, batched; None when there is none.
        asked: how many samples were asked for.
        unreadable: a sentence for each that could not be read. Nothing takes its place.
    """

    samples: Sample | None
    asked: int
    unreadable: list[str]

    @staticmethod
    def collate(items: list[Sample | str]) -> Batch:
        good = [item for item in items if isinstance(item, Sample)]
        bad = [item for item in items if isinstance(item, str)]
        return Batch(Sample.collate(good) if good else None, len(items), bad)

    def pin_memory(self) -> Batch:
        """What a loader asks of its batches where there is a GPU."""
        pinned = None if self.samples is None else self.samples.pin_memory()
        return Batch(pinned, self.asked, self.unreadable)


class TrainingSamples(Dataset[Sample | str]):
    """Samples by global index: what index i holds depends on (seed, i) alone.

    Epoch e is a permutation, drawn from (seed, e), of the objects, each as often as the recipe
    wants copies of its kind (§4.2). Every random choice of sample i comes from (seed, i), so a
    resumed run sees what it would have seen, whatever the number of workers and of processes.

    An object that cannot be read gives the sentence that says so in place of its sample.
    """

    def __init__(self, reader: ShardReader, config: DataConfig, image_size: int, seed: int) -> None:
        """Open the training samples.

        Raises:
            ValueError: the data holds no object of the training split that the recipe uses.
        """
        copies = {"synthetic": config.synthetic_copies, "video": config.video_copies}
        kinds = [record.kind for record in reader.records]
        self._epoch_records = np.repeat(np.arange(len(reader)), [copies[kind] for kind in kinds])
        if len(self._epoch_records) == 0:
            kept = " or ".join(kind for kind, count in copies.items() if count)
            raise ValueError(f"the data holds no object of the training split that is {kept}")
        self.reader = reader
        self.config = config
        self.image_size = image_size
        self.seed = seed
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        """Samples of an epoch, copies counted."""
        return len(self._epoch_records)

    def __getitem__(self, index: int) -> Sample | str:
        try:
            return self.read(index)
        except UnreadableObjectError as error:
            return str(error)

    def read(self, index: int) -> Sample:
        """Sample `index`.

        Raises:
            UnreadableObjectError: its object's files are damaged.
        """
        rng = np.random.default_rng((self.seed, 1, index))
        record = self.record_at(index)
        cameras = self.reader.cameras(record)
        usable = self._usable_views(record, cameras.intrinsics.shape[0])
        wanted = self.config.views
        views = rng.choice(usable, size=wanted, replace=wanted > len(usable))
        pictures = self.reader.images(record, views.tolist())
        cameras = self._pose(
            cameras[torch.from_numpy(views)], self.reader.records[record].kind, rng
        )
        on_white = composite_on_white(pictures)
        image = resize(on_white[:1], self.image_size)[0, :3]
        resolution = int(rng.integers(self.config.resolution_min, self.config.resolution_max + 1))
        targets = resize(on_white, resolution)
        rays = [self._choose_pixels(t[3].numpy(), rng) for t in targets]
        pixels = torch.from_numpy(np.stack(rays))  # (V, N) flat indices
        colors = targets.flatten(2).transpose(1, 2)  # (V, r², 4)
        points = pixel_centers(resolution, resolution).flatten(0, 1)
        return Sample(
            image,
            cameras,
            points[pixels],
            torch.from_numpy(rng.random((*pixels.shape, 1), dtype=np.float32)),
            colors.gather(1, pixels[..., None].expand(-1, -1, 4)),
        )

    def record_at(self, index: int) -> int:
        """Which of the reader's records sample `index` shows."""
        epoch, position = divmod(index, len(self))
        if epoch != self._epoch:
            order = np.random.default_rng((self.seed, 0, epoch))
            self._order = order.permutation(self._epoch_records)
            self._epoch = epoch
        return int(self._order[position])

    def _usable_views(self, record: int, count: int) -> np.ndarray:
        """The views of an object that are ever shown (table 4)."""
        limit = self.config.views_per_object
        if limit is None or limit >= count:
            return np.arange(count)
        return np.random.default_rng((self.seed, 2, record)).permutation(count)[:limit]

    def _pose(self, cameras: Cameras, kind: Normalization, rng: np.random.Generator) -> Cameras:
        """§4.2's normalisation of a sample's cameras, or what table 8 compares it with."""
        if self.config.camera_poses == "normalized":
            return normalize_cameras(cameras, 0, kind)
        if self.config.camera_poses == "random":
            return turn_cameras(cameras, random_rotation(rng))
        return cameras

    def _choose_pixels(self, alpha: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(crop²,) flat pixel indices of one view of (r, r) alpha."""
        side, crop = alpha.shape[0], self.config.crop
        top, bottom, left, right = object_box(alpha)
        if self.config.rays == "scattered":
            aimed = rng.random(crop * crop) < self.config.object_share
            rows = np.where(
                aimed,
                rng.integers(top, bottom, crop * crop),
                rng.integers(0, side, crop * crop),
            )
            columns = np.where(
                aimed,
                rng.integers(left, right, crop * crop),
                rng.integers(0, side, crop * crop),
            )
            return rows * side + columns
        if rng.random() < self.config.object_share:
            middle = np.array([rng.integers(top, bottom), rng.integers(left, right)])
            row, column = np.clip(middle - crop // 2, 0, side - crop).tolist()
        else:
            row, column = rng.integers(0, side - crop + 1, size=2).tolist()
        rows = np.arange(row, row + crop)
        return (rows[:, None] * side + np.arange(column, column + crop)).ravel()


def object_box(alpha: np.ndarray) -> tuple[int, int, int, int]:
    """top, bottom, left, right (ends excluded) of what is not transparent; all if nothing is."""
    rows, columns = np.flatnonzero(alpha.max(1) > 0.01), np.flatnonzero(alpha.max(0) > 0.01)
    if rows.size == 0:
        return 0, alpha.shape[0], 0, alpha.shape[1]
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def composite_on_white(pictures: np.ndarray) -> Tensor:
    """(V, H, W, 4) uint8 with straight alpha to (V, 4, H, W) float: colour on white, alpha."""
    rgba = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    alpha = rgba[:, 3:]
    return torch.cat([rgba[:, :3] * alpha + (1 - alpha), alpha], dim=1)


def resize(pictures: Tensor, size: int) -> Tensor:
    """(V, C, H, W) to (V, C, size, size), antialiased when it shrinks."""
    if pictures.shape[-1] == size and pictures.shape[-2] == size:
        return pictures
    return F.interpolate(
        pictures, size=(size, size), mode="bilinear", align_corners=False, antialias=True
    ).clamp(0, 1)
