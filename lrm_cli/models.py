"""`lrm models`: which models there are, what is in one, and others' published ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrm_cli import console, options

if TYPE_CHECKING:
    from model.catalogue import Published
    from model.config import LrmConfig

app = typer.Typer(
    help="Which models there are, what is in one, and others' published ones.",
    no_args_is_help=True,
)

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="A model that `lrm models list` calls published.")
]
ImageSizeOption = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Side of the model's pictures in pixels, where its files do not tell."
    ),
]

_MARK_OF_PART = "of these "  # starts the name of a part that another part's number contains
_OWN_LICENSE = "as lrm itself, Apache 2.0"  # of the weights that ship


@app.command("list")
@console.guarded
def list_models(json: console.JsonFlag = False, debug: console.DebugFlag = False) -> None:
    """List the models that ship with lrm, those that can be trained, and published ones."""
    from model.catalogue import CATALOGUE
    from model.config import PRESETS
    from model.folders import available_models

    shipped = available_models()
    own = [*shipped, *(name for name in PRESETS if name not in shipped)]
    entries = [_own_entry(name) for name in own]
    entries += [_published_entry(published) for published in CATALOGUE.values()]
    if json:
        console.print_json({"models": entries})
        return
    rows = [
        (
            entry["name"],
            f"{entry['parameters'] / 1e6:.1f} M",
            (f"{_size(entry['bytes'])}, " if entry["bytes"] else "") + entry["where"],
            entry["about"],
            (entry["license"] or "").partition(";")[0],
        )
        for entry in entries
    ]
    columns = ("name", ">parameters", "weights", "good for", "their licence")
    console.print_table(columns, rows, whole_names=True)


def _own_entry(name: str) -> dict[str, Any]:
    from model.config import PRESETS
    from model.folders import WEIGHTS_NAME, available_models, load_config, model_folder
    from model.lrm import parameter_counts

    folder = model_folder(name) if name in available_models() else None
    config = load_config(folder) if folder else PRESETS[name]
    return {
        "name": name,
        "parameters": parameter_counts(config)["total"],
        "image_size": config.encoder.image_size,
        "bytes": (folder / WEIGHTS_NAME).stat().st_size if folder else None,
        "here": folder is not None,
        "where": "ships with lrm" if folder else "to be trained",
        "license": _OWN_LICENSE if folder else None,
        "about": "trying out the whole path" if folder else "the paper's model, your data",
    }


def _published_entry(published: Published) -> dict[str, Any]:
    from model.folders import WEIGHTS_NAME, is_pulled, load_config, pulled_folder

    here, folder = is_pulled(published.name), pulled_folder(published.name)
    return {
        "name": published.name,
        "parameters": published.parameters,
        "image_size": load_config(folder).encoder.image_size if here else None,
        "bytes": (folder / WEIGHTS_NAME).stat().st_size if here else published.size_bytes,
        "here": here,
        "where": "pulled" if here else "to be pulled",
        "license": published.license,
        "commercial": published.commercial,
        "source": published.address,
        "about": published.about,
    }


@app.command("info")
@console.guarded
def show_model(
    model: Annotated[
        str, typer.Argument(metavar="NAME|DIR", help="A model's name, or its or a run's folder.")
    ],
    json: console.JsonFlag = False,
    debug: console.DebugFlag = False,
) -> None:
    """Show a model: parameters part by part, files, licence, settings and card."""
    from model.catalogue import CATALOGUE
    from model.config import PRESETS
    from model.folders import available_models, is_pulled, load_config, model_folder

    if model in CATALOGUE and not is_pulled(model):
        _show_published(CATALOGUE[model], json)
    elif model in PRESETS and model not in available_models():
        _show_config(PRESETS[model], None, json)
    else:
        with console.usage_errors():
            folder = model_folder(model)
            config = load_config(folder)
        _show_config(config, folder, json)


def _show_config(config: LrmConfig, folder: Path | None, json: bool) -> None:
    from model.folders import CARD_NAME, PRETRAINED_DIR, WEIGHTS_NAME
    from model.lrm import parameter_counts

    ships = folder is not None and folder.parent == PRETRAINED_DIR
    license_text = config.license or (_OWN_LICENSE if ships else None)
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
                "license": license_text,
                "card": str(card) if card else None,
                "config": config.to_dict(),
            }
        )
        return
    console.print_table(("part", ">parameters"), _part_rows(counts), title=config.name)
    if weights:
        console.result(f"Weights: {weights} ({_size(weights.stat().st_size)})")
    else:
        console.result("Weights: none ship with lrm; `lrm train` makes them")
    if license_text:
        console.result(f"Licence of the weights: {license_text}")
    settings = {key: value for key, value in config.to_dict().items() if key != "license"}
    console.print_table(("setting", "value"), _config_rows(settings))
    if card:
        console.print_markdown(card.read_text(encoding="utf-8"))


def _show_published(published: Published, json: bool) -> None:
    entry = _published_entry(published)
    if json:
        console.print_json(entry)
        return
    console.result(f"{published.name}: {published.about}")
    console.result(f"Parameters: {published.parameters:,}")
    console.result(f"Licence of the weights: {published.license}")
    console.result(f"By {published.authors}: {published.address}")
    size = _size(published.size_bytes)
    console.result(f"Not on this machine; `lrm models pull {published.name}` downloads {size}")


@app.command("pull")
@console.guarded
def pull_model(
    name: NameArgument,
    revision: Annotated[
        str | None,
        typer.Option(metavar="REV", help="Branch, tag or commit at the hub (default: the newest)."),
    ] = None,
    image_size: ImageSizeOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Again, though it is there.")
    ] = False,
    json: console.JsonFlag = False,
    debug: console.DebugFlag = False,
) -> None:
    """Download a published model from the Hugging Face hub, check it, and make it one of lrm's.

    It goes on where a download was cut off. HF_ENDPOINT names a mirror, and with HF_HUB_OFFLINE
    only what is in the hub's cache is used. LRM_MODELS is the folder that models go to.
    """
    from model.folders import is_pulled, pulled_folder
    from model.published import hub

    with console.usage_errors():
        published = _require_published(name)
    if is_pulled(name) and not overwrite:
        folder = pulled_folder(name)
        console.message(f"{name} is in {folder} already; --overwrite pulls it again")
    else:
        console.message(f"Pulling {name} from {published.address}")
        folder = hub.pull(name, revision, image_size)
    if json:
        console.print_json(_published_entry(published) | {"folder": str(folder)})
        return
    console.result(f"{name}: {folder}")
    console.result(f"Licence of the weights, by {published.authors}: {published.license}")
    if not published.commercial:
        console.result("It is written into every mesh that is made with them.")


@app.command("convert")
@console.guarded
def convert_model(
    source: Annotated[
        Path,
        typer.Argument(
            parser=options.named_path,
            metavar="SOURCE",
            help="Folder, or file of weights, of TripoSR's or OpenLRM's kind.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(parser=options.named_path, metavar="DIR", help="Folder of the new model."),
    ],
    license_: Annotated[
        str | None,
        typer.Option(
            "--license",
            metavar="TEXT",
            help="What the weights may be used for (default: as the project's own weights).",
        ),
    ] = None,
    image_size: ImageSizeOption = None,
    debug: console.DebugFlag = False,
) -> None:
    """Make a model of checkpoint files that are already here; nothing in them is run."""
    from model.published.converting import Checkpoint, convert

    with console.usage_errors():
        checkpoint = Checkpoint.at(source)
        card = f"# {out.resolve().name}\n\nTranslated by lrm from `{checkpoint.weights.name}`.\n"
        config = convert(
            checkpoint,
            out,
            out.resolve().name,
            card,
            license_text=license_,
            image_size=image_size,
        )
    console.result(f"{config.name}: {out}")
    console.result(f"Licence of the weights: {config.license}")


@app.command("remove")
@console.guarded
def remove_model(name: NameArgument, debug: console.DebugFlag = False) -> None:
    """Remove a pulled model; what the hub's own cache keeps of it stays."""
    import shutil

    from model.folders import is_pulled, pulled_folder

    with console.usage_errors():
        _require_published(name)
        if not is_pulled(name):
            raise ValueError(f"{name} is not on this machine")
    folder = pulled_folder(name)
    shutil.rmtree(folder)
    console.result(f"Removed {folder}")


def _require_published(name: str) -> Published:
    from model.folders import available_models
    from model.published import hub

    if name in available_models():
        raise ValueError(f"{name} ships with lrm: it is neither pulled nor removed")
    return hub.find(name)


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


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
