"""Which way of asking the field training takes, with stand-ins for the fused one."""

from __future__ import annotations

import time
import warnings

import pytest
import torch
from torch import Tensor

from model.nerf import NerfMLP
from tests.published_models import KINDS, published_config
from tests.runs import CPU, change
from train.field_query import FieldQuery, choose_query, faster_if_equal, query_fused, query_plain
from train.recipe import Recipe


@pytest.fixture
def mlp(tiny_recipe: Recipe) -> NerfMLP:
    torch.manual_seed(0)
    return NerfMLP(tiny_recipe.model.nerf, 3 * tiny_recipe.model.triplane.channels)


def slower(mlp: NerfMLP, planes: Tensor, points: Tensor, row: int | None) -> tuple[Tensor, Tensor]:
    time.sleep(0.05)
    return query_plain(mlp, planes, points, row)


def test_a_cpu_takes_plain_pytorch(tiny_recipe: Recipe, mlp: NerfMLP) -> None:
    for setting in ("auto", "off"):
        recipe = change(tiny_recipe, "run", fused_field=setting)
        assert choose_query(recipe, mlp, CPU, torch.float32) is query_plain


def test_asked_for_where_it_cannot_be(tiny_recipe: Recipe, mlp: NerfMLP) -> None:
    recipe = change(tiny_recipe, "run", fused_field="on")
    with pytest.raises(ValueError, match=r"run\.fused_field is 'on', which needs a CUDA device"):
        choose_query(recipe, mlp, CPU, torch.float32)


def test_a_cuda_device_obeys_the_recipe(tiny_recipe: Recipe, mlp: NerfMLP) -> None:
    device = torch.device("cuda")
    for setting, expected in (("on", query_fused), ("off", query_plain)):
        recipe = change(tiny_recipe, "run", fused_field=setting)
        assert choose_query(recipe, mlp, device, torch.float32) is expected


def test_a_cutoff_reaches_the_kernels(
    tiny_recipe: Recipe, mlp: NerfMLP, monkeypatch: pytest.MonkeyPatch
) -> None:
    cutoffs = []
    monkeypatch.setattr("train.field_query.query_fused", lambda *_, **named: cutoffs.append(named))
    recipe = change(tiny_recipe, "run", fused_field="on", gradient_cutoff=0.01)
    choose_query(recipe, mlp, torch.device("cuda"), torch.float32)(mlp, None, None, None)
    assert cutoffs == [{"gradient_cutoff": 0.01}]


@pytest.mark.parametrize("kind", KINDS)
def test_fields_that_the_kernels_do_not_know_are_asked_plainly_and_without_a_word(
    kind: str, tiny_recipe: Recipe, recwarn: pytest.WarningsRecorder
) -> None:
    config = published_config(kind)
    mlp = NerfMLP(config.nerf, 3 * config.triplane.channels)
    assert choose_query(tiny_recipe, mlp, torch.device("cuda"), torch.float32) is query_plain
    assert not recwarn.list
    with pytest.raises(ValueError, match=r"the fused field takes nerf\.activation relu"):
        query_fused(mlp, torch.zeros(1), torch.zeros(1), None)


def test_the_faster_one_is_taken(
    tiny_recipe: Recipe, mlp: NerfMLP, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert faster_if_equal(tiny_recipe, mlp, CPU, torch.float32, slower) is query_plain
    monkeypatch.setattr("train.field_query.query_plain", slower)
    assert faster_if_equal(tiny_recipe, mlp, CPU, torch.float32, query_plain) is query_plain


@pytest.mark.parametrize(
    ("run", "samples"),
    [
        ({"batch_size": 8}, 8),
        ({"batch_size": 8, "micro_batch_size": 2}, 2),
        ({"batch_size": 99}, 12),
    ],
)
def test_they_are_tried_on_as_many_samples_as_training_asks_for(
    run: dict[str, int],
    samples: int,
    tiny_recipe: Recipe,
    mlp: NerfMLP,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("train.field_query._POINTS_TO_TRY", 12 * 6**2 * 8 + 1)
    asked = set()

    def fused(
        mlp: NerfMLP, planes: Tensor, points: Tensor, row: int | None
    ) -> tuple[Tensor, Tensor]:
        asked.add((*planes.shape[:1], *points.shape))
        return query_plain(mlp, planes, points, row)

    faster_if_equal(change(tiny_recipe, "run", **run), mlp, CPU, torch.float32, fused)
    assert asked == {(samples, samples, 6**2, 8, 3)}


def wrong_values(
    mlp: NerfMLP, planes: Tensor, points: Tensor, row: int | None
) -> tuple[Tensor, Tensor]:
    densities, colors = query_plain(mlp, planes, points, row)
    return densities * 1.2, colors


def wrong_gradients(
    mlp: NerfMLP, planes: Tensor, points: Tensor, row: int | None
) -> tuple[Tensor, Tensor]:
    densities, colors = query_plain(mlp, planes, points, row)
    return densities, colors + (colors - colors.detach())


def no_number(
    mlp: NerfMLP, planes: Tensor, points: Tensor, row: int | None
) -> tuple[Tensor, Tensor]:
    densities, colors = query_plain(mlp, planes, points, row)
    return densities * float("nan"), colors


@pytest.mark.parametrize("wrong", [wrong_values, wrong_gradients, no_number])
def test_a_wrong_one_is_told_and_not_taken(
    wrong: FieldQuery, tiny_recipe: Recipe, mlp: NerfMLP, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.warns(UserWarning, match="the fused field is wrong on this device"):
        assert faster_if_equal(tiny_recipe, mlp, CPU, torch.float32, wrong) is query_plain


def test_one_that_fails_is_told_and_not_taken(tiny_recipe: Recipe, mlp: NerfMLP) -> None:
    def failing(*_: object) -> tuple[Tensor, Tensor]:
        raise RuntimeError("no compiler\nand a long trace")

    with pytest.warns(UserWarning, match="cannot be used here: no compiler$"):
        assert faster_if_equal(tiny_recipe, mlp, CPU, torch.float32, failing) is query_plain


def test_choosing_leaves_no_trace_in_the_training(tiny_recipe: Recipe, mlp: NerfMLP) -> None:
    state = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        faster_if_equal(tiny_recipe, mlp, CPU, torch.float32, slower)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in mlp.parameters())
