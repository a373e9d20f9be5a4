"""The flags that several commands have, the same everywhere: their names, their help."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import Annotated

import typer

from lrm_cli.console import DebugFlag, JsonFlag, QuietFlag

__all__ = ["DebugFlag", "JsonFlag", "QuietFlag"]  # and all below


def named_path(name: str) -> Path:
    """The file or folder that an option or an argument names.

    Raises:
        typer.BadParameter: nothing, as a variable that is not set; `Path` would take it for the
            current folder.
    """
    if not name:
        raise typer.BadParameter("the name is empty")
    return Path(name)


def refuse_others(context: typer.Context, flag: str, allowed: Container[str]) -> None:
    """See that beside a flag only some others of its command are given.

    Args:
        allowed: parameters of the command's function, the flag's own among them.

    Raises:
        ValueError: another one is given.
    """
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        is_given = source is not None and source.name != "DEFAULT"
        if is_given and parameter.param_type_name == "option" and name not in allowed:
            other = "/".join([parameter.opts[0], *parameter.secondary_opts])
            raise ValueError(f"{other} does not go with {flag}")


# What photos become fields with.

ModelOption = Annotated[
    str, typer.Option(metavar="NAME|DIR", help="A model's name, or its or a run's folder.")
]
DtypeOption = Annotated[str, typer.Option(metavar="NAME", help="auto, fp32, bf16 or fp16.")]
MattingOption = Annotated[
    str,
    typer.Option(
        metavar="auto|alpha|rembg|none",
        help="How objects are cut out: by a picture's transparency where it has some, else "
        "by rembg (auto); only by transparency, so that photos without fail (alpha); always "
        "by rembg; or not at all (none).",
    ),
]
MattingModelOption = Annotated[
    str, typer.Option(metavar="NAME", help="Which of rembg's networks cuts out.")
]
FramingOption = Annotated[
    str, typer.Option(metavar="auto|none", help="Centre and rescale the object, or not.")
]
InputElevationOption = Annotated[
    str,
    typer.Option(
        metavar="DEGREES|auto",
        help="How far from above the photos were taken; objects are turned upright by it. "
        "auto: by what each mesh stands on, where that is clear.",
    ),
]

# How a batch is done.

OutOption = Annotated[
    Path,
    typer.Option(
        parser=named_path,
        metavar="DIR|URL",
        help="Folder for what is made, and results.jsonl; also in a bucket (s3://, gs://, az://, "
        "hf://), as sources may be.",
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="auto, cpu, mps, cuda, or some of the GPUs (cuda:0,2). auto and cuda take all "
        "GPUs, each with a process of its own.",
    ),
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="On the CPU: processes, which share its cores (default: as many as cores and "
        "memory allow, at most 8). On GPUs: threads for each that prepare inputs and finish "
        "results (default: the cores' share, at most 8).",
    ),
]
ClusterOption = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS|auto",
        help="Work on all nodes of a Ray cluster, that of HOST:PORT or the one that this machine "
        "is part of (auto). Sources and --out must be on storage that all nodes share, or in a "
        "bucket. --jobs: processes on all nodes together.",
    ),
]
BatchSizeOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Photos through the network at once (default: 1 on the CPU, 8 on GPUs).",
    ),
]
RecursiveFlag = Annotated[
    bool, typer.Option("--recursive/--no-recursive", help="Look into folders of folders.")
]
ShardOption = Annotated[
    str | None,
    typer.Option(metavar="I/N", help="Do only the I-th of N parts: one job on each machine."),
]
TimeoutOption = Annotated[
    float,
    typer.Option(metavar="SECONDS", help="Give an input up after so much work; 0: never."),
]
OverwriteFlag = Annotated[bool, typer.Option("--overwrite", help="Redo what is done.")]
DryRunFlag = Annotated[bool, typer.Option("--dry-run", help="List what would be done.")]
