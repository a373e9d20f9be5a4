"""Turn the household models of Debian's `sweethome3d-furniture` into a data set.

    python examples/household/make_dataset.py --furniture FOLDER --work UNPACKED --out DATA
    python examples/household/make_dataset.py --furniture FOLDER --stretched 5 --work … --out DATA
    python examples/household/make_dataset.py --furniture FOLDER --composed 4000 --work … --out DATA
    python examples/household/make_dataset.py --built 4000 --work UNPACKED --out DATA
    python examples/household/make_dataset.py --random-urdfs FOLDER --work UNPACKED --out DATA

Each command wants a folder of its own.

See README.md beside this file for where to get the models, and ATTRIBUTION.md for who made them.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Annotated, Any
from xml.etree import ElementTree

import numpy as np
import typer
from built import built_tasks
from variants import composed_tasks, stretched_tasks

from lrm_cli import console
from lrm_cli.batch.command import BatchFlags
from lrm_cli.preprocess_inputs import MeshInput
from lrm_cli.preprocess_kinds import make_dataset
from train.objects import ObjectSettings, ObjectTask

CATALOG = "PluginFurnitureCatalog.properties"
ATTRIBUTION_HEADER = """\
# Who made the household models

The weights in `model/pretrained/lrm-tiny` were trained on pictures of these models, and some of
the pictures in this repository show them. They come from Debian's package
`sweethome3d-furniture` 1.8-1 (upstream: <https://www.sweethome3d.com/importModels.jsp>).

Changes made: each model was centred, scaled, turned upright where the catalogue says so, and
rendered with our own lights.

Licences: [CC0 1.0](https://creativecommons.org/publicdomain/zero/1.0/) ·
[CC-BY 3.0](https://creativecommons.org/licenses/by/3.0/) ·
[CC-BY 3.0 US](https://creativecommons.org/licenses/by/3.0/us/)
"""
# Of each catalogue, from its LICENSE.TXT: licence, copyright holder.
CATALOGS = {
    "BlendSwap-CC-0": ("CC0-1.0", "the BlendSwap contributors, collected by eTeks"),
    "BlendSwap-CC-BY": ("CC-BY-3.0", "the BlendSwap contributors"),
    "KatorLegaz": ("CC-BY-3.0-US", "2003-2008 Andrew Kator & Jennifer Legaz"),
    "Reallusion": ("CC-BY-3.0-US", "2008-2016 Reallusion, www.reallusion.com"),
    "Scopia": (
        "CC-BY-3.0",
        "2006-2020 Scopia Visual Interfaces Systems, s.l. (www.scopia.es) and "
        "Emmanuel Puybaret / eTeks",
    ),
}


def furniture_tasks(furniture_dir: Path, work_dir: Path) -> list[ObjectTask]:
    """Unpack the catalogues; a task per model, with its author and licence.

    Raises:
        ValueError: the folder holds no catalogue.
    """
    archives = sorted(furniture_dir.glob("*.sh3f"))
    if not archives:
        raise ValueError(f"{furniture_dir} holds no .sh3f file")
    tasks = []
    for archive in archives:
        if archive.stem not in CATALOGS:
            raise ValueError(f"{archive.name} is not of the package: its licence is not known")
        folder = work_dir / archive.stem
        with zipfile.ZipFile(archive) as content:
            entries = catalog_entries(content.read(CATALOG).decode("latin-1"))
            content.extractall(folder)
        license_name, holder = CATALOGS[archive.stem]
        for entry in entries:
            inside = entry["model"].lstrip("/")
            path = folder / inside
            if "modelRotation" in entry:
                path = turned_copy(path, np.array(entry["modelRotation"].split(), dtype=float))
            source = {
                "title": entry["name"],
                "author": entry["creator"],
                "license": license_name,
                "copyright": holder,
                "package": "sweethome3d-furniture 1.8-1",
            }
            uid = f"{archive.stem}/{Path(inside).with_suffix('').as_posix()}"
            tasks.append(ObjectTask(uid, path, tuple(source.items())))
    return tasks


def catalog_entries(text: str) -> list[dict[str, str]]:
    """A catalogue's models: every `key#number=value` line, gathered by number."""
    entries: dict[int, dict[str, str]] = {}
    for key, number, value in re.findall(r"^(\w+)#(\d+)=(.*)$", text, re.MULTILINE):
        unescaped = re.sub(r"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), value)
        entries.setdefault(int(number), {})[key] = unescaped.strip()
    return [entries[number] for number in sorted(entries)]


def turned_copy(path: Path, rotation: np.ndarray[Any, Any]) -> Path:
    """A copy of an OBJ file beside it, turned as the catalogue says, to stand upright."""
    rows = rotation.reshape(3, 3)
    lines = []
    for line in path.read_text("latin-1").splitlines():
        words = line.split()
        if words and words[0] in ("v", "vn"):
            turned = rows @ np.array(words[1:4], dtype=float)
            line = " ".join([words[0], *(f"{value:.6f}" for value in turned), *words[4:]])
        lines.append(line)
    copy = path.with_name(f"{path.stem}.upright.obj")
    copy.write_text("\n".join(lines) + "\n", "latin-1")
    return copy


def random_tasks(urdfs_dir: Path, work_dir: Path) -> list[ObjectTask]:
    """A task per random object of PyBullet's data, in the colour that its URDF file gives.

    Raises:
        ValueError: the folder holds no such object.
    """
    tasks = []
    for urdf in sorted(urdfs_dir.glob("*/*.urdf")):
        color = ElementTree.parse(urdf).find(".//material/color")
        if color is None:
            raise ValueError(f"{urdf} names no colour")
        red, green, blue, opacity = color.attrib["rgba"].split()
        folder = work_dir / "random_urdfs" / urdf.stem
        folder.mkdir(parents=True, exist_ok=True)
        material = f"newmtl paint\nKd {red} {green} {blue}\nd {opacity}\n"
        (folder / "paint.mtl").write_text(material, "utf-8")
        lines = urdf.with_suffix(".obj").read_text("utf-8").splitlines()
        kept = [line for line in lines if not line.startswith(("mtllib", "usemtl", "s "))]
        obj = folder / f"{urdf.stem}.obj"
        obj.write_text("\n".join(["mtllib paint.mtl", "usemtl paint", *kept]) + "\n", "utf-8")
        source = {
            "title": f"random object {urdf.stem}",
            "author": "PyBullet's contributors",
            "license": "zlib",  # of the wheel; its data folder names no other
            "package": "pybullet_data",
        }
        tasks.append(
            ObjectTask(f"random_urdfs/{urdf.stem}/{urdf.stem}", obj, tuple(source.items()))
        )
    if not tasks:
        raise ValueError(f"{urdfs_dir} holds no NNN/NNN.urdf")
    return tasks


def attribution(tasks: list[ObjectTask]) -> str:
    """The text of ATTRIBUTION.md: a table of models and authors per catalogue."""
    text = ATTRIBUTION_HEADER
    for catalog, (license_name, holder) in CATALOGS.items():
        models = [task for task in tasks if task.uid.split("/")[0] == catalog]
        if not models:
            continue
        text += f"\n## {catalog}: {license_name}, © {holder}\n\n| model | author | file |\n"
        text += "|---|---|---|\n"
        for task in models:
            source = dict(task.source)
            text += f"| {source['title']} | {source['author']} | `{task.uid}` |\n"
    return text


@console.guarded
def main(
    out: Annotated[Path, typer.Option(help="The data set's folder.")],
    work: Annotated[Path, typer.Option(help="Where models are unpacked to.")],
    furniture: Annotated[
        Path | None, typer.Option(help="The folder of the package's five .sh3f files.")
    ] = None,
    random_urdfs: Annotated[
        Path | None, typer.Option(help="PyBullet's folder pybullet_data/random_urdfs.")
    ] = None,
    stretched: Annotated[
        int,
        typer.Option(min=0, help="In place of the furniture, so many stretched copies of each."),
    ] = 0,
    composed: Annotated[
        int,
        typer.Option(
            min=0, help="In place of the furniture, so many objects put together from it."
        ),
    ] = 0,
    built: Annotated[int, typer.Option(min=0, help="So many things built by rule.")] = 0,
    size: Annotated[int, typer.Option(help="Side of the pictures, in pixels.")] = 128,
    views: Annotated[int, typer.Option(help="Pictures per object.")] = 32,
    jobs: Annotated[int | None, typer.Option(help="Renderers at a time.")] = None,
    write_attribution: Annotated[
        Path | None, typer.Option(help="Write the table of authors to this file.")
    ] = None,
    write_references: Annotated[
        Path | None, typer.Option(help="Write the models' names and files to this list (.tsv).")
    ] = None,
) -> None:
    """Make the data set; run it again to carry on."""
    with console.usage_errors():
        if furniture is None and random_urdfs is None and not built:
            raise ValueError("give --furniture, --random-urdfs, --built, or several of them")
        if furniture is None and (stretched or composed):
            raise ValueError(
                "--stretched and --composed make variants of --furniture: give that too"
            )
        settings = ObjectSettings(
            views=views, size=size, min_thickness=0.05, min_opacity=0.5, supersample=3
        )
        tasks = furniture_tasks(furniture, work) if furniture else []
        if write_attribution is not None:
            write_attribution.write_text(attribution(tasks), "utf-8")
        if stretched or composed:
            own = tasks
            tasks = stretched_tasks(own, stretched) + composed_tasks(own, composed, work)
        tasks += random_tasks(random_urdfs, work) if random_urdfs else []
        tasks += built_tasks(built, work)
        if write_references is not None:
            lines = [f"{task.uid}\t{task.path.resolve()}\n" for task in tasks]
            write_references.write_text("".join(lines), "utf-8")
        flags = BatchFlags(
            sources=[],
            out=out,
            recursive=True,
            device="cpu",
            jobs=jobs,
            batch_size=None,
            shard=None,
            timeout=120.0,
            overwrite=False,
            dry_run=False,
            json=False,
            quiet=False,
            debug=False,
        )
    inputs = [MeshInput(task.path, task.uid, task.uid, source=task.source) for task in tasks]
    make_dataset(flags, settings, inputs)


if __name__ == "__main__":
    typer.run(main)
