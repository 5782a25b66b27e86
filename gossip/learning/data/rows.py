"""Samples as a source holds them, read a few at a time: in a mapped file, in memory, or behind a user's code.

What is prepared all at once is a copy as float32, four times the size of bytes. Above `PREPARED_BYTES` samples stay as
they are instead, and are prepared whenever a mini-batch needs them (`Mapped`); `[data] mapped` says otherwise.
"""

from __future__ import annotations

import math
import mmap
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from gossip.learning.data.arrays import Array

PREPARED_BYTES = 2**30
"""Of all training or all test samples, as float32: what is larger is mapped, where `[data] mapped = "auto"`."""

VALUE_BYTES = 4
"""Of float32."""

RELEASED_BYTES = 256 * 2**20
"""After so much may have come of a mapped file, its pages are given back. They stay in the system's cache as long as
there is room, but would count as this process's memory until somebody else needs it."""

FAULT_BYTES = 2 * 2**20
"""A page that is touched may bring its neighbours with it: on Linux, 64 KiB or a huge page of the cache."""


class Rows(Protocol):
    """Samples (n, …) as the source holds them."""

    draws: bool
    """Whether reading them draws from the process's generators, which other threads then must not use."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, …)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what `take` returns."""

    def take(self, numbers: npt.NDArray[np.int64]) -> Array:
        """Return the samples (b, …) with these numbers, in memory of their own.

        Raises:
            DataError: one of them cannot be read.
        """


def stay(shape: tuple[int, ...], mapped: bool | Literal["auto"]) -> bool:
    """Return whether samples of `shape` (n, …) are prepared a mini-batch at a time, by `[data] mapped`."""
    return VALUE_BYTES * math.prod(shape) > PREPARED_BYTES if mapped == "auto" else mapped


def of_array(array: Array, mapped: bool | Literal["auto"]) -> Array | ArrayRows:
    """Return an array that is to be prepared at once, or the same as rows."""
    return ArrayRows(array) if array.ndim and stay(array.shape, mapped) else array


class ArrayRows:
    """The rows of an array, which may be a mapped file."""

    draws = False

    def __init__(self, array: Array) -> None:
        self._array = np.asarray(array)  # without what a memmap does at every slice
        self._mapping = _mapping(array)
        row_bytes = self._array.nbytes // max(1, len(array))
        self._at_once = max(1, RELEASED_BYTES // (row_bytes + FAULT_BYTES))
        self._touched = 0
        """Rows, since pages were given back."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, …)."""
        return self._array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """As the array has it."""
        return self._array.dtype

    def take(self, numbers: npt.NDArray[np.int64]) -> Array:
        """Return the rows with these numbers."""
        if self._mapping is None or len(numbers) <= self._at_once:
            return self._some(numbers)
        starts = range(0, len(numbers), self._at_once)
        return np.concatenate([self._some(numbers[start : start + self._at_once]) for start in starts])

    def _some(self, numbers: npt.NDArray[np.int64]) -> Array:
        if self._mapping is not None:
            self._touched += len(numbers)
            if self._touched > self._at_once:
                self._touched = len(numbers)
                self._mapping.madvise(mmap.MADV_DONTNEED)
        # Not `np.take`: it copies all of an array that is not aligned, and members of an archive are not.
        taken: Array = self._array[numbers]
        return taken


def _mapping(array: Array) -> mmap.mmap | None:
    """Return the map of a file that `array` lies in, if its pages can be given back: they hold what the file holds."""
    written_through = getattr(array, "mode", None) in (
        "r",
        "r+",
        "w+",
    )  # not "c": changes are in the pages alone
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return (
        base if isinstance(base, mmap.mmap) and written_through and hasattr(mmap, "MADV_DONTNEED") else None
    )
