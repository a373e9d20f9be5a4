"""`batch.storage` and what finds inputs in a bucket, against a server that speaks S3."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from lrm_cli.batch import storage
from lrm_cli.batch.discovery import find_inputs
from lrm_cli.batch.sources import expand_sources
from tests.unit.s3 import Bucket, bucket, server

__all__ = ["bucket", "server"]  # fixtures


def names(*sources: str, out: str = "out", **flags: Any) -> list[str]:
    return [item.name for item in find_inputs(expand_sources(sources), Path(out), **flags)]


@pytest.fixture
def photos(bucket: Bucket) -> str:
    for key in ("a10.png", "a2.png", "deep/b é#1.jpg", "notes.txt", ".hidden/c.png", "deep/.d.png"):
        bucket.put(f"photos/{key}", key.encode())
    return f"{bucket.url}/photos"


def test_paths_stand_for_addresses() -> None:
    path = Path("s3://bucket/deep/cup.png")
    assert storage.is_remote(path)
    assert storage.shown(path) == "s3://bucket/deep/cup.png"
    assert storage.shown(path.parent / "pot.png") == "s3://bucket/deep/pot.png"
    assert not storage.is_remote(Path("/s3:/bucket"))
    assert not storage.is_remote(Path(""))
    assert storage.shown(Path("a/b")) == "a/b"


def test_contents_come_and_go(bucket: Bucket, tmp_path: Path) -> None:
    place = Path(bucket.url, "deep", "x y.bin")
    assert storage.look(place) is None
    storage.put_bytes(b"one", place)
    first = storage.look(place)
    (tmp_path / "two").write_bytes(b"two!")
    storage.put(tmp_path / "two", place)
    second = storage.look(place)
    assert first is not None
    assert second is not None
    assert (first.size, second.size) == (3, 4)
    assert first.version != second.version
    assert bucket.get("deep/x y.bin") == storage.read_bytes(place) == b"two!"
    storage.fetch(place, tmp_path / "new" / "file")
    assert (tmp_path / "new" / "file").read_bytes() == b"two!"
    assert storage.is_folder(place.parent)
    assert not storage.is_folder(place)
    assert storage.look(place.parent) is None
    storage.remove([place, place.with_name("never was")])
    assert bucket.keys() == []


def test_what_is_not_there(bucket: Bucket, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        storage.read_bytes(Path(bucket.url, "none"))
    assert missing.value.filename == f"{bucket.url}/none"
    with pytest.raises(FileNotFoundError):
        storage.fetch(Path(bucket.url, "none"), tmp_path / "none")
    with pytest.raises(OSError, match="no such object, or bucket") as unwritten:
        storage.put_bytes(b"", Path("s3://no-such-bucket/x"))
    assert unwritten.value.errno == errno.EROFS


def test_troubles_of_the_network_are_tried_again(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, tries = Path(bucket.url, "x"), []

    class Troubled:
        def cat_file(self, key: str) -> bytes:
            tries.append(key)
            if len(tries) < 3:
                raise ConnectionResetError("connection reset by peer")
            return b"content"

    monkeypatch.setattr(storage, "_filesystem", lambda scheme: Troubled())
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(storage, "_answered", set())
    with pytest.raises(OSError, match="reset by peer"):
        storage.read_bytes(place)
    assert len(tries) == 1  # an address where nothing has ever answered may be a mistake
    monkeypatch.setattr(storage, "_answered", {"s3:"})
    assert storage.read_bytes(place) == b"content"
    monkeypatch.setattr(Troubled, "cat_file", lambda self, key: 1 / 0)
    with pytest.raises(OSError, match="division by zero") as lasting:
        storage.read_bytes(place)
    assert lasting.value.errno == errno.EIO


def test_without_credentials_nothing_is_tried_again(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("waits"))
    with pytest.raises(OSError, match=r"(?i)unable to locate credentials"):
        storage.read_bytes(Path(bucket.url, "x"))


def test_a_folder_in_a_bucket_is_searched_as_one_on_disk_is(photos: str, bucket: Bucket) -> None:
    assert names(photos) == ["a2.png", "a10.png", "deep/b é#1.jpg"]
    assert names(photos, recursive=False) == ["a2.png", "a10.png"]
    assert names(photos, out=f"{photos}/deep") == ["a2.png", "a10.png"]
    assert names(bucket.url) == [f"photos/{n}" for n in ("a2.png", "a10.png", "deep/b é#1.jpg")]
    (item, *_) = find_inputs([Path(photos)], Path("out"))
    assert item.size() == 6
    assert item.read_bytes() == b"a2.png"
    assert item.version()


def test_objects_patterns_and_lists(photos: str, bucket: Bucket, tmp_path: Path) -> None:
    assert names(f"{photos}/a2.png") == ["a2.png"]
    assert names(f"{photos}/notes.txt") == ["notes.txt"]
    assert names(f"{photos}/a*.png") == ["a2.png", "a10.png"]
    assert names(f"{photos}/**/*.jpg") == ["b é#1.jpg"]
    assert names(f"{photos}/deep", f"{photos}/a2.png") == ["a2.png", "deep/b é#1.jpg"]
    listed = f"{photos}/a2.png\n{photos}/deep/b é#1.jpg\n{photos}/gone.png\n"
    (tmp_path / "list.txt").write_text(listed)
    bucket.put("list.txt", listed.encode())
    for source in (f"@{tmp_path}/list.txt", f"@{bucket.url}/list.txt"):
        assert names(source) == ["a2.png", "deep/b é#1.jpg", "gone.png"]


def test_objects_whose_names_lead_elsewhere_are_passed_over(bucket: Bucket, tmp_path: Path) -> None:
    for key in ("up/in.png", "up/./a.png", "up/../b.png", "up/x/../../../../c.png", "up/.."):
        bucket.put(key, b"")
    assert names(f"{bucket.url}/up") == ["in.png"]
    assert names(f"{bucket.url}/up/**/*.png") == ["in.png"]


def test_sources_that_cannot_be(photos: str, bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    for sources, message in (
        ((f"{photos}/none.png",), f"there is no file or folder {photos}/none.png"),
        ((f"{bucket.url}/none",), "there is no file or folder"),
        (("s3://no-such-bucket/x",), "there is no file or folder"),
        ((f"{photos}/*.tif",), "nothing matches"),
        ((f"{photos}/a2.png", str(tmp_path / "a.png")), "all in one bucket"),
        (("s3:",), "names no bucket"),
        (("https://example.com/a.png",), "https:// is none of the addresses that are known: s3://"),
        (("S3://bucket/a.png",), "S3:// is none"),
        (("az://container/photos",), r"pip install 'lrm-cli\[az\]'"),
    ):
        with pytest.raises(ValueError, match=message):
            names(*sources)
    bucket.put("texts/a.txt", b"")
    with pytest.raises(ValueError, match=f"no picture .* in the folder {bucket.url}/texts"):
        names(f"{bucket.url}/texts")
