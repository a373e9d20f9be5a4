"""The card of a trained model: what it learned from, how, and what it lacks."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from model.lrm import parameter_counts
from model.weights import CARD_NAME
from train.recipe import Recipe
from train.shards import ShardReader

# Appendix D.6: CLIP similarity, SSIM and LPIPS without the LPIPS objective, against table 2's
# baseline.
_WITHOUT_LPIPS = """\
Trained **without the LPIPS objective** of Eq. 6{instead}. The paper (appendix D.6) found that
this matters: without it its baseline falls from 87.8 to 74.7 in CLIP similarity and from 77.4
to 76.4 in SSIM, and rises from 19.1 to 29.4 in LPIPS. Expect blurred textures.
"""


def write_card(run: Path, recipe: Recipe, data: list[Path], step: int) -> None:
    """Write `README.md` beside a run's model, atomically."""
    objects = len(ShardReader(data, split="train"))
    total = parameter_counts(recipe.model)["total"]
    loss, optimizer = recipe.loss, recipe.optimizer
    start = recipe.run.init_from or recipe.model.encoder.pretrained or "nothing"
    lines = [
        f"# {recipe.model.name}",
        "",
        f"A model of {total / 1e6:.1f} M parameters, trained by `lrm train`; every setting is in",
        "`recipe.yaml`.",
        "",
        "| | |",
        "|---|---|",
        f"| data | {', '.join(path.name for path in data)}: {objects} training objects |",
        f"| steps | {step} of {recipe.run.steps}, {recipe.run.batch_size} samples each |",
        f"| views per sample | {recipe.data.views}, the input view among them |",
        f"| started from | {start} |",
        f"| optimiser | AdamW, {optimizer.lr:g}, cosine, {optimizer.warmup_steps} warm-up steps |",
        f"| perceptual term | {loss.perceptual} |",
        f"| mask term | {loss.mask_weight:g} |",
        f"| torch | {torch.__version__} |",
        "",
    ]
    if loss.perceptual != "lpips":
        instead = "" if loss.perceptual == "none" else f", with {loss.perceptual} in its place"
        lines.append(_WITHOUT_LPIPS.format(instead=instead))
    part = run / (CARD_NAME + ".part")
    part.write_text("\n".join(lines))
    os.replace(part, run / CARD_NAME)
