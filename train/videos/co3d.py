"""CO3D's `frame_annotations.jgz`: all frames of all sequences of a category.

Its cameras are PyTorch3D's: x left, y up, z forward, rows times matrices, X_camera = X_world R + T,
and normalised device coordinates that grow to the left and upwards from the picture's middle.
"""

from __future__ import annotations

import functools
import gzip
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.videos.frames import checked_pose, natural_key, pose_of
from train.videos.lenses import Lens

ANNOTATIONS = "frame_annotations.jgz"
_LARGEST_BYTES = 2**31  # the largest category unpacks to some hundred MB
_LEFT_UP_TO_RIGHT_DOWN = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Co3dFrame:
    """A frame of a sequence; names are relative to the folder above the category.

    Attributes:
        camera_to_world: (4, 4), OpenCV axes; None where the file has no camera.
    """

    name: str
    mask_name: str
    camera_to_world: NDArray[np.float64] | None
    lens: Lens | None


def sequences_of(path: Path) -> list[str]:
    """The names of a file's sequences, in natural order.

    Raises:
        ValueError: it is no such file.
    """
    return sorted(_by_sequence(path, path.stat().st_mtime_ns), key=natural_key)


def read_co3d(path: Path, sequence: str) -> list[Co3dFrame]:
    """The frames of a sequence, in their order.

    Raises:
        ValueError: it is no such file, has no such sequence, or a frame of it makes no sense.
    """
    try:
        entries = _by_sequence(path, path.stat().st_mtime_ns).get(sequence)
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read ({error.strerror})") from error
    if not entries:
        raise ValueError(f"{path.name} has no sequence {sequence}")
    frames = []
    for entry in entries:
        try:
            frames.append(_frame(entry))
        except KeyError as error:
            raise ValueError(f"a frame of {sequence} in {path.name} has no {error}") from None
        except (TypeError, AttributeError, ValueError, ArithmeticError) as error:
            raise ValueError(
                f"a frame of {sequence} in {path.name} cannot be used: {error}"
            ) from None
    return frames


@functools.lru_cache(maxsize=1)  # one after the other, its sequences are asked for
def _by_sequence(path: Path, changed: int) -> dict[str, list[dict[str, Any]]]:
    try:
        with gzip.open(path) as file:
            content = file.read(_LARGEST_BYTES + 1)
    except (OSError, EOFError, zlib.error):
        raise ValueError(f"{path.name} is no gzip file, or is cut off") from None
    if len(content) > _LARGEST_BYTES:
        raise ValueError(f"{path.name} unpacks to more than {_LARGEST_BYTES // 2**30} GiB")
    try:
        entries = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError(f"{path.name} holds no JSON") from None
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path.name} has no list of frames")
    groups: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("sequence_name"), str):
            raise ValueError(f"{path.name} has a frame without sequence_name")
        groups.setdefault(entry["sequence_name"], []).append(entry)
    return groups


def _frame(entry: dict[str, Any]) -> Co3dFrame:
    image, mask, viewpoint = entry["image"], entry.get("mask"), entry.get("viewpoint")
    mask_name = mask.get("path") if isinstance(mask, dict) else ""
    if not isinstance(image["path"], str):
        raise ValueError("its path is no text")
    if viewpoint is None:
        return Co3dFrame(image["path"], mask_name or "", None, None)
    height, width = map(int, image["size"])
    pose = camera_to_world(np.array(viewpoint["R"], float), np.array(viewpoint["T"], float))
    lens = lens_of(
        width,
        height,
        viewpoint["focal_length"],
        viewpoint["principal_point"],
        viewpoint.get("intrinsics_format", "ndc_norm_image_bounds"),
    )
    return Co3dFrame(image["path"], mask_name or "", pose, lens)


def camera_to_world(
    rotation: NDArray[np.float64], translation: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(4, 4) with OpenCV axes of PyTorch3D's (3, 3) R and (3,) T.

    Raises:
        ValueError: R is no rotation, or something is not finite.
    """
    if rotation.shape != (3, 3) or translation.shape != (3,):
        raise ValueError("its R and T are no 3 × 3 and 3 numbers")
    # For columns: X_opencv = F (Rᵀ X + T), so that the camera stands at -R T with axes R F.
    return checked_pose(pose_of(rotation @ _LEFT_UP_TO_RIGHT_DOWN, -rotation @ translation))


def lens_of(
    width: int, height: int, focal: tuple[float, float], center: tuple[float, float], form: str
) -> Lens:
    """A lens from PyTorch3D's focal length and principal point.

    Args:
        form: whether the coordinates reach from -1 to 1 over each side of the picture
            (`ndc_norm_image_bounds`) or over the shorter one (`ndc_isotropic`).

    Raises:
        ValueError: another form, or numbers that make no lens.
    """
    half = np.array([width, height]) / 2
    if form == "ndc_isotropic":
        unit = np.full(2, half.min())
    elif form == "ndc_norm_image_bounds":
        unit = half
    else:
        raise ValueError(
            f"its intrinsics_format is {str(form)[:40]!r}; it must be one of "
            "ndc_isotropic, ndc_norm_image_bounds"
        )
    (fx, fy), (cx, cy) = np.array(focal, float) * unit, half - np.array(center, float) * unit
    return Lens(width, height, float(fx), float(fy), float(cx), float(cy))
