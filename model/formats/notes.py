"""What a file says about itself: who made it, whose it is, how it came about."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

FRAME = "+Y up, front +Z, metres"  # the same in every format


@dataclass(frozen=True)
class Notes:
    """Words beside the geometry.

    Attributes:
        extras: facts to keep in the file (model, source…), as JSON can hold them.
        copyright_notice: credit to display, such as "2026 Ada, CC-BY 4.0".
    """

    extras: dict[str, Any] = field(default_factory=dict)
    copyright_notice: str | None = None

    def comments(self) -> list[str]:
        """ASCII lines for formats that have nothing but comments."""
        facts = [{key: value} for key, value in self.extras.items()]
        if self.copyright_notice is not None:
            facts.insert(0, {"copyright": self.copyright_notice})
        return [f"made by {generator()}; {FRAME}", *(json.dumps(fact) for fact in facts)]


def generator() -> str:
    """`lrm` with its version, where it is installed as a package."""
    try:
        return f"lrm {metadata.version('lrm-cli')}"
    except metadata.PackageNotFoundError:
        return "lrm"
