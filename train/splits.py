"""Which objects are trained on: for ever, by name alone.

An object whose sha256(uid) starts with the hex digit 0 is held out, one in sixteen. Numbered
variants of a held-out model (`chair2` of `chair1`) are excluded: neither trained on nor scored.
Names that share more than LARGEST_FAMILY numbers (`object_0001` to `object_9999`) are no variants
of one model but a folder numbered through, and each of them stands for itself.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal

Split = Literal["train", "heldout", "excluded"]

LARGEST_FAMILY = 16  # in a larger one, one held out is to be expected, and nothing would be left


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
    families = {uid: family(uid) for uid in splits}
    sizes = Counter(families.values())
    held_out = {families[uid] for uid, split in splits.items() if split == "heldout"}
    held_out = {name for name in held_out if sizes[name] <= LARGEST_FAMILY}
    return {
        uid: "excluded" if split == "train" and families[uid] in held_out else split
        for uid, split in splits.items()
    }
