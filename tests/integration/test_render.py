"""`lrm render` as its users run it: processes of its own, real renderers, real encoders."""

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
from PIL import Image

from model.formats.writing import write_mesh
from tests.integration.test_reconstruct import TIMEOUT_S, records, save_photo
from tests.unit.colored_box import COLORS, SIZE_M, colored_box
from tests.unit.tiny_model import save_box_model


def command(folder: Path, *arguments: str) -> list[str]:
    main = "import sys; from lrm_cli.app import main; sys.exit(main())"
    shared = ("--out", str(folder / "meshes"), "--model", str(folder / "model"), "--device", "cpu")
    return [sys.executable, "-c", main, "render", *arguments, *shared]


def run(folder: Path, *arguments: str) -> dict[str, Any]:
    ended = subprocess.run(
        command(folder, *arguments, "--json"), capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert "Traceback" not in ended.stderr
    return json.loads(ended.stdout)


def files(folder: Path) -> set[str]:
    out = folder / "meshes"
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_mesh(tmp_path / "box.glb", colored_box())
    return tmp_path


def test_a_box_from_its_sides(folder: Path) -> None:
    """Front, right, back and left, by the colours of its faces; sizes by its extents."""
    flags = ("--format", "png", "--frames", "4", "--elevation", "0", "--size", "64x48", "--unlit")
    assert run(folder, str(folder / "box.glb"), *flags, "--depth-format", "npy")["done"] == 1
    # Of the faces towards +X, -X, up, down, front, back.
    right, left, _, _, front, back = COLORS.astype(int)
    radius = np.linalg.norm(SIZE_M) / 2
    assert records(folder)["box.glb"]["facts"]["radius"] == pytest.approx(radius, rel=1e-4)
    distance = records(folder)["box.glb"]["facts"]["distance"]
    halves = (SIZE_M[2] / 2, SIZE_M[0] / 2) * 2
    for number, (color, half) in enumerate(zip((front, right, back, left), halves, strict=True)):
        picture = np.asarray(Image.open(folder / f"meshes/box.frames/000{number}.png")).astype(int)
        assert np.abs(picture[24, 32] - color).max() <= 2, number
        assert (picture[[0, -1]] == 255).all()
        depth = np.load(folder / f"meshes/box.depth-npy/000{number}.npy")
        assert depth[24, 32] == pytest.approx(distance - half, rel=1e-4)


def test_fields_and_meshes_in_one_run(folder: Path) -> None:
    """The model answers with the whole box, of one colour; a broken mesh costs only itself."""
    save_box_model(folder / "model")
    save_photo(folder / "photos/cup.png", "teal")
    (folder / "broken.ply").write_text("ply\nformat ascii 1.0\n")
    sources = [str(folder / name) for name in ("photos", "box.glb", "broken.ply")]
    flags = ("--frames", "2", "--size", "32", "--format", "png,mp4", "--samples", "32")
    flags += ("--elevation", "0")
    summary = run(folder, *sources, *flags)
    assert (summary["done"], summary["failed"]) == (2, 1)
    assert files(folder) == {
        *("results.jsonl", "box.mp4", "photos/cup.mp4"),
        *(f"{name}.frames/000{n}.png" for name in ("box", "photos/cup") for n in (0, 1)),
    }
    picture = np.asarray(Image.open(folder / "meshes/photos/cup.frames/0000.png")).astype(int)
    expected = 255 / (1 + np.exp([-2.0, 1.0, 3.0]))  # sigmoid of the model's last bias
    np.testing.assert_allclose(picture[16, 16], expected, atol=3)
    assert run(folder, *sources, *flags)["skipped"] == 2


def test_ctrl_c_in_the_middle_of_a_turntable(folder: Path) -> None:
    flags = ("--frames", "10000", "--size", "64", "--format", "mp4,png,gif", "--sheet", "2x2")
    process = subprocess.Popen(
        command(folder, str(folder / "box.glb"), *flags), stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + TIMEOUT_S
        while not list((folder / "meshes").glob(".box.frames.*.part/0005.png")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=TIMEOUT_S)
        seconds = time.monotonic() - start
    finally:
        process.kill()
    assert process.returncode == 130, error
    assert "Interrupted" in error
    assert "Traceback" not in error
    assert not files(folder)
    assert not list((folder / "meshes").iterdir())
    assert seconds < 15  # the turntable takes over a hundred

    assert run(folder, str(folder / "box.glb"), "--frames", "3", "--size", "64")["done"] == 1
    assert files(folder) == {"box.mp4", "results.jsonl"}
