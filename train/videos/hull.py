"""Where in the world a video's object is: the visual hull of its outlines, or sparse points.

The visual hull (Laurentini 1994) is what no outline excludes. Here a few may, since masks fail.

Legend of shapes: N points or voxels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from train.videos.choosing import evenly_spread
from train.videos.cutting import CutFrame
from train.videos.lenses import Points
from train.videos.masks import touches_border

FoundBy = Literal["visual hull", "sparse points"]

_COARSE, _FINE = 40, 64  # voxels along the longest side
_MOST_VIEWS = 32  # more make the hull no better, and take time
# Of the views, whose outlines may exclude a place of the object: at first, to tell which masks are
# bad, and then without these.
_MISSES_AT_FIRST, _MISSES = 0.15, 0.05
_LEAST_SEEN = 0.5  # of the views, in whose frames it must be
# Between all views: along them the hull would be far too long, or next to endless.
_NARROW_DEGREES, _LEAST_DEGREES = 30.0, 5.0
_FEWEST_POINTS = 20
_POINTS_INSIDE = 0.8  # of the views
_LEAST_AGREEMENT = 0.75


@dataclass(frozen=True)
class Place:
    """Where the object is.

    Attributes:
        points: (N, 3) that it takes up, in the world of the pose file: the hull's voxels, or sparse
            points.
        margin: how far the object may reach beyond them.
        found_by: what told.
    """

    points: Points
    margin: float
    found_by: FoundBy


class _View:
    """A frame's outline, ready to be asked about points."""

    def __init__(self, cut: CutFrame) -> None:
        from scipy import ndimage

        pose = cut.frame.camera_to_world
        self.position, self._axes, self.lens = pose[:3, 3], pose[:3, :3], cut.lens
        self.outline = cut.outline
        self.away = ndimage.distance_transform_edt(~cut.outline)  # pixels from the object
        self._open = touches_border(cut.outline) and not cut.is_whole
        rows, columns = np.nonzero(cut.outline)
        pixels = np.stack([columns, rows], axis=1)[:: max(len(rows) // 500, 1)].astype(float) + 0.5
        ideal = self.lens.straighten(pixels)
        lens = self.lens
        self._rays = (ideal - (lens.cx, lens.cy)) / (lens.fx, lens.fy)
        self.direction = self._axes @ np.append(self._rays.mean(axis=0), 1.0)
        self.direction /= np.linalg.norm(self.direction)
        self.area = np.count_nonzero(cut.outline) / (lens.fx * lens.fy)  # at distance 1

    def pixels(
        self, points: Points
    ) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_], Points]:
        """(N,) row and column, (N,) whether in the frame, (N,) depth, of (N, 3) points."""
        camera = (points - self.position) @ self._axes
        found, front = self.lens.project(camera)
        height, width = self.outline.shape
        x, y = found.T
        within = front & (x >= 0) & (x < width) & (y >= 0) & (y < height)
        row, column = (np.where(within, values, 0).astype(np.int64) for values in (y, x))
        return (row, column), within, camera[:, 2]

    def judge(self, points: Points, radius: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(N,) whether balls around points may be in the object, (N,) whether this can be told."""
        pixels, within, depth = self.pixels(points)
        margin = radius * max(self.lens.fx, self.lens.fy) / np.where(within, depth, 1.0)
        inside = within & (self.away[pixels] <= margin)
        return inside, within | (not self._open)

    def reach(self, center: NDArray[np.float64]) -> float:
        """How far from a point, at its depth, the outline reaches."""
        camera = (center - self.position) @ self._axes
        if camera[2] <= 1e-9:
            return math.nan
        off = np.linalg.norm(self._rays - camera[:2] / camera[2], axis=1)
        return float(off.max() * camera[2])


def world_areas(cuts: Sequence[CutFrame]) -> list[float]:
    """The outlines' areas in the world, at the distance of the point that all look at."""
    views = [_View(cut) for cut in cuts]
    center = _focus(views)
    return [view.area * float(np.sum((center - view.position) ** 2)) for view in views]


def find_object(cuts: Sequence[CutFrame], points_world: Points) -> Place:
    """The object's place, while bad masks may be among the outlines: by the visual hull.

    Sparse points inside of the outlines tell it where all frames are taken from nearly one side,
    or outlines and poses leave no hull.

    Args:
        points_world: (N, 3) of a sparse model, maybe none.

    Raises:
        ValueError: neither tells.
    """
    views = _some_views(cuts)
    center = _focus(views)
    angle = _widest_angle(views, center)
    points = _points_inside(views, points_world)
    if angle < _NARROW_DEGREES and len(points) >= _FEWEST_POINTS:
        return _around_points(points)
    if angle < _LEAST_DEGREES:
        raise ValueError(
            f"its frames are taken from within {angle:.1f} degrees around the object, and there "
            "are no sparse points: how far away the object is cannot be told"
        )
    voxels, voxel = _visual_hull(views, center, max(_MISSES_AT_FIRST * len(views), 1.0))
    if len(voxels):
        return Place(voxels, voxel / 2, "visual hull")
    if len(points) >= _FEWEST_POINTS:
        return _around_points(points)
    raise ValueError(
        "its masks and poses do not agree: no place in the world is inside of the object in "
        f"{1 - _MISSES_AT_FIRST:.0%} of the frames"
    )


def tightened(place: Place, cuts: Sequence[CutFrame]) -> Place:
    """The place that is left by good outlines only, of which fewer may exclude a part of it."""
    if place.found_by == "sparse points":
        return place
    views = _some_views(cuts)
    left = _inside(views, place.points, place.margin, max(_MISSES * len(views), 1.0))
    return replace(place, points=left) if len(left) else place


def disagree(cuts: Sequence[CutFrame], place: Place) -> list[bool]:
    """Which outlines leave out much of the hull, or reach far beyond it."""
    from scipy import ndimage

    if place.found_by == "sparse points":
        return [False] * len(cuts)
    results = []
    for cut in cuts:
        view = _View(cut)
        (row, column), within, depth = view.pixels(place.points)
        if not within.any():
            results.append(True)
            continue
        margin = (
            2 * place.margin * max(view.lens.fx, view.lens.fy) / float(np.median(depth[within]))
        )
        covered = np.zeros(view.outline.shape, bool)
        covered[row[within], column[within]] = True
        covered = ndimage.distance_transform_edt(~covered) <= max(margin, 1.0)
        beyond = np.count_nonzero(view.outline & ~covered) / np.count_nonzero(view.outline)
        # Of its picture, not its voxels: thickness must not count.
        shown = ndimage.binary_erosion(covered, iterations=max(round(margin), 1))
        left_out = float(np.count_nonzero(shown & ~view.outline)) / max(float(shown.sum()), 1.0)
        results.append(max(beyond, left_out) > 1 - _LEAST_AGREEMENT and not cut.is_whole)
    return results


def _some_views(cuts: Sequence[CutFrame]) -> list[_View]:
    return [_View(cuts[index]) for index in evenly_spread(len(cuts), _MOST_VIEWS)]


def _focus(views: Sequence[_View]) -> NDArray[np.float64]:
    """(3,) the point nearest to the rays through all outlines' middles, outliers left out."""
    positions = np.array([view.position for view in views])
    directions = np.array([view.direction for view in views])
    across = np.eye(3) - directions[:, :, None] * directions[:, None, :]
    used = np.ones(len(views), bool)
    center = positions.mean(axis=0)
    for _ in range(3):
        # Nearly parallel rays meet nowhere for sure: least squares takes the nearest place then.
        total, target = across[used].sum(axis=0), (across @ positions[..., None])[used].sum(axis=0)
        center = np.linalg.lstsq(total, target[:, 0], rcond=1e-9)[0]
        away = np.linalg.norm((across @ (center - positions)[..., None])[..., 0], axis=1)
        used = away <= 3 * np.median(away) + 1e-12
    return center


def _widest_angle(views: Sequence[_View], center: NDArray[np.float64]) -> float:
    """In degrees, between the directions in which two cameras see a point."""
    rays = np.array([center - view.position for view in views])
    rays /= np.maximum(np.linalg.norm(rays, axis=1, keepdims=True), 1e-12)
    return float(np.degrees(np.arccos(np.clip(rays @ rays.T, -1, 1).min())))


def _visual_hull(
    views: Sequence[_View], center: NDArray[np.float64], misses: float
) -> tuple[Points, float]:
    """(N, 3) voxel centres, maybe none, and the voxels' side."""
    reaches = np.array([view.reach(center) for view in views])
    if not np.isfinite(reaches).any():
        return np.empty((0, 3)), 0.0
    half = 1.5 * float(np.nanpercentile(reaches, 75))
    for _ in range(3):
        low, high = center - half, center + half
        voxels, voxel = _carve(views, low, high, _COARSE, misses)
        if not len(voxels):
            return voxels, voxel
        if (voxels.min(axis=0) > low + voxel).all() and (voxels.max(axis=0) < high - voxel).all():
            break
        half *= 1.5  # it may go on beyond
    low, high = voxels.min(axis=0) - voxel, voxels.max(axis=0) + voxel
    return _carve(views, low, high, _FINE, misses)


def _carve(
    views: Sequence[_View],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    count: int,
    allowed: float,
) -> tuple[Points, float]:
    """What the outlines leave of a box that has `count` voxels along its longest side.

    A voxel counts as inside where the ball around it may be, so that nothing thin is lost. So many
    outlines as `allowed` may exclude it.
    """
    voxel = float(np.max(np.subtract(high, low))) / count
    axes = [np.arange(low[i] + voxel / 2, high[i], voxel) for i in range(3)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    return _inside(views, points, voxel / 2, allowed), voxel


def _inside(views: Sequence[_View], points: Points, radius: float, allowed: float) -> Points:
    """Those of (N, 3) points around which balls may be in the object, by all views but so many."""
    misses, seen = np.zeros(len(points)), np.zeros(len(points))
    # Neighbours in time tell nearly the same: far ones first empty most of the box at once.
    for number in sorted(range(len(views)), key=lambda index: (index * 7) % len(views)):
        inside, known = views[number].judge(points, radius)
        misses += known & ~inside
        seen += known
        keep = misses <= allowed
        points, misses, seen = points[keep], misses[keep], seen[keep]
    return points[seen >= _LEAST_SEEN * len(views)]


def _points_inside(views: Sequence[_View], points: Points) -> Points:
    if not len(points):
        return points
    judged = [view.judge(points, 0.0) for view in views]
    inside = np.sum([a & b for a, b in judged], axis=0)
    known = np.sum([b for _, b in judged], axis=0)
    return points[(inside >= _POINTS_INSIDE * known) & (known >= _LEAST_SEEN * len(views))]


def _around_points(points: Points) -> Place:
    """Of their inner 96 % along each axis, with a tenth for what has no points."""
    low, high = np.percentile(points, [2, 98], axis=0)
    kept = points[((points >= low) & (points <= high)).all(axis=1)]
    if not np.ptp(kept, axis=0).any():
        raise ValueError("its sparse points inside of the masks are all in one place")
    return Place(kept, 0.05 * float(np.linalg.norm(np.ptp(kept, axis=0))), "sparse points")
