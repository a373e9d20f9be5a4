"""Prepared photos: the same to the last bit as what `lrm reconstruct` prepares itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from lrm_cli.preprocess import preprocess
from lrm_cli.reconstruct import reconstruct
from model.config import ViewConfig
from model.folders import load_config, model_folder
from model.matting import Matting
from model.photos import frame_cutout, frame_photo, prepare_photo, straight
from tests.unit.cli_scene import WorkerThread

app = typer.Typer()
app.command()(preprocess)
app.command()(reconstruct)
PHOTOS = Path(__file__).parents[2] / "examples" / "photos"


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


@pytest.fixture(autouse=True)
def workers_are_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes take seconds to import."""
    monkeypatch.setattr("lrm_cli.batch.workers.start_process", WorkerThread)


def random_cutout(seed: int) -> Image.Image:
    """Every alpha and every colour, also colours under alpha 0."""
    pixels = np.random.default_rng(seed).integers(0, 256, (97, 61, 4), np.uint8)
    pixels[:9] = pixels[:, -7:] = 0
    return Image.fromarray(pixels)


@pytest.mark.parametrize("background", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("size", [32, 64, 200])
def test_a_saved_picture_gives_what_was_saved(size: int, background: float) -> None:
    view = ViewConfig(background=background)
    for seed in range(4):
        cutout = random_cutout(seed)
        direct = frame_photo(cutout, size, view)
        transparent = Image.fromarray(straight(frame_cutout(cutout, size, view)))
        assert torch.equal(frame_photo(transparent, size, view, "none"), direct)
        flat = (direct.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        opaque = Image.fromarray(flat).convert("RGBA")
        assert torch.equal(frame_photo(opaque, size, view, "none"), direct)


def test_premultiplying_straight_alpha_is_exact() -> None:
    alpha, color = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    premultiplied = np.stack([np.minimum(color, alpha)] * 3 + [alpha], -1).astype(np.uint8)
    again = np.asarray(Image.fromarray(straight(premultiplied)).convert("RGBa"))
    assert np.array_equal(again, premultiplied)


@pytest.mark.parametrize("background", ["white", "transparent"])
def test_meshes_of_prepared_photos_are_those_of_the_photos(tmp_path: Path, background: str) -> None:
    photo = sorted(PHOTOS.glob("*.png"))[0]
    prepared = tmp_path / "prepared"
    code, output = run("preprocess", photo, "--out", prepared, "--background", background)
    assert code == 0, output
    (picture,) = prepared.glob("*.png")
    with Image.open(picture) as image:
        assert image.mode == ("RGB" if background == "white" else "RGBA")
        assert image.size == (load_config(model_folder("lrm-tiny")).encoder.image_size,) * 2
    raw = ("--resolution", "48", "--texture", "0", "--format", "ply", "--jobs", "1")
    as_is = ("--matting", "none", "--framing", "none")
    assert run("reconstruct", photo, "--out", tmp_path / "direct", *raw)[0] == 0
    assert run("reconstruct", picture, "--out", tmp_path / "via", *raw, *as_is)[0] == 0
    name = f"{photo.stem}.ply"
    # The header tells the hash of what the mesh was made of.
    via, direct = (
        (tmp_path / folder / name).read_bytes().partition(b"end_header")[2]
        for folder in ("via", "direct")
    )
    assert len(via) > 10_000
    assert via == direct


def test_the_background_is_the_models(tmp_path: Path) -> None:
    text = (model_folder("lrm-tiny") / "config.json").read_text()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").touch()
    (tmp_path / "model" / "config.json").write_text(
        text.replace('"background": 1.0', '"background": 0.5')
    )
    config = load_config(tmp_path / "model")
    assert config.view.background == 0.5
    random_cutout(2).save(tmp_path / "noise.png")
    flags = ("--out", tmp_path / "out", "--model", tmp_path / "model")
    assert run("preprocess", tmp_path / "noise.png", *flags)[0] == 0
    with Image.open(tmp_path / "out" / "noise.png") as image:
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    wanted = prepare_photo(tmp_path / "noise.png", config, Matting("auto")).picture
    assert torch.equal(pixels / 255, wanted)
    assert run("preprocess", tmp_path / "noise.png", *flags, "--background", "grey")[0] == 2


def test_prepared_photos_in_a_batch(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    random_cutout(1).save(tmp_path / "in" / "noise.webp", lossless=True)
    (tmp_path / "in" / "torn.jpg").write_bytes(b"\xff\xd8\xff")
    options = ("--size", "40", "--foreground-ratio", "0.9")
    code, output = run("preprocess", tmp_path / "in", "--out", tmp_path / "out", *options)
    assert code == 1
    assert "torn.jpg  FAILED" in output
    assert "1 done, 1 failed" in output
    with Image.open(tmp_path / "out" / "noise.png") as image:
        pixels = np.asarray(image)
    seen = np.flatnonzero((pixels < 250).any(axis=(1, 2)))
    assert seen[-1] - seen[0] + 1 == pytest.approx(0.9 * 40, abs=2)
    code, output = run("preprocess", tmp_path / "in", "--out", tmp_path / "out", *options)
    assert "1 skipped (done before), 1 failed" in output
    assert run("preprocess", tmp_path / "in", "--out", tmp_path / "out", "--size", "1")[0] == 2


def test_prepare_photo_is_the_same_preparation() -> None:
    photo = sorted(PHOTOS.glob("*.png"))[0]
    config = load_config(model_folder("lrm-tiny"))
    prepared = prepare_photo(photo, config, Matting("alpha"))
    levels = prepared.picture * 255
    assert torch.equal(levels.round() / 255, prepared.picture)
