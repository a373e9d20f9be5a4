"""Opens GLBs in Blender and says what came in. Runs by itself, where `bpy` is installed:

    python blender.py JOB.json RESULT.json

The job has `files`, and of the camera `position_m` (glTF's frame), `fov_degrees` and `size`;
pictures go beside RESULT.json as 0.png, 1.png…
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Vector

SAMPLES = 32
AMBIENT, SUN = 0.6, 0.5  # shares of a white surface's light; the pages have the same
SUN_FROM = (-0.3, 0.6, 0.75)  # glTF's frame


def upright(x: float, y: float, z: float) -> Vector:
    """From glTF's frame to Blender's, where z is up and -y the front."""
    return Vector((x, -z, y))


def measure() -> dict[str, Any]:
    """All meshes of the scene, in Blender's own frame."""
    corners = []
    for thing in bpy.data.objects:
        if thing.type == "MESH":
            mesh = thing.data
            places = np.empty(3 * len(mesh.vertices))
            mesh.vertices.foreach_get("co", places)
            index = np.empty(len(mesh.loops), np.int32)
            mesh.loops.foreach_get("vertex_index", index)
            world = np.array(thing.matrix_world)
            corners.append((places.reshape(-1, 3) @ world[:3, :3].T + world[:3, 3])[index])
    places = np.concatenate(corners)
    size = places.max(axis=0) - places.min(axis=0)
    return {"size": size.tolist(), "middle": places.mean(axis=0).tolist()}


def colors() -> str:
    """What Base Color of the materials is linked to."""
    found = []
    for material in bpy.data.materials:
        if not material.use_nodes or not material.users:
            continue
        for node in material.node_tree.nodes:
            if node.type != "BSDF_PRINCIPLED":
                continue
            links = node.inputs["Base Color"].links
            before = [links[0].from_node] if links else []
            while before:
                node = before.pop()
                if node.type == "TEX_IMAGE":
                    width, height = node.image.size
                    space = node.image.colorspace_settings.name
                    found.append(f"texture {width} × {height}, {space}")
                elif node.type in ("VERTEX_COLOR", "ATTRIBUTE"):
                    found.append("colours at vertices")
                before += [link.from_node for i in node.inputs for link in i.links]
    return "; ".join(found) or "none"


def draw(job: dict[str, Any], out: Path) -> None:
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.device = "CPU"
    scene.cycles.samples = SAMPLES
    scene.cycles.use_denoising = False
    scene.render.film_transparent = True
    scene.view_settings.view_transform = "Standard"
    scene.render.resolution_x = scene.render.resolution_y = job["size"]
    scene.render.filepath = str(out)
    world = bpy.data.worlds.new("white")
    world.use_nodes = True
    world.node_tree.nodes["Background"].inputs["Strength"].default_value = AMBIENT
    world.node_tree.nodes["Background"].inputs["Color"].default_value = (1, 1, 1, 1)
    scene.world = world
    sun = bpy.data.objects.new("sun", bpy.data.lights.new("sun", "SUN"))
    sun.data.energy = SUN * math.pi
    sun.rotation_euler = upright(*SUN_FROM).to_track_quat("Z", "Y").to_euler()
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.data.angle = math.radians(job["fov_degrees"])
    camera.location = upright(*job["position_m"])
    camera.rotation_euler = camera.location.to_track_quat("Z", "Y").to_euler()
    for thing in (sun, camera):
        scene.collection.objects.link(thing)
    scene.camera = camera
    bpy.ops.render.render(write_still=True)


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    result = Path(sys.argv[2])
    seen = []
    for number, file in enumerate(job["files"]):
        bpy.ops.wm.read_factory_settings(use_empty=True)
        bpy.ops.import_scene.gltf(filepath=file)
        seen.append(measure() | {"colors": colors()})
        draw(job, result.with_name(f"{number}.png"))
    answer = {"version": bpy.app.version_string, "seen": seen}
    result.write_text(json.dumps(answer), "utf-8")


if __name__ == "__main__":
    main()
