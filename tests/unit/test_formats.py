"""What holds for all formats in which meshes are written."""

from __future__ import annotations

import dataclasses
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.formats import writing
from model.formats.names import WRITABLE_SUFFIXES, check_writable, files_of, seen_file
from model.formats.side_files import side_files
from model.formats.writing import write_mesh, write_seen
from model.surface import FileMesh
from model.surface.mesh import Atlas
from tests.unit.colored_box import COLORS, bumpy, colored_box
from tests.unit.mesh_readers import by_trimesh, by_us, by_vtk

HAS_USD = importlib.util.find_spec("pxr") is not None
SUFFIXES = [s for s in WRITABLE_SUFFIXES if s != ".usdz" or HAS_USD]
BOX_FACES = np.repeat(np.arange(6), 2)  # of each triangle


@pytest.fixture(scope="module")
def box() -> FileMesh:
    return colored_box()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["plain", "textured", "bumpy"])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "stem", ["box", "my box.v2", "Kiste Nº 1", "箱", "-x", " b", "a#b", "a\nb"]
)
def test_files_are_those_that_were_announced(
    stem: str, suffix: str, kind: str, box: FileMesh, tmp_path: Path
) -> None:
    path, textured = tmp_path / (stem + suffix), kind != "plain"
    mesh = bumpy(box) if kind == "bumpy" else box
    write_mesh(path, mesh if textured else dataclasses.replace(box, atlas=None))
    files = files_of(path, has_atlas=textured, has_normal_map=kind == "bumpy")
    assert files[-1] == path
    assert set(files) == set(tmp_path.iterdir())
    if textured and suffix in (".obj", ".ply"):  # the texture is found, whatever the name
        np.testing.assert_array_equal(by_trimesh(path).texture_colors, COLORS[BOX_FACES])


def test_files_beside_a_mesh() -> None:
    assert files_of(Path("a/cup.glb"), has_atlas=True) == [Path("a/cup.glb")]
    assert files_of(Path("a/cup.obj"), has_atlas=True) == [
        Path("a/cup.texture.png"),
        Path("a/cup.mtl"),
        Path("a/cup.obj"),
    ]
    assert files_of(Path("cup.PLY"), has_atlas=True) == [Path("cup.texture.png"), Path("cup.PLY")]
    # Names that some reader stumbles over are not referred to, and two never become one.
    textures = [files_of(Path(f"{stem}.obj"), True)[0].name for stem in ("a b", "a_b", "a\nb", "é")]
    assert textures[1] == "a_b.texture.png"
    assert len(set(textures)) == len(textures)
    assert all(re.fullmatch(r"[a-z0-9_][a-z0-9_.-]+", name) for name in textures)


@pytest.mark.parametrize("stem", ["a" * 243, "a" * 244, "b" + "a" * 243, "a" * 250, "a b" * 83])
def test_what_is_beside_a_mesh_has_a_name_that_fits(stem: str) -> None:
    names = [path.name for path in files_of(Path(f"{stem}.obj"), True, has_normal_map=True)]
    assert max(map(len, names)) <= 255
    assert (names[0] == f"{stem}.texture.png") == (stem == "a" * 243)
    others = files_of(Path(f"{stem[:-1]}c.obj"), True, has_normal_map=True)
    assert not {path.name for path in others} & set(names)


def test_the_mesh_is_written_after_what_it_refers_to(
    box: FileMesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append(Path(b).suffix), replace(a, b)))
    write_mesh(tmp_path / "box.obj", box)
    assert order == [".png", ".mtl", ".obj"]


def test_the_same_mesh_gives_the_same_bytes(box: FileMesh, tmp_path: Path) -> None:
    """Also in another process, whose hashes are seeded otherwise."""
    code = (
        "import sys; from pathlib import Path; from model.formats.writing import write_mesh; "
        "from tests.unit.colored_box import colored_box; "
        "[write_mesh(Path(p), colored_box(), {'b': 1, 'a': [2, 3]}, texture_format='jpeg') "
        "for p in sys.argv[1:]]"
    )
    folders = []
    for number, seed in enumerate(("1", "2")):
        folder = tmp_path / seed
        folder.mkdir()
        paths = [folder / f"box{suffix}" for suffix in SUFFIXES]
        if number:
            environment = {**os.environ, "PYTHONHASHSEED": seed}
            command = [sys.executable, "-c", code, *map(str, paths)]
            subprocess.run(command, env=environment, cwd=Path(__file__).parents[2], check=True)
        else:
            for path in paths:
                write_mesh(path, box, {"b": 1, "a": [2, 3]}, texture_format="jpeg")
        folders.append(contents(folder))
    assert folders[0] == folders[1]


@pytest.mark.parametrize("suffix", [s for s in SUFFIXES if s != ".stl"])
def test_extras_and_copyright_stand_in_the_file(suffix: str, box: FileMesh, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    write_mesh(path, box, {"licence": "CC0 1.0"}, copyright_notice="2026 Ada\nLovelace \udce9")
    data = path.read_bytes()
    assert b"CC0 1.0" in data
    assert b"2026 Ada" in data
    assert b"\nLovelace" not in data or suffix == ".usdz"  # no line of its own in a header


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_failed_write_leaves_the_old_files(
    suffix: str, box: FileMesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"box{suffix}"
    for file in files_of(path, has_atlas=True):
        file.write_bytes(b"old")
    before = contents(tmp_path)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_mesh(path, box)
    assert contents(tmp_path) == before


def test_nothing_is_written_before_all_is_encoded(
    box: FileMesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The OBJ, last in line, cannot be encoded; its texture and material stay away too."""

    def fail(*_: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(writing, "obj_bytes", fail)
    with pytest.raises(MemoryError):
        write_mesh(tmp_path / "box.obj", box)
    assert not contents(tmp_path)


@pytest.mark.parametrize("name", ["ball.stp", "ball"])
def test_an_unknown_suffix_names_the_choices(name: str, box: FileMesh, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.glb, \.obj, \.ply, \.stl, \.usdz"):
        write_mesh(tmp_path / name, box)
    with pytest.raises(ValueError, match=r"\.glb, \.obj"):
        check_writable(Path(name))
    assert not contents(tmp_path)


def test_an_unknown_texture_format_names_the_choices(box: FileMesh, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="texture_format is 'bmp'; it must be one of png, jpeg"):
        write_mesh(tmp_path / "a.glb", box, texture_format="bmp")


def test_a_mesh_without_faces_is_refused(box: FileMesh, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no faces"):
        write_mesh(tmp_path / "a.glb", dataclasses.replace(box, faces=box.faces[:0]))


def test_the_seen_mask_lies_beside_the_mesh(box: FileMesh, tmp_path: Path) -> None:
    picture = write_seen(tmp_path / "box.v2.glb", box)
    assert picture == seen_file(tmp_path / "box.v2.glb") == tmp_path / "box.v2.seen.png"
    assert box.atlas is not None
    with Image.open(picture) as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), box.atlas.seen)
    unseen = Atlas(box.atlas.uv, box.atlas.colors_srgb)
    with Image.open(
        write_seen(tmp_path / "a.glb", dataclasses.replace(box, atlas=unseen))
    ) as image:
        assert image.size == box.atlas.colors_srgb.shape[1::-1]
        assert not np.asarray(image).any()
    with pytest.raises(ValueError, match="the mesh has no texture"):
        write_seen(tmp_path / "b.glb", dataclasses.replace(box, atlas=None))


def test_usdz_without_usd_core_says_how_to_get_it(
    box: FileMesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pxr", None)
    monkeypatch.setitem(sys.modules, "pxr.Usd", None)
    for call in (lambda p: write_mesh(p, box), check_writable):
        with pytest.raises(ValueError, match=r"pip install 'lrm-cli\[usdz\]'"):
            call(tmp_path / "box.usdz")
    check_writable(tmp_path / "box.glb")
    assert not contents(tmp_path)


def test_the_material_of_an_unlit_obj_is_constant(box: FileMesh, tmp_path: Path) -> None:
    for unlit, illumination in ((False, b"illum 1"), (True, b"illum 0")):
        write_mesh(tmp_path / "box.obj", dataclasses.replace(box, unlit=unlit))
        lines = (tmp_path / "box.mtl").read_bytes().splitlines()
        assert [line for line in lines if line.startswith(b"illum")] == [illumination]


@pytest.mark.skipif(not HAS_USD, reason="usd-core is not installed")
@pytest.mark.parametrize("textured", [True, False])
def test_an_unlit_usdz_emits_its_colours(textured: bool, box: FileMesh, tmp_path: Path) -> None:
    from pxr import Usd, UsdShade

    mesh = box if textured else dataclasses.replace(box, atlas=None)
    connected = {}
    for unlit in (False, True):
        path = tmp_path / f"{unlit}.usdz"  # USD keeps what it has opened by name
        write_mesh(path, dataclasses.replace(mesh, unlit=unlit))
        stage = Usd.Stage.Open(str(path))
        surface = UsdShade.Shader.Get(stage, "/object/material/surface")
        connected[unlit] = [i.GetBaseName() for i in surface.GetInputs() if i.HasConnectedSource()]
    assert connected == {False: ["diffuseColor"], True: ["emissiveColor"]}
    assert surface.GetInput("diffuseColor").Get() == (0, 0, 0)
    assert surface.GetInput("ior").Get() == 1  # reflects nothing, not even at grazing angles


@pytest.mark.parametrize("stem", ["box", "my box"])
def test_an_objs_normal_map_is_named_for_all_who_read_it(
    stem: str, box: FileMesh, tmp_path: Path
) -> None:
    mesh = bumpy(box)
    path = tmp_path / f"{stem}.obj"
    write_mesh(path, mesh)
    texture, normals, material, _ = files_of(path, has_atlas=True, has_normal_map=True)
    assert normals.name.endswith(".normal.png")
    lines = material.read_text().splitlines()
    for keyword, picture in (("map_Kd", texture), ("norm", normals), ("map_bump", normals)):
        assert lines.count(f"{keyword} {picture.name}") == 1
    assert mesh.atlas is not None
    with Image.open(normals) as image:
        np.testing.assert_array_equal(np.asarray(image), mesh.atlas.normal_map)
    assert {texture, normals, material} <= set(side_files(path, path.read_bytes()))
    for read in (by_trimesh, by_us, by_vtk):  # and the colours are still found
        np.testing.assert_allclose(read(path).texture_colors, COLORS[BOX_FACES], atol=1)


@pytest.mark.skipif(not HAS_USD, reason="usd-core is not installed")
def test_a_usdz_has_its_normal_map_as_numbers(box: FileMesh, tmp_path: Path) -> None:
    from pxr import Usd, UsdShade

    write_mesh(tmp_path / "bumpy.usdz", bumpy(box), texture_format="jpeg")
    stage = Usd.Stage.Open(str(tmp_path / "bumpy.usdz"))
    surface = UsdShade.Shader.Get(stage, "/object/material/surface")
    source = surface.GetInput("normal").GetConnectedSources()[0][0].source
    texture = UsdShade.Shader(source.GetPrim())
    assert texture.GetInput("sourceColorSpace").Get() == "raw"
    assert texture.GetInput("scale").Get() == (2, 2, 2, 1)
    assert texture.GetInput("bias").Get() == (-1, -1, -1, 0)
    assert texture.GetInput("file").Get().path == "normal.png"


@pytest.mark.skipif(not HAS_USD, reason="usd-core is not installed")
@pytest.mark.parametrize("kind", ["matt", "unlit", "bumpy", "quads"])
@pytest.mark.parametrize("texture_format", ["png", "jpeg", "webp", None])
def test_usdz_passes_pixars_and_apples_rules(
    texture_format: str | None, kind: str, box: FileMesh, tmp_path: Path
) -> None:
    from pxr import Usd, UsdUtils

    path = tmp_path / "box.usdz"
    facts = {"model": "lrm-tiny", "steps": [1, 2]}
    box = bumpy(box) if kind == "bumpy" else dataclasses.replace(box, unlit=kind == "unlit")
    box = dataclasses.replace(box, quads=5 if kind == "quads" else 0)
    if texture_format is None:
        write_mesh(path, dataclasses.replace(box, atlas=None), facts)
    else:
        write_mesh(path, box, facts, texture_format=texture_format)
    data = path.read_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        for entry in archive.infolist():
            assert entry.compress_type == zipfile.ZIP_STORED
            assert data.index(archive.read(entry)) % 64 == 0
    picture = {None: [], "jpeg": ["texture.jpg"]}.get(texture_format, ["texture.png"])
    if kind == "bumpy" and texture_format is not None:
        picture = [*picture, "normal.png"]
    assert names == ["object.usdc", *picture]  # the layer first, in the binary form
    stage = Usd.Stage.Open(str(path))
    assert json.loads(stage.GetRootLayer().customLayerData["extras"]) == facts
    if hasattr(UsdUtils, "ComplianceChecker"):  # up to usd-core 26.3
        checker = UsdUtils.ComplianceChecker(arkit=True)
        checker.CheckCompliance(str(path))
        complaints = checker.GetErrors() + checker.GetFailedChecks() + checker.GetWarnings()
    else:
        from pxr import UsdValidation

        validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
        errors = UsdValidation.ValidationContext(validators).Validate(stage)
        complaints = [error.GetMessage() for error in errors]
    assert complaints == []
