"""Data sets and scores in a bucket, against a server that speaks S3; and what may not be in one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trimesh

from tests.unit import evaluate_scene
from tests.unit.cli_scene import Lrm
from tests.unit.evaluate_scene import place
from tests.unit.s3 import Bucket, bucket, server, temporary
from tests.unit.test_preprocess import contents

__all__ = ["bucket", "place", "server", "temporary"]  # fixtures


def test_objects_become_the_same_data_set_in_a_bucket(
    lrm: Lrm, scene: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrm_cli.preprocess_work._limit_memory", lambda size: None)
    (scene / "objects" / "deep").mkdir(parents=True)
    for number in range(3):
        trimesh.creation.box((1, 2, 3 + number)).export(scene / f"objects/deep/box{number}.glb")
    bucket.put_folder(scene / "objects")
    flags = ("--views", "2", "--size", "16", "--jobs", "1")
    url = f"{bucket.url}/data"
    assert lrm("preprocess", "objects", "--out", "data", *flags) == 0
    assert lrm("preprocess", f"{bucket.url}/objects", "--out", url, *flags) == 0
    found = bucket.contents("data/")
    assert {name: found[name] for name in contents(Path("data"))} == contents(Path("data"))
    assert set(found) - set(contents(Path("data"))) == {"dataset.json", "results.jsonl"}
    trimesh.creation.box((1, 1, 9)).export(scene / "objects" / "more.glb")
    bucket.put_folder(scene / "objects")
    assert lrm("preprocess", f"{bucket.url}/objects", "--out", url, *flags) == 0
    assert len(bucket.get("data/index.jsonl").splitlines()) == 4
    assert len(bucket.keys("data/shard")) == 2
    assert bucket.keys("data/unsharded") == []
    assert lrm("preprocess", f"{bucket.url}/objects", "--out", url, "--overwrite", *flags) == 0
    assert len(bucket.get("data/index.jsonl").splitlines()) == 4
    assert len(bucket.keys("data/shard")) == 1


def test_an_archive_in_a_bucket_says_what_to_do(
    lrm: Lrm, scene: Path, bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    import zipfile

    trimesh.creation.box().export(scene / "box.obj")
    with zipfile.ZipFile(scene / "boxes.zip", "w") as archive:
        archive.write(scene / "box.obj", "box.obj")
    bucket.put("boxes.zip", (scene / "boxes.zip").read_bytes())
    assert lrm("preprocess", f"{bucket.url}/boxes.zip", "--out", "data", "--jobs", "1") == 1
    assert "not looked into: unpack it there" in capsys.readouterr().err


def test_predictions_and_scores_in_a_bucket(lrm: Lrm, place: Path, bucket: Bucket) -> None:
    bucket.put_folder(place / "predictions")
    evaluate_scene.run(lrm)
    reference = ("--reference", "truth", "--protocol", "shapes.yaml", "--device", "cpu")
    url = f"{bucket.url}/scores"
    lrm("evaluate", f"{bucket.url}/predictions", *reference, "--out", url, "--report")
    remote, local = json.loads(bucket.get("scores/scores.json")), evaluate_scene.scores()
    assert set(remote["objects"]) == set(local["objects"]) == {"cup", "pot"}
    assert remote["objects"]["cup"]["scores"] == local["objects"]["cup"]["scores"]
    assert b"<html" in bucket.get("scores/report/index.html")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("preprocess", "URL/a", "--kind", "videos", "--out", "data"), "videos"),
        (("preprocess", "URL/a", "--kind", "datasets", "--out", "data"), "data sets"),
        (("preprocess", "URL/a", "--info"), "data sets"),
        (("preprocess", "URL/a", "--verify"), "data sets"),
        (("evaluate", "--model", "m", "--data", "URL/a", "--out", "x"), "--data"),
        (("evaluate", "out", "--reference", "URL/a", "--out", "x"), "--reference"),
        (("evaluate", "--compare", "URL/a", "URL/b"), "evaluations to compare"),
        (("train", "URL/a", "--recipe", "lrm-tiny", "--out", "run"), "data sets"),
        (("train", "a", "--recipe", "lrm-tiny", "--out", "URL/run"), "--out"),
    ],
)
def test_what_must_be_on_this_machine_says_so(
    lrm: Lrm,
    bucket: Bucket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    bucket.put("a/x", b"")
    assert lrm(*(argument.replace("URL", bucket.url) for argument in arguments)) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert message in said
    assert "is in a bucket" in said
    assert not (tmp_path / "s3:").exists()
