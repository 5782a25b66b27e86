"""Memory for rows of floats that may become more without being copied: pages move, or are mapped once more."""

from __future__ import annotations

import contextlib
import mmap
import os
import sys

import numpy as np
import torch
from torch import Tensor


class PrivateRows:
    """Rows of one process. Pages that nobody has written to take no memory, as with `torch.empty`.

    Where rows cannot be mapped (another device, or no Linux) more of them are a copy, and for a moment both are there.
    """

    def __init__(self, rows: int, columns: int, device: torch.device) -> None:
        self._columns = columns
        self._memory: mmap.mmap | None = None
        self.vectors: Tensor
        """All of them, (rows, columns)."""
        if device.type == "cpu" and sys.platform == "linux" and rows * columns:
            self._memory = mmap.mmap(-1, 4 * rows * columns, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            # Averages read rows from anywhere: of small pages the processor would look up a new one for each.
            with contextlib.suppress(OSError):  # of a kernel that has none
                self._memory.madvise(mmap.MADV_HUGEPAGE)
            self._look()
        else:
            self.vectors = torch.empty(rows, columns, device=device)

    def grow(self, rows: int) -> None:
        """Let there be so many rows; those that were there stay as they are, and may lie elsewhere."""
        old, size = len(self.vectors), 4 * rows * self._columns
        if self._memory is not None:
            self.vectors = torch.empty(0)
            try:
                self._memory.resize(size)
            except BufferError:  # somebody still looks at them
                self._look()
            else:
                self._look()
                return
        more = self.vectors.new_empty(rows, self._columns)
        more[:old] = self.vectors
        self.vectors, self._memory = more, None

    def _look(self) -> None:
        assert self._memory is not None
        # By numpy, which holds the memory where it is; `torch.frombuffer` would let it be moved away.
        floats = np.frombuffer(self._memory, dtype=np.float32)
        self.vectors = torch.from_numpy(floats).view(-1, self._columns)


class SharedRows:
    """Rows that processes forked later share; on small pages.

    Pages that nobody has written to take no memory, as with `torch.empty`.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self._columns = columns
        self._file = os.memfd_create("gossip-models")
        self.vectors = self._mapped(rows)
        """All of them, (rows, columns)."""

    def grow(self, rows: int) -> None:
        """Let there be so many rows; those that were there stay as they are."""
        self.vectors = self._mapped(rows)

    def _mapped(self, rows: int) -> Tensor:
        size = 4 * rows * self._columns
        if os.fstat(self._file).st_size < size:
            os.ftruncate(self._file, size)
        memory = mmap.mmap(self._file, size)
        return torch.frombuffer(memory, dtype=torch.float32).view(rows, self._columns)

    def __del__(self) -> None:
        os.close(self._file)
