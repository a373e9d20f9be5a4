"""Loops that numba compiles for the CPU."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable, **options: Any) -> Callable:
    """Compiled at its first call, and kept for later processes where there is a folder for it.

    Other threads run meanwhile. `options` are those of `numba.njit`.
    """
    compiler = functools.partial(numba.njit, nogil=True, error_model="numpy", **options)
    try:
        return compiler(cache=True)(function)
    except RuntimeError:  # neither the folder of this file nor the user's can be written to
        return compiler()(function)
