"""`lrm evaluate` from its flags to its files, on shapes and pictures made here."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lrm_cli.evaluate_settings import EvaluateSettings, limits_in
from model.metrics.frechet import frechet_distance
from model.metrics.networks import Features
from tests.unit.cli_scene import Lrm, ledger
from tests.unit.evaluate_scene import SHAPES, place, run, scores
from tests.unit.test_evaluation import box

__all__ = ["place"]  # a fixture


class TestPredictions:
    def test_what_is_left(self, place: Path, lrm: Lrm, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(lrm) == 1  # one prediction and one reference stand alone
        found = scores()
        assert set(found["objects"]) == {"cup", "pot"}
        cup, pot = found["objects"]["cup"], found["objects"]["pot"]
        assert cup["scores"]["f_score@0.1"] > 0.7 > pot["scores"]["f_score@0.1"]
        assert len(cup["views"]) == 2
        assert np.array(cup["surfaces"][0]["transform"]).shape == (4, 4)
        assert found["excluded"]["lamp"] == "there is no reference for it in truth"
        assert found["excluded"]["sofa"] == "there is no prediction of it"
        assert found["protocol"]["geometry"]["points"] == 500
        assert found["summary"]["chamfer"]["objects"] == 2
        assert pot["unavailable"]["psnr"] == "a point cloud has no surface to render"
        printed = capsys.readouterr()
        assert "chamfer ↓" in printed.out
        assert "Scores: out/scores.json" in printed.out
        assert "Report" not in printed.out
        assert "lamp: there is no reference for it" in printed.err

    def test_metrics_without_networks_are_named_and_have_no_number(
        self, place: Path, lrm: Lrm, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "lpips", None)
        Path("shapes.yaml").write_text(SHAPES.replace("[psnr]", "[psnr, lpips]"))
        run(lrm)
        assert "lpips is not installed" in scores()["unavailable"]["lpips"]
        assert "lpips" not in scores()["summary"]
        assert "not available" in Path("out/scores.md").read_text()

    def test_tables(self, place: Path, lrm: Lrm) -> None:
        run(lrm)
        rows = list(csv.DictReader(Path("out/scores.csv").read_text().splitlines()))
        assert [row["object"] for row in rows] == ["cup", "pot", "lamp", "sofa"]
        assert float(rows[0]["chamfer"]) == scores()["objects"]["cup"]["scores"]["chamfer"]
        with Image.open("out/objects/cup.webp") as strip:
            assert strip.size == (3 * 128, 3 * 128)  # two views and the points

    def test_what_is_scored_is_skipped(
        self, place: Path, lrm: Lrm, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run(lrm)
        before = scores()
        capsys.readouterr()
        run(lrm, "--json")
        summary = json.loads(capsys.readouterr().out)
        assert (summary["done"], summary["skipped"], summary["failed"]) == (0, 2, 1)
        assert scores()["objects"] == before["objects"]

    def test_a_dry_run_and_a_quiet_one(
        self, place: Path, lrm: Lrm, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(lrm, "--dry-run", "--json") == 0
        printed = capsys.readouterr()
        assert "sofa: there is no prediction of it" in printed.err
        plan = json.loads(printed.out)["items"]
        assert plan[0] == {
            "input": "predictions/cup.ply",
            "outputs": ["out/objects/cup.json", "out/objects/cup.webp"],
            "done": False,
        }
        assert not Path("out").exists()
        assert run(lrm, "--quiet") == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert "sofa: there is no prediction of it" in printed.err
        Path("predictions/lamp.ply").unlink()
        box((1, 2, 3)).export("predictions/sofa.ply")
        assert run(lrm, "--quiet") == 0
        assert capsys.readouterr() == ("", "")

    def test_another_reference_or_seed_is_another_number(self, place: Path, lrm: Lrm) -> None:
        run(lrm)
        first = scores()["objects"]
        box((1, 1, 1)).export("truth/cup/meshes/model.ply")
        run(lrm)
        second = scores()["objects"]
        assert second["cup"]["scores"] != first["cup"]["scores"]
        assert second["pot"] == first["pot"]
        run(lrm, "--seed", "1")
        assert scores()["objects"]["pot"]["scores"] != first["pot"]["scores"]

    def test_damaged_predictions_and_references_cost_themselves(
        self, place: Path, lrm: Lrm
    ) -> None:
        Path("predictions/cup.ply").write_text("ply\nrubbish")
        Path("truth/pot/meshes/model.ply").write_bytes(b"")
        box((1, 2, 3)).export("predictions/sofa.ply")
        assert run(lrm) == 1
        found = scores()
        assert set(found["objects"]) == {"sofa"}
        assert "cup.ply cannot be read as a mesh" in found["excluded"]["cup"]
        why = "its reference cannot be used: model.ply is empty (0 bytes)"
        assert found["excluded"]["pot"] == why
        assert ledger(Path("out"))["cup.ply"]["status"] == "failed"

    def test_a_name_that_fits_several_references(
        self, place: Path, lrm: Lrm, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """As in the whole of OmniObject3D, which has scans and point clouds of the same names."""
        for folder in ("scans", "clouds"):
            Path("both", folder).mkdir(parents=True)
            box((1, 2, 1)).export(Path("both", folder, "cup.ply"))
        box((1, 2, 2)).export("both/pot.ply")
        assert run(lrm, "--reference", "both") == 1
        why = "its name fits 2 references, such as clouds/cup and scans/cup"
        assert scores()["excluded"]["cup.ply"] == why
        assert set(scores()["objects"]) == {"pot"}

    def test_none_is_scored(
        self, place: Path, lrm: Lrm, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("predictions/cup.ply").write_text("ply\nrubbish")
        Path("predictions/pot.npy").unlink()
        assert run(lrm, "--report") == 1
        assert "predictions, protocol shapes: no object is scored" in capsys.readouterr().out
        assert "cannot be read as a mesh" in Path("out/report/index.html").read_text()

    def test_networks_are_named_also_beside_clouds(
        self, place: Path, lrm: Lrm, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What no object has is not told by the reason for which the cloud lacks it."""
        monkeypatch.setitem(sys.modules, "lpips", None)
        Path("predictions/cup.ply").rename("predictions/sofa.ply")  # the cloud comes first
        Path("shapes.yaml").write_text(SHAPES.replace("[psnr]", "[psnr, lpips]"))
        run(lrm)
        assert "lpips is not installed" in scores()["unavailable"]["lpips"]

    def test_one_of_two_predictions_of_an_object_is_taken(
        self, place: Path, lrm: Lrm, capsys: pytest.CaptureFixture[str]
    ) -> None:
        box((1, 2, 1)).export("predictions/cup.stl")
        box((1, 2, 3)).export("predictions/sofa.ply")
        Path("predictions/lamp.ply").unlink()
        assert run(lrm) == 0
        assert "which is scored, are left out: cup.stl\n" in capsys.readouterr().err
        assert scores()["objects"]["cup"]["input"] == "cup.ply"
        assert scores()["excluded"] == {}

    def test_named_objects_only(self, place: Path, lrm: Lrm) -> None:
        Path("names.txt").write_text("cup\n\n")
        Path("predictions/lamp.ply").unlink()
        assert run(lrm, "--objects", "names.txt") == 0
        assert set(scores()["objects"]) == {"cup"}
        assert scores()["excluded"] == {}

    def test_nothing_in_common(
        self, place: Path, lrm: Lrm, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("predictions/cup.ply").rename("predictions/mug.ply")
        Path("predictions/pot.npy").unlink()
        assert run(lrm) == 2
        assert "objects named cup, pot, sofa" in capsys.readouterr().err.replace("\n", " ")
        assert not Path("out").exists()

    def test_limits(self, place: Path, lrm: Lrm, capsys: pytest.CaptureFixture[str]) -> None:
        for name in ("lamp.ply", "pot.npy"):
            Path("predictions", name).unlink()
        Path("names.txt").write_text("cup\n")
        only = ("--objects", "names.txt")
        assert (
            run(lrm, *only, "--fail-above", "chamfer=0.2", "--fail-below", "f_score@0.1=0.5") == 0
        )
        assert run(lrm, *only, "--fail-above", "chamfer=0.001") == 1
        assert "chamfer is 0.0" in capsys.readouterr().err
        assert run(lrm, *only, "--fail-above", "distance=1", "--out", "none") == 2
        assert not Path("none").exists()

    def test_a_mesh_with_some_nan_is_excluded(self, place: Path, lrm: Lrm) -> None:
        damaged = box((1, 2, 1))
        damaged.vertices[0] = np.nan
        for path in ("predictions/cup.ply", "truth/sofa/meshes/model.ply"):
            damaged.export(path)
        box((1, 2, 3)).export("predictions/sofa.ply")
        assert run(lrm) == 1
        excluded = scores()["excluded"]
        assert excluded["cup"].endswith("has faces whose corners are not finite numbers (NaN)")
        assert "its reference cannot be used: model.ply has faces" in excluded["sofa"]


def test_pictures(place: Path, lrm: Lrm) -> None:
    for name, level in (("a/0", 100), ("a/1", 110), ("b/0", 100)):
        for folder, value in (("seen", level), ("true", 100)):
            path = Path(folder, f"{name}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (value,) * 3).save(path)
    Image.new("RGB", (17, 16)).save("seen/b/0.png")
    Image.new("RGB", (16, 16)).save("true/b/9.png")
    code = lrm(
        *("evaluate", "seen", "--reference", "true", "--protocol", "views.yaml", "--out", "out"),
        *("--device", "cpu"),
    )
    assert code == 1
    found = scores()
    assert found["objects"]["a/0"]["scores"]["psnr"] == 120
    wanted = 20 * np.log10(255 / 10)
    assert found["objects"]["a/1"]["scores"]["psnr"] == pytest.approx(wanted, rel=1e-5)
    assert found["excluded"]["b/0"] == "the picture has 17×16 pixels, its reference 16×16"
    assert found["excluded"]["b/9"] == "there is no prediction of it"
    assert found["unavailable"] == {}
    lrm(
        *("evaluate", "seen", "--reference", "true", "--protocol", "shapes.yaml", "--out", "out2"),
        *("--device", "cpu"),
    )
    surfaces = ["chamfer", "f_score@0.1", "accuracy", "completeness"]
    assert scores("out2")["unavailable"] == dict.fromkeys(
        surfaces, "pictures have no surface to measure"
    )


def test_fid_is_taken_over_all_pictures(
    place: Path, lrm: Lrm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the mean colour for a network, it is the Fréchet distance of the mean colours."""

    def load(device: torch.device) -> Features:
        return lambda pictures: pictures.mean((2, 3))

    monkeypatch.setattr("train.evaluation.pictures.load_inception", load)
    Path("fid.yaml").write_text("name: fid\nsource: me\nviews: {count: 1, metrics: [fid]}\n")
    rng = np.random.default_rng(0)
    levels = {folder: rng.integers(0, 256, (5, 3)) for folder in ("seen", "true")}
    for folder, colors in levels.items():
        Path(folder).mkdir()
        for number, color in enumerate(colors):
            Image.new("RGB", (16, 16), tuple(color.tolist())).save(f"{folder}/{number}.png")
    arguments = ("--protocol", "fid.yaml", "--out", "out", "--device", "cpu")
    assert lrm("evaluate", "seen", "--reference", "true", *arguments) == 0
    wanted = frechet_distance(levels["seen"] / 255, levels["true"] / 255)
    assert scores()["of_the_set"]["fid"] == pytest.approx(wanted, rel=1e-4)
    assert "fid ↓" in Path("out/scores.md").read_text()


def test_limits_are_read_from_one_or_several_flags() -> None:
    known = ["psnr", "ssim", "clip"]
    limits = limits_in("--x", ["psnr=20,ssim=0.8", "clip = 1"], known)
    assert limits == {"psnr": 20, "ssim": 0.8, "clip": 1}
    for text in ("psnr", "psnr=high", "psnr=nan"):
        with pytest.raises(ValueError, match="must be a metric and a number"):
            limits_in("--x", [text], known)
    with pytest.raises(ValueError, match="names 'pnsr', which the protocol does not measure"):
        limits_in("--x", ["pnsr=20"], known)


def test_features_are_files_only_where_fid_is_asked_for() -> None:
    def files(with_features: bool) -> list[str]:
        settings = EvaluateSettings(protocol="p", protocol_sha256="0", with_features=with_features)
        return settings.files_of("a/b")

    assert files(False) == ["objects/a/b.json", "objects/a/b.webp"]
    assert files(True)[2:] == ["objects/a/b.npz"]
