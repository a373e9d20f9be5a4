"""`lrm evaluate --model` and `--baseline` from their flags to their files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.balls import write_balls
from tests.unit.cli_scene import Lrm
from tests.unit.evaluate_scene import place, scores
from tests.unit.tiny_model import save_box_model

__all__ = ["place"]  # a fixture


class TestModels:
    @pytest.fixture
    def data(self, place: Path) -> Path:
        write_balls(Path("data"), count=12, views=4, size=48)
        save_box_model(Path("model"))
        return place

    def test_a_model_on_a_data_set(self, data: Path, lrm: Lrm) -> None:
        code = lrm(
            *("evaluate", "--model", "model", "--data", "data", "--split", "train"),
            *("--protocol", "views.yaml", "--out", "out", "--device", "cpu"),
        )
        assert code == 0
        found = scores()
        assert len(found["objects"]) == 2  # drawn of more
        (entry, _) = found["objects"].values()
        assert [(v["input"], v["view"]) for v in entry["views"]] == [
            (i, v) for i in range(2) for v in range(3)
        ]
        assert entry["model"]["name"] == "box"
        assert found["method"] == "box"

    @pytest.mark.parametrize("baseline", ["relief", "mean-shape"])
    def test_baselines(
        self, data: Path, lrm: Lrm, baseline: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = (
            *("evaluate", "--baseline", baseline, "--data", "data", "--split", "train"),
            *("--protocol", "views.yaml", "--out", "out", "--device", "cpu"),
        )
        assert lrm(*arguments) == 0
        assert scores()["method"] == f"baseline {baseline}"
        for entry in scores()["objects"].values():
            own = [v["psnr"] for v in entry["views"] if v["view"] == v["input"]]
            # What is seen from the input's side is nearly the input, or what balls have in common.
            assert min(own) > (18 if baseline == "relief" else 12)
        # A training object less, and the mean shape is another one.
        Path("names.txt").write_text("\n".join(scores()["objects"]))
        index = Path("data/index.jsonl")
        lines = index.read_text().splitlines(keepends=True)
        other = next(
            line
            for line in lines
            if (record := json.loads(line))["split"] == "train"
            and record["uid"] not in scores()["objects"]
        )
        index.write_text("".join(line for line in lines if line != other))
        capsys.readouterr()
        assert lrm(*arguments, "--objects", "names.txt", "--dry-run", "--json") == 0
        plan = json.loads(capsys.readouterr().out)["items"]
        assert [item["done"] for item in plan] == [baseline == "relief"] * 2

    def test_a_model_on_a_folder_of_meshes(self, data: Path, lrm: Lrm) -> None:
        code = lrm(
            *("evaluate", "--model", "model", "--data", "truth", "--protocol", "shapes.yaml"),
            *("--out", "out", "--device", "cpu"),
        )
        assert code == 0
        found = scores()["objects"]
        assert set(found) == {"cup", "pot", "sofa"}
        # The model answers with a cube, and the cup is 1 × 2 × 1.
        assert 0.05 < found["cup"]["scores"]["chamfer"] < 1

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ((), "give predictions and their --reference"),
            (("--model", "model"), "--data takes one --model"),
            (("--data", "data"), "takes one --model"),
            (("--data", "data", "--model", "model", "--baseline", "relief"), "takes one"),
            (
                ("--data", "data", "--model", "model", "--protocol", "sf3d"),
                "needs the objects' meshes",
            ),
            (("--data", "data", "--model", "nobody"), "nobody"),
            (("--data", "nowhere", "--model", "model"), "neither a folder nor a list"),
            (("--data", "truth", "--baseline", "mean-shape"), "training objects, not of meshes"),
            (("--data", "data", "--baseline", "cube"), "--baseline is 'cube'"),
            (("--data", "data", "--model", "model", "--protocol", "x"), "there is no protocol 'x'"),
            (("--data", "data", "--model", "model", "--fail-below", "20"), "as psnr=20"),
        ],
    )
    def test_wrong_usage(
        self,
        data: Path,
        lrm: Lrm,
        capsys: pytest.CaptureFixture[str],
        arguments: tuple[str, ...],
        words: str,
    ) -> None:
        assert lrm("evaluate", *arguments, "--out", "out", "--split", "train") == 2
        assert words in " ".join(capsys.readouterr().err.split())
        assert not Path("out").exists()
