"""New objects from those that are trained on: stretched copies, and two or three put together.

A few hundred objects are soon learned by heart. Held-out objects and their variants have no part in
any of these.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.transform import Rotation
from tqdm import tqdm
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial

from model.atomic import write_atomically
from model.formats.collada import WORLD_FROM_FILE
from model.formats.mesh_parts import MeshPart, TexturedMesh
from model.formats.meshes import read_mesh
from train.objects import ObjectTask
from train.splits import assign_splits, is_held_out

_TEXTURE = 256  # side in texels: twice that of the pictures


def stretched_tasks(tasks: list[ObjectTask], copies: int) -> list[ObjectTask]:
    """So many copies of each training object, longer, wider and higher by chance, or less so.

    Every second one is mirrored as well. Held-out objects and their variants have none.
    """
    stretched = []
    for task in trained_on(tasks):
        names = names_trained_on(f"{task.uid}/stretched")
        for number, uid in enumerate(itertools.islice(names, copies)):
            factors = np.exp(rng_of(uid).uniform(-0.4, 0.4, 3))
            if number % 2:
                factors[0] *= -1
            path = stretched_copy(task.path, factors, f"stretched{number + 1}")
            stretched.append(ObjectTask(uid, path, task.source))
    return stretched


def stretched_copy(path: Path, factors: np.ndarray[Any, Any], name: str) -> Path:
    """A copy of an OBJ file beside it, its axes multiplied by (3,) factors."""
    lines = []
    for line in path.read_text("latin-1").splitlines():
        words = line.split()
        if words and words[0] in ("v", "vn"):
            numbers = np.array(words[1:4], dtype=float)
            changed = numbers * factors if words[0] == "v" else numbers / factors
            line = " ".join([words[0], *(f"{value:.6f}" for value in changed), *words[4:]])
        elif words and words[0] == "f" and factors.prod() < 0:
            line = " ".join(["f", *reversed(words[1:])])  # the mirror turns faces inside out
        lines.append(line)
    copy = path.with_name(f"{path.stem}.{name}.obj")
    copy.write_text("\n".join(lines) + "\n", "latin-1")
    return copy


def composed_tasks(tasks: list[ObjectTask], count: int, work_dir: Path) -> list[ObjectTask]:
    """So many objects, each of two or three training objects at random places, sizes and turns.

    Their sources name all of what they are made of.
    """
    materials = trained_on(tasks)
    folder = work_dir / "composed"
    folder.mkdir(parents=True, exist_ok=True)
    composed = []
    names = itertools.islice(names_trained_on("composed/"), count)
    for uid in tqdm(names, "putting together", count, disable=not count, unit="object"):
        rng = rng_of(uid)
        chosen = [materials[i] for i in rng.integers(len(materials), size=rng.choice([2, 2, 3]))]
        path = folder / f"{uid.rpartition('/')[2]}.glb"
        if not path.exists():
            meshes = [placed(_fitted(task.path), rng, index) for index, task in enumerate(chosen)]
            write_atomically(path, glb_of(meshes))
        sources = [dict(task.source) for task in chosen]
        together = {key: " + ".join(source[key] for source in sources) for key in sources[0]}
        composed.append(ObjectTask(uid, path, tuple(together.items())))
    return composed


def placed(mesh: TexturedMesh, rng: np.random.Generator, index: int) -> TexturedMesh:
    """A fitted mesh stretched, turned and moved; the first one stays upright in the middle."""
    factors = np.exp(rng.uniform(-0.5, 0.5, 3))
    turn = Rotation.from_euler("z", rng.integers(4) * 90, degrees=True)
    offset = np.zeros(3)
    if index:
        factors *= np.exp(rng.uniform(-0.8, 0.2))
        offset = rng.uniform(-0.6, 0.6, 3)
        if rng.random() < 0.3:
            turn = Rotation.random(random_state=rng)
    matrix = turn.as_matrix() * factors
    return TexturedMesh(
        tuple(
            dataclasses.replace(part, vertices_world=part.vertices_world @ matrix.T + offset)
            for part in mesh.parts
        )
    )


def glb_of(meshes: list[TexturedMesh]) -> bytes:
    """All of them as one GLB file."""
    scene = trimesh.Scene()
    for part in itertools.chain.from_iterable(mesh.parts for mesh in meshes):
        vertices = part.vertices_world @ WORLD_FROM_FILE["Y_UP"]
        geometry = trimesh.Trimesh(vertices, part.faces, process=False)
        geometry.visual = _look_of(part)
        scene.add_geometry(geometry)
    return bytes(scene.export(file_type="glb"))


def trained_on(tasks: list[ObjectTask]) -> list[ObjectTask]:
    """Those that are neither held out nor variants of what is."""
    splits = assign_splits(task.uid for task in tasks)
    return [task for task in tasks if splits[task.uid] == "train"]


def names_trained_on(start: str) -> Iterator[str]:
    """`start` and a number, again and again; names that would be held out are left out."""
    return (name for n in itertools.count(1) if not is_held_out(name := f"{start}{n}"))


def rng_of(uid: str) -> np.random.Generator:
    """An object's own random numbers."""
    return np.random.default_rng(list(hashlib.sha256(uid.encode()).digest()))


@functools.cache
def _fitted(path: Path) -> TexturedMesh:
    """A mesh of radius 1, its textures no larger than needed."""
    mesh = read_mesh(path).fitted(1.0)
    return TexturedMesh(
        tuple(dataclasses.replace(part, texture=_reduced(part.texture)) for part in mesh.parts)
    )


def _reduced(texture: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
    if texture is None:
        return None
    picture = Image.fromarray(texture)
    picture.thumbnail((_TEXTURE, _TEXTURE))
    return np.asarray(picture)


def _look_of(part: MeshPart) -> TextureVisuals:
    """A part's material. A plain colour is a texture of it: GLB's own colours are linear bytes."""
    *color, opacity = part.base_color
    uv, texture = part.uv, part.texture
    if uv is None or texture is None:
        uv = np.zeros((len(part.vertices_world), 2), np.float32)
        texture = np.full((2, 2, 3), np.round(np.multiply(color, 255)), np.uint8)
    material = PBRMaterial(
        baseColorTexture=Image.fromarray(texture),
        baseColorFactor=[1.0, 1.0, 1.0, opacity],
        metallicFactor=0.0,
        doubleSided=True,
        alphaMode="BLEND" if opacity < 1 or texture.shape[2] == 4 else "OPAQUE",
    )
    return TextureVisuals(uv=uv, material=material)
