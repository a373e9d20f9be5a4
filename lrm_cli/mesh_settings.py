"""How `lrm reconstruct` makes its meshes: settings, checked, and profiles that choose several."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMATS = ("glb", "obj", "ply", "stl", "usdz")  # a test holds them equal to `model.formats`
TEXTURE_FORMATS = ("png", "jpeg", "webp")  # as those of `model.formats`
ORIGINS = ("center", "base")  # as those of `model.surface`
FLAGS = ("fragments", "open", "touches-box", "misfit")  # as those of `model.surface.quality`
DTYPES = ("auto", "fp32", "bf16", "fp16")  # as those of `model.device`
RESOLUTIONS = (16, 1024)  # grid points per side
TEXTURES = (16, 8192)  # texels per side
FEWEST_FACES = 4  # that enclose anything
INPUT_SUFFIX = ".input.png"  # of prepared pictures that are kept

# What each profile sets; single flags take precedence. docs/formats.md tells which published
# budgets they meet.
PROFILES: dict[str, dict[str, Any]] = {
    "default": {"format": "glb", "faces": 20_000, "texture": 1024, "texture_format": "png"},
    "web": {"format": "glb", "faces": 30_000, "texture": 2048, "texture_format": "jpeg"},
    "game": {"format": "glb", "faces": 5_000, "texture": 1024, "texture_format": "png"},
    "raw": {"format": "glb,ply", "faces": 0, "texture": 0, "texture_format": "png"},
}


@dataclass(frozen=True)
class MeshSettings:
    """What decides how a mesh comes out, besides the photo and the model; kept in the ledger."""

    formats: tuple[str, ...]
    resolution: int
    threshold: float | None  # density at the surface; None: the model's
    faces: int  # 0: all
    keep_floaters: bool
    texture: int  # texels per side; 0: colours at the vertices
    texture_format: str
    project_photo: bool
    save_visibility: bool
    length: float  # metres
    origin: str
    input_elevation: float | str  # degrees, or "auto": from the mesh
    copyright: str | None
    fail_on: tuple[str, ...]
    matting: str
    matting_model: str
    framing: str
    foreground_ratio: float | None  # None: the model's
    save_inputs: bool
    save_triplane: bool
    dtype: str

    def __post_init__(self) -> None:
        from model.matting import check_matting

        if not self.formats:
            raise ValueError(f"--format names none of {', '.join(FORMATS)}")
        for flag, values, choices in (
            ("--format", self.formats, FORMATS),
            ("--texture-format", (self.texture_format,), TEXTURE_FORMATS),
            ("--origin", (self.origin,), ORIGINS),
            ("--fail-on", self.fail_on, FLAGS),
            ("--framing", (self.framing,), ("auto", "none")),
            ("--dtype", (self.dtype,), DTYPES),
        ):
            for value in values:
                if value not in choices:
                    raise ValueError(f"{flag} is {value!r}; it must be one of {', '.join(choices)}")
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
        low, high = TEXTURES
        if self.texture != 0 and not low <= self.texture <= high:
            raise ValueError(
                f"--texture is {self.texture}; it must be 0 (none) or from {low} to {high} texels"
            )
        if self.save_visibility and not (self.texture and self.project_photo):
            raise ValueError("--save-visibility goes with a texture and a projected photo")
        if not (math.isfinite(self.length) and self.length > 0):
            raise ValueError(f"--length is {self.length}; it must be a positive number of metres")
        elevation = self.input_elevation
        if elevation != "auto" and not (isinstance(elevation, float) and -90 <= elevation <= 90):
            raise ValueError(
                f"--input-elevation is {elevation}; it must be auto or lie from -90 to 90 degrees"
            )
        if self.foreground_ratio is not None and not 0 < self.foreground_ratio <= 1:
            raise ValueError(
                f"--foreground-ratio is {self.foreground_ratio}; it must be above 0 and at most 1"
            )
        check_matting(self.matting, self.matting_model)
        if "usdz" in self.formats:
            from model.formats.names import check_writable

            check_writable(Path("mesh.usdz"))

    def files_of(self, stem: str) -> list[str]:
        """The files that a photo becomes, below the output folder, with `/`."""
        from model.formats.names import files_of, seen_file, triplane_file

        files = [
            file
            for form in self.formats
            for file in files_of(Path(f"{stem}.{form}"), has_atlas=self.texture > 0)
        ]
        mesh = Path(f"{stem}.{self.formats[0]}")
        if self.save_visibility:
            files.append(seen_file(mesh))
        if self.save_triplane:
            files.append(triplane_file(mesh))
        if self.save_inputs:
            files.append(Path(stem + INPUT_SUFFIX))
        return list(dict.fromkeys(file.as_posix() for file in files))


def with_profile(profile: str, **given: Any) -> dict[str, Any]:
    """A profile's settings, changed by those that are given (not None).

    Raises:
        ValueError: there is no such profile.
    """
    if profile not in PROFILES:
        raise ValueError(f"--profile is {profile!r}; it must be one of {', '.join(PROFILES)}")
    return PROFILES[profile] | {name: value for name, value in given.items() if value is not None}


def elevation_in(text: str) -> float | str:
    """Degrees, where the text is a number; what else may stand there is `MeshSettings`' matter."""
    try:
        return float(text)
    except ValueError:
        return text


def names_in(text: str) -> tuple[str, ...]:
    """The names of a list with commas, each once."""
    names = (name.strip().lower() for name in text.split(","))
    return tuple(dict.fromkeys(name for name in names if name))
