"""How `lrm reconstruct` makes its meshes: settings, checked, and profiles that choose several."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrm_cli.photo_settings import PhotoSettings, check_choices

FORMATS = ("glb", "obj", "ply", "stl", "usdz", "fbx")  # a test holds them equal to `model.formats`
NORMAL_MAPPED = ("glb", "obj", "usdz", "fbx")  # formats that can hold a normal map
TEXTURED = (*NORMAL_MAPPED, "ply")  # formats that can hold a texture
TEXTURE_FORMATS = ("png", "jpeg", "webp")  # as those of `model.formats`
COMPRESSIONS = ("none", "draco")  # as those of `model.formats`
TOPOLOGIES = ("triangles", "quads")  # as those of `model.surface`
ORIGINS = ("center", "base")  # as those of `model.surface`
FLAGS = ("fragments", "open", "touches-box", "misfit")  # as those of `model.surface.quality`
RESOLUTIONS = (16, 1024)  # grid points per side
TEXTURES = (16, 8192)  # texels per side
FEWEST_FACES = 4  # that enclose anything
FEWEST_QUADS = 6  # as that of `model.surface.quads`
TURNTABLE_SUFFIX = ".mp4"

# What each profile sets; single flags take precedence. docs/formats.md tells which published
# budgets they meet.
PROFILES: dict[str, dict[str, Any]] = {
    "default": {"format": "glb", "faces": 20_000, "texture": 1024, "texture_format": "png"},
    "web": {"format": "glb", "faces": 30_000, "texture": 2048, "texture_format": "jpeg"},
    "game": {"format": "glb", "faces": 5_000, "texture": 1024, "texture_format": "png"},
    "raw": {"format": "glb,ply", "faces": 0, "texture": 0, "texture_format": "png"},
}


@dataclass(frozen=True, kw_only=True)
class MeshSettings(PhotoSettings):
    """What decides how a mesh comes out, besides the photo and the model; kept in the ledger."""

    formats: tuple[str, ...]
    resolution: int
    threshold: float | None  # density at the surface; None: the model's
    faces: int  # 0: all
    topology: str
    keep_floaters: bool
    texture: int  # texels per side; 0: colours at the vertices
    texture_format: str
    compression: str
    project_photo: bool
    save_visibility: bool
    normal_map: bool
    unlit: bool
    length: float  # metres
    origin: str
    copyright: str | None
    fail_on: tuple[str, ...]
    save_inputs: bool
    save_triplane: bool
    turntable: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.formats:
            raise ValueError(f"--format names none of {', '.join(FORMATS)}")
        for flag, values, choices in (
            ("--format", self.formats, FORMATS),
            ("--texture-format", (self.texture_format,), TEXTURE_FORMATS),
            ("--compression", (self.compression,), COMPRESSIONS),
            ("--topology", (self.topology,), TOPOLOGIES),
            ("--origin", (self.origin,), ORIGINS),
            ("--fail-on", self.fail_on, FLAGS),
        ):
            check_choices(flag, values, choices)
        low, high = RESOLUTIONS
        if not low <= self.resolution <= high:
            raise ValueError(
                f"--resolution is {self.resolution}; it must lie between {low} and {high}"
            )
        if self.threshold is not None and not 0 < self.threshold < math.inf:
            raise ValueError(f"--threshold is {self.threshold:g}; it must be a positive density")
        if self.faces != 0 and self.faces < FEWEST_FACES:
            raise ValueError(
                f"--faces is {self.faces}; it must be 0 (all) or at least {FEWEST_FACES}"
            )
        if self.topology == "quads":
            self._check_quads()
        low, high = TEXTURES
        if self.texture != 0 and not low <= self.texture <= high:
            raise ValueError(
                f"--texture is {self.texture}; it must be 0 (none) or from {low} to {high} texels"
            )
        if self.save_visibility and not (self.texture and self.project_photo):
            raise ValueError("--save-visibility goes with a texture and a projected photo")
        if self.normal_map and not self.texture:
            raise ValueError("--normal-map goes with a texture")
        for flag, is_given, formats in (
            ("--save-visibility", self.save_visibility, TEXTURED),
            ("--normal-map", self.normal_map, NORMAL_MAPPED),
        ):
            if is_given and not set(formats) & set(self.formats):
                told = ", ".join(formats)
                raise ValueError(f"{flag} goes with formats that can hold it: add one of {told}")
        if self.normal_map and self.unlit:
            raise ValueError(
                "--normal-map is for light, which --unlit leaves out: take one of them"
            )
        if not (math.isfinite(self.length) and self.length > 0):
            raise ValueError(f"--length is {self.length}; it must be a positive number of metres")
        if self.compression != "none":
            self._check_compression()
        if "usdz" in self.formats:
            from model.formats.names import check_writable

            check_writable(Path("mesh.usdz"))

    def _check_quads(self) -> None:
        if self.faces < FEWEST_QUADS:
            raise ValueError(
                f"--faces is {self.faces}; with --topology quads it must be at least {FEWEST_QUADS}"
            )
        if importlib.util.find_spec("pynanoinstantmeshes") is None:
            raise ValueError(
                "--topology quads needs pynanoinstantmeshes, which is not installed: "
                "pip install 'lrm-cli[quads]'"
            )

    def _check_compression(self) -> None:
        from model.formats.draco import check_compression

        if "glb" not in self.formats:
            raise ValueError("--compression goes with GLB: add it to --format")
        check_compression(self.compression)

    def files_of(self, stem: str) -> list[str]:
        """The files that a photo becomes, below the output folder, with `/`."""
        from model.formats.names import INPUT, files_of, seen_file, triplane_file

        files = [
            file
            for form in self.formats
            for file in files_of(Path(f"{stem}.{form}"), self.texture > 0, self.normal_map)
        ]
        mesh = Path(f"{stem}.{self.formats[0]}")
        if self.save_visibility:
            files.append(seen_file(mesh))
        if self.save_triplane:
            files.append(triplane_file(mesh))
        if self.turntable:
            files.append(Path(stem + TURNTABLE_SUFFIX))
        if self.save_inputs:
            files.append(Path(stem + INPUT))
        return list(dict.fromkeys(file.as_posix() for file in files))


def with_profile(profile: str, **given: Any) -> dict[str, Any]:
    """A profile's settings, changed by those that are given (not None).

    Raises:
        ValueError: there is no such profile.
    """
    if profile not in PROFILES:
        raise ValueError(f"--profile is {profile!r}; it must be one of {', '.join(PROFILES)}")
    return PROFILES[profile] | {name: value for name, value in given.items() if value is not None}
