"""Data sets checked, described and put together, without making any view."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from lrm_cli.preprocess import preprocess
from model.cameras import orbit, project
from tests.balls import write_balls
from tests.unit.test_shards import bytes_below, pictures_of, write
from train.shard_tools import contact_sheet, describe
from train.shards import ShardReader, read_index
from train.splits import is_held_out

app = typer.Typer()
app.command()(preprocess)


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def test_verify_names_what_is_broken(tmp_path: Path) -> None:
    write(tmp_path, ["a", "b", "c", "d", "e"])
    assert run("--verify", tmp_path) == (0, run("--verify", tmp_path)[1])
    shard = tmp_path / "shard-00000.tar"
    content = bytearray(shard.read_bytes())
    second = read_index(tmp_path)[1]
    content[second.start + second.size - 700] ^= 1  # one bit of b's last picture
    shard.write_bytes(content)
    with (tmp_path / "shard-00001.tar").open("rb+") as file:
        file.truncate(read_index(tmp_path)[2].size + 600)
    (tmp_path / "shard-00002.tar").unlink()
    code, output = run("--verify", tmp_path, "--json")
    assert code == 1
    found = json.loads(output[output.index("{") :])
    assert found["whole"] == 2
    broken = {entry["uid"]: entry["error"] for entry in found["broken"]}
    assert "not those that were written" in broken["b"]
    assert "ends too early" in broken["d"]
    assert broken["e"] == "shard-00002.tar is missing"
    assert set(broken) == {"b", "d", "e"}
    code, output = run("--verify", tmp_path / "none")
    assert (code, "there is no file or folder" in output) == (2, True)


def test_putting_sets_together_and_dividing_them_changes_no_byte(tmp_path: Path) -> None:
    uids = [f"object {n} of many" for n in range(40)]
    write(tmp_path / "whole", uids, 64)
    write(tmp_path / "first", uids[:25], 64)
    write(tmp_path / "second", uids[25:], 64)
    code, output = run(tmp_path / "first", tmp_path / "second", "--out", tmp_path / "both")
    assert code == 0, output
    both = bytes_below(tmp_path / "both")
    del both["dataset.json"]
    assert both == bytes_below(tmp_path / "whole")
    again = run(tmp_path / "first", tmp_path / "second", "--out", tmp_path / "both")
    assert again[0] == 0
    assert len(read_index(tmp_path / "both")) == 40

    held = run(tmp_path / "whole", "--out", tmp_path / "held", "--split", "heldout")
    assert held[0] == 0
    names = {record.uid for record in read_index(tmp_path / "held")}
    assert names == set(filter(is_held_out, uids)) != set()

    (tmp_path / "names.txt").write_text("\n".join(uids[3:5]))
    chosen = tmp_path / "chosen"
    assert run(tmp_path / "whole", "--out", chosen, "--objects", tmp_path / "names.txt")[0] == 0
    reader = ShardReader(chosen, None)
    assert [record.uid for record in reader.records] == uids[3:5]
    assert np.array_equal(reader.images(1, [2]), pictures_of(uids[4])[[2]])
    (tmp_path / "names.txt").write_text(f"{uids[0]}\nanother\n")
    none = tmp_path / "none"
    code, output = run(tmp_path / "whole", "--out", none, "--objects", tmp_path / "names.txt")
    assert (code, "there is no object 'another', which --objects names" in output) == (2, True)
    assert not none.exists()

    for part in ("1/3", "2/3", "3/3"):
        assert run(tmp_path / "whole", "--out", tmp_path / "parts", "--shard", part)[0] == 0
    assert sorted(r.uid for r in read_index(tmp_path / "parts")) == sorted(uids)


def test_a_copy_carries_on_and_lists_what_it_would_do(tmp_path: Path) -> None:
    write(tmp_path / "data", ["a", "b"], 64)
    out = tmp_path / "copy"
    code, output = run(tmp_path / "data", "--out", out, "--dry-run")
    assert (code, output.count("to do")) == (0, 2)
    assert not out.exists()
    assert "2 done" in run(tmp_path / "data", "--out", out)[1]
    before = bytes_below(out)
    assert "0 done, 2 skipped (done before)" in run(tmp_path / "data", "--out", out)[1]
    assert bytes_below(out) == before
    code, output = run(tmp_path / "data", "--out", out, "--dry-run", "--json")
    plan = json.loads(output[output.index("{") :])
    assert [entry["done"] for entry in plan["items"]] == [True, True]


def test_settings_are_kept_only_where_all_objects_have_them(tmp_path: Path) -> None:
    settings = {"first": {"size": 8}, "second": {"size": 8}, "third": {"size": 9}}
    for name, values in settings.items():
        write(tmp_path / name, [f"of {name}"])
        (tmp_path / name / "dataset.json").write_text(json.dumps(values))
    out = tmp_path / "all"

    def kept_after(name: str) -> dict[str, object]:
        assert run(tmp_path / name, "--out", out)[0] == 0
        return dict(json.loads((out / "dataset.json").read_text()))

    assert kept_after("first") == {"size": 8}
    assert kept_after("second") == {"size": 8}
    assert kept_after("third") == {"kind": "datasets"}
    assert kept_after("first") == {"kind": "datasets"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--info", "--verify"), "--verify does not go with --info"),
        (("--info", "--size", "9"), "--size does not go with --info"),
        (("--verify", "--out", "x"), "--out does not go with --verify"),
        (("--verify", "--overwrite"), "--overwrite does not go with --verify"),
        (("--info", "--kind", "objects"), "--kind does not go with --info"),
        (("--info", "--no-recursive"), "--recursive/--no-recursive does not go with --info"),
        (("--out", "x", "--jobs", "2"), "--jobs is not for datasets"),
        (("--out", "x", "--cluster", "auto"), "--cluster is for photos"),
    ],
)
def test_flags_that_would_do_nothing(
    tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    write(tmp_path, ["a"])
    code, output = run(tmp_path, *options)
    assert (code, message in output) == (2, True), output


def test_a_broken_object_is_not_copied(tmp_path: Path) -> None:
    write(tmp_path / "data", ["a", "b"])
    shard = tmp_path / "data" / "shard-00000.tar"
    content = bytearray(shard.read_bytes())
    content[900] ^= 255
    shard.write_bytes(content)
    code, output = run(tmp_path / "data", "--out", tmp_path / "copy")
    assert code == 1
    assert "1 done, 1 failed" in output
    assert [record.uid for record in read_index(tmp_path / "copy")] == ["b"]
    assert run(tmp_path / "data", "--out", tmp_path / "data")[0] == 2


def test_two_objects_of_one_name_are_not_mixed_up(tmp_path: Path) -> None:
    write(tmp_path / "first", ["a", "b"])
    write(tmp_path / "second", ["b"])
    assert run(tmp_path / "first", tmp_path / "second", "--out", tmp_path / "same")[0] == 0
    write_balls(tmp_path / "balls", 1, views=2, size=8)
    (name,) = (record.uid for record in read_index(tmp_path / "balls"))
    write(tmp_path / "third", [name])
    code, output = run(tmp_path / "third", tmp_path / "balls", "--out", tmp_path / "mixed")
    assert code == 1
    assert "another object of this name" in output


def test_description_counts_what_is_there(tmp_path: Path) -> None:
    uids = [f"object {n} of many" for n in range(20)]
    write(tmp_path, uids, 64)
    found = describe(tmp_path)
    assert (found.objects, found.views, found.looked_at) == (20, 60, 20)
    held_out = sum(map(is_held_out, uids))
    assert found.counts["split"] == {"heldout": held_out, "train": 20 - held_out}
    assert found.counts["license"] == {"CC0-1.0": 20}
    assert found.stale_bytes == 0
    # Three cameras on a level circle at 20 degrees, at a distance of 2, 60 degrees wide.
    edges, counts = found.cameras["elevation_degrees"]
    assert counts[edges.index(15)] == 60
    assert found.cameras["distance"][0][0] == pytest.approx(2)
    assert found.cameras["fov_degrees"][0][0] == pytest.approx(60)
    assert sum(found.cameras["azimuth_degrees"][1]) == 60
    (tmp_path / "shard-00007.tar").write_bytes(bytes(100_000))  # its writer was killed
    assert describe(tmp_path).stale_bytes == 100_000


def test_info_and_sheet(tmp_path: Path) -> None:
    write_balls(tmp_path, 3, views=4, size=48)
    code, output = run("--info", tmp_path, "--sheet", "4x2")
    assert code == 0, output
    assert "3 objects, 12 views" in output
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (4 * 192 + 3 * 3, 2 * 192 + 3)
    code, output = run("--info", tmp_path, "--json")
    assert json.loads(output[output.index("{") :])["datasets"][0]["split"] == {"train": 3}


def test_axes_of_a_sheet_are_where_a_camera_sees_them(tmp_path: Path) -> None:
    write_balls(tmp_path, 1, views=1, size=64)
    sheet = contact_sheet(tmp_path, 1, 1, side=64).astype(int)
    pose = ShardReader(tmp_path, None).cameras(0)
    # Written out: the axis's end in the camera's frame, then through the pinhole.
    matrix = pose.camera_to_world[0].double().numpy()
    local = np.linalg.inv(matrix) @ [0, 0, 0.7, 1]
    fx, fy, cx, cy = pose.intrinsics[0].tolist()
    x = (fx * local[0] / local[2] + cx) * 64
    y = (fy * local[1] / local[2] + cy) * 64
    red, _, blue = sheet[int(y), int(x)]
    assert blue > red + 100


def test_projection_is_that_of_the_pinhole_camera() -> None:
    camera = orbit(5, 30.0, 2.0, 50.0)[2]
    points = torch.tensor([[0.1, -0.2, 0.3], [0.0, 0.0, 0.0]])
    places = project(points, camera)
    assert places[1].tolist() == pytest.approx([0.5, 0.5], abs=1e-6)
    inverse = torch.linalg.inv(camera.camera_to_world)
    local = inverse[:3, :3] @ points[0] + inverse[:3, 3]
    fx, fy, cx, cy = camera.intrinsics
    wanted = [float(fx * local[0] / local[2] + cx), float(fy * local[1] / local[2] + cy)]
    assert places[0].tolist() == pytest.approx(wanted, abs=1e-6)
