"""int8 and int4 by compiled kernels, where the extra `fast` is installed and a model is large; the bytes are the same.

Torch codes a piece in a dozen passes over the cache, numba in one. But numba takes some seconds to compile them, once
on a machine where there is a folder to keep them in, and otherwise in each process, so small models are left to torch.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gossip.draws import Draws

NUMBERS_MIN = 1 << 22
"""Shorter vectors are torch's: there it takes a hundred messages to win back what loading the kernels takes."""

GROUP = 32
"""Numbers that the kernels code at once: eight words of draws. Blocks that are not made of such groups are torch's."""

_STATE_BITS = 128
_HALF_BITS = 64


class Form(NamedTuple):
    """Of the codes."""

    block: int
    packed: bool
    """int4's, two in a byte; otherwise int8's."""


class _Loaded(NamedTuple):
    kernels: Any
    by: str
    """What codes, for people."""


@functools.cache
def _loaded() -> _Loaded:
    try:
        numba = importlib.import_module("numba")
        if numba.config.DISABLE_JIT:
            return _Loaded(None, "torch; numba is not to compile")
        return _Loaded(importlib.import_module("gossip.wire.codecs.kernels"), f"numba {numba.__version__}")
    except ModuleNotFoundError:
        return _Loaded(None, "torch; numba is not installed")
    except Exception as failure:  # whatever keeps it from working here: torch writes the same
        return _Loaded(None, f"torch; numba fails: {failure}")


def coder(elements: int) -> str:
    """Return what codes a vector of so many numbers, for people."""
    return _loaded().by if elements >= NUMBERS_MIN else "torch"


def encode(vector: Tensor, scales: Tensor, codes: Tensor, form: Form, draws: Draws | None) -> bool:
    """Write scales and codes of a vector (n,); return whether that is done. Without draws: to the nearest."""
    kernels = _kernels(form, len(vector))
    if kernels is None or not _plain(vector):
        return False
    states, words, by = _generator(draws, kernels.LANES)
    x, written, made = vector.detach().numpy(), scales.numpy(), codes.view(torch.int8).numpy()

    def blocks(x: Any, scales: Any, codes: Any) -> None:
        stochastic = draws is not None
        kernels.encode(
            x, x.view(np.int32), scales, codes, form.block, form.packed, stochastic, states, words, by
        )

    count, rest = divmod(len(x), form.block)
    each = 2 if form.packed else 1
    whole = count * form.block
    blocks(x[:whole], written[:count], made[: whole // each])
    if rest:
        # Zeros behind it change neither its scale nor its codes.
        last, packed = np.zeros(form.block, np.float32), np.empty(form.block // each, np.int8)
        last[:rest] = x[whole:]
        blocks(last, written[count:], packed)
        made[whole // each :] = packed[: len(made) - whole // each]
    return True


def decode(scales: Tensor, codes: Tensor, form: Form, vector: Tensor, *, elements: int) -> bool | None:
    """Write codes times scales into `vector` (n,); return whether numbers have these codes. None: that is not done.

    Args:
        scales: of its blocks, and what stands behind them.
        codes: of its numbers.
        form: of the codes.
        vector: a piece of a model.
        elements: of the whole model.
    """
    kernels = _kernels(form, elements)
    blocks, nbytes = -(-len(vector) // form.block), (len(vector) + 1) // 2 if form.packed else len(vector)
    # Kernels check no bounds: of other tensors than were agreed on torch says what is wrong.
    if kernels is None or not _plain(scales) or len(scales) < blocks or len(codes) != nbytes:
        return None
    good: bool = kernels.decode(
        scales.numpy(), codes.view(torch.int8).numpy(), form.block, form.packed, vector.numpy()
    )
    return good


def _kernels(form: Form, elements: int) -> Any:
    """Return what codes so many numbers in this form; None: torch does."""
    if elements < NUMBERS_MIN or form.block % GROUP:
        return None
    return _loaded().kernels


def _plain(vector: Tensor) -> bool:
    """Return whether it is what a kernel takes: float32 in aligned memory of the processor's, without gaps."""
    plain = vector.dtype == torch.float32 and vector.is_cpu and vector.is_contiguous()
    return plain and vector.data_ptr() % vector.itemsize == 0


def _generator(draws: Draws | None, lanes: int) -> tuple[Any, Any, tuple[int, ...]]:
    """Return the states of the first `lanes` words (halves, lanes), room for the words, and what steps the states."""
    # Torch's memory begins where a cache line does.
    memory = torch.zeros(3, lanes, dtype=torch.int64).numpy().view(np.uint64)
    states, words = memory[:-1], memory[-1]
    by, plus = 1, 0
    if draws is not None:
        state, multiplier, increment = draws.generator()
        for lane in range(lanes):
            state = _stepped(state, multiplier, increment)
            states[:, lane] = _halves(state)
            by, plus = _stepped(by, multiplier, 0), _stepped(plus, multiplier, increment)
    return states, words, (*_halves(by), *_halves(plus))


def _stepped(state: int, multiplier: int, increment: int) -> int:
    return (state * multiplier + increment) % (1 << _STATE_BITS)


def _halves(state: int) -> list[int]:
    """Return its lower and its upper 64 bits."""
    return [state % (1 << _HALF_BITS), state >> _HALF_BITS]
