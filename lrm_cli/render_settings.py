"""How `lrm render` makes its pictures: settings, checked, and the files that come out."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lrm_cli.photo_settings import PhotoSettings, check_choices
from model.formats.names import SHEET

MODES = ("auto", "field", "mesh")
FORMATS = ("mp4", "webm", "gif", "webp", "png")  # a test holds them equal to `model.formats`
CHANNELS = ("rgb", "depth", "normal", "alpha")  # as those of `model.views`
DEPTH_FORMATS = ("png", "npy")  # as those of `model.formats.depth_maps`
UPS = ("auto", "y", "z")  # as those of `model.formats.meshes`
FRAMES = (1, 10_000)
SIZES = (16, 4096)  # pixels of each side
SAMPLES = (8, 4096)  # points per ray
FOVS = (1.0, 150.0)  # degrees
MOST_TURNS = 100.0
# No input's place may be a folder that an output's name would take.
OUTPUT_SUFFIXES = (
    *(".mp4", ".webm", ".gif", ".webp", ".png", ".frames"),
    *(SHEET, ".depth-png", ".depth-npy", ".cameras.json"),
)

Kind = Literal["video", "still", "sheet", "depth", "cameras"]


@dataclass(frozen=True)
class Output:
    """A file, or a folder of frames, that an object becomes.

    Attributes:
        name: below the output folder, with `/`.
        channels: of its frames, side by side.
        form: of a video or of raw depth.
    """

    name: str
    kind: Kind
    channels: tuple[str, ...] = ()
    form: str = ""


@dataclass(frozen=True, kw_only=True)
class TurntableSettings:
    """What decides how an object's pictures come out.

    Attributes:
        orbit, elevation, distance: degrees, degrees, units; None where a file gives the cameras,
            or what fits.
        cameras: SHA-256 of that file.
    """

    formats: tuple[str, ...] = ("mp4",)
    frames: int = 120
    fps: float = 30.0
    size: tuple[int, int] = (512, 512)  # width, height
    orbit: float | None = 360.0
    elevation: float | None = 20.0
    distance: float | None = None
    fov: float = 40.0
    cameras: str | None = None
    background: str = "white"
    channels: tuple[str, ...] = ("rgb",)
    separate: bool = False
    depth_formats: tuple[str, ...] = ()
    sheet: str | None = None
    samples: int = 128
    unlit: bool = False

    def __post_init__(self) -> None:
        for flag, values, choices in (
            ("--format", self.formats, FORMATS),
            ("--channels", self.channels, CHANNELS),
            ("--depth-format", self.depth_formats, DEPTH_FORMATS),
        ):
            check_choices(flag, values, choices)
        if not self.channels:
            raise ValueError(f"--channels names none of {', '.join(CHANNELS)}")
        if not (self.formats or self.sheet or self.depth_formats):
            raise ValueError(
                f"--format names none of {', '.join(FORMATS)}, and there is no --sheet or "
                "--depth-format"
            )
        width, height = self.size
        for flag, number, (low, high) in (
            ("--frames", self.frames, FRAMES),
            ("--size", width, SIZES),
            ("--size", height, SIZES),
            ("--samples", self.samples, SAMPLES),
            ("--fov", self.fov, FOVS),
            ("--elevation", self.elevation, (-90.0, 90.0)),
        ):
            if number is not None and not low <= number <= high:
                raise ValueError(f"{flag} is {number:g}; it must lie between {low:g} and {high:g}")
        if self.orbit is not None and not 0 < abs(self.orbit) <= 360 * MOST_TURNS:
            raise ValueError(
                f"--orbit is {self.orbit:g}; it must be an angle other than 0, of at most "
                f"{MOST_TURNS:g} turns"
            )
        if self.distance is not None and not 0 < self.distance < math.inf:
            raise ValueError(f"--distance is {self.distance:g}; it must be a positive number")
        self._check_files()

    def _check_files(self) -> None:
        """What the files themselves cannot hold, before any work."""
        from model.formats.sheets import parse_sheet, sheet_size
        from model.formats.videos import check_video
        from model.frames import parse_background

        transparent = parse_background(self.background) is None
        width, height = self.size
        frame = (width if self.separate else width * len(self.channels), height)
        if self.sheet is not None:
            sheet_size(*parse_sheet(self.sheet), frame)
        for form in self.formats:
            check_video(form, frame, self.fps, alpha=transparent)

    def outputs_of(self, stem: str) -> list[Output]:
        """What an object becomes."""
        from model.formats.videos import video_suffix

        looks = [("", self.channels)]
        if self.separate:
            looks = [(f".{channel}", (channel,)) for channel in self.channels]
        outputs = []
        for look, channels in looks:
            for form in self.formats:
                if form == "png" and self.frames == 1:
                    outputs.append(Output(f"{stem}{look}.png", "still", channels))
                    continue
                name = f"{stem}{look}{video_suffix(form)}"
                outputs.append(Output(name, "video", channels, form))
            if self.sheet is not None:
                outputs.append(Output(f"{stem}{look}{SHEET}", "sheet", channels))
        for form in self.depth_formats:
            outputs.append(Output(f"{stem}.depth-{form}", "depth", form=form))
        if self.depth_formats:
            outputs.append(Output(f"{stem}.cameras.json", "cameras"))
        return outputs


@dataclass(frozen=True, kw_only=True)
class RenderSettings(TurntableSettings, PhotoSettings):
    """What decides how an input's pictures come out; kept in the ledger.

    Attributes:
        up: the axis of mesh files.
    """

    mode: str
    up: str

    def __post_init__(self) -> None:
        PhotoSettings.__post_init__(self)
        TurntableSettings.__post_init__(self)
        check_choices("--mode", (self.mode,), MODES)
        check_choices("--up", (self.up,), UPS)

    def files_of(self, stem: str) -> list[str]:
        """The names of `outputs_of`."""
        return [output.name for output in self.outputs_of(stem)]


def size_in(text: str) -> tuple[int, int]:
    """Width and height of `512` or `640x360`.

    Raises:
        ValueError: that is not what it is.
    """
    match = re.fullmatch(r"(\d{1,9})(?:[x×](\d{1,9}))?", text)
    if match is None:
        raise ValueError(f"--size is {text!r}; it must be pixels, as 512 or 640x360")
    width = int(match[1])
    return width, int(match[2]) if match[2] else width


def kind_of(path: Path) -> Literal["photo", "triplane", "mesh"]:
    """What a file is, by its name: what has no other kind's suffix is a photo."""
    from model.formats.meshes import MESH_SUFFIXES
    from model.formats.names import is_triplane

    if is_triplane(path):
        return "triplane"
    return "mesh" if path.suffix.lower() in MESH_SUFFIXES else "photo"
