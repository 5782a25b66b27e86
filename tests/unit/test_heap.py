"""Memory that a process frees is there for what comes next, where it asked for that."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from gossip import heap

BLOCKS = """
import ctypes, resource
from gossip import heap
c, nbytes = ctypes.CDLL(None), 4 << 20
c.malloc.restype, c.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
heap.keep()

def faults():
    for _ in range(20):
        blocks = [c.malloc(nbytes) for _ in range(4)]
        for block in blocks:
            ctypes.memset(block, 1, nbytes)
        for block in blocks:
            c.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

before = faults()
print(faults() - before)
"""

needs_mallopt = pytest.mark.skipif(heap._OPTION is None, reason="this C library has no mallopt")

CLEARED = 20 * 4 * 1024
"""Pages of 4 KiB, where each block's are cleared anew each time."""


def faults(**environment: str) -> int:
    """Return how many pages the system had to clear, in a process of its own."""
    others = {name: value for name, value in os.environ.items() if name not in heap._SET_BY_USER}
    command, said = [sys.executable, "-c", BLOCKS], {**others, **environment}
    return int(subprocess.run(command, capture_output=True, text=True, check=True, env=said).stdout)


@needs_mallopt
def test_blocks_that_are_made_and_freed_again_and_again_keep_their_pages() -> None:
    assert faults() < CLEARED / 80


@needs_mallopt
def test_what_the_environment_says_of_freed_memory_stands() -> None:
    assert faults(MALLOC_TRIM_THRESHOLD_="131072") > CLEARED / 2
