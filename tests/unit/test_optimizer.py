"""Appendix B: which parameters decay, AdamW's step, the schedule at places known by hand."""

from __future__ import annotations

import pytest
import torch

from model.config import LrmConfig
from model.lrm import LRM
from train.optimizer import build_optimizer, learning_rate
from train.recipe import OptimizerConfig


def test_biases_and_norms_do_not_decay(tiny_config: LrmConfig) -> None:
    model = LRM(tiny_config)
    names = {id(p): name for name, p in model.named_parameters()}
    optimizer = build_optimizer(model, OptimizerConfig())
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
    optimizer = build_optimizer(model, OptimizerConfig(lr=0.1))
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
