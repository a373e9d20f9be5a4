"""The pages of `lrm reconstruct --report`, read as a browser would; and what is drawn again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lrm_cli.batch.made import is_of_report
from lrm_cli.report import gallery, pictures
from lrm_cli.report.entries import read_entries
from lrm_cli.report.gallery import write_report
from tests.unit.report_pages import Page, add, report
from tests.unit.standin_drawing import draw_nothing

ODD_NAMES = (
    "plain.png",
    "b c/with space.png",
    "b c/<i>tag & \"quotes' 100%20.png",
    "a:colon?query#hash.png",
    "größe 日本.png",
    os.fsdecode(b"no-unicode-\xff.png"),
    "n" * 251 + ".png",
    "椅" * 83 + ".png",
)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "meshes"


def test_every_item_is_there_once_and_every_link_leads_somewhere(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_nothing(monkeypatch)
    for name in ODD_NAMES:
        add(out, name)
    index, *items = report(out)
    shown = [
        name.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for name in ODD_NAMES
    ]
    assert sorted(n.replace("?", "�") for n in index.cards) == sorted(
        n.replace("?", "�") for n in shown
    )
    assert len(items) == len(ODD_NAMES)
    for page in (index, *items):
        missing = [path for path in page.targets() if not path.is_file()]
        assert not missing
        assert not page.tags["i"], "a name has become markup"
        assert not page.without_alt
    assert f"{len(ODD_NAMES)} done" in index.text
    meshes = {path.resolve() for page in items for path in page.targets() if path.suffix == ".glb"}
    assert len(meshes) == len(ODD_NAMES)
    # From the first item, `next` leads through all others.
    assert (
        sum(link.endswith(".html") for page in items for link in page.links)
        == 3 * len(ODD_NAMES) - 2
    )


def test_an_item_tells_its_figures_and_settings(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_nothing(monkeypatch)
    facts = {"faces": 19998, "pieces": 3, "watertight": False, "touches_box": True}
    facts |= {"silhouette_iou": 0.851, "photo_share": 0.25, "flags": ["fragments", "open"]}
    add(out, "cup.png", facts=facts)
    index, item = report(out)
    for text in ("19,998 faces", "3 pieces", "not watertight", "IoU 0.85", "photo 25 %", "1.8 s"):
        assert text in index.text.replace("\u00a0", " ")
    assert "1 flagged" in index.text
    for text in ("fragments", "19,998", "0.851", "25 %", "1.75", "input elevation", "20", "box"):
        assert text in item.text
    assert item.tags["canvas"] == 1
    assert item.tags["img"] == 1 + 8


@pytest.mark.parametrize(
    ("facts", "words", "degrees"),
    [
        ({"elevation_degrees": 23.4, "elevation_source": "estimated"}, "23.4° (estimated", 23.4),
        ({"elevation_degrees": 0.0, "elevation_source": "unclear"}, "0° (the mesh does not", 0),
        ({"elevation_degrees": 5.0, "elevation_source": "given"}, "5° (given)", 5),
        ({}, "input elevation", 20),  # of a ledger that does not tell yet
    ],
)
def test_an_item_tells_how_it_was_turned(
    out: Path, monkeypatch: pytest.MonkeyPatch, facts: dict, words: str, degrees: float
) -> None:
    draw_nothing(monkeypatch)
    settings = {"input_elevation": "auto" if facts else 20.0}
    add(out, "cup.png", facts={**facts, "file_from_world": [[1.0] * 4] * 4}, settings=settings)
    _, item = report(out)
    assert words in item.text
    assert "file from world" not in item.text
    (only,), _ = read_entries(out)
    assert only.elevation_degrees == degrees


def test_failures_have_their_sentences(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_nothing(monkeypatch)
    add(out, "good.png")
    add(out, "gone.png")
    (out / "gone.glb").unlink()
    add(out, "<b>.png", status="failed", outputs=[], error="the file is <empty>")
    index, *items = report(out)
    assert index.cards == ["good.png"]
    assert len(items) == 1
    assert "1 done · 2 failed" in index.text
    assert "<b>.png the file is <empty>" in index.text
    assert "gone.png what was made of it is no longer there" in index.text


def test_pages_hold_sixty_items(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_nothing(monkeypatch)
    for number in range(60):
        add(out, f"photo {number}.png")
    index, *items = report(out)
    assert len(items) == 60
    assert index.cards == [f"photo {number}.png" for number in range(60)]  # by value
    assert not index.tags["nav"]
    add(out, "photo 60.png")
    pages = report(out)[:2]
    by_size = sorted(pages, key=lambda page: -len(page.cards))
    assert [len(page.cards) for page in by_size] == [60, 1]
    assert all({"index.html", "index-2.html"} <= set(page.links) for page in pages)
    (out / "photo 3.glb").unlink()
    report(out)
    assert not (out / "report/index-2.html").exists()
    assert not list(out.glob("report/items/photo 3.*"))


def test_only_what_has_changed_is_drawn_again(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = draw_nothing(monkeypatch)
    add(out, "a.png")
    add(out, "b.png")
    report(out)
    everything = {(kind, stem) for kind in ("photos", "3D views", "pictures") for stem in "ab"}
    assert set(drawn) == everything
    before = {path: path.read_bytes() for path in out.rglob("report/**/*") if path.is_file()}
    drawn.clear()
    report(out)
    assert not drawn
    assert {path: path.read_bytes() for path in before} == before
    (out / "b.glb").write_bytes(b"another mesh")
    report(out)
    assert drawn == [("3D views", "b"), ("pictures", "b")]
    drawn.clear()
    (out / "report/items/a.photo.jpg").unlink()
    report(out)
    assert drawn == [("photos", "a")]
    (out / "report/manifest.json").write_text("{ torn")
    report(out)
    assert len(drawn) == 1 + 6


def test_a_copy_of_a_photo_outlives_the_run_that_had_it(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_nothing(monkeypatch)
    add(out, "a.png")
    report(out)
    write_report(out, {})
    assert Page(out / "report/items/a.html").tags["img"] == 9
    add(out, "a.png", sha256="1" * 64)  # made of another photo since
    write_report(out, {})
    page = Page(out / "report/items/a.html")
    assert page.tags["img"] == 8
    assert "The photo was not at hand" in page.text


def test_usdz_alone_has_no_pictures(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = draw_nothing(monkeypatch)
    add(out, "a.png", outputs=["a.usdz"])
    (out / "a.glb").rename(out / "a.usdz")
    index, item = report(out)
    assert drawn == [("photos", "a")]
    assert "no picture" in index.text
    assert "no 3D view and no picture of USDZ and FBX files" in item.text
    assert all(path.is_file() for page in (index, item) for path in page.targets())


def test_parts_of_killed_runs_go(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_nothing(monkeypatch)
    add(out, "a.png")
    report(out)
    old, young = (out / f"report/items/.a.html.{name}.part" for name in ("old", "young"))
    for path in (old, young):
        path.touch()
    os.utime(old, (0, 0))
    report(out)
    assert not old.exists()
    assert young.exists()  # perhaps of another shard's job, which is writing now


def test_the_newest_of_two_inputs_with_one_place_is_shown(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_nothing(monkeypatch)
    add(out, "cup.jpg")
    add(out, "cup.png")
    index, *items = report(out)
    assert index.cards == ["cup.png"]
    assert len(items) == 1


def test_the_turntable_is_shown(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_nothing(monkeypatch)
    add(out, "deep/a #1.png", outputs=["deep/a #1.glb", "deep/a #1.mp4"])
    add(out, "b.png")
    (out / "deep/a #1.mp4").touch()
    _, without, with_video = report(out)
    assert (without.tags["video"], with_video.tags["video"]) == (0, 1)
    assert out / "deep/a #1.mp4" in {path.resolve() for path in with_video.targets()}


def test_pictures_of_a_report_are_no_photos(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = out / "report/items/a.photo.jpg"
    assert not is_of_report(picture)  # a folder of the user's may have this name
    draw_nothing(monkeypatch)
    add(out, "a.png")
    report(out)
    assert is_of_report(picture)
    assert not is_of_report(out / "a.png")


def crash(_: pictures.Order) -> dict[str, bytes]:
    os.abort()


def test_without_pictures_there_is_a_report_and_a_warning(
    out: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    add(out, "a.png")
    kind = pictures.Kind("pictures", pictures.VIEW_KIND.suffixes, crash)
    monkeypatch.setattr(gallery, "KINDS", (pictures.PHOTO_KIND, pictures.MESH_KIND, kind))
    index, item = report(out)
    errors = capfd.readouterr().err
    assert (
        "Warning: the report has no new pictures: the process working on it died (SIGABRT)"
        in errors
    )
    assert "Warning: the report has no new photos: the file is not a picture of a known" in errors
    assert "Warning: the report has no new 3D views: a.glb cannot be read as a mesh" in errors
    assert index.cards == ["a.png"]
    assert item.tags["img"] == item.tags["canvas"] == 0
    assert all(path.is_file() for page in (index, item) for path in page.targets())
