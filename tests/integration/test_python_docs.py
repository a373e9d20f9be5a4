"""The code in docs/python.md runs, and makes what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import av
import pytest
import trimesh

ROOT = Path(__file__).parents[2]


def test_the_blocks_make_a_textured_mesh_and_a_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), re.DOTALL)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    exec(compile("".join(blocks), "docs/python.md", "exec"), {})
    (mesh,) = trimesh.load(tmp_path / "sofa.glb").geometry.values()
    assert mesh.extents.max() == pytest.approx(1)
    assert mesh.visual.material.baseColorTexture.size == (1024, 1024)
    assert len(mesh.faces) <= 20_000
    with av.open(str(tmp_path / "sofa.mp4")) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert [frame.shape for frame in frames] == [(128, 128, 3)] * 24
    assert all(frame[0, 0].min() > 250 and frame[64, 64].max() < 250 for frame in frames)
