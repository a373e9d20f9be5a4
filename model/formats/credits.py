"""Who made a mesh, and under which licence, as far as its file tells."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_LONGEST = 500  # characters of a credit; more is no credit
# Sketchfab, from which Objaverse comes, writes these into `asset.extras`.
_EXTRAS = ("title", "author", "license", "source")


def gltf_credits(content: bytes) -> dict[str, str]:
    """`copyright` of a glTF or GLB file's asset, and of its extras title, author, license, source.

    Nothing of a file that is damaged: whoever reads its mesh will say so.
    """
    if content[:4] == b"glTF":  # twelve bytes, then the length, the kind and the text of its JSON
        content = content[20 : 20 + int.from_bytes(content[12:16], "little")]
    try:
        asset: Any = json.loads(content)["asset"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    if not isinstance(asset, Mapping):
        return {}
    extras = asset.get("extras")
    told = {name: extras.get(name) for name in _EXTRAS} if isinstance(extras, Mapping) else {}
    told["copyright"] = asset.get("copyright")
    return {
        name: text
        for name, text in told.items()
        if isinstance(text, str) and 0 < len(text) <= _LONGEST
    }
