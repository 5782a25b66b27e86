"""Memory that a process has freed, and its C library has not given back."""

from __future__ import annotations

import ctypes

_C = ctypes.CDLL(None)
_TRIM = getattr(_C, "malloc_trim", None)  # glibc's; others give back by themselves
_OPTION = getattr(_C, "mallopt", None) if _TRIM is not None else None
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)

BLOCK_BYTES_MAX = 32 * 1024 * 1024
"""Longer blocks glibc always takes from the system."""

KEPT_BYTES = 64 * 1024 * 1024
"""What is kept of freed memory, a few stacks of a simulation."""


def give_back() -> None:
    """Give the system what was freed so far; nothing where the C library cannot.

    A set-up tries a network out, with gradients and copies of weights that nobody needs afterwards. Blocks of less than
    32 MB stay in heaps, one for each thread, and what another thread takes later lies beside them.
    """
    if _TRIM is not None:
        _TRIM(0)


def keep() -> None:
    """Let what was freed, up to `KEPT_BYTES`, stay for what comes next; nothing where the C library has no such choice.

    Each block of a megabyte is otherwise given back and asked for again, and the system then clears every page of it:
    a twentieth of the time of a simulation, which makes and frees a handful for each stack of models. For good: a
    process learns like this or it does not.
    """
    if _OPTION is not None:
        _OPTION(_MMAP_THRESHOLD, BLOCK_BYTES_MAX)
        _OPTION(_TRIM_THRESHOLD, KEPT_BYTES)
