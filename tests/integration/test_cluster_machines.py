"""`--cluster` on nodes that do not see the same, and with a head that dies and comes back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("ray")

from collections.abc import Sequence

from lrm_cli.batch.cluster import Cluster
from lrm_cli.batch.executor import PoolExecutor
from lrm_cli.batch.parcels import own_folder
from lrm_cli.batch.ray_pool import RayPool
from lrm_cli.batch.work import Carried, Place, Stage
from model.folders import PRETRAINED_DIR
from tests.integration.ray_machines import Machines, can_hide
from tests.unit.standin_work import StandIn
from tests.unit.test_executor import Batch

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

needs_mounts = pytest.mark.skipif(not can_hide(), reason="no mounts of one's own here")


@dataclass(frozen=True)
class Weighing(StandIn):
    """Notes where its weights are, and what they weigh."""

    weights: Path = Path()

    @property
    def carried(self) -> Sequence[Carried]:
        return (Carried(self.weights, ("model.safetensors", "empty")),)

    def load(self, place: Place) -> Sequence[Stage]:
        folder = place.local(self.weights)
        content = (folder / "model.safetensors").read_bytes()
        assert (folder / "empty").read_bytes() == b""
        self.note(f"weights {folder} {len(content)} {sum(content[:: 2**20])}")
        return super().load(place)


@pytest.fixture
def machines() -> Iterator[Machines]:
    # Sockets have short names: pytest's own folder is too deep.
    folder = Path(tempfile.mkdtemp(prefix="lrm"))
    found = Machines(folder)
    try:
        found.head()
        yield found
    finally:
        found.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    return Batch(tmp_path)


def executor(machines: Machines, work: StandIn, folder: Path, most: int = 99) -> PoolExecutor:
    pool = RayPool(Cluster(machines.address), work, Place("cpu", 1), most, folder, folder)
    return PoolExecutor(pool, work.stage_names, 4)


def many(count: int) -> dict[str, str]:
    return {f"good{index}": "" for index in range(count)}


@needs_mounts
def test_a_node_that_does_not_see_the_files_is_left_out(
    machines: Machines, batch: Batch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It has room for two workers; neither is asked for again and again."""
    machines.node(hidden=((batch.folder, 10**6),), cpus=2).wait()
    work = StandIn(batch.log)
    with pytest.raises(ValueError, match=r"the node \S+ sees another --out"):
        batch.run(executor(machines, work, batch.folder), **many(3))
    machines.node().wait()
    capfd.readouterr()
    errors = batch.run(executor(machines, work, batch.folder), **many(400))
    assert set(errors.values()) == {None}
    assert len(batch.noted("load")) == 1
    message = capfd.readouterr().err
    assert message.count("sees another --out") == message.count("; it takes no part.") == 1


@needs_mounts
def test_weights_travel_to_each_node_once(
    machines: Machines, batch: Batch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two nodes of two workers each, without the weights; a third that has no room for them."""
    folder = machines.folder
    weights = folder / "weights"
    weights.mkdir()
    content = bytes(range(256)) * (150 * 2**12)  # 157 MB: three pieces
    (weights / "model.safetensors").write_bytes(content)
    (weights / "empty").touch()
    own = own_folder()
    nodes = [machines.node(((weights, 10**6), (own, 10**9)), cpus=2).wait() for _ in range(2)]
    work = Weighing(batch.log, weights=weights)

    def run() -> str:
        capfd.readouterr()
        errors = batch.run(executor(machines, work, batch.folder), **many(200))
        assert set(errors.values()) == {None}
        return capfd.readouterr().err

    assert run() == "Nodes lack what they need; sending 157 MB to each.\n"
    assert run() == ""  # they have it from before
    nodes.append(machines.node(((weights, 10**6), (own, 10**7))).wait())
    full = f"cannot keep a copy of {weights} in {own} (No space left on device); it takes no part."
    assert run().count(full) == 1
    seen = [line.split() for line in batch.noted("weights")]
    assert {tuple(rest) for _, *rest in seen} == {
        (str(len(content)), str(sum(content[:: 2**20]))),
    }
    assert {str(Path(where).parent) for where, *_ in seen} == {str(own)}
    assert len({where for where, *_ in seen}) == 1
    for node in nodes[:2]:
        (kept,) = [path for path in node.seen(own).iterdir() if path.is_dir()]
        assert {file.name for file in kept.iterdir()} == {"model.safetensors", "empty"}
    assert not [path for path in nodes[2].seen(own).iterdir() if path.is_dir()]


@needs_mounts
@pytest.mark.parametrize(
    "command",
    [
        ("reconstruct", "--resolution", "48", "--texture", "0"),
        ("render", "--frames", "2", "--size", "64", "--format", "png"),
    ],
    ids=["reconstruct", "render"],
)
def test_commands_need_no_model_on_nodes(
    command: tuple[str, ...], machines: Machines, tmp_path: Path
) -> None:
    machines.node(((PRETRAINED_DIR, 10**6), (own_folder(), 10**9))).wait()
    arguments = (*command, str(ROOT / "examples" / "photos" / "bed.png"), "--device", "cpu")
    outs = tmp_path / "there", tmp_path / "here"
    for out, more in zip(outs, (("--cluster", machines.address), ()), strict=True):
        run = subprocess.run(
            [sys.executable, "-m", "lrm_cli", *arguments, "--out", str(out), *more],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: os.sched_setaffinity(0, {0}),  # as many threads as on the node
        )
        assert run.returncode == 0, run.stderr
        assert ("Nodes lack what they need; sending 24 MB" in run.stderr) == bool(more)
    there, here = (
        {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.[gp][ln][bg]")}
        for out in outs
    )
    assert there == here
    assert here


def test_a_head_that_dies_and_comes_back(
    machines: Machines, batch: Batch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its nodes are lost with it; others do what is left."""
    head = machines.all[0]
    machines.node().wait()
    run = executor(machines, StandIn(batch.log), batch.folder)
    names = list(many(2000))
    done: list[str] = []
    for outcome in run.run(batch.tasks(**dict.fromkeys(names, ""))):
        assert outcome.failure is None
        assert not outcome.task.alone
        done.append(outcome.task.item.name)
        if len(done) == 20:
            head.kill()

            def come_back() -> None:
                machines.head()
                machines.node()

            thread = threading.Thread(target=come_back)
            thread.start()
    run.close()
    thread.join()
    assert sorted(done) == sorted(names)
    assert {path.stem for path in batch.folder.glob("*.out")} == set(names)
    assert not list(batch.folder.glob(".*.part"))
    assert len(batch.noted("load")) >= 2
    assert "head has gone; waiting for it to come back" in capfd.readouterr().err
