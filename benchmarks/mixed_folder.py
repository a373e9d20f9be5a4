"""The folder of `benchmarks.mixed_files`: what is in it, and what must become of each file."""

from __future__ import annotations

import os
import random
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageEnhance, ImageOps

from benchmarks.mixed_pictures import BAD, CUT_OUT, KINDS, OPAQUE, Expected, has_heic

BAD_SHARE, OPAQUE_SHARE = 0.14, 0.03  # one matting takes as long as ten cut-out pictures
LEAVING = "🫥 leaving"  # sorts behind all others

_FOLDERS = (
    *("", "a", "a/b", "a/b/c", "1", "2", "10", "two  words", " edges ", "album.png", "#1 100% [x]"),
    *("椅子/赤い", "Überraschung", unicodedata.normalize("NFD", "Überraschung, zerlegt"), "🪑"),
    "/".join("deep" for _ in range(12)),
    "caf\udce9",  # not UTF-8
)
# All of these are good pictures; each group lies in one folder, where results must stay apart.
_ODD_NAMES = (
    *("-dash.png", "--out.png", "@at.png", "~.png", "$HOME.png", "*.png", "[1].png", "{a,b}.png"),
    *("a'b\"c.png", "back\\slash.png", "new\nline.png", "tab\t.png", "dots...png", "space .png"),
    *("#hash.png", "per%20cent.png", "q?.png", "<b>&amp;.png", "[red]markup[/].png", "CON.png"),
    *("🪑🏽‍🦰.png", "עברית.png", "é.png", unicodedata.normalize("NFD", "é.png"), "É.png"),
    *("raw\udce9.png", "results.jsonl.png", "x.part.png", "ＦＵＬＬ.png", "ﬁ.png", "fi.png"),
    *("n" * 251 + ".png", "椅" * 83 + ".png", "n" * 240 + ".png"),
)
_CLASHES = (
    *("cup.png", "cup.webp", "cup.gif", "CUP.png", "cup.png.gif", "cup.PNG", "cup.glb.png"),
    *("cup.png-2.png", "cup.webp.png", "mug.glb/inner.png", "mug.png"),
)


@dataclass(frozen=True)
class Entry:
    """A file and what must become of it.

    Attributes:
        name: below the folder, with `/`; bytes that are no UTF-8 as surrogates.
        sentence: a pattern of the error, where it may fail.
    """

    name: str
    kind: str
    expected: Expected
    sentence: str = ""

    @property
    def leaves(self) -> bool:
        """It is deleted while the last run works."""
        return self.name.startswith(f"{LEAVING}/")


def make_folder(folder: Path, photos: Path, count: int, seed: int) -> list[Entry]:
    """Fill a new folder with `count` files that a run must take up, and some that it must not.

    The same arguments and the same Pillow make the same files.

    Args:
        photos: a folder with pictures that are cut out.

    Raises:
        ValueError: there is no such picture, or `count` is too small for one of each kind.
    """
    maker = _Maker(folder, _objects(photos), random.Random(seed))
    for name in _ODD_NAMES:
        maker.add(f"odd names/{name}", "png")
    for name in _CLASHES:
        maker.add(f"clashes/{name}", "webp lossless")
    maker.add_links()
    for number in range(max(count // 100, 2)):
        maker.add_leaving(number)
    kinds = [name for name in CUT_OUT if name != "heic" or has_heic()]
    bad, opaque = max(int(BAD_SHARE * count), len(BAD)), max(int(OPAQUE_SHARE * count), len(OPAQUE))
    good = count - len(maker.entries) - bad - opaque
    if good < len(kinds):
        raise ValueError(f"--files is {count}; all kinds take {count - good + len(kinds)}")
    plan = [*_in_turn(BAD, bad), *_in_turn(OPAQUE, opaque), *_in_turn(kinds, good)]
    maker.random.shuffle(plan)  # so that every part of a run has the same mixture
    for number, kind in enumerate(plan):
        place = Path(maker.random.choice(_FOLDERS), f"IMG_{number:04d} {kind}{KINDS[kind].suffix}")
        maker.add(place.as_posix(), kind)
    maker.add_passed_over()
    return maker.entries


def _objects(photos: Path) -> list[Image.Image]:
    found = []
    for path in sorted(photos.glob("*.png")):
        with Image.open(path) as image:
            if image.mode == "RGBA" and image.getchannel("A").getextrema()[0] == 0:
                found.append(image.copy())
    if not found:
        raise ValueError(f"there is no PNG with a transparent background in {photos}")
    return found


def _in_turn(kinds: Iterable[str], count: int) -> list[str]:
    names = list(kinds)
    return [names[index % len(names)] for index in range(count)]


class _Maker:
    """Writes files and notes what must become of them."""

    def __init__(self, folder: Path, objects: list[Image.Image], rng: random.Random) -> None:
        self.entries: list[Entry] = []
        self.random = rng
        self._folder = folder
        self._objects = objects

    def add(self, name: str, kind: str) -> None:
        """A file of a kind, of its own content."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(KINDS[kind].make(self._picture(), self.random))
        self.entries.append(Entry(name, kind, KINDS[kind].expected, KINDS[kind].sentence))

    def add_links(self) -> None:
        """To nowhere, to itself, and to a folder elsewhere."""
        self._link("links/nowhere.png", "nothing.png")
        self._note("links/nowhere.png", "link to nowhere", _cannot_be_read("No such file"))
        self._link("links/itself.png", "itself.png")
        self._note("links/itself.png", "link to itself", _cannot_be_read("Too many levels"))
        self.add("../elsewhere/there.png", "png")
        self._link("links/folder", "../../elsewhere")
        self.entries[-1] = Entry("links/folder/there.png", "in a linked folder", "mesh")

    def add_leaving(self, number: int) -> None:
        """A good picture that will not be there when its turn comes."""
        name = f"{LEAVING}/{number}.png"
        self.add(name, "png")
        del self.entries[-1]
        self._note(name, "disappears", _cannot_be_read("No such file"))

    def add_passed_over(self) -> None:
        """What is no input: by its name, hidden, no file, or the same file once more."""
        self.add("a/seen twice.png", "png")
        self._link("z links/seen twice.png", "../a/seen twice.png")
        self._link("z links/circle", "..")
        for name in ("notes.txt", "Thumbs.db", ".hidden.png", "a/._mac.png", ".git/picture.png"):
            self.add(name, "png")
            self.entries[-1] = Entry(name, "no input", "passed over")
        (self._folder / "a/empty folder.png").mkdir()
        os.mkfifo(self._folder / "a/pipe.png")
        others = ("a/empty folder.png", "a/pipe.png", "z links/seen twice.png")
        self.entries += [Entry(name, "no input", "passed over") for name in others]

    def _note(self, name: str, kind: str, sentence: str) -> None:
        self.entries.append(Entry(name, kind, "failure", sentence))

    def _link(self, name: str, target: str) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)

    def _picture(self) -> Image.Image:
        """An object, a little changed, so that no two files hold the same."""
        image = self.random.choice(self._objects)
        if self.random.random() < 0.5:
            image = ImageOps.mirror(image)
        image = ImageEnhance.Brightness(image).enhance(self.random.uniform(0.85, 1.1))
        side = self.random.randrange(160, 513)
        return ImageOps.contain(image, (side, side))


def _cannot_be_read(reason: str) -> str:
    return rf"^the file cannot be read \({reason}"
