"""A "video" of an object off-centre in a world of its own, and its poses in others' file formats.

The writers follow the formats' documentation and share no code with the readers.
"""

from __future__ import annotations

import gzip
import json
import struct
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from PIL import Image

from model.cameras import Cameras
from model.formats.meshes import MeshPart, TexturedMesh
from model.rasterizing import MeshRenderer
from train.videos import PosedVideo, VideoSource, find_videos, read_poses

WIDTH, HEIGHT = 320, 240
FX, FY, CX, CY = 300.0, 310.0, 155.0, 126.0  # in pixels; the centre is not the middle
OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
# Balls on the object, each of a colour that nothing else has.
MARKERS = {
    (1.0, 0.0, 0.0): (0.8, 0.0, 0.3),
    (0.0, 1.0, 0.0): (-0.75, 0.35, 0.4),
    (0.0, 0.0, 1.0): (0.0, -0.5, 0.75),
}
MARKER_RADIUS = 0.16
BOX, TOWER, TOWER_CENTER = (1.1, 0.5, 0.8), (0.3, 0.3, 1.0), (-0.2, 0.0, 0.4)
GREY = (0.5, 0.5, 0.5)
BACKGROUND = (240, 240, 180)
# The world: turned, scaled and moved by what a structure from motion might choose.
TURN = trimesh.transformations.euler_matrix(0.7, -1.9, 2.4)[:3, :3]
SCALE, MOVE = 3.7, np.array([12.0, -5.0, 8.0])


@dataclass
class Scene:
    """Frames of a video and the truth about them."""

    pictures: list[np.ndarray]  # (H, W, 3) on a plain background
    masks: list[np.ndarray]  # (H, W)
    poses: np.ndarray  # (V, 4, 4) camera to world, OpenCV axes
    points: np.ndarray  # (N, 3) of the surface, and some of the surroundings
    names: list[str] = field(default_factory=list)


def world(points: np.ndarray) -> np.ndarray:
    """(N, 3) points of the object's own world, z up, in that of the video."""
    return SCALE * points @ TURN.T + MOVE


def object_parts() -> list[tuple[np.ndarray, np.ndarray, Any]]:
    """Vertices in the object's own world, faces, colour."""
    box, tower = (trimesh.creation.box(extents=extents) for extents in (BOX, TOWER))
    tower.apply_translation(TOWER_CENTER)
    parts = [(np.array(m.vertices), np.array(m.faces), GREY) for m in (box, tower)]
    for color, center in MARKERS.items():
        ball = trimesh.creation.icosphere(subdivisions=3, radius=MARKER_RADIUS)
        parts.append((np.array(ball.vertices) + center, np.array(ball.faces), color))
    return parts


def mesh_of(moved: Any) -> TexturedMesh:
    """The object after a map of (N, 3) points of its own world."""
    return TexturedMesh(
        tuple(
            MeshPart(moved(vertices), faces.astype(np.int64), (*color, 1.0))
            for vertices, faces, color in object_parts()
        )
    )


def stands_free(marker: tuple[float, float, float], position_world: np.ndarray) -> bool:
    """Whether nothing hides a part of a marker from a place in the video's world."""
    camera = (position_world - MOVE) @ TURN / SCALE
    middle = np.array(marker)
    ball = trimesh.creation.icosphere(subdivisions=2, radius=1.1 * MARKER_RADIUS).vertices + middle
    along = np.linspace(0, 1, 200)[:, None, None]
    samples = (camera + along * (ball - camera)).reshape(-1, 3)
    samples = samples[np.linalg.norm(samples - middle, axis=1) > 1.05 * MARKER_RADIUS]
    in_box = (np.abs(samples) < np.array(BOX) / 2).all(axis=1)
    in_tower = (np.abs(samples - TOWER_CENTER) < np.array(TOWER) / 2).all(axis=1)
    others = [place for place in MARKERS.values() if place != marker]
    in_ball = [np.linalg.norm(samples - place, axis=1) < MARKER_RADIUS for place in others]
    return not (in_box | in_tower | np.any(in_ball, axis=0)).any()


def camera_poses(count: int, arc_degrees: float = 300.0) -> np.ndarray:
    """(V, 4, 4) in the object's own world: from around, at a changing height, aimed beside it."""
    poses = []
    for index in range(count):
        azimuth = np.radians(arc_degrees * index / count - 90)
        elevation = np.radians(20 + 12 * np.sin(index))
        distance = 3.4 + 0.4 * np.cos(2.3 * index)
        position = distance * np.array(
            [
                np.cos(azimuth) * np.cos(elevation),
                np.sin(azimuth) * np.cos(elevation),
                np.sin(elevation),
            ]
        )
        target = 0.25 * np.array([np.sin(1.7 * index), np.cos(index), np.sin(3.1 * index)])
        forward = (target - position) / np.linalg.norm(target - position)
        right = np.cross(forward, [0, 0, 1])
        right /= np.linalg.norm(right)
        pose = np.eye(4)
        pose[:3] = np.stack([right, np.cross(forward, right), forward, position], axis=1)
        poses.append(pose)
    return np.array(poses)


def world_poses(poses: np.ndarray) -> np.ndarray:
    """(V, 4, 4) of the object's own world, in that of the video."""
    moved = poses.copy()
    moved[:, :3, :3] = TURN @ poses[:, :3, :3]
    moved[:, :3, 3] = world(poses[:, :3, 3])
    return moved


@cache
def scene(count: int = 12, arc_degrees: float = 300.0) -> Scene:
    poses = world_poses(camera_poses(count, arc_degrees))
    lens = torch.tensor([FX / WIDTH, FY / HEIGHT, CX / WIDTH, CY / HEIGHT], dtype=torch.float64)
    renderer = MeshRenderer(mesh_of(world), lighting="unlit", supersample=3)
    pictures, masks = [], []
    for pose in poses:
        view = renderer.render(Cameras(torch.from_numpy(pose), lens), HEIGHT, WIDTH)
        opacity = view.opacity[..., None]
        colors = view.colors + (1 - opacity) * np.array(BACKGROUND) / 255
        pictures.append((colors * 255).round().clip(0, 255).astype(np.uint8))
        masks.append((view.opacity * 255).round().astype(np.uint8))
    renderer.close()
    rng = np.random.default_rng(0)
    surface = np.concatenate(
        [vertices[faces].mean(axis=1) for vertices, faces, _ in object_parts()]
    )
    room = rng.uniform(-4, 4, (300, 3))
    points = world(np.concatenate([surface, room]))
    return Scene(pictures, masks, poses, points, [f"{i + 1:03d}.png" for i in range(count)])


def write_pictures(
    folder: Path, video: Scene, names: list[str] | None = None, alpha: bool = False
) -> None:
    for name, picture, mask in zip(names or video.names, video.pictures, video.masks, strict=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.dstack([picture, mask]) if alpha else picture
        Image.fromarray(pixels).save(path)


def write_masks(folder: Path, video: Scene, suffix: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, mask in zip(video.names, video.masks, strict=True):
        Image.fromarray(mask).save(folder / f"{name}{suffix}")


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """(4,) w, x, y, z, by trimesh."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    return trimesh.transformations.quaternion_from_matrix(matrix)


def write_colmap(
    folder: Path, video: Scene, binary: bool, model: str = "PINHOLE", extra: tuple[float, ...] = ()
) -> None:
    """A sparse model; images in another order than the video's, each with a feature or none."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = {"PINHOLE": 1, "OPENCV": 4, "OPENCV_FISHEYE": 5}
    params = (FX, FY, CX, CY, *extra)
    images = []
    for index in np.random.default_rng(1).permutation(len(video.names)):
        pose = video.poses[index]
        rotation = pose[:3, :3].T
        translation = -rotation @ pose[:3, 3]
        images.append((int(index) + 1, quaternion(rotation), translation, video.names[index]))
    if not binary:
        lines = [f"7 {model} {WIDTH} {HEIGHT} {' '.join(map(repr, map(float, params)))}"]
        (folder / "cameras.txt").write_text("# a comment\n" + "\n".join(lines) + "\n")
        text = "# two lines an image\n"
        for number, q, t, name in images:
            values = " ".join(repr(float(v)) for v in (*q, *t))
            features = "10.5 20.5 -1" if number % 2 else ""
            text += f"{number} {values} 7 {name}\n{features}\n"
        (folder / "images.txt").write_text(text)
        rows = [
            f"{i} {x!r} {y!r} {z!r} 1 2 3 0.5 1 0 2 1"
            for i, (x, y, z) in enumerate(video.points.tolist())
        ]
        (folder / "points3D.txt").write_text("\n".join(rows) + "\n")
        return
    data = struct.pack("<Q", 1) + struct.pack("<iiQQ", 7, numbers[model], WIDTH, HEIGHT)
    (folder / "cameras.bin").write_bytes(data + struct.pack(f"<{len(params)}d", *params))
    data = struct.pack("<Q", len(images))
    for number, q, t, name in images:
        data += struct.pack("<i", number) + struct.pack("<7d", *q, *t) + struct.pack("<i", 7)
        data += name.encode() + b"\0" + struct.pack("<Q", number % 2)
        data += struct.pack("<ddq", 10.5, 20.5, -1) * (number % 2)
    (folder / "images.bin").write_bytes(data)
    data = struct.pack("<Q", len(video.points))
    for number, point in enumerate(video.points):
        data += struct.pack("<Q3d3Bd", number, *point, 1, 2, 3, 0.5)
        data += struct.pack("<Q", 2) + struct.pack("<iiii", 1, 0, 2, 1)
    (folder / "points3D.bin").write_bytes(data)


def transforms(video: Scene, names: list[str], **shared: Any) -> dict[str, Any]:
    """The content of instant-ngp's file."""
    lens = {"fl_x": FX, "fl_y": FY, "cx": CX, "cy": CY, "w": WIDTH, "h": HEIGHT}
    frames = [
        {"file_path": name, "transform_matrix": (pose @ OPENGL).tolist()}
        for name, pose in zip(names, video.poses, strict=True)
    ]
    return {**(shared or lens), "frames": frames}


def write_transforms(folder: Path, content: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "transforms.json"
    path.write_text(json.dumps(content))
    return path


def pytorch3d_camera(pose: np.ndarray, form: str) -> dict[str, Any]:
    """CO3D's viewpoint of a camera, from PyTorch3D's documentation of its axes."""
    # A row X times R plus T has x to the left, y up, z forward.
    left_up_forward = pose[:3, :3] * [-1.0, -1.0, 1.0]
    translation = -pose[:3, 3] @ left_up_forward
    half = np.array([WIDTH, HEIGHT]) / 2
    unit = half if form == "ndc_norm_image_bounds" else np.full(2, min(WIDTH, HEIGHT) / 2)
    return {
        "R": left_up_forward.tolist(),
        "T": translation.tolist(),
        "focal_length": (np.array([FX, FY]) / unit).tolist(),
        "principal_point": (-(np.array([CX, CY]) - half) / unit).tolist(),
        "intrinsics_format": form,
    }


def write_co3d(root: Path, video: Scene, form: str, sequence: str = "110_13051_23361") -> Path:
    """A category `cup` of one sequence with a camera each, in `root`."""
    entries = []
    for number, (pose, name) in enumerate(zip(video.poses, video.names, strict=True)):
        entries.append(
            {
                "sequence_name": sequence,
                "frame_number": number,
                "image": {"path": f"cup/{sequence}/images/{name}", "size": [HEIGHT, WIDTH]},
                "mask": {"path": f"cup/{sequence}/masks/{name}", "mass": 1.0},
                "viewpoint": pytorch3d_camera(pose, form),
            }
        )
    folder = root / "cup"
    write_pictures(folder / sequence / "images", video)
    write_masks(folder / sequence / "masks", video)
    path = folder / "frame_annotations.jgz"
    path.write_bytes(gzip.compress(json.dumps(entries).encode()))
    return path


def write_video(folder: Path, video: Scene, binary: bool = True) -> VideoSource:
    write_pictures(folder / "images", video)
    write_masks(folder / "masks", video)
    write_colmap(folder / "sparse" / "0", video, binary)
    return VideoSource(
        ".", folder, folder / "sparse" / "0" / f"images.{'bin' if binary else 'txt'}", "colmap"
    )


def posed_by(folder: Path) -> PosedVideo:
    (source,) = find_videos(folder)
    return read_poses(source)
