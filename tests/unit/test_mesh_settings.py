"""Settings of meshes: what is refused, what profiles set, which files come out."""

from __future__ import annotations

import sys
from typing import Any, get_args

import pytest

from lrm_cli import mesh_settings
from lrm_cli.mesh_settings import PROFILES, MeshSettings, with_profile
from lrm_cli.photo_settings import DTYPES, elevation_in, names_in
from model.device import DtypeName
from model.formats.draco import Compression
from model.formats.names import WRITABLE_SUFFIXES
from model.formats.pictures import TextureFormat
from model.surface.baking import SMALLEST_TEXTURE
from model.surface.file_frame import Origin
from model.surface.mesh import Topology
from model.surface.quads import FEWEST_QUADS
from model.surface.quality import FLAGS


def settings(**changes: Any) -> MeshSettings:
    values: dict[str, Any] = {
        "formats": ("glb",),
        "resolution": 64,
        "threshold": None,
        "faces": 1000,
        "topology": "triangles",
        "keep_floaters": False,
        "texture": 64,
        "texture_format": "png",
        "compression": "none",
        "project_photo": True,
        "save_visibility": False,
        "normal_map": False,
        "unlit": False,
        "length": 1.0,
        "origin": "center",
        "input_elevation": 0.0,
        "copyright": None,
        "fail_on": (),
        "matting": "auto",
        "matting_model": "isnet-general-use",
        "framing": "auto",
        "foreground_ratio": None,
        "save_inputs": False,
        "save_triplane": False,
        "turntable": False,
        "dtype": "auto",
    }
    return MeshSettings(**{**values, **changes})


def test_choices_are_those_of_the_model() -> None:
    """They are written down twice, so that checking them imports nothing heavy."""
    assert tuple(f".{name}" for name in mesh_settings.FORMATS) == WRITABLE_SUFFIXES
    assert get_args(TextureFormat) == mesh_settings.TEXTURE_FORMATS
    assert get_args(Compression) == mesh_settings.COMPRESSIONS
    assert get_args(Origin) == mesh_settings.ORIGINS
    assert get_args(Topology) == mesh_settings.TOPOLOGIES
    assert mesh_settings.FEWEST_QUADS == FEWEST_QUADS
    assert mesh_settings.FLAGS == FLAGS
    assert get_args(DtypeName) == DTYPES
    assert mesh_settings.TEXTURES[0] == SMALLEST_TEXTURE


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"formats": ()}, "--format names none of glb, obj"),
        ({"formats": ("glb", "x3d")}, "--format is 'x3d'; it must be one of glb, obj"),
        ({"texture_format": "bmp"}, "--texture-format is 'bmp'; it must be one of png"),
        ({"origin": "corner"}, "--origin is 'corner'; it must be one of center, base"),
        ({"fail_on": ("ugly",)}, "--fail-on is 'ugly'; it must be one of fragments"),
        ({"framing": "tight"}, "--framing is 'tight'"),
        ({"dtype": "int8"}, "--dtype is 'int8'"),
        ({"matting": "magic"}, "matting is 'magic'"),
        ({"resolution": 8}, "--resolution is 8; it must lie between 16 and 1024"),
        ({"threshold": 0.0}, "--threshold is 0; it must be a positive density"),
        ({"faces": 3}, "--faces is 3; it must be 0"),
        ({"compression": "zip"}, "--compression is 'zip'; it must be one of none, draco"),
        ({"compression": "draco", "formats": ("obj",)}, "--compression goes with GLB"),
        ({"topology": "hexagons"}, "--topology is 'hexagons'; it must be one of triangles, quads"),
        ({"topology": "quads", "faces": 0}, "--faces is 0; with --topology quads it must be"),
        ({"texture": 15}, "--texture is 15; it must be 0"),
        ({"texture": 0, "save_visibility": True}, "--save-visibility goes with a texture"),
        ({"project_photo": False, "save_visibility": True}, "--save-visibility goes with"),
        (
            {"formats": ("stl",), "save_visibility": True},
            "--save-visibility goes with formats that",
        ),
        ({"formats": ("stl", "ply"), "normal_map": True}, "add one of glb, obj, usdz, fbx"),
        ({"texture": 0, "normal_map": True}, "--normal-map goes with a texture"),
        ({"normal_map": True, "unlit": True}, "--normal-map is for light, which --unlit leaves"),
        ({"length": float("nan")}, "--length is nan"),
        ({"input_elevation": 120.0}, "--input-elevation is 120.0; it must be auto or lie from -90"),
        ({"input_elevation": float("nan")}, "--input-elevation is nan; it must be auto or lie"),
        ({"input_elevation": "steep"}, "--input-elevation is steep; it must be auto or lie"),
        ({"foreground_ratio": 0.0}, "--foreground-ratio is 0.0"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        settings(**changes)


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_can_be_used(name: str) -> None:
    chosen = with_profile(name)
    found = settings(
        formats=names_in(chosen.pop("format")),
        **{key: value for key, value in chosen.items() if key != "format"},
    )
    assert found.formats


def test_single_flags_take_precedence_over_a_profile() -> None:
    assert with_profile("web", faces=7, texture=None)["faces"] == 7
    assert with_profile("web", faces=7, texture=None)["texture"] == PROFILES["web"]["texture"]
    assert PROFILES["web"]["faces"] != 7
    assert with_profile("raw", texture=0, faces=0) == PROFILES["raw"]  # 0 is given, too
    with pytest.raises(ValueError, match="--profile is 'best'; it must be one of default, web"):
        with_profile("best")


def test_elevations_are_numbers_or_words() -> None:
    assert settings(input_elevation=elevation_in("-12.5")).input_elevation == -12.5
    assert settings(input_elevation=elevation_in("auto")).input_elevation == "auto"
    assert elevation_in("Auto") == "Auto"  # refused, like other names in capitals


def test_names_in_a_list() -> None:
    assert names_in(" GLB, obj,glb,") == ("glb", "obj")
    assert names_in("") == ()


@pytest.mark.parametrize(
    ("changes", "files"),
    [
        ({}, ["a/b.glb"]),
        ({"formats": ("stl", "glb")}, ["a/b.stl", "a/b.glb"]),
        (
            {"formats": ("obj", "ply")},
            ["a/b.texture.png", "a/b.mtl", "a/b.obj", "a/b.ply"],
        ),
        ({"formats": ("obj",), "texture": 0}, ["a/b.obj"]),
        (
            {"formats": ("glb", "obj", "ply"), "normal_map": True},
            ["a/b.glb", "a/b.texture.png", "a/b.normal.png", "a/b.mtl", "a/b.obj", "a/b.ply"],
        ),
        (
            {"save_visibility": True, "save_inputs": True, "save_triplane": True},
            ["a/b.glb", "a/b.seen.png", "a/b.triplane.safetensors", "a/b.input.png"],
        ),
    ],
)
def test_the_files_of_a_photo(changes: dict[str, Any], files: list[str]) -> None:
    assert settings(**changes).files_of("a/b") == files


def test_quads_without_their_extra_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynanoinstantmeshes", None)
    with pytest.raises(ValueError, match=r"--topology quads needs .*: pip install 'lrm-cli\[quads"):
        settings(topology="quads")
