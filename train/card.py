"""The card of a trained model: what it learned from, how, and what it lacks."""

from __future__ import annotations

import torch

from model.catalogue import CATALOGUE
from model.config import PRESETS
from model.lrm import parameter_counts
from train.data_identity import DataIdentity
from train.recipe import DataConfig, Recipe

_OPTIMIZERS = {"adamw": "AdamW", "muon": "Muon and AdamW"}

# Appendix D.6: CLIP similarity, SSIM and LPIPS without the LPIPS objective, against table 2's
# baseline.
_WITHOUT_LPIPS = """\
Trained **without the LPIPS objective** of Eq. 6{instead}. The paper (appendix D.6) found that
this matters: without it its baseline falls from 87.8 to 74.7 in CLIP similarity and from 77.4
to 76.4 in SSIM, and rises from 19.1 to 29.4 in LPIPS. Expect blurred textures.
"""

_LICENSE = """\
**Licence: {license}.**
{origin}It goes into every mesh. What the data may be used for counts besides.
"""
_OF_ORIGIN = "The weights that training started from came under it, and so do these.\n"


def model_card(recipe: Recipe, data: DataIdentity, step: int, steps: int) -> str:
    """The text of `README.md` beside a run's model.

    Args:
        data: what the run learns from.
        step: how many of all `steps` the model has seen.
    """
    total = parameter_counts(recipe.model)["total"]
    name = recipe.model.name
    changes = Recipe(PRESETS.get(name, recipe.model)).changes_to(Recipe(recipe.model))
    loss, optimizer = recipe.loss, recipe.optimizer
    lines = [
        f"# {name}, changed" if changes else f"# {name}",
        "",
        f"A model of {total / 1e6:.1f} M parameters, trained by `lrm train`; every setting is in",
        "`recipe.yaml`.",
        "",
        "| | |",
        "|---|---|",
        *([f"| changed | {', '.join(changes)} |"] if changes else []),
        f"| data | {data.names}: {data.objects} training objects |",
        f"| steps | {step} of {steps}, {recipe.run.batch_size} samples each |",
        f"| views per sample | {recipe.data.views}, the input view among them |",
        f"| augmentation | {_augmentation(recipe.data)} |",
        f"| started from | {_start(recipe)} |",
        f"| optimiser | {_OPTIMIZERS[optimizer.name]}, {optimizer.lr:g}, cosine, "
        f"{optimizer.warmup_steps} warm-up steps |",
        f"| perceptual term | {loss.perceptual} |",
        f"| mask term | {loss.mask_weight:g} |",
        f"| torch | {torch.__version__} |",
        "",
    ]
    if recipe.model.license is not None:
        origin = _OF_ORIGIN if recipe.run.init_from else ""
        lines.append(_LICENSE.format(license=recipe.model.license, origin=origin))
    if loss.perceptual != "lpips":
        instead = "" if loss.perceptual == "none" else f", with {loss.perceptual} in its place"
        lines.append(_WITHOUT_LPIPS.format(instead=instead))
    return "\n".join(lines)


def _start(recipe: Recipe) -> str:
    name = recipe.run.init_from
    if name is None:
        return recipe.model.encoder.pretrained or "nothing"
    published = CATALOGUE.get(name)
    if published is None:
        return name
    return f"{name}, weights by {published.authors}: {published.address} ({published.license})"


def _augmentation(data: DataConfig) -> str:
    mirrored = [f"{data.mirrored:.0%} of the samples in a mirror"] if data.mirrored else []
    recolored = [f"colours changed (`data.recolored` {data.recolored:g})"] if data.recolored else []
    return ", ".join(mirrored + recolored) or "none"
