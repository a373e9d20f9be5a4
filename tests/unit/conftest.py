"""The command line and a scene for it.

The network is replaced by a field of known shape and colour; `tests/integration` runs a real one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trimesh

from lrm_cli.app import app
from model.lrm import LRM
from model.scenes import Scene
from tests.unit.cli_scene import Lrm, WorkerThread, save_photo
from tests.unit.fields import AnalyticField, ball
from tests.unit.standin_renderers import open_ball
from tests.unit.tiny_model import save_box_model


@pytest.fixture
def lrm() -> Lrm:
    """Run a command in this process; returns its exit code."""

    def call(*arguments: str | Path) -> int:
        try:
            app([str(argument) for argument in arguments], prog_name="lrm")
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return call


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with photos/ (a.png, b/c.png), a model, and a network that sees balls.

    Workers are threads, which see what tests replace; `test_faults.py` has real processes.
    """
    monkeypatch.setattr("lrm_cli.batch.workers.start_process", WorkerThread)
    save_box_model(tmp_path / "model")
    for number, name in enumerate(("a.png", "b/c.png")):
        save_photo(tmp_path / "photos" / name, number)

    def reconstruct(self: LRM, images: Any) -> list[Any]:
        return [AnalyticField(ball((0.2, 0.0, 0.1), 0.5)) for _ in images]

    monkeypatch.setattr(LRM, "reconstruct", reconstruct)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def assets(scene: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """meshes/ with cup.glb and ball.stl, an unrelated picture, and what `scene` has."""
    monkeypatch.setattr(Scene, "open", open_ball)
    Path("meshes").mkdir()
    ball = trimesh.creation.icosphere(subdivisions=1, radius=5.0)
    ball.apply_translation((100, 0, 0))
    ball.export("meshes/cup.glb")
    ball.export("meshes/ball.stl")
    save_photo(Path("meshes/cup.texture.png"))
    return scene
