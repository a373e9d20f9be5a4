"""The programs: each opens files and says what it sees."""

from __future__ import annotations

import base64
import io
import json
import math
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.viewers.browsing import HERE, ask_page
from benchmarks.viewers.seen import (
    AZIMUTH_DEGREES,
    ELEVATION_DEGREES,
    FOV_DEGREES,
    Extent,
    Look,
    Seen,
)
from model.cameras import Cameras, intrinsics_from_fov, look_at
from model.formats.meshes import MeshPart, TexturedMesh
from model.rasterizing import render

# From Blender's frame, in which +Z is up and -Y the front, to glTF's.
FROM_BLENDER = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], np.float64)


@dataclass(frozen=True)
class Program:
    """A program with its version, its own up axis, and what it saw of each file."""

    name: str
    up: str
    seen: list[Seen]


def in_trimesh(files: list[Path], look: Look) -> Program:
    """Read by trimesh as it comes, drawn by our rasteriser."""
    import trimesh

    seen = []
    for file in files:
        mesh: Any = trimesh.load_mesh(file, process=False)
        extent = Extent.of(mesh.vertices[mesh.faces].reshape(-1, 3))
        image = mesh.visual.material.baseColorTexture
        words = "none" if image is None else f"texture {image.width} × {image.height}"
        part = MeshPart(
            vertices_world=np.asarray(mesh.vertices) @ FROM_BLENDER,  # our world is as Blender's
            faces=np.asarray(mesh.faces),
            base_color=(1.0, 1.0, 1.0, 1.0),
            uv=None if image is None else np.asarray(mesh.visual.uv, np.float32),
            texture=None if image is None else np.asarray(image.convert("RGB")),
        )
        position = torch.from_numpy(np.array(look.position_m) @ FROM_BLENDER).float()
        camera = Cameras(look_at(position[None]), intrinsics_from_fov(FOV_DEGREES)[None])
        seen.append(Seen(extent, words, render(TexturedMesh((part,)), camera, look.size)[0]))
    return Program(f"trimesh {trimesh.__version__}", "+Y", seen)


def in_blender(python: Path, files: list[Path], look: Look, work: Path) -> Program:
    """Opened and rendered by the Blender of another environment."""
    folder = work / "blender"
    folder.mkdir(parents=True, exist_ok=True)
    job = {**_job(look), "files": [str(file.resolve()) for file in files]}
    (folder / "job.json").write_text(json.dumps(job), "utf-8")
    command = [python, HERE / "blender.py", folder / "job.json", folder / "result.json"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    answer = json.loads((folder / "result.json").read_text("utf-8"))
    seen = []
    for number, said in enumerate(answer["seen"]):
        extent = Extent(
            np.abs(FROM_BLENDER) @ np.array(said["size"]), FROM_BLENDER @ np.array(said["middle"])
        )
        picture = np.asarray(Image.open(folder / f"{number}.png").convert("RGBA"))
        seen.append(Seen(extent, said["colors"], picture))
    return Program(f"Blender {answer['version']}", "+Z", seen)


def in_browser(name: str, page: str, modules: Path, files: list[Path], look: Look) -> Program:
    """Opened by a page of this folder."""
    answer = ask_page(page, modules, _job(look), files)
    seen = [
        Seen(
            Extent(np.array(said["size"]), np.array(said["middle"] or [math.nan] * 3)),
            said["colors"],
            _decoded(said["picture"]),
        )
        for said in answer["seen"]
    ]
    return Program(f"{name} {answer['version']}", "+Y", seen)


def _job(look: Look) -> dict[str, Any]:
    return {
        "position_m": look.position_m,
        "azimuth_degrees": AZIMUTH_DEGREES,
        "elevation_degrees": ELEVATION_DEGREES,
        "fov_degrees": FOV_DEGREES,
        "size": look.size,
    }


def _decoded(address: str) -> NDArray[np.uint8]:
    data = base64.b64decode(address.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
