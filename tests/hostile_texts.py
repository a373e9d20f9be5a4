"""Damaged and hostile OBJ, PLY, STL and COLLADA files; see hostile_meshes."""

from __future__ import annotations

import io
import struct
import zipfile
from typing import Any

import numpy as np

from tests import collada_files as collada
from tests.gltf_files import TRIANGLE
from tests.hostile_gltf import png

OBJ = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 3\nf 1 4 2\n"


def obj_files() -> dict[str, bytes]:
    points = "v 0 0 0\nv 1 0 0\nv 0 1 0\n"
    table = {
        "outside": points + "f 1 2 4000000000\n",
        "zero": points + "f 0 1 2\n",
        "negative": points + "f -1 -2 -3\n",
        "negative-outside": points + "f -1 -2 -99\n",
        "fractions": points + "f 1.5 2 3\n",
        "words": points + "f a b c\n",
        "nan": points.replace("1 0 0", "nan 0 0") + "f 1 2 3\n",
        "infinite": points.replace("1 0 0", "inf 0 0") + "f 1 2 3\n",
        "huge": points.replace("1", "1e300") + "f 1 2 3\n",
        "large": points.replace("1", "1e150") + "f 1 2 3\n",
        "tiny": points.replace("1", "1e-300") + "f 1 2 3\n",
        "small": points.replace("1", "1e-30") + "f 1 2 3\n",
        "overflow": points.replace("1", "1e999") + "f 1 2 3\n",
        "far": "v 1e15 0 0\nv 1e15 1 0\nv 1e15 0 1\nf 1 2 3\n",
        "no-area": points + "f 1 1 1\nf 1 2 2\n",
        "one-line": "v 0 0 0\nv 1 1 1\nv 2 2 2\nf 1 2 3\n",
        "only-points": points,
        "only-faces": "f 1 2 3\n",
        "lines": points + "l 1 2 3\n",
        "short-vertices": "v 0 0\nv 1 0\nv 0 1\nf 1 2 3\n",
        "no-numbers": "v\nv\nv\nf 1 2 3\n",
        "mixed": OBJ + "vt 0 0\nf 1/1 2 3\nf 1//1 2//2 3/1/1\n",
        "slashes": points + "f 1/// 2/ /3\n",
        "comment": "# nothing\n",
        "continued": points + "f 1 2 \\\n3\\",
        "crlf": OBJ.replace("\n", "\r\n"),
        "no-material": "mtllib gone.mtl\nusemtl m\n" + OBJ,
        "itself": "mtllib obj-itself.obj\n" + OBJ,
        "endless-material": "mtllib /dev/zero\n" + OBJ,
        "folder-material": "mtllib .\n" + OBJ,
        "no-name": "mtllib\n" + OBJ,
        "no-picture": "mtllib picture-gone.mtl\nusemtl m\n" + OBJ,
        "endless-picture": "mtllib picture-endless.mtl\nusemtl m\n" + OBJ,
        "vast-picture": "mtllib picture-vast.mtl\nusemtl m\nvt 0 0\n" + OBJ.replace("2 3", "2/1 3"),
        "binary-material": "mtllib binary.mtl\nusemtl m\n" + OBJ,
        "materials-many": OBJ + "".join(f"usemtl m{i}\nf 1 2 3\n" for i in range(3000)),
        "objects-many": OBJ + "".join(f"o o{i}\nf 1 2 3\n" for i in range(3000)),
        "polygon": points + "f " + "1 2 3 " * 50_000 + "\n",
        "long-number": "v " + "1" * 10**6 + " 0 0\n",
        "many-columns": "v " + "1 " * 10**5 + "\n" + OBJ,
        "ragged-colors": "v 0 0 0 1 0 0\n" + OBJ,
    }
    files = {f"obj-{name}.obj": text.encode() for name, text in table.items()}
    files |= {
        "obj-nul.obj": OBJ.encode() + bytes(100),
        "obj-utf16.obj": OBJ.encode("utf-16"),
        "obj-latin.obj": b"o caf\xe9\n" + OBJ.encode(),
        "obj-binary.obj": bytes(range(256)) * 40,
        "picture-gone.mtl": b"newmtl m\nmap_Kd gone.png\n",
        "picture-endless.mtl": b"newmtl m\nmap_Kd /dev/zero\n",
        "picture-vast.mtl": b"newmtl m\nKd x y z\nd much\nmap_Kd vast.png\n",
        "vast.png": png(60_000, 60_000, rows=b""),
        "binary.mtl": bytes(range(256)) * 10,
    }
    return files


def ply_header(form: str, vertices: Any, faces: Any, more: str = "") -> bytes:
    return (
        f"ply\nformat {form} 1.0\nelement vertex {vertices}\nproperty float x\nproperty float y\n"
        f"property float z\n{more}element face {faces}\nproperty list uchar int vertex_indices\n"
        "end_header\n"
    ).encode()


def ply_files() -> dict[str, bytes]:
    body = TRIANGLE.tobytes() + b"\x03" + np.arange(3, dtype="<i4").tobytes()
    text = b"0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"
    binary = "binary_little_endian"
    files = {}
    for number in (2**40, 2**31, 10**6, -1, 0, "x", 1.5):
        files[f"ply-vertices-{number}.ply"] = ply_header(binary, number, 1) + body
        files[f"ply-faces-{number}.ply"] = ply_header(binary, 3, number) + body
        files[f"ply-text-vertices-{number}.ply"] = ply_header("ascii", number, 1) + text
        files[f"ply-text-faces-{number}.ply"] = ply_header("ascii", 3, number) + text
    sound = ply_header(binary, 3, 1) + body
    ends = np.linspace(2, len(sound) - 1, 8).astype(int)
    files |= {f"ply-cut-{end:03d}.ply": sound[:end] for end in ends}
    long_list = TRIANGLE.tobytes() + struct.pack("<I", 2**32 - 1) + bytes(12)
    files |= {
        "ply-long-list.ply": ply_header(binary, 3, 1).replace(b"uchar int", b"uint int")
        + long_list,
        "ply-no-end.ply": sound.replace(b"end_header\n", b""),
        "ply-kind.ply": sound.replace(b"float x", b"quad x"),
        "ply-form.ply": sound.replace(b"little", b"middle"),
        "ply-outside.ply": ply_header("ascii", 3, 1) + text.replace(b"3 0 1 2", b"3 0 1 99"),
        "ply-negative.ply": ply_header("ascii", 3, 1) + text.replace(b"3 0 1 2", b"3 0 1 -2"),
        "ply-nan.ply": ply_header("ascii", 3, 1) + text.replace(b"1 0 0", b"nan 0 0"),
        "ply-points.ply": ply_header("ascii", 3, 0) + text[:18],
        "ply-wide.ply": ply_header(
            "ascii", 3, 1, "".join(f"property float p{i}\n" for i in range(5000))
        )
        + text,
        "ply-endless-header.ply": b"ply\nformat ascii 1.0\n" + b"comment x\n" * 200_000,
        "ply-no-text.ply": b"ply\n" + bytes(range(128, 256)) * 20,
    }
    return files


def stl_files() -> dict[str, bytes]:
    record = struct.pack("<12fH", 0, 0, 1, *TRIANGLE.ravel().tolist(), 0)
    files = {
        f"stl-count-{count}.stl": bytes(80) + struct.pack("<I", count) + record
        for count in (0, 2, 10**6, 2**31, 2**32 - 1)
    }
    text = "solid a\nfacet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 1 0\n"
    text += "endloop\nendfacet\nendsolid a\n"
    strange = struct.pack("<12fH", 0, 0, 1, *[float("nan")] * 9, 0)
    far = struct.pack("<12fH", 0, 0, 1, *[3e38, 0, 0, -3e38, 0, 0, 0, 3e38, 0], 0)
    files |= {
        f"stl-cut-{end}.stl": (bytes(80) + b"\1\0\0\0" + record)[:end] for end in (1, 80, 84, 100)
    }
    files |= {
        "stl-nan.stl": bytes(80) + b"\1\0\0\0" + strange,
        "stl-far.stl": bytes(80) + b"\1\0\0\0" + far,
        "stl-solid-binary.stl": b"solid".ljust(80) + b"\1\0\0\0" + record,
        "stl-text.stl": text.encode(),
        "stl-text-cut.stl": text[:60].encode(),
        "stl-text-words.stl": text.replace("1 0 0", "one 0 0").encode(),
        "stl-text-empty.stl": b"solid a\nendsolid a\n",
        "stl-text-two-corners.stl": text.replace("vertex 1 0 0\n", "").encode(),
    }
    return files


def dae_files() -> dict[str, bytes]:
    sound = collada.text()
    head = '<?xml version="1.0"?>\n'
    laughs = '<!ENTITY a "ha">' + "".join(
        f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9)
    )
    outside = '<!ENTITY a SYSTEM "/etc/hostname">'
    circle = '<library_nodes><node id="n"><instance_node url="#n"/></node></library_nodes>'
    deep = "<node>" * 150 + collada.PLACED + "</node>" * 150
    table = {
        "sound": sound,
        "broken": sound[: len(sound) // 2],
        "no-xml": "COLLADA",
        "html": "<html/>",
        "laughs": f"{head}<!DOCTYPE x [{laughs}]><COLLADA>&j;</COLLADA>",
        "outside-entity": f"{head}<!DOCTYPE x [{outside}]><COLLADA>&a;</COLLADA>",
        "deep": head + "<a>" * 100_000,
        "deep-closed": head + "<a>" * 5000 + "</a>" * 5000,
        "empty": collada.text(nodes=""),
        "circle": collada.text(nodes='<node><instance_node url="#n"/></node>', libraries=circle),
        "deep-nodes": collada.text(nodes=deep),
        "node-gone": collada.text(nodes='<node><instance_node url="#x"/></node>'),
        "geometry-gone": sound.replace("#g", "#x"),
        "material-gone": sound.replace("#mat", "#x"),
        "index-outside": sound.replace("0 0 1 1 2 2", "0 0 1 1 99 2"),
        "index-negative": sound.replace("0 0 1 1 2 2", "0 0 1 1 -9 2"),
        "index-huge": sound.replace("0 0 1 1 2 2", "0 0 1 1 99999999999999999999 2"),
        "index-few": sound.replace("0 0 1 1 2 2", "0 0 1"),
        "count": sound.replace('count="1"', 'count="1000000000"'),
        "count-floats": sound.replace('count="9"', 'count="9999999999"'),
        "stride": sound.replace('stride="3"', 'stride="0"'),
        "words": sound.replace("0 0 0 1 0 0 0 2 3", "a b c d e f g h i"),
        "nan": sound.replace("0 0 0 1 0 0 0 2 3", "0 0 0 NaN 0 0 0 2 3"),
        "offset": sound.replace('offset="1"', 'offset="1000000"'),
        "axis": sound.replace("<unit", "<up_axis>W_UP</up_axis><unit"),
        "unit": sound.replace('meter="1"', 'meter="0"'),
        "unit-nan": sound.replace('meter="1"', 'meter="nan"'),
        "unit-words": sound.replace('meter="1"', 'meter="foot"'),
        "matrix": collada.text(nodes=f"<node><matrix>1 2</matrix>{collada.PLACED}</node>"),
        "picture-endless": collada.text(look=collada.PICTURE, image="/dev/zero"),
        "picture-vast": collada.text(look=collada.PICTURE, image="vast.png"),
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo("doc.dae"), sound)
    files = {f"dae-{name}.dae": text.encode() for name, text in table.items()}
    return files | {"dae-packed.dae": packed.getvalue(), "dae-utf16.dae": sound.encode("utf-16")}
