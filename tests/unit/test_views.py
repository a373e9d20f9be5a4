"""All views of a renderer: in order, some at once, and never many ahead."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch

from model.cameras import Cameras, orbit
from model.views import View, render_all


class Counting:
    """Its views show the camera's x; the first ones take longest."""

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self.begun = 0
        self.threads: set[int] = set()

    def render(self, camera: Cameras, height: int, width: int, /) -> View:
        self.begun += 1
        self.threads.add(threading.get_ident())
        time.sleep(0.02 / self.begun)
        x = np.full((height, width), float(camera.positions_world[0]), np.float32)
        return View(np.stack([x] * 3, -1), x)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("at_once", [1, 3])
def test_views_come_in_order_and_few_ahead(at_once: int) -> None:
    cameras = [orbit(12, 0, 2, 40)[number] for number in range(12)]
    renderer, threads = Counting(at_once), torch.get_num_threads()
    for number, view in enumerate(render_all(renderer, cameras, 2, 3)):
        assert view.opacity.shape == (2, 3)
        assert view.opacity[0, 0] == pytest.approx(float(cameras[number].positions_world[0]))
        assert renderer.begun <= number + 1 + at_once
    assert renderer.begun == 12
    assert len(renderer.threads) == at_once
    assert torch.get_num_threads() == threads


def test_what_goes_wrong_reaches_whoever_takes_the_views() -> None:
    class Failing(Counting):
        def render(self, camera: Cameras, height: int, width: int, /) -> View:
            if self.begun == 4:
                raise ValueError("no more")
            return super().render(camera, height, width)

    views = render_all(Failing(2), [orbit(1, 0, 2, 40)[0]] * 9, 1, 1)
    with pytest.raises(ValueError, match="no more"):
        list(views)
