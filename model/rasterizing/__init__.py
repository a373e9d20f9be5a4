"""Mesh to pictures without a display, through VTK."""

from model.rasterizing.renderer import MeshRenderer, render
from model.rasterizing.scene import Lighting, Shading

__all__ = ["Lighting", "MeshRenderer", "Shading", "render"]
