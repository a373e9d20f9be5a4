"""One object's field in a file of its own, to be asked or rendered without the model.

A safetensors file: the planes, the weights of MLP_nerf, and one metadata entry, a JSON text with
what else the field needs and where it came from. The MLP is small beside the planes; with it the
file stays what it is when the model's weights change.

Legend of shapes: C channels, R resolution.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from model.atomic import write_atomically
from model.cameras import BOX_MAX, BOX_MIN
from model.config import NerfConfig, ViewConfig
from model.nerf import Field, NerfMLP
from model.settings import build_dataclass

# The only entry: safetensors writes several in no fixed order, and the same field shall give the
# same bytes.
_ENTRY = "lrm.triplane"
_VERSION = 1
_PLANES, _MLP = "planes", "nerf."


@dataclass(frozen=True)
class TriplaneNotes:
    """What is known of a field besides its tensors.

    Attributes:
        model: name and digest of the model that made it.
        source: name of the picture.
        source_sha256: hex digest of its content.
        view: what the model takes for granted: the input's camera, background, samples per ray.
        file_from_world: (4, 4) from the box to the frame and metres of the mesh files, by rows.
    """

    model: dict[str, str]
    source: str
    source_sha256: str
    view: ViewConfig
    file_from_world: tuple[tuple[float, ...], ...]


def save_triplane(path: Path, field: Field, notes: TriplaneNotes) -> None:
    """Write a field; the same field and notes always give the same bytes.

    Nothing is lost: the planes are stored in the smallest type that holds their values, which is
    bfloat16 where the network computed in it.

    Raises:
        OSError: the folder cannot be written to.
    """
    about = {
        "version": _VERSION,
        "box_world": [BOX_MIN, BOX_MAX],
        "iso_density": field.iso_density,
        "nerf": dataclasses.asdict(field.mlp.config),
        **dataclasses.asdict(notes),
    }
    tensors = {_PLANES: _compact(field.planes.detach().cpu())}
    for name, value in field.mlp.state_dict().items():
        tensors[_MLP + name] = value.detach().cpu().contiguous()
    write_atomically(path, save(tensors, {_ENTRY: json.dumps(about)}))


def load_triplane(path: Path, device: torch.device | str = "cpu") -> tuple[Field, TriplaneNotes]:
    """Read what `save_triplane` wrote: a field that answers as the first one did, and its notes.

    Raises:
        ValueError: no such file, another kind of file, or one that is damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read ({error.strerror})") from None
    try:
        tensors = load(content)
    except SafetensorError:
        raise ValueError(f"{path.name} is cut off, or no safetensors file at all") from None
    about = _about(path, content)
    try:
        nerf = build_dataclass(NerfConfig, about["nerf"], "nerf")
        notes = _notes(about)
        iso_density = float(about["iso_density"])
    except KeyError as error:
        raise ValueError(
            f"{path.name} is a damaged triplane file: its metadata has no {error.args[0]}"
        ) from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path.name} is a damaged triplane file: {error}") from None
    _check_tensors(path, tensors, nerf)
    planes = tensors.pop(_PLANES).float()
    mlp = _mlp(nerf, planes)
    mlp.load_state_dict({name.removeprefix(_MLP): value for name, value in tensors.items()})
    mlp.eval().requires_grad_(False)
    return Field(planes.to(device), mlp.to(device), iso_density), notes


def _compact(planes: Tensor) -> Tensor:
    """The same values in 16 bits, where these hold them all."""
    for dtype in (torch.bfloat16, torch.float16):
        if torch.equal(planes.to(dtype).to(planes.dtype), planes):
            return planes.to(dtype).contiguous()
    return planes.contiguous()


def _about(path: Path, content: bytes) -> dict[str, Any]:
    """The metadata of a whole safetensors file: eight bytes of length, then a header in JSON."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    text = header.get("__metadata__", {}).get(_ENTRY)
    if text is None:
        raise ValueError(f"{path.name} is a safetensors file, but no triplane that lrm has saved")
    try:
        about = json.loads(text)
        version = about["version"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f"{path.name} is a damaged triplane file: its metadata is unreadable"
        ) from None
    if version != _VERSION:
        raise ValueError(
            f"{path.name} is a triplane file of version {version}; this lrm reads {_VERSION}"
        )
    if about.get("box_world") != [BOX_MIN, BOX_MAX]:
        raise ValueError(
            f"{path.name} has the box {about.get('box_world')}, which this lrm cannot read"
        )
    return about


def _notes(about: dict[str, Any]) -> TriplaneNotes:
    """See `load_triplane`; raises KeyError, TypeError or ValueError where something is amiss."""
    matrix = tuple(tuple(float(value) for value in row) for row in about["file_from_world"])
    if [len(row) for row in matrix] != [4] * 4:
        raise ValueError("file_from_world is no 4 × 4 matrix")
    return TriplaneNotes(
        model={str(key): str(value) for key, value in dict(about["model"]).items()},
        source=str(about["source"]),
        source_sha256=str(about["source_sha256"]),
        view=build_dataclass(ViewConfig, about["view"], "view"),
        file_from_world=matrix,
    )


def _check_tensors(path: Path, tensors: dict[str, Tensor], nerf: NerfConfig) -> None:
    planes = tensors.get(_PLANES)
    if planes is None:
        raise ValueError(f"{path.name} is a damaged triplane file: it has no planes")
    shape = tuple(planes.shape)
    if len(shape) != 4 or shape[0] != 3 or shape[2] != shape[3] or not planes.numel():
        raise ValueError(
            f"{path.name} is a damaged triplane file: its planes are {shape} instead of "
            "(3, C, R, R)"
        )
    with torch.device("meta"):
        wanted = {_MLP + k: tuple(v.shape) for k, v in _mlp(nerf, planes).state_dict().items()}
    found = {name: tuple(value.shape) for name, value in tensors.items() if name != _PLANES}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise ValueError(
                f"{path.name} is a damaged triplane file: its tensor {name} is "
                f"{found.get(name, 'missing')}, and {wanted.get(name, 'none')} belongs there"
            )
    for name, value in tensors.items():
        if not value.is_floating_point() or not bool(value.isfinite().all()):
            raise ValueError(
                f"{path.name} is a damaged triplane file: {name} holds no finite numbers"
            )


def _mlp(nerf: NerfConfig, planes: Tensor) -> NerfMLP:
    return NerfMLP(nerf, 3 * planes.shape[1])
