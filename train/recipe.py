"""A run's settings: YAML in, validated dataclasses out. The defaults are the paper's."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from model.config import LrmConfig, build_dataclass, preset

RECIPES_DIR = Path(__file__).parent / "recipes"


def _require_at_least(minimum: int, section: str, settings: Any, names: str) -> None:
    for name in names.split():
        value = getattr(settings, name)
        if not value >= minimum:
            raise ValueError(f"{section}.{name} is {value!r}; it must be at least {minimum}")


@dataclass(frozen=True)
class DataConfig:
    """What one training sample is (§3.4, §4.1, App. B)."""

    views: int = 4  # V of Eq. 6: the input view and V - 1 side views
    resolution_min: int = 128  # App. B: views are resized to a random resolution in this range
    resolution_max: int = 384
    crop: int = 128  # App. B: side of the region that is rendered
    # crop: one square region (a perceptual term needs it). scattered: crop² single rays.
    rays: Literal["crop", "scattered"] = "crop"
    # Share of crops or rays that are aimed at the object's bounding box; the rest fall anywhere.
    object_share: float = 0.0
    workers: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.crop <= self.resolution_min <= self.resolution_max:
            raise ValueError(
                f"data.crop {self.crop}, data.resolution_min {self.resolution_min} and "
                f"data.resolution_max {self.resolution_max} must not fall"
            )
        _require_at_least(1, "data", self, "views")
        _require_at_least(0, "data", self, "workers")
        if not 0 <= self.object_share <= 1:
            raise ValueError(f"data.object_share is {self.object_share}; it must lie in 0..1")


@dataclass(frozen=True)
class LossConfig:
    """§3.4."""

    perceptual: Literal["lpips", "ssim", "none"] = "lpips"
    perceptual_weight: float = 2.0  # λ of Eq. 6
    mask_weight: float = 0.0  # mean squared error of opacity against alpha; not in the paper


@dataclass(frozen=True)
class OptimizerConfig:
    """Appendix B. β₁ and the final learning rate are not in the paper."""

    lr: float = 4e-4
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.05
    warmup_steps: int = 3000
    final_lr_ratio: float = 0.0
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        _require_at_least(0, "optimizer", self, "lr weight_decay warmup_steps clip_norm")


@dataclass(frozen=True)
class RunConfig:
    """How long and how."""

    # 30 epochs (§4.2) of 730,648 assets and three times 220,219 videos (§4.1), 1024 a step.
    steps: int = 40740
    batch_size: int = 1024
    samples_per_ray: int = 128
    rays_per_chunk: int = 65536  # rendered and back-propagated at once; changes memory and speed
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    seed: int = 0
    # A model's name or folder whose weights a new run starts from; none: from initial weights.
    init_from: str | None = None
    log_every: int = 10
    preview_every: int = 1000
    preview_objects: int = 4
    checkpoint_every: int = 1000

    def __post_init__(self) -> None:
        _require_at_least(
            1,
            "run",
            self,
            "steps batch_size samples_per_ray rays_per_chunk "
            "log_every preview_every checkpoint_every",
        )
        _require_at_least(0, "run", self, "seed preview_objects")


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


def load_recipe(name_or_file: str, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe and apply `key=value` overrides.

    Args:
        name_or_file: a recipe of `train/recipes` or a YAML file. Its `model` mapping may name a
            `preset` and change single fields of it.
        overrides: as `--set` takes them: dotted key, `=`, a YAML value.

    Raises:
        ValueError: no such recipe, not YAML, an unknown key, a value that does not fit.
    """
    path = Path(name_or_file)
    if not path.is_file():
        path = RECIPES_DIR / f"{name_or_file}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in RECIPES_DIR.glob("*.yaml")))
        raise ValueError(f"there is no recipe {name_or_file!r}: neither a file nor one of {known}")
    values = _parse_yaml(path.read_text(), str(path)) or {}
    if not isinstance(values, dict):
        raise ValueError(f"{path} does not hold a mapping")
    for override in overrides or []:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ValueError(f"--set takes key=value, got {override!r}")
        _set_dotted(values, key, _parse_yaml(text, f"--set {key}"))
    return recipe_from_dict(values)


def recipe_from_dict(values: dict[str, Any]) -> Recipe:
    """Build a recipe from plain data, filling the model from its preset.

    Raises:
        ValueError: an unknown key, a value that does not fit.
    """
    model = values.get("model") or {}
    if not isinstance(model, dict):
        raise ValueError(f"recipe.model must be a mapping, got {model!r}")
    if "preset" in model:
        changes = {k: v for k, v in model.items() if k != "preset"}
        model = _merge(preset(model["preset"]).to_dict(), changes)
    return build_dataclass(Recipe, {**values, "model": model}, "recipe")


class _Loader(yaml.SafeLoader):
    """YAML 1.1 takes 4e-4 for a string; as in YAML 1.2, this one takes it for a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def _parse_yaml(text: str, place: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{place} is not valid YAML: {error}") from error


def _set_dotted(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ValueError(f"--set {key}: {parent} is not a group of settings")
    values[last] = value


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged
