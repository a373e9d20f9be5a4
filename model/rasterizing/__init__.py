"""Mesh to pictures without a display, through VTK."""

from model.rasterizing.lights import SOFT, THREE_POINT, Light, Lighting, LightRig, random_rig
from model.rasterizing.renderer import DrawnView, MeshRenderer, draw_views, render
from model.rasterizing.scene import Shading

__all__ = [
    "SOFT",
    "THREE_POINT",
    "DrawnView",
    "Light",
    "LightRig",
    "Lighting",
    "MeshRenderer",
    "Shading",
    "draw_views",
    "random_rig",
    "render",
]
