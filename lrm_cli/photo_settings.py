"""How commands make fields of photos: settings, checked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

DTYPES = ("auto", "fp32", "bf16", "fp16")  # as those of `model.device`


@dataclass(frozen=True, kw_only=True)
class PhotoSettings:
    """What decides how a photo becomes a field, besides the model; kept in the ledger."""

    matting: str
    matting_model: str
    framing: str
    foreground_ratio: float | None = None  # None: the model's
    input_elevation: float | str  # degrees, or "auto": from the mesh
    dtype: str

    def __post_init__(self) -> None:
        from model.matting import check_matting

        check_choices("--framing", (self.framing,), ("auto", "none"))
        check_choices("--dtype", (self.dtype,), DTYPES)
        elevation = self.input_elevation
        if elevation != "auto" and not (isinstance(elevation, float) and -90 <= elevation <= 90):
            raise ValueError(
                f"--input-elevation is {elevation}; it must be auto or lie from -90 to 90 degrees"
            )
        if self.foreground_ratio is not None and not 0 < self.foreground_ratio <= 1:
            raise ValueError(
                f"--foreground-ratio is {self.foreground_ratio}; it must be above 0 and at most 1"
            )
        check_matting(self.matting, self.matting_model)


def check_choices(flag: str, values: Iterable[str], choices: Sequence[str]) -> None:
    """See that a flag's values are among those that it may have.

    Raises:
        ValueError: one is not.
    """
    for value in values:
        if value not in choices:
            raise ValueError(f"{flag} is {value!r}; it must be one of {', '.join(choices)}")


def elevation_in(text: str) -> float | str:
    """Degrees, where the text is a number; what else may stand there `PhotoSettings` checks."""
    try:
        return float(text)
    except ValueError:
        return text


def names_in(text: str) -> tuple[str, ...]:
    """The names of a list with commas, each once."""
    names = (name.strip().lower() for name in text.split(","))
    return tuple(dict.fromkeys(name for name in names if name))
