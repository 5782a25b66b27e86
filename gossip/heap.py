"""Memory that a process has freed, and its C library has not given back."""

from __future__ import annotations

import ctypes
import os

_C = ctypes.CDLL(None)
_TRIM = getattr(_C, "malloc_trim", None)  # glibc's; others give back by themselves
_OPTION = getattr(_C, "mallopt", None) if _TRIM is not None else None
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)

_SET_BY_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")

BLOCK_BYTES_MAX = 8 * 1024 * 1024
"""Longer blocks are taken from the system and given back to it, one by one: a few times a simulation's stack."""

KEPT_BYTES = 64 * 1024 * 1024
"""What stays of freed memory at the end of each heap."""


def give_back() -> None:
    """Give the system what was freed so far; nothing where the C library cannot.

    A set-up tries a network out, with gradients and copies of weights that nobody needs afterwards. Blocks of less than
    32 MB stay in heaps, one for each thread, and what another thread takes later lies beside them.
    """
    if _TRIM is not None:
        _TRIM(0)


def keep() -> None:
    """Let what was freed at the end of a heap, up to `KEPT_BYTES`, stay for what comes next.

    Each block of a megabyte is otherwise given back and asked for again, and the system then clears every page of it:
    a twentieth of the time of a simulation, which makes and frees a handful for each stack of models. What is freed
    below a block that lives on stays in any case. For good, and for all of the process; nothing where the C library has
    no such choice, or the environment has made it.
    """
    if _OPTION is not None and not any(name in os.environ for name in _SET_BY_USER):
        _OPTION(_MMAP_THRESHOLD, BLOCK_BYTES_MAX)
        _OPTION(_TRIM_THRESHOLD, KEPT_BYTES)
