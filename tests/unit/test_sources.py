"""lrm_cli/batch/sources.py: what SOURCE arguments stand for."""

from __future__ import annotations

import glob
import io
from pathlib import Path

import pytest

from lrm_cli.batch.sources import expand_sources
from model.walking import walk


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with some pictures in it."""
    for name in ("a.png", "b.jpg", "deep/c.png", "deep/er/d.png", "odd[1].png", "two words.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def give_standard_input(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """As Python opens it: strict."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), "utf-8", "strict"))


def expanded(*sources: str) -> list[str]:
    return [path.as_posix() for path in expand_sources(sources)]


def test_files_and_folders_stand_for_themselves(here: Path) -> None:
    Path("broken.png").symlink_to("nowhere.png")
    sources = ["a.png", "deep", "broken.png"]
    assert expanded(*sources) == sources


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.png", ["a.png", "odd[1].png", "two words.png"]),
        ("**/*.png", ["a.png", "deep/c.png", "deep/er/d.png", "odd[1].png", "two words.png"]),
        ("?.jpg", ["b.jpg"]),
        ("[ab].*", ["a.png", "b.jpg"]),
        ("deep/*", ["deep/c.png", "deep/er"]),
    ],
)
def test_patterns(here: Path, pattern: str, found: list[str]) -> None:
    assert expanded(pattern) == found


def test_links_in_circles_end(here: Path) -> None:
    """Two of them are 2⁴⁰ paths, before the system refuses to go on."""
    for name in ("deep/up", "deep/er/up", "deep/er/top"):
        Path(name).symlink_to(here)
    elsewhere = here.parent / f"{here.name} elsewhere"
    elsewhere.mkdir()
    (elsewhere / "e.png").touch()
    Path("deep/linked").symlink_to(elsewhere)
    wanted = ["deep/c.png", "deep/er/d.png", "deep/linked/e.png"]
    assert set(expanded("**/*.png")) == {"a.png", "odd[1].png", "two words.png", *wanted}
    assert set(expanded(f"{glob.escape(str(here))}/**/?.png")) >= {f"{here}/{x}" for x in wanted}
    assert "deep/er/d.png" in expanded("**/er/**/*.png")
    assert "deep/er/d.png" in expanded("deep/**")


def test_a_link_does_not_take_the_name_of_what_it_leads_to(here: Path) -> None:
    Path("deep/before").symlink_to(here / "deep/er")
    assert [Path(place).name for place, _, _ in walk(Path("deep"))] == ["deep", "er"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(here: Path) -> None:
    assert expanded("odd[1].png") == ["odd[1].png"]


@pytest.mark.parametrize(
    "content",
    [
        b"a.png\ntwo words.png\n\ndeep\n",
        b"a.png\r\ntwo words.png\r\ndeep\r\n",
        b"\xef\xbb\xbfa.png\ntwo words.png\ndeep",
        b"a.png\0two words.png\0deep\0",
        "\ufeffa.png\r\ntwo words.png\r\ndeep\r\n".encode("utf-16-le"),
        "\ufeffa.png\ntwo words.png\ndeep".encode("utf-16-be"),
    ],
    ids=["lines", "Windows", "byte order mark", "find -print0", "PowerShell", "big endian"],
)
def test_lists(here: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("list.txt").write_bytes(content)
    wanted = ["a.png", "two words.png", "deep"]
    assert expanded("@list.txt") == wanted
    assert expanded("b.jpg", "@list.txt") == ["b.jpg", *wanted]
    give_standard_input(monkeypatch, content)
    assert expanded("-") == wanted


def test_lists_may_hold_patterns_and_what_is_gone_or_no_utf8(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"deep/*.png\ngone.png\n\xff.png\n"
    wanted = [Path("deep/c.png"), Path("gone.png"), Path("\udcff.png")]
    Path("list.txt").write_bytes(content)
    assert expand_sources(["@list.txt"]) == wanted
    give_standard_input(monkeypatch, content)
    assert expand_sources(["-"]) == wanted


def test_a_file_that_begins_with_the_mark_is_a_file(here: Path) -> None:
    Path("@home.png").touch()
    assert expanded("@home.png") == ["@home.png"]


def test_what_stands_for_nothing_is_told(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"nothing matches 'x\*.png'"):
        expanded("x*.png")
    with pytest.raises(ValueError, match=r"the list none.txt cannot be read \(No such file"):
        expanded("@none.txt")
    Path("empty.txt").write_text("\n  \n")
    with pytest.raises(ValueError, match=r"the list empty\.txt is empty"):
        expanded("@empty.txt")
    give_standard_input(monkeypatch, b"")
    with pytest.raises(ValueError, match="the list on standard input is empty"):
        expanded("-")
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(ValueError, match=r"the list on standard input .* \(it is closed\)"):
        expanded("-")
    for name in ("none.png", "none/a.png", "a.png/b.png"):
        with pytest.raises(ValueError, match=f"there is no file or folder {name}"):
            expanded("a.png", name)
