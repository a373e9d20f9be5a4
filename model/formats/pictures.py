"""Pictures as the bytes of files.

Legend of shapes: H height, W width.
"""

from __future__ import annotations

import io
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

TextureFormat = Literal["png", "jpeg", "webp"]

# JPEG without its usual halving of the colours' resolution, which would bleed over the seams
# between charts; WebP has no such choice.
_SETTINGS: dict[TextureFormat, dict[str, Any]] = {
    "png": {},
    "jpeg": {"quality": 92, "subsampling": 0},
    "webp": {"quality": 92},
}


def picture_bytes(pixels: NDArray[np.uint8], form: TextureFormat = "png") -> bytes:
    """A picture file; the same pixels always give the same bytes.

    Args:
        pixels: (H, W, 3) sRGB or (H, W) grey, but for JPEG also (H, W, 4), the top row first.

    Raises:
        ValueError: another format.
    """
    if form not in get_args(TextureFormat):
        raise ValueError(
            f"texture_format is {form!r}; it must be one of {', '.join(get_args(TextureFormat))}"
        )
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **_SETTINGS[form])
    return file.getvalue()
