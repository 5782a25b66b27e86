"""Memory that a process has freed, and its C library has not given back."""

from __future__ import annotations

import ctypes

_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; others give back by themselves


def give_back() -> None:
    """Give the system what was freed so far; nothing where the C library cannot.

    A set-up tries a network out, with gradients and copies of weights that nobody needs afterwards. Blocks of less than
    32 MB stay in heaps, one for each thread, and what another thread takes later lies beside them.
    """
    if _TRIM is not None:
        _TRIM(0)
