"""Samples that are not in memory: read and prepared when a mini-batch needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gossip.learning.data import arrays
from gossip.learning.data.arrays import Array
from gossip.learning.data.rows import Rows

Numbers: TypeAlias = npt.NDArray[np.int64]

Chosen: TypeAlias = slice | Tensor | npt.NDArray[Any] | Sequence[int]
"""Which samples: a slice, places from 0 (or from the end, below it), or a bool for each."""


@dataclass(frozen=True, slots=True, eq=False)
class Mapped:
    """Samples (n, …) that lie elsewhere. What is asked of it by ``[…]`` comes as a tensor, as of a tensor.

    Not for several threads at once.
    """

    shape: tuple[int, ...]  # (n, *sample shape)
    dtype: torch.dtype
    draws: bool
    """Whether reading draws from the process's generators, so that only the thread that trains may read."""
    device: torch.device
    """Where what is asked for comes to lie."""
    _read: Callable[[Numbers], Tensor]
    """Numbers in the source -> prepared samples, on the CPU."""
    _numbers: Numbers  # (n,) of these samples in the source

    @classmethod
    def of(cls, rows: Rows, source: str, key: str, *, scaling: Literal["auto", "unit", "none"]) -> Mapped:
        """Return what `arrays.samples` makes of all `rows`, made a few at a time. The first is looked at here.

        Raises:
            DataError: no numbers, no samples, or the first is not finite; so is reading any other that is not.
        """

        def read(numbers: Numbers) -> Tensor:
            taken = rows.take(numbers)
            return torch.from_numpy(arrays.samples(taken, source, key, scaling=scaling, numbers=numbers))

        arrays.refuse_odd(rows.shape, rows.dtype, source, key)
        return _probed(read, np.arange(rows.shape[0], dtype=np.int64), draws=rows.draws)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, chosen: Chosen) -> Tensor:
        """Return the chosen samples (b, …), read and prepared now.

        Raises:
            DataError: one of them cannot be read, or is not finite.
        """
        numbers = self._numbers[_places(chosen)]
        if not len(numbers):
            return torch.empty(0, *self.shape[1:], dtype=self.dtype, device=self.device)
        return self._read(numbers).to(self.device)

    def part(self, chosen: Chosen) -> Mapped:
        """Return the chosen samples, unread."""
        numbers = self._numbers[_places(chosen)]
        return replace(self, shape=(len(numbers), *self.shape[1:]), _numbers=numbers)

    def through(self, function: Callable[[Tensor], Tensor]) -> Mapped:
        """Return what `function` (b, …) -> (b, …) makes of the samples, whenever they are read."""
        read = self._read
        return _probed(lambda numbers: function(read(numbers)), self._numbers, draws=self.draws).to(
            self.device
        )

    def to(self, device: torch.device | str) -> Mapped:
        """Return the same samples, which come to lie on `device`."""
        return replace(self, device=torch.device(device))


Samples: TypeAlias = Tensor | Mapped
"""Samples (n, …), in memory or not: `len`, `shape`, `dtype`, `device`, `to` and ``[…]`` are the same of both."""


def _probed(read: Callable[[Numbers], Tensor], numbers: Numbers, *, draws: bool) -> Mapped:
    first = read(numbers[:1])
    return Mapped(
        shape=(len(numbers), *first.shape[1:]),
        dtype=first.dtype,
        draws=draws,
        device=torch.device("cpu"),
        _read=read,
        _numbers=numbers,
    )


def _places(chosen: Chosen) -> slice | npt.NDArray[Any]:
    if isinstance(chosen, slice):
        return chosen
    return chosen.cpu().numpy() if isinstance(chosen, Tensor) else np.asarray(chosen)


Held = TypeVar("Held", Array, Tensor, Array | Mapped, Samples)


def part(x: Held, chosen: npt.NDArray[Any] | Tensor) -> Held:
    """Return the chosen samples: of an array or a tensor those, of mapped ones still unread."""
    return x.part(chosen) if isinstance(x, Mapped) else x[chosen]  # type: ignore[no-any-return]


def pieces(x: Samples, sizes: int | Sequence[int]) -> Iterator[Tensor]:
    """Yield samples in their order, so many at a time, as `torch.split` does."""
    if isinstance(x, Tensor):
        yield from torch.split(x, sizes if isinstance(sizes, int) else list(sizes))
        return
    if isinstance(sizes, int):
        sizes = [min(sizes, len(x) - first) for first in range(0, len(x), sizes)]
    first = 0
    for size in sizes:
        yield x[first : first + size]
        first += size
