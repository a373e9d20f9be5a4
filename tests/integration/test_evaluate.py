"""`lrm evaluate` as users start it: processes of its own, no stand-ins."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import trimesh

PROTOCOL = """\
name: mine
source: nowhere
geometry: {points: 2000, thresholds: [0.1], alignment: search}
views: {count: 2, kind: orbit, size: 32, shows: mesh, metrics: [psnr, ssim]}
"""


@pytest.mark.slow
def test_a_mesh_against_itself_and_a_damaged_one(tmp_path: Path) -> None:
    for folder in ("predictions", "truth"):
        (tmp_path / folder).mkdir()
    (tmp_path / "mine.yaml").write_text(PROTOCOL)
    mesh = trimesh.creation.annulus(0.3, 1.0, 0.5)
    mesh.export(tmp_path / "truth/ring.glb")
    mesh.export(tmp_path / "truth/gone.glb")
    turned = mesh.apply_transform(trimesh.transformations.rotation_matrix(2.0, (1, 2, 3)))
    turned.apply_scale(3).export(tmp_path / "predictions/ring.glb")
    (tmp_path / "predictions/gone.glb").write_bytes(b"glTF")
    command = [sys.executable, "-m", "lrm_cli", "evaluate", "predictions", "--reference", "truth"]
    command += ["--protocol", "mine.yaml", "--out", "out", "--lighting", "lit", "--json"]
    done = subprocess.run(
        [*command, "--device", "cpu", "--fail-above", "chamfer=0.1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["failed"] == 1
    scores = json.loads((tmp_path / "out/scores.json").read_text())
    assert "gone.glb cannot be read" in scores["excluded"]["gone"]
    ring = scores["objects"]["ring"]["scores"]
    assert ring["chamfer"] < 0.05 < 0.3 < ring["chamfer_unaligned"]
    assert ring["f_score@0.1"] > 0.98
    assert "Traceback" not in done.stderr
