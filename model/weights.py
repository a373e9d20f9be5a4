"""Folders to models and back: the one factory. A model is `config.json` + `model.safetensors`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.atomic import put_in_place
from model.config import LrmConfig
from model.device import choose_dtype
from model.folders import CONFIG_NAME, WEIGHTS_NAME, load_config, model_folder
from model.lrm import LRM, parameter_counts

# Smaller networks take hundredths of a second of a photo's seconds, in any dtype.
_FEWEST_PARAMETERS_FOR_BF16 = 50_000_000


def inference_dtype(name: str, device: torch.device, config: LrmConfig) -> torch.dtype:
    """`choose_dtype` for a model: `auto` is float32 where the network is small.

    bf16 would gain nothing there, and moves lrm-tiny's surface by a quarter of a cell at 384³.

    Raises:
        ValueError: the dtype's name is unknown.
    """
    if name == "auto" and parameter_counts(config)["total"] < _FEWEST_PARAMETERS_FOR_BF16:
        return torch.float32
    return choose_dtype(name, device)


def load_model(
    name_or_dir: str | Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> LRM:
    """A model ready for inference.

    Args:
        name_or_dir: a shipped model's name, a model's folder or a training run's folder.
        device: where it goes.
        dtype: of the weights; float32 if None. MLP_nerf always stays float32: densities need it.

    Raises:
        ValueError: no such model, or its files do not fit together.
    """
    folder = model_folder(name_or_dir)
    with torch.device("meta"):
        model = LRM(load_config(folder))
    path = folder / WEIGHTS_NAME
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read as model weights: {error}") from error
    if misfit := misfit_of(model, state):
        raise ValueError(f"{path} does not fit its {CONFIG_NAME}: {misfit}")
    model.load_state_dict(state, strict=True, assign=True)
    model.to(device=device, dtype=dtype or torch.float32)
    model.nerf.float()
    return model.eval().requires_grad_(False)


def misfit_of(model: LRM, found: Mapping[str, Tensor]) -> str:
    """What keeps tensors from being this model's, in a few words; empty when nothing does."""
    wanted = model.state_dict()
    misshapen = [
        f"{name} is {tuple(found[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in wanted
        if name in found and found[name].shape != wanted[name].shape
    ]
    kinds = {
        "it lacks ": [name for name in wanted if name not in found],
        "it has the unknown ": [name for name in found if name not in wanted],
        "": misshapen,
    }
    return "; ".join(
        words + items[0] + (f" and {len(items) - 1} more" if len(items) > 1 else "")
        for words, items in kinds.items()
        if items
    )


def save_model(model: LRM, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write a model as `config.json` and `model.safetensors`; see `save_weights`."""
    save_weights(model.config, model.state_dict(), folder, dtype)


def save_weights(
    config: LrmConfig,
    state: Mapping[str, Tensor],
    folder: Path,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write `config.json` and `model.safetensors`, each beside its place and renamed into it.

    Raises:
        OSError: they cannot be written, as on a full disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().to("cpu", dtype).contiguous() for k, v in state.items()}
    config_part, weights_part = (folder / f"{name}.part" for name in (CONFIG_NAME, WEIGHTS_NAME))
    try:
        config_part.write_text(json.dumps(config.to_dict(), indent=2) + "\n", "utf-8")
        save_file(state, weights_part, metadata={"format": "pt"})
        shutil.copymode(config_part, weights_part)  # safetensors writes for the owner's eyes only
        put_in_place(weights_part, folder / WEIGHTS_NAME)
        put_in_place(config_part, folder / CONFIG_NAME)
    except SafetensorError as error:
        raise OSError(f"{folder / WEIGHTS_NAME} cannot be written: {error}") from error
    finally:
        for part in (config_part, weights_part):
            part.unlink(missing_ok=True)
