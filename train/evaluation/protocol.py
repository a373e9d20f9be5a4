"""What a number was measured on, as a small file: objects, inputs, views, scale, alignment.

`protocols/*.yaml` ship inside the package; any other file of their kind may be given by its path.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from model.metrics.alignment import Alignment
from model.settings import build_dataclass

PROTOCOLS_DIR = Path(__file__).parent / "protocols"

UNALIGNED = "_unaligned"  # ends the names of what was measured before the alignment
PictureMetricName = Literal["psnr", "ssim", "lpips", "clip", "fid"]


@dataclass(frozen=True)
class Inputs:
    """What pictures a model gets of an object, one by one.

    Attributes:
        count: how many; each becomes a reconstruction that is scored by itself.
        kind: `views`: the first of the views that are scored. `frontal`: one picture from the
            object's front, level, by the camera that the model takes for granted.
        framing: as `lrm reconstruct` has it; `none` leaves the object as large as it is seen.
    """

    count: int = 1
    kind: Literal["views", "frontal"] = "views"
    framing: Literal["auto", "none"] = "none"

    def __post_init__(self) -> None:
        if self.count < 1 or (self.kind == "frontal" and self.count > 1):
            raise ValueError(
                f"inputs.count is {self.count}; it must be at least 1, and 1 if frontal"
            )


@dataclass(frozen=True)
class Views:
    """From where objects are seen, and what is measured of the pictures.

    Attributes:
        count: V, the views that are scored.
        kind: `paper`: the cameras of §4.1, which data sets have; of meshes they are drawn anew by
            the seed. `orbit`: around the object, of meshes only.
        elevations: of an orbit, in degrees; each has count / len(elevations) azimuths.
        fov_degrees: of an orbit's cameras; they stand where the object's sphere fills the picture.
        size: side of the pictures that are rendered of meshes, in pixels.
        shows: what is rendered of a model's reconstruction.
        metrics: none: no pictures are made.
    """

    count: int = 15
    kind: Literal["paper", "orbit"] = "paper"
    elevations: tuple[float, ...] = (0.0,)
    fov_degrees: float = 60.0
    size: int = 512
    shows: Literal["field", "mesh"] = "field"
    metrics: tuple[PictureMetricName, ...] = ("psnr", "ssim", "lpips", "clip")

    def __post_init__(self) -> None:
        if self.count < 1 or not self.elevations or self.count % len(self.elevations):
            raise ValueError(
                f"views.count is {self.count}; it must be a multiple of the number of "
                f"views.elevations, {len(self.elevations)}"
            )
        if not 16 <= self.size <= 4096:
            raise ValueError(f"views.size is {self.size}; it must be from 16 to 4096")
        if not 0 < self.fov_degrees < 180:
            raise ValueError(
                f"views.fov_degrees is {self.fov_degrees:g}; it must be between 0 and 180"
            )


@dataclass(frozen=True)
class Geometry:
    """What is measured of surfaces, the reference's longest side being 2, from -1 to 1.

    Attributes:
        points: sampled on each surface; 0: no surfaces are compared.
        thresholds: of the F-scores.
        alignment: what may move before the aligned score is taken.
        resolution: lattice points per side, of surfaces of fields.
    """

    points: int = 0
    thresholds: tuple[float, ...] = ()
    alignment: Alignment = "none"
    resolution: int = 384

    def __post_init__(self) -> None:
        if self.points < 0 or any(not t > 0 for t in self.thresholds):
            raise ValueError("geometry.points must not be negative, geometry.thresholds positive")
        if self.resolution < 2:
            raise ValueError(f"geometry.resolution is {self.resolution}; it must be at least 2")


@dataclass(frozen=True)
class Protocol:
    """A way of measuring, complete.

    Attributes:
        source: the publication it is from, with the section.
        choices: what the source leaves open, and what was chosen.
        objects: drawn by the seed from each kind of data, where there are more; None: all.
    """

    name: str
    source: str
    choices: tuple[str, ...] = ()
    objects: int | None = None
    seed: int = 0
    inputs: Inputs = field(default_factory=Inputs)
    views: Views = field(default_factory=Views)
    geometry: Geometry = field(default_factory=Geometry)

    def __post_init__(self) -> None:
        if self.inputs.kind == "views" and self.inputs.count > self.views.count:
            raise ValueError("inputs.count is larger than views.count, of which they are")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must not be negative")
        if not (self.views.metrics or self.geometry.points):
            raise ValueError(f"protocol {self.name} measures nothing")

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @property
    def metrics(self) -> list[str]:
        """Names of all that it measures."""
        surfaces = self.surface_metrics
        return [*self.views.metrics, *surfaces, *(name + UNALIGNED for name in surfaces)]

    @property
    def surface_metrics(self) -> list[str]:
        """Names of what it measures of surfaces, aligned."""
        if not self.geometry.points:
            return []
        f_scores = [f"f_score@{threshold:g}" for threshold in self.geometry.thresholds]
        return ["chamfer", *f_scores, "accuracy", "completeness"]

    @property
    def digest(self) -> str:
        """Changes whenever any number may."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()


def protocol_names() -> list[str]:
    """Those that ship."""
    return sorted(path.stem for path in PROTOCOLS_DIR.glob("*.yaml"))


def load_protocol(name_or_path: str) -> Protocol:
    """A protocol by its name, or by the path of its file.

    Raises:
        ValueError: no such protocol, or a file that is none.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = PROTOCOLS_DIR / f"{name_or_path}.yaml"
        if name_or_path not in protocol_names():
            raise ValueError(
                f"there is no protocol {name_or_path!r}; there are {', '.join(protocol_names())}, "
                "or a file of your own (.yaml)"
            )
    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).partition("\n")[0]
        raise ValueError(f"the protocol {path} cannot be read ({reason})") from None
    protocol = build_dataclass(Protocol, values, path.name)
    assert isinstance(protocol, Protocol)
    return protocol
