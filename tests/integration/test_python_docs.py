"""The code in docs/python.md runs, and makes what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trimesh

ROOT = Path(__file__).parents[2]


def test_the_block_makes_a_textured_mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), re.DOTALL)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs/python.md", "exec"), {})
    (mesh,) = trimesh.load(tmp_path / "sofa.glb").geometry.values()
    assert mesh.extents.max() == pytest.approx(1)
    assert mesh.visual.material.baseColorTexture.size == (1024, 1024)
    assert len(mesh.faces) <= 20_000
