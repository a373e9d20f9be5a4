"""Whether data was taken by the camera that a model without camera input takes for granted.

Of the pictures of other cameras such a model would learn another size of things than that which
`lrm reconstruct` goes on taking for granted.
"""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from model.cameras import SAFE_OBJECT_RADIUS
from model.config import LrmConfig, ViewConfig
from train.recipe import DataConfig
from train.shards import ShardReader, UnreadableObjectError

_OBJECTS_TRIED = 64  # of each kind, from all over the data
_CLEAR = 0.05  # share of the focal length, or of a distance


def check_cameras(reader: ShardReader, config: DataConfig, model: LrmConfig) -> list[str]:
    """Look at the cameras of some objects, where the model has no input for them.

    Returns:
        Sentences to warn with.

    Raises:
        ValueError: rendered objects were seen with another field of view; it tells how to render
            them. Of videos nothing can be said but a warning.
    """
    if model.decoder.modulation != "none":
        return []
    copies = {"synthetic": config.synthetic_copies, "video": config.video_copies}
    warnings = []
    for kind, count in copies.items():
        records = [i for i, record in enumerate(reader.records) if record.kind == kind and count]
        for number in np.linspace(0, len(records) - 1, min(_OBJECTS_TRIED, len(records))):
            sentence = _misfit(reader, records[int(number)], model)
            if sentence:
                warnings.append(sentence)
                break
    return warnings


def preprocess_flags(view: ViewConfig) -> str:
    """What has `lrm preprocess` see objects as a model's photos show them.

    The nearest camera sees all of the object's ball and leaves it in the model's box; at the mean
    distance the ball fills as much of the picture as a photo's object does.
    """
    whole = SAFE_OBJECT_RADIUS / math.sin(math.radians(view.fov_degrees) / 2)
    nearest = max(whole, SAFE_OBJECT_RADIUS * view.camera_distance)
    farthest = max(nearest, whole * (2 / view.foreground_ratio - 1))
    distances = (math.ceil(distance * 10 - 1e-6) / 10 for distance in (nearest, farthest))
    return "--fov {:.3g} --radius-min {:g} --radius-max {:g}".format(view.fov_degrees, *distances)


def _misfit(reader: ShardReader, record: int, model: LrmConfig) -> str:
    """What of an object's cameras is not as the model takes it, if anything."""
    view, uid = model.view, reader.records[record].uid
    try:
        cameras = reader.cameras(record)
    except UnreadableObjectError:
        return ""  # training tells
    assumed = 0.5 / math.tan(math.radians(view.fov_degrees) / 2)
    focal = cameras.intrinsics[:, :2]
    flags = preprocess_flags(view)
    if ((focal / assumed).log().abs() > _CLEAR).any():
        found = _range_of_fov(focal)
        what = (
            f"{model.name} has no camera input and takes a field of view of {view.fov_degrees:.3g}°"
            f" for granted, and the views of {uid} have {found}"
        )
        if reader.records[record].kind == "video":
            return f"{what}: it learns from them as if they had not"
        another = (
            f", or have the model learn that camera with --set model.view.fov_degrees={found[:-1]} "
            "--set model.view.camera_distance=2"
        )
        another *= " to " not in found
        raise ValueError(
            f"{what}: make the data with `lrm preprocess SOURCE --out DIR {flags}`{another}"
        )
    nearest = float(cameras.positions_world.norm(dim=-1).min())
    fits = SAFE_OBJECT_RADIUS * view.camera_distance
    if reader.records[record].kind == "synthetic" and nearest < fits * (1 - _CLEAR):
        return (
            f"a camera of {uid} stands at {nearest:.2f}: brought to {view.camera_distance:.2f}, "
            f"where {model.name} takes it to be, objects may leave its box; `lrm preprocess` "
            f"makes data for it with {flags}"
        )
    return ""


def _range_of_fov(focal: Tensor) -> str:
    """The fields of view of focal lengths, in whole degrees."""
    degrees = [math.degrees(2 * math.atan(0.5 / float(f))) for f in (focal.max(), focal.min())]
    low, high = (f"{d:.0f}" for d in degrees)
    return f"{low}°" if low == high else f"{low} to {high}°"
