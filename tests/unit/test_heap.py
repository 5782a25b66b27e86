"""Memory that a process frees is there for what comes next, where it asked for that."""

from __future__ import annotations

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


@pytest.mark.skipif(heap._OPTION is None, reason="this C library has no mallopt")
def test_blocks_that_are_made_and_freed_again_and_again_keep_their_pages() -> None:
    done = subprocess.run([sys.executable, "-c", BLOCKS], capture_output=True, text=True, check=True)
    # Cleared anew each time they are twenty times 4 · 1024 pages of 4 KiB.
    assert int(done.stdout) < 1024
