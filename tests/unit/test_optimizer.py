"""Appendix B: which parameters decay, AdamW's step, the schedule at places known by hand."""

from __future__ import annotations

import math

import pytest
import torch

from model.config import LrmConfig
from model.lrm import LRM
from train.optimizer import AveragedWeights, GuardedSteps, build_optimizers, learning_rate
from train.recipe import OptimizerConfig


def test_biases_and_norms_do_not_decay(tiny_config: LrmConfig) -> None:
    model = LRM(tiny_config)
    names = {id(p): name for name, p in model.named_parameters()}
    (optimizer,) = build_optimizers(model, OptimizerConfig())
    decayed, plain = ({names[id(p)] for p in group["params"]} for group in optimizer.param_groups)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.05, 0.0]
    assert decayed | plain == set(names.values())
    # In this network every vector is a bias or belongs to a norm, and nothing else does.
    assert plain == {name for name, p in model.named_parameters() if p.ndim == 1}
    assert {"decoder.norm.weight", "decoder.layers.0.mlp.0.bias", "encoder.vit.norm.bias"} <= plain
    assert {"decoder.tokens", "encoder.vit.pos_embed", "nerf.layers.0.weight"} <= decayed


def test_one_step_is_adamw() -> None:
    model = torch.nn.Linear(1, 1)
    weight, bias = model.weight.item(), model.bias.item()
    (optimizer,) = build_optimizers(model, OptimizerConfig(lr=0.1))
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.95)
    model.weight.grad, model.bias.grad = torch.tensor([[3.0]]), torch.tensor([-7.0])
    optimizer.step()
    # At the first step m̂ / √v̂ is the gradient's sign; the decay is decoupled from it.
    assert model.weight.item() == pytest.approx(weight * (1 - 0.1 * 0.05) - 0.1, abs=1e-6)
    assert model.bias.item() == pytest.approx(bias + 0.1, abs=1e-6)


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 4e-4 / 3000),
        (1499, 2e-4),
        (2999, 4e-4),
        (3000, 4e-4),
        (3000 + 2500, 4e-4 * (1 + 0.5**0.5) / 2),  # a quarter: cos 45°
        (3000 + 5000, 2e-4),
        (13000, 0.0),
        (20000, 0.0),
    ],
)
def test_schedule(step: int, rate: float) -> None:
    config = OptimizerConfig(lr=4e-4, warmup_steps=3000)
    assert learning_rate(step, 13000, config) == pytest.approx(rate, rel=1e-9, abs=1e-12)


def test_schedule_ends_at_its_floor_and_may_go_without_warm_up() -> None:
    config = OptimizerConfig(lr=1.0, warmup_steps=0, final_lr_ratio=0.1)
    assert learning_rate(0, 10, config) == 1.0
    assert learning_rate(5, 10, config) == pytest.approx(0.55)
    assert learning_rate(10, 10, config) == pytest.approx(0.1)


def test_a_run_shorter_than_its_warm_up() -> None:
    config = OptimizerConfig(lr=1.0, warmup_steps=10)
    assert [learning_rate(step, 3, config) for step in range(3)] == pytest.approx([0.1, 0.2, 0.3])


def guarded(skip_norm: float = 100.0) -> tuple[torch.nn.Linear, GuardedSteps]:
    model = torch.nn.Linear(2, 1)
    config = OptimizerConfig(skip_norm=skip_norm, clip_norm=1.0)
    return model, GuardedSteps(build_optimizers(model, config), config)


def set_gradient(model: torch.nn.Linear, weight: list[float], bias: float) -> None:
    model.weight.grad, model.bias.grad = torch.tensor([weight]), torch.tensor([bias])


def test_the_norm_is_of_all_gradients_before_clipping() -> None:
    model, steps = guarded()
    set_gradient(model, [2.0, 3.0], 6.0)
    assert float(steps.step(1e-3)) == pytest.approx(7.0)
    assert model.weight.grad is None
    moments = steps.moments(model.weight)["exp_avg"]  # (1 - β₁) times what was clipped
    assert moments[0].tolist() == pytest.approx([0.1 * 2 / 7, 0.1 * 3 / 7])


@pytest.mark.parametrize(
    ("bad", "skip_norm"),
    [
        (math.nan, 100.0),
        (math.inf, 100.0),
        (-math.inf, 100.0),
        (101.0, 100.0),
        (math.nan, math.inf),
        (math.inf, math.inf),
    ],
)
def test_unsound_gradients_change_nothing_and_are_counted(bad: float, skip_norm: float) -> None:
    model, steps = guarded(skip_norm)
    set_gradient(model, [2.0, 3.0], 6.0)
    steps.step(1e-3)
    weight = model.weight.detach().clone()
    moments = {k: v.clone() for k, v in steps.moments(model.weight).items()}
    for row in (1, 2):
        set_gradient(model, [bad, 0.0], 0.0)
        steps.step(1e-3)
        assert steps.skipped.tolist() == [row, row]
    assert torch.equal(model.weight, weight)
    for name, value in moments.items():
        assert torch.equal(steps.moments(model.weight)[name], value), name
    set_gradient(model, [99.0, 0.0], 0.0)
    steps.step(1e-3)
    assert steps.skipped.tolist() == [2, 0]
    assert not torch.equal(model.weight, weight)


def test_the_average_forgets_its_beginning() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(0.0)
    average = AveragedWeights(model, decay=0.5)
    expected = 0.0
    for step, value in enumerate([1.0, 2.0, 4.0, 8.0, 16.0, 32.0], 1):
        with torch.no_grad():
            model.weight.fill_(value)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert average.values["weight"].item() == pytest.approx(expected)
    with average.in_place():
        assert model.weight.item() == pytest.approx(expected)
    assert model.weight.item() == 32.0
