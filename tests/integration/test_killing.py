"""Real processes, started as users start them, and killed as machines kill them."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.runs import assert_same_weights, change, log_of, run_training, step_of
from train.recipe import Recipe
from train.recipe_files import load_recipe

pytestmark = pytest.mark.slow


@pytest.fixture
def recipe_file(tiny_recipe: Recipe, tmp_path: Path) -> Path:
    """Forty steps of two samples, saved at every second one."""
    recipe = change(tiny_recipe, "run", steps=40, checkpoint_every=2, validation_objects=0)
    recipe = change(recipe, "data", workers=1)  # readers are signalled and killed too
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.to_dict()))
    return path


class Runs:
    """Starts `lrm train` on the same run again and again."""

    def __init__(self, data: Path, recipe: Path, run: Path) -> None:
        self.command = [sys.executable, "-m", "lrm_cli", "train", str(data), "--device", "cpu"]
        self.command += ["--recipe", str(recipe), "--out", str(run), "--quiet"]
        self.run = run
        self.process: subprocess.Popen[str] | None = None

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        self.process = subprocess.Popen(
            [*self.command, *arguments],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # As in these tests: the number of threads decides the order of sums.
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        return self.process

    def wait_for(self, step: int) -> None:
        """Until the log reaches a step, or the run ends."""
        assert self.process is not None
        for _ in range(9000):
            if self.process.poll() is not None or self._logged() >= step:
                return
            time.sleep(0.02)
        pytest.fail(f"step {step} was not reached in three minutes")

    def _logged(self) -> int:
        log = self.run / "log.jsonl"
        return log.read_text().count("\n") if log.exists() else 0


@pytest.fixture
def runs(ball_data: Path, recipe_file: Path, tmp_path: Path) -> Iterator[Runs]:
    found = Runs(ball_data, recipe_file, tmp_path / "run")
    yield found
    if found.process is not None and found.process.poll() is None:
        found.process.kill()


def expected(recipe_file: Path, data: Path, run: Path) -> Path:
    assert run_training(data, load_recipe(str(recipe_file)), run)
    return run


def test_killed_at_random_steps_the_run_equals_an_unbroken_one(
    runs: Runs, ball_data: Path, recipe_file: Path, tmp_path: Path
) -> None:
    rng = random.Random(0)
    for step in sorted(rng.sample(range(2, 38), 6)):
        process = runs.start()
        runs.wait_for(step)
        process.kill()
        process.wait()
    process = runs.start()
    assert process.wait(120) == 0, process.stderr and process.stderr.read()
    unbroken = expected(recipe_file, ball_data, tmp_path / "unbroken")
    assert log_of(runs.run) == log_of(unbroken)
    assert_same_weights(runs.run, unbroken)
    assert not list(runs.run.glob("*.part"))


def test_killed_while_the_number_of_processes_changes(
    runs: Runs, ball_data: Path, recipe_file: Path, tmp_path: Path
) -> None:
    steps = sorted(random.Random(1).sample(range(2, 38), 6))
    for step, gpus in zip(steps, itertools.cycle(["2", "1"]), strict=False):
        process = runs.start("--gpus", gpus)
        runs.wait_for(step)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    process = runs.start("--gpus", "2")
    assert process.wait(120) == 0, process.stderr and process.stderr.read()
    unbroken = expected(recipe_file, ball_data, tmp_path / "unbroken")
    found, wanted = log_of(runs.run), log_of(unbroken)
    assert [line["step"] for line in found] == list(range(1, 41))
    # The same samples in the same order: losses that differ by rounding, which training amplifies.
    assert [x["loss"] for x in found] == pytest.approx([x["loss"] for x in wanted], rel=0.02)
    assert found[0] == pytest.approx(wanted[0], rel=1e-3)


@pytest.mark.parametrize(
    ("number", "gpus"), [(signal.SIGINT, "2"), (signal.SIGTERM, "1"), (signal.SIGUSR1, "1")]
)
def test_a_signal_saves_and_ends_with_130(runs: Runs, number: signal.Signals, gpus: str) -> None:
    process = runs.start("--gpus", gpus)
    runs.wait_for(3)
    process.send_signal(number)
    assert process.wait(60) == 130
    assert process.stderr is not None
    told = process.stderr.read()
    assert told.count("Stopped early") == 1
    assert "Traceback" not in told
    # The step that was under way is finished, and nothing after it has begun.
    assert step_of(runs.run) == log_of(runs.run)[-1]["step"]
