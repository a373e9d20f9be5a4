"""Fused and compiled kernels, each beside the plain PyTorch that it must equal."""

from __future__ import annotations

import warnings
from collections.abc import Callable

_LARGEST_ERROR = 1e-3


class KernelWarning(UserWarning):
    """A kernel cannot be used on this machine: plain PyTorch does its work, only slower."""


def proves_equal(kernel: str, error: Callable[[], float], largest: float = _LARGEST_ERROR) -> bool:
    """Try a kernel: whether it can be compiled, runs and is right on this machine.

    Where it fails, a `KernelWarning` says why.

    Args:
        kernel: its name in the warning.
        error: runs it on something small; how far it is from plain PyTorch, relatively.
        largest: error that will do.
    """
    try:
        found = error()
    except Exception as failure:  # compilers and drivers raise many kinds
        reason = str(failure).partition("\n")[0] or type(failure).__name__
        warnings.warn(f"the {kernel} cannot be used here: {reason}", KernelWarning, stacklevel=3)
        return False
    if not found < largest:
        warnings.warn(
            f"the {kernel} is wrong on this device (by {found:.0%}) and is not used",
            KernelWarning,
            stacklevel=3,
        )
        return False
    return True
