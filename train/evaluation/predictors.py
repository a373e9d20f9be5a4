"""A trained model as what makes fields of pictures; `baselines.py` has what stands in for one."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from model.config import ViewConfig
from model.folders import load_config
from model.nerf import Field
from model.photos import Framing, frame_photo
from model.weights import inference_dtype, load_model


class ModelPredictor:
    """A trained model.

    Raises:
        ValueError: its files do not fit together, or the dtype is unknown.
    """

    def __init__(self, folder: Path, device: torch.device, dtype: str) -> None:
        self._dtype = inference_dtype(dtype, device, load_config(folder))
        self._device = device
        self._model = load_model(folder, device, self._dtype)

    @property
    def view(self) -> ViewConfig:
        return self._model.config.view

    @torch.inference_mode()
    def predict(self, photo: Image.Image, framing: Framing) -> Field:
        """See `scoring.Predictor`."""
        size = self._model.config.encoder.image_size
        picture = frame_photo(photo, size, self.view, framing)
        return self._model.reconstruct(picture[None].to(self._device, self._dtype))[0]
