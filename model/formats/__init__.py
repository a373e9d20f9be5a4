"""Meshes and videos, read and written."""

from model.formats.writing import (
    WRITABLE_SUFFIXES,
    check_writable,
    files_of,
    seen_file,
    write_mesh,
    write_seen,
)

__all__ = [
    "WRITABLE_SUFFIXES",
    "check_writable",
    "files_of",
    "seen_file",
    "write_mesh",
    "write_seen",
]
