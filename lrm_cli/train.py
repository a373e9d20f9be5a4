"""`lrm train`: posed views in, a model out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from lrm_cli import console


@console.guarded
def train(
    data: Annotated[list[Path], typer.Argument(help="Data sets as `lrm preprocess` writes them.")],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="The run's folder; a run that stands there goes on."),
    ],
    recipe: Annotated[
        str, typer.Option("--recipe", "-r", help="A recipe's name or a YAML file.")
    ] = "lrm-tiny",
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be repeated."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, mps, cuda or cuda:N.")] = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the full recipe as YAML and stop.")
    ] = False,
    quiet: console.QuietFlag = False,
    debug: console.DebugFlag = False,
) -> None:
    """Train a model on data sets of posed views.

    Run the same command again to go on after an interruption: Ctrl-C and SIGTERM finish the
    current step and save it. The folder is a model that `lrm reconstruct --model` takes.
    """
    from model.device import choose_device
    from train.recipe import load_recipe

    with console.usage_errors():
        settings = load_recipe(recipe, changes)
        chosen = choose_device(device)
    if dry_run:
        import yaml

        console.result(yaml.safe_dump(settings.to_dict(), sort_keys=False).rstrip())
        return
    from train.trainer import train as run_training

    try:
        with console.usage_errors():
            done = run_training(data, settings, out, chosen, quiet)
    except FloatingPointError as error:
        console.fail(str(error))
    if not done:
        console.message(f"Stopped early; all steps so far are kept in {out}. Run again to go on.")
        raise typer.Exit(console.EXIT_INTERRUPTED)
    if not quiet and os.environ.get("RANK", "0") == "0":  # one voice under torchrun
        console.result(f"Trained. Try it: lrm reconstruct PHOTOS --out MESHES --model {out}")
