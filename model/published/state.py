"""A foreign checkpoint's tensors, taken one by one: none is missed, none is left over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class ForeignState:
    """Tensors under their foreign names, and which of them have been taken.

    Args:
        tensors: the checkpoint's.
    """

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        self._tensors = tensors
        self._left = set(tensors)
        self._prefix = ""

    def below(self, prefix: str) -> ForeignState:
        """A part, whose names go on after a prefix; what it takes is taken from the whole."""
        part = ForeignState(self._tensors)
        part._left, part._prefix = self._left, self._prefix + prefix
        return part

    def take(self, name: str, *shape: int) -> Tensor:
        """A tensor of this shape, in float32.

        Raises:
            ValueError: the checkpoint lacks it, or it is something else.
        """
        full = self._prefix + name
        if full not in self._tensors:
            raise ValueError(f"it lacks {full}")
        tensor = self._tensors[full]
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            raise ValueError(f"{full} is no tensor of floating-point numbers")
        if tensor.shape != shape:
            raise ValueError(f"{full} is {tuple(tensor.shape)} instead of {shape}")
        self._left.discard(full)
        return tensor.detach().to(torch.float32)

    def take_linear(self, theirs: str, ours: str, *shape: int) -> dict[str, Tensor]:
        """Weight of this shape and bias of its first number, under our name."""
        return {
            f"{ours}.weight": self.take(f"{theirs}.weight", *shape),
            f"{ours}.bias": self.take(f"{theirs}.bias", shape[0]),
        }

    def drop(self, *names: str) -> None:
        """Leave what is known and not needed, if it is there."""
        self._left -= {self._prefix + name for name in names}

    def finish(self) -> None:
        """All there was must have been taken.

        Raises:
            ValueError: something is left over.
        """
        if self._left:
            first, *rest = sorted(self._left)
            raise ValueError(f"it has the unknown {first}" + f" and {len(rest)} more" * bool(rest))
