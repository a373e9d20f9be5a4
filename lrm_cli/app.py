"""The `lrm` command: registers the commands and imports nothing heavy."""

from __future__ import annotations

import signal
from typing import Annotated

import typer

from lrm_cli import console, models
from lrm_cli.evaluate import evaluate
from lrm_cli.preprocess import preprocess
from lrm_cli.reconstruct import reconstruct
from lrm_cli.render import render
from lrm_cli.train import train

app = typer.Typer(
    help="Photos to 3D assets in batches: the Large Reconstruction Model, from data to mesh.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # panels would take help 0.15 s longer, most of it Markdown's import
    pretty_exceptions_enable=False,
)
app.command()(reconstruct)
app.command()(render)
app.command()(preprocess)
app.command()(train)
app.command()(evaluate)
app.add_typer(models.app, name="models")


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"lrm {version('lrm-cli')}")
        raise typer.Exit


@app.callback()
def _lrm(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    console.show_all_names()


def main() -> None:
    """Run the command that the process was started with."""
    try:
        app(prog_name="lrm")
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Python's last moments have nothing to tear
