"""What `lrm evaluate` is tried on: shapes made here, and two small protocols."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from tests.unit.cli_scene import Lrm, WorkerThread
from tests.unit.test_evaluation import box

SHAPES = """\
name: shapes
source: nowhere
geometry: {points: 500, thresholds: [0.1], alignment: scale, resolution: 24}
views: {count: 2, kind: orbit, size: 40, shows: mesh, metrics: [psnr]}
inputs: {kind: frontal, framing: auto}
"""
VIEWS = """\
name: views
source: nowhere
objects: 2
views: {count: 3, metrics: [psnr, ssim]}
inputs: {count: 2}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """truth/ in GSO's layout, predictions/ of two of its three objects and of another."""
    monkeypatch.setattr("lrm_cli.batch.workers.start_process", WorkerThread)
    monkeypatch.chdir(tmp_path)
    Path("shapes.yaml").write_text(SHAPES)
    Path("views.yaml").write_text(VIEWS)
    Path("predictions").mkdir()
    for number, name in enumerate(("cup", "pot", "sofa")):
        folder = Path("truth", name, "meshes")
        folder.mkdir(parents=True)
        box((1, 2, 1 + number)).export(folder / "model.ply")
    box((1, 2, 1)).export("predictions/cup.ply")
    np.save("predictions/pot.npy", trimesh.creation.icosphere(2).vertices)
    box().export("predictions/lamp.ply")
    return tmp_path


def run(lrm: Lrm, *arguments: str) -> int:
    return lrm(
        *("evaluate", "predictions", "--reference", "truth", "--protocol", "shapes.yaml"),
        *("--out", "out", "--device", "cpu", *arguments),
    )


def scores(folder: str = "out") -> dict[str, Any]:
    return json.loads(Path(folder, "scores.json").read_text())
