"""model/formats/sheets.py, model/formats/depth_maps.py, read back by Pillow and numpy."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.formats.depth_maps import depth_scale, open_depth_maps
from model.formats.sheets import Sheet, parse_sheet, sheet_size


def made(columns: int, rows: int, total: int, alpha: bool = False) -> np.ndarray:
    sheet = Sheet(columns, rows, total, None if alpha else (9, 9, 9))
    for frame in range(total):
        sheet.add(np.full((60, 80, 4 if alpha else 3), 100 + frame, np.uint8))
    return sheet.picture()


@pytest.mark.parametrize(
    ("total", "chosen"),
    [(6, [0, 1, 2, 3, 4, 5]), (12, [0, 2, 4, 6, 8, 10]), (100, [0, 16, 33, 50, 66, 83])],
)
def test_frames_are_spread_over_the_turntable(total: int, chosen: list[int]) -> None:
    picture = made(3, 2, total)
    assert picture.shape == (121, 242, 3)
    assert picture[::61, ::81, 0].ravel().tolist() == [100 + frame for frame in chosen]
    assert (picture[60] == 9).all()
    assert (picture[:, [80, 161]] == 9).all()


def test_places_without_frames_stay_empty() -> None:
    assert made(3, 2, 4, alpha=True)[::61, ::81, 3].ravel().tolist() == [100, 101, 102, 103, 0, 0]


def test_only_what_is_shown_is_kept() -> None:
    sheet = Sheet(2, 1, 1000, (0, 0, 0))
    frame = np.zeros((4, 4, 3), np.uint8)
    for number in range(1000):
        frame[:] = number // 4  # the caller may use its frames again
        sheet.add(frame)
    assert len(sheet._frames) == 2
    assert sheet.picture()[0, [0, 5], 0].tolist() == [0, 125]


def test_a_sheet_is_a_png(tmp_path: Path) -> None:
    sheet = Sheet(1, 1, 1, None)
    sheet.add(np.full((4, 4, 4), 7, np.uint8))
    sheet.write(tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGBA", (4, 4))


def test_sheet_sizes() -> None:
    assert parse_sheet("4x2") == (4, 2)
    assert parse_sheet("10×1") == (10, 1)


def test_too_large_a_sheet_is_refused() -> None:
    assert sheet_size(4, 2, (512, 256)) == (4 * 512 + 3 * 5, 2 * 256 + 5)
    with pytest.raises(ValueError, match="take smaller frames or fewer columns and rows"):
        sheet_size(100, 100, (512, 512))


@pytest.mark.parametrize("text", ["", "4", "0x2", "4x0", "4x2x1", "-4x2", "101x1", "4 x 2"])
def test_other_sheet_sizes_are_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="it must be COLUMNSxROWS, such as 4x2"):
        parse_sheet(text)


DEPTHS = np.array([[0, 0.0001, 1.2344], [2.5, 4, 65.535]], np.float32)


def test_depth_as_png(tmp_path: Path) -> None:
    with open_depth_maps(tmp_path / "cup", "png", 4.0) as maps:
        maps.add(DEPTHS)
        maps.add(DEPTHS * 0)
    assert sorted(os.listdir(tmp_path / "cup")) == ["0000.png", "0001.png", "depth.json"]
    assert json.loads((tmp_path / "cup" / "depth.json").read_text())["depth_scale"] == 0.001
    with Image.open(tmp_path / "cup" / "0000.png") as picture:
        assert picture.mode == "I;16"
        # What is near is not nothing.
        assert np.array(picture).tolist() == [[0, 1, 1234], [2500, 4000, 65535]]


def test_depth_as_numpy(tmp_path: Path) -> None:
    with open_depth_maps(tmp_path / "cup", "npy", 4.0) as maps:
        maps.add(DEPTHS)
    assert os.listdir(tmp_path / "cup") == ["0000.npy"]
    read = np.load(tmp_path / "cup" / "0000.npy")
    assert read.dtype == np.float32
    assert np.array_equal(read, DEPTHS)


@pytest.mark.parametrize(
    ("far", "scale"), [(1, 1e-3), (65.5, 1e-3), (66, 1e-2), (4000, 1e-1), (0.5, 1e-5)]
)
def test_the_scale_is_a_power_of_ten_that_holds_the_far_end(far: float, scale: float) -> None:
    assert depth_scale(far) == pytest.approx(scale)
    assert far / depth_scale(far) <= 65535


def test_depth_without_an_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="far_world is 0"), open_depth_maps(tmp_path, "png", 0):
        pass
