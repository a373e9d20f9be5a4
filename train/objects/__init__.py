"""§4.1 3D assets → posed views."""

from train.objects.cameras import CameraChoice, object_cameras, object_rng, paper_cameras
from train.objects.settings import LightingRecipe, ObjectSettings
from train.objects.views import (
    ObjectTask,
    RejectedError,
    check_object,
    object_views,
)

__all__ = [
    "CameraChoice",
    "LightingRecipe",
    "ObjectSettings",
    "ObjectTask",
    "RejectedError",
    "check_object",
    "object_cameras",
    "object_rng",
    "object_views",
    "paper_cameras",
]
