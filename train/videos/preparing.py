"""§4.1 a video with poses → posed views: the frames that are worth it, in a world of the object's.

Legend of shapes: V views, S picture side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from model.cameras import SAFE_OBJECT_RADIUS, Cameras, Normalization
from train.videos.choosing import are_blurred, do_jump, evenly_spread
from train.videos.cutting import CutFrame, cut_frame
from train.videos.decoding import read_picture, read_video_frames
from train.videos.frames import Frame, PosedVideo, VideoSource, pose_of
from train.videos.hull import Place, disagree, find_object, tightened, world_areas
from train.videos.masks import DroppedFrameError, Reason
from train.videos.poses import read_poses
from train.videos.rendered import RENDERED
from train.videos.settings import VideoSettings
from train.views import ObjectViews, encode_views

# So many times the wanted frames are looked at, so that others can take the place of bad ones.
_CANDIDATES_PER_VIEW = 2
# Their x axes tell where up is, if they spread this much more than they are off the level.
_CLEARLY, _LEAST_SPREAD = 4.0, 1e-4


def video_views(source: VideoSource, settings: VideoSettings, uid: str) -> ObjectViews:
    """Views of a video's object, the same for the same files and settings.

    Those that others rendered are not blurred, and their kind is synthetic.

    One frame is in memory at a time, and beside it the crops of at most twice the wanted views.

    Raises:
        ValueError: the video cannot be used; says why in one sentence.
    """
    posed = read_poses(source)
    indices = evenly_spread(len(posed.frames), _CANDIDATES_PER_VIEW * settings.views)
    candidates = [posed.frames[index] for index in indices]
    tally = _Tally(len(candidates), settings.min_frames)
    tally.counts["without a pose"] = posed.unposed
    cuts = []
    for frame, image in _images(posed, candidates, tally):
        try:
            cuts.append(cut_frame(frame, image, settings))
        except DroppedFrameError as error:
            tally.add(error)
    tally.require(cuts)
    is_film = source.kind not in RENDERED
    if settings.matting != "none" and is_film:
        cuts = tally.without(cuts, do_jump(world_areas(cuts)), "size of the mask jumps")
    if is_film:
        sharpness = [cut.sharpness for cut in cuts]
        cuts = tally.without(cuts, are_blurred(sharpness, settings.min_sharpness), "blurred")
    place = find_object(cuts, posed.points_world)
    cuts = tally.without(cuts, disagree(cuts, place), "mask disagrees with the others")
    place = tightened(place, cuts)
    cuts = [cuts[index] for index in evenly_spread(len(cuts), settings.views)]
    world = world_of(place, [cut.frame.camera_to_world for cut in cuts])
    poses = np.stack([_moved(world, cut.frame.camera_to_world) for cut in cuts])
    distance = float(np.linalg.norm(poses[:, :3, 3], axis=1).min())
    if not distance > SAFE_OBJECT_RADIUS:  # nor NaN
        raise ValueError(
            "its masks and poses do not agree: a camera stands inside of the object's place"
        )
    cameras = Cameras(
        torch.from_numpy(poses).float(),
        torch.from_numpy(np.stack([cut.intrinsics for cut in cuts])).float(),
    )
    pictures = encode_views(np.stack([cut.picture for cut in cuts]), settings.picture_format)
    facts: dict[str, Any] = {
        "frames_in_file": len(posed.frames) + posed.unposed,
        "frames_considered": len(candidates),
        "frames_kept": len(cuts),
        "frames_dropped": {reason: n for reason, n in sorted(tally.counts.items()) if n},
        "frames": [cut.frame.name for cut in cuts],
        "object_found_by": place.found_by,
        "world_from_file": world.tolist(),
        "scale": float(np.cbrt(np.linalg.det(world[:3, :3]))),
    }
    origin = {"video": source.name, "poses": source.poses.name}
    kind: Normalization = "video" if is_film else "synthetic"
    return ObjectViews(uid, kind, cameras, pictures, origin, facts=facts)


class _Tally:
    """Counts of frames that are left out, by reason."""

    def __init__(self, considered: int, needed: int) -> None:
        self.counts: Counter[Reason] = Counter()
        self._considered, self._needed = considered, needed
        self._first: dict[Reason, str] = {}

    def add(self, error: DroppedFrameError) -> None:
        self.counts[error.reason] += 1
        self._first.setdefault(error.reason, str(error))

    def without(
        self, cuts: list[CutFrame], bad: Sequence[bool] | NDArray[np.bool_], reason: Reason
    ) -> list[CutFrame]:
        """Those that are not bad.

        Raises:
            ValueError: they are too few.
        """
        for cut, is_bad in zip(cuts, bad, strict=True):
            if is_bad:
                self.add(DroppedFrameError(reason, cut.frame.name))
        kept = [cut for cut, is_bad in zip(cuts, bad, strict=True) if not is_bad]
        self.require(kept)
        return kept

    def require(self, kept: Sequence[CutFrame]) -> None:
        """Refuse the video if too few frames are left.

        Raises:
            ValueError: so it is; tells how many were dropped, why, and an example of each.
        """
        if len(kept) >= self._needed:
            return
        reasons = "; ".join(
            f"{self.counts[reason]} {reason} ({detail})" for reason, detail in self._first.items()
        )
        raise ValueError(
            f"{len(kept)} of its {self._considered} frames are usable, and {self._needed} are "
            f"needed{': ' * bool(reasons)}{reasons}"
        )


def _images(
    posed: PosedVideo, frames: Sequence[Frame], tally: _Tally
) -> Iterator[tuple[Frame, Image.Image]]:
    """Frames with their RGBA pictures, one at a time; those without one are counted."""
    if posed.video is not None:
        indices = [frame.video_index for frame in frames if frame.video_index is not None]
        yield from zip(frames, read_video_frames(posed.video, indices), strict=True)
        return
    for frame in frames:
        assert frame.picture is not None
        try:
            image = read_picture(frame.picture)
        except ValueError as error:
            detail = f"{frame.name}: {error}"
            tally.add(DroppedFrameError("picture missing or damaged", detail))
            continue
        yield frame, image


def world_of(place: Place, poses: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """(4, 4) similarity from the pose file's world to that of the views.

    The object's box is centred at the origin, the object inside of radius 0.75. Up is +z: the
    direction in which no camera is rolled, that is, perpendicular to all their x axes. The first
    camera stands about over the -y axis.

    Args:
        poses: V of (4, 4).
    """
    up = _up(np.stack(poses))
    back = poses[0][:3, 3] - np.median(place.points, axis=0)
    back -= up * (up @ back)
    if np.linalg.norm(back) < 1e-9:  # straight above: what is down in the picture is in front
        back = poses[0][:3, 1] - up * (up @ poses[0][:3, 1])
    forward = -back / np.linalg.norm(back)
    rotation = np.stack([np.cross(forward, up), forward, up])
    points = place.points @ rotation.T
    center = (points.min(axis=0) + points.max(axis=0)) / 2
    radius = float(np.linalg.norm(points - center, axis=1).max()) + place.margin
    scale = SAFE_OBJECT_RADIUS / radius
    world = np.eye(4)
    world[:3, :3] = scale * rotation
    world[:3, 3] = -scale * center
    return world


def _up(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3,) of (V, 4, 4) poses: the unit vector u with the least Σ (u·xᵢ)², xᵢ their x axes.

    Cameras that all have one x axis leave a plane of such; of it, that nearest to their own up.
    """
    mean_up = -poses[:, :3, 1].mean(axis=0)
    x_axes = poses[:, :3, 0]
    values, vectors = np.linalg.eigh(x_axes.T @ x_axes / len(poses))
    if values[1] > _CLEARLY * values[0] + _LEAST_SPREAD:
        up = vectors[:, 0] * (1.0 if vectors[:, 0] @ mean_up >= 0 else -1.0)
    else:
        up = vectors[:, :2] @ (vectors[:, :2].T @ mean_up)
    return np.asarray(up / max(float(np.linalg.norm(up)), 1e-12))


def _moved(world: NDArray[np.float64], camera_to_world: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4, 4) of a camera after a similarity of the world: turned and moved, not scaled."""
    moved = world @ camera_to_world
    scale = np.cbrt(np.linalg.det(world[:3, :3]))
    return pose_of(moved[:3, :3] / scale, moved[:3, 3])
