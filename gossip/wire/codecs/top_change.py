"""top-change: of each 4096 numbers those that have changed most since they were last sent; the receiver has the rest.

After JWINS and DivShare, for peers that agree on nothing. A sender remembers `sent`, the values that it last told
anybody, and `told`, when; both begin with its first model, which goes out whole. Of message m with the vector v

    c = |v - sent|,   of each chunk b of 4096 numbers the k_b = max(1, ⌊share · len_b⌋) largest c, ties: the lower place

travel as they are in v, with their places. Every ⌈4 / share⌉-th message takes the k_b that were told of longest ago
instead: so what was lost under way is news again some day. Receivers lay what comes over their own model when they
merge it. What is not finite counts as the largest change, for a receiver's sanitiser to see.

Tensors: for share >= 1/16 a bitmap, uint8 [⌈n/8⌉], place 8a + b being bit b of byte a; else int16 [Σ k_b], the places
within their chunks, ascending. Then the values [Σ k_b], float32 or float16.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from gossip.draws import Draws
from gossip.errors import PeerError
from gossip.parameters import ParameterSpace
from gossip.partial import Partial
from gossip.stages import Rows, State
from gossip.wire.codecs.base import Coded, Referring
from gossip.wire.codecs.halves import to_float16
from gossip.wire.tensors import TensorSpec, WireTensor, from_numpy, from_torch, to_torch

CHUNK = 4096
BITMAP_FROM = 1 / 16
"""The least share at which one bit a number is shorter than 16 for each that travels."""
BLOCK = 64 * CHUNK
"""Numbers looked at in one go, so that they stay in the cache."""


class TopChange(Referring):
    """Largest changes with their places."""

    reference: ClassVar = "own"

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self._share = settings.share
        self._dtype = getattr(torch, settings.values)
        self.refreshes_every = math.ceil(4 / settings.share)
        """Every so many messages, age decides."""

    def rows(self, space: ParameterSpace) -> Mapping[str, Rows]:
        """Return what was told last of each number, and in which message."""
        return {"sent": Rows(space.learned_size), "told": Rows(space.learned_size)}

    def kept_of(self, length: int) -> int:
        """Return how many numbers travel of a chunk of so many."""
        return max(1, int(self._share * length))

    def count(self, elements: int) -> int:
        """Return how many of so many numbers travel."""
        chunks, rest = divmod(elements, CHUNK)
        return chunks * self.kept_of(CHUNK) + (self.kept_of(rest) if rest else 0)

    def specs(self, elements: int) -> tuple[TensorSpec, ...]:
        """Return places and values."""
        count = self.count(elements)
        places = (
            TensorSpec("uint8", (-(-elements // 8),))
            if self._share >= BITMAP_FROM
            else TensorSpec("int16", (count,))
        )
        return places, TensorSpec(self.settings.values, (count,))

    # --- the sender ---

    def write(
        self, vector: Tensor, rows: State, draws: Draws, *, number: int
    ) -> tuple[tuple[WireTensor, ...], State]:
        """Return the tensors of message `number`, and what was told by then."""
        there = self._chosen(vector[None], rows, [number])
        rows = self._told(vector[None], there, rows, [number])
        taken = there[0].numpy()
        values = from_torch(self._rounded(torch.from_numpy(vector.numpy()[taken])))
        if self._share >= BITMAP_FROM:
            return (from_numpy(np.packbits(taken, bitorder="little")), values), rows
        places = np.flatnonzero(taken) % CHUNK
        return (from_numpy(places.astype(np.int16)), values), rows

    def held(
        self, vectors: Tensor, rows: State, draws: Sequence[Draws], *, numbers: Sequence[int]
    ) -> tuple[Coded, State]:
        """Return what receivers get of each message, zeros elsewhere."""
        there = self._chosen(vectors, rows, numbers)
        rows = self._told(vectors, there, rows, numbers)
        rounded = self._rounded(vectors).to(torch.float32)
        return Coded(torch.where(there, rounded, 0.0), there), rows

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
            there[:, block] = self._largest(keys)
        return there

    def _largest(self, keys: Tensor) -> Tensor:
        """Return where the largest of each chunk of `keys` (n, l), none below zero, are."""
        # Of numbers that are not negative, floats are in the order of their bits, and what is no number is last.
        bits = keys.view(torch.int32)
        whole = keys.shape[1] // CHUNK * CHUNK
        pieces = [bits[:, :whole].reshape(len(bits), -1, CHUNK), bits[:, None, whole:]]
        found = [largest(piece, self.kept_of(piece.shape[2])).flatten(1) for piece in pieces if piece.numel()]
        return torch.cat(found, dim=1) if len(found) > 1 else found[0]

    def _told(self, vectors: Tensor, there: Tensor, rows: State, numbers: Sequence[int]) -> State:
        torch.where(there, vectors, rows["sent"], out=rows["sent"])
        torch.where(there, _column(numbers, vectors), rows["told"], out=rows["told"])
        return rows

    def _rounded(self, values: Tensor) -> Tensor:
        return to_float16(values) if self._dtype is torch.float16 else values

    # --- the receiver ---

    def received(self, tensors: Sequence[WireTensor], elements: int) -> Partial:
        """Return values and places.

        Raises:
            PeerError: "garbage", for places that no sender chooses.
        """
        described, values = tensors
        there = (
            self._from_bitmap(described, elements)
            if self._share >= BITMAP_FROM
            else self._from_places(described, elements)
        )
        return Partial(to_torch(values).to(torch.float32), torch.from_numpy(there), elements)

    def _from_bitmap(self, described: WireTensor, elements: int) -> np.ndarray[Any, Any]:
        bits = np.unpackbits(np.frombuffer(described.data, dtype=np.uint8), bitorder="little")
        if bits[elements:].any():
            raise PeerError("garbage", "a bitmap of places that goes beyond the model")
        there = bits[:elements].view(bool)
        for counts, wanted in self._counts(there):
            if (counts != wanted).any():
                raise PeerError(
                    "garbage", f"a bitmap that has not {wanted} places of each {CHUNK} of the model"
                )
        return np.flatnonzero(there)

    def _counts(self, there: np.ndarray[Any, Any]) -> list[tuple[np.ndarray[Any, Any], int]]:
        whole = len(there) // CHUNK * CHUNK
        pieces = there[:whole].reshape(-1, CHUNK), there[None, whole:]
        return [
            (np.count_nonzero(piece, axis=1), self.kept_of(piece.shape[1])) for piece in pieces if piece.size
        ]

    def _from_places(self, described: WireTensor, elements: int) -> np.ndarray[Any, Any]:
        within = np.frombuffer(described.data, dtype="<i2").astype(np.int64)
        chunks, rest = divmod(elements, CHUNK)
        kept = self.kept_of(CHUNK)
        whole = within[: chunks * kept].reshape(chunks, kept)
        last = within[chunks * kept :][None]
        for piece, length in ((whole, CHUNK), (last, rest)):
            if not piece.size:
                continue
            if (piece[:, 0] < 0).any() or (piece[:, -1] >= length).any() or (np.diff(piece) <= 0).any():
                raise PeerError(
                    "garbage", "places that do not ascend, or are none of their part of the model"
                )
        base = CHUNK * np.arange(chunks + 1)
        return within + np.repeat(base, [kept] * chunks + [len(last[0])])


def largest(keys: Tensor, k: int) -> Tensor:
    """Return where the `k` largest of each row of `keys` (..., l), int32, are, as bool; ties: the lower place."""
    length = keys.shape[-1]
    if keys.device.type == "cpu":
        threshold = torch.from_numpy(np.partition(keys.numpy(), length - k, axis=-1)[..., length - k, None])
    else:
        threshold = keys.kthvalue(length - k + 1, dim=-1, keepdim=True).values
    there = keys >= threshold
    counts = there.sum(dim=-1)
    tied = counts > k
    if bool(tied.any()):
        # The last of those that equal the threshold are too many.
        rows, bounds = keys[tied], threshold[tied]
        equal = rows == bounds
        room = k - (rows > bounds).sum(dim=-1, keepdim=True)
        there[tied] = (rows > bounds) | (equal & (equal.cumsum(dim=-1) <= room))
    return there


def _column(numbers: Sequence[int], like: Tensor) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32, device=like.device)[:, None]
