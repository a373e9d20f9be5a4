"""The compiled loop of `model.kernels.attention`: exponentials of bf16 scores.

Numba knows no bf16. Its numbers come as the integers that hold their bits: the upper halves of
float32 numbers.

Legend: N queries, M keys.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numba import types
from numba.extending import intrinsic

from model.kernels.compiled import compiled

_LOG2_E = np.float32(math.log2(math.e))
# 2^x on -0.5..0.5, relatively right to 3e-6 (bf16 to 4e-3): least squares, weighted until all
# extremes of the error were alike.
_C0, _C1, _C2, _C3, _C4 = (
    np.float32(c) for c in (0.99999926, 0.69312181, 0.24024745, 0.05591786, 0.0095701)
)
_LOWEST = np.float32(-126)  # below, 2^x is no normal number
_ROUNDS = np.float32(3 << 22)  # adding it leaves a small number's whole part in the last bits
_NOT_A_NUMBER = np.int16(0x7FC0)
_MAGNITUDE = np.int16(0x7FFF)
_INFINITE = np.int16(0x7F80)


@intrinsic
def _bits_of(_context, _number):
    """The bits of a float32 as an integer."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))

    return types.uint32(types.float32), generate


@intrinsic
def _number_of(_context, _bits):
    """The float32 that has these bits."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))

    return types.float32(types.uint32), generate


@compiled
def _widened(bits):
    """bf16 to float32."""
    return _number_of(np.uint32(np.uint16(bits)) << np.uint32(16))


@compiled
def _rounded(number):
    """float32 to bf16, to nearest, ties to even."""
    bits = _bits_of(number)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    return np.int16((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))


@compiled
def _ordered(bits):
    """An integer that is the larger the larger the bf16 number is; its own inverse."""
    return np.int16(bits ^ ((bits >> np.int16(15)) & _MAGNITUDE))


# Reordering would cancel what `_ROUNDS` is added for.
@functools.partial(compiled, fastmath={"contract"})
def _exp2(x):
    """2^x: a polynomial of what rounding leaves, and the whole part added to the exponent."""
    x = x if x > _LOWEST else _LOWEST
    shifted = x + _ROUNDS
    rest = x - (shifted - _ROUNDS)
    power = _C0 + rest * (_C1 + rest * (_C2 + rest * (_C3 + rest * _C4)))
    return _number_of(np.uint32(_bits_of(power) + (_bits_of(shifted) << np.uint32(23))))


# Sums may be reordered: that is what lets them be vectorised. So may integers, but not floats,
# of which the greatest is wanted.
@functools.partial(compiled, fastmath={"contract", "reassoc", "nsz"})
def exponentials(scores, scale, sums):
    """Scores to their exponentials, in place, each row relative to its greatest.

    A row with a score that is infinite or no number is none throughout.

    Args:
        scores: (N, M) int16, bf16 bits.
        scale: what scores are multiplied by.
        sums: (N,) float32, to be filled: of a row's exponentials.
    """
    factor = scale * _LOG2_E
    rows, columns = scores.shape
    for i in range(rows):
        row = scores[i]
        greatest, largest = np.int16(-0x8000), np.int16(0)
        for j in range(columns):
            order, size = _ordered(row[j]), np.int16(row[j] & _MAGNITUDE)
            greatest = order if order > greatest else greatest
            largest = size if size > largest else largest
        if largest >= _INFINITE:
            row[:] = _NOT_A_NUMBER
            sums[i] = np.float32(np.nan)
            continue
        shift = _widened(_ordered(greatest)) * factor
        total = np.float32(0)
        for j in range(columns):
            power = _exp2(_widened(row[j]) * factor - shift)
            total += power
            row[j] = _rounded(power)
        sums[i] = total
