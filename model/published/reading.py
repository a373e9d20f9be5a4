"""The files of other projects' checkpoints, read without running anything that is in them."""

from __future__ import annotations

import json
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file

_ZIP = b"PK\x03\x04"  # what `torch.save` writes, since PyTorch 1.6
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")


def read_weights(path: Path) -> dict[str, Any]:
    """What a safetensors file, or a file of `torch.save`, holds under its names.

    Raises:
        ValueError: unreadable, cut off, with code in it, or no mapping of names.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with path.open("rb") as file:
            is_zip = file.read(4) == _ZIP
        if is_zip and not zipfile.is_zipfile(path):
            raise ValueError("its end is missing")
        with warnings.catch_warnings(action="ignore"):  # of pickles' versions, with our paths
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path} is damaged, or holds more than numbers: opening it would run code that is in "
            "it, so it is refused"
        ) from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    except (SafetensorError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).partition("\n")[0] or "it ends too early"
        raise ValueError(f"{path} is damaged or cut off: {reason}") from None
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ValueError(f"{path} holds no weights: they come under names")
    return content


def read_settings(path: Path) -> dict[str, Any]:
    """A config in JSON, or in YAML with OmegaConf's references to other keys, such as ${a.b}.

    Raises:
        ValueError: unreadable, or no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        if not isinstance(values, dict):
            raise ValueError("it is no mapping")
        return _resolve(values, values)
    except (OSError, yaml.YAMLError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path} cannot be read as a config: {reason}") from None


def _resolve(value: Any, root: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _resolve(inner, root) for key, inner in value.items()}
    found = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return value
    target: Any = root
    for key in found[1].split("."):
        if not isinstance(target, dict) or key not in target:
            raise ValueError(f"{value} refers to nothing")
        target = target[key]
    if isinstance(target, (dict, str)):
        raise ValueError(f"{value} refers to no plain value")
    return target
