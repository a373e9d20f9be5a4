"""TripoSR's own code beside ours, on a model of its shape.

    python -m benchmarks.standin lrm-large STANDIN --channels 40
    python -m benchmarks.triposr CHECKOUT STANDIN [--share 0.1] [--json FILE]

CHECKOUT is a clone of VAST-AI-Research/TripoSR; it needs omegaconf and einops. Its network gets
random weights, which cost the same. What is timed is what its `run.py` does from the prepared
picture to a mesh with vertex colours: the forward pass and the query of all 384³ points in chunks
of 8192, float32. A random field has no surface, so that marching cubes (PyMCubes for torchmcubes)
and colours are timed on the density of STANDIN, which has one.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.hardware import commit, hardware
from benchmarks.reconstruct import PHOTO, TO_COLORED_TRIANGLES, Stages, reconstruct
from model.device import choose_device
from model.folders import load_config
from model.matting import DEFAULT_MATTING_MODEL, Matting
from model.photos import prepare_photo
from model.weights import inference_dtype, load_model

_CHUNK = 8192  # the default of its run.py
# The published config.yaml, which its weights come with.
_CONFIG = {
    "cond_image_size": 512,
    "image_tokenizer_cls": "tsr.models.tokenizers.image.DINOSingleImageTokenizer",
    "image_tokenizer": {"pretrained_model_name_or_path": "facebook/dino-vitb16"},
    "tokenizer_cls": "tsr.models.tokenizers.triplane.Triplane1DTokenizer",
    "tokenizer": {"plane_size": 32, "num_channels": 1024},
    "backbone_cls": "tsr.models.transformer.transformer_1d.Transformer1D",
    "backbone": {
        "in_channels": 1024,
        "num_attention_heads": 16,
        "attention_head_dim": 64,
        "num_layers": 16,
        "cross_attention_dim": 768,
    },
    "post_processor_cls": "tsr.models.network_utils.TriplaneUpsampleNetwork",
    "post_processor": {"in_channels": 1024, "out_channels": 40},
    "decoder_cls": "tsr.models.network_utils.NeRFMLP",
    "decoder": {"in_channels": 120, "n_neurons": 64, "n_hidden_layers": 9, "activation": "silu"},
    "renderer_cls": "tsr.models.nerf_renderer.TriplaneNeRFRenderer",
    "renderer": {
        "radius": 0.87,
        "feature_reduction": "concat",
        "density_activation": "exp",
        "density_bias": -1.0,
        "num_samples_per_ray": 128,
    },
}


def load_theirs(checkout: Path) -> Any:
    """TripoSR's model with random weights, without the packages that timing does not need."""
    import transformers

    sys.path.insert(0, str(checkout))
    cubes = types.ModuleType("torchmcubes")
    cubes.marching_cubes = None  # type: ignore[attr-defined]
    sys.modules.setdefault("torchmcubes", cubes)
    from tsr.models.tokenizers import image
    from tsr.system import TSR

    # DINO ViT-B/16 is the default of ViTConfig; nothing is downloaded.
    image.hf_hub_download = lambda **_: None
    vit: Any = transformers.ViTConfig
    vit.from_pretrained = classmethod(lambda cls, _: cls())
    model = TSR(_CONFIG).eval()
    model.renderer.set_chunk_size(_CHUNK)
    return model


@torch.inference_mode()
def measure_theirs(model: Any, resolution: int, share: float) -> dict[str, float]:
    """Seconds by stage; the query of a share of the lattice, scaled up."""
    picture = np.random.default_rng(0).random((512, 512, 3), dtype=np.float32)
    start = time.perf_counter()
    codes = model([picture], device="cpu")
    seconds = {"network": time.perf_counter() - start}
    axis = torch.linspace(-0.87, 0.87, resolution)
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).flatten(0, 2)
    points = points[: max(_CHUNK, int(len(points) * share)) // _CHUNK * _CHUNK]
    start = time.perf_counter()
    model.renderer.query_triplane(model.decoder, points, codes[0])
    seconds["query"] = (time.perf_counter() - start) * resolution**3 / len(points)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("standin", type=Path)
    parser.add_argument("--resolution", type=int, default=384)
    parser.add_argument("--share", type=float, default=0.1, help="of their lattice that is timed")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    device = choose_device("cpu")
    dtype = inference_dtype("auto", device, load_config(arguments.standin))
    model = load_model(arguments.standin, device, dtype)
    matting = Matting("alpha", DEFAULT_MATTING_MODEL)
    photo = prepare_photo(PHOTO.read_bytes(), model.config, matting, "auto", 1)
    stages = Stages(device)
    for run in range(arguments.repeats + 1):
        into = stages if run else Stages(device)  # the first warms up
        field, raw = reconstruct(
            model, photo.picture.to(dtype), arguments.resolution, 20_000, 1024, into
        )
    ours = {name: stages.medians()[name] for name in TO_COLORED_TRIANGLES}

    theirs = measure_theirs(load_theirs(arguments.checkout), arguments.resolution, arguments.share)
    theirs |= _surface_and_colors(field, raw.vertices_world, arguments.resolution)
    total, their_total = sum(ours.values()), sum(theirs.values())
    figures = {
        "hardware": hardware(device),
        "torch": torch.__version__,
        "commit": commit(),
        "dtype": str(dtype).removeprefix("torch."),
        "resolution": arguments.resolution,
        "share_of_their_lattice_measured": arguments.share,
        "ours": {name: round(value, 3) for name, value in ours.items()},
        "theirs": {name: round(value, 3) for name, value in theirs.items()},
        "seconds_total": round(total, 3),
        "reference_seconds_total": round(their_total, 3),
        "times_faster": round(their_total / total, 1),
    }
    print(json.dumps(figures, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


@torch.inference_mode()
def _surface_and_colors(field: Any, vertices: Any, resolution: int) -> dict[str, float]:
    """Dense marching cubes by PyMCubes, and one query of as many vertices in their chunks."""
    import mcubes

    from model.occupancy import whole_lattice

    axis = torch.linspace(-1, 1, resolution)
    density = whole_lattice(field.lattice(axis), resolution, field.device).numpy()
    start = time.perf_counter()
    mcubes.marching_cubes(density, field.iso_density)
    between = time.perf_counter()
    for part in torch.from_numpy(vertices).split(_CHUNK):
        field.density_and_color(part)
    return {"surface": between - start, "colors": time.perf_counter() - between}


if __name__ == "__main__":
    main()
