"""The training loop; reads from top to bottom."""

from __future__ import annotations

import signal
import sys
import time
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from model.device import choose_dtype
from model.initialization import initialize
from model.lrm import LRM
from model.weights import load_model
from train.assumed_camera import check_cameras
from train.card import model_card
from train.checkpoint import Checkpoints, Training, write_recipe
from train.data_identity import identify
from train.dataset import Sample, TrainingSamples
from train.field_query import choose_query
from train.loading import Parts
from train.losses import build_perceptual, psnr
from train.optimizer import (
    AveragedWeights,
    GuardedSteps,
    build_optimizers,
    freeze,
    learning_rate,
)
from train.parallel import (
    arrange,
    is_spread,
    join_group,
    release_gathered,
    sum_gradients_over_parts,
    team_mesh,
)
from train.recipe import Recipe
from train.recipe_files import check_origin
from train.recorded_step import PartOfStep, RecordedStep
from train.runlog import RunLog, Since
from train.shards import ShardReader
from train.step import idle_step, training_step, zero_terms
from train.validation import Validation

# Ctrl-C, an end from outside, and what schedulers send some time before they preempt; a closed
# terminal, unless nohup says otherwise.
STOP_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
    if hasattr(signal, name)
]
# A launcher hands Ctrl-C on to processes that had it already: the same one, if so soon.
SAME_SIGNAL_S = 2.0


class BrokenOffError(RuntimeError):
    """A run could not go on after it had begun; the sentence says why."""


@dataclass(frozen=True)
class Ended:
    """Steps of a run: those it had before, those it has now, and all that were asked for."""

    before: int
    step: int
    total: int

    @property
    def early(self) -> bool:
        """Whether one of STOP_SIGNALS ended it; all steps taken are in the checkpoint then."""
        return self.step < self.total


def train(
    data: list[Path], recipe: Recipe, run: Path, device: torch.device, quiet: bool = False
) -> Ended:
    """Train until the recipe's last step, going on from what stands in `run`.

    Args:
        data: data sets as `lrm preprocess` writes them; their training split is used.
        recipe: the run's settings.
        run: the run's folder; see `train.checkpoint`.
        device: where the model lives.
        quiet: no progress bar.

    Returns:
        How far it came. A run that has all of its steps already stays as it is.

    Raises:
        ValueError: the data, the recipe or the folder cannot be used; no step was taken.
        BrokenOffError: too many samples were unreadable, or something else stopped it on its way.
        FloatingPointError: step after step has no sound gradient; the last checkpoint is good.
        OSError: a checkpoint could not be written.
    """
    config = recipe.run
    group, device = join_group(device)
    reader = ShardReader(data, split="train")
    image_size, view = recipe.model.encoder.image_size, recipe.model.view
    samples = TrainingSamples(reader, recipe.data, image_size, config.seed, view)
    for sentence in check_cameras(reader, recipe.data, recipe.model):
        if group.leads:
            warnings.warn(sentence, stacklevel=2)
    total = config.total_steps(len(samples))
    perceptual = build_perceptual(recipe.loss, device)
    validation = Validation(data, recipe, group, perceptual)
    identity = identify(data, reader.records)
    checkpoints = Checkpoints(run, recipe, identity, group)

    model = LRM(recipe.model)
    initialize(model, config.seed)
    if not checkpoints.names():
        start_weights(model, recipe)
    freeze(model, recipe.optimizer)
    arrange(model.to(device), config, group, device)
    muon = recipe.optimizer.name == "muon"
    mesh = team_mesh(group, device) if muon and not is_spread(model) else None
    steps = GuardedSteps(build_optimizers(model, recipe.optimizer, mesh), recipe.optimizer)
    average = AveragedWeights(model, config.ema_decay) if config.ema_decay else None
    training = Training(model, steps, average)
    checkpoints.restore(training)
    before = training.step
    if before >= total:
        checkpoints.publish(before)
        return Ended(before, before, total)
    checkpoints.tell_changes()
    dtype = choose_dtype(config.dtype, device)
    query = choose_query(recipe, model.nerf, device, dtype)
    parts = Parts(samples, recipe, group, training.step, total)

    def part_of_step(batch: Sample, weight: float) -> dict[str, Tensor]:
        return training_step(model, batch, recipe, perceptual, dtype, query, weight)

    take_part: PartOfStep = part_of_step
    if config.cuda_graph and device.type == "cuda" and not is_spread(model):
        take_part = RecordedStep(part_of_step, steps.parameters())
    if group.leads:
        run.mkdir(parents=True, exist_ok=True)
        write_recipe(run, recipe)

    with broken_off(), ExitStack() as stack:
        bar = stack.enter_context(progress_bar(total, training.step, quiet or not group.leads))
        signals = stack.enter_context(stop_on_signals())
        stack.callback(checkpoints.wait)  # before signals end the process again
        log = stack.enter_context(closing(RunLog(run, training.step))) if group.leads else None
        # On a GPU the vote of the step before is read: that of this step is still being computed.
        votes = deque([torch.zeros(())], maxlen=1 if device.type == "cpu" else 2)
        since = Since(training, parts)
        while training.step < total:
            terms = zero_terms(recipe, device)
            for part in range(parts.per_step):
                batch = parts.next_part()
                since.bad_samples += len(batch.unreadable)
                sum_gradients_over_parts(model, last=part == parts.per_step - 1)
                weight = parts.weight(batch)
                if batch.samples is not None:
                    found = take_part(batch.samples.to(device), weight)
                    terms = {name: value + found[name] for name, value in terms.items()}
                elif is_spread(model):
                    idle_step(model, device)
            votes.append(group.average_gradients(model, stop=bool(signals)))
            rate = learning_rate(training.step, total, recipe.optimizer)
            norm = steps.step(rate)
            training.step += 1
            if average is not None:
                average.update(training.step)
            since.add(terms)
            bar.update()

            stop = bool(votes[0] > 0)
            last = training.step == total or stop
            if training.step % config.log_every == 0 or last:
                line = since.line(group, config.batch_size)
                line |= {"lr": rate, "grad_norm": float(norm)}
                bar.set_postfix(
                    loss=f"{line['loss']:.4f}",
                    psnr=f"{psnr(line['mse']):.1f}",
                    samples_per_s=f"{line['samples_per_s']:.1f}",
                )
                if log is not None:
                    log.scalars(training.step, line)
                check_soundness(training, line, recipe, run)
                since = Since(training, parts)
            saves = training.step % config.checkpoint_every == 0 or last
            if validation.count and (
                training.step % config.validate_every == 0 or training.step == total
            ):
                with since.not_counting():
                    scores = validate(model, average, validation)
                is_best = checkpoints.note_best(training.step, scores, validation.fingerprint)
                saves = saves or is_best
                if log is not None:
                    named = {f"{validation.split}/{k}": v for k, v in scores.items()}
                    log.scalars(training.step, named)
                    log.picture(training.step, f"{validation.split}/views", validation.picture())
            if saves:
                card = model_card(recipe, identity, training.step, total)
                with since.not_counting():
                    checkpoints.save(training, card)
            if stop:
                break
    return Ended(before, training.step, total)


@contextmanager
def broken_off() -> Iterator[None]:
    """A ValueError in here becomes a BrokenOffError: the run has begun, so usage was not wrong."""
    try:
        yield
    except ValueError as error:
        raise BrokenOffError(str(error)) from error


def check_soundness(training: Training, line: dict[str, float], recipe: Recipe, run: Path) -> None:
    """End a run that learns nothing any more.

    Raises:
        FloatingPointError: too many steps in a row were skipped.
        ValueError: too many samples were unreadable.
    """
    in_a_row = int(training.steps.skipped[1])
    if in_a_row >= recipe.run.max_skipped_steps:
        raise FloatingPointError(
            f"the last {in_a_row} steps had no sound gradient (norm {line['grad_norm']:g}) and "
            f"were not taken: go on from the last checkpoint in {run}, where there is one, "
            "with a lower optimizer.lr"
        )
    if line["bad_samples"] > recipe.run.max_bad_samples:
        raise ValueError(
            f"{line['bad_samples']:.0f} samples could not be read, more than "
            f"run.max_bad_samples {recipe.run.max_bad_samples}; the warnings above name them"
        )


def validate(
    model: LRM, average: AveragedWeights | None, validation: Validation
) -> dict[str, float]:
    """Scores of the weights that a checkpoint's model file would hold."""
    with average.in_place() if average is not None else nullcontext():
        scores = validation.scores(model)
    release_gathered(model)
    return scores


def start_weights(model: LRM, recipe: Recipe) -> None:
    """What a new run starts from: another model's weights, or the encoder's pretrained ones.

    Raises:
        ValueError: they cannot be had, or are of another architecture or under another licence.
    """
    if recipe.run.init_from is None:
        model.encoder.load_pretrained()
        return
    other = load_model(recipe.run.init_from)
    check_origin(recipe.model, recipe.run.init_from, other.config)
    model.load_state_dict(other.state_dict())


def progress_bar(total: int, done: int, hidden: bool) -> tqdm[Any]:
    return tqdm(
        total=total, initial=done, unit="step", disable=hidden, mininterval=1.0, dynamic_ncols=True
    )


@contextmanager
def stop_on_signals() -> Iterator[list[int]]:
    """A list that is filled once a signal asks the run to end after this step."""
    received: list[int] = []
    first_s = 0.0

    def note(number: int, _frame: FrameType | None) -> None:
        nonlocal first_s
        now = time.monotonic()
        if not received:
            first_s = now
        elif number == signal.SIGINT and now - first_s > SAME_SIGNAL_S:
            sys.exit(130)  # somebody presses Ctrl-C again: at once
        received.append(number)

    heard = [s for s in STOP_SIGNALS if signal.getsignal(s) != signal.SIG_IGN]
    before = {s: signal.signal(s, note) for s in heard}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
