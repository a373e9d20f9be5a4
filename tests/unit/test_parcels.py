"""What travels to other machines: told apart, received once, kept, and never taken on trust."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lrm_cli.batch import parcels
from lrm_cli.batch.parcels import Parcel, chunks_of, find, own_folder, parcel_of, receive
from lrm_cli.batch.work import Carried, Place
from lrm_cli.carried import matting_files, model_files, use_matting_files
from lrm_cli.evaluator import ModelScorer
from lrm_cli.preprocess_photos import PhotoPreparation
from lrm_cli.preprocess_work import DatasetWork
from lrm_cli.reconstructor import Reconstructor
from lrm_cli.renderer import ObjectRenderer
from train.objects import ObjectSettings
from train.videos import VideoSettings

CONTENTS = {"config.json": b"{}", "model.safetensors": bytes(range(250)) * 40, "empty": b""}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copies are kept in the test's own folder, in small pieces."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(parcels, "CHUNK_BYTES", 4096)
    (tmp_path / "temporary").mkdir()
    return tmp_path


def write(folder: Path, time_s: float | None = None, **changed: bytes) -> Carried:
    folder.mkdir(exist_ok=True)
    for name, content in (CONTENTS | changed).items():
        (folder / name).write_bytes(content)
        if time_s is not None:
            os.utime(folder / name, (time_s, time_s))
    return Carried(folder, tuple(CONTENTS))


def sent(parcel: Parcel) -> Iterator[Iterable[Any]]:
    return (chunks_of(parcel.home / file.name) for file in parcel.files)


def moved(parcel: Parcel, folder: Path) -> Parcel:
    """As another machine would get it, which has something else, or nothing, in its place."""
    return Parcel(parcel.folder, folder, parcel.files, parcel.digest)


def test_a_file_in_pieces_is_the_file(tmp_path: Path) -> None:
    write(tmp_path / "a")
    pieces = list(chunks_of(tmp_path / "a" / "model.safetensors"))
    assert [len(piece) for piece in pieces] == [4096, 4096, 10000 - 2 * 4096]
    assert b"".join(bytes(piece) for piece in pieces) == CONTENTS["model.safetensors"]
    assert isinstance(pieces[0].base, np.memmap)  # not read


def test_what_is_in_the_same_place_need_not_travel(tmp_path: Path) -> None:
    parcel = parcel_of(write(tmp_path / "a"))
    assert parcel.size == 10002
    assert find(parcel) == tmp_path / "a"
    assert not list((tmp_path / "temporary").iterdir())


def test_times_of_packages_prove_nothing(tmp_path: Path) -> None:
    """The same name, size and time, as archives set it, and another content."""
    parcel = parcel_of(write(tmp_path / "a", 1.0))
    assert find(parcel) is None
    write(tmp_path / "b", 1.0, **{"config.json": b"[]"})
    known = parcel.with_digest()
    assert find(known) == tmp_path / "a"
    assert find(moved(known, tmp_path / "b")) is None


def test_another_time_and_the_same_content_need_not_travel(tmp_path: Path) -> None:
    parcel = parcel_of(write(tmp_path / "a", 1000.5))
    write(tmp_path / "b", 2000.5)
    assert find(moved(parcel, tmp_path / "b")) is None
    known = parcel.with_digest()
    assert find(moved(known, tmp_path / "b")) == tmp_path / "b"


def test_a_digest_is_of_names_and_contents_and_found_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parcel = parcel_of(write(tmp_path / "a"))
    lines = "".join(
        f"{hashlib.sha256(content).hexdigest()} {name}\n" for name, content in CONTENTS.items()
    )
    expected = hashlib.sha256(lines.encode()).hexdigest()
    assert parcel.with_digest().digest == expected
    monkeypatch.setattr(hashlib, "file_digest", None)  # it is not read again
    assert parcel.with_digest().digest == expected
    write(tmp_path / "a", 5.5)
    with pytest.raises(TypeError):
        parcel.with_digest()


def test_what_is_received_is_the_same_and_kept(tmp_path: Path) -> None:
    parcel = moved(parcel_of(write(tmp_path / "a")).with_digest(), tmp_path / "missing")
    assert find(parcel) is None
    kept = receive(parcel, sent(parcel_of(write(tmp_path / "a"))))
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == CONTENTS
    assert find(parcel) == kept
    assert receive(parcel, iter([])) == kept  # nothing is asked for
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    (kept / "config.json").unlink()  # as systems clear up
    assert find(parcel) is None
    assert receive(parcel, sent(parcel_of(write(tmp_path / "a")))) == kept
    assert find(parcel) == kept


def test_two_at_once_fetch_once(tmp_path: Path) -> None:
    source = parcel_of(write(tmp_path / "a")).with_digest()
    parcel = moved(source, tmp_path / "missing")
    asked: list[str] = []
    found: list[Path] = []

    def slow() -> Iterator[Iterable[Any]]:
        for file in source.files:
            asked.append(file.name)
            time.sleep(0.1)
            yield chunks_of(source.home / file.name)

    threads = [
        threading.Thread(target=lambda: found.append(receive(parcel, slow()))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asked == list(CONTENTS)
    assert len(set(found)) == 1
    assert len(found) == 3


def test_what_cannot_be_kept_leaves_nothing(tmp_path: Path) -> None:
    source = parcel_of(write(tmp_path / "a")).with_digest()
    parcel = moved(source, tmp_path / "missing")

    def full() -> Iterator[bytes]:
        yield b"{"
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left"):
        receive(parcel, iter([full()]))
    write(tmp_path / "a", **{"config.json": b"[]"})
    with pytest.raises(OSError, match="have changed on their way"):
        receive(parcel, sent(source))
    assert [path.suffix for path in own_folder().iterdir() if path.is_dir()] == []
    assert find(parcel) is None


def test_a_folder_that_others_can_change_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = own_folder()
    place.rmdir()
    place.symlink_to(tmp_path)
    with pytest.raises(PermissionError, match="belongs to someone else"):
        own_folder()
    place.unlink()
    place.mkdir(mode=0o777)
    own_folder()
    assert place.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(parcels, "own_place", lambda: place)
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    with pytest.raises(PermissionError, match="belongs to someone else"):
        own_folder()


def test_copies_of_nobody_are_removed(tmp_path: Path) -> None:
    own = own_folder()
    ages = {"unused": 8, "used": 6, ".killed.1234.part": 2, ".another.1234.part": 0.5}
    for name, days in ages.items():
        (own / name).mkdir()
        (own / name / "file").touch()
        os.utime(own / name, (time.time() - days * 86400,) * 2)
    source = parcel_of(write(tmp_path / "a")).with_digest()
    kept = receive(moved(source, tmp_path / "missing"), sent(source))
    left = {path.name for path in own.iterdir() if path.is_dir()}
    assert left == {"used", ".another.1234.part", kept.name}
    old = time.time() - 6 * 86400
    os.utime(kept, (old, old))
    find(moved(source, tmp_path / "missing"))
    assert kept.stat().st_mtime > old + 1  # it counts as used


def test_what_is_not_there_cannot_be_carried(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"config\.json cannot be read \(No such file"):
        parcel_of(Carried(tmp_path, ("config.json",)))


def test_of_a_model_only_config_and_weights_travel(tmp_path: Path) -> None:
    assert model_files(None) == ()
    assert model_files(tmp_path) == (Carried(tmp_path, ("config.json", "model.safetensors")),)
    place = Place("cpu", 1, ((tmp_path, Path("/kept/1234")),))
    assert place.local(tmp_path) == Path("/kept/1234")
    assert place.local(Path("other")) == Path("other")


def test_each_command_names_what_its_nodes_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = tmp_path / "isnet-general-use.onnx"
    network.touch()
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    model = (Carried(tmp_path / "m", ("config.json", "model.safetensors")),)
    matting = (Carried(tmp_path, (network.name,)),)
    photos: Any = SimpleNamespace(matting="auto", matting_model="isnet-general-use")
    folder = tmp_path / "m"
    assert Reconstructor(folder, {}, photos, 1, 1).carried == (*model, *matting)
    divided = Reconstructor(folder, {}, photos, 1, 1)
    assert divided.carried_for("device") == model
    assert divided.carried_for("ends") == (Carried(folder, ("config.json",)), *matting)
    assert ObjectRenderer(folder, photos, None, 1, 1).carried == (*model, *matting)
    assert ObjectRenderer(None, photos, None, 1, 1).carried == ()  # no photos
    assert PhotoPreparation(photos, 1).carried == matting
    assert PhotoPreparation(SimpleNamespace(**vars(photos) | {"matting": "none"}), 1).carried == ()
    assert DatasetWork(VideoSettings()).carried == matting
    assert DatasetWork(VideoSettings(matting="masks")).carried == ()
    assert DatasetWork(ObjectSettings()).carried == ()
    scorer: Any = ModelScorer.__new__(ModelScorer)
    scorer.__dict__["folder"] = folder
    assert scorer.carried == model


@pytest.mark.parametrize("variable", ["U2NET_HOME", "REMBG_HOME", "XDG_DATA_HOME", "HOME"])
@pytest.mark.parametrize("inside", [".", "models/u2netp", ".u2net", "rembg/models/u2netp"])
def test_a_matting_network_is_found_where_rembg_finds_it(
    variable: str, inside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rembg.sessions import sessions_class

    for name in ("U2NET_HOME", "REMBG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.setenv(variable, str(tmp_path))
    file = tmp_path / inside / "u2netp.onnx"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    (session,) = (s for s in sessions_class if s.name() == "u2netp")
    theirs = session.resolve_existing("u2netp.onnx")
    expected = () if theirs is None else (Carried(Path(theirs).parent, ("u2netp.onnx",)),)
    assert matting_files("auto", "u2netp") == expected
    assert matting_files("alpha", "u2netp") == ()
    if theirs is None:
        return
    monkeypatch.setenv("U2NET_HOME", str(tmp_path / "unset"))  # so that it is put back
    use_matting_files("u2netp", Place("cpu", 1, ((Path("/away"), file.parent),)))
    assert session.resolve_existing("u2netp.onnx") == str(file)
