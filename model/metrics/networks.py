"""Metrics that look through a network: LPIPS, CLIP similarity, and the features of FID.

Their weights are downloaded on first use by the libraries that they belong to. Where that fails
the metric is not available, and says why.

Legend of shapes: B pictures, H height, W width, F features.
"""

from __future__ import annotations

import contextlib
import io
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# (B, 3, H, W) predicted and true pictures in 0..1 to (B,) numbers.
PictureMetric = Callable[[Tensor, Tensor], Tensor]
# (B, 3, H, W) pictures in 0..1 to (B, F) numbers.
Features = Callable[[Tensor], Tensor]

_one_at_a_time = threading.Lock()

CLIP_MODEL, CLIP_WEIGHTS = "ViT-B-32-quickgelu", "openai"
_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # at the hub
_PATIENCE_S = 10.0


class UnavailableError(ValueError):
    """A network cannot be had; the sentence says which and why."""


def load_lpips(backbone: Literal["vgg", "alex"], device: torch.device) -> nn.Module:
    """The LPIPS network (Zhang et al. 2018), version 0.1, of pictures in -1..1.

    Raises:
        UnavailableError: its backbone's weights are not here and cannot be downloaded.
    """
    with _loading(f"LPIPS needs torchvision's {backbone} weights"):
        import lpips

        network = lpips.LPIPS(net=backbone, verbose=False)
    return network.to(device).eval().requires_grad_(False)


def lpips_metric(network: nn.Module) -> PictureMetric:
    """LPIPS distances, smaller is nearer."""

    def distance(predicted: Tensor, target: Tensor) -> Tensor:
        distances: Tensor = network(2 * predicted - 1, 2 * target - 1)
        return distances.reshape(len(predicted))

    return distance


def load_clip(device: torch.device) -> nn.Module:
    """CLIP (Radford et al. 2021), ViT-B/32 with OpenAI's weights.

    Raises:
        UnavailableError: open_clip is not installed, or the weights cannot be downloaded.
    """
    with _loading(f"CLIP similarity needs open_clip and its {CLIP_MODEL} weights"):
        import open_clip

        weights = _clip_weights(open_clip.get_pretrained_cfg(CLIP_MODEL, CLIP_WEIGHTS)["hf_hub"])
        network: nn.Module = open_clip.create_model(CLIP_MODEL, pretrained=weights)
    return network.to(device).eval().requires_grad_(False)


def _clip_weights(repository: str) -> str:
    """The weights' file where it is on this machine, else their tag, by which they are downloaded.

    The hub's client asks again and again where nobody answers, for a minute and a half in all: so
    it is only asked here whether there is anybody, once.

    Raises:
        OSError, httpx's errors: the hub is out of reach.
    """
    import huggingface_hub

    for name in _CLIP_FILES:
        path = huggingface_hub.try_to_load_from_cache(repository.strip("/"), name)
        if isinstance(path, str):
            return path
    if huggingface_hub.is_offline_mode():
        raise OSError("HF_HUB_OFFLINE is set")
    huggingface_hub.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=_PATIENCE_S)
    return CLIP_WEIGHTS


def clip_metric(network: Any) -> PictureMetric:
    """Cosine of the image embeddings of CLIP: -1 to 1, larger is nearer."""

    def similarity(predicted: Tensor, target: Tensor) -> Tensor:
        embeddings = [network.encode_image(_for_clip(network, p)) for p in (predicted, target)]
        return F.cosine_similarity(*embeddings)

    return similarity


def _for_clip(network: Any, pictures: Tensor) -> Tensor:
    """Resized with antialiasing to the network's input, and normalised as it was in training."""
    mean = pictures.new_tensor(network.visual.image_mean)[:, None, None]
    std = pictures.new_tensor(network.visual.image_std)[:, None, None]
    size = network.visual.image_size
    if tuple(pictures.shape[-2:]) != tuple(size):
        pictures = F.interpolate(pictures, tuple(size), mode="bicubic", antialias=True)
    return (pictures.clamp(0, 1) - mean) / std


def load_inception(device: torch.device) -> Features:
    """The Inception-v3 of FID (Heusel et al. 2017), as torch-fidelity has it; F = 2048.

    Raises:
        UnavailableError: torch-fidelity is not installed, or the weights cannot be downloaded.
    """
    with _loading("FID needs torch-fidelity and its Inception-v3 weights"):
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], verbose=False)
    network = network.to(device).eval()

    def features(pictures: Tensor) -> Tensor:
        levels = (pictures.clamp(0, 1) * 255).round().to(torch.uint8)
        found: Tensor = network(levels)[0]
        return found.float()

    return features


@contextlib.contextmanager
def _loading(needed: str) -> Iterator[None]:
    """Whatever goes wrong in here, and that is a lot, means that the metric cannot be had."""
    # Every worker comes here, and libraries announce downloads on either stream, also those that
    # come to nothing. All threads share the places that are changed here: one at a time.
    with _one_at_a_time, warnings.catch_warnings(), _silence():
        warnings.simplefilter("ignore")
        try:
            yield
        except ModuleNotFoundError as error:
            raise UnavailableError(
                f"{needed}, but {error.name} is not installed: pip install 'lrm-cli[evaluate]'"
            ) from error
        except Exception as error:
            reason = getattr(error, "reason", None) or str(error) or type(error).__name__
            raise UnavailableError(
                f"{needed}, which are not on this machine and cannot be downloaded ({reason})"
            ) from error


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep from the terminal what libraries print and log of their tries: what is raised says it.

    open_clip's logging gives the root logger a handler, through which others would be heard later.
    """
    before, root = logging.root.manager.disable, logging.getLogger()
    handlers = list(root.handlers)
    logging.disable(logging.ERROR)
    sink = io.StringIO()
    try:
        with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            yield
    finally:
        logging.disable(before)
        root.handlers[:] = handlers
