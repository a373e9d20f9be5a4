"""Which objects are trained on: for ever, by name alone.

An object whose sha256(uid) starts with the hex digit 0 is held out, one in sixteen. Numbered
variants of a held-out model (`chair2` of `chair1`) are excluded: neither trained on nor scored.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
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
    return with_exclusions({uid: "heldout" if is_held_out(uid) else "train" for uid in uids})


def with_exclusions(splits: Mapping[str, Split]) -> dict[str, Split]:
    """Splits as they are stored, with the variants of held-out objects excluded from training."""
    held_out_families = {family(uid) for uid, split in splits.items() if split == "heldout"}
    return {
        uid: "excluded" if split == "train" and family(uid) in held_out_families else split
        for uid, split in splits.items()
    }
