"""Which folder a model is in, and its config: all that is known of a model without torch."""

from __future__ import annotations

import json
from pathlib import Path

from model.config import PRESETS, LrmConfig

PRETRAINED_DIR = Path(__file__).parent / "pretrained"
CONFIG_NAME, WEIGHTS_NAME, CARD_NAME = "config.json", "model.safetensors", "README.md"


def available_models() -> list[str]:
    """Names of the models whose weights ship inside the package."""
    return sorted(folder.parent.name for folder in PRETRAINED_DIR.glob(f"*/{WEIGHTS_NAME}"))


def model_folder(name_or_dir: str | Path) -> Path:
    """The folder of a shipped model's name, or a folder given as such (a training run's too).

    Raises:
        ValueError: neither; the message says what there is.
    """
    shipped = available_models()
    if str(name_or_dir) in shipped:
        return PRETRAINED_DIR / str(name_or_dir)
    folder = Path(name_or_dir)
    missing = [n for n in (CONFIG_NAME, WEIGHTS_NAME) if not (folder / n).is_file()]
    if not missing:
        return folder
    if folder.is_dir():
        raise ValueError(f"{folder} is not a model's folder: it has no {' and no '.join(missing)}")
    if str(name_or_dir) in PRESETS:
        raise ValueError(
            f"no weights of {name_or_dir} ship with lrm, it has to be trained; "
            f"weights that ship: {', '.join(shipped) or 'none'}"
        )
    raise ValueError(
        f"there is no model {str(name_or_dir)!r}: neither a folder nor one of those that ship "
        f"({', '.join(shipped) or 'none'})"
    )


def load_config(folder: Path) -> LrmConfig:
    """The config of a model's folder.

    Raises:
        ValueError: unreadable or invalid.
    """
    path = folder / CONFIG_NAME
    try:
        return LrmConfig.from_dict(json.loads(path.read_text()))
    except (OSError, json.JSONDecodeError, ValueError) as error:
        raise ValueError(f"{path} is not a valid model config: {error}") from error
