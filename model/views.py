"""What a renderer makes of an object from one camera, the same for fields and for meshes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
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
    """One object, ready to be seen from many cameras.

    Attributes:
        at_once: how many views may be made at the same time, and are made best so: on the CPU a
            field's many small operations share their work badly.
    """

    @property
    def at_once(self) -> int: ...

    def render(self, camera: Cameras, height: int, width: int, /) -> View:
        """The object from one camera, a `Cameras` without batch dimensions."""
        ...

    def close(self) -> None:
        """Let go of what the object takes."""
        ...


def render_all(
    renderer: Renderer, cameras: Sequence[Cameras], height: int, width: int
) -> Iterator[View]:
    """The views from all cameras, in order; a few at the most are ahead of whoever takes them."""
    if renderer.at_once == 1:
        for camera in cameras:
            yield renderer.render(camera, height, width)
        return
    threads = torch.get_num_threads()
    ahead: deque[Future[View]] = deque()
    pool = ThreadPoolExecutor(renderer.at_once, initializer=torch.set_num_threads, initargs=(1,))
    try:
        for camera in cameras:
            ahead.append(pool.submit(renderer.render, camera, height, width))
            if len(ahead) > renderer.at_once:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # some libraries have one number for all threads
