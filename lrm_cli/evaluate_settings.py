"""How `lrm evaluate` measures: settings, checked, and the files of each object."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lrm_cli.photo_settings import DTYPES, check_choices
from lrm_cli.render_settings import UPS

OBJECTS_FOLDER = "objects"
SCORE_SUFFIX, STRIP_SUFFIX, FEATURES_SUFFIX = ".json", ".webp", ".npz"
LIGHTINGS = ("protocol", "lit", "unlit")
BASELINES = ("relief", "mean-shape")  # as those of `train.evaluation.baselines`
SPLITS = ("heldout", "train")


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """What decides an object's numbers, besides the files; kept in the ledger.

    Attributes:
        protocol: its name.
        protocol_sha256: of all of it.
        with_features: whether pictures' features are kept, for FID.
        up: the axis of mesh files.
        lighting: of predicted meshes.
        dtype: of a model.
    """

    protocol: str
    protocol_sha256: str
    with_features: bool
    up: str = "auto"
    lighting: str = "protocol"
    dtype: str = "auto"

    def __post_init__(self) -> None:
        check_choices("--up", (self.up,), UPS)
        check_choices("--lighting", (self.lighting,), LIGHTINGS)
        check_choices("--dtype", (self.dtype,), DTYPES)

    def files_of(self, stem: str) -> list[str]:
        """Numbers, the strip of pictures, and features if there may be some."""
        suffixes = [SCORE_SUFFIX, STRIP_SUFFIX]
        if self.with_features:
            suffixes.append(FEATURES_SUFFIX)
        return [f"{OBJECTS_FOLDER}/{stem}{suffix}" for suffix in suffixes]


def limits_in(flag: str, texts: Sequence[str], known: Sequence[str]) -> dict[str, float]:
    """Limits by metric of `psnr=20`, or several with commas.

    Args:
        known: the protocol's metrics.

    Raises:
        ValueError: that is not what they are.
    """
    limits = {}
    for text in ",".join(texts).split(","):
        if not text.strip():
            continue
        name, _, value = (part.strip() for part in text.partition("="))
        try:
            limits[name] = float(value)
        except ValueError:
            limits[name] = math.nan
        if math.isnan(limits[name]):
            raise ValueError(f"{flag} is {text!r}; it must be a metric and a number, as psnr=20")
        if name not in known:
            raise ValueError(
                f"{flag} names {name!r}, which the protocol does not measure; it has "
                f"{', '.join(known)}"
            )
    return limits
