"""Memory for received models, used again once nobody holds the model any more.

The C library returns blocks of this size to the system when they are freed, and every new one costs a page fault and
zeroing for each page: at 100 MB up to half of the time that the transfer itself takes. But an idle block is memory that
training could have had. So only models that are small beside a machine's memory find blocks kept for them.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

POOLED_BYTES_MIN = 16 * 1024 * 1024
"""Shorter blocks are kept by the C library itself."""

POOLED_BYTES_MAX = 64 * 1024 * 1024
"""Longer ones go back to the system at once: beside models of 16 million parameters and more, idle copies would be what
a node's memory is spent on, and numpy asks the kernel for large pages, which cost a fifth of the transfer at most."""

POOLED_BLOCKS_MAX = 4
"""What an idle peer may keep: as many models as neighbours usually send at one time."""

_REFERENCES_WHEN_IDLE = 3
"""Our list, the loop's variable, and the argument of the question."""


class MemoryPool:
    """Hands out blocks of bytes; one whose last view (a tensor, an array, a slice of either) is gone comes again.

    For one thread.
    """

    def __init__(self) -> None:
        self._blocks: list[np.ndarray[Any, np.dtype[np.uint8]]] = []

    def take(self, nbytes: int) -> memoryview:
        """Return `nbytes` writable bytes of any content."""
        if not POOLED_BYTES_MIN <= nbytes <= POOLED_BYTES_MAX:
            return _new_block(nbytes).data if nbytes else memoryview(bytearray())
        for block in self._blocks:
            # Whatever was made of a block refers to it, directly or through the view that was handed out.
            if block.nbytes == nbytes and sys.getrefcount(block) == _REFERENCES_WHEN_IDLE:
                return block.data
        block = _new_block(nbytes)
        self._blocks.append(block)
        # Beyond the bound a block lives only as long as its model.
        del self._blocks[:-POOLED_BLOCKS_MAX]
        return block.data


def _new_block(nbytes: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.empty(nbytes, dtype=np.uint8)
