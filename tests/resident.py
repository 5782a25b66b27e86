"""How much memory a call takes at its peak, as the kernel counts it: whoever allocates it, and however it is freed."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

import pytest

MAPPED_BYTES_MIN = 33 * 2**20
"""From here on the C library maps every block by itself and unmaps it when it is freed, so that the kernel's count is
exact to a page. Smaller ones may stay in a heap."""

_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None)
_RESET = Path("/proc/self/clear_refs")


def _of_process(field: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition(f"{field}:")[2].split()[0]) * 1024


def peak_bytes(call: Callable[[], object]) -> int:
    """Return how far resident memory rose above what it was before `call()`; skip the test where nobody can tell.

    Libraries' work space comes on top, some ten megabytes where it is taken for the first time: what is to be counted
    is best a hundred and more.
    """
    gc.collect()  # or an earlier test's cycles would be freed within the call
    if _TRIM is not None:
        _TRIM(0)  # or the call would be given what earlier tests had left in the heap, which counts already
    try:
        _RESET.write_text("5")  # puts the peak back to the present
    except OSError as error:
        pytest.skip(f"the peak of memory cannot be reset: {error}")
    before = _of_process("VmRSS")
    call()
    return _of_process("VmHWM") - before
