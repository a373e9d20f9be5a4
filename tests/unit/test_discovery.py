"""lrm_cli/batch/discovery.py, naming.py: what is found, in which order, and where results go."""

from __future__ import annotations

import errno
import os
import random
import re
import socket
from pathlib import Path
from typing import Any, NoReturn

import pytest

from lrm_cli.batch.discovery import Input, Wanted, find_inputs
from lrm_cli.batch.naming import natural_key
from lrm_cli.batch.shard import Shard


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def stems(*sources: Path, out: Path = Path("nowhere")) -> dict[str, str]:
    return {item.name: item.stem for item in find_inputs(sources, out)}


def test_natural_order_and_mirrored_folders(tmp_path: Path) -> None:
    tree(tmp_path, "b/shot10.png", "b/shot9.JPG", "b/Shot1.webp", "a2/x.tif", "a10/x.gif", "z.bmp")
    assert stems(tmp_path) == {
        "a2/x.tif": "a2/x",
        "a10/x.gif": "a10/x",
        "b/Shot1.webp": "b/Shot1",
        "b/shot9.JPG": "b/shot9",
        "b/shot10.png": "b/shot10",
        "z.bmp": "z",
    }
    names = list(stems(tmp_path))
    assert names == [
        "a2/x.tif",
        "a10/x.gif",
        "b/Shot1.webp",
        "b/shot9.JPG",
        "b/shot10.png",
        "z.bmp",
    ]


def pieces_of(name: str) -> tuple[object, ...]:
    """The order written out: folders' and files' names piece by piece, then the letters' case."""
    parts = [
        [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces]
        for pieces in (re.split(r"(\d+)", part.casefold()) for part in name.split("/"))
    ]
    return parts, name


def test_natural_order_piece_by_piece() -> None:
    rng = random.Random(0)
    letters = "aAb019. -\x01é٣ß"
    names = {
        "/".join("".join(rng.choices(letters, k=rng.randint(1, 4))) for _ in range(depth))
        for depth in (1, 2, 3)
        for _ in range(700)
    }
    shuffled = rng.sample(sorted(names), len(names))
    assert sorted(shuffled, key=natural_key) == sorted(shuffled, key=pieces_of)


def test_dots_in_names_are_kept(tmp_path: Path) -> None:
    tree(tmp_path, "v1.5 front.png", "v1.6.front.png")
    assert list(stems(tmp_path).values()) == ["v1.5 front", "v1.6.front"]


def test_other_files_and_hidden_ones_are_passed_over(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "notes.txt", "png", ".a.png", "._b.jpg", ".cache/c.png", "d.png/e.jpg")
    assert list(stems(tmp_path)) == ["a.png", "d.png/e.jpg"]


def test_a_file_given_by_name_is_taken_whatever_its_suffix(tmp_path: Path) -> None:
    tree(tmp_path, "photo.dat")
    assert stems(tmp_path / "photo.dat") == {"photo.dat": "photo"}


def test_two_inputs_never_share_an_output(tmp_path: Path) -> None:
    tree(tmp_path, "a.jpg", "a.png", "b.png", "sub/a.png", "a.jpg.png", "a.png.gif", "a.png.jpg")
    found = stems(tmp_path)
    assert len({stem.casefold() for stem in found.values()}) == len(found)
    assert (found["b.png"], found["sub/a.png"]) == ("b", "sub/a")
    assert found["a.jpg"].startswith("a.jpg")
    assert found["a.png"].startswith("a.png")
    assert found == stems(tmp_path)


def test_case_and_unicode_form_do_not_tell_outputs_apart(tmp_path: Path) -> None:
    """They do not on the disks of Macs and Windows."""
    tree(tmp_path, "Cup.png", "cup.jpg", "caf\u00e9.png", "cafe\u0301.jpg")
    found = stems(tmp_path)
    assert found["Cup.png"] == "Cup.png"
    assert found["cup.jpg"] == "cup.jpg"
    assert found["caf\u00e9.png"] == "caf\u00e9.png"


def test_same_names_in_two_cases(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "A.png")
    assert sorted(stems(tmp_path).values()) == ["A.png", "a.png-2"]


def test_meshes_never_take_the_place_of_folders(tmp_path: Path) -> None:
    """Turntables of a mesh may lie in a folder of its name."""
    tree(tmp_path, "mug.png", "mug.glb/1.png", "Cup.png", "cup.PLY/1.png", "cup.png.obj/1.png")
    assert stems(tmp_path) == {
        "mug.png": "mug.png",
        "mug.glb/1.png": "mug.glb/1",
        "Cup.png": "Cup.png-2",
        "cup.PLY/1.png": "cup.PLY/1",
        "cup.png.obj/1.png": "cup.png.obj/1",
    }


def test_several_sources_are_mirrored_below_their_common_folder(tmp_path: Path) -> None:
    tree(tmp_path, "2023/photos/a.png", "2024/photos/a.png", "2024/photos/deep/b.png", "c.png")
    assert list(stems(tmp_path / "2023/photos", tmp_path / "2024/photos")) == [
        "2023/photos/a.png",
        "2024/photos/a.png",
        "2024/photos/deep/b.png",
    ]
    files = (tmp_path / "2024/photos/a.png", tmp_path / "2024/photos/deep/b.png")
    assert list(stems(*files)) == ["a.png", "deep/b.png"]


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        (("..", "sub/a.png"), ["b.png", "here/sub/a.png"]),
        (("sub/..", "sub/a.png"), ["sub/a.png"]),
        (("../..", "../b.png"), ["around/b.png", "around/here/sub/a.png"]),
        ((".", "sub/a.png"), ["sub/a.png"]),
    ],
)
def test_no_name_leads_out_of_the_output_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sources: tuple[str, ...], names: list[str]
) -> None:
    tree(tmp_path, "around/b.png", "around/here/sub/a.png")
    monkeypatch.chdir(tmp_path / "around" / "here")
    assert list(stems(*map(Path, sources))) == names


def test_each_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "p/a.png", "p/q/b.png")
    assert list(stems(tmp_path / "p", tmp_path / "p/q", tmp_path / "p/a.png")) == [
        "p/a.png",
        "p/q/b.png",
    ]
    monkeypatch.chdir(tmp_path)
    assert stems(Path("p")) == stems(tmp_path / "p") == stems(Path("./p/../p/"))


def test_output_folder_inside_the_source_is_not_read_again(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "meshes/a.png", "meshes/deep/b.png", "meshes2/c.png")
    assert list(stems(tmp_path, out=tmp_path / "meshes")) == ["a.png", "meshes2/c.png"]
    assert len(stems(tmp_path, out=tmp_path)) == 4


def test_links(tmp_path: Path) -> None:
    tree(tmp_path, "real/a.png", "photos/b.png")
    (tmp_path / "photos/linked").symlink_to(tmp_path / "real")
    (tmp_path / "photos/circle").symlink_to(tmp_path / "photos")
    (tmp_path / "photos/broken.png").symlink_to(tmp_path / "none.png")
    (tmp_path / "photos/itself.png").symlink_to("itself.png")
    assert list(stems(tmp_path / "photos")) == [
        *("b.png", "broken.png", "itself.png", "linked/a.png"),
    ]


def test_pipes_and_sockets_are_no_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "a.png")
    os.mkfifo(tmp_path / "b.png")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("c.png")
        assert list(stems(tmp_path)) == ["a.png"]


def test_nothing_there(tmp_path: Path) -> None:
    tree(tmp_path, "texts/notes.txt")
    with pytest.raises(ValueError, match=r"no picture \(png, .*heif\) in the folder .*texts"):
        stems(tmp_path / "texts")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match=r"pipe\.png is neither a file nor a folder"):
        stems(tmp_path / "pipe.png")


def test_what_has_gone_fails_by_itself(tmp_path: Path) -> None:
    tree(tmp_path, "a.png")
    assert list(stems(tmp_path / "a.png", tmp_path / "gone.png")) == ["a.png", "gone.png"]


def test_what_may_not_be_read_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests may run as root, who may read all: so the system's answers are stood in for."""
    tree(tmp_path, "a.png", "closed/b.png", "listed/c.png", "listed/notes.txt")
    scandir, stat = os.scandir, Path.stat

    def refuse(place: Any) -> NoReturn:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(place))

    monkeypatch.setattr(os, "scandir", lambda p: (refuse if p.endswith("closed") else scandir)(p))
    monkeypatch.setattr(
        Path, "stat", lambda p, **k: refuse(p) if p.parent.name == "listed" else stat(p, **k)
    )
    assert list(stems(tmp_path)) == ["a.png", "closed", "listed/c.png"]
    with pytest.raises(ValueError, match=r"the folder .*closed cannot be read \(Permission"):
        stems(tmp_path / "closed")


def test_folders_of_folders_may_be_left_out(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "deep/b.png")
    assert [item.name for item in find_inputs([tmp_path], Path("nowhere"), False)] == ["a.png"]


@pytest.mark.parametrize("count", [1, 2, 7])
def test_every_input_belongs_to_exactly_one_shard(count: int) -> None:
    names = [f"shots/{i}.png" for i in range(700)]
    shards = [Shard.parse(f"{number}/{count}") for number in range(1, count + 1)]
    taken = [[name for name in names if shard.takes(name)] for shard in shards]
    assert sorted(name for part in taken for name in part) == sorted(names)
    assert min(map(len, taken)) > 0.6 * len(names) / count
    # Its name alone decides: others that come and go do not move it.
    assert [name for name in names[::3] if shards[0].takes(name)] == [
        name for name in taken[0] if name in names[::3]
    ]


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "-1/2", "1/0", "1 / 2", "a/b", "1/2/3"])
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(ValueError, match=r"--shard is .* must be i/n"):
        Shard.parse(text)


MODELS_OR_PICTURES = Wanted(((".triplane.safetensors", ".glb"), (".png",)), "object", (".mp4",))


def objects(*sources: Path) -> dict[str, str]:
    found = find_inputs(sources, Path("nowhere"), wanted=MODELS_OR_PICTURES)
    return {item.name: item.stem for item in found}


def test_of_a_folder_the_first_group_is_taken_that_has_any(tmp_path: Path) -> None:
    tree(tmp_path, "meshes/cup.GLB", "meshes/cup.png", "meshes/deep/view.png", "photos/a.png")
    assert list(objects(tmp_path / "meshes")) == ["cup.GLB"]
    assert list(objects(tmp_path / "photos")) == ["a.png"]
    assert list(objects(tmp_path)) == ["meshes/cup.GLB"]
    # What is given by name is taken as what it is.
    both = objects(tmp_path / "meshes", tmp_path / "meshes/cup.png")
    assert list(both) == ["meshes/cup.GLB", "meshes/cup.png"]
    with pytest.raises(ValueError, match=r"no object \(triplane\.safetensors, glb, png\) in"):
        objects(tree(tmp_path / "none", "notes.txt"))


def test_a_triplane_beside_its_mesh(tmp_path: Path) -> None:
    tree(
        tmp_path, "cup.triplane.safetensors", "cup.glb", "mug.triplane.safetensors", "x.safetensors"
    )
    assert objects(tmp_path) == {
        "cup.glb": "cup.glb",
        "cup.triplane.safetensors": "cup.triplane.safetensors",
        "mug.triplane.safetensors": "mug",
    }


def test_what_is_made_is_no_input_and_takes_no_place(tmp_path: Path) -> None:
    tree(tmp_path, "cup.png", "cup.jpg")
    (item,) = find_inputs([tmp_path], Path("nowhere"), made=[tmp_path / "cup.jpg"])
    assert (item.name, item.stem) == ("cup.png", "cup")
    with pytest.raises(ValueError, match=r"only lrm's own results in .*: give another --out"):
        find_inputs([tmp_path], tmp_path, made=[tmp_path / "cup.jpg", tmp_path / "cup.png"])


def test_an_input_may_be_a_stretch_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "shard.tar"
    path.write_bytes(b"0123456789")
    assert Input(path, "a", "a", (2, 5)).read_bytes() == b"234"
    assert Input(path, "a", "a").read_bytes() == b"0123456789"
