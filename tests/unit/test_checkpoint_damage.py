"""Damaged checkpoints: passed over, told in a sentence, and in nobody's way."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp

from tests.unit.checkpointed import BALLS, new_training, restored, save, take_step, with_run
from train.checkpoint import Checkpoints
from train.parallel import Group
from train.recipe import Recipe


def test_damaged_checkpoints_are_passed_over(tiny_recipe: Recipe, tmp_path: Path) -> None:
    training = new_training(tiny_recipe, seed=0)
    take_step(training, 1)
    save(training, tiny_recipe, tmp_path)
    wanted = training.model.decoder.tokens.detach().clone()
    for _ in range(2):
        take_step(training, 2)
        save(training, tiny_recipe, tmp_path)
    places = tmp_path / "checkpoints"
    data = next((places / "00000003").glob("*.distcp"))
    data.write_bytes(data.read_bytes()[:2000])
    (places / "00000002" / ".metadata").unlink()
    (places / "00000009.part").mkdir()  # a writer was killed
    with pytest.warns(UserWarning, match="cannot be read and is passed over") as caught:
        found = restored(tiny_recipe, tmp_path)
    told = [str(w.message).split(" ")[0] for w in caught if "passed over" in str(w.message)]
    assert [Path(place).name for place in told] == ["00000003", "00000002"]
    assert found.step == 1
    assert torch.equal(found.model.decoder.tokens, wanted)

    save(found, tiny_recipe, tmp_path)  # the next save clears what the killed one left
    assert not list(places.glob("*.part"))

    (places / "00000001" / "state.json").write_text("{")
    with (
        pytest.warns(UserWarning, match="passed over"),
        pytest.raises(ValueError, match="none of the 3 checkpoints"),
    ):
        restored(tiny_recipe, tmp_path)


def test_a_damaged_average_is_not_replaced_by_the_weights(
    tiny_recipe: Recipe, tmp_path: Path
) -> None:
    recipe = with_run(tiny_recipe, ema_decay=0.9)
    training = new_training(recipe, seed=0)
    for _ in range(2):
        take_step(training, 1)
        save(training, recipe, tmp_path)
    place = tmp_path / "checkpoints" / "00000002"
    stored = dcp.FileSystemReader(place).read_metadata().storage_data
    (tokens,) = (stored[index] for index in stored if index.fqn == "average.decoder.tokens")
    with (place / tokens.relative_path).open("r+b") as file:
        file.seek(tokens.offset)
        file.write(bytes(tokens.length))
    with pytest.warns(UserWarning, match="00000002 cannot be read and is passed over"):
        assert restored(recipe, tmp_path).step == 1


@pytest.mark.parametrize("state", [b"null", b'{"step": "\xff"}', b""])
def test_a_damaged_state_is_passed_over(tiny_recipe: Recipe, tmp_path: Path, state: bytes) -> None:
    training = new_training(tiny_recipe, seed=0)
    for _ in range(2):
        take_step(training, 1)
        save(training, tiny_recipe, tmp_path)
    (tmp_path / "checkpoints" / "00000002" / "state.json").write_bytes(state)
    with pytest.warns(UserWarning, match="00000002 cannot be read and is passed over"):
        assert restored(tiny_recipe, tmp_path).step == 1


def test_damaged_checkpoints_do_not_push_new_ones_out(tiny_recipe: Recipe, tmp_path: Path) -> None:
    recipe = with_run(tiny_recipe, keep_checkpoints=1)
    training = new_training(recipe, seed=0)
    checkpoints = Checkpoints(tmp_path, recipe, BALLS, Group())
    (checkpoints.folder / "00000009").mkdir(parents=True)
    for kept in (["00000001", "00000009"], ["00000002", "00000009"]):
        take_step(training, 1)
        checkpoints.save(training, "card")
        checkpoints.wait()
        assert checkpoints.names() == kept


@pytest.mark.parametrize("damage", [b"", b"not a pickle", b"\x80\x04K\x01.", "half"])
def test_a_damaged_index_is_told_in_one_sentence(
    tiny_recipe: Recipe,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: bytes | str,
) -> None:
    training = new_training(tiny_recipe, seed=0)
    for _ in range(2):
        take_step(training, 1)
        save(training, tiny_recipe, tmp_path)
    place = tmp_path / "checkpoints" / "00000002"
    index = place / ".metadata"
    whole = index.read_bytes()
    index.write_bytes(damage if isinstance(damage, bytes) else whole[: len(whole) // 2])
    sentence = f"{place} cannot be read and is passed over: its .metadata is damaged"
    with pytest.warns(UserWarning, match=f"^{re.escape(sentence)}$"):
        assert restored(tiny_recipe, tmp_path).step == 1
    assert {record.levelname for record in caplog.records} <= {"DEBUG"}  # no tracebacks
