"""Which inputs are those of one job, where several share them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Shard:
    """One of several jobs that share the work without talking to each other.

    An input belongs to one of them by its name alone, so that every input is done exactly once,
    even if files come and go while the jobs start.

    Attributes:
        number: 1 … count.
    """

    number: int
    count: int

    @staticmethod
    def parse(text: str) -> Shard:
        """`i/n`, as `--shard` takes it.

        Raises:
            ValueError: that is not what it is.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ValueError(f"--shard is {text!r}; it must be i/n, as 1/8 … 8/8")
        return Shard(int(match[1]), int(match[2]))

    def takes(self, name: str) -> bool:
        """Whether the input of this name is this job's."""
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.number - 1
