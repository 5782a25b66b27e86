"""int8 and int4 in one pass over a model, compiled by numba: the formula of `blocks`, to the bit.

Imported by `compiled` alone, where numba is installed: importing it compiles, or loads what was compiled before.
IEEE float32 in the order in which `blocks` writes it, without numba's fastmath, so the bytes are those of torch. The
draws are made here, too: four states of PCG64 (O'Neill 2014, XSL RR 128/64) that are four steps apart, since one waits
for its own product of 128 bits. While they are drawn, the numbers that they are for come from memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import float32, njit, types
from numba.extending import intrinsic

Compiled = Callable[..., Any]

LANES = 4
"""States of the generator that are stepped side by side."""
HALVES_PER_STEP = 4 * LANES
"""16-bit halves that a step of all lanes gives."""

_WIDE, _WORD, _INT = ir.IntType(128), ir.IntType(64), ir.IntType(32)
_SINGLE, _BYTES = ir.FloatType(), ir.IntType(8).as_pointer()

_SIZE = np.int32(0x7FFFFFFF)
"""Of a float32's bits, all but the sign: of what is not NaN they are in the order of the sizes."""
_INFINITE = np.int32(0x7F800000)
"""The bits of infinity; those of what is not a number are larger."""
_ULP = np.float32(2.0**-16)
_NAN = np.float32(np.nan)
_ZERO = np.float32(0)

_FLOATS, _BITS, _CODES = float32[::1], types.int32[::1], types.int8[::1]
_HALVES, _WORDS, _STATES = types.uint16[::1], types.uint64[::1], types.uint64[:, ::1]


def _kernel(signature: Any) -> Callable[[Compiled], Compiled]:
    """Compile, or load what was compiled before, where there is a folder to keep it in; without the lock of Python."""

    def compiled(function: Compiled) -> Compiled:
        try:
            made: Compiled = njit(signature, nogil=True, cache=True)(function)
        except (RuntimeError, OSError):  # no folder can be written, or it is full
            made = njit(signature, nogil=True)(function)
        return made

    return compiled


@intrinsic
def _step(context: Any, high: Any, low: Any, by: Any) -> Any:
    """Return state · multiplier + increment modulo 2¹²⁸; `by` has four words: of both the high one first."""
    del context, high, low
    pair = types.UniTuple(types.uint64, 2)

    def emit(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        high, low, by = arguments
        by_high, by_low, plus_high, plus_low = (builder.extract_value(by, place) for place in range(4))

        def wide(high: Any, low: Any) -> Any:
            shifted = builder.shl(builder.zext(high, _WIDE), ir.Constant(_WIDE, 64))
            return builder.or_(shifted, builder.zext(low, _WIDE))

        product = builder.mul(wide(high, low), wide(by_high, by_low))
        state = builder.add(product, wide(plus_high, plus_low))
        upper = builder.trunc(builder.lshr(state, ir.Constant(_WIDE, 64)), _WORD)
        return target.make_tuple(builder, signature.return_type, [upper, builder.trunc(state, _WORD)])

    return pair(types.uint64, types.uint64, types.UniTuple(types.uint64, 4)), emit


@intrinsic
def _number(context: Any, bits: Any) -> Any:
    """Return the float32 of these bits."""
    del context, bits
    return float32(types.int32), lambda _, builder, __, arguments: builder.bitcast(arguments[0], _SINGLE)


def _rounding(name: str) -> Any:
    def rounding(context: Any, x: Any) -> Any:
        del context, x

        def emit(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
            return builder.call(builder.module.declare_intrinsic(name, [_SINGLE]), arguments)

        return float32(float32), emit

    return intrinsic(rounding)


_floor = _rounding("llvm.floor")
_nearest = _rounding("llvm.rint")
"""Ties to even."""


@intrinsic
def _prefetch(context: Any, array: Any, place: Any) -> Any:
    """Ask for the cache line of a place, which may be behind the array's end."""
    del context
    signature = types.void(array, place)

    def emit(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = target.make_array(signature.args[0])(target, builder, arguments[0]).data
        address = builder.bitcast(builder.gep(data, [arguments[1]]), _BYTES)
        kind = ir.FunctionType(ir.VoidType(), [_BYTES, _INT, _INT, _INT])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [_BYTES], kind)
        # To be read, into every cache, and it is data.
        builder.call(prefetch, [address, ir.Constant(_INT, 0), ir.Constant(_INT, 3), ir.Constant(_INT, 1)])
        return target.get_dummy_value()

    return signature, emit


@njit
def _drawn(high, low):  # type: ignore[no-untyped-def]
    """Return the word of a state."""
    mixed, by = high ^ low, high >> np.uint64(58)
    return (mixed >> by) | (mixed << ((np.uint64(64) - by) & np.uint64(63)))


@njit
def _draw(states, by, words, bits, start):  # type: ignore[no-untyped-def]
    """Fill `words`, of each lane in turn; step `states` (LANES, 2); fetch the numbers from `start` on."""
    a0, a1, b0, b1 = states[0, 0], states[0, 1], states[1, 0], states[1, 1]
    c0, c1, d0, d1 = states[2, 0], states[2, 1], states[3, 0], states[3, 1]
    for each in range(len(words) // LANES):
        _prefetch(bits, start + HALVES_PER_STEP * each)
        place = LANES * each
        words[place], words[place + 1] = _drawn(a0, a1), _drawn(b0, b1)
        words[place + 2], words[place + 3] = _drawn(c0, c1), _drawn(d0, d1)
        a0, a1 = _step(a0, a1, by)
        b0, b1 = _step(b0, b1, by)
        c0, c1 = _step(c0, c1, by)
        d0, d1 = _step(d0, d1, by)
    states[0, 0], states[0, 1], states[1, 0], states[1, 1] = a0, a1, b0, b1
    states[2, 0], states[2, 1], states[3, 0], states[3, 1] = c0, c1, d0, d1


@njit
def _scale(bits, most):  # type: ignore[no-untyped-def]
    """Return max|x| / most; NaN where a number is not finite."""
    largest = np.int32(0)
    for place in range(len(bits)):
        largest = max(largest, np.int32(bits[place] & _SIZE))
    return np.float32(_number(largest) / np.float32(most)) if largest < _INFINITE else _NAN


@njit
def _stochastic(x, scale, halves, most, codes):  # type: ignore[no-untyped-def]
    for place in range(len(x)):
        drawn = np.float32(np.float32(np.int32(halves[place])) * _ULP)
        code = np.int32(_floor(np.float32(np.float32(x[place] / scale) + drawn)))
        codes[place] = np.int8(min(max(code, np.int32(-most)), most))


@njit
def _to_nearest(x, scale, most, codes):  # type: ignore[no-untyped-def]
    for place in range(len(x)):
        code = np.int32(_nearest(np.float32(x[place] / scale)))
        codes[place] = np.int8(min(max(code, np.int32(-most)), most))


@njit
def _pack(codes, packed):  # type: ignore[no-untyped-def]
    """Write two codes a byte, an even number of them."""
    for place in range(len(packed)):
        low, high = np.int32(codes[2 * place]) + np.int32(8), np.int32(codes[2 * place + 1]) + np.int32(8)
        packed[place] = np.int8(low | (high << np.int32(4)))


@_kernel(
    types.void(
        _FLOATS,
        _BITS,
        _FLOATS,
        _CODES,
        types.int64,
        types.int32,
        types.boolean,
        _STATES,
        types.UniTuple(types.uint64, 4),
        _WORDS,
        _HALVES,
        _CODES,
    )
)
def encode(x, bits, scales, codes, block, most, packed, states, by, words, halves, scratch):  # type: ignore[no-untyped-def]
    """Write the scales and codes of all `x`.

    Args:
        x: float32 (n,).
        bits: the same memory, as int32.
        scales: float32, one a block.
        codes: int8 (n,), or two in a byte.
        block: numbers that share a scale, even.
        most: the largest code.
        packed: two codes in a byte.
        states: uint64 (LANES, 2), the generator's states of the first words, high word first.
        by: what steps them: multiplier and increment, high word first.
        words: uint64, for the draws of some whole blocks; of no length: to the nearest.
        halves: the same memory, as uint16.
        scratch: int8, for the codes of as many blocks.
    """
    most32 = np.int32(most)
    at_once = len(scratch)
    for start in range(0, len(x), at_once):
        end = min(start + at_once, len(x))
        if len(words):
            _draw(states, by, words, bits, start)
        here = scratch[: end - start] if packed else codes[start:end]
        for first in range(start, end, block):
            last = min(first + block, end)
            into = here[first - start : last - start]
            scale = _scale(bits[first:last], most32)
            scales[first // block] = scale
            if not scale > _ZERO:
                into[:] = 0
            elif len(words):
                _stochastic(x[first:last], scale, halves[first - start : last - start], most32, into)
            else:
                _to_nearest(x[first:last], scale, most32, into)
        if packed:
            if (end - start) % 2:
                scratch[end - start] = 0
            _pack(scratch, codes[start // 2 : (end + 1) // 2])


@njit
def _unscaled(codes, scale, x):  # type: ignore[no-untyped-def]
    """Write codes times their scale; return the lowest code."""
    lowest = np.int8(0)
    for place in range(len(x)):
        code = codes[place]
        lowest = min(lowest, code)
        x[place] = np.float32(code) * scale
    return lowest


@njit
def _unpacked(codes, scale, x):  # type: ignore[no-untyped-def]
    """Write an even number of codes, two of a byte, times their scale; return the lowest half-byte."""
    lowest = np.int8(15)
    for place in range(len(codes)):
        low, high = np.int8(codes[place] & np.int8(15)), np.int8((codes[place] >> np.int8(4)) & np.int8(15))
        lowest = min(lowest, min(low, high))
        x[2 * place] = np.float32(np.int8(low - np.int8(8))) * scale
        x[2 * place + 1] = np.float32(np.int8(high - np.int8(8))) * scale
    return lowest


@_kernel(types.boolean(_FLOATS, _CODES, types.int64, types.int32, types.boolean, _FLOATS))
def decode(scales, codes, block, most, packed, x):  # type: ignore[no-untyped-def]
    """Write codes times scales; return whether some number has every one of the codes.

    Args:
        scales: float32, one a block.
        codes: int8 (n,), or two in a byte.
        block: numbers that share a scale, even.
        most: the largest code.
        packed: two codes in a byte.
        x: float32 (n,).
    """
    good = True
    for first in range(0, len(x), block):
        last = min(first + block, len(x))
        scale = scales[first // block]
        if packed:
            whole = last - last % 2
            lowest = _unpacked(codes[first // 2 : whole // 2], scale, x[first:whole])
            good = good and lowest > 0
            if whole < last:
                low, high = codes[whole // 2] & np.int8(15), (codes[whole // 2] >> np.int8(4)) & np.int8(15)
                x[whole] = np.float32(np.int8(low - np.int8(8))) * scale
                good = good and low > 0 and high > 0
        else:
            good = good and _unscaled(codes[first:last], scale, x[first:last]) >= -most
    return good
