"""The command line: its frozen surface, and how `lrm reconstruct` treats its users.

The network is replaced by a field of known shape and colour; `tests/integration` runs a real one.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
import typer
from PIL import Image

from lrm_cli.app import app
from lrm_cli.batch.work import Place, Work
from lrm_cli.batch.workers import serve
from model.lrm import LRM
from tests.unit.fields import AnalyticField, ball
from tests.unit.standin_drawing import draw_nothing
from tests.unit.tiny_model import save_box_model

SHARED = ("--debug", "--help")
SURFACE = {
    "": ("--help", "--version"),
    "reconstruct": (
        *("--out", "--model", "--device", "--jobs", "--batch-size", "--dtype", "--resolution"),
        *("--faces", "--format", "--profile", "--threshold", "--keep-floaters", "--texture"),
        *("--texture-format", "--project-photo", "--save-visibility"),
        *("--origin", "--input-elevation", "--copyright", "--fail-on"),
        *("--length", "--matting", "--matting-model", "--framing"),
        *("--foreground-ratio", "--save-inputs", "--recursive", "--shard", "--timeout"),
        *("--overwrite", "--report", "--dry-run", "--json", "--quiet", *SHARED),
    ),
    "preprocess": (
        *("--out", "--kind", "--views", "--size", "--fov", "--radius-min", "--radius-max"),
        *("--height-min", "--height-max", "--up", "--seed", "--min-thickness", "--min-opacity"),
        *("--jobs", "--timeout", "--overwrite", "--json", "--quiet", *SHARED),
    ),
    "train": (
        *("--out", "--recipe", "--set", "--device", "--gpus", "--gpus-per-node", "--submit"),
        *("--plan", "--plan-gpu", "--plan-efficiency", "--dry-run", "--quiet", *SHARED),
    ),
    "models list": ("--json", *SHARED),
    "models info": ("--json", *SHARED),
}

Lrm = Callable[..., int]


@pytest.fixture
def lrm() -> Lrm:
    """Run a command in this process; returns its exit code."""

    def call(*arguments: str | Path) -> int:
        try:
            app([str(argument) for argument in arguments], prog_name="lrm")
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return call


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with photos/ (a.png, b/c.png), a model, and a network that sees balls.

    Workers are threads, which see what tests replace; `test_faults.py` has real processes.
    """
    monkeypatch.setattr("lrm_cli.batch.workers.start_process", WorkerThread)
    save_box_model(tmp_path / "model")
    for number, name in enumerate(("a.png", "b/c.png")):
        save_photo(tmp_path / "photos" / name, number)

    def reconstruct(self: LRM, images: Any) -> list[Any]:
        return [AnalyticField(ball((0.2, 0.0, 0.1), 0.5)) for _ in images]

    monkeypatch.setattr(LRM, "reconstruct", reconstruct)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class WorkerThread:
    """Stands in for a worker process; it ends when its connection does."""

    exitcode = 0

    def __init__(self, _: Any, work: Work, place: Place, *pipes: Connection) -> None:
        one_thread = dataclasses.replace(place, threads=1)
        own = [Connection(os.dup(pipe.fileno()), pipe.readable, pipe.writable) for pipe in pipes]
        threading.Thread(target=serve, args=(work, one_thread, *own), daemon=True).start()

    def kill(self) -> None:
        pass

    def join(self) -> None:
        pass


def save_photo(path: Path, shade: int = 0) -> None:
    pixels = np.zeros((60, 60, 4), np.uint8)
    pixels[10:50, 20:40] = (200, shade, 30, 255)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


ARGUMENTS = ("--out", "meshes", "--model", "model", "--resolution", "24")


def ledger(folder: Path = Path("meshes")) -> dict[str, dict[str, Any]]:
    lines = (folder / "results.jsonl").read_text("utf-8").splitlines()
    return {record["input"]: record for record in map(json.loads, lines)}


def files(folder: Path = Path("meshes")) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_surface_is_frozen() -> None:
    """A flag is a promise; changing one means changing this table and the change log."""
    group: Any = typer.main.get_command(app)

    def flags(command: Any) -> set[str]:
        options = [p for p in command.params if p.param_type_name == "option"]
        return {"--help", *(option.opts[0] for option in options)}

    assert sorted(group.commands) == ["models", "preprocess", "reconstruct", "train"]
    assert sorted(group.commands["models"].commands) == ["info", "list"]
    for path, expected in SURFACE.items():
        command = group
        for name in path.split():
            command = command.commands[name]
        assert flags(command) == set(expected), f"lrm {path}"


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    heavy = "torch numpy PIL timm trimesh pyvista rembg safetensors yaml"
    code = (
        "import sys\n"
        "from lrm_cli.app import main\n"
        "sys.argv[1:] = sys.argv[1].split()\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code\n"
        f"print('HEAVY', sorted(set('{heavy}'.split()) & set(sys.modules)))"
    )
    for command in ("", "reconstruct ", "preprocess ", "train ", "models ", "models info "):
        arguments = [sys.executable, "-c", code, command + "--help"]
        seconds = []
        for _ in range(3):  # the first may still compile byte code, and a neighbour may be busy
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            output = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            assert "HEAVY []" in output
            # CPU time, so that waiting for a busy machine does not count.
            seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert min(seconds) < 0.5


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--format", "glb,stp"), "--format is 'stp'; it must be one of glb, obj, ply"),
        (("--resolution", "5"), "--resolution is 5"),
        (("--faces", "3"), "--faces is 3; it must be 0 (all) or at least 4"),
        (("--resolution", "many"), "--resolution"),
        (("--length", "0"), "--length is 0.0"),
        (("--length", "nan"), "--length is nan"),
        (("--framing", "tight"), "--framing is 'tight'"),
        (("--matting", "u2net"), "matting is 'u2net'; it must be one of auto, alpha, rembg, none"),
        (("--matting-model", "u3net"), "the matting model is 'u3net'; it must be one of rembg's"),
        (("--foreground-ratio", "1.2"), "--foreground-ratio is 1.2"),
        (("--jobs", "0"), "--jobs is 0; it must be at least 1"),
        (("--batch-size", "0"), "--batch-size is 0; it must be at least 1"),
        (("--timeout", "-1"), "--timeout is -1"),
        (("--model", "lrm-huge"), "'lrm-huge'"),
        (("--model", "photos"), "photos is not a model's folder"),
        (("--device", "tpu"), "device is 'tpu'"),
        (("--dtype", "fp8"), "dtype is 'fp8'"),
        (("--out", "photos/a.png"), "there is a file of this name"),
        (("--out", "/proc/none/deeper"), "/proc/none/deeper cannot be made"),
        (("nothing.png",), "there is no file or folder nothing.png"),
        (("model",), "there is no picture"),
        (("--colour", "red"), "--colour"),
    ],
)
def test_usage_errors(
    lrm: Lrm,
    scene: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    sentence: str,
) -> None:
    assert lrm("reconstruct", "photos", *ARGUMENTS, *arguments) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert not Path("meshes").exists()


def test_meshes_stand_upright_and_face_forward_in_every_format(lrm: Lrm, scene: Path) -> None:
    """The ball's colour is its place in the world: red x, green y, blue z."""
    options = ("--format", "glb,obj,ply", "--length", "3", "--texture", "0")
    assert lrm("reconstruct", "photos", *ARGUMENTS, *options) == 0
    expected = {f"{stem}.{kind}" for stem in ("a", "b/c") for kind in ("glb", "obj", "ply")}
    assert files() == expected | {"results.jsonl"}
    for kind in ("glb", "obj", "ply"):
        mesh = trimesh.load(f"meshes/a.{kind}", force="mesh")
        np.testing.assert_allclose(mesh.extents, 3, rtol=0.05)
        assert mesh.extents.max() == pytest.approx(3, abs=1e-5)
        np.testing.assert_allclose(mesh.bounds.sum(axis=0), 0, atol=1e-4)
    cloud = trimesh.load("meshes/a.ply", process=False)
    colors = cloud.visual.vertex_colors[:, :3] / 255
    world = 2 * colors - 1 - (0.2, 0.0, 0.1)
    in_file = np.stack([world[:, 0], world[:, 2], -world[:, 1]], axis=1)  # x right, y up, z front
    np.testing.assert_allclose(cloud.vertices, in_file * 3, atol=0.15)


def test_a_bad_photo_costs_only_itself(
    lrm: Lrm, scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("photos/text.png").write_text("not a picture")
    Path("photos/empty.jpg").touch()
    Path("photos/broken.png").symlink_to("nowhere.png")
    Image.new("RGBA", (50, 50)).save("photos/clear.png")
    assert lrm("reconstruct", "photos", *ARGUMENTS) == 1
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    records = ledger()
    wrong = {name: record["error"] for name, record in records.items() if record["error"]}
    assert wrong == {
        "broken.png": "the file cannot be read (No such file or directory)",
        "clear.png": "the picture is fully transparent",
        "empty.jpg": "the file is empty (0 bytes)",
        "text.png": "the file is not a picture of a known format",
    }
    for name, sentence in wrong.items():
        assert f"{name}  FAILED: {sentence}" in captured.err
        assert records[name]["status"] == "failed"
        assert records[name]["outputs"] == []
    assert "2 done, 4 failed" in captured.out
    assert files() == {"a.glb", "b/c.glb", "results.jsonl"}
    stages = {"prepare", "model", "surface", "texture", "write"}
    assert set(records["a.png"]["seconds"]) == stages


def test_a_mistake_of_ours_is_a_sentence_too(
    lrm: Lrm, scene: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def reconstruct(self: LRM, images: Any) -> list[Any]:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(LRM, "reconstruct", reconstruct)
    assert lrm("reconstruct", "photos", *ARGUMENTS) == 1
    error = capsys.readouterr().err
    assert "internal error, RuntimeError: shapes do not match" in error
    assert "Traceback" not in error
    assert lrm("reconstruct", "photos", *ARGUMENTS, "--debug") == 1
    assert "Traceback" in capsys.readouterr().err


def run_json(lrm: Lrm, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    lrm("reconstruct", "photos", *ARGUMENTS, "--json", *arguments)
    return json.loads(capsys.readouterr().out)


def test_a_second_run_does_only_what_is_missing_or_changed(
    lrm: Lrm, scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def counts(*arguments: str) -> tuple[int, int]:
        summary = run_json(lrm, capsys, *arguments)
        assert summary["failed"] == 0
        return summary["done"], summary["skipped"]

    assert counts() == (2, 0)
    assert counts() == (0, 2)
    save_photo(Path("photos/a.png"), shade=99)
    assert counts() == (1, 1)
    Path("meshes/b/c.glb").unlink()
    assert counts() == (1, 1)
    assert counts("--length", "2") == (2, 0)
    assert counts("--length", "2", "--format", "glb,ply") == (2, 0)
    assert counts("--length", "2", "--format", "glb,ply") == (0, 2)
    assert counts("--length", "2", "--format", "glb,ply", "--overwrite") == (2, 0)
    save_box_model(Path("model"))  # the same weights: nothing has changed
    assert counts("--length", "2", "--format", "glb,ply") == (0, 2)
    config = json.loads(Path("model/config.json").read_text())
    config["view"]["iso_density"] = 5.0
    Path("model/config.json").write_text(json.dumps(config))
    assert counts("--length", "2", "--format", "glb,ply") == (2, 0)
    assert len(ledger()) == len(Path("meshes/results.jsonl").read_text().splitlines()) == 2


def test_shards_do_everything_once_and_a_later_run_knows_it(
    lrm: Lrm, scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(4):
        save_photo(Path(f"photos/more{index}.png"))
    done = []
    for part in ("1/3", "2/3", "3/3"):
        assert lrm("reconstruct", "photos", *ARGUMENTS, "--shard", part, "--json") == 0
        done.append(json.loads(capsys.readouterr().out)["done"])
    assert sum(done) == 6
    assert max(done) < 6
    assert len([name for name in files() if name.endswith(".glb")]) == 6
    summary = run_json(lrm, capsys)
    assert (summary["done"], summary["skipped"]) == (0, 6)
    assert len(ledger()) == 6  # the whole job's, as one run would have written it


def test_a_report_tells_of_this_run_and_of_earlier_ones(
    lrm: Lrm, scene: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = draw_nothing(monkeypatch)
    Path("photos/empty.jpg").touch()
    assert lrm("reconstruct", "photos", *ARGUMENTS, "--report", "--dry-run") == 0
    assert not Path("meshes").exists()
    assert lrm("reconstruct", "photos", *ARGUMENTS) == 1
    assert not Path("meshes/report").exists()
    summary = run_json(lrm, capsys, "--report")
    assert summary["skipped"] == 2
    assert summary["report"] == str(Path("meshes/report/index.html"))
    index = Path(summary["report"]).read_text("utf-8")
    assert all(text in index for text in ("a.png", "b/c.png", "the file is empty (0 bytes)"))
    assert len(drawn) == 2 * 3
    assert "report" not in run_json(lrm, capsys)
    drawn.clear()
    assert lrm("reconstruct", "photos/a.png", *ARGUMENTS, "--report") == 0
    assert "Report: meshes/report/index.html" in capsys.readouterr().out
    assert not drawn


def test_pictures_of_the_report_are_not_reconstructed(
    lrm: Lrm, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_nothing(monkeypatch)
    arguments = ("--out", "photos", *ARGUMENTS[2:], "--report")
    for _ in range(2):
        assert lrm("reconstruct", "photos", *arguments) == 0
        assert set(ledger(Path("photos"))) == {"a.png", "b/c.png"}


def test_ctrl_c_while_the_report_is_written(
    lrm: Lrm, scene: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At every file that it writes: nothing half-written stays, and a second run completes."""
    drawn = draw_nothing(monkeypatch)
    assert lrm("reconstruct", "photos", *ARGUMENTS) == 0
    replace = os.replace
    for name in ("c.photo.jpg", "a.view-3.webp", "manifest.json", "a.html", "index.html"):
        with monkeypatch.context() as patch:

            def interrupt(source: str, target: Path, name: str = name) -> None:
                if Path(target).name == name:
                    raise KeyboardInterrupt
                replace(source, target)

            patch.setattr("model.formats.atomic.os.replace", interrupt)
            assert lrm("reconstruct", "photos", *ARGUMENTS, "--report") == 130
        assert "Interrupted." in capsys.readouterr().err
        assert not list(Path("meshes").rglob("*.part"))
        assert not Path("meshes/report/index.html").exists()
    drawn.clear()
    assert lrm("reconstruct", "photos", *ARGUMENTS, "--report") == 0
    assert not drawn  # the runs before have kept what they had
    assert Path("meshes/report/index.html").is_file()


def test_faces_bounds_the_triangles(lrm: Lrm, scene: Path) -> None:
    def faces_with(*flags: str) -> int:
        assert lrm("reconstruct", "photos/a.png", *ARGUMENTS, *flags) == 0
        return len(trimesh.load_mesh("meshes/a.glb").faces)

    everything = faces_with("--faces", "0")
    assert faces_with() == everything  # the coarse grid gives fewer than the default
    assert 4 <= faces_with("--faces", "60") <= 60 < everything


def test_sources_may_be_patterns_and_lists(
    lrm: Lrm, scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("list.txt").write_text("photos/b\n")
    assert lrm("reconstruct", "photos/*.png", "@list.txt", *ARGUMENTS) == 0
    assert {name for name in files() if name.endswith(".glb")} == {"a.glb", "b/c.glb"}
    assert lrm("reconstruct", "photos/*.gif", *ARGUMENTS) == 2
    assert "nothing matches 'photos/*.gif'" in capsys.readouterr().err
    assert lrm("reconstruct", "photos", "--no-recursive", *ARGUMENTS, "--dry-run", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["items"]) == 1


def test_dry_run_lists_and_writes_nothing(
    lrm: Lrm, scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lrm("reconstruct", "photos", *ARGUMENTS, "--dry-run") == 0
    assert capsys.readouterr().out.splitlines() == [
        "to do  photos/a.png -> meshes/a.glb",
        "to do  photos/b/c.png -> meshes/b/c.glb",
    ]
    assert not Path("meshes").exists()
    assert lrm("reconstruct", "photos/a.png", *ARGUMENTS) == 0
    items = run_json(lrm, capsys, "--dry-run")["items"]
    assert [item["done"] for item in items] == [True, False]


def test_quiet_shows_failures_only(
    lrm: Lrm, scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lrm("reconstruct", "photos", *ARGUMENTS, "--quiet") == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
    Path("photos/empty.jpg").touch()
    assert lrm("reconstruct", "photos", *ARGUMENTS, "--quiet") == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "empty.jpg  FAILED: the file is empty (0 bytes)\n"


def test_file_names_are_shown_as_they_are(
    lrm: Lrm, scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Brackets are no markup, and long lines are not wrapped."""
    name = "[red] 椅子 " + "x" * 150 + ".png"
    save_photo(Path("photos") / name)
    assert lrm("reconstruct", "photos", *ARGUMENTS) == 0
    assert name in capsys.readouterr().err
    assert name.replace(".png", ".glb") in files()


def test_sigterm_is_ctrl_c_and_the_next_run_carries_on(
    lrm: Lrm, scene: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def terminated(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", terminated)  # of the first line of the ledger
        assert lrm("reconstruct", "photos", *ARGUMENTS) == 130
    captured = capsys.readouterr()
    assert captured.err.endswith("is kept; run again to carry on.\n")
    assert "Traceback" not in captured.err
    assert signal.getsignal(signal.SIGTERM) is before
    summary = run_json(lrm, capsys)
    assert summary["failed"] == 0
    assert summary["skipped"] >= 1
    assert files() == {"a.glb", "b/c.glb", "results.jsonl"}


def test_what_a_killed_run_left_is_cleared(lrm: Lrm, scene: Path) -> None:
    Path("meshes/b").mkdir(parents=True)
    ours = (".a.glb.x81h.part", "b/.c.glb.77.part", ".results.jsonl.123.part")
    for name in (*ours, ".z.glb.x81h.part", "a.glb.part"):
        Path("meshes", name).touch()
    assert lrm("reconstruct", "photos", *ARGUMENTS) == 0
    others = {".z.glb.x81h.part", "a.glb.part"}  # of another job, or not of this tool
    assert files() == {"a.glb", "b/c.glb", "results.jsonl"} | others


def test_prepared_pictures_are_kept_and_are_no_inputs(
    lrm: Lrm, scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("photos", "--out", "photos", *ARGUMENTS[2:], "--save-inputs")
    assert lrm("reconstruct", *arguments, "--foreground-ratio", "0.5") == 0
    with Image.open("photos/a.input.png") as picture:
        white = np.asarray(picture.convert("L")) > 250
    side = len(white)
    # The object of `save_photo` is 40 high and 20 wide.
    rows, columns = np.flatnonzero(~white.all(axis=1)), np.flatnonzero(~white.all(axis=0))
    assert np.ptp(rows) + 1 == pytest.approx(0.5 * side, abs=2)
    assert np.ptp(columns) + 1 == pytest.approx(0.25 * side, abs=2)
    capsys.readouterr()
    assert lrm("reconstruct", *arguments, "--foreground-ratio", "0.5", "--json") == 0
    assert json.loads(capsys.readouterr().out)["skipped"] == 2
    assert files(Path("photos")) == {
        *("a.png", "a.glb", "a.input.png", "b/c.png", "b/c.glb", "b/c.input.png"),
        "results.jsonl",
    }


def test_the_main_process_imports_nothing_heavy(lrm: Lrm, scene: Path) -> None:
    """The worker does, and one photo must not wait for both."""
    code = (
        "import sys\nfrom lrm_cli.app import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end\n"
        "print('HEAVY', sorted({'torch', 'timm', 'rembg', 'trimesh'} & set(sys.modules)))"
    )
    arguments = ("reconstruct", "photos/a.png", *ARGUMENTS, "--device", "cpu", "--quiet")
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "HEAVY []\n"
    assert files() == {"a.glb", "results.jsonl"}


@pytest.mark.parametrize("where", ["mesh", "ledger"])
def test_a_full_disk_ends_the_run_with_a_sentence(
    lrm: Lrm,
    scene: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    where: str,
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace" if where == "mesh" else "fsync", full)
    assert lrm("reconstruct", "photos", *ARGUMENTS) == 1
    captured = capsys.readouterr()
    assert "nothing can be written to meshes (No space left on device)" in captured.err
    assert "Traceback" not in captured.err
    assert captured.err.count("\n") == 1
    assert not [name for name in files() if name.endswith(".part")]


def test_broken_weights_end_the_run_at_once(
    lrm: Lrm, scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("model/model.safetensors").write_bytes(b"not weights")
    assert lrm("reconstruct", "photos", *ARGUMENTS) == 1
    error = capsys.readouterr().err
    assert error.startswith("Error: model/model.safetensors cannot be read as model weights")
    assert error.count("\n") == 1


def test_models_info_counts_what_the_paper_counts(
    lrm: Lrm, capsys: pytest.CaptureFixture[str]
) -> None:
    """More than 500 million parameters; ViT-B/16 has 86 million (Caron et al. 2021)."""
    assert lrm("models", "info", "lrm-large", "--json") == 0
    info = json.loads(capsys.readouterr().out)
    assert 500e6 < info["parameters"]["total"] < 505e6
    assert 85e6 < info["parameters"]["encoder"] < 87e6
    assert info["config"]["decoder"]["layers"] == 16
    assert lrm("models", "info", "lrm-large") == 0
    table = capsys.readouterr().out
    assert f"{info['parameters']['total']:,}" in table
    assert "decoder.layers" in table


def test_models_info_of_a_folder(lrm: Lrm, scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("model/README.md").write_text("# A box\n\nIt knows nothing else.\n")
    assert lrm("models", "info", "model", "--json") == 0
    info = json.loads(capsys.readouterr().out)
    assert info["name"] == "box"
    assert info["bytes"] == Path("model/model.safetensors").stat().st_size
    assert lrm("models", "info", "model") == 0
    assert "It knows nothing else." in capsys.readouterr().out
    assert lrm("models", "info", "photos") == 2
    assert "not a model's folder" in capsys.readouterr().err


def test_models_list(lrm: Lrm, capsys: pytest.CaptureFixture[str]) -> None:
    assert lrm("models", "list", "--json") == 0
    names = [entry["name"] for entry in json.loads(capsys.readouterr().out)]
    assert set(names) >= {"lrm-tiny", "lrm-base", "lrm-large"}
    assert lrm("models", "list") == 0
    assert all(name in capsys.readouterr().out for name in names[:1])


def test_version(lrm: Lrm, capsys: pytest.CaptureFixture[str]) -> None:
    assert lrm("--version") == 0
    assert capsys.readouterr().out.startswith("lrm ")
