"""top-change: of each 4096 numbers those that have changed most since they were last sent; the receiver has the rest.

After JWINS and DivShare, for peers that agree on nothing. A sender remembers `sent`, the values that it last told
anybody, and `told`, when; both begin with its first model, which goes out whole. Of message m with the vector v

    c = |v - sent|,   of each chunk b of 4096 numbers the k_b = max(1, ⌊share · len_b⌋) largest c, ties: the lower place

travel as they are in v, with their places. Every ⌈4 / share⌉-th message takes the k_b that were told of longest ago
instead: so what was lost under way is news again some day. Receivers lay what comes over their own model when they
merge it. What is not finite counts as the largest change, for a receiver's sanitiser to see.

Tensors: the places (`places`), then the values [Σ k_b], coded by float32, float16, or int8 with
a scale for each 256 of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from gossip.draws import Draws
from gossip.parameters import ParameterSpace
from gossip.partial import Partial
from gossip.settings import Choice
from gossip.stages import Rows, State
from gossip.wire.codecs.base import Codec, Coded, Referring
from gossip.wire.codecs.blocks import Int8
from gossip.wire.codecs.float32 import Float32
from gossip.wire.codecs.halves import Float16
from gossip.wire.codecs.places import BLOCK, Places
from gossip.wire.codecs.selection import Array
from gossip.wire.codecs.settings import Float16Settings, Float32Settings, Int8Settings
from gossip.wire.tensors import TensorSpec, WireTensor

VALUES: Mapping[str, tuple[type[Codec], Choice]] = {
    "float32": (Float32, Float32Settings()),
    "float16": (Float16, Float16Settings()),
    "int8": (Int8, Int8Settings()),
}
"""What codes the values that travel, with what settings."""


class TopChange(Referring):
    """Largest changes with their places."""

    reference: ClassVar = "own"

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self.places = Places(settings.share)
        kind, given = VALUES[settings.values]
        self._values: Codec = kind(given)
        self.refreshes_every = math.ceil(4 / settings.share)
        """Every so many messages, age decides."""

    def rows(self, space: ParameterSpace) -> Mapping[str, Rows]:
        """Return what was told last of each number, and in which message."""
        return {"sent": Rows(space.learned_size), "told": Rows(space.learned_size)}

    def specs(self, elements: int) -> tuple[TensorSpec, ...]:
        """Return places and values."""
        return self.places.spec(elements), *self._values.specs(self.places.count(elements))

    # --- the sender ---

    def write(
        self, vector: Tensor, rows: State, draws: Draws, *, number: int
    ) -> tuple[tuple[WireTensor, ...], State]:
        """Return the tensors of message `number`, and what was told by then."""
        elements = len(vector)
        by_age = number % self.refreshes_every == 0
        mine, sent, told = vector.numpy(), rows["sent"][0].numpy(), rows["told"][0].numpy()
        now = np.float32(number)

        def keys(block: slice, out: Array) -> Array:
            if by_age:
                np.subtract(now, told[block], out=out)
            else:
                with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is to travel
                    np.subtract(mine[block], sent[block], out=out)
                np.abs(out, out=out)
            return out

        places, values = self.places.empty(elements), np.empty(self.places.count(elements), np.float32)
        for block, there, found, among in self.places.walk(elements, keys):
            taken = mine[block][found]
            values[among] = sent[block][found] = taken
            told[block][found] = now
            self.places.tell(places, block, there, found, among)
        return (places, *self._values.encode(torch.from_numpy(values), draws)), rows

    def held(
        self, vectors: Tensor, rows: State, draws: Sequence[Draws], *, numbers: Sequence[int]
    ) -> tuple[Coded, State]:
        """Return what receivers get of each message, zeros elsewhere."""
        there = self._chosen(vectors, rows, numbers)
        rows = self._told(vectors, there, rows, numbers)
        held = torch.where(there, vectors, 0.0)
        if not self._values.exact:
            values = vectors[there].view(len(vectors), self.places.count(vectors.shape[1]))
            held[there] = self._values.coded(values, draws).view(-1)
        return Coded(held, there), rows

    def told_whole(self, vectors: Tensor, rows: State, *, numbers: Sequence[int]) -> State:
        """Return what was told once all of `vectors` (n, L) has gone out."""
        rows["sent"].copy_(vectors)
        rows["told"].copy_(_column(numbers, vectors).expand_as(vectors))
        return rows

    def _chosen(self, vectors: Tensor, rows: State, numbers: Sequence[int]) -> Tensor:
        """Return which numbers travel, (n, L) bool."""
        elements = vectors.shape[1]
        there = torch.empty(vectors.shape, dtype=torch.bool, device=vectors.device)
        by_age = [number % self.refreshes_every == 0 for number in numbers]
        some = any(by_age)
        aged = torch.tensor(by_age, device=vectors.device)[:, None]
        now = _column(numbers, vectors)
        for start in range(0, elements, BLOCK):
            block = slice(start, min(start + BLOCK, elements))
            keys = (vectors[:, block] - rows["sent"][:, block]).abs_()
            if some:
                keys = torch.where(aged, now - rows["told"][:, block], keys)
            there[:, block] = self.places.largest(keys)
        return there

    def _told(self, vectors: Tensor, there: Tensor, rows: State, numbers: Sequence[int]) -> State:
        torch.where(there, vectors, rows["sent"], out=rows["sent"])
        torch.where(there, _column(numbers, vectors), rows["told"], out=rows["told"])
        return rows

    # --- the receiver ---

    def received(self, tensors: Sequence[WireTensor], elements: int) -> Partial:
        """Return values and places.

        Raises:
            PeerError: "garbage", for places that no sender chooses.
        """
        told, *rest = tensors
        values = self._values.decode_as(rest, self.places.count(elements))
        return Partial(values, self.places.read(told, elements), elements)


def _column(numbers: Sequence[int], like: Tensor) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32, device=like.device)[:, None]
