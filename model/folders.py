"""Which folder a model is in, and its config: all that is known of a model without torch."""

from __future__ import annotations

import json
import os
from pathlib import Path

from model.catalogue import CATALOGUE
from model.config import PRESETS, LrmConfig

PRETRAINED_DIR = Path(__file__).parent / "pretrained"
CONFIG_NAME, WEIGHTS_NAME, CARD_NAME = "config.json", "model.safetensors", "README.md"


def available_models() -> list[str]:
    """Names of the models whose weights ship inside the package."""
    return sorted(folder.parent.name for folder in PRETRAINED_DIR.glob(f"*/{WEIGHTS_NAME}"))


def pulled_folder(name: str) -> Path:
    """Where `lrm models pull` puts a model, or has put it.

    In LRM_MODELS, by default `lrm/models` in the user's cache.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("LRM_MODELS") or cache / "lrm" / "models") / name


def is_pulled(name: str) -> bool:
    """Whether a model of the catalogue is on this machine."""
    return name in CATALOGUE and (pulled_folder(name) / CONFIG_NAME).is_file()


def model_folder(name_or_dir: str | Path) -> Path:
    """The folder of a model's name, shipped or pulled, or a folder given as such (a run's too).

    Raises:
        ValueError: neither; the message says what there is.
    """
    if not str(name_or_dir):  # as of a variable that is not set, and to `Path` the current folder
        raise ValueError("the model's name is empty")
    shipped = available_models()
    if str(name_or_dir) in shipped:
        return PRETRAINED_DIR / str(name_or_dir)
    if is_pulled(str(name_or_dir)):
        return pulled_folder(str(name_or_dir))
    folder = Path(name_or_dir)
    missing = [n for n in (CONFIG_NAME, WEIGHTS_NAME) if not (folder / n).is_file()]
    if not missing:
        return folder
    if folder.is_dir():
        raise ValueError(f"{folder} is not a model's folder: it has no {' and no '.join(missing)}")
    if (published := CATALOGUE.get(str(name_or_dir))) is not None:
        raise ValueError(
            f"{published.name} is not on this machine; `lrm models pull {published.name}` "
            f"downloads it ({published.size_bytes / 1e9:.1f} GB) from {published.address}"
        )
    if str(name_or_dir) in PRESETS:
        raise ValueError(
            f"no weights of {name_or_dir} ship with lrm, it has to be trained; "
            f"weights that ship: {', '.join(shipped) or 'none'}"
        )
    raise ValueError(
        f"there is no model {str(name_or_dir)!r}: neither a folder nor one of those that ship "
        f"({', '.join(shipped) or 'none'}) or can be pulled (`lrm models list`)"
    )


def load_config(folder: Path) -> LrmConfig:
    """The config of a model's folder.

    Raises:
        ValueError: unreadable or invalid.
    """
    path = folder / CONFIG_NAME
    try:
        return LrmConfig.from_dict(json.loads(path.read_text("utf-8")))
    except (OSError, json.JSONDecodeError, ValueError) as error:
        raise ValueError(f"{path} is not a valid model config: {error}") from error
