"""model/published/hub.py: a pulled model's folder is whole whoever pulls it, and whatever fails."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from model.published import hub
from model.published.converting import Checkpoint

NAME = "triposr"


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of models; each pull has the revision that it asks for, and no network."""
    monkeypatch.setenv("LRM_MODELS", str(tmp_path / "models"))
    checkpoint = Checkpoint(tmp_path / "model.ckpt", None)
    monkeypatch.setattr(
        hub, "_download", lambda _, revision: hub.Download(checkpoint, revision, "")
    )
    monkeypatch.setattr(hub, "convert", convert)
    return tmp_path / "models"


def convert(checkpoint: Checkpoint, folder: Path, name: str, card: str, **_: object) -> None:
    folder.mkdir(parents=True)
    (folder / "README.md").write_text(card, "utf-8")


def revision_in(models: Path) -> str:
    """Of the pulled model; nothing else stands beside it."""
    assert [path.name for path in models.iterdir() if path.suffix != ".lock"] == [NAME]
    card = (models / NAME / "README.md").read_text("utf-8")
    return card.partition("revision `")[2].partition("`")[0]


def test_who_pulls_the_same_model_meanwhile_waits(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = threading.Thread(target=hub.pull, args=(NAME, "second"))

    def interrupted(*arguments: str, **options: object) -> None:
        convert(*arguments, **options)  # type: ignore[arg-type]
        monkeypatch.setattr(hub, "convert", convert)
        second.start()
        second.join(0.2)

    monkeypatch.setattr(hub, "convert", interrupted)
    hub.pull(NAME, "first")
    second.join()
    assert revision_in(models) == "second"


def test_a_pull_that_fails_at_the_last_leaves_the_old_model(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.pull(NAME, "old")
    real = hub.put_in_place

    def failing(part: Path, path: Path) -> None:
        if part.suffix == ".part":
            raise PermissionError(13, "Access denied")
        real(part, path)

    monkeypatch.setattr(hub, "put_in_place", failing)
    with pytest.raises(PermissionError):
        hub.pull(NAME, "new")
    assert revision_in(models) == "old"


def test_what_a_killed_pull_has_left_is_tidied_up(models: Path) -> None:
    hub.pull(NAME, "old")
    (models / NAME).rename(models / f"{NAME}.old")
    (models / f"{NAME}.part").mkdir()
    hub.pull(NAME, "new")
    assert revision_in(models) == "new"
