"""The one window of the process, off screen, and how pictures are read from it.

Opening a window costs more than drawing in it. All renderers of a process draw into the same
one, in turn; each keeps its own scenes in it, so that textures and triangles stay uploaded.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LOCK = threading.RLock()


@contextlib.contextmanager
def drawing() -> Iterator[Any]:
    """The window, for this thread alone until the block ends.

    An OpenGL context is current on one thread at a time. Where a second one draws without the
    first having released it, pictures come out wrong and nobody says so.

    Raises:
        ValueError: the system has no OpenGL library that draws without a display.
    """
    with _LOCK:
        window = _window()
        window.MakeCurrent()
        try:
            yield window
        finally:
            window.ReleaseCurrent()


def draw(window: Any, scene: Any, height: int, width: int) -> None:
    """Draw one of the window's scenes.

    Raises:
        ValueError: the picture is larger than the graphics library can draw.
    """
    if window.GetSize() != (width, height):
        from vtkmodules.vtkRenderingOpenGL2 import vtkTextureObject

        limit = vtkTextureObject.GetMaximumTextureSize(window)
        if max(height, width) > limit:
            raise ValueError(
                f"{width}×{height} pixels with their supersampling are more than can be drawn: "
                f"the graphics library's limit is {limit} a side"
            )
        window.SetSize(width, height)
    scene.DrawOn()
    window.Render()
    scene.DrawOff()


def read_rgba(window: Any) -> NDArray[np.uint8]:
    """(H, W, 4) what was drawn, with premultiplied alpha, the first row on top."""
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkCommonCore import vtkUnsignedCharArray

    width, height = window.GetSize()
    pixels = vtkUnsignedCharArray()
    window.GetRGBACharPixelData(0, 0, width - 1, height - 1, 0, pixels)
    return vtk_to_numpy(pixels).reshape(height, width, 4)[::-1]


def read_z_buffer(window: Any) -> NDArray[np.float32]:
    """(H, W) 0 at the near plane, 1 at the far plane and where nothing is."""
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkCommonCore import vtkFloatArray

    width, height = window.GetSize()
    values = vtkFloatArray()
    window.GetZbufferData(0, 0, width - 1, height - 1, values)
    return vtk_to_numpy(values).reshape(height, width)[::-1]


@functools.cache
def _window() -> Any:
    import vtkmodules.vtkRenderingOpenGL2  # noqa: F401  (the windows that the next line chooses from)
    from vtkmodules.vtkCommonCore import vtkLogger
    from vtkmodules.vtkRenderingCore import vtkRenderWindow

    # VTK tries an X server first and warns when there is none; that is no news.
    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_ERROR)
    window: Any = vtkRenderWindow()
    # Its last resort, for which it does not look before it leaps.
    if window.GetClassName() == "vtkOSOpenGLRenderWindow" and not _has_osmesa():
        raise ValueError(
            "drawing meshes needs the system's EGL or OSMesa library, and neither is installed: "
            "apt-get install libegl1, or libosmesa6"
        )
    window.SetOffScreenRendering(True)
    window.SetAlphaBitPlanes(True)
    window.SetMultiSamples(0)
    window.Render()
    return window


def _has_osmesa() -> bool:
    if sys.platform != "linux":
        return True  # VTK's wheels bring it along
    for name in ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"):
        with contextlib.suppress(OSError):
            ctypes.CDLL(name)
            return True
    return False
