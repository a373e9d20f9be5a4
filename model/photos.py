"""One photo → the square, matted, centred picture that the network takes (App. E, §4.2 Inference).

Three steps: `model.decoding` reads the file, `Matting` cuts the object out, `frame_photo` rescales
it to its share of a square and puts it on the model's background; `prepare_photo` does all three.

Legend of shapes: H height, W width, S side of the square.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from model.config import LrmConfig, ViewConfig
from model.decoding import PhotoError, read_photo

Framing = Literal["auto", "none"]

MIN_OBJECT_PIXELS = 16  # longest side; less shows nothing that could be reconstructed
DEFAULT_MATTING_MODEL = "isnet-general-use"

_VISIBLE_ALPHA = 26  # a tenth: fainter pixels do not count when the object's box is drawn
# Alpha cuts an object out when at least this share of the pixels lies below half: a few
# translucent pixels at rounded corners do not.
_CUT_OUT_SHARE = 0.01
# Of the pixels that a matting network does not take for background, how many it must be sure of
# (alpha above 0.9). Measured with isnet-general-use: at least 0.8 on real photos, at most 0.1
# on blank pictures, gradients and noise, where it still returns some smear.
_SURE_SHARE = 0.5
_MIN_OBJECT_SHARE = 0.001  # of the photo's area
_SPECK_SHARE = 0.02  # of the largest piece's area: smaller pieces are the matting's mistakes


class Matting:
    """Cuts objects out of photos; the network is loaded by the first photo that needs it.

    Args:
        choice: `auto` uses the alpha of pictures that are cut out already and rembg's
            isnet-general-use for others; the name of another of rembg's models uses that
            instead; `none` leaves pictures without such alpha as they are.

    Raises:
        ValueError: rembg has no model of this name.
    """

    def __init__(self, choice: str = "auto") -> None:
        self.model_name: str | None = DEFAULT_MATTING_MODEL if choice == "auto" else choice
        if choice == "none":
            self.model_name = None
        elif choice != "auto":
            names = _local_matting_models()
            if choice not in names:
                raise ValueError(
                    f"matting is {choice!r}; it must be auto, none, or one of rembg's models: "
                    f"{', '.join(names)}"
                )
        self._session: Any = None
        self._unavailable: str | None = None

    def cut_out(self, photo: Image.Image) -> Image.Image:
        """The photo (RGBA) with the alpha of its object.

        Raises:
            PhotoError: no object is found, or the network is neither here nor downloadable.
        """
        if self.model_name is None or is_cut_out(photo):
            return photo
        # What a network sees in a smaller picture is noise; say what is wrong instead.
        _require_size(photo.width, photo.height, "the picture")
        mask = np.asarray(self._load_session().predict(photo.convert("RGB"))[0])
        matted = photo.copy()
        matted.putalpha(Image.fromarray(_object_alpha(mask)))
        return matted

    def _load_session(self) -> Any:
        """rembg's session, made once; a failure is remembered, so that it costs time once."""
        if self._session is None and self._unavailable is None:
            from rembg.session_factory import new_session

            assert self.model_name is not None
            try:
                self._session = new_session(self.model_name)
            except Exception as error:  # network, disk, a damaged file: all mean it can't be had
                self._unavailable = _explain_unavailable(self.model_name, error)
        if self._unavailable is not None:
            raise PhotoError(self._unavailable)
        return self._session


def is_cut_out(photo: Image.Image) -> bool:
    """Whether the alpha of an RGBA picture really cuts something out."""
    histogram = photo.getchannel("A").histogram()
    return sum(histogram[:128]) >= _CUT_OUT_SHARE * photo.width * photo.height


def frame_photo(
    cutout: Image.Image, size: int, view: ViewConfig, framing: Framing = "auto"
) -> Tensor:
    """Centre and rescale the object on a square of the model's background.

    With framing `auto` the object's box is moved to the centre, and its longest side becomes
    `view.foreground_ratio` of the square. With `none`, or where nothing is cut out, the whole
    picture is kept and only made square.

    Args:
        cutout: RGBA; its colours are not premultiplied.
        size: S in pixels.

    Returns:
        (3, S, S) float32 sRGB in 0..1.

    Raises:
        PhotoError: nothing is visible, or the object is too small.
        ValueError: an unknown framing.
    """
    if framing not in get_args(Framing):
        raise ValueError(
            f"framing is {framing!r}; it must be one of {', '.join(get_args(Framing))}"
        )
    visible = cutout.getchannel("A").point(lambda alpha: 255 * (alpha >= _VISIBLE_ALPHA))
    box = visible.getbbox()
    if box is None:
        raise PhotoError("the picture is fully transparent")
    left, top, right, bottom = box
    _require_size(right - left, bottom - top, "the object")
    if framing == "auto" and is_cut_out(cutout):
        side = max(right - left, bottom - top) / view.foreground_ratio
    else:
        left, top, right, bottom = 0, 0, cutout.width, cutout.height
        side = float(max(cutout.width, cutout.height))
    center_x, center_y = (left + right) / 2, (top + bottom) / 2
    window = (center_x - side / 2, center_y - side / 2, center_x + side / 2, center_y + side / 2)
    # Premultiplied, so that the colours of transparent pixels do not leak into edges.
    square = _resample(cutout.convert("RGBa"), window, size)
    alpha = square[..., 3:]
    picture = np.minimum(square[..., :3], alpha) + (1 - alpha) * view.background
    return torch.from_numpy(picture).permute(2, 0, 1).contiguous()


def prepare_photo(
    source: Path | bytes, config: LrmConfig, matting: Matting, framing: Framing = "auto"
) -> Tensor:
    """(3, S, S) float32: the picture that a model of this config takes.

    Raises:
        PhotoError: as `read_photo`, `Matting.cut_out` and `frame_photo`.
    """
    cutout = matting.cut_out(read_photo(source))
    return frame_photo(cutout, config.encoder.image_size, config.view, framing)


def _local_matting_models() -> list[str]:
    """rembg's models that run here and need nothing but a picture."""
    from rembg.sessions import sessions_class

    return sorted(
        session.name()
        for session in sessions_class
        if session.is_local() and session.name() not in ("sam", "dis_custom", "u2net_custom")
    )


def _explain_unavailable(name: str, error: Exception) -> str:
    from rembg.sessions import sessions_class

    (session,) = (s for s in sessions_class if s.name() == name)
    reason = " ".join(str(error).split())
    reason = reason if len(reason) <= 120 else reason[:117] + "..."
    return (
        f"the photo has no transparent background, and the matting model {name} that would cut "
        f"its object out is not on this machine and could not be downloaded ({reason}). "
        "Either give pictures whose background is transparent already, or use photos as they are "
        f"with --matting none; or save {name}.onnx from "
        f"https://github.com/danielgatis/rembg/releases as {session.model_dir()}/{name}.onnx"
    )


def _object_alpha(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) of a network's mask, without specks.

    Raises:
        PhotoError: the mask holds no object.
    """
    from scipy import ndimage  # rembg brings it

    sure, maybe = np.count_nonzero(mask > 229), np.count_nonzero(mask >= _VISIBLE_ALPHA)
    if sure < _MIN_OBJECT_SHARE * mask.size or sure < _SURE_SHARE * maybe:
        raise PhotoError("matting finds no object in the photo")
    pieces, count = ndimage.label(mask >= _VISIBLE_ALPHA)
    areas = np.bincount(pieces.ravel(), minlength=count + 1)
    keep = areas >= _SPECK_SHARE * areas[1:].max()
    keep[0] = True  # the faint surroundings stay as they are
    return np.where(keep[pieces], mask, 0).astype(np.uint8)


def _require_size(width: int, height: int, what: str) -> None:
    if max(width, height) < MIN_OBJECT_PIXELS:
        raise PhotoError(
            f"{what} is {width}×{height} pixels; its longer side must have at least "
            f"{MIN_OBJECT_PIXELS}"
        )


def _resample(
    image: Image.Image, window: tuple[float, float, float, float], size: int
) -> NDArray[np.float32]:
    """(S, S, 4) in 0..1 of a window of the picture, zero where it reaches beyond.

    Antialiased: large pictures are averaged over whole pixels first, which bounds the memory.
    """
    factor = int((window[2] - window[0]) / (4 * size))
    if factor > 1:
        image = image.reduce(factor)
        window = tuple(edge / factor for edge in window)  # type: ignore[assignment]
    left, top = int(np.floor(window[0])), int(np.floor(window[1]))
    right, bottom = int(np.ceil(window[2])), int(np.ceil(window[3]))
    inside = (window[0] - left, window[1] - top, window[2] - left, window[3] - top)
    crop = image.crop((left, top, right, bottom))
    resized = crop.resize((size, size), Image.Resampling.BICUBIC, box=inside)
    return np.asarray(resized, dtype=np.float32) / np.float32(255)
