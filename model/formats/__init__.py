"""Meshes and videos, read and written."""
