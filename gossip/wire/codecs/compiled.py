"""int8 and int4 by compiled kernels, where the extra `fast` is installed and a model is large; the bytes are the same.

Torch codes a piece in a dozen passes over the cache, numba in one. But numba takes some seconds to compile them, once
on a machine where there is a folder to keep them in, and otherwise in each process, so small models are left to torch.
"""

from __future__ import annotations

import functools
import importlib
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gossip.draws import Draws

NUMBERS_MIN = 1 << 22
"""Shorter vectors are torch's: there it takes a hundred messages to win back what loading the kernels takes."""

AT_ONCE = 1 << 11
"""Numbers whose draws are made, and which are fetched from memory beside, before they are coded: they stay in the
innermost cache."""

_WORD = (1 << 64) - 1
_STATE = (1 << 128) - 1


class Form(NamedTuple):
    """Of the codes."""

    block: int
    most: int
    packed: bool
    """Two in a byte."""


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
    kernels = _loaded().kernels if len(vector) >= NUMBERS_MIN else None
    if kernels is None or not _plain(vector):
        return False
    x = vector.detach().numpy()
    # A whole number of blocks, and of steps of the generator.
    step = math.lcm(form.block, kernels.HALVES_PER_STEP)
    at_once = step * max(1, AT_ONCE // step)
    words = np.empty(0 if draws is None else at_once // 4, np.uint64)
    states, by = _generator(draws, kernels.LANES)
    scratch = np.empty(at_once, np.int8)
    kernels.encode(
        x,
        x.view(np.int32),
        scales.numpy(),
        codes.view(torch.int8).numpy(),
        form.block,
        form.most,
        form.packed,
        states,
        by,
        words,
        words.view(np.uint16),
        scratch,
    )
    return True


def decode(scales: Tensor, codes: Tensor, form: Form, vector: Tensor) -> bool | None:
    """Write codes times scales into a vector (n,); return whether numbers have these codes. None: that is not done."""
    kernels = _loaded().kernels
    if kernels is None:
        return None
    good: bool = kernels.decode(
        scales.numpy(), codes.view(torch.int8).numpy(), form.block, form.most, form.packed, vector.numpy()
    )
    return good


def _plain(vector: Tensor) -> bool:
    return vector.dtype == torch.float32 and vector.is_cpu and vector.is_contiguous()


def _generator(draws: Draws | None, lanes: int) -> tuple[Any, tuple[int, int, int, int]]:
    """Return the states of the first `lanes` words (lanes, 2), and what steps them by so many at once."""
    states = np.zeros((lanes, 2), np.uint64)
    if draws is None:
        return states, (0, 0, 0, 0)
    state, multiplier, increment = draws.generator()
    by, plus = 1, 0
    for lane in range(lanes):
        state = (state * multiplier + increment) & _STATE
        states[lane] = state >> 64, state & _WORD
        by, plus = (by * multiplier) & _STATE, (plus * multiplier + increment) & _STATE
    return states, (by >> 64, by & _WORD, plus >> 64, plus & _WORD)
