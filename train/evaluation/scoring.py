"""An object scored: pictures, surfaces, and a strip that shows both.

Legend of shapes: V views, H height, W width.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any
from typing import Protocol as TypingProtocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from model.camera_paths import Sphere
from model.cameras import SAFE_OBJECT_RADIUS, Cameras, normalizing_similarity, turn_cameras
from model.cells import RenderedField
from model.config import DensityUnit, ViewConfig
from model.field_rendering import FieldRenderer
from model.formats.meshes import MeshPart, TexturedMesh
from model.metrics.alignment import Matrix
from model.surface.extraction import SurfaceField, extract_mesh
from model.views import render_all
from train.evaluation.cases import Case, on_white, pictures_on_white, protocol_cameras
from train.evaluation.geometry import GeometryScore, score_geometry
from train.evaluation.pictures import PictureScorer
from train.evaluation.protocol import Protocol
from train.evaluation.shapes import Shape

NO_SURFACE = "a point cloud has no surface to render"
ONLY_PICTURES = "pictures have no surface to measure"


class PredictedField(SurfaceField, RenderedField, TypingProtocol):
    """What a predictor makes of a picture."""

    @property
    def density_per(self) -> DensityUnit:
        """See `NerfConfig.density_per`."""
        ...


class Predictor(TypingProtocol):
    """A model, or what stands in for one.

    Attributes:
        view: what it takes for granted about pictures.
    """

    @property
    def view(self) -> ViewConfig: ...

    def predict(self, photo: Image.Image, framing: Any, /) -> PredictedField:
        """The field of an RGBA picture, in the world of §4.2's input camera.

        Raises:
            ValueError: there is no object in the picture.
        """
        ...


@dataclass
class Shown:
    """What a strip shows, of the first input.

    Attributes:
        photo: the input, where there is one.
        predicted, target: (V, 3, H, W); none where no pictures are compared.
        surface: points and their distances, where surfaces are.
    """

    photo: Image.Image | None = None
    predicted: Tensor | None = None
    target: Tensor | None = None
    surface: GeometryScore | None = None


@dataclass
class ObjectScore:
    """What was measured of one object.

    Attributes:
        values: means over its views and inputs.
        views: of each input and view, what was measured of the picture.
        surfaces: of each input, what was measured of the surface, with `transform` (4, 4).
        unavailable: metrics that could not be had, and why.
        features: (V, F) of the predictions and the references, for FID.
        shown: the parts of the strip.
    """

    values: dict[str, float] = field(default_factory=dict)
    views: list[dict[str, float]] = field(default_factory=list)
    surfaces: list[dict[str, Any]] = field(default_factory=list)
    unavailable: dict[str, str] = field(default_factory=dict)
    features: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
    shown: Shown = field(default_factory=Shown)

    def to_json(self) -> dict[str, Any]:
        return {
            "scores": self.values,
            "unavailable": self.unavailable,
            "views": self.views,
            "surfaces": self.surfaces,
        }


class ObjectScorer:
    """A protocol, with what its metrics need loaded once.

    Args:
        lit: whether predicted meshes are lit as references are; else in their plain colours.
    """

    def __init__(self, protocol: Protocol, device: torch.device, lit: bool = False) -> None:
        # Metrics import it, and with it Triton, whose LLVM crashes the process where Mesa, which
        # draws meshes, has loaded its own before: so now, before anything is drawn.
        import torchvision  # noqa: F401

        self._protocol = protocol
        self._lit = lit
        self._pictures = PictureScorer(protocol.views.metrics, device)

    def score_pictures(self, predicted: Tensor, target: Tensor) -> ObjectScore:
        """Pictures of another method, (V, 3, H, W).

        Raises:
            ValueError: of different sizes.
        """
        score = self._start(Shown())
        score.unavailable |= dict.fromkeys(self._protocol.surface_metrics, ONLY_PICTURES)
        self._add_pictures(score, predicted, target, 0)
        return _finished(score)

    def score_shapes(self, prediction: Shape, reference: Shape, name: str) -> ObjectScore:
        """A shape of another method and its reference, of the same coordinates by intention.

        Raises:
            ValueError: nothing of the protocol can be measured of them.
        """
        score = self._start(Shown())
        if self._protocol.geometry.points:
            aligned = prediction.moved(self._add_surface(score, prediction, reference, 0))
        else:
            aligned = prediction
        mesh, true = aligned.mesh, reference.mesh
        if self._protocol.views.metrics and (mesh is None or true is None):
            # What no object has is told by the reason that no object has it.
            no_surface = dict.fromkeys(self._protocol.views.metrics, NO_SURFACE)
            score.unavailable = no_surface | score.unavailable
            if not self._protocol.geometry.points:
                raise ValueError(NO_SURFACE)
        elif self._protocol.views.metrics and mesh is not None and true is not None:
            world = _into_sphere(true)
            cameras = protocol_cameras(self._protocol.views, self._protocol.seed, name)
            size = self._protocol.views.size
            pictures = [
                pictures_on_white(moved, cameras, size, lit)
                for shape, lit in ((aligned, self._lit), (reference, True))
                if (moved := shape.moved(world).mesh) is not None
            ]
            self._add_pictures(score, pictures[0], pictures[1], 0)
        return _finished(score)

    def score_predictor(self, predictor: Predictor, case: Case) -> ObjectScore:
        """What a model makes of each of an object's inputs.

        Raises:
            ValueError: it makes no surface, or there is no object in an input.
        """
        protocol = self._protocol
        score = self._start(Shown(photo=Image.fromarray(case.photos[0])))
        distance = predictor.view.camera_distance
        for number, pixels in enumerate(case.photos):
            found = predictor.predict(Image.fromarray(pixels), protocol.inputs.framing)
            change = normalizing_similarity(case.photo_cameras[number], case.kind, distance)
            shape = None
            if protocol.geometry.points or protocol.views.shows == "mesh":
                shape = _surface(found, protocol.geometry.resolution, *change)
            if shape is not None and case.shape is not None and protocol.geometry.points:
                shape = shape.moved(self._add_surface(score, shape, case.shape, number))
            if not protocol.views.metrics:
                continue
            if shape is not None and shape.mesh is not None and protocol.views.shows == "mesh":
                size = case.targets.shape[-1]
                seen = pictures_on_white(shape.mesh, case.cameras, size, self._lit)
            else:
                seen = _pictures_of_field(
                    found, turn_cameras(case.cameras, *change), case, predictor
                )
            self._add_pictures(score, seen, case.targets, number)
        return _finished(score)

    def _start(self, shown: Shown) -> ObjectScore:
        return ObjectScore(unavailable=dict(self._pictures.unavailable), shown=shown)

    def _add_pictures(
        self, score: ObjectScore, predicted: Tensor, target: Tensor, number: int
    ) -> None:
        if number == 0:
            score.shown.predicted, score.shown.target = predicted, target
        scores = self._pictures.scores(predicted, target)
        for view in range(len(target)):
            numbers = {name: values[view] for name, values in scores.items()}
            score.views.append({"input": number, "view": view, **numbers})
        features = self._pictures.features(predicted), self._pictures.features(target)
        if features[0] is not None and features[1] is not None:
            before = score.features or (features[0][:0], features[1][:0])
            score.features = (
                np.concatenate([before[0], features[0]]),
                np.concatenate([before[1], features[1]]),
            )

    def _add_surface(
        self, score: ObjectScore, prediction: Shape, reference: Shape, number: int
    ) -> Matrix:
        found = score_geometry(prediction, reference, self._protocol.geometry, self._protocol.seed)
        score.surfaces.append(
            {"input": number, **found.values, "transform": found.transform.tolist()}
        )
        if number == 0:
            score.shown.surface = found
        return found.transform


def _pictures_of_field(
    found: PredictedField, cameras: Cameras, case: Case, predictor: Predictor
) -> Tensor:
    """(V, 3, H, W) as the targets are, from (V,) cameras of the model's world."""
    height, width = case.targets.shape[-2:]
    samples = predictor.view.samples_per_ray
    renderer = FieldRenderer(found, samples, density_per=found.density_per)
    each = [cameras[view] for view in range(len(case.targets))]
    with contextlib.closing(renderer):
        views = render_all(renderer, each, height, width)
        return torch.stack([on_white(view.colors, view.opacity) for view in views])


def _surface(found: PredictedField, resolution: int, rotation: Tensor, scale: float) -> Shape:
    """A field's surface, in the world from which the rotation and scale lead to the field's."""
    with torch.inference_mode():
        mesh = extract_mesh(found, resolution)
    opaque = np.full((len(mesh.colors_srgb), 1), 255, np.uint8)
    part = MeshPart(
        mesh.vertices_world,
        mesh.faces.astype(np.int64),
        (1.0, 1.0, 1.0, 1.0),
        vertex_colors=np.hstack([mesh.colors_srgb, opaque]),
    )
    back = np.eye(4)
    back[:3, :3] = rotation.T.numpy() / scale
    return Shape(TexturedMesh((part,))).moved(back)


def _into_sphere(mesh: TexturedMesh) -> Matrix:
    """(4, 4) as `TexturedMesh.fitted` moves a mesh."""
    sphere = Sphere.around(np.concatenate([part.vertices_world for part in mesh.parts]))
    matrix = np.eye(4)
    matrix[:3, :3] *= SAFE_OBJECT_RADIUS / sphere.radius
    matrix[:3, 3] = -np.array(sphere.center) * matrix[0, 0]
    return matrix


def _finished(score: ObjectScore) -> ObjectScore:
    """With the means of all that was measured; numbers that are none are refused."""
    for rows in (score.surfaces, score.views):
        names = [n for n in (rows[0] if rows else {}) if n not in ("input", "view", "transform")]
        score.values |= {name: float(np.mean([row[name] for row in rows])) for name in names}
    bad = [name for name, value in score.values.items() if not np.isfinite(value)]
    if bad:
        raise ValueError(f"{', '.join(bad)} is not a finite number")
    return score
