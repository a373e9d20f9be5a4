"""Trainings of a tiny model, saved and restored."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from model.initialization import initialize
from model.lrm import LRM
from train.checkpoint import Checkpoints, Training
from train.data_identity import DataIdentity
from train.optimizer import AveragedWeights, GuardedSteps, build_optimizers
from train.parallel import Group
from train.recipe import Recipe

BALLS = DataIdentity("balls", 5, "f00d")


def new_training(recipe: Recipe, seed: int) -> Training:
    model = LRM(recipe.model)
    initialize(model, seed)
    steps = GuardedSteps(build_optimizers(model, recipe.optimizer), recipe.optimizer)
    decay = recipe.run.ema_decay
    return Training(model, steps, AveragedWeights(model, decay) if decay else None)


def take_step(training: Training, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in training.model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    training.steps.step(1e-3)
    training.step += 1
    if training.average is not None:
        training.average.update(training.step)


def save(training: Training, recipe: Recipe, run: Path) -> None:
    checkpoints = Checkpoints(run, recipe, BALLS, Group())
    checkpoints.save(training, "card")
    checkpoints.wait()


def restored(recipe: Recipe, run: Path, seed: int = 5, data: DataIdentity = BALLS) -> Training:
    training = new_training(recipe, seed)
    checkpoints = Checkpoints(run, recipe, data, Group())
    checkpoints.restore(training)
    checkpoints.tell_changes()
    return training


def with_run(recipe: Recipe, **settings: object) -> Recipe:
    return dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, **settings))


def assert_same(left: Training, right: Training) -> None:
    assert left.step == right.step
    for kind, tensors in left.tensors().items():
        for name, value in tensors.items():
            assert torch.equal(value, right.tensors()[kind][name]), (kind, name)
