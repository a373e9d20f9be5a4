"""Names of inputs: their natural order, and their results' places, which no two share.

A million names are held at once, as texts and nothing larger.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence

from model.formats.names import TRIPLANE


def natural_key(name: str) -> tuple[str, str]:
    """Folder by folder, numbers by value: `a2` stands before `a10`. Names have `/`.

    Texts are compared faster than lists of their pieces, and a million of them are held at once.
    No name has a NUL character, which stands before all others and so ends each piece.
    """
    folder, _, file = name.rpartition("/")
    return _folder_key(folder) + _part_key(file), name


@functools.lru_cache
def _folder_key(folder: str) -> str:
    return "".join(map(_part_key, folder.split("/"))) if folder else ""


def _part_key(part: str) -> str:
    first, *others = re.split(r"(\d+)", part.casefold())
    key = first + "\0"
    for number, text in zip(others[::2], others[1::2], strict=True):
        digits = (number if number.isascii() else str(int(number))).lstrip("0") or "0"
        key += f"\1{chr(len(digits))}{digits}{text}\0"  # the longer number is the larger one
    return key + "\0"


def bare_name(name: str) -> str:
    """Without its suffix, of which saved triplanes have two."""
    file = name.rpartition("/")[2]
    if file.lower().endswith(TRIPLANE) and len(file) > len(TRIPLANE):
        return name[: -len(TRIPLANE)]
    dot = file.rfind(".")
    return name[: dot - len(file)] if 0 < dot < len(file) - 1 else name


def distinct_stems(names: Sequence[str], outputs: Sequence[str]) -> list[str]:
    """A place for each, that no other has, also where case and Unicode form do not count.

    The suffix goes, unless two inputs would share their place, or an output that of a folder
    (`cup.png` beside `cup.glb/1.png`): then they keep it, and what still collides gets a number.

    Args:
        outputs: suffixes of what is written.
    """
    stems = list(map(bare_name, names))
    members: defaultdict[str, list[int]] = defaultdict(list)  # names' numbers, by folders
    for number, name in enumerate(names):
        members[name.rpartition("/")[0]].append(number)
    alike: defaultdict[str, list[int]] = defaultdict(list)
    inside: defaultdict[str, set[str]] = defaultdict(set)  # folders, by the folders around them
    for folder, numbers in members.items():
        place = _folded(folder)
        alike[place] += numbers
        while place:
            around = place.rpartition("/")[0]
            inside[around].add(place)
            place = around
    for place, numbers in alike.items():
        _make_distinct(stems, names, sorted(numbers), inside[place], outputs)
    return stems


def _make_distinct(
    stems: list[str],
    names: Sequence[str],
    numbers: Sequence[int],
    folders: set[str],
    outputs: Sequence[str],
) -> None:
    """Of one folder's inputs, of these numbers. `folders` are those that are beside them."""
    folded = {number: _folded(stems[number]) for number in numbers}
    uses = Counter(folded.values())

    def is_free(stem: str) -> bool:
        return not folders or not any(_folded(stem + suffix) in folders for suffix in outputs)

    taken = {place for place, count in uses.items() if count == 1 and is_free(place)}
    for number in numbers:
        if folded[number] in taken and uses[folded[number]] == 1:
            continue
        candidate, more = names[number], 1
        while _folded(candidate) in taken or not is_free(candidate):
            more += 1
            candidate = f"{names[number]}-{more}"
        stems[number] = candidate
        taken.add(_folded(candidate))


def _folded(stem: str) -> str:
    return stem.lower() if stem.isascii() else unicodedata.normalize("NFC", stem).casefold()
