"""OBJ and MTL files in the plain form that trimesh's parser takes.

It wants keywords at the beginnings of lines with a space behind, no comments behind numbers, and
one MTL file.
"""

from __future__ import annotations

import re
from pathlib import Path

from model.formats.beside import FILE_LIMIT_BYTES, Beside, UnreadableError
from model.formats.side_files import in_utf8, material_files, material_lines

_INDENT = re.compile(rb"\n[ \t]+")
_TAB = re.compile(rb"^(v|vt|vn|f|usemtl)\t", re.MULTILINE)
_NUMBERS = re.compile(rb"(?:v|vt|vn|f|K[ads]|d|Tr)[ \t]", re.IGNORECASE)


class ObjFiles(Beside):
    """An OBJ file in plain form, and the files around it.

    Attributes:
        content: of the OBJ file.
        materials: of its MTL files, one after another.
    """

    def __init__(self, path: Path) -> None:
        content = path.read_bytes()
        files = material_files(path.parent, material_lines(content))
        super().__init__(path, [file.parent for file in files])
        if sum(file.stat().st_size for file in files) > FILE_LIMIT_BYTES:
            raise UnreadableError(f"its materials have more than {FILE_LIMIT_BYTES >> 30} GB")
        self.materials = b"\n".join(_plain(file.read_bytes()) for file in files)
        # trimesh asks for what stands behind the first `mtllib`, and is given all materials.
        self.content = b"mtllib all\n" + _plain(content)

    def __getitem__(self, name: str) -> bytes:
        return self.materials


def _plain(content: bytes) -> bytes:
    content = in_utf8(content).replace(b"\\\r\n", b" ").replace(b"\\\n", b" ")  # lines that go on
    content = _INDENT.sub(b"\n", b"\n" + content)
    if b"\t" in content:
        content = _TAB.sub(rb"\1 ", content)
    return re.sub(rb"#.*", _without_comment, content)


def _without_comment(found: re.Match[bytes]) -> bytes:
    """A comment, if it is not behind numbers; names may have a # in them."""
    line = found.string.rfind(b"\n", 0, found.start()) + 1
    return b"" if _NUMBERS.match(found.string, line) else found[0]
