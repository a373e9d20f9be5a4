"""What `lrm evaluate` does with an input: read, reconstruct where a model is tried, score, write.

Nothing heavy is imported until a worker loads it.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lrm_cli.batch.work import Carried, Place, Source, Stage
from lrm_cli.carried import model_files

if TYPE_CHECKING:
    from torch import Tensor

    from train.evaluation.baselines import Baseline
    from train.evaluation.cases import Case
    from train.evaluation.protocol import Protocol
    from train.evaluation.scoring import ObjectScore, Predictor
    from train.evaluation.shapes import Shape


@dataclass(frozen=True)
class _Scored:
    """An object on its way to its files."""

    source: Source
    score: ObjectScore


@dataclass(frozen=True)
class PredictionScorer:
    """Files of any method against their references: a `Work`.

    Attributes:
        references: by the names of the inputs; an input without one fails.
        where: the references' folder, for messages.
        names: of the objects, by the names of the inputs; they decide random cameras.
        pictures: whether the files are pictures, else meshes and point clouds.
        lit: whether predicted meshes are lit.
    """

    protocol: Protocol
    references: Mapping[str, Path]
    where: Path
    names: Mapping[str, str]
    pictures: bool
    up: str
    lit: bool
    stage_names: Sequence[str] = ("read", "score", "write")
    carried: Sequence[Carried] = ()

    def load(self, place: Place) -> Sequence[Stage]:
        """See `batch.work.Work`."""
        import torch

        from train.evaluation.scoring import ObjectScorer

        torch.set_num_threads(place.threads)
        scorer = ObjectScorer(self.protocol, torch.device(place.device), self.lit)

        def score(pair: tuple[Source, Any, Any]) -> _Scored:
            source, prediction, reference = pair
            if self.pictures:
                return _Scored(source, scorer.score_pictures(prediction[None], reference[None]))
            name = self.names[source.name]
            return _Scored(source, scorer.score_shapes(prediction, reference, name))

        return (Stage("read", self._read), Stage("score", score), Stage("write", _write))

    def _read(self, source: Source) -> tuple[Source, Any, Any]:
        reference = self.references.get(source.name)
        if reference is None:
            raise ValueError(f"there is no reference for it in {self.where}")
        prediction = self._open(source.path, self.up)
        try:
            truth = self._open(reference, self.up)
        except ValueError as error:
            raise ValueError(f"its reference cannot be used: {error}") from error
        return dataclasses.replace(source, content=b""), prediction, truth

    def _open(self, path: Path, up: str) -> Shape | Tensor:
        if not self.pictures:
            from train.evaluation.shapes import read_shape

            return read_shape(path, cast("Any", up))
        return _picture(path)


@dataclass(frozen=True)
class ModelScorer:
    """A model, or a baseline, tried on objects: a `Work`.

    Attributes:
        folder: the model's; None where a baseline stands in.
        data: the data set of the objects, or None where there are only meshes.
        meshes: by the names of the inputs.
    """

    protocol: Protocol
    folder: Path | None
    baseline: Baseline | None
    data: Path | None
    meshes: Mapping[str, Path]
    up: str
    lit: bool
    dtype: str
    split: str
    stage_names: Sequence[str] = ("read", "score", "write")

    @property
    def carried(self) -> Sequence[Carried]:
        """See `batch.work.Work`."""
        return model_files(self.folder)

    def load(self, place: Place) -> Sequence[Stage]:
        """See `batch.work.Work`."""
        import torch

        from train.evaluation.scoring import ObjectScorer
        from train.shards import ShardReader

        torch.set_num_threads(place.threads)
        device = torch.device(place.device)
        predictor = self._predictor(device, place)
        scorer = ObjectScorer(self.protocol, device, self.lit)
        reader = ShardReader(self.data, cast("Any", self.split)) if self.data else None
        records = {r.uid: i for i, r in enumerate(reader.records)} if reader else {}

        def read(source: Source) -> tuple[Source, Case]:
            from model.formats.meshes import read_mesh
            from train.evaluation.cases import case_of_mesh, case_of_views

            path = self.meshes.get(source.name)
            mesh = None if path is None else read_mesh(path, cast("Any", self.up), finite=True)
            if reader is not None and self.from_views:
                case = case_of_views(reader, records[source.name], self.protocol, mesh)
            elif mesh is None:
                raise ValueError("there is no reference mesh for it")
            else:
                case = case_of_mesh(source.name, mesh, self.protocol, predictor.view)
            if self.protocol.geometry.points and case.shape is None:
                raise ValueError("there is no reference mesh for it")
            return dataclasses.replace(source, content=b""), case

        def score(pair: tuple[Source, Case]) -> _Scored:
            return _Scored(pair[0], scorer.score_predictor(predictor, pair[1]))

        return (Stage("read", read), Stage("score", score), Stage("write", _write))

    @property
    def from_views(self) -> bool:
        """Whether inputs and references are a data set's views, and not rendered of meshes."""
        kinds = self.protocol.views.kind, self.protocol.inputs.kind
        return self.data is not None and kinds == ("paper", "views")

    def _predictor(self, device: Any, place: Place) -> Predictor:
        from train.evaluation.baselines import MeanShapePredictor, ReliefPredictor
        from train.evaluation.predictors import ModelPredictor

        if self.folder is not None:
            return ModelPredictor(place.local(self.folder), device, self.dtype)
        if self.baseline == "relief":
            return ReliefPredictor()
        assert self.data is not None
        return MeanShapePredictor([self.data])


def _picture(path: Path) -> Tensor:
    """(3, H, W) in 0..1, on white."""
    import numpy as np
    import torch

    from model.decoding import read_photo
    from train.pictures import composite_on_white

    pixels = np.array(read_photo(path).convert("RGBA"))[None]
    picture: torch.Tensor = composite_on_white(pixels)[0, :3]
    return picture


def _write(scored: _Scored) -> dict[str, Any]:
    """An object's files; returns its means, as the ledger keeps them."""
    import numpy as np

    from model.atomic import write_atomically
    from train.evaluation.strips import strip

    numbers, picture, *features = scored.source.outputs
    numbers.parent.mkdir(parents=True, exist_ok=True)
    if features:
        predicted, true = scored.score.features or (np.zeros((0, 0)), np.zeros((0, 0)))
        buffer = io.BytesIO()
        np.savez(buffer, predicted=predicted, true=true)
        write_atomically(features[0], buffer.getvalue())
    write_atomically(picture, strip(scored.score.shown))
    write_atomically(numbers, json.dumps(scored.score.to_json()).encode())
    return {"scores": scored.score.values}
