"""The same GLBs in trimesh, Blender, three.js and model-viewer: sizes, colours, pictures.

    python -m benchmarks.viewers FILE.glb… --blender PYTHON --modules NODE_MODULES --out FOLDER

Writes viewers.jpg (rows: files, columns: programs, all seen by one camera) and viewers.json, and
prints the figures as a table. README.md beside this file says how to get the programs.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.viewers.programs import Program, in_blender, in_browser, in_trimesh
from benchmarks.viewers.seen import Extent, Seen, corners_in_file, look_at_all, overlap

Figures = dict[str, Any]
CELL, HEAD = 208, 26  # pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.glb")
    parser.add_argument("--blender", type=Path, required=True, help="a Python that has bpy")
    parser.add_argument("--modules", type=Path, required=True, help="node_modules")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()

    files: list[Path] = arguments.files
    arguments.out.mkdir(parents=True, exist_ok=True)
    names = [f"{file.parent.name}/{file.stem}" for file in files]
    meshes = [corners_in_file(file) for file in files]
    truth = [Extent.of(corners_m) for corners_m in meshes]
    look = look_at_all(meshes, 2 * CELL)
    programs = [
        in_trimesh(files, look),
        in_blender(arguments.blender, files, look, arguments.out),
        in_browser("three.js", "three.html", arguments.modules, files, look),
        in_browser("model-viewer", "model-viewer.html", arguments.modules, files, look),
    ]
    compose(names, programs).save(arguments.out / "viewers.jpg", quality=88, optimize=True)
    figures = [
        facts(program, file, name, extent, reference)
        for program in programs
        for file, name, extent, reference in zip(
            program.seen, names, truth, programs[0].seen, strict=True
        )
    ]
    (arguments.out / "viewers.json").write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    print(table(figures))


def facts(program: Program, seen: Seen, file: str, truth: Extent, reference: Seen) -> Figures:
    """A row of the table; silhouettes are compared with those of trimesh's reading."""
    known = Extent(
        seen.extent.size_m,
        np.where(np.isnan(seen.extent.middle_m), truth.middle_m, seen.extent.middle_m),
    )
    return {
        "file": file,
        "program": program.name,
        "up": program.up,
        "width_height_depth_m": [round(float(side), 5) for side in seen.extent.size_m],
        "difference_m": float(f"{known.difference(truth):.1e}"),
        "silhouette_iou": round(overlap(seen, reference), 3),
        "colors": seen.colors,
    }


def table(figures: list[Figures]) -> str:
    """In Markdown."""
    head = ("file", "program", "its up", "width × height × depth, m", "off by, m", "silhouette")
    rows: list[tuple[object, ...]] = [(*head, "colours"), ("---",) * (len(head) + 1)]
    for figure in figures:
        size = " × ".join(f"{side:.4f}" for side in figure["width_height_depth_m"])
        off, overlap = f"{figure['difference_m']:.0e}", f"{figure['silhouette_iou']:.3f}"
        rows.append(
            (figure["file"], figure["program"], figure["up"], size, off, overlap, figure["colors"])
        )
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def compose(names: list[str], programs: list[Program]) -> Image.Image:
    sheet = Image.new("RGB", (CELL * len(programs), HEAD + CELL * len(names)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    for column, program in enumerate(programs):
        middle = CELL * column + CELL // 2
        pen.text((middle, HEAD // 2), program.name, "black", font, anchor="mm")
        for row, seen in enumerate(program.seen):
            white = Image.new("RGBA", seen.picture.shape[:2], "white")
            white.alpha_composite(Image.fromarray(seen.picture))
            cell = white.convert("RGB").resize((CELL, CELL), Image.Resampling.LANCZOS)
            sheet.paste(cell, (CELL * column, HEAD + CELL * row))
    for row, name in enumerate(names):
        pen.text((4, HEAD + CELL * row + 4), name, "gray", font)
    return sheet


if __name__ == "__main__":
    main()
