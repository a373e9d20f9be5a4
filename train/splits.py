"""Which objects are trained on: for ever, by name alone.

An object whose sha256(uid) starts with the hex digit 0 is held out, one in sixteen. Numbered
variants of a held-out model (`chair2` of `chair1`) are excluded: neither trained on nor scored.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Literal

Split = Literal["train", "heldout", "excluded"]


def is_held_out(uid: str) -> bool:
    """Whether this object is never trained on."""
    return hashlib.sha256(uid.encode()).hexdigest().startswith("0")


def family(uid: str) -> str:
    """What numbered variants of one model share: the path without its names' trailing numbers.

    A name that is nothing but a number stays.
    """
    return "/".join(re.sub(r"(?<=[^\W\d_])[\s_.\d-]*\d$", "", name) for name in uid.split("/"))


def assign_splits(uids: Iterable[str]) -> dict[str, Split]:
    """The split of every object of a data set."""
    uids = list(uids)
    held_out_families = {family(uid) for uid in uids if is_held_out(uid)}
    splits: dict[str, Split] = {}
    for uid in uids:
        if is_held_out(uid):
            splits[uid] = "heldout"
        else:
            splits[uid] = "excluded" if family(uid) in held_out_families else "train"
    return splits
