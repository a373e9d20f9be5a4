"""Meshes and videos, read and written."""

from model.formats.writing import WRITABLE_SUFFIXES, write_mesh

__all__ = ["WRITABLE_SUFFIXES", "write_mesh"]
