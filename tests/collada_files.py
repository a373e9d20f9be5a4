"""COLLADA files by hand: what tests need of the format, and no more."""

from __future__ import annotations

GEOMETRY = """<geometry id="g"><mesh>
 <source id="p"><float_array id="pa" count="9">0 0 0 1 0 0 0 2 3</float_array><technique_common>
  <accessor source="#pa" count="3" stride="3"><param name="X" type="float"/>
   <param name="Y" type="float"/><param name="Z" type="float"/></accessor>
 </technique_common></source>
 <source id="t"><float_array id="ta" count="6">0 0 1 0 0 1</float_array><technique_common>
  <accessor source="#ta" count="3" stride="2"><param name="S" type="float"/>
   <param name="T" type="float"/></accessor></technique_common></source>
 <vertices id="v"><input semantic="POSITION" source="#p"/></vertices>
 <triangles count="1" material="m"><input semantic="VERTEX" source="#v" offset="0"/>
  <input semantic="TEXCOORD" source="#t" offset="1" set="0"/><p>0 0 1 1 2 2</p></triangles>
</mesh></geometry>"""
COLOR = "<diffuse><color>0.25 0.5 0.75 1</color></diffuse>"
PICTURE = '<diffuse><texture texture="sampler" texcoord="UV"/></diffuse>'
PLACED = """<instance_geometry url="#g"><bind_material><technique_common>
 <instance_material symbol="m" target="#mat"/></technique_common></bind_material>
</instance_geometry>"""


def text(
    *,
    up: str = "",
    unit: str = "1",
    look: str = COLOR,
    image: str = "wood.png",
    nodes: str = f"<node>{PLACED}</node>",
    libraries: str = "",
) -> str:
    """A file of one triangle."""
    axis = f"<up_axis>{up}</up_axis>" if up else ""
    return f"""<?xml version="1.0" encoding="utf-8"?>
<COLLADA xmlns="http://www.collada.org/2005/11/COLLADASchema" version="1.4.1">
<asset><created>2020-01-01T00:00:00</created><modified>2020-01-01T00:00:00</modified>
 <unit meter="{unit}"/>{axis}</asset>
<library_images><image id="i"><init_from>{image}</init_from></image></library_images>
<library_effects><effect id="e"><profile_COMMON>
 <newparam sid="surface"><surface type="2D"><init_from>i</init_from></surface></newparam>
 <newparam sid="sampler"><sampler2D><source>surface</source></sampler2D></newparam>
 <technique sid="c"><lambert>{look}</lambert></technique></profile_COMMON></effect>
</library_effects>
<library_materials><material id="mat"><instance_effect url="#e"/></material></library_materials>
<library_geometries>{GEOMETRY}</library_geometries>
{libraries}
<library_visual_scenes><visual_scene id="s">{nodes}</visual_scene></library_visual_scenes>
<scene><instance_visual_scene url="#s"/></scene></COLLADA>"""
