"""A run's folder: what makes it go on exactly, and the models that others load.

RUN/
    recipe.yaml                       what was asked for
    checkpoints/00001000/             the state after 1,000 steps (torch.distributed.checkpoint),
                                      written as 00001000.part and renamed when it is whole
        state.json                    the step, recipe and data, what was counted
        config.json, model.safetensors, README.md    the model of that moment, and its card
    best.json                         which checkpoint scored best on unseen objects
    config.json, model.safetensors, README.md        the newest model
    log.jsonl, tensorboard/, pictures/

Any number of processes, with ddp or fsdp, reads what any other number wrote.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import yaml
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException

from model.atomic import put_in_place, write_atomically
from model.folders import CARD_NAME, CONFIG_NAME, WEIGHTS_NAME
from model.lrm import LRM
from model.weights import save_weights
from train.data_identity import DataIdentity
from train.optimizer import AveragedWeights, GuardedSteps
from train.parallel import Group, is_spread, whole
from train.recipe import Recipe, recipe_from_dict

# One process is what a run may well have.
warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninit")

CHECKPOINTS, STATE_NAME = "checkpoints", "state.json"
RECIPE_NAME, BEST_NAME = "recipe.yaml", "best.json"
_DAMAGED_JSON = (UnicodeDecodeError, json.JSONDecodeError, TypeError, KeyError)


@dataclass
class Training:
    """All that changes while a run goes on."""

    model: LRM
    steps: GuardedSteps
    average: AveragedWeights | None
    step: int = 0
    bad_samples: int = 0

    def tensors(self) -> dict[str, Any]:
        """By name, sharing memory with the parts; loading writes into these."""
        found: dict[str, Any] = {"model": {}}
        for name, parameter in self.model.named_parameters():
            found["model"][name] = parameter.detach()
            for kind, value in self.steps.moments(parameter).items():
                kind = "steps_taken" if kind == "step" else kind
                found.setdefault(kind, {})[name] = value
        if self.average is not None:
            found["average"] = self.average.values
        return found

    def weights(self) -> dict[str, Tensor]:
        """The model's weights on the CPU, averaged ones where the run has them."""
        values: Iterable[tuple[str, Tensor]] = self.model.named_parameters()
        if self.average is not None:
            values = self.average.values.items()
        return {name: whole(value) for name, value in values}


class Checkpoints:
    """Writes the checkpoints of a run in the background, and finds one to go on from."""

    def __init__(self, run: Path, recipe: Recipe, data: DataIdentity, group: Group) -> None:
        self.run = run
        self.recipe = recipe
        self.data = data
        self.group = group
        self.folder = run / CHECKPOINTS
        # Of its own: collectives of the background must not mix with the training's.
        self._processes: dist.ProcessGroup | None = None
        if group.size > 1:
            self._processes = cast(dist.ProcessGroup, dist.new_group(backend="gloo"))
        self._thread = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None
        self._best = _read_best(run)
        self._before: tuple[Recipe, DataIdentity | None] | None = None

    def names(self) -> list[str]:
        """Whole checkpoints, the oldest first."""
        return sorted(p.name for p in self.folder.glob("*") if p.name.isdigit())

    def save(self, training: Training, card: str) -> None:
        """Begin to write the present state; all processes must call this.

        What is written is the state of this moment. An earlier save is waited for.

        Raises:
            OSError: the earlier one failed.
        """
        self.wait()
        name = f"{training.step:08d}"
        part = self.folder / f"{name}.part"
        if self.group.leads:
            for left_by_a_killed_run in self.folder.glob("*.part"):
                shutil.rmtree(left_by_a_killed_run, ignore_errors=True)
            part.mkdir(parents=True, exist_ok=True)  # another process may have been faster
        copies = self.group.leads or is_spread(training.model)
        weights = training.weights() if copies else {}
        skipped = training.steps.skipped.tolist()
        written = dcp.async_save(
            training.tensors(),
            checkpoint_id=part,
            process_group=self._processes,
            no_dist=self.group.size == 1,
        )
        state = {
            "step": training.step,
            "bad_samples": training.bad_samples,
            "skipped_steps": skipped,
            "recipe": self.recipe.to_dict(),
            "data": asdict(self.data),
        }

        def finish() -> None:
            written.result()  # type: ignore[union-attr]
            if not self.group.leads:
                return
            save_weights(self.recipe.model, weights, part)
            (part / CARD_NAME).write_text(card, "utf-8")
            (part / STATE_NAME).write_text(json.dumps(state, indent=1) + "\n", "utf-8")
            place = self.folder / name
            shutil.rmtree(place, ignore_errors=True)
            put_in_place(part, place)
            self.publish(int(name))
            self._forget_old_ones(name)

        self._pending = self._thread.submit(finish)

    def publish(self, step: int) -> None:
        """Have the run's folder be the model of a step's checkpoint.

        Saving does; but a run may have been killed before it came to that.
        """
        if not self.group.leads:
            return
        for model_file in (CONFIG_NAME, CARD_NAME, WEIGHTS_NAME):
            _put_copy(self.folder / f"{step:08d}" / model_file, self.run / model_file)

    def wait(self) -> None:
        """Until everything begun is on the disk.

        Raises:
            OSError: it could not be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            try:
                pending.result()
            except CheckpointException as error:
                raise OSError(f"the checkpoint could not be written: {_reason(error)}") from error

    def note_best(self, step: int, scores: dict[str, float], scored_on: str) -> bool:
        """Whether these scores on unseen objects are the best so far (by PSNR); if so, keep that.

        The checkpoint of this step must be saved next.

        Args:
            scored_on: the objects' fingerprint; scores of others do not count.
        """
        best = self._best
        if best and best.get("scored_on") == scored_on and best["psnr"] >= scores["psnr"]:
            return False
        self.wait()  # the background keeps the best one so far
        self._best = {"step": step, **scores, "scored_on": scored_on}
        if self.group.leads:
            write_atomically(self.run / BEST_NAME, f"{json.dumps(self._best)}\n".encode())
        return True

    def _forget_old_ones(self, newest: str) -> None:
        best = None if self._best is None else f"{self._best['step']:08d}"
        # Later ones are damaged, or the run would have gone on from them.
        names = [name for name in self.names() if name <= newest]
        for name in names[: -self.recipe.run.keep_checkpoints]:
            if name != best:
                shutil.rmtree(self.folder / name, ignore_errors=True)

    def restore(self, training: Training) -> None:
        """Go on from the newest checkpoint that can be read; nothing for a new run.

        The folder must be the user's own: a checkpoint's index is a pickle.

        Raises:
            ValueError: none of the checkpoints can be read, or they are another model's.
        """
        names = self.names()
        for name in reversed(names):
            place = self.folder / name
            try:
                state = json.loads((place / STATE_NAME).read_text("utf-8"))
                before = recipe_from_dict(state["recipe"])
                if before.model.architecture() != self.recipe.model.architecture():
                    raise ValueError(
                        f"{self.run} holds a run of another model (its {RECIPE_NAME} tells "
                        "which); choose another --out, or the same recipe"
                    )
                for setting in ("name", "freeze"):
                    own, now = (getattr(r.optimizer, setting) for r in (before, self.recipe))
                    if own != now:
                        raise ValueError(
                            f"{self.run} holds a run with optimizer.{setting} {own}, which keeps "
                            f"other moments than {now}; choose another --out, or the same optimizer"
                        )
                self._load(training, place)
            except (CheckpointException, OSError, *_DAMAGED_JSON) as error:
                if self.group.leads:
                    warnings.warn(
                        f"{place} cannot be read and is passed over: {_reason(error)}", stacklevel=2
                    )
                continue
            training.step = int(state["step"])
            training.bad_samples = int(state["bad_samples"])
            training.steps.skipped = torch.tensor(
                state["skipped_steps"], device=training.steps.skipped.device
            )
            data = state.get("data")  # runs of before did not keep it
            self._before = before, DataIdentity(**data) if data else None
            return
        if names:
            raise ValueError(
                f"none of the {len(names)} checkpoints in {self.folder} can be read; "
                "choose another --out, or delete them to begin again"
            )

    def tell_changes(self) -> None:
        """Warn of settings and data that are not those of the checkpoint that was restored."""
        if self._before is None or not self.group.leads:
            return
        recipe, data = self._before
        if changes := recipe.changes_to(self.recipe):
            warnings.warn(
                f"the run goes on with other settings: {', '.join(changes)}", stacklevel=2
            )
        if data is not None and (change := data.change_to(self.data)):
            warnings.warn(f"the run goes on with other data: {change}", stacklevel=2)

    def _load(self, training: Training, place: Path) -> None:
        try:  # first, since PyTorch would log tracebacks
            stored = dcp.FileSystemReader(place).read_metadata().state_dict_metadata
        except OSError:
            raise
        except Exception as error:  # of whatever kind the damage happens to make
            raise OSError("its .metadata is damaged") from error
        tensors = training.tensors()
        begins_here = not any(name.startswith("average.") for name in stored)
        average = tensors.pop("average", {}) if begins_here else {}
        alone = self.group.size == 1
        dcp.load(tensors, checkpoint_id=place, process_group=self._processes, no_dist=alone)
        for name, value in average.items():
            value.copy_(training.model.get_parameter(name).detach())


def write_recipe(run: Path, recipe: Recipe) -> None:
    """Keep the recipe readable beside the checkpoints."""
    write_atomically(run / RECIPE_NAME, yaml.safe_dump(recipe.to_dict(), sort_keys=False).encode())


def _read_best(run: Path) -> dict[str, Any] | None:
    """The best scores so far and their step, where the checkpoint of that step is there."""
    try:
        best = json.loads((run / BEST_NAME).read_text("utf-8"))
        return best if (run / CHECKPOINTS / f"{best['step']:08d}").is_dir() else None
    except (OSError, *_DAMAGED_JSON):
        return None


def _reason(error: BaseException) -> str:
    """One line of what went wrong; a CheckpointException holds one error per process."""
    if isinstance(error, CheckpointException):
        error = next(iter(error.failures.values()))[0]
    kind = "" if isinstance(error, OSError) else f"{type(error).__name__}: "
    return f"{kind}{error}".splitlines()[0]


def _put_copy(source: Path, target: Path) -> None:
    """The same file under another name: a hard link where the disk can, else a copy."""
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:
        shutil.copyfile(source, part)
    put_in_place(part, target)
