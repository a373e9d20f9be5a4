"""How objects become views: cameras, light, pictures, and which objects are wanted."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from model.cameras import HIGHEST, SAFE_OBJECT_RADIUS, Cameras
from model.formats.depth_maps import depth_scale
from model.formats.meshes import UpAxis
from model.rasterizing import SOFT, THREE_POINT, Lighting, LightRig, random_rig
from train.objects.cameras import (
    DEFAULT_COUNT,
    FIXED_COUNTS,
    HEIGHT_RANGE,
    RADIUS_RANGE,
    CameraChoice,
    cameras_of_file,
    object_cameras,
    object_rng,
    read_camera_file,
)
from train.views import PictureFormat

LightingRecipe = Literal["soft", "uniform", "three-point", "random"]
_RIGS: dict[str, LightRig] = {"soft": SOFT, "three-point": THREE_POINT}


@dataclass(frozen=True)
class ObjectSettings:
    """How objects become views. Lengths are in world units, the object's radius being 0.75.

    Attributes:
        views: V, pictures per object; None: as many as the cameras are, 32 of `paper` and
            `sphere`.
        size: their side, in pixels.
        cameras: `paper`, `sphere`, `orbit16`, `gso20`, or the path of a JSON file; see
            `object_cameras`.
        fov_degrees: the cameras' full field of view; 60° sees all of the object from 1.5.
        radius_range, height_range: of the cameras of `paper`, §4.1; `sphere` and `orbit16` stand
            at the middle radius.
        lighting: `soft` lights fixed in the world, the same for all objects; `uniform`: the plain
            colours; `three-point`: key, fill and rim, fixed in the world; `random`: another number,
            other directions and colours for each object, and the same for all its views.
        picture_format: of the pictures; maps are PNG.
        depth, normals: whether there are maps of these.
        up: the files' up axis.
        seed: of the cameras and of random light; each object's own seed also depends on its uid.
        min_thickness: shortest over longest side of the bounding box, below which an object is
            refused.
        min_opacity: mean opacity of the materials, below which an object is refused.
        supersample: pictures are drawn at this multiple of the size.
    """

    views: int | None = None
    size: int = 1024
    cameras: str = "paper"
    fov_degrees: float = 60.0
    radius_range: tuple[float, float] = RADIUS_RANGE
    height_range: tuple[float, float] = HEIGHT_RANGE
    lighting: LightingRecipe = "soft"
    picture_format: PictureFormat = "png"
    depth: bool = False
    normals: bool = False
    up: UpAxis = "auto"
    seed: int = 0
    min_thickness: float = 0.0
    min_opacity: float = 0.0
    supersample: int = 2

    def __post_init__(self) -> None:
        low, high = self.radius_range
        floor, ceiling = self.height_range
        rules = (
            (self.views is None or self.views >= 1, "views", self.views, "at least 1"),
            (self.size >= 8, "size", self.size, "at least 8 pixels"),
            (0 < self.fov_degrees < 180, "fov", self.fov_degrees, "between 0 and 180 degrees"),
            (
                SAFE_OBJECT_RADIUS < low <= high,
                "radius range",
                self.radius_range,
                f"increasing, and outside the object's radius {SAFE_OBJECT_RADIUS}",
            ),
            (
                floor <= ceiling and max(-floor, ceiling) < HIGHEST * high,
                "height range",
                self.height_range,
                f"increasing, and within {HIGHEST} of the largest radius",
            ),
            (
                self.lighting in get_args(LightingRecipe),
                "lighting",
                self.lighting,
                f"one of {', '.join(get_args(LightingRecipe))}",
            ),
            (
                self.picture_format in get_args(PictureFormat),
                "picture format",
                self.picture_format,
                f"one of {', '.join(get_args(PictureFormat))}",
            ),
            (self.up in get_args(UpAxis), "up", self.up, f"one of {', '.join(get_args(UpAxis))}"),
            (0 <= self.min_thickness <= 1, "min-thickness", self.min_thickness, "from 0 to 1"),
            (0 <= self.min_opacity <= 1, "min-opacity", self.min_opacity, "from 0 to 1"),
            (1 <= self.supersample <= 8, "supersample", self.supersample, "from 1 to 8"),
        )
        for ok, name, value, wanted in rules:
            if not ok:
                raise ValueError(f"{name} is {value}; it must be {wanted}")
        count = FIXED_COUNTS.get(self.cameras)
        if self.cameras not in get_args(CameraChoice):
            try:
                count = len(cameras_of_file(Path(self.cameras), self.fov_degrees).intrinsics)
            except ValueError as error:
                if str(error).startswith("cameras are"):
                    raise
                raise ValueError(f"the cameras in {self.cameras}: {error}") from None
        if count is not None and self.views not in (None, count):
            raise ValueError(f"views is {self.views}, and cameras {self.cameras} are {count}")

    @functools.cached_property
    def count(self) -> int:
        """V, the views of each object."""
        if self.cameras in ("paper", "sphere"):
            return self.views or DEFAULT_COUNT
        return FIXED_COUNTS.get(self.cameras) or len(self.cameras_of("").intrinsics)

    def cameras_of(self, uid: str) -> Cameras:
        """(V,) of an object."""
        return object_cameras(
            self.cameras,
            self.views or DEFAULT_COUNT,
            self.seed,
            uid,
            self.fov_degrees,
            self.radius_range,
            self.height_range,
        )

    def light_of(self, uid: str) -> Lighting | LightRig:
        """What an object stands in."""
        if self.lighting == "uniform":
            return "unlit"
        if self.lighting == "random":
            return random_rig(object_rng(self.seed, uid, "light"))
        return _RIGS[self.lighting]

    def depth_scale_of(self, cameras: Cameras) -> float:
        """World units of one step of the depth maps of (V,) cameras around an object.

        The same for all objects: of random cameras, what the farthest could need.
        """
        farthest = float(cameras.positions_world.norm(dim=-1).max())
        if self.cameras in get_args(CameraChoice):
            farthest = max(self.radius_range[1], RADIUS_RANGE[1])
        return depth_scale(farthest + SAFE_OBJECT_RADIUS, finest=True)

    def identity(self) -> dict[str, Any]:
        """All settings as JSON has them, a file of cameras by its content: pictures of equal
        identities are equal.

        Raises:
            ValueError: the file of cameras is gone.
        """
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        values["views"] = self.count
        if self.cameras not in get_args(CameraChoice):
            digest = hashlib.sha256(read_camera_file(Path(self.cameras))).hexdigest()
            values["cameras"] = f"sha256:{digest}"
        return values
