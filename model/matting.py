"""Cutting the object of a photo out: by the alpha that it has, or by a matting network.

Semi-transparent pixels at an object's edge still hold some of what was behind it, which would
stay as a dark or white fringe; they get the object's own colour.

Legend of shapes: H height, W width.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.decoding import PhotoError

MattingChoice = Literal["auto", "alpha", "rembg", "none"]

DEFAULT_MATTING_MODEL = "isnet-general-use"
MIN_OBJECT_PIXELS = 16  # longest side; less shows nothing that could be reconstructed
VISIBLE_ALPHA = 26  # a tenth: fainter pixels do not count when the object's box is drawn

# Alpha cuts an object out when at least this share of the pixels lies below half: a few
# translucent pixels at rounded corners do not.
_CUT_OUT_SHARE = 0.01
# Of the pixels that a matting network does not take for background, how many it must be sure of
# (alpha above 0.9). Measured with isnet-general-use: at least 0.8 on real photos, at most 0.1
# on blank pictures, gradients and noise, where it still returns some smear.
_SURE_SHARE = 0.5
_MIN_OBJECT_SHARE = 0.001  # of the photo's area
_SPECK_SHARE = 0.02  # of the largest piece's area: smaller pieces are the matting's mistakes
_SOLID_ALPHA = 243  # 0.95: such pixels hold next to nothing of the background
_WIDEST_EDGE = 0.02  # of the picture's longer side; farther from solid ones, glass is meant


def check_matting(choice: str, model_name: str) -> None:
    """Refuse what `Matting` does not know; cheap unless another than the default model is named.

    Raises:
        ValueError: no such choice, or rembg has no model of this name.
    """
    if choice not in get_args(MattingChoice):
        raise ValueError(
            f"matting is {choice!r}; it must be one of {', '.join(get_args(MattingChoice))} "
            "(another of rembg's networks is chosen by the matting model)"
        )
    if model_name != DEFAULT_MATTING_MODEL and model_name not in (names := _local_models()):
        raise ValueError(
            f"the matting model is {model_name!r}; it must be one of rembg's: {', '.join(names)}"
        )


class Matting:
    """Cuts objects out of photos; the network is loaded by the first photo that needs it.

    Args:
        choice: `auto` uses the alpha of pictures that are cut out already and the network for
            others; `alpha` refuses others; `rembg` uses the network for all; `none` leaves all
            pictures as they are.
        model_name: of rembg's networks.

    Raises:
        ValueError: see `check_matting`.
    """

    def __init__(self, choice: str = "auto", model_name: str = DEFAULT_MATTING_MODEL) -> None:
        check_matting(choice, model_name)
        self._choice = choice
        self._model_name = model_name
        self._session: Any = None
        self._unavailable: str | None = None
        self._loading = threading.Lock()  # several threads may prepare photos

    def cut_out(self, photo: Image.Image) -> Image.Image:
        """The photo (RGBA) with the alpha of its object, and the object's own colours at edges.

        Raises:
            PhotoError: no object is found, or the network is neither here nor downloadable.
        """
        if self._choice == "none":
            return photo
        if self._choice != "rembg" and is_cut_out(photo):
            return extend_solid_colors(photo)
        if self._choice == "alpha":
            raise PhotoError(
                "the picture has no transparent background, and with --matting alpha nothing "
                "else cuts its object out"
            )
        # What a network sees in a smaller picture is noise; say what is wrong instead.
        require_size(photo.width, photo.height, "the picture")
        opaque = Image.alpha_composite(Image.new("RGBA", photo.size, "white"), photo)
        rgb = opaque.convert("RGB")
        mask = np.asarray(self._load_session().predict(rgb)[0])
        return _with_own_colors(rgb, _object_alpha(mask))

    def _load_session(self) -> Any:
        """rembg's session, made once; a failure is remembered, so that it costs time once."""
        with self._loading:
            if self._session is None and self._unavailable is None:
                from rembg.session_factory import new_session

                try:
                    self._session = new_session(self._model_name)
                except Exception as error:  # network, disk, a damaged file: it can't be had
                    self._unavailable = _explain_unavailable(self._model_name, error)
        if self._unavailable is not None:
            raise PhotoError(self._unavailable)
        return self._session


def local_network(name: str) -> Path | None:
    """The file of one of rembg's networks, where rembg finds it; None: not on this machine.

    Without rembg, whose import takes seconds.
    """
    data = os.environ.get("XDG_DATA_HOME")
    old = os.environ.get("U2NET_HOME") or os.path.join(data or "~", ".u2net")
    new = os.environ.get("REMBG_HOME") or (os.path.join(data, "rembg") if data else "~/.rembg")
    new = os.environ.get("U2NET_HOME") or new
    file = f"{name}.onnx"
    places = (Path(new, "models", name, file), Path(old, file))
    return next((path for place in places if (path := place.expanduser()).is_file()), None)


def use_networks_in(folder: Path) -> None:
    """Have rembg, in this process, look in a folder for the networks' files before all else."""
    os.environ["U2NET_HOME"] = str(folder)


def is_cut_out(photo: Image.Image) -> bool:
    """Whether the alpha of an RGBA picture really cuts something out."""
    histogram = photo.getchannel("A").histogram()
    return sum(histogram[:128]) >= _CUT_OUT_SHARE * photo.width * photo.height


def require_size(width: int, height: int, what: str) -> None:
    """Refuse what is too small to show anything.

    Raises:
        PhotoError: so it is.
    """
    if max(width, height) < MIN_OBJECT_PIXELS:
        raise PhotoError(
            f"{what} is {width}×{height} pixels; its longer side must have at least "
            f"{MIN_OBJECT_PIXELS}"
        )


def _local_models() -> list[str]:
    """rembg's models that run here, need nothing but a picture, and cut out all of the object."""
    from rembg.sessions import sessions_class

    names = (session.name() for session in sessions_class if session.is_local())
    others = ("_custom", "sam", "u2net_cloth_seg")  # a file of one's own, a prompt, clothes only
    return sorted(name for name in names if not name.endswith(others))


def _explain_unavailable(name: str, error: Exception) -> str:
    from rembg.sessions import sessions_class

    (session,) = (s for s in sessions_class if s.name() == name)
    reason = " ".join(str(error).split())
    reason = reason if len(reason) <= 120 else reason[:117] + "..."
    return (
        f"the photo has no transparent background, and the matting network {name} cannot be "
        f"downloaded ({reason}): save {name}.onnx of https://github.com/danielgatis/rembg/releases "
        f"in {session.model_dir()}, or take photos as they are by --matting none"
    )


def _object_alpha(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) of a network's mask, without specks.

    Raises:
        PhotoError: the mask holds no object.
    """
    from scipy import ndimage  # rembg brings it

    sure, maybe = np.count_nonzero(mask > 229), np.count_nonzero(mask >= VISIBLE_ALPHA)
    if sure < _MIN_OBJECT_SHARE * mask.size or sure < _SURE_SHARE * maybe:
        raise PhotoError("matting finds no object in the photo")
    pieces, count = ndimage.label(mask >= VISIBLE_ALPHA)
    areas = np.bincount(pieces.ravel(), minlength=count + 1)
    keep = areas >= _SPECK_SHARE * areas[1:].max()
    keep[0] = True  # the faint surroundings stay as they are
    return np.where(keep[pieces], mask, 0).astype(np.uint8)


def extend_solid_colors(cutout: Image.Image) -> Image.Image:
    """Semi-transparent pixels take the colour of the nearest solid one.

    Whether the colours that they have are mixed with a background, and which, a file does not
    tell. If they are not, little is lost: on shaded test pictures 0.3 of 255, where unmixing
    them lost 8.
    """
    from scipy import ndimage

    pixels = np.array(cutout)
    left, top, right, bottom = cutout.getchannel("A").getbbox() or (0, 0, 0, 0)
    visible = pixels[top:bottom, left:right]
    solid = visible[..., 3] >= _SOLID_ALPHA
    edge = np.nonzero((visible[..., 3] > 0) & ~solid)
    if solid.any() and len(edge[0]):
        # Distances of all pixels, which scipy would give too, would take most of the time.
        nearest = ndimage.distance_transform_edt(
            ~solid, return_distances=False, return_indices=True
        )[:, *edge]
        near = np.hypot(*(nearest - edge)) <= max(_WIDEST_EDGE * max(cutout.size), 2)
        visible[edge[0][near], edge[1][near], :3] = visible[*nearest[:, near]][:, :3]
    return Image.fromarray(pixels)


def _with_own_colors(photo: Image.Image, alpha: NDArray[np.uint8]) -> Image.Image:
    """RGBA of a photo (RGB) and its object's alpha (H, W), without what shines through.

    Here the background is in the photo, so that both can be told apart (Germer et al. 2020).
    """
    from pymatting import estimate_foreground_ml  # rembg brings it

    pixels = np.dstack([np.asarray(photo), alpha])
    edge = (alpha > 0) & (alpha < 255)
    if edge.any():
        box = Image.fromarray(alpha).getbbox()
        assert box is not None
        left, top, right, bottom = box
        place = np.s_[max(top - 8, 0) : bottom + 8, max(left - 8, 0) : right + 8]
        colors = estimate_foreground_ml(pixels[place][..., :3] / 255.0, alpha[place] / 255.0)
        own = np.round(np.clip(colors, 0, 1) * 255).astype(np.uint8)
        pixels[place][..., :3][edge[place]] = own[edge[place]]
    return Image.fromarray(pixels)
