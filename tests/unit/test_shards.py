"""The data set's files: read back by tarfile, by readers in other processes, after a crash."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model.cameras import Cameras, orbit
from train.packing import member_key, pack, places_of, record_of
from train.shard_writing import ShardWriter, remove_dataset
from train.shards import ShardReader, UnreadableObjectError, read_index
from train.splits import assign_splits, family, is_held_out
from train.views import ObjectViews, encode_views


def pictures_of(uid: str, views: int = 3, size: int = 8) -> np.ndarray:
    seed = int(hashlib.sha256(uid.encode()).hexdigest()[:8], 16)
    shape = (views, size, size, 4)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def views_of(uid: str, views: int = 3) -> ObjectViews:
    cameras = orbit(views, 20.0, 2.0, 60.0)
    pngs = encode_views(pictures_of(uid, views))
    return ObjectViews(uid, "synthetic", cameras, pngs, {"license": "CC0-1.0"})


def write(folder: Path, uids: list[str], objects_per_shard: int = 2) -> None:
    with ShardWriter(folder, objects_per_shard) as writer:
        for uid in uids:
            writer.add(views_of(uid))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    uids = ["a/été", "b c/d", "e"]
    write(tmp_path, uids)
    reader = ShardReader(tmp_path, None)
    assert [record.uid for record in reader.records] == uids
    assert {record.shard for record in reader.records} == {"shard-00000.tar", "shard-00001.tar"}
    for index, uid in enumerate(uids):
        assert np.array_equal(reader.images(index, [2, 0]), pictures_of(uid)[[2, 0]])
        cameras, wanted = reader.cameras(index), orbit(3, 20.0, 2.0, 60.0)
        assert torch.equal(cameras.camera_to_world, wanted.camera_to_world)
        assert torch.equal(cameras.intrinsics, wanted.intrinsics)


def test_any_tar_tool_opens_a_shard(tmp_path: Path) -> None:
    write(tmp_path, ["a/b", "c"])
    first, second = read_index(tmp_path, details=True)
    assert (first.start, second.start) == (0, first.size)
    key = member_key("a/b")
    with tarfile.open(tmp_path / "shard-00000.tar") as shard:
        names = shard.getnames()
        assert names[:4] == [
            f"{key}/{n}" for n in ("cameras.json", "000.png", "001.png", "002.png")
        ]
        assert len(names) == 8
        head = json.loads(shard.extractfile(names[0]).read())  # type: ignore[union-attr]
        places = places_of(head["files"], first.head)
        for member in shard.getmembers()[1:4]:
            assert places[member.name.split("/")[-1]] == (member.offset_data, member.size)
        picture = Image.open(io.BytesIO(shard.extractfile(names[2]).read()))  # type: ignore[union-attr]
        assert np.array_equal(np.asarray(picture), pictures_of("a/b")[1])
    assert head["uid"] == "a/b"
    assert np.shape(head["camera_to_world"]) == (3, 4, 4)
    assert (tmp_path / "shard-00000.tar").stat().st_size % tarfile.RECORDSIZE == 0
    content = (tmp_path / "shard-00000.tar").read_bytes()[: first.size]
    assert first.details["sha256"] == hashlib.sha256(content).hexdigest()
    assert first.details["source"] == {"license": "CC0-1.0"}
    assert first.details["image_size"] == [8, 8]


def test_webp_and_maps_are_read_back(tmp_path: Path) -> None:
    smooth = np.repeat(np.linspace(0, 255, 8, dtype=np.uint8)[None, :, None], 8, axis=0)
    colors = np.repeat(np.concatenate([smooth] * 3 + [np.full_like(smooth, 255)], 2)[None], 2, 0)
    depth = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    buffer = io.BytesIO()
    Image.fromarray(depth).save(buffer, "PNG")
    cameras = orbit(2, 20.0, 2.0, 60.0)
    maps = {"depth": (buffer.getvalue(),) * 2}
    facts = {"depth_unit": 0.001}
    with ShardWriter(tmp_path) as writer:
        pictures = encode_views(colors, "webp")
        writer.add(ObjectViews("a", "video", cameras, pictures, {}, maps, facts))
    reader = ShardReader(tmp_path, None)
    difference = reader.images(0, [1]).astype(int) - colors[:1]
    assert np.abs(difference).max() <= 6
    assert np.array_equal(reader.maps(0, "depth", [0])[0], depth)
    assert reader.facts(0) == facts
    assert reader.records[0].kind == "video"
    with pytest.raises(UnreadableObjectError, match=r"000\.normals\.png in .* there is none"):
        reader.maps(0, "normals", [0])
    with pytest.raises(ValueError, match="2 pictures"):
        ObjectViews("a", "video", cameras, pictures, {}, {"depth": ()})
    with pytest.raises(ValueError, match="format is 'gif'"):
        encode_views(colors, "gif")  # type: ignore[arg-type]


def test_the_same_objects_give_the_same_bytes_whoever_wrote_how_often(tmp_path: Path) -> None:
    write(tmp_path / "once", ["a", "b", "c", "d"])
    write(tmp_path / "twice", ["a", "b"])
    write(tmp_path / "twice", ["c", "d"])
    assert bytes_below(tmp_path / "once") == bytes_below(tmp_path / "twice")


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_several_writers_share_a_folder(tmp_path: Path) -> None:
    for number, uids in ((1, "ab"), (2, "c")):
        with ShardWriter(tmp_path, part=(number, 2)) as writer:
            for uid in uids:
                writer.add(views_of(uid))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("index.1-of-2.jsonl", "index.2-of-2.jsonl"),
        *("shard-1-of-2-00000.tar", "shard-2-of-2-00000.tar"),
    ]
    reader = ShardReader(tmp_path, None)
    assert [record.uid for record in reader.records] == ["a", "b", "c"]
    assert np.array_equal(reader.images(2, [1]), pictures_of("c")[[1]])


def test_an_object_that_is_appended_again_replaces_itself(tmp_path: Path) -> None:
    write(tmp_path, ["a", "b"])
    block = pack(views_of("a", views=2), {"bytes": 7})
    with ShardWriter(tmp_path) as writer:
        assert writer.append(block) is False
    assert (writer.known["a"].version, writer.known["a"].bytes) == (2, 7)
    reader = ShardReader(tmp_path, None)
    assert [(r.uid, r.views) for r in reader.records] == [("a", 2), ("b", 3)]
    assert np.array_equal(reader.images(0, [1]), pictures_of("a", 2)[[1]])


def test_what_is_no_object_is_not_appended(tmp_path: Path) -> None:
    block = pack(views_of("a"), {})
    assert record_of(block)["size"] == len(block)
    for bad in (b"", b"x" * 2000, block[:-512], block + bytes(512)):
        with pytest.raises(ValueError, match="no object of a data set"):
            record_of(bad)


def test_a_torn_line_of_the_index_is_written_again(tmp_path: Path) -> None:
    write(tmp_path, ["a", "b", "c"])
    index = tmp_path / "index.jsonl"
    whole = bytes_below(tmp_path)
    index.write_bytes(index.read_bytes()[:-20])
    assert [record.uid for record in read_index(tmp_path)] == ["a", "b"]
    write(tmp_path, ["c"])
    assert bytes_below(tmp_path) == whole


def test_killed_writer_leaves_only_finished_shards_and_the_next_goes_on(tmp_path: Path) -> None:
    script = (
        "import os\n"
        "from pathlib import Path\n"
        "from tests.unit.test_shards import views_of\n"
        "from train.shard_writing import ShardWriter\n"
        f"writer = ShardWriter(Path({str(tmp_path)!r}), objects_per_shard=2)\n"
        "for uid in 'abc':\n"
        "    writer.add(views_of(uid))\n"
        "os._exit(9)\n"
    )
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    process = subprocess.run([sys.executable, "-c", script], env=environment, cwd=root)
    assert process.returncode == 9
    assert (tmp_path / "shard-00001.tar.part").exists()
    assert [record.uid for record in ShardReader(tmp_path, None).records] == ["a", "b"]
    with ShardWriter(tmp_path, 2) as writer:
        assert set(writer.known) == {"a", "b"}
        writer.add(views_of("c"))
    reader = ShardReader(tmp_path, None)
    assert [record.uid for record in reader.records] == ["a", "b", "c"]
    assert np.array_equal(reader.images(2, [1]), pictures_of("c")[[1]])
    assert not list(tmp_path.glob("*.part"))


def test_an_exception_drops_the_shard_that_was_not_full(tmp_path: Path) -> None:
    with contextlib.suppress(KeyboardInterrupt), ShardWriter(tmp_path, 2) as writer:
        for uid in "abc":
            writer.add(views_of(uid))
        raise KeyboardInterrupt
    assert len(ShardReader(tmp_path, None)) == 2
    assert not list(tmp_path.glob("*.part"))


def test_split_is_by_hash_of_the_uid() -> None:
    uids = [f"folder/object{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(400)]
    held_out = {u for u in uids if hashlib.sha256(u.encode()).hexdigest()[0] == "0"}
    assert 10 < len(held_out) < 50
    assert {uid for uid, split in assign_splits(uids).items() if split == "heldout"} == held_out
    assert set(assign_splits(uids).values()) == {"heldout", "train"}


def test_variants_of_a_held_out_model_are_not_trained_on() -> None:
    held_out = next(f"c/bed{n}/bed{n}" for n in range(999) if is_held_out(f"c/bed{n}/bed{n}"))
    others = [f"c/bed{n}/bed{n}" for n in range(1000, 1015)]
    others = [uid for uid in others if not is_held_out(uid)]
    splits = assign_splits([held_out, *others, "c/bedside/bedside"])
    assert {splits[uid] for uid in others} == {"excluded"}
    assert splits[held_out] == "heldout"
    assert splits["c/bedside/bedside"] == "train"
    assert set(assign_splits(others).values()) == {"train"}


def test_a_folder_that_is_numbered_through_is_no_family() -> None:
    uids = [f"scans/object_{n:04}" for n in range(1000)]
    splits = assign_splits(uids)
    assert {uid for uid, split in splits.items() if split == "heldout"} == set(
        filter(is_held_out, uids)
    )
    assert set(splits.values()) == {"train", "heldout"}


@pytest.mark.parametrize(
    ("uid", "wanted"),
    [
        ("scopia/bed1/bed1", "scopia/bed/bed"),
        ("x/lamp_02", "x/lamp"),
        ("x/door-1.2", "x/door"),
        ("random/017/017", "random/017/017"),  # a name that is all number is no variant
        ("x/3d-cat", "x/3d-cat"),
    ],
)
def test_family(uid: str, wanted: str) -> None:
    assert family(uid) == wanted


def test_reader_keeps_to_its_split(tmp_path: Path) -> None:
    uids = [f"object {n} of many" for n in range(60)]
    write(tmp_path, uids, objects_per_shard=64)
    train, held_out = ShardReader(tmp_path, "train"), ShardReader([tmp_path], "heldout")
    assert {record.uid for record in held_out.records} == set(filter(is_held_out, uids))
    assert len(train) + len(held_out) == 60
    assert not {r.uid for r in train.records} & {r.uid for r in held_out.records}


class _FirstViews(torch.utils.data.Dataset[torch.Tensor]):
    def __init__(self, reader: ShardReader) -> None:
        self.reader = reader

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, index: int) -> torch.Tensor:
        self.reader.cameras(index)
        return torch.from_numpy(self.reader.images(index, [0]))


def test_reader_works_in_loader_processes(tmp_path: Path) -> None:
    uids = [f"o{n}x" for n in range(6)]
    write(tmp_path, uids)
    reader = ShardReader(tmp_path, None)
    reader.images(0, [0])
    loader = torch.utils.data.DataLoader(_FirstViews(reader), batch_size=None, num_workers=2)
    for uid, picture in zip(uids, loader, strict=True):
        assert np.array_equal(picture.numpy(), pictures_of(uid)[:1])
    copy = pickle.loads(pickle.dumps(reader))
    assert np.array_equal(copy.images(1, [1]), reader.images(1, [1]))


def test_damage_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no data set"):
        ShardReader(tmp_path, "train")
    write(tmp_path / "data", ["a", "b", "c"])
    with pytest.raises(ValueError, match="split is 'test'"):
        ShardReader(tmp_path / "data", "test")  # type: ignore[arg-type]
    write(tmp_path / "other", ["c"])
    with pytest.raises(ValueError, match="is in both"):
        ShardReader([tmp_path / "data", tmp_path / "other"], None)
    with (tmp_path / "data/shard-00001.tar").open("rb+") as shard:
        shard.truncate(700)
    with pytest.raises(ValueError, match="shorter"):
        ShardReader(tmp_path / "data", None)
    (tmp_path / "data/shard-00001.tar").unlink()
    with pytest.raises(ValueError, match="missing"):
        ShardReader(tmp_path / "data", None)
    (tmp_path / "data" / "index.jsonl").write_text("not json\n")
    with pytest.raises(ValueError, match="is not the index"):
        ShardReader(tmp_path / "data", None)


def test_writer_refuses_what_it_has_and_what_does_not_match(tmp_path: Path) -> None:
    write(tmp_path, ["a"])
    with ShardWriter(tmp_path) as writer, pytest.raises(ValueError, match="already"):
        writer.add(views_of("a"))
    cameras = Cameras(torch.eye(4).expand(2, 4, 4), torch.ones(2, 4))
    with pytest.raises(ValueError, match="one camera a picture"):
        ObjectViews("x", "synthetic", cameras, (b"",))


def test_removing_leaves_other_files(tmp_path: Path) -> None:
    write(tmp_path, ["a"])
    (tmp_path / "notes.txt").write_text("mine")
    remove_dataset(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
