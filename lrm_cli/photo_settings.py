"""How commands prepare photos and make fields of them: settings, checked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

DTYPES = ("auto", "fp32", "bf16", "fp16")  # as those of `model.device`


@dataclass(frozen=True, kw_only=True)
class FramingSettings:
    """What decides how a photo is cut out and framed; kept in the ledger."""

    matting: str
    matting_model: str
    framing: str
    foreground_ratio: float | None = None  # None: the model's

    def __post_init__(self) -> None:
        from model.matting import check_matting

        check_choices("--framing", (self.framing,), ("auto", "none"))
        if self.foreground_ratio is not None and not 0 < self.foreground_ratio <= 1:
            raise ValueError(
                f"--foreground-ratio is {self.foreground_ratio}; it must be above 0 and at most 1"
            )
        check_matting(self.matting, self.matting_model)


@dataclass(frozen=True, kw_only=True)
class PhotoSettings(FramingSettings):
    """What decides how a photo becomes a field, besides the model; kept in the ledger."""

    input_elevation: float | str  # degrees, or "auto": from the mesh
    dtype: str

    def __post_init__(self) -> None:
        check_choices("--dtype", (self.dtype,), DTYPES)
        elevation = self.input_elevation
        if elevation != "auto" and not (isinstance(elevation, float) and -90 <= elevation <= 90):
            raise ValueError(
                f"--input-elevation is {elevation}; it must be auto or lie from -90 to 90 degrees"
            )
        super().__post_init__()


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


def lines_in(flag: str, path: Path) -> list[str]:
    """The lines of a flag's file that are not empty, each once.

    Raises:
        ValueError: it cannot be read, or has none.
    """
    try:
        lines = path.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ValueError(f"{flag} {path} cannot be read ({reason})") from None
    names = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not names:
        raise ValueError(f"{flag} {path} names nothing")
    return names
