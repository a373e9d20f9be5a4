"""How videos become views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from model.matting import DEFAULT_MATTING_MODEL, MattingChoice, check_matting
from train.views import PictureFormat

VideoMatting = Literal["auto", "masks", "alpha", "rembg", "none"]


@dataclass(frozen=True)
class VideoSettings:
    """How frames are chosen, cut out and cropped.

    Attributes:
        size: side of the pictures, in pixels.
        views: the most frames that are kept, spread evenly over the video. 32 as for objects;
            MVImgNet's videos have about 30 frames, which are all kept then.
        min_frames: a video with fewer usable frames is refused.
        foreground_ratio: the object's longest side in each picture, over the picture's. As
            `lrm reconstruct` frames photos, so that a model meets at work what it has learned.
        picture_format: of the pictures' files.
        matting: `auto` takes masks that come with the video, else the frames' alpha where that
            cuts something out, else rembg's network; `masks`, `alpha` and `rembg` insist on one
            of these; `none` keeps whole frames.
        matting_model: of rembg's networks.
        min_sharpness: a frame is blurred if its sharpness (variance of the Laplacian over that of
            the gradient) is below this share of both the video's median and that of its
            neighbours; 0 keeps all.
    """

    size: int = 512
    views: int = 32
    min_frames: int = 8
    foreground_ratio: float = 0.65
    picture_format: PictureFormat = "png"
    matting: VideoMatting = "auto"
    matting_model: str = DEFAULT_MATTING_MODEL
    min_sharpness: float = 0.3

    def __post_init__(self) -> None:
        formats, mattings = get_args(PictureFormat), get_args(VideoMatting)
        rules = (
            (8 <= self.size <= 4096, "size", self.size, "from 8 to 4096 pixels"),
            (self.views >= 1, "views", self.views, "at least 1"),
            (
                2 <= self.min_frames <= self.views,
                "min-frames",
                self.min_frames,
                f"from 2 to the {self.views} views",
            ),
            (
                0 < self.foreground_ratio <= 1,
                "foreground-ratio",
                self.foreground_ratio,
                "above 0 and at most 1",
            ),
            (
                self.picture_format in formats,
                "picture-format",
                self.picture_format,
                f"one of {', '.join(formats)}",
            ),
            (self.matting in mattings, "matting", self.matting, f"one of {', '.join(mattings)}"),
            (0 <= self.min_sharpness < 1, "min-sharpness", self.min_sharpness, "from 0 to below 1"),
        )
        for ok, name, value, wanted in rules:
            if not ok:
                raise ValueError(f"{name} is {value}; it must be {wanted}")
        check_matting(self.network_matting, self.matting_model)

    @property
    def network_matting(self) -> MattingChoice:
        """What `model.matting` is asked for frames without a mask."""
        return "alpha" if self.matting == "masks" else self.matting
