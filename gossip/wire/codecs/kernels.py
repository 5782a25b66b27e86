"""int8 and int4 in one pass over a model, compiled by numba: the formula of `blocks`, to the bit.

Imported by `compiled` alone, where numba is installed: importing it compiles, or loads what was compiled before.
IEEE float32 in the order in which `blocks` writes it, without numba's fastmath, so the bytes are those of torch. The
draws are made here, too, by PCG64 (O'Neill 2014, XSL RR 128/64): eight states eight steps apart, which a processor's
vectors step at once.

What is done to a group of numbers is written for LLVM's vectors; what registers they are in is the machine's affair.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import float32, njit, types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic

from gossip.wire.codecs.compiled import GROUP

Compiled = Callable[..., Any]

LANES = GROUP // 4
"""States of the generator that are stepped side by side: a word has the draws of four numbers."""
AHEAD = 1024
"""So many numbers before their turn they are asked for from memory."""

_WORD, _INT = ir.IntType(64), ir.IntType(32)
_SINGLE, _BYTE = ir.FloatType(), ir.IntType(8)
_BYTES = _BYTE.as_pointer()

_SIZE = np.int32(0x7FFFFFFF)
"""Of a float32's bits, all but the sign: of what is not NaN they are in the order of the sizes."""
_INFINITE = np.int32(0x7F800000)
"""The bits of infinity; those of what is not a number are larger."""
_NAN = np.float32(np.nan)
_ZERO = np.float32(0)
_NONE = np.int8(-120)
"""Of two codes in a byte, both 0."""

_FLOATS, _BITS, _CODES = float32[::1], types.int32[::1], types.int8[::1]
_STATES, _WORDS = types.uint64[:, ::1], types.uint64[::1]
_BY = types.UniTuple(types.uint64, 4)


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
def _number(context: Any, bits: Any) -> Any:
    """Return the float32 of these bits."""
    del context, bits
    return float32(types.int32), lambda _, builder, __, arguments: builder.bitcast(arguments[0], _SINGLE)


def _of_group(kind: Any) -> Any:
    return ir.VectorType(kind, GROUP)


def _all(builder: Any, value: Any, count: int = GROUP) -> Any:
    """Return a vector of one value."""
    none = ir.Constant(ir.VectorType(value.type, count), ir.Undefined)
    one = builder.insert_element(none, value, ir.Constant(_INT, 0))
    places = ir.Constant(ir.VectorType(_INT, count), [0] * count)
    return builder.shuffle_vector(one, none, places)


def _constant(kind: Any, value: float, count: int = GROUP) -> Any:
    return ir.Constant(ir.VectorType(kind, count), [value] * count)


def _address(target: Any, builder: Any, kind: Any, array: Any, place: Any, group: Any) -> Any:
    """Return where an array has a group."""
    data = target.make_array(kind)(target, builder, array).data
    return builder.bitcast(builder.gep(data, [place]), group.as_pointer())


@intrinsic
def _draw(context: Any, states: Any, words: Any, by: Any) -> Any:
    """Write the words of the states (halves, lanes), and step these.

    The upper half of the product of two lower halves is that of the school, of halves once more; no sum in it is larger
    than 64 bits, since (2³² - 1)² + 2 (2³² - 1) = 2⁶⁴ - 1. Of the other products it needs no more than the lower half.
    """
    del context

    def emit(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        states, words, by = arguments
        lanes = ir.VectorType(_WORD, LANES)
        half, mask = _constant(_WORD, 32, LANES), _constant(_WORD, 0xFFFFFFFF, LANES)

        def row(of_array: int, array: Any, number: int) -> Any:
            place = ir.Constant(_WORD, number * LANES)
            return _address(target, builder, signature.args[of_array], array, place, lanes)

        def halves(value: Any) -> tuple[Any, Any]:
            return builder.and_(value, mask), builder.lshr(value, half)

        def total(*values: Any) -> Any:
            return functools.reduce(builder.add, values)

        low, high = (builder.load(row(0, states, number), align=8) for number in range(2))
        times_low, times_high, plus_low, plus_high = (
            _all(builder, builder.extract_value(by, place), LANES) for place in range(4)
        )
        kind = ir.FunctionType(lanes, [lanes] * 3)
        right = get_or_insert_function(builder.module, kind, f"llvm.fshr.v{LANES}i64")
        mixed, turned = builder.xor(high, low), builder.lshr(high, _constant(_WORD, 58, LANES))
        drawn = builder.call(right, [mixed, mixed, turned])
        builder.store(drawn, row(1, words, 0), align=8)
        (a, b), (c, d) = halves(low), halves(times_low)
        first, above = halves(builder.mul(a, c))
        second, carried = halves(total(builder.mul(b, c), above))
        second = total(builder.mul(a, d), second)
        upper = total(builder.mul(b, d), carried, builder.lshr(second, half))
        stepped = total(builder.or_(builder.shl(second, half), first), plus_low)
        one = builder.zext(builder.icmp_unsigned("<", stepped, plus_low), lanes)
        builder.store(stepped, row(0, states, 0), align=8)
        others = builder.mul(low, times_high), builder.mul(high, times_low)
        builder.store(total(upper, *others, plus_high, one), row(0, states, 1), align=8)
        return target.get_dummy_value()

    return types.void(states, words, by), emit


def _coding(rounding: str, *, most: int) -> Any:
    """Return what codes the `GROUP` numbers of x from `place` on, with the draws of `words`, into `codes`.

    Args:
        rounding: "llvm.floor", or "llvm.rint" for the nearest, ties to even: then words are not looked at.
        most: the largest code; of 7 two are in a byte.
    """

    def coding(context: Any, x: Any, place: Any, scale: Any, words: Any, codes: Any) -> Any:
        del context

        def emit(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            x, place, scale, words, codes = arguments
            numbers, levels = _of_group(_SINGLE), _of_group(_INT)
            of_x, *_, of_codes = signature.args
            read = builder.load(_address(target, builder, of_x, x, place, numbers), align=4)
            ratio = builder.fdiv(read, _all(builder, scale))
            if rounding == "llvm.floor":
                sixteen, none = _of_group(ir.IntType(16)), ir.Constant(_WORD, 0)
                drawn = builder.load(
                    _address(target, builder, signature.args[3], words, none, sixteen), align=8
                )
                halves = builder.zext(drawn, levels)
                drawn = builder.fmul(builder.sitofp(halves, numbers), _constant(_SINGLE, 2.0**-16))
                ratio = builder.fadd(ratio, drawn)
            kind = ir.FunctionType(numbers, [numbers])
            called = get_or_insert_function(builder.module, kind, f"{rounding}.v{GROUP}f32")
            rounded = builder.call(called, [ratio])
            code = builder.fptosi(rounded, levels)
            for beyond, bound in (("<", -most), (">", most)):
                limit = _constant(_INT, bound)
                code = builder.select(builder.icmp_signed(beyond, code, limit), limit, code)
            if most == 7:
                halves = builder.trunc(builder.add(code, _constant(_INT, 8)), _of_group(_BYTE))
                pairs = builder.bitcast(halves, ir.VectorType(ir.IntType(16), GROUP // 2))
                four = ir.Constant(pairs.type, [4] * (GROUP // 2))
                packed = builder.or_(pairs, builder.lshr(pairs, four))
                made = builder.trunc(packed, ir.VectorType(_BYTE, GROUP // 2))
                place = builder.lshr(place, ir.Constant(place.type, 1))
            else:
                made = builder.trunc(code, _of_group(_BYTE))
            builder.store(made, _address(target, builder, of_codes, codes, place, made.type), align=1)
            return target.get_dummy_value()

        return types.void(x, place, scale, words, codes), emit

    return intrinsic(coding)


_floor8, _nearest8 = _coding("llvm.floor", most=127), _coding("llvm.rint", most=127)
_floor4, _nearest4 = _coding("llvm.floor", most=7), _coding("llvm.rint", most=7)


@intrinsic
def _unpack(context: Any, codes: Any, place: Any, scale: Any, x: Any) -> Any:
    """Write the `GROUP` numbers from `place` on of codes that are two in a byte."""
    del context

    def emit(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        codes, place, scale, x = arguments
        packed, pairs = (ir.VectorType(ir.IntType(bits), GROUP // 2) for bits in (8, 16))
        half = builder.lshr(place, ir.Constant(place.type, 1))
        read = builder.load(_address(target, builder, signature.args[0], codes, half, packed), align=1)
        wide = builder.zext(read, pairs)
        apart = builder.or_(wide, builder.shl(wide, ir.Constant(pairs, [4] * (GROUP // 2))))
        halves = builder.bitcast(
            builder.and_(apart, ir.Constant(pairs, [0x0F0F] * (GROUP // 2))), _of_group(_BYTE)
        )
        code = builder.sub(builder.zext(halves, _of_group(_INT)), _constant(_INT, 8))
        number = builder.fmul(builder.sitofp(code, _of_group(_SINGLE)), _all(builder, scale))
        builder.store(number, _address(target, builder, signature.args[3], x, place, number.type), align=4)
        return target.get_dummy_value()

    return types.void(codes, place, scale, x), emit


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
def _scale(bits, most):  # type: ignore[no-untyped-def]
    """Return max|x| / most of a block; NaN where a number is not finite."""
    largest = np.int32(0)
    for place in range(len(bits)):  # of a slice, whose places are not negative, or it is no loop of vectors
        largest = max(largest, np.int32(bits[place] & _SIZE))
    return np.float32(_number(largest) / np.float32(most)) if largest < _INFINITE else _NAN


@njit
def _nothing(codes, start, block, packed):  # type: ignore[no-untyped-def]
    """Write the code 0 for all of a block."""
    code = _NONE if packed else np.int8(0)
    if packed:
        start, block = start // 2, block // 2
    for place in range(start, start + block):
        codes[place] = code


@njit
def _stochastic(x, bits, scales, codes, block, packed, states, words, by):  # type: ignore[no-untyped-def]
    """Do what `encode` does, up or down by chance."""
    most = np.int32(7 if packed else 127)
    for index in range(len(scales)):
        start = index * block
        scale = _scale(bits[start : start + block], most)
        scales[index] = scale
        for place in range(start, start + block, GROUP):
            _prefetch(x, place + AHEAD)
            _draw(states, words, by)
            if scale > _ZERO:
                if packed:
                    _floor4(x, place, scale, words, codes)
                else:
                    _floor8(x, place, scale, words, codes)
        if not scale > _ZERO:
            _nothing(codes, start, block, packed)


@njit
def _to_nearest(x, bits, scales, codes, block, packed, words):  # type: ignore[no-untyped-def]
    """Do what `encode` does, to the nearest."""
    most = np.int32(7 if packed else 127)
    for index in range(len(scales)):
        start = index * block
        scale = _scale(bits[start : start + block], most)
        scales[index] = scale
        if not scale > _ZERO:
            _nothing(codes, start, block, packed)
            continue
        for place in range(start, start + block, GROUP):
            _prefetch(x, place + AHEAD)
            if packed:
                _nearest4(x, place, scale, words, codes)
            else:
                _nearest8(x, place, scale, words, codes)


@_kernel(
    types.void(
        _FLOATS, _BITS, _FLOATS, _CODES, types.int64, types.boolean, types.boolean, _STATES, _WORDS, _BY
    )
)
def encode(x, bits, scales, codes, block, packed, stochastic, states, words, by):  # type: ignore[no-untyped-def]
    """Write the scales and codes of whole blocks.

    Args:
        x: float32 (n · block,).
        bits: the same memory, as int32.
        scales: float32 (n,).
        codes: int8 (n · block,), or two in a byte.
        block: numbers that share a scale, a multiple of `GROUP`.
        packed: two codes in a byte, up to 7; otherwise up to 127.
        stochastic: otherwise to the nearest.
        states: uint64 (2, LANES), the generator's states of the next words, their lower halves first; written over.
        words: uint64 (LANES,), written over.
        by: what steps them by so many at once: the halves of multiplier and increment, the lower ones first.
    """
    if stochastic:
        _stochastic(x, bits, scales, codes, block, packed, states, words, by)
    else:
        _to_nearest(x, bits, scales, codes, block, packed, words)


@njit
def _lowest(codes, packed):  # type: ignore[no-untyped-def]
    """Return the lowest code, or the lowest half-byte."""
    lowest = np.int8(15)
    if packed:
        for place in range(len(codes)):
            code = codes[place]
            lowest = min(
                lowest, min(np.int8(code & np.int8(15)), np.int8((code >> np.int8(4)) & np.int8(15)))
            )
    else:
        for place in range(len(codes)):
            lowest = min(lowest, codes[place])
    return lowest


@_kernel(types.boolean(_FLOATS, _CODES, types.int64, types.boolean, _FLOATS))
def decode(scales, codes, block, packed, x):  # type: ignore[no-untyped-def]
    """Write codes times scales; return whether some number has every one of the codes.

    Args:
        scales: float32, one a block.
        codes: int8 (n,), or two in a byte.
        block: numbers that share a scale, a multiple of `GROUP`.
        packed: two codes in a byte, up to 7; otherwise up to 127.
        x: float32 (n,).
    """
    for first in range(0, len(x), block):
        last = min(first + block, len(x))
        scale = scales[first // block]
        if packed:
            whole = last - (last - first) % GROUP
            for place in range(first, whole, GROUP):
                _unpack(codes, place, scale, x)
            for place in range(whole, last):
                half = (codes[place // 2] >> np.int8(4 * (place % 2))) & np.int8(15)
                x[place] = np.float32(half - np.int8(8)) * scale
        else:
            here, into = codes[first:last], x[first:last]
            for place in range(len(into)):
                into[place] = np.float32(here[place]) * scale
    return _lowest(codes, packed) > (0 if packed else -128)
