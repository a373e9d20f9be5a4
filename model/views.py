"""What a renderer makes of an object from one camera, the same for fields and for meshes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from model.cameras import Cameras

Channel = Literal["rgb", "depth", "normal", "alpha"]


@dataclass(frozen=True)
class View:
    """One picture's channels, (H, W, ...) float32.

    Attributes:
        colors: (H, W, 3) sRGB in 0..1, premultiplied by the opacity: over a background b, the
            picture is colors + (1 - opacity) · b.
        opacity: (H, W) in 0..1.
        depth_world: (H, W) distance from the camera along its axis, in world units; 0 where
            nothing is seen. None where it was not asked for.
        normals_world: (H, W, 3) of length one, towards the outside; 0 where nothing is seen.
            None where they were not asked for.
    """

    colors: NDArray[np.float32]
    opacity: NDArray[np.float32]
    depth_world: NDArray[np.float32] | None = None
    normals_world: NDArray[np.float32] | None = None


class Renderer(Protocol):
    """One object, ready to be seen from many cameras."""

    def render(self, camera: Cameras, height: int, width: int, /) -> View:
        """The object from one camera, a `Cameras` without batch dimensions."""
        ...

    def close(self) -> None:
        """Let go of what the object takes."""
        ...
