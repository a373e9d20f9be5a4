"""`lrm reconstruct` as its users run it: a process of its own, real files, a real network."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image, ImageDraw

from model.formats.saved_triplane import load_triplane
from model.surface import extract_mesh
from model.surface.file_frame import moved
from tests.unit.tiny_model import save_box_model

TIMEOUT_S = 300  # for busy machines


def command(folder: Path, *arguments: str) -> list[str]:
    main = "import sys; from lrm_cli.app import main; sys.exit(main())"
    shared = ("--out", str(folder / "meshes"), "--model", str(folder / "model"), "--device", "cpu")
    return [sys.executable, "-c", main, "reconstruct", str(folder / "photos"), *shared, *arguments]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *arguments), capture_output=True, text=True, timeout=TIMEOUT_S
    )


def records(folder: Path) -> dict[str, dict[str, Any]]:
    lines = (folder / "meshes/results.jsonl").read_text("utf-8").splitlines()
    return {record["input"]: record for record in map(json.loads, lines)}


def welded(path: Path) -> trimesh.Trimesh:
    """A mesh whose vertices along the seams of its texture are one again."""
    mesh = trimesh.load(path, force="mesh")
    return trimesh.Trimesh(mesh.vertices, mesh.faces)


def save_photo(path: Path, color: str) -> None:
    """A cup-like shape that is cut out already."""
    image = Image.new("RGBA", (160, 120))
    draw = ImageDraw.Draw(image)
    draw.ellipse((90, 40, 130, 80), outline=color, width=8)
    draw.rectangle((40, 20, 100, 100), fill=color)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_box_model(tmp_path / "model")
    for index, color in enumerate(("red", "olive", "teal")):
        save_photo(tmp_path / f"photos/cups/cup {index}.png", color)
    save_photo(tmp_path / "photos/茶碗.webp", "black")
    (tmp_path / "photos/broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    return tmp_path


def test_from_photos_to_files(folder: Path) -> None:
    ended = run(folder, "--resolution", "20", "--format", "glb,ply", "--length", "0.3")
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "broken.jpg  FAILED" in ended.stderr
    stems = ["cups/cup 0", "cups/cup 1", "cups/cup 2", "茶碗"]
    for stem in stems:
        for kind in ("glb", "ply"):
            mesh = welded(folder / f"meshes/{stem}.{kind}")
            assert mesh.is_watertight
            # The model answers with the box, all of it: its volume and colour are known.
            np.testing.assert_allclose(mesh.extents, 0.3, rtol=1e-4)
            assert mesh.volume == pytest.approx(0.3**3, rel=0.01)
    cloud = trimesh.load(folder / f"meshes/{stems[0]}.ply", process=False)
    expected = 255 / (1 + np.exp([-2.0, 1.0, 3.0]))  # sigmoid of the model's last bias
    colors = cloud.visual.to_color().vertex_colors[:, :3].astype(float)  # of its texture
    np.testing.assert_allclose(colors, np.broadcast_to(expected, colors.shape), atol=2)
    assert [name for name, record in records(folder).items() if record["status"] == "failed"] == [
        "broken.jpg"
    ]


def test_interrupted_and_run_again(folder: Path) -> None:
    for index in range(36):
        save_photo(folder / f"photos/many/{index}.png", "navy")
    ledger = folder / "meshes/results.jsonl"
    flags = ("--resolution", "20", "--texture", "64")
    process = subprocess.Popen(command(folder, *flags), stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + TIMEOUT_S
        while not (ledger.exists() and ledger.read_text().count("\n") >= 3):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    assert process.returncode == 130, error
    assert "Interrupted" in error
    assert "Traceback" not in error
    done = [record for record in records(folder).values() if record["status"] == "done"]
    assert 2 <= len(done) < 40
    written = {path for path in (folder / "meshes").rglob("*") if path.is_file()}
    assert written == {ledger} | {folder / "meshes" / r["outputs"][0] for r in done}
    for path in written - {ledger}:
        assert welded(path).is_watertight

    ended = run(folder, *flags, "--json")
    summary = json.loads(ended.stdout)
    assert (summary["skipped"], summary["done"]) == (len(done), 40 - len(done))
    assert len(list((folder / "meshes").rglob("*.glb"))) == 40


def test_a_saved_triplane_is_the_field_of_the_run(tmp_path: Path) -> None:
    """With the weights that ship; their meshes are not empty."""
    save_photo(tmp_path / "photos/cup.png", "teal")
    flags = ("--model", "lrm-tiny", "--resolution", "48", "--faces", "0", "--texture", "0")
    flags += ("--format", "ply", "--threshold", "1.5", "--input-elevation", "30")
    flags += ("--origin", "base", "--length", "0.25", "--save-triplane")
    ended = run(tmp_path, *flags)
    assert ended.returncode == 0, ended.stderr
    record = records(tmp_path)["cup.png"]
    assert record["outputs"] == ["cup.ply", "cup.triplane.safetensors"]
    path = tmp_path / "meshes/cup.triplane.safetensors"
    field, notes = load_triplane(path)
    assert notes.model == record["model"]
    assert (notes.source, notes.source_sha256) == ("cup.png", record["sha256"])
    assert [list(row) for row in notes.file_from_world] == record["facts"]["file_from_world"]
    with torch.inference_mode():
        again = moved(extract_mesh(field, 48), np.array(notes.file_from_world))
    cloud = trimesh.load(tmp_path / "meshes/cup.ply", process=False)
    # Not to the bit: the number of threads decides the order of sums.
    np.testing.assert_array_equal(again.faces, cloud.faces)
    np.testing.assert_allclose(again.vertices_m, cloud.vertices, atol=1e-6)
    colors = cloud.visual.vertex_colors[:, :3].astype(int)
    assert np.abs(again.colors_srgb.astype(int) - colors).max() <= 1

    size = path.stat().st_size
    path.unlink()
    assert json.loads(run(tmp_path, *flags, "--json").stdout)["done"] == 1  # it is made again
    assert path.stat().st_size == size
    assert json.loads(run(tmp_path, *flags, "--json").stdout)["skipped"] == 1
