"""What renderers leave in the one window when they go."""

from __future__ import annotations

import threading

import numpy as np

from model.cameras import orbit
from model.formats.meshes import MeshPart, TexturedMesh
from model.rasterizing import MeshRenderer
from model.rasterizing.window import drawing


def another_thread_may_draw() -> bool:
    drawn = threading.Event()

    def draw() -> None:
        with drawing():
            drawn.set()

    threading.Thread(target=draw, daemon=True).start()
    return drawn.wait(0.2)


def test_scenes_go_while_no_other_thread_draws() -> None:
    """They share buffers: gone beside a thread that draws, they spoiled its pictures."""
    corners = np.eye(3, dtype=np.float32)
    triangle = MeshPart(corners, np.array([[0, 1, 2]]), (1.0, 0.0, 0.0, 1.0))
    renderer = MeshRenderer(TexturedMesh((triangle,)), depth=True)
    may_draw: list[bool] = []
    for scene in renderer._scenes:
        scene.AddObserver("DeleteEvent", lambda *_: may_draw.append(another_thread_may_draw()))
    del scene
    renderer.render(orbit(1, 20.0, 2.4, 50.0)[0], 8, 8)
    assert another_thread_may_draw()
    assert not may_draw
    renderer.close()
    assert may_draw == [False, False]
