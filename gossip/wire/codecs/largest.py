"""The largest numbers of each chunk, with their places; all others are taken for zeros: a codec of differences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gossip.draws import Draws
from gossip.errors import ProtocolMisuse
from gossip.wire.codecs.base import Codec
from gossip.wire.codecs.places import BLOCK, Places
from gossip.wire.tensors import TensorSpec, WireTensor, from_numpy, to_torch


class Largest(Codec):
    """Places and values.

    Args:
        share: of each 4096 numbers.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self._places = Places(share)

    def specs(self, elements: int) -> tuple[TensorSpec, ...]:
        """Return places and values."""
        return self._places.spec(elements), TensorSpec("float32", (self._places.count(elements),))

    def encode(self, vector: Tensor, draws: Draws) -> tuple[WireTensor, ...]:
        """Return the largest numbers and where they are."""
        elements, mine = len(vector), vector.numpy()
        places, values = self._places.empty(elements), np.empty(self._places.count(elements), np.float32)
        for block, there, found, among in self._places.walk(
            elements, lambda block, out: np.abs(mine[block], out=out)
        ):
            values[among] = mine[block][found]
            self._places.tell(places, block, there, found, among)
        return places, from_numpy(values)

    def decode_as(self, tensors: Sequence[WireTensor], elements: int) -> Tensor:
        """Return them among zeros."""
        places, values = tensors
        return torch.zeros(elements).index_copy_(0, self._places.read(places, elements), to_torch(values))

    def decode(self, tensors: Sequence[WireTensor]) -> Tensor:
        """Raise: see `decode_as`."""
        raise ProtocolMisuse("the tensors do not tell how many numbers there are: see decode_as")

    def coded(self, vectors: Tensor, draws: Sequence[Draws]) -> Tensor:
        """Return them among zeros, of many at once."""
        return torch.where(self._there(vectors), vectors, 0.0)

    def _there(self, vectors: Tensor) -> Tensor:
        there = torch.empty(vectors.shape, dtype=torch.bool, device=vectors.device)
        for start in range(0, vectors.shape[1], BLOCK):
            block = slice(start, start + BLOCK)
            there[:, block] = self._places.largest(vectors[:, block].abs())
        return there
