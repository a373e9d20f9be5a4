"""Pinholes with the distortion of real lenses, in pixels.

Pixel (0, 0) has its centre at (0.5, 0.5), as in COLMAP and in `model.cameras`.

Legend of shapes: N points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
_NEWTON_STEPS = 20


@dataclass(frozen=True)
class Lens:
    """Where a camera's picture shows what it sees.

    With x = X/Z, y = Y/Z in OpenCV axes and r² = x² + y², the model of Brown (1966) as COLMAP's
    OPENCV camera has it:

        x' = x (1 + k1 r² + k2 r⁴ + k3 r⁶) + 2 p1 x y + p2 (r² + 2 x²)
        y' = y (1 + k1 r² + k2 r⁴ + k3 r⁶) + p1 (r² + 2 y²) + 2 p2 x y
        column = fx x' + cx, row = fy y' + cy

    Attributes:
        width, height: of the picture, in pixels.
        fx, fy, cx, cy: in pixels.
        distortion: k1, k2, p1, p2, k3.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"its picture has {self.width} × {self.height} pixels")
        values = (self.fx, self.fy, self.cx, self.cy, *self.distortion)
        if not all(map(math.isfinite, values)) or min(self.fx, self.fy) <= 0:
            raise ValueError(
                "its focal lengths, centre and distortion are no finite numbers, the focal "
                "lengths above 0"
            )

    @property
    def is_straight(self) -> bool:
        """Whether there is no distortion."""
        return not any(self.distortion)

    def resized(self, width: int, height: int) -> Lens:
        """For the same picture with another number of pixels."""
        x, y = width / self.width, height / self.height
        return replace(
            self,
            width=width,
            height=height,
            fx=self.fx * x,
            cx=self.cx * x,
            fy=self.fy * y,
            cy=self.cy * y,
        )

    def reduced(self, factor: int) -> Lens:
        """For the picture averaged over blocks of factor² pixels; the last ones may be partial."""
        return replace(
            self,
            width=-(-self.width // factor),
            height=-(-self.height // factor),
            fx=self.fx / factor,
            cx=self.cx / factor,
            fy=self.fy / factor,
            cy=self.cy / factor,
        )

    def distort(self, ideal_pixels: Points) -> Points:
        """(N, 2) where the picture shows what a pinhole of these intrinsics shows at (N, 2)."""
        if self.is_straight:
            return ideal_pixels
        return self._to_pixels(self._bent(self._from_pixels(ideal_pixels))[0])

    def straighten(self, pixels: Points) -> Points:
        """(N, 2) the inverse of `distort`, by Newton's method.

        Raises:
            ValueError: the distortion folds over there, so that it has no inverse.
        """
        if self.is_straight:
            return pixels
        wanted = self._from_pixels(pixels)
        found = wanted.copy()
        for _ in range(_NEWTON_STEPS):
            bent, (xx, xy, yy) = self._bent(found)
            off_x, off_y = (bent - wanted).T
            determinant = xx * yy - xy * xy
            determinant = np.where(np.abs(determinant) < 1e-9, 1e-9, determinant)
            found -= np.stack(
                [(yy * off_x - xy * off_y) / determinant, (xx * off_y - xy * off_x) / determinant],
                axis=1,
            )
        result = self._to_pixels(found)
        with np.errstate(over="ignore", invalid="ignore"):
            is_inverse = np.allclose(self.distort(result), pixels, atol=0.01)
        if not (is_inverse and self._is_unfolded(found).all()):
            raise ValueError("its distortion cannot be undone where the object is")
        return result

    def project(self, points_camera: Points) -> tuple[Points, NDArray[np.bool_]]:
        """Where (N, 3) points are seen: (N, 2) pixels, distorted, and (N,) whether in front.

        Pixels of points that are not in front have no meaning; nor has what lies so far outside
        that the distortion would fold it back into the picture, which counts as not in front.
        """
        front = points_camera[:, 2] > 1e-9
        ideal = points_camera[:, :2] / np.where(front, points_camera[:, 2], 1.0)[:, None]
        if self.is_straight:
            return self._to_pixels(ideal), front
        return self._to_pixels(self._bent(ideal)[0]), front & self._is_unfolded(ideal)

    def _is_unfolded(self, points: Points) -> NDArray[np.bool_]:
        """(N,) whether the distortion keeps the sense of small steps at (N, 2)."""
        xx, xy, yy = self._bent(points)[1]
        with np.errstate(over="ignore", invalid="ignore"):
            return (xx > 0) & (yy > 0) & (xx * yy > xy * xy)

    def _from_pixels(self, pixels: Points) -> Points:
        return (pixels - (self.cx, self.cy)) / (self.fx, self.fy)

    def _to_pixels(self, points: Points) -> Points:
        return points * (self.fx, self.fy) + (self.cx, self.cy)

    def _bent(self, points: Points) -> tuple[Points, tuple[NDArray[np.float64], ...]]:
        """x', y' of (N, 2), and their derivatives ∂x'/∂x, ∂x'/∂y = ∂y'/∂x, ∂y'/∂y, (N,) each."""
        k1, k2, p1, p2, k3 = self.distortion
        x, y = points.T
        with np.errstate(over="ignore", invalid="ignore"):
            square = x * x + y * y
            radial = 1 + square * (k1 + square * (k2 + square * k3))
            slope = 2 * (k1 + square * (2 * k2 + square * 3 * k3))  # d radial / d(r²) · 2
            bent_x = x * radial + 2 * p1 * x * y + p2 * (square + 2 * x * x)
            bent_y = y * radial + p1 * (square + 2 * y * y) + 2 * p2 * x * y
            xx = radial + x * x * slope + 2 * p1 * y + 6 * p2 * x
            xy = x * y * slope + 2 * p1 * x + 2 * p2 * y
            yy = radial + y * y * slope + 6 * p1 * y + 2 * p2 * x
        return np.stack([bent_x, bent_y], axis=1), (xx, xy, yy)
