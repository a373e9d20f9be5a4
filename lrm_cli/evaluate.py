"""`lrm evaluate`: predictions of any method, or a model, scored by a protocol of the field."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from lrm_cli import console, options
from lrm_cli.batch import storage
from lrm_cli.batch.command import BatchFlags, ItemsFailed, joined
from lrm_cli.evaluate_compare import WITH_COMPARE, compare_scores
from lrm_cli.evaluate_plan import Plan, plan_model, plan_predictions
from lrm_cli.evaluate_results import (
    COMMAND,
    gather,
    is_failed,
    missed_limits,
    show_excluded,
    show_passed_over,
    show_scores,
    write_scores,
)
from lrm_cli.evaluate_settings import BASELINES, SPLITS, EvaluateSettings, limits_in
from lrm_cli.photo_settings import check_choices, lines_in
from lrm_cli.photo_steps import find_model

if TYPE_CHECKING:
    from train.evaluation.baselines import Baseline
    from train.evaluation.protocol import Protocol
    from train.evaluation.scores import Scores


@console.guarded
def evaluate(
    context: typer.Context,
    predictions: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PREDICTION]",
            help="Meshes (GLB, glTF, OBJ, DAE, PLY, STL), point clouds (PLY, NPZ, NPY, XYZ) or "
            "pictures of any method; folders of them, patterns, lists (@list.txt). With --compare: "
            "scores.json files, or their folders.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            parser=options.named_path,
            metavar="DIR",
            help="Folder for scores.json, tables and pictures.",
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            parser=options.named_path,
            metavar="DIR|LIST.tsv",
            help="The true objects, named as the predictions are: in the layout of GSO, "
            "OmniObject3D, ABO or a plain folder; or a list of names and paths, a tab between.",
        ),
    ] = None,
    protocol: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="lrm, lrm-gso, sf3d, instantmesh, or a YAML.")
    ] = "lrm",
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME|DIR", help="Try this model on the objects of --data."),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="relief|mean-shape",
            help="In place of a model: the picture extruded, or what training objects have in "
            "common. They tell what a model's numbers are worth.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            parser=options.named_path,
            metavar="DIR",
            help="A data set of lrm preprocess, or a folder of meshes.",
        ),
    ] = None,
    split: Annotated[
        str, typer.Option(metavar="heldout|train", help="Which of a data set's objects.")
    ] = "heldout",
    objects: Annotated[
        Path | None,
        typer.Option(
            parser=options.named_path,
            metavar="FILE",
            help="Names of the objects, a line each, in place of a draw.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="In place of the protocol's.")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(metavar="PIXELS", help="Of pictures of meshes, in place of the protocol's."),
    ] = None,
    lighting: Annotated[
        str,
        typer.Option(
            metavar="protocol|lit|unlit",
            help="Of predicted meshes. References are lit; what a model predicts has its light in "
            "its colours and is shown unlit (protocol); materials without light need some (lit).",
        ),
    ] = "protocol",
    up: Annotated[
        str,
        typer.Option(
            metavar="auto|y|z",
            help="The meshes' up axis; auto: what a DAE says, z for PLY and STL not lrm's, else y.",
        ),
    ] = "auto",
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What the method is called in tables.")
    ] = None,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare", help="Compare evaluations, object by object, each with the first."
        ),
    ] = False,
    fail_below: Annotated[
        list[str] | None,
        typer.Option(metavar="METRIC=N", help="Exit with 1 where a mean is less: psnr=20."),
    ] = None,
    fail_above: Annotated[
        list[str] | None,
        typer.Option(metavar="METRIC=N", help="Exit with 1 where a mean is more: chamfer=0.1."),
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Also write an HTML report, DIR/report/index.html.")
    ] = False,
    dtype: options.DtypeOption = "auto",
    device: options.DeviceOption = "auto",
    jobs: options.JobsOption = None,
    cluster: options.ClusterOption = None,
    recursive: options.RecursiveFlag = True,
    shard: options.ShardOption = None,
    timeout: options.TimeoutOption = 0.0,
    overwrite: options.OverwriteFlag = False,
    dry_run: options.DryRunFlag = False,
    json: options.JsonFlag = False,
    quiet: options.QuietFlag = False,
    debug: options.DebugFlag = False,
) -> None:
    """Score predictions against references, or a model on a data set.

    lrm evaluate PREDICTIONS --reference REFERENCES --protocol sf3d --out scores, or
    lrm evaluate --model lrm-tiny --data DATA --protocol lrm --out scores. What is scored and
    unchanged is skipped when the command runs again. Exit code: 0 all is scored and within its
    limits, 1 some is not, 2 wrong usage.
    """
    if compare:
        with console.usage_errors():
            options.refuse_others(context, "--compare", WITH_COMPARE)
        compare_scores(predictions or [], out, json=json, quiet=quiet, report=report)
        return
    with console.usage_errors():
        if out is None:
            raise ValueError("--out is missing: the folder for scores.json")
        flags = BatchFlags(
            sources=predictions or [],
            out=out,
            recursive=recursive,
            device=device,
            jobs=jobs,
            batch_size=None,
            shard=shard,
            timeout=timeout,
            overwrite=overwrite,
            dry_run=dry_run,
            json=json,
            quiet=quiet,
            debug=debug,
            cluster=joined(cluster),
        )
        for flag, path in (("--reference", reference), ("--data", data)):
            storage.require_local(path or Path(), flag)
        check_choices("--split", (split,), SPLITS)
        check_choices("--baseline", (baseline,) if baseline else (), BASELINES)
        measured = _protocol(protocol, seed, size)
        below = limits_in("--fail-below", fail_below or (), measured.metrics)
        above = limits_in("--fail-above", fail_above or (), measured.metrics)
        settings = EvaluateSettings(
            protocol=measured.name,
            protocol_sha256=measured.digest,
            with_features="fid" in measured.views.metrics,
            up=up,
            lighting=lighting,
            dtype=dtype,
        )
        chosen = None if objects is None else lines_in("--objects", objects)
        if data is None and model is None and baseline is None:
            if not predictions or reference is None:
                raise ValueError(
                    "give predictions and their --reference, or --model (or --baseline) and --data"
                )
            plan = plan_predictions(flags, settings, measured, reference, chosen)
            method = name or Path(predictions[0]).name or "predictions"
        else:
            if predictions or data is None or (model is None) == (baseline is None):
                raise ValueError(
                    "--data takes one --model or --baseline, and these take --data, not predictions"
                )
            found = None if model is None else find_model(model)
            plan = plan_model(
                flags,
                settings,
                measured,
                model=found,
                baseline=cast("Baseline | None", baseline),
                data=data,
                reference=reference,
                split=split,
                chosen=chosen,
            )
            method = name or (found[0]["name"] if found else f"baseline {baseline}")
    _carry_out(plan, measured, settings, method, below, above, report)


def _carry_out(
    plan: Plan,
    protocol: Protocol,
    settings: EvaluateSettings,
    method: str,
    below: dict[str, float],
    above: dict[str, float],
    report: bool,
) -> None:
    from lrm_cli.report.evaluation import write_evaluation

    flags = plan.batch.flags
    written: list[tuple[Scores, str]] = []

    def write() -> Scores:
        scores = gather(plan, protocol, settings, method)
        written.append((scores, write_scores(scores, flags)))
        return scores

    def write_report() -> Path:
        return write_evaluation(write(), flags.folder)

    if plan.passed_over and not flags.quiet:
        show_passed_over(plan.passed_over)
    with suppress(ItemsFailed):  # which is no reason to keep the others' scores back
        pages = write_report if report else None
        plan.batch.carry_out(COMMAND, "Evaluating", plan.work, plan.identity, pages)
    if flags.dry_run:
        show_excluded(plan.excluded)
        return
    if not written:
        write()
    ((scores, path),) = written
    if not (flags.json or flags.quiet):
        console.result(f"Scores: {path}")
        show_scores(scores)
    show_excluded(scores.excluded)
    if missed_limits(scores, below, above) or is_failed(plan, scores):
        raise typer.Exit(console.EXIT_FAILED)


def _protocol(name: str, seed: int | None, size: int | None) -> Protocol:
    """A protocol with what the command line changes of it."""
    from dataclasses import replace

    from train.evaluation.protocol import load_protocol

    protocol = load_protocol(name)
    if seed is not None:
        protocol = replace(protocol, seed=seed)
    if size is not None:
        protocol = replace(protocol, views=replace(protocol.views, size=size))
    return protocol
