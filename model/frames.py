"""Views to 8-bit pictures that people look at: colours, depth, normals and opacity.

Legend of shapes: H height, W width.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.views import Channel, View

# sRGB, each 0..255; None is transparent.
Background = tuple[int, int, int] | None

WHITE = (255, 255, 255)
_FARTHEST_GREY = 0.1  # so that the far end of the range differs from nothing, which is black


def parse_background(text: str) -> Background:
    """`white`, `transparent`, or a colour as `#rrggbb`.

    Raises:
        ValueError: another text.
    """
    if text == "transparent":
        return None
    if text == "white":
        return WHITE
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        raise ValueError(
            f"background is {text!r}; it must be white, transparent, or a colour as #rrggbb, "
            "such as #808080"
        )
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue


def picture(
    view: View,
    channel: Channel,
    *,
    background: Background = WHITE,
    camera_to_world: NDArray[np.floating],
    near_world: float,
    far_world: float,
) -> NDArray[np.uint8]:
    """One channel of a view as a picture.

    - `rgb`: the colours over the background.
    - `depth`: grey, linear in the depth, the near end white. Grey, because it is what depth maps
      are to the tools that take them, survives the halved colour resolution of videos and the 256
      colours of GIF, and is read without a legend. Nothing is black, whatever the background, as
      if it were infinitely far.
    - `normal`: (n + 1) / 2 of the normal as the camera sees it, x to the right, y up, z towards
      the viewer. So what faces the viewer is the light blue known from normal maps, in every frame
      of a turntable, and a model's frames compare with what estimators of normals give for a photo.
    - `alpha`: the opacity, white where the object is.

    Args:
        background: None leaves it transparent; only `alpha` has none then either.
        camera_to_world: (4, 4) of the view's camera, OpenCV axes.
        near_world, far_world: depths that are white and nearly black: the same for all frames of
            a turntable, so that it does not flicker.

    Returns:
        (H, W, 3) sRGB, or (H, W, 4) with straight alpha for a transparent background.

    Raises:
        ValueError: the view lacks the channel.
    """
    colors: NDArray[np.floating]
    opacity: NDArray[np.floating] = view.opacity
    if channel == "rgb":
        colors = view.colors
    elif channel == "depth":
        depth = _present(view.depth_world, channel)
        share = (far_world - depth) / (far_world - near_world)
        opacity = opacity * (depth > 0)
        colors = _grey((_FARTHEST_GREY + (1 - _FARTHEST_GREY) * share.clip(0, 1)) * opacity)
        background = background and (0, 0, 0)
    elif channel == "normal":
        normals = _present(view.normals_world, channel)
        opacity = opacity * normals.any(axis=2)
        right_down_forward = normals @ camera_to_world[:3, :3].astype(np.float32)
        right_up_back = right_down_forward * np.array([1, -1, -1], np.float32)
        colors = (right_up_back + 1) / 2 * opacity[..., None]
    else:
        colors = _grey(opacity)
        opacity = np.ones_like(opacity)
    if background is None:
        return _transparent(colors, opacity)
    return _over(colors, opacity, background)


def side_by_side(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """(H, W · n, 3 or 4) pictures of one size in a row, the first on the left."""
    return np.concatenate(pictures, axis=1)


def _present(values: NDArray[np.floating] | None, channel: Channel) -> NDArray[np.floating]:
    if values is None:
        raise ValueError(f"the view has no {channel}: it was not asked for")
    return values


def _grey(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """(H, W, 3)"""
    return np.repeat(values[..., None], 3, axis=2)


def _over(
    colors: NDArray[np.floating], opacity: NDArray[np.floating], background: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """Premultiplied colours over a background, (H, W, 3)."""
    behind = np.asarray(background, np.float32)
    return _rounded(colors * 255 + (1 - opacity[..., None]) * behind)


def _transparent(colors: NDArray[np.floating], opacity: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Premultiplied colours as (H, W, 4) with straight alpha; what is empty is all zero."""
    alpha = _rounded(opacity * 255)
    straight = _rounded(colors * (255 / np.maximum(opacity, np.float32(1 / 510)))[..., None])
    pixels = np.dstack([straight, alpha])
    pixels[alpha == 0] = 0
    return pixels


def _rounded(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    return (values + 0.5).clip(0, 255).astype(np.uint8)
