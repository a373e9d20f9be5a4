"""`lrm evaluate` on references in the folders in which data sets are published, textures included.

Two objects each, a red tall box and a blue flat one, in files written by hand: pairs that are
mixed up, or a texture that is not found, would be seen in the numbers and in the picture.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray
from PIL import Image

from tests.unit.cli_scene import Lrm, WorkerThread

PROTOCOL = """\
name: layouts
source: nowhere
geometry: {points: 1000, thresholds: [0.2], alignment: none}
views: {count: 2, kind: orbit, size: 64, shows: mesh, metrics: [psnr]}
"""
Color = tuple[int, int, int]
# Width, height and depth in the files, whose y axis is up; and the only colour of the texture.
OBJECTS: tuple[tuple[tuple[float, float, float], Color], ...] = (
    ((1.0, 3.0, 1.0), (230, 20, 20)),
    ((3.0, 0.5, 2.0), (20, 20, 230)),
)
TILE = 128  # pixels of a strip's pictures


def write_obj(path: Path, size: tuple[float, float, float], color: Color, texture: str) -> None:
    """A box as OBJ with MTL, and its texture at a place relative to the OBJ's folder.

    The MTL names the texture without its folder, as GSO's and OmniObject3D's do.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    box = trimesh.creation.box(size)
    lines = [f"mtllib {path.stem}.mtl", *("v {} {} {}".format(*v) for v in box.vertices)]
    lines += ["vt 0 0", "vt 1 0", "vt 1 1", "usemtl material_0"]
    lines += ["f {}/1 {}/2 {}/3".format(*(face + 1)) for face in box.faces]
    path.write_text("\n".join(lines) + "\n")
    picture = path.parent / texture
    picture.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), color).save(picture, quality=95)
    path.with_suffix(".mtl").write_text(f"newmtl material_0\nmap_Kd {picture.name}\n")


def write_glb(path: Path, size: tuple[float, float, float], color: Color) -> None:
    """A box as GLB with the texture inside."""
    path.parent.mkdir(parents=True, exist_ok=True)
    box = trimesh.creation.box(size)
    material = trimesh.visual.material.PBRMaterial(
        baseColorTexture=Image.new("RGB", (8, 8), color), metallicFactor=0.0
    )
    uv = np.tile([0.5, 0.5], (len(box.vertices), 1))
    box.visual = trimesh.visual.TextureVisuals(uv, material=material)
    box.export(path)


def write_gso(root: Path) -> list[str]:
    """NAME/ with meshes/, materials/textures/, thumbnails/ and descriptions for Gazebo."""
    names = ["3D_Dollhouse_Sink", "Threshold_Tray_Rectangle_Porcelain"]
    for name, (size, color) in zip(names, OBJECTS, strict=True):
        mesh = root / name / "meshes" / "model.obj"
        write_obj(mesh, size, color, "../materials/textures/texture.png")
        (root / name / "thumbnails").mkdir()
        Image.new("RGB", (8, 8)).save(root / name / "thumbnails" / "0.jpg")
        for file in ("metadata.pbtxt", "model.config", "model.sdf"):
            (root / name / file).write_text("")
    return names


def write_omniobject3d(root: Path) -> list[str]:
    """raw_scans/CATEGORY/CATEGORY_001/Scan/Scan.obj, with Scan.mtl and Scan.jpg."""
    names = ["anise_001", "box_014"]
    for name, (size, color) in zip(names, OBJECTS, strict=True):
        category = name.partition("_")[0]
        write_obj(
            root / "raw_scans" / category / name / "Scan" / "Scan.obj", size, color, "Scan.jpg"
        )
    return names


def write_abo(root: Path) -> list[str]:
    """3dmodels/original/ with a folder by the names' last character, and the list of models."""
    names = ["B01LP0U5X0", "B07B4DBBT1"]
    models = root / "3dmodels"
    for name, (size, color) in zip(names, OBJECTS, strict=True):
        write_glb(models / "original" / name[-1] / f"{name}.glb", size, color)
    (models / "metadata").mkdir()
    with gzip.open(models / "metadata" / "3dmodels.csv.gz", "wt") as file:
        file.write("3dmodel_id,path\n" + "".join(f"{n},{n[-1]}/{n}.glb\n" for n in names))
    return names


def write_ours(root: Path) -> list[str]:
    """What `lrm reconstruct` leaves: meshes by their photos' names, a ledger, a report."""
    names = ["red tower", "blue slab"]
    for name, (size, color) in zip(names, OBJECTS, strict=True):
        write_glb(root / "shop" / f"{name}.glb", size, color)
    (root / "results.jsonl").write_text("")
    (root / "report" / "items").mkdir(parents=True)
    (root / "report" / "manifest.json").write_text("{}")
    Image.new("RGB", (8, 8)).save(root / "report" / "items" / "red tower.webp")
    return names


def shown_color(strip: Path) -> NDArray[np.floating[Any]]:
    """The mean colour of the references' pictures, where they are not white."""
    with Image.open(strip) as image:
        tiles = np.asarray(image.convert("RGB"), np.float64)[:TILE, : 2 * TILE]
    return tiles[tiles.min(-1) < 200].mean(0)


@pytest.mark.parametrize(
    "write",
    [write_gso, write_omniobject3d, write_abo, write_ours],
    ids=["GSO", "OmniObject3D", "ABO", "ours"],
)
def test_references_as_published(
    tmp_path: Path,
    lrm: Lrm,
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[[Path], list[str]],
) -> None:
    monkeypatch.setattr("lrm_cli.batch.workers.start_process", WorkerThread)
    monkeypatch.chdir(tmp_path)
    Path("layouts.yaml").write_text(PROTOCOL)
    names = write(Path("truth"))
    for name, (size, color) in zip(names, OBJECTS, strict=True):
        write_glb(Path("predictions", f"{name}.glb"), size, color)
    code = lrm(
        *("evaluate", "predictions", "--reference", "truth", "--protocol", "layouts.yaml"),
        *("--lighting", "lit", "--out", "out", "--device", "cpu"),
    )
    found = json.loads(Path("out/scores.json").read_text())
    assert (code, found["excluded"]) == (0, {})
    for name, (_, color) in zip(names, OBJECTS, strict=True):
        (entry,) = (e for n, e in found["objects"].items() if n.split("/")[-1] == name)
        assert entry["scores"]["chamfer"] < 0.1  # of the other it is 0.4
        assert entry["scores"]["psnr"] > 30
        seen = shown_color(Path("out", *entry["files"][1].split("/")))
        assert seen.argmax() == np.argmax(color)
        assert seen.max() > 3 * seen.min()
