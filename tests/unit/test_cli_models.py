"""`lrm models`: published models are listed, pulled from a hub, used, translated and removed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pygltflib
import pytest
import torch
from safetensors.torch import save

from model.catalogue import CATALOGUE
from tests.parity import foreign_states
from tests.unit.cli_scene import Lrm
from tests.unit.standin_hub import COMMIT, StandinHub

NAME = "openlrm-obj-small-1.1"
REPOSITORY = CATALOGUE[NAME].repository
SIZE = ("--image-size", str(foreign_states.OPENLRM_IMAGE_SIZE))
CC_BY_NC = "CC BY-NC 4.0: not for commercial use"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return {
        f"{REPOSITORY}/config.json": json.dumps(foreign_states.OPENLRM).encode(),
        f"{REPOSITORY}/model.safetensors": save(foreign_states.openlrm_state()),
    }


@pytest.fixture
def hub(files: dict[str, bytes]) -> Iterator[StandinHub]:
    with StandinHub(dict(files)).serving() as serving:
        yield serving


@pytest.fixture
def run(hub: StandinHub, tmp_path: Path) -> Run:
    """The command in a process of its own, since the hub's client reads its settings at import."""

    def run_lrm(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        settings = {
            "HF_ENDPOINT": hub.address,
            "HF_HOME": str(tmp_path / "hub"),
            "LRM_MODELS": str(tmp_path / "models"),
            "OMP_NUM_THREADS": "1",
        }
        return subprocess.run(
            [sys.executable, "-m", "lrm_cli", *arguments],
            env=os.environ | settings | environment,
            capture_output=True,
            text=True,
        )

    return run_lrm


def pulled(run: Run, *arguments: str, **environment: str) -> dict[str, Any]:
    done = run("models", "pull", NAME, *SIZE, "--json", *arguments, **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_model_is_pulled_used_and_removed(run: Run, hub: StandinHub, tmp_path: Path) -> None:
    entry = pulled(run)
    assert entry["here"]
    folder = tmp_path / "models" / NAME
    assert entry["folder"] == str(folder)
    card = (folder / "README.md").read_text()
    assert COMMIT in card
    assert CC_BY_NC in card

    # A second time nothing is asked of the hub, nor without it for what its cache has.
    asked = len(hub.requests)
    again = run("models", "pull", NAME)
    assert again.returncode == 0
    assert "is in" in again.stderr
    assert CC_BY_NC in again.stdout
    pulled(run, "--overwrite", HF_HUB_OFFLINE="1")
    assert len(hub.requests) == asked

    # It is a model as others are, and its licence is in what it makes.
    photo = Path(__file__).parents[2] / "examples/photos/bed.png"
    flags = ("--out", str(tmp_path / "meshes"), "--resolution", "24", "--texture", "0")
    made = run("reconstruct", str(photo), *flags, "--threshold", "0.4", "--model", NAME)
    assert made.returncode == 0, made.stderr
    extras = pygltflib.GLTF2.load(str(tmp_path / "meshes" / "bed.glb")).asset.extras
    assert extras["model"]["name"] == NAME
    assert extras["model"]["license"].startswith(CC_BY_NC)

    assert run("models", "remove", NAME).returncode == 0
    assert not folder.exists()
    refused = run("reconstruct", str(photo), *flags, "--model", NAME)
    assert refused.returncode == 2
    assert f"`lrm models pull {NAME}` downloads it" in refused.stderr


@pytest.mark.slow
def test_a_download_goes_on_where_it_was_cut_off(run: Run, hub: StandinHub) -> None:
    hub.cut_off_after = 50_000_000
    pulled(run)
    starts = [
        int(request.split()[2])
        for request in hub.requests
        if request.startswith(f"GET {REPOSITORY}/model.safetensors")
    ]
    assert starts[0] == 0
    assert starts[-1] > 0


@pytest.mark.slow
def test_what_is_not_what_the_hub_says_is_refused(
    run: Run, files: dict[str, bytes], tmp_path: Path
) -> None:
    pulled(run)
    (blob,) = (
        path
        for path in (tmp_path / "hub").rglob("blobs/*")
        if path.stat().st_size == len(files[f"{REPOSITORY}/model.safetensors"])
    )
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    refused = run("models", "pull", NAME, *SIZE, "--overwrite")
    assert refused.returncode == 1
    assert "is not what the hub says it is" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert (tmp_path / "models" / NAME / "config.json").is_file()  # the old one is still whole
    pulled(run, "--overwrite")


@pytest.mark.slow
def test_a_hub_that_does_not_have_it_or_does_not_answer(run: Run, hub: StandinHub) -> None:
    offline = run("models", "pull", NAME, HF_HUB_OFFLINE="1")
    assert offline.returncode == 1
    assert "out of reach: HF_HUB_OFFLINE is set" in offline.stderr
    assert not hub.requests
    hub.files.clear()
    empty = run("models", "pull", NAME)
    assert empty.returncode == 1
    assert "has no model.safetensors and no model.pth" in empty.stderr
    for message in (offline.stderr, empty.stderr):
        assert "Traceback" not in message


def test_names_that_are_none(lrm: Lrm, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("pull", "remove"):
        assert lrm("models", command, "lrm-huge") == 2
        assert (
            "no model to pull is called 'lrm-huge'; there are: triposr" in capsys.readouterr().err
        )
        assert lrm("models", command, "lrm-tiny") == 2
        assert "lrm-tiny ships with lrm" in capsys.readouterr().err


def test_names_can_be_copied_from_the_list(
    lrm: Lrm, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert lrm("models", "list") == 0
    folded = capsys.readouterr().out
    assert {line.split(" ")[1] for line in folded.splitlines() if line.strip()} >= CATALOGUE.keys()
    monkeypatch.delenv("COLUMNS")
    assert lrm("models", "list") == 0
    in_a_pipe = capsys.readouterr().out.splitlines()
    assert any("triposr" in line and "may be used in products" in line for line in in_a_pipe)
    words = {word.strip("─") for word in folded.split()}
    assert words - {word.strip("─") for line in in_a_pipe for word in line.split()} == set()


@pytest.mark.slow  # the client tries for 23 seconds
def test_without_a_network_there_is_one_sentence(run: Run) -> None:
    done = run("models", "pull", NAME, HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 1
    asking, sentence = done.stderr.splitlines()
    assert asking.startswith(f"Pulling {NAME} from ")
    assert "is out of reach" in sentence


@pytest.fixture
def no_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LRM_MODELS", str(tmp_path / "none"))


def test_weights_that_ship_have_their_licence_shown(
    lrm: Lrm, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lrm("models", "info", "lrm-tiny") == 0
    assert "Licence of the weights: as lrm itself, Apache 2.0" in capsys.readouterr().out
    assert lrm("models", "info", "lrm-tiny", "--json") == 0
    assert json.loads(capsys.readouterr().out)["license"] == "as lrm itself, Apache 2.0"
    assert lrm("models", "info", "lrm-large") == 0  # has no weights, and so no licence
    assert "Licence" not in capsys.readouterr().out


@pytest.mark.usefixtures("no_models")
def test_list_and_info_tell_of_what_can_be_pulled(
    lrm: Lrm, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lrm("models", "list", "--json") == 0
    listed = json.loads(capsys.readouterr().out)["models"]
    entries = {entry["name"]: entry for entry in listed}
    assert entries.keys() >= CATALOGUE.keys()
    assert entries["triposr"]["commercial"]
    assert not entries["triposr"]["here"]
    assert not entries[NAME]["commercial"]
    assert lrm("models", "info", NAME) == 0
    told = capsys.readouterr().out
    assert CC_BY_NC in told
    assert f"lrm models pull {NAME}" in told
    assert lrm("models", "info", "triposr", "--json") == 0
    assert json.loads(capsys.readouterr().out)["source"].endswith("stabilityai/TripoSR")
    assert lrm("models", "remove", "triposr") == 2
    assert "triposr is not on this machine" in capsys.readouterr().err


def test_files_that_someone_has_become_a_model(
    lrm: Lrm, tmp_path: Path, capsys: pytest.CaptureFixture[str], files: dict[str, bytes]
) -> None:
    source, out = tmp_path / "theirs", tmp_path / "ours"
    source.mkdir()
    for name, content in files.items():
        (source / Path(name).name).write_bytes(content)
    assert lrm("models", "convert", str(source), "--out", str(out)) == 2
    assert "give --image-size" in capsys.readouterr().err
    assert not out.exists()
    flags = ("--out", str(out), *SIZE, "--license", "ours alone")
    assert lrm("models", "convert", str(source), *flags) == 0
    assert "Licence of the weights: ours alone" in capsys.readouterr().out
    assert lrm("models", "info", str(out), "--json") == 0
    info = json.loads(capsys.readouterr().out)
    assert info["license"] == "ours alone"
    assert info["config"]["triplane"]["axes"] == ["+x+y", "+x+z", "+z+y"]
    torch.save({"weights": 1, "code": print}, source / "model.pth")
    assert lrm("models", "convert", str(source / "model.pth"), "--out", str(tmp_path / "no")) == 2
    assert "refused" in capsys.readouterr().err
