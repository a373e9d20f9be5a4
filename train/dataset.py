"""What an epoch is, and one sample: an input picture, and rays of V views with true colours."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from model.cameras import (
    Cameras,
    Normalization,
    normalize_cameras,
    random_rotation,
    turn_cameras,
)
from model.config import ViewConfig
from train.augmentation import mirrored, random_recoloring, recolored
from train.pictures import composite_on_white, object_box, on_grey, resize, resized_regions
from train.recipe import DataConfig
from train.shards import ShardReader, UnreadableObjectError

PAPER_VIEW = ViewConfig()

# What gives (V, H, W, 4) views of a record.
ReadImages = Callable[[int, Sequence[int]], NDArray[np.uint8]]


@dataclass(frozen=True)
class Sample:
    """One sample, or with a leading B a batch. View 0 is the input view.

    Attributes:
        image: (3, S, S) the input picture on the model's background, 0..1.
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

    def __init__(
        self,
        reader: ShardReader,
        config: DataConfig,
        image_size: int,
        seed: int,
        view: ViewConfig = PAPER_VIEW,
    ) -> None:
        """Open the training samples.

        Args:
            view: what the model takes for granted of the input picture and its camera.

        Raises:
            ValueError: the data holds no object of the training split that the recipe uses; on
                Windows, `cache_gb` is not 0.
        """
        copies = {"synthetic": config.synthetic_copies, "video": config.video_copies}
        kinds = [record.kind for record in reader.records]
        self._epoch_records = np.repeat(np.arange(len(reader)), [copies[kind] for kind in kinds])
        if len(self._epoch_records) == 0:
            kept = " or ".join(kind for kind, count in copies.items() if count)
            raise ValueError(f"the data holds no object of the training split that is {kept}")
        self.reader = reader
        self._images: ReadImages = reader.images
        if config.cache_gb:
            views = [record.views if copies[record.kind] else 0 for record in reader.records]
            self._images = _decoded_once(reader, views, config.cache_gb)
        self.config = config
        self.image_size = image_size
        self.view = view
        self.seed = seed
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        """Samples of an epoch, copies counted."""
        return len(self._epoch_records)

    @property
    def sample_bytes(self) -> int:
        """Of a sample's tensors."""
        of_ray, of_camera = 2 + 1 + 4, 16 + 4
        of_view = of_ray * self.config.crop**2 + of_camera
        return 4 * (3 * self.image_size**2 + of_view * self.config.views)

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
        pictures, cameras = self._images(record, views.tolist()), cameras[torch.from_numpy(views)]
        # Draws of their own: without augmentation samples are what they would be without this.
        augment = np.random.default_rng((self.seed, 3, index))
        if augment.random() < self.config.mirrored:
            pictures, cameras = mirrored(pictures, cameras)
        cameras = self._pose(cameras, self.reader.records[record].kind, rng)
        image = resize(composite_on_white(pictures[:1]), self.image_size)[0]
        resolution = int(rng.integers(self.config.resolution_min, self.config.resolution_max + 1))
        choose = self._crops if self.config.rays == "crop" else self._scattered
        pixels, colors = choose(pictures, resolution, rng)
        points = (pixels[..., ::-1].astype(np.float32) + np.float32(0.5)) / np.float32(resolution)
        jitter = rng.random((*pixels.shape[:2], 1), dtype=np.float32)
        if self.config.recolored:
            change = random_recoloring(self.config.recolored, augment)
            colors = recolored(colors, change)
            image = recolored(image.permute(1, 2, 0), change).permute(2, 0, 1)
        image, colors = on_grey(image, self.view.background).contiguous(), colors.contiguous()
        return Sample(image, cameras, torch.from_numpy(points), torch.from_numpy(jitter), colors)

    def record_at(self, index: int) -> int:
        """Which of the reader's records sample `index` shows."""
        epoch, position = divmod(index, len(self))
        if epoch != self._epoch:
            order = np.random.default_rng((self.seed, 0, epoch))
            self._order = order.permutation(self._epoch_records)
            self._epoch = epoch
        return int(self._order[position])

    def _usable_views(self, record: int, count: int) -> np.ndarray:
        """The views of an object that are ever shown (table 4), whatever others there are."""
        limit = self.config.views_per_object
        if limit is None or limit >= count:
            return np.arange(count)
        name = hashlib.sha256(self.reader.records[record].uid.encode()).digest()
        rng = np.random.default_rng((self.seed, 2, int.from_bytes(name[:8], "little")))
        return rng.permutation(count)[:limit]

    def _pose(self, cameras: Cameras, kind: Normalization, rng: np.random.Generator) -> Cameras:
        """§4.2's normalisation of a sample's cameras, or what table 8 compares it with."""
        if self.config.camera_poses == "normalized":
            return normalize_cameras(cameras, 0, kind, self.view.camera_distance)
        if self.config.camera_poses == "random":
            return turn_cameras(cameras, random_rotation(rng))
        return cameras

    def _crops(
        self, pictures: np.ndarray, resolution: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, Tensor]:
        """A square region of each of (V, H, W, 4) views: row and column of its pixels (V, N, 2),
        and their colours (V, N, 4)."""
        crop = self.config.crop
        corners = np.array([self._choose_corner(picture, resolution, rng) for picture in pictures])
        inside = np.stack(np.divmod(np.arange(crop * crop), crop), axis=1)  # (N, 2)
        colors = resized_regions(pictures, corners, crop, resolution)
        return corners[:, None] + inside, colors.flatten(2).transpose(1, 2)

    def _choose_corner(
        self, picture: np.ndarray, resolution: int, rng: np.random.Generator
    ) -> tuple[int, int]:
        """Row and column where the region of one (H, W, 4) view starts."""
        crop = self.config.crop
        last = resolution - crop
        if rng.random() < self.config.object_share:
            alpha = torch.from_numpy(picture[None, None, ..., 3].astype(np.float32)) / 255
            top, bottom, left, right = object_box(resize(alpha, resolution)[0, 0].numpy())
            row, column = int(rng.integers(top, bottom)), int(rng.integers(left, right))
            return min(max(row - crop // 2, 0), last), min(max(column - crop // 2, 0), last)
        row, column = rng.integers(0, last + 1, size=2).tolist()
        return row, column

    def _scattered(
        self, pictures: np.ndarray, resolution: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, Tensor]:
        """Single pixels of each of (V, H, W, 4) views: row and column (V, N, 2), and their
        colours (V, N, 4)."""
        targets = resize(composite_on_white(pictures), resolution)
        pixels = np.stack([self._scatter(target[3].numpy(), rng) for target in targets])
        flat = torch.from_numpy(pixels @ [resolution, 1])  # (V, N)
        colors = targets.flatten(2).transpose(1, 2)  # (V, r², 4)
        return pixels, colors.gather(1, flat[..., None].expand(-1, -1, 4))

    def _scatter(self, alpha: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(N, 2) row and column of pixels of one view of (r, r) alpha."""
        side, count = alpha.shape[0], self.config.crop**2
        top, bottom, left, right = object_box(alpha)
        aimed = rng.random(count) < self.config.object_share
        rows = np.where(aimed, rng.integers(top, bottom, count), rng.integers(0, side, count))
        columns = np.where(aimed, rng.integers(left, right, count), rng.integers(0, side, count))
        return np.stack([rows, columns], axis=1)


def _decoded_once(reader: ShardReader, views: list[int], gigabytes: float) -> ReadImages:
    """What reads a reader's images, so many views of each, and decodes each only once."""
    if sys.platform == "win32":
        raise ValueError("data.cache_gb must be 0 on Windows, which lacks what it needs")
    else:
        from train.decoded import DecodedPictures

        return DecodedPictures(reader, views, gigabytes).images
