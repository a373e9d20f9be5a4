"""`lrm models`: which models there are, and what is in one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from lrm_cli import console

app = typer.Typer(help="Which models there are, and what is in one.", no_args_is_help=True)

_MARK_OF_PART = "of these "  # starts the name of a part that another part's number contains


@app.command("list")
@console.guarded
def list_models(json: console.JsonFlag = False, debug: console.DebugFlag = False) -> None:
    """List the models that ship with lrm, and the shapes that can be trained."""
    from model.config import PRESETS
    from model.folders import WEIGHTS_NAME, available_models, load_config, model_folder
    from model.lrm import parameter_counts

    shipped = available_models()
    entries: list[dict[str, Any]] = []
    for name in [*shipped, *(name for name in PRESETS if name not in shipped)]:
        folder = model_folder(name) if name in shipped else None
        config = load_config(folder) if folder else PRESETS[name]
        entries.append(
            {
                "name": name,
                "parameters": parameter_counts(config)["total"],
                "image_size": config.encoder.image_size,
                "bytes": (folder / WEIGHTS_NAME).stat().st_size if folder else None,
            }
        )
    if json:
        console.print_json(entries)
        return
    rows = [
        (
            entry["name"],
            f"{entry['parameters'] / 1e6:.1f} M",
            f"{entry['image_size']}²",
            f"{_megabytes(entry['bytes'])}, ships with lrm" if entry["bytes"] else "to be trained",
        )
        for entry in entries
    ]
    console.print_table(("name", ">parameters", ">picture", "weights"), rows)


@app.command("info")
@console.guarded
def show_model(
    model: Annotated[
        str, typer.Argument(metavar="NAME|DIR", help="A model's name, or its or a run's folder.")
    ],
    json: console.JsonFlag = False,
    debug: console.DebugFlag = False,
) -> None:
    """Show a model: parameters part by part, files, settings and card."""
    from model.config import PRESETS
    from model.folders import CARD_NAME, WEIGHTS_NAME, available_models, load_config, model_folder
    from model.lrm import parameter_counts

    folder: Path | None = None
    if model not in PRESETS or model in available_models():
        with console.usage_errors():
            folder = model_folder(model)
            config = load_config(folder)
    else:
        config = PRESETS[model]
    counts = parameter_counts(config)
    weights = folder / WEIGHTS_NAME if folder else None
    card = folder / CARD_NAME if folder and (folder / CARD_NAME).is_file() else None
    if json:
        console.print_json(
            {
                "name": config.name,
                "parameters": counts,
                "weights": str(weights) if weights else None,
                "bytes": weights.stat().st_size if weights else None,
                "card": str(card) if card else None,
                "config": config.to_dict(),
            }
        )
        return
    console.print_table(("part", ">parameters"), _part_rows(counts), title=config.name)
    if weights:
        console.result(f"Weights: {weights} ({_megabytes(weights.stat().st_size)})")
    else:
        console.result("Weights: none ship with lrm; `lrm train` makes them")
    console.print_table(("setting", "value"), _config_rows(config.to_dict()))
    if card:
        console.print_markdown(card.read_text(encoding="utf-8"))


def _part_rows(counts: dict[str, int]) -> Iterator[tuple[str, str]]:
    for part, count in counts.items():
        inner = part.startswith(_MARK_OF_PART)
        yield ("  " + part if inner else part), f"{count:,}"


def _config_rows(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _config_rows(value, f"{prefix}{key}.")
        else:
            yield prefix + key, str(value)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
