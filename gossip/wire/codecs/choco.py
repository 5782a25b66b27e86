"""choco: what has changed against public copies, which everybody holds of each neighbour and of itself.

CHOCO-SGD (Koloskova, Stich and Jaggi, arXiv 1902.00340). A sender's messages add up to its public copy x̂:

    sender     q = C(x_i - x̂_i),  x̂_i ← x̂_i + q,  sends q as message n of its process
    receiver   of message n on a link whose last was n - 1:  x̂_j ← x̂_j + q
    merge      x_i ← x_i + γ · (Σ_j w_ij x̂_j + w_ii x̂_i - x̂_i)

However coarse C is, a doubly stochastic W keeps the mean of all models, and what C loses is sent later. The first
message on a link, and each after one that was lost there, brings x̂_i itself: so does the first of a process, whose
x̂_i is its model. A receiver that cannot add what comes drops it and asks (`ResyncMessage`). Both ends add the same
float32 numbers in the same way, or copies would part at the last bit; where a copy is not finite it counts as zero, so
that a sender that has diverged once is heard again.

Tensors: int64 [1], the number n; then those of `compress` (`blocks`, or places and values of the largest differences),
or float32 [n] where a link begins anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from gossip.draws import Draws
from gossip.errors import PeerError
from gossip.parameters import ParameterSpace
from gossip.stages import Rows, State
from gossip.wire.codecs import blocks
from gossip.wire.codecs.base import Codec, Coded, Copy, Linked
from gossip.wire.codecs.largest import Largest
from gossip.wire.codecs.settings import Int4Settings, Int8Settings
from gossip.wire.tensors import TensorSpec, WireTensor, from_numpy, from_torch, to_numpy, to_torch

NUMBER = TensorSpec("int64", (1,))


class Choco(Linked):
    """Differences, compressed.

    Args:
        settings: `ChocoSettings`.
    """

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self._compress = compressor(settings)
        self.rate = settings.rate
        """γ."""

    @property
    def own_coded(self) -> bool:
        """Merges mix public copies."""
        return True

    def rows(self, space: ParameterSpace) -> Mapping[str, Rows]:
        """Return the own public copy."""
        return {"public": Rows(space.learned_size)}

    def specs(self, elements: int) -> tuple[TensorSpec, ...]:
        """Return the number of the message, and the compressed difference."""
        return NUMBER, *self._compress.specs(elements)

    def anew_specs(self, elements: int) -> tuple[TensorSpec, ...]:
        """Return the number of the message, and the public copy."""
        return NUMBER, TensorSpec("float32", (elements,))

    def write(
        self, vector: Tensor, rows: State, draws: Draws, *, number: int
    ) -> tuple[tuple[WireTensor, ...], State]:
        """Return what message `number` adds to the public copy, and that copy."""
        public = _finite(rows["public"][0])
        tensors = self._compress.encode(vector - public, draws)
        rows["public"][0] = public.add_(self._compress.decode_as(tensors, len(vector)))
        return (_numbered(number), *tensors), rows

    def anew(self, rows: State, *, number: int) -> tuple[WireTensor, ...]:
        """Return what a link begins anew with, as of message `number`."""
        return _numbered(number), from_torch(rows["public"][0].clone())

    def held(
        self, vectors: Tensor, rows: State, draws: Sequence[Draws], *, numbers: Sequence[int]
    ) -> tuple[Coded, State]:
        """Return the public copies."""
        public = _finite(rows["public"])
        rows["public"].copy_(public.add_(self._compress.coded(vectors - public, draws)))
        return Coded(rows["public"].clone(), None), rows

    def told_whole(self, vectors: Tensor, rows: State, *, numbers: Sequence[int]) -> State:
        """Return public copies that are the models."""
        rows["public"].copy_(vectors)
        return rows

    def _follow(self, copy: Copy | None, tensors: Sequence[WireTensor], elements: int) -> Copy | None:
        told, *rest = tensors
        number = int(to_numpy(told)[0])
        if number < 0:
            raise PeerError("garbage", f"a message numbered {number}")
        if tuple(tensor.spec for tensor in tensors) == self.anew_specs(elements):
            return Copy(number, to_torch(rest[0]))
        if copy is not None and len(copy.vector) != elements:
            raise PeerError("garbage", "a part of a model, of which a link brings all or nothing")
        if copy is None or number != copy.number + 1:
            return None
        return Copy(number, _finite(copy.vector).add_(self._compress.decode_as(rest, elements)))


def compressor(settings: Any) -> Codec:
    """Return C."""
    kind: Literal["int4", "int8", "top"] = settings.compress
    if kind == "int4":
        return blocks.Int4(Int4Settings())
    return blocks.Int8(Int8Settings()) if kind == "int8" else Largest(settings.share)


def _finite(copies: Tensor) -> Tensor:
    """Return new public copies to be added to."""
    return torch.where(copies.isfinite(), copies, 0.0)


def _numbered(number: int) -> WireTensor:
    return from_numpy(np.array([number], dtype=np.int64))
