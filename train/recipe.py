"""A run's settings as validated dataclasses. The defaults are the paper's."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from model.config import LrmConfig
from model.settings import build_dataclass, require

# Attributes of `model.lrm.LRM`; the tokens are the decoder's.
PartOfModel = Literal["encoder", "camera_embedding", "decoder", "upsampler", "nerf"]


def _require_at_least(
    minimum: int, section: str, settings: Any, names: str, below: float = math.inf
) -> None:
    for name in names.split():
        value = getattr(settings, name)
        if value is None:
            continue
        end = f" and below {below:g}" if below < math.inf else " and finite" * (value == math.inf)
        wanted = f"at least {minimum}{end}"
        require(minimum <= value < below, f"{section}.{name}", value, wanted)


@dataclass(frozen=True)
class DataConfig:
    """What an epoch and one training sample are (§3.4, §4.1, §4.2, App. B)."""

    # §4.2: copies of each kind of data in an epoch; 0 leaves the kind out (table 3).
    synthetic_copies: int = 1
    video_copies: int = 3
    # §4.2, table 8. normalized: the input camera is brought to (0, -2, 0) or (0, -dis, 0).
    # none: cameras as the data has them. random: the world is turned at random.
    camera_poses: Literal["normalized", "none", "random"] = "normalized"
    # Table 4: only this many views of an object, drawn once for all, are ever used; none: all.
    views_per_object: int | None = None
    views: int = 4  # V of Eq. 6: the input view and V - 1 side views
    resolution_min: int = 128  # App. B: views are resized to a random resolution in this range
    resolution_max: int = 384
    crop: int = 128  # App. B: side of the region that is rendered
    # crop: one square region (a perceptual term needs it). scattered: crop² single rays.
    rays: Literal["crop", "scattered"] = "crop"
    # Share of crops or rays that are aimed at the object's bounding box; the rest fall anywhere.
    object_share: float = 0.0
    # Augmentation, not in the paper: the share of samples that are seen in a mirror; and how far
    # colours may change, the same way in all views of a sample (1: hues by a quarter turn,
    # brightness and saturation by a factor of 0.6 to 1.6).
    mirrored: float = 0.0
    recolored: float = 0.0
    workers: int = 4
    # Decoded views are kept in a file in TMPDIR of up to so many GB, one for each process, so that
    # small data that is trained on for many epochs is decoded once; 0: none.
    cache_gb: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.crop <= self.resolution_min <= self.resolution_max:
            raise ValueError(
                f"data.crop {self.crop}, data.resolution_min {self.resolution_min} and "
                f"data.resolution_max {self.resolution_max} must not fall"
            )
        _require_at_least(1, "data", self, "views views_per_object")
        _require_at_least(0, "data", self, "workers synthetic_copies video_copies cache_gb")
        if self.synthetic_copies == self.video_copies == 0:
            raise ValueError("data.synthetic_copies and data.video_copies are both 0")
        for name in ("object_share", "mirrored", "recolored"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"data.{name} is {getattr(self, name)}; it must lie in 0..1")


@dataclass(frozen=True)
class LossConfig:
    """§3.4."""

    perceptual: Literal["lpips", "ssim", "none"] = "lpips"
    perceptual_weight: float = 2.0  # λ of Eq. 6
    mask_weight: float = 0.0  # mean squared error of opacity against alpha; not in the paper

    def __post_init__(self) -> None:
        _require_at_least(0, "loss", self, "perceptual_weight mask_weight")


@dataclass(frozen=True)
class OptimizerConfig:
    """Appendix B. β₁ and the final learning rate are not in the paper."""

    # muon: the matrices of the transformers' layers take steps of train.muon, all else AdamW's.
    name: Literal["adamw", "muon"] = "adamw"
    lr: float = 4e-4
    # Parts of the model that stay as they are: no gradients, no moments.
    freeze: tuple[PartOfModel, ...] = ()
    momentum: float = 0.95  # of muon
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.05
    warmup_steps: int = 3000
    final_lr_ratio: float = 0.0
    clip_norm: float = 1.0  # 0: gradients are not clipped
    # A step whose gradient is no number, or has a larger norm than this before clipping, is not
    # taken. Healthy norms are about 1.
    skip_norm: float = 1000.0

    def __post_init__(self) -> None:
        not_negative = "lr weight_decay warmup_steps final_lr_ratio clip_norm"
        _require_at_least(0, "optimizer", self, not_negative)
        _require_at_least(0, "optimizer", self, "momentum beta1 beta2", below=1)
        # It may be infinite.
        require(self.skip_norm > 0, "optimizer.skip_norm", self.skip_norm, "more than 0")


@dataclass(frozen=True)
class RunConfig:
    """How long and how."""

    epochs: float = 30.0  # §4.2; of the data's training objects, copies counted
    steps: int | None = None  # in place of epochs
    batch_size: int = 1024  # samples of a step, over all processes
    # Samples of one forward pass of one process; none: all of its share. Changes memory and
    # speed, not what is computed.
    micro_batch_size: int | None = None
    samples_per_ray: int = 128
    rays_per_chunk: int = 16384  # rendered and back-propagated at once; changes memory and speed
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    # ddp: every process holds the whole model. fsdp: parameters, gradients and moments are
    # spread over the processes.
    parallel: Literal["ddp", "fsdp"] = "ddp"
    compile: bool = False
    # On a CUDA device a part of a step is recorded once and its kernels are started together; not
    # under fsdp, and not where it takes more than half of the memory.
    cuda_graph: bool = True
    # The field's kernels (model.kernels) in place of plain PyTorch. auto: on a CUDA device, where
    # they prove equal and faster when the run starts.
    fused_field: Literal["auto", "on", "off"] = "auto"
    # Points of rays whose gradient is less than so many times the mean may pass none on, in the
    # field's kernels, which then take a fraction of the time. All of them together have at most
    # that share of it: 0.01 is far below what bf16 rounds away. 0: exact.
    gradient_cutoff: float = 0.0
    activation_checkpointing: bool = False  # transformer layers are run again in backward
    ema_decay: float = 0.0  # of the averaged weights that the model's file then holds; 0: none
    seed: int = 0
    # A model's name or folder whose weights a new run starts from; none: from initial weights.
    init_from: str | None = None
    log_every: int = 10
    validate_every: int = 1000
    validation_objects: int = 8  # of the held-out split, of each data set as many
    checkpoint_every: int = 1000
    keep_checkpoints: int = 3  # the last ones; the best of the validations is kept besides
    max_skipped_steps: int = 20  # so many in a row end the run
    max_bad_samples: int = 1000  # so many unreadable samples in all end the run

    def __post_init__(self) -> None:
        positive = "steps micro_batch_size samples_per_ray rays_per_chunk log_every validate_every "
        positive += "checkpoint_every keep_checkpoints max_skipped_steps"
        _require_at_least(1, "run", self, positive)
        _require_at_least(1, "run", self, "batch_size", below=2**63)
        _require_at_least(0, "run", self, "seed validation_objects max_bad_samples")
        _require_at_least(0, "run", self, "ema_decay gradient_cutoff", below=1)
        is_sound = 0 < self.epochs < math.inf
        require(is_sound, "run.epochs", self.epochs, "more than 0 and finite")

    def total_steps(self, samples_per_epoch: int) -> int:
        """The run's length on data of so many samples an epoch."""
        if self.steps is not None:
            return self.steps
        return max(1, math.ceil(self.epochs * samples_per_epoch / self.batch_size))


@dataclass(frozen=True)
class Recipe:
    """Everything that a training run needs besides its data."""

    model: LrmConfig = field(default_factory=LrmConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        if self.loss.perceptual != "none" and self.data.rays != "crop":
            raise ValueError(
                f"loss.perceptual is {self.loss.perceptual!r}, which compares regions: "
                f"data.rays must be 'crop', not {self.data.rays!r}"
            )

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def changes_to(self, other: Recipe) -> list[str]:
        """The settings that another recipe has otherwise, each as `key old → new`."""
        return changed_settings(self.to_dict(), other.to_dict())


def recipe_from_dict(values: dict[str, Any]) -> Recipe:
    """Build a recipe from plain data; what is not there is the paper's.

    Raises:
        ValueError: an unknown key, a value that does not fit.
    """
    recipe: Recipe = build_dataclass(Recipe, values, "recipe")
    return recipe


def changed_settings(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What nested settings of the same keys have otherwise, each as `key old → new`."""
    old, new = dict(_dotted(before)), dict(_dotted(after))
    return [f"{key} {old[key]} → {new[key]}" for key in old if old[key] != new[key]]


def _dotted(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Single settings with their dotted keys."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{above}{key}.")
        else:
            yield above + key, value
