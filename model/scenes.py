"""An object to be looked at: a field or a mesh, in the coordinates of its mesh file, turned z up.

The same cameras show the same of a field and of the mesh that was made of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.camera_paths import Sphere
from model.field_rendering import FieldRenderer
from model.formats.meshes import TexturedMesh, textured_mesh
from model.moved_views import MovedRenderer
from model.nerf import Field
from model.rasterizing import Lighting, MeshRenderer
from model.surface.extraction import extract_mesh
from model.surface.file_frame import FileMesh, moved
from model.surface.mesh import Mesh
from model.views import Renderer

# Lattice points per side of the surface that tells where a field's object is: for three photos and
# lrm-tiny its centre and radius were within 3 % of those at 384, for half a second instead of four.
BOUNDS_RESOLUTION = 128
_FITTED_RADIUS = 0.75  # of a mesh in its renderer's world: files may have any size, and lie far off
Z_UP_FROM_FILE = np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], np.float64)


@dataclass(frozen=True)
class Scene:
    """An object, and where it is.

    Attributes:
        content: what is rendered, in a world of its own.
        scene_from_content: (4, 4) similarity from that world.
        sphere: what holds the object, in the scene.
    """

    content: Field | TexturedMesh
    scene_from_content: NDArray[np.float64]
    sphere: Sphere

    @staticmethod
    def of_field(field: Field, surface: Mesh, file_from_world: NDArray[np.float64]) -> Scene:
        """A field.

        Args:
            surface: its own, which may be coarse.
            file_from_world: (4, 4), as `surface.file_frame` makes it.
        """
        scene_from_world = Z_UP_FROM_FILE @ file_from_world
        turn, shift = scene_from_world[:3, :3], scene_from_world[:3, 3]
        vertices = surface.vertices_world.astype(np.float64) @ turn.T + shift
        return Scene(field, scene_from_world, Sphere.around(vertices))

    @staticmethod
    def of_mesh(mesh: TexturedMesh) -> Scene:
        """A mesh as `read_mesh` gives it."""
        sphere = Sphere.around(np.concatenate([part.vertices_world for part in mesh.parts]))
        scene_from_fitted = np.eye(4)
        scene_from_fitted[:3, :3] *= sphere.radius / _FITTED_RADIUS
        scene_from_fitted[:3, 3] = sphere.center
        return Scene(mesh.fitted(_FITTED_RADIUS), scene_from_fitted, sphere)

    @staticmethod
    def of_file_mesh(mesh: FileMesh) -> Scene:
        """A mesh as `write_mesh` takes it."""
        return Scene.of_mesh(textured_mesh(mesh))

    @staticmethod
    def of_surface(mesh: Mesh, file_from_world: NDArray[np.float64], unlit: bool = False) -> Scene:
        """The surface of a field as a mesh; `unlit` as `FileMesh` has it."""
        return Scene.of_file_mesh(moved(mesh, file_from_world, unlit))

    def open(
        self,
        *,
        samples: int = 128,
        lighting: Lighting = "soft",
        depth: bool = False,
        normals: bool = False,
    ) -> Renderer:
        """What renders it, in the scene's coordinates.

        Args:
            samples: points per ray, of fields.
            lighting: of meshes.
            depth, normals: whether the views have these.
        """
        renderer: Renderer
        if isinstance(self.content, TexturedMesh):
            renderer = MeshRenderer(self.content, lighting=lighting, depth=depth, normals=normals)
        else:
            renderer = FieldRenderer(
                self.content,
                samples=samples,
                depth=depth,
                normals=normals,
                density_per=self.content.density_per,
            )
        return MovedRenderer(renderer, self.scene_from_content)


def coarse_surface(field: Field) -> Mesh:
    """A field's surface, fine enough to tell where its object is.

    Raises:
        ValueError: it has none.
    """
    return extract_mesh(field, BOUNDS_RESOLUTION)
