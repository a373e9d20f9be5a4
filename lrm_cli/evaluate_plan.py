"""What `lrm evaluate` compares with what: inputs, references, and what has no counterpart."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from lrm_cli.batch.command import Batch, BatchFlags, plan_batch, spread_over
from lrm_cli.batch.discovery import PICTURE_SUFFIXES, Input, Wanted
from lrm_cli.batch.shard import Shard
from lrm_cli.batch.work import Work, digest_of
from lrm_cli.evaluate_settings import EvaluateSettings
from lrm_cli.evaluator import ModelScorer, PredictionScorer

if TYPE_CHECKING:
    from train.evaluation.baselines import Baseline
    from train.evaluation.protocol import Protocol
    from train.shards import ObjectRecord


@dataclass(frozen=True)
class Plan:
    """An evaluation before it starts.

    Attributes:
        batch: of the inputs that are scored.
        work: what is done with each.
        identity: what an input is measured with or against: names and digests.
        inputs: of all parts of a job in `--shard`.
        names: of the objects, by the inputs' names.
        excluded: objects that have no input, and inputs that fit several, with the reason.
        passed_over: inputs of objects that have another one, which is taken.
    """

    batch: Batch
    work: Work
    identity: Callable[[Input], dict[str, str]]
    inputs: Sequence[Input]
    names: dict[str, str]
    excluded: dict[str, str] = field(default_factory=dict)
    passed_over: Sequence[str] = ()


def plan_predictions(
    flags: BatchFlags,
    settings: EvaluateSettings,
    protocol: Protocol,
    reference: Path,
    chosen: Sequence[str] | None,
) -> Plan:
    """Files of a method against the references of their names.

    Args:
        chosen: names of the objects; None: as the protocol draws them.

    Raises:
        ValueError: there is nothing to compare.
    """
    from train.evaluation.pairing import draw, find_references, match, object_name, of_last_part
    from train.evaluation.shapes import SHAPE_SUFFIXES

    wanted = Wanted((SHAPE_SUFFIXES, PICTURE_SUFFIXES), "prediction")
    whole = plan_batch(dataclasses.replace(flags, shard=None), settings, wanted)
    pictures = not any(item.path.suffix.lower() in SHAPE_SUFFIXES for item in whole.inputs)
    if pictures and not protocol.views.metrics:
        raise ValueError(f"protocol {protocol.name} compares no pictures, and these are pictures")
    references = find_references(reference, PICTURE_SUFFIXES if pictures else SHAPE_SUFFIXES)
    place = {i.name: object_name(PurePosixPath(i.name)) for i in whole.inputs}
    pairs = match(place.values(), references)
    drawn = chosen if chosen is not None else draw(references, protocol.objects, protocol.seed)
    if pictures and chosen is None:
        drawn = list(references)  # they are views of objects that nobody has named
    _require_known(drawn, references, reference)
    names = {name: pairs.get(own, own) for name, own in place.items()}
    excluded, taken, passed_over = dict[str, str](), dict[str, str](), list[str]()
    order = {suffix: rank for rank, suffix in enumerate(SHAPE_SUFFIXES)}
    for item in sorted(whole.inputs, key=lambda i: order.get(i.path.suffix.lower(), 0)):
        name = names[item.name]
        if name in references and name not in drawn:
            continue
        fitting = [] if name in references else of_last_part(name, references)
        if fitting:
            shown = " and ".join(fitting[:2])
            excluded[item.name] = f"its name fits {len(fitting)} references, such as {shown}"
        elif name in taken:
            passed_over.append(item.name)
        else:
            taken[name] = item.name
    missing = [name for name in drawn if name not in taken]
    excluded |= dict.fromkeys(missing, "there is no prediction of it")
    chosen_files = set(taken.values())
    inputs = [item for item in whole.inputs if item.name in chosen_files]
    known = [item for item in inputs if names[item.name] in references]
    if not known:
        names_seen = ", ".join(taken)[:100] or "none of them alone"
        raise ValueError(
            f"no prediction has a reference in {reference}: there are objects named "
            f"{', '.join(list(references)[:3])}, …, and predictions of {names_seen}"
        )
    work = PredictionScorer(
        protocol=protocol,
        references={item.name: references[names[item.name]] for item in known},
        where=reference,
        names=names,
        pictures=pictures,
        up=settings.up,
        lit=settings.lighting == "lit",
    )
    digest = functools.cache(_digest)

    def identity(item: Input) -> dict[str, str]:
        path = work.references.get(item.name)
        return {} if path is None else {"reference": names[item.name], "sha256": digest(path)}

    scored = {item.name: names[item.name] for item in inputs}
    part = _part_of(whole, flags, inputs)
    return Plan(part, work, identity, inputs, scored, excluded, passed_over)


def plan_model(
    flags: BatchFlags,
    settings: EvaluateSettings,
    protocol: Protocol,
    *,
    model: tuple[dict[str, str], Path] | None,
    baseline: Baseline | None,
    data: Path,
    reference: Path | None,
    split: str,
    chosen: Sequence[str] | None,
) -> Plan:
    """A model, or a baseline, on the objects of a data set or of a folder of meshes.

    Raises:
        ValueError: there is no such data, or the protocol needs meshes and there are none.
    """
    from model.formats.meshes import MESH_SUFFIXES
    from train.evaluation.cases import views_are_enough
    from train.evaluation.pairing import draw, find_references, match, object_name
    from train.evaluation.shapes import SHAPE_SUFFIXES
    from train.packing import member_key
    from train.shards import index_paths

    mesh_suffixes = [suffix for suffix in SHAPE_SUFFIXES if suffix in MESH_SUFFIXES]
    meshes: dict[str, Path] = {}
    items: dict[str, Input] = {}
    kinds: dict[str, list[str]] = {}
    is_dataset = bool(index_paths(data))
    if is_dataset:
        records = _records(data, split)
        if reference is not None:
            found = find_references(reference, mesh_suffixes)
            names = {uid: object_name(PurePosixPath(f"{uid}.x")) for uid in records}
            pairs = match(names.values(), found)
            meshes = {uid: found[pairs[n]] for uid, n in names.items() if n in pairs}
        elif not views_are_enough(protocol):
            raise ValueError(
                f"protocol {protocol.name} needs the objects' meshes, and a data set has only "
                "pictures: give their folder as --reference"
            )
        for uid, record in records.items():
            span = record.start, record.start + record.size
            items[uid] = Input(data / record.shard, uid, member_key(uid), span)
            kinds.setdefault(record.kind, []).append(uid)
    else:
        meshes = find_references(data, mesh_suffixes)
        items = {name: Input(path, name, name) for name, path in meshes.items()}
        kinds = {"synthetic": list(items)}
        if baseline == "mean-shape":
            raise ValueError("the mean shape is of a data set's training objects, not of meshes")
    if chosen is None:
        chosen = [n for each in kinds.values() for n in draw(each, protocol.objects, protocol.seed)]
    _require_known(chosen, items, data)
    names_chosen = set(chosen)
    inputs = [item for name, item in items.items() if name in names_chosen]
    identity = model[0] if model else {"name": f"baseline {baseline}"}
    if baseline == "mean-shape":
        identity["sha256"] = _digest_of_records(_records(data, "train"))
    work = ModelScorer(
        protocol=protocol,
        folder=model[1] if model else None,
        baseline=baseline,
        data=data if is_dataset else None,
        meshes=meshes,
        up=settings.up,
        lit=settings.lighting == "lit",
        dtype=settings.dtype,
        split=split,
    )
    digest = functools.cache(_digest)

    def identity_of(item: Input) -> dict[str, str]:
        path = meshes.get(item.name)
        return identity if path is None else {**identity, "reference_sha256": digest(path)}

    places = spread_over(flags, len(inputs))
    whole = Batch(flags, settings, inputs, places, None)
    own_names = {item.name: item.name for item in inputs}
    return Plan(_part_of(whole, flags, inputs), work, identity_of, inputs, own_names)


def _digest(path: Path) -> str:
    return digest_of(path, path.read_bytes()) if path.is_file() else "missing"


def _records(data: Path, split: str) -> dict[str, ObjectRecord]:
    from train.shards import read_index

    records = {r.uid: r for r in read_index(data) if r.split == split}
    if not records:
        raise ValueError(f"{data} has no objects in its {split} split")
    return records


def _digest_of_records(records: dict[str, ObjectRecord]) -> str:
    digest = hashlib.sha256()
    for uid, record in records.items():
        digest.update(f"{uid}\n{record.content}\n".encode())
    return digest.hexdigest()


def _require_known(chosen: Sequence[str], known: Container[str], where: Path) -> None:
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise ValueError(f"{where} has no object {unknown[0]!r}, which --objects names")


def _part_of(whole: Batch, flags: BatchFlags, inputs: Sequence[Input]) -> Batch:
    part = Shard.parse(flags.shard) if flags.shard else None
    mine = [item for item in inputs if part is None or part.takes(item.name)]
    places = spread_over(flags, len(mine))
    return dataclasses.replace(whole, flags=flags, inputs=mine, places=places, part=part)
