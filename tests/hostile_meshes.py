"""Damaged and hostile mesh files of all formats, the same bytes on every call.

`write_hostile` leaves them in a folder. What reads them may make views of them or refuse them with
a sentence; it must not crash, hang, or take memory that the file's size does not justify.
`write_large` makes the one that is merely large.
"""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tests.hostile_gltf import glb_files, gltf_links, gltf_values, png, sound_gltf
from tests.hostile_texts import OBJ, dae_files, obj_files, ply_files, ply_header, stl_files

SUFFIXES = (".obj", ".glb", ".gltf", ".dae", ".ply", ".stl")


def write_hostile(folder: Path) -> list[Path]:
    """Some 250 files, zips among them; returns their paths in sorted order.

    Files that the system cannot name are left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, bytes] = {}
    makers = (glb_files, gltf_values, gltf_links, obj_files, ply_files, stl_files)
    for make in (*makers, dae_files, _renamed_files, _zip_files, _odd_names):
        made = make()
        assert not set(made) & set(files)
        files |= made
    paths = []
    for name, content in sorted(files.items()):
        path = folder / name
        try:
            path.write_bytes(content)
        except OSError:
            continue
        paths.append(path)
    return [path for path in paths if path.suffix.lower() in (*SUFFIXES, ".zip")]


def write_large(path: Path, triangles: int = 10_000_000) -> None:
    """A binary PLY of a bumpy sheet: sound, and only large."""
    side = int(np.ceil(np.sqrt(triangles / 2))) + 1
    y, x = np.mgrid[0:side, 0:side].astype("<f4") / side
    z = 0.2 * np.sin(20 * x) * np.cos(20 * y)
    corner = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).ravel()
    faces = np.concatenate(
        [
            np.stack([corner, corner + 1, corner + side], 1),
            np.stack([corner + 1, corner + side + 1, corner + side], 1),
        ]
    )[:triangles]
    rows = np.zeros(len(faces), [("count", "u1"), ("corners", "<i4", 3)])
    rows["count"], rows["corners"] = 3, faces
    with path.open("wb") as file:
        file.write(ply_header("binary_little_endian", side * side, len(faces)))
        file.write(np.stack([x, y, z], -1).astype("<f4").tobytes())
        file.write(rows.tobytes())


def _renamed_files() -> dict[str, bytes]:
    kinds = {
        "text": b"To be, or not to be, that is the question\n" * 40,
        "picture": png(32, 32),
        "empty": b"",
        "zeros": bytes(4000),
        "space": b" \n" * 500,
        "obj": OBJ.encode(),
        "binary": sound_gltf().glb(),
    }
    return {
        f"really-{kind}{suffix}": content
        for kind, content in kinds.items()
        for suffix in SUFFIXES
        if f"{kind}{suffix}" != "obj.obj"
    }


def _zip_files() -> dict[str, bytes]:
    def pack(files: Mapping[str, str | bytes], links: tuple[str, ...] = ()) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                info = zipfile.ZipInfo(name)
                info.compress_type = zipfile.ZIP_DEFLATED
                if name in links:
                    info.external_attr = (stat.S_IFLNK | 0o777) << 16
                archive.writestr(info, content)
        return buffer.getvalue()

    sound = pack({"m.obj": OBJ})
    locked = bytearray(sound)
    locked[6] |= 1
    locked[locked.rfind(b"PK\1\2") + 8] |= 1
    damaged = bytearray(sound)
    damaged[len("m.obj") + 34] ^= 255
    lies = bytearray(sound)
    struct.pack_into("<I", lies, lies.rfind(b"PK\1\2") + 24, 2**32 - 2)
    table = {
        "sound": sound,
        "up": pack({"m.obj": OBJ, "../x.obj": OBJ}),
        "root": pack({"/x.obj": OBJ}),
        "windows": pack({"..\\..\\x.obj": OBJ}),
        "drive": pack({"C:/x.obj": OBJ}),
        "link": pack({"x.obj": "/etc/hostname"}, links=("x.obj",)),
        "none": pack({"readme": "x"}),
        "no-files": pack({}),
        "locked": bytes(locked),
        "damaged": bytes(damaged),
        "lies": bytes(lies),
        "bomb": pack({"m.obj": OBJ, "m.png": bytes(100 * 2**20)}),
        "cut": sound[: len(sound) // 2],
        "cut-end": sound[:-5],
        "zip-in-zip": pack({"inner.zip": sound}),
        "both": pack({"m.obj": OBJ, "m.obj/a.png": "x"}),
        "long-name": pack({"x" * 300 + ".obj": OBJ}),
        "bad-mesh": pack({"m.glb": b"glTF"}),
        "many": pack({f"{i}.png": "" for i in range(25_000)} | {"m.obj": OBJ}),
        "no-zip": b"PK\5\6",
    }
    return {f"zip-{name}.zip": content for name, content in table.items()}


def _odd_names() -> dict[str, bytes]:
    """Sound files whose names are the trouble."""
    names = (
        "größe-椅子",
        "🪑",
        "new\nline",
        "escape\x1b[31m",
        "-rf",
        " ",
        "a" * 250,
        "%2e%2e",
        "dot.dot",
    )
    return {f"{name}.obj": OBJ.encode() for name in names} | {"SHOUT.OBJ": OBJ.encode()}
