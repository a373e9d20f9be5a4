"""Field → mesh."""

from model.surface.extraction import extract_mesh
from model.surface.file_frame import FileMesh, to_file_frame
from model.surface.mesh import Atlas, Mesh
from model.surface.projection import FramedPhoto

__all__ = ["Atlas", "FileMesh", "FramedPhoto", "Mesh", "extract_mesh", "to_file_frame"]
