"""The command line: its frozen surface, its help, and usage errors."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from lrm_cli.app import app
from tests.unit.cli_scene import ARGUMENTS, Lrm

SHARED = ("--debug", "--help")
SURFACE = {
    "": ("--help", "--version"),
    "reconstruct": (
        *("--out", "--model", "--device", "--jobs", "--batch-size", "--dtype", "--resolution"),
        *(
            "--faces",
            "--topology",
            "--compression",
            "--format",
            "--profile",
            "--threshold",
            "--keep-floaters",
        ),
        "--texture",
        *("--texture-format", "--project-photo", "--save-visibility", "--normal-map", "--unlit"),
        *("--origin", "--input-elevation", "--copyright", "--fail-on"),
        *("--length", "--matting", "--matting-model", "--framing"),
        *(
            "--foreground-ratio",
            "--save-inputs",
            "--save-triplane",
            "--turntable",
            "--recursive",
            "--shard",
            "--timeout",
        ),
        *("--overwrite", "--report", "--dry-run", "--json", "--quiet", "--cluster", *SHARED),
    ),
    "render": (
        *("--out", "--mode", "--format", "--frames", "--fps", "--size", "--elevation", "--orbit"),
        *("--fov", "--distance", "--cameras", "--background", "--channels", "--separate"),
        *("--depth-format", "--sheet", "--samples", "--unlit", "--up"),
        *("--model", "--dtype", "--matting", "--matting-model", "--framing"),
        *("--input-elevation", "--device", "--jobs", "--batch-size", "--recursive", "--shard"),
        *("--timeout", "--overwrite", "--dry-run", "--json", "--quiet", "--cluster", *SHARED),
    ),
    "preprocess": (
        *("--out", "--kind", "--size", "--views", "--format", "--cameras", "--fov"),
        *("--radius-min", "--radius-max", "--height-min", "--height-max", "--lighting", "--depth"),
        *("--normals", "--up", "--seed", "--min-thickness", "--min-opacity", "--metadata"),
        *(
            "--min-frames",
            "--min-sharpness",
            "--matting",
            "--matting-model",
            "--framing",
            "--foreground-ratio",
        ),
        *("--background", "--model", "--split", "--objects", "--verify", "--info", "--sheet"),
        *("--jobs", "--recursive", "--shard", "--timeout", "--overwrite", "--dry-run", "--json"),
        *("--quiet", "--cluster", *SHARED),
    ),
    "train": (
        *("--out", "--recipe", "--set", "--device", "--gpus", "--gpus-per-node", "--submit"),
        *("--plan", "--plan-gpu", "--plan-efficiency", "--dry-run", "--quiet", *SHARED),
    ),
    "evaluate": (
        *("--out", "--reference", "--protocol", "--model", "--baseline", "--data", "--split"),
        *("--objects", "--seed", "--size", "--lighting", "--up", "--name", "--compare"),
        *("--fail-below", "--fail-above", "--report", "--dtype", "--device", "--jobs"),
        *("--recursive", "--shard", "--timeout", "--overwrite", "--dry-run", "--json", "--quiet"),
        *("--cluster", *SHARED),
    ),
    "models list": ("--json", *SHARED),
    "models info": ("--json", *SHARED),
    "models pull": ("--revision", "--image-size", "--overwrite", "--json", *SHARED),
    "models convert": ("--out", "--license", "--image-size", *SHARED),
    "models remove": SHARED,
}


def test_the_surface_is_frozen() -> None:
    """A flag is a promise; changing one means changing this table and the change log."""
    group: Any = typer.main.get_command(app)

    def flags(command: Any) -> set[str]:
        options = [p for p in command.params if p.param_type_name == "option"]
        return {"--help", *(option.opts[0] for option in options)}

    assert sorted(group.commands) == [
        "evaluate",
        "models",
        "preprocess",
        "reconstruct",
        "render",
        "train",
    ]
    assert sorted(group.commands["models"].commands) == [
        "convert",
        "info",
        "list",
        "pull",
        "remove",
    ]
    for path, expected in SURFACE.items():
        command = group
        for name in path.split():
            command = command.commands[name]
        assert flags(command) == set(expected), f"lrm {path}"


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    heavy = "torch numpy numba PIL timm trimesh pyvista rembg safetensors yaml"
    code = (
        "import sys\n"
        "from lrm_cli.app import main\n"
        "sys.argv[1:] = sys.argv[1].split()\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code\n"
        f"print('HEAVY', sorted(set('{heavy}'.split()) & set(sys.modules)))"
    )
    commands = (
        *("reconstruct ", "render ", "preprocess ", "train "),
        *("evaluate ", "models ", "models info "),
    )
    # What others need for it by themselves, so that a slow machine is known for one: newer typers
    # import pydantic.
    others = "import typer, rich.console\ntry: import typer._adapters\nexcept ImportError: pass"
    theirs = min(_processor_seconds(others)[0] for _ in range(3))
    for command in ("", *commands):
        for attempt in range(3):
            seconds, output = _processor_seconds(code, command + "--help")
            assert "HEAVY []" in output
            if seconds < max(0.5, 4 * theirs):
                break
            # The first may still compile byte code, and a neighbour may be busy.
            assert attempt < 2, f"lrm {command}--help takes {seconds} s"


def _processor_seconds(code: str, *arguments: str) -> tuple[float, str]:
    """What a Python process takes of a processor, however busy the machine is, and prints."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", code, *arguments]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--format", "glb,stp"), "--format is 'stp'; it must be one of glb, obj, ply"),
        (("--resolution", "5"), "--resolution is 5"),
        (("--faces", "3"), "--faces is 3; it must be 0 (all) or at least 4"),
        (("--resolution", "many"), "--resolution"),
        (("--input-elevation", "high"), "--input-elevation is high; it must be auto or lie from"),
        (("--input-elevation", "-91"), "--input-elevation is -91.0; it must be auto or lie from"),
        (("--length", "0"), "--length is 0.0"),
        (("--length", "nan"), "--length is nan"),
        (("--framing", "tight"), "--framing is 'tight'"),
        (("--matting", "u2net"), "matting is 'u2net'; it must be one of auto, alpha, rembg, none"),
        (("--matting-model", "u3net"), "the matting model is 'u3net'; it must be one of rembg's"),
        (("--foreground-ratio", "1.2"), "--foreground-ratio is 1.2"),
        (("--jobs", "0"), "--jobs is 0; it must be at least 1"),
        (("--batch-size", "0"), "--batch-size is 0; it must be at least 1"),
        (("--timeout", "-1"), "--timeout is -1"),
        (("--timeout", "nan"), "--timeout is nan"),
        (("--model", "lrm-huge"), "'lrm-huge'"),
        (("--model", "photos"), "photos is not a model's folder"),
        (("--device", "tpu"), "device is 'tpu'"),
        (("--dtype", "fp8"), "dtype is 'fp8'"),
        (("--out", "photos/a.png"), "there is a file of this name"),
        (("--out", "/proc/none/deeper"), "/proc/none/deeper cannot be made"),
        (("nothing.png",), "there is no file or folder nothing.png"),
        (("",), "the name of a source is empty"),
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


@pytest.mark.parametrize("command", ["reconstruct", "render", "preprocess", "evaluate", "train"])
def test_an_empty_out_is_not_the_current_folder(
    lrm: Lrm, scene: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert lrm(command, "photos", "--out", "") == 2
    assert "the name is empty" in capsys.readouterr().err
    assert not Path("results.jsonl").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "photos", "--out", "scores", "--reference", ""),
        ("evaluate", "--model", "model", "--out", "scores", "--data", ""),
        ("evaluate", "photos", "--reference", "photos", "--out", "scores", "--objects", ""),
        ("evaluate", "--compare", "", "photos"),
        ("models", "convert", "model", "--out", ""),
        ("models", "convert", "", "--out", "other"),
        ("models", "info", ""),
        ("preprocess", "photos", "--out", "data", "--metadata", ""),
        ("preprocess", "photos", "--out", "data", "--kind", "datasets", "--objects", ""),
        ("reconstruct", "photos", "--out", "meshes", "--model", ""),
        ("render", "photos", "--out", "videos", "--cameras", ""),
        ("train", "", "--out", "run"),
    ],
)
def test_no_empty_name_is_the_current_folder(
    lrm: Lrm, scene: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    assert lrm(*arguments) == 2
    assert "name is empty" in capsys.readouterr().err


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
    names = [entry["name"] for entry in json.loads(capsys.readouterr().out)["models"]]
    assert set(names) >= {"lrm-tiny", "lrm-base", "lrm-large"}
    assert lrm("models", "list") == 0
    assert all(name in capsys.readouterr().out for name in names[:1])


def test_version(lrm: Lrm, capsys: pytest.CaptureFixture[str]) -> None:
    assert lrm("--version") == 0
    assert capsys.readouterr().out.startswith("lrm ")
