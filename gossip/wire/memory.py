"""Memory for coded, received and decoded models, used again once nobody holds the model any more.

The C library returns blocks of this size to the system when they are freed, and every new one costs a page fault and
zeroing for each page: at 100 MB up to half of the time that the transfer itself takes. But an idle block is memory that
training could have had. So only models that are small beside a machine's memory find blocks kept for them, and only as
long as models keep coming and going. Blocks are mapped one by one, so that what is given back is the system's at once,
whatever the C library keeps in its heaps.
"""

from __future__ import annotations

import contextlib
import mmap
import sys
import threading
from typing import Any

import numpy as np

POOLED_BYTES_MIN = 4 * 1024 * 1024
"""Shorter blocks the C library often keeps by itself, and they cost little."""

POOLED_BYTES_MAX = 64 * 1024 * 1024
"""Longer ones go back to the system at once: beside models of 16 million parameters and more, idle copies would be what
a node's memory is spent on, and numpy asks the kernel for large pages, which cost a fifth of the transfer at most."""

POOLED_BLOCKS_MAX = 4
"""What an idle peer may keep: as many models as neighbours usually send at one time."""

DECODED_BYTES_MAX = 128 * 1024 * 1024
"""The same of what models are decoded to. To write it for the first time takes as long as decoding it does, and longer
than a coded model travels between machines that are near each other."""

DECODED_BLOCKS_MAX = 1

IDLE_S = 5.0
"""A block that nobody has had for so long goes back to the system, after twice as long at the latest."""

_REFERENCES_WHEN_IDLE = 2
"""The pool's, and the argument of the question."""


class _Block:
    """Some memory, and whether it was idle when somebody last looked."""

    __slots__ = ("idle", "memory")

    def __init__(self, nbytes: int) -> None:
        mapped = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):  # of a kernel that has no large pages
                mapped.madvise(mmap.MADV_HUGEPAGE)
        self.memory: np.ndarray[Any, np.dtype[np.uint8]] = np.frombuffer(mapped, dtype=np.uint8)
        self.idle = False

    @property
    def held(self) -> bool:
        """Whether somebody has a view of it: whatever is made of a block refers to it, directly or through others.

        Unless a memoryview is released while a tensor still looks through it: nobody may do that.
        """
        return sys.getrefcount(self.memory) > _REFERENCES_WHEN_IDLE


class MemoryPool:
    """Hands out blocks of bytes; one whose last view (a tensor, an array, a slice of either) is gone comes again.

    For any thread.

    Args:
        bytes_max: longer blocks are not kept.
        blocks_max: how many are, at most.
    """

    def __init__(self, *, bytes_max: int = POOLED_BYTES_MAX, blocks_max: int = POOLED_BLOCKS_MAX) -> None:
        self._bytes_max = bytes_max
        self._blocks_max = blocks_max
        self._blocks: list[_Block] = []
        self._lock = threading.Lock()

    def take(self, nbytes: int) -> memoryview:
        """Return `nbytes` writable bytes of any content."""
        if not nbytes:
            return memoryview(bytearray())
        if not POOLED_BYTES_MIN <= nbytes <= self._bytes_max:
            return np.empty(nbytes, dtype=np.uint8).data
        with self._lock:
            for block in self._blocks:
                if block.memory.nbytes == nbytes and not block.held:
                    block.idle = False
                    return block.memory.data
            block = _Block(nbytes)
            self._blocks.append(block)
            # Beyond the bound a block lives only as long as its model.
            del self._blocks[: max(0, len(self._blocks) - self._blocks_max)]
            return block.memory.data

    def give_back(self) -> None:
        """Give the system the blocks that were idle at the last call and have been since."""
        with self._lock:
            self._blocks = [block for block in self._blocks if block.held or not block.idle]
            for block in self._blocks:
                block.idle = not block.held
