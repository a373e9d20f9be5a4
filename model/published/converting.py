"""Files of another project's checkpoint → the folder of a model of ours."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from model.catalogue import CC_BY_NC, MIT
from model.config import LrmConfig
from model.folders import CARD_NAME, CONFIG_NAME
from model.lrm import LRM
from model.published import openlrm, triposr
from model.published.reading import read_settings, read_weights
from model.weights import misfit_of, save_weights

Project = Literal["TripoSR", "OpenLRM"]
# What a folder may hold, in the order in which it is looked for.
_FILES = (
    ("config.yaml", "model.ckpt"),
    ("config.json", "model.safetensors"),
    ("config.json", "model.pth"),
    (None, "model.pth"),
)
_LICENSES: dict[Project, str] = {"TripoSR": MIT, "OpenLRM": CC_BY_NC}


@dataclass(frozen=True)
class Checkpoint:
    """Files that belong together.

    Attributes:
        weights: tensors under the project's names.
        config: None where the weights' file holds it.
    """

    weights: Path
    config: Path | None

    @staticmethod
    def at(source: Path) -> Checkpoint:
        """The checkpoint in a folder, or the one that a file of weights belongs to.

        Raises:
            ValueError: there is none.
        """
        folder = source if source.is_dir() else source.parent
        for config, weights in _FILES:
            if not (folder / weights).is_file() or (source.is_file() and source.name != weights):
                continue
            if config is None or (folder / config).is_file():
                return Checkpoint(folder / weights, None if config is None else folder / config)
        pairs = ", ".join(f"{config} and {weights}" for config, weights in _FILES if config)
        raise ValueError(f"{source} is no checkpoint that lrm can translate; it knows {pairs}")


def translate(
    checkpoint: Checkpoint, name: str, image_size: int | None = None
) -> tuple[LrmConfig, dict[str, Tensor]]:
    """A checkpoint as a config, with the licence of the project's weights, and weights of ours.

    Args:
        name: of the model.
        image_size: side of its pictures, where the files do not tell it.

    Raises:
        ValueError: not one that lrm knows, or its files are damaged or do not fit together.
    """
    values: dict[str, Any] = {}
    if checkpoint.config is not None:
        values = read_settings(checkpoint.config)
    if {"encoder", "decoder", "nerf"} <= values.keys():
        raise ValueError(f"{checkpoint.config} is the config of a model that lrm reads as it is")
    tensors = read_weights(checkpoint.weights)
    if {"weights", "kwargs"} <= tensors.keys():  # OpenLRM's own files of version 1.0
        values, tensors = (_mapping(tensors, key) for key in ("kwargs", "weights"))
    try:
        if "image_tokenizer_cls" in values:
            config = triposr.config_of(triposr.TripoSrSettings.of(values), name)
            return _checked(config, triposr.weights_of(tensors, config), "TripoSR")
        arguments = _mapping(values, "model") or values
        if "camera_embed_dim" in arguments:
            settings = openlrm.OpenLrmSettings.of(arguments)
            known = _mapping(values, "infer").get("source_size")
            if not isinstance(known, int):
                known = None
            config = openlrm.config_of(settings, name, image_size or known)
            return _checked(config, openlrm.weights_of(tensors, config), "OpenLRM")
    except ValueError as error:
        raise ValueError(f"{checkpoint.weights} cannot be translated: {error}") from None
    raise ValueError(
        f"{checkpoint.config or checkpoint.weights} is neither TripoSR's nor OpenLRM's"
    )


def _mapping(values: dict[str, Any], key: str) -> dict[str, Any]:
    """What stands under a key; empty where it is no mapping."""
    found = values.get(key)
    return found if isinstance(found, dict) else {}


def _checked(
    config: LrmConfig, state: dict[str, Tensor], project: Project
) -> tuple[LrmConfig, dict[str, Tensor]]:
    """The config with the project's licence, and weights that fit it.

    Raises:
        ValueError: they do not.
    """
    with torch.device("meta"):
        misfit = misfit_of(LRM(config), state)
    if misfit:
        raise ValueError(f"the translated weights do not fit the config: {misfit}")
    return dataclasses.replace(config, license=_LICENSES[project]), state


def convert(
    checkpoint: Checkpoint,
    folder: Path,
    name: str,
    card: str,
    *,
    license_text: str | None = None,
    image_size: int | None = None,
) -> LrmConfig:
    """Translate a checkpoint into a new folder; until all of it is there, it is no model's.

    Args:
        card: what README.md says, in Markdown.
        license_text: what the weights may be used for; None: as the project's own.

    Raises:
        ValueError: as `translate`; there is a model in the folder.
        OSError: the folder cannot be written to.
    """
    if (folder / CONFIG_NAME).exists():
        raise ValueError(f"there is a {CONFIG_NAME} in {folder} already")
    config, state = translate(checkpoint, name, image_size)
    if license_text is not None:
        config = dataclasses.replace(config, license=license_text)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CARD_NAME).write_text(card, encoding="utf-8")
    save_weights(config, state, folder)
    return config
