"""`lrm train`: posed views in, a model out."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lrm_cli import console, options
from lrm_cli.batch import storage

if TYPE_CHECKING:
    from train.recipe import Recipe


@console.guarded
def train(
    data: Annotated[
        list[Path] | None,
        typer.Argument(
            parser=options.named_path,
            metavar="DATA",
            help="Data sets as `lrm preprocess` writes them.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            parser=options.named_path,
            metavar="DIR",
            help="The run's folder; a run that stands there goes on.",
        ),
    ] = None,
    recipe: Annotated[
        str, typer.Option("--recipe", "-r", help="A recipe's name or a YAML file.")
    ] = "lrm-tiny",
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be repeated."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, mps, cuda or cuda:N.")] = "auto",
    gpus: Annotated[
        int | None,
        typer.Option(
            help="Processes of one GPU each: started here, or, where this machine has fewer, "
            "written into a batch script for Slurm."
        ),
    ] = None,
    gpus_per_node: Annotated[int, typer.Option(help="Of the cluster, for the script.")] = 8,
    submit: Annotated[bool, typer.Option("--submit", help="Hand the script to Slurm.")] = False,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Print FLOPs, memory and days of --gpus, and stop."),
    ] = False,
    plan_gpu: Annotated[str, typer.Option(help="a100, h100 or h200.")] = "a100",
    plan_efficiency: Annotated[
        float | None,
        typer.Option(help="Share of the GPU's datasheet rate that training reaches.", max=1.0),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the full recipe as YAML and stop.")
    ] = False,
    quiet: console.QuietFlag = False,
    debug: console.DebugFlag = False,
) -> None:
    """Train a model on data sets of posed views.

    Run the same command again to go on after an interruption: Ctrl-C and SIGTERM finish the
    current step and save it. The folder is a model that `lrm reconstruct --model` takes.

    To teach a published model further: `--recipe finetune --set run.init_from=triposr`.
    """
    from train.recipe_files import load_recipe

    with console.usage_errors():
        for path in data or ():
            storage.require_local(path, "data sets to train on")
        storage.require_local(out or Path(), "--out")
        if out is not None and out.is_file():
            raise ValueError(f"--out {out} is a file; it must be the run's folder")
        settings = load_recipe(recipe, changes, out)
    if dry_run:
        import yaml

        console.result(yaml.safe_dump(settings.to_dict(), sort_keys=False).rstrip())
        return
    if plan:
        _show_plan(data or [], settings, 1 if gpus is None else gpus, plan_gpu, plan_efficiency)
        return
    if not data:
        console.fail_usage("name at least one data set to train on")
    if out is None:
        console.fail_usage("--out is missing: the run's folder")
    _launch(data, settings, out, device, gpus, gpus_per_node, submit)
    _train_here(data, settings, out, device, quiet, debug)


def _show_plan(
    data: list[Path], settings: Recipe, gpus: int, gpu_name: str, efficiency: float | None
) -> None:
    from train.dataset import TrainingSamples
    from train.plan import GPUS, PAPER_SAMPLES_PER_EPOCH, plan_rows, plan_training
    from train.shards import ShardReader

    with console.usage_errors():
        if gpu_name not in GPUS:
            raise ValueError(f"--plan-gpu is {gpu_name!r}; it must be one of {', '.join(GPUS)}")
        samples = PAPER_SAMPLES_PER_EPOCH
        if data:
            reader = ShardReader(data, split="train")
            samples = len(TrainingSamples(reader, settings.data, 0, settings.run.seed))
        plan = plan_training(settings, gpus, GPUS[gpu_name], efficiency, samples)
    rows = plan_rows(plan)
    width = max(len(label) for label, _ in rows)
    for label, value in rows:
        console.result(f"{label:<{width}}  {value}")


def _launch(
    data: list[Path],
    settings: Recipe,
    out: Path,
    device: str,
    gpus: int | None,
    gpus_per_node: int,
    submit: bool,
) -> None:
    """Return where this process is to train; end the command where others are."""
    import shlex

    from train import launch, slurm
    from train.assumed_camera import check_cameras
    from train.parallel import Group
    from train.shards import ShardReader

    with console.usage_errors():
        single = gpus is None and ":" in device
        here = 1 if single else launch.gpus_of_this_machine(device)
        chosen = launch.choose_launch(gpus, here, os.environ, gpus_per_node, submit)
        if isinstance(chosen, launch.StartProcesses):  # else each of them would say so
            Group(size=chosen.count).share(range(settings.run.batch_size))
            reader = ShardReader(data, split="train")
            check_cameras(reader, settings.data, settings.model)
    if isinstance(chosen, launch.Here):
        os.environ.update(chosen.variables)
        return
    command = launch.own_command(sys.argv[1:])
    if isinstance(chosen, launch.StartProcesses):
        raise typer.Exit(launch.start_processes(chosen.count, command))
    script = slurm.write_script(chosen, out, command)
    if submit:
        with console.usage_errors():
            job = slurm.submit(script, os.environ)
        console.result(f"Slurm's job {job} will train; its log and checkpoints go to {out}")
    else:
        console.result(
            f"Nothing is trained yet. Hand this to Slurm: sbatch {shlex.quote(str(script))}"
        )
    raise typer.Exit


def _train_here(
    data: list[Path], settings: Recipe, out: Path, device: str, quiet: bool, debug: bool
) -> None:
    from model.environment import keep_to_share, use_large_pages

    keep_to_share()
    use_large_pages()
    from model.device import choose_device
    from train.trainer import BrokenOffError
    from train.trainer import train as run_training

    with console.usage_errors():
        chosen = choose_device(device)
    try:
        with console.usage_errors(), console.plain_warnings():
            ended = run_training(data, settings, out, chosen, quiet)
    except (FloatingPointError, BrokenOffError) as error:
        if debug:
            raise
        console.fail(str(error))
    speaks = os.environ.get("RANK", "0") == "0"  # one voice for all processes
    if ended.early:
        if speaks:
            console.message(
                f"Stopped early; all steps so far are kept in {out}. Run again to go on."
            )
        raise typer.Exit(console.EXIT_INTERRUPTED)
    if not speaks or quiet:
        return
    said = "Trained."
    if ended.before == ended.step:
        asked = f", more than the {ended.total} asked for" if ended.step > ended.total else ""
        said = f"The run has {ended.step} steps already{asked}: nothing was done."
    console.result(f"{said} Try it: lrm reconstruct PHOTOS --out MESHES --model {out}")
