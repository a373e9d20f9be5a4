"""What tests of `lrm render` share: its sources, and short ways to call it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.formats.saved_triplane import save_triplane
from tests.unit.cli_scene import Lrm
from tests.unit.test_saved_triplane import NOTES, make_field

SHARED = ("--out", "out", "--model", "model", "--device", "cpu")
SMALL = (*SHARED, "--frames", "3", "--size", "32")


def save_field(path: str) -> None:
    save_triplane(Path(path), make_field(), NOTES)


def render(lrm: Lrm, *arguments: str | Path) -> int:
    return lrm("render", *arguments, *SMALL)


def counts(lrm: Lrm, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    lrm("render", *arguments, *SMALL, "--json")
    return json.loads(capsys.readouterr().out)


def frames_of(path: str) -> list[np.ndarray]:
    """Of a GIF, whose few colours are exact enough."""
    with Image.open(path) as image:
        found = []
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            found.append(np.asarray(image.convert("RGB")).astype(int))
        return found
