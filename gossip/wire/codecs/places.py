"""Which numbers of a vector travel where not all do: the largest of each chunk, and how their places are told.

Of each chunk b of 4096 numbers k_b = max(1, ⌊share · len_b⌋) travel. With a share of 1/16 or more their places are a
bitmap, uint8 [⌈n/8⌉], place 8a + b being bit b of byte a; below that int16 [Σ k_b], the places within their chunks,
ascending.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from gossip.errors import PeerError
from gossip.wire.codecs.selection import Array, largest_of_rows
from gossip.wire.tensors import TensorSpec, WireTensor, empty

CHUNK = 4096
BITMAP_FROM = 1 / 16
"""The least share at which one bit a number is shorter than 16 for each that travels."""
BLOCK = 64 * CHUNK
"""Numbers looked at in one go, so that they stay in the cache."""


class Places:
    """The largest of each chunk.

    Args:
        share: of each chunk.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._bitmap = share >= BITMAP_FROM

    def kept_of(self, length: int) -> int:
        """Return how many numbers travel of a chunk of so many."""
        return max(1, int(self._share * length))

    def count(self, elements: int) -> int:
        """Return how many of so many numbers travel."""
        chunks, rest = divmod(elements, CHUNK)
        return chunks * self.kept_of(CHUNK) + (self.kept_of(rest) if rest else 0)

    def spec(self, elements: int) -> TensorSpec:
        """Return the tensor that tells the places."""
        if self._bitmap:
            return TensorSpec("uint8", (-(-elements // 8),))
        return TensorSpec("int16", (self.count(elements),))

    def largest(self, keys: Tensor) -> Tensor:
        """Return where the largest of each chunk of `keys` (n, l), none below zero, are; what is no number is larger.

        Of equal ones the lower places are taken.
        """
        # Of numbers that are not negative, floats are in the order of their bits, and what is no number is last.
        bits = keys.view(torch.int32)
        whole = keys.shape[1] // CHUNK * CHUNK
        pieces = [bits[:, :whole].reshape(len(bits), -1, CHUNK), bits[:, None, whole:]]
        found = [largest(piece, self.kept_of(piece.shape[2])).flatten(1) for piece in pieces if piece.numel()]
        return torch.cat(found, dim=1) if len(found) > 1 else found[0]

    def walk(
        self, elements: int, keys: Callable[[slice, Array], Array]
    ) -> Iterator[tuple[slice, Array, Array, slice]]:
        """Yield by blocks: the block, where the largest of each chunk are in it, their places, which of all they are.

        For one vector on the CPU: what `largest` finds, while all that is looked at stays in the cache.

        Args:
            elements: of the vector.
            keys: (block, float32 to be written over) -> the keys of the block, there.
        """
        scratch = np.empty(min(elements, BLOCK), np.float32)
        first = 0
        for start in range(0, elements, BLOCK):
            block = slice(start, min(start + BLOCK, elements))
            there = self._in_block(keys(block, scratch[: block.stop - start]).view(np.int32))
            places = np.flatnonzero(there)
            yield block, there, places, slice(first, first + len(places))
            first += len(places)

    def _in_block(self, bits: Array) -> Array:
        whole = len(bits) // CHUNK * CHUNK
        pieces = (piece for piece in (bits[:whole].reshape(-1, CHUNK), bits[None, whole:]) if piece.size)
        found = [largest_of_rows(piece, self.kept_of(piece.shape[1])).reshape(-1) for piece in pieces]
        return found[0] if len(found) == 1 else np.concatenate(found)

    def empty(self, elements: int) -> WireTensor:
        """Return the tensor that tells places, to be written on by `tell`."""
        return empty(self.spec(elements))

    def tell(self, told: WireTensor, block: slice, there: Array, places: Array, among: slice) -> None:
        """Write which places of a block travel, as `walk` yields them."""
        if not self._bitmap:
            np.frombuffer(told.data, np.int16)[among] = places % CHUNK
            return
        bits = np.packbits(there, bitorder="little")
        np.frombuffer(told.data, np.uint8)[block.start // 8 :][: len(bits)] = bits

    def read(self, told: WireTensor, elements: int) -> Tensor:
        """Return the places, int64 (k,), ascending.

        Raises:
            PeerError: "garbage", for places that no sender chooses.
        """
        found = self._from_bitmap(told, elements) if self._bitmap else self._from_list(told, elements)
        return torch.from_numpy(found)

    def _from_bitmap(self, told: WireTensor, elements: int) -> Array:
        bits = np.unpackbits(np.frombuffer(told.data, dtype=np.uint8), bitorder="little")
        if bits[elements:].any():
            raise PeerError("garbage", "a bitmap of places that goes beyond the model")
        there = bits[:elements].view(bool)
        whole = elements // CHUNK * CHUNK
        words = np.frombuffer(told.data, np.uint8)[: whole // 8].reshape(-1, CHUNK // 8)
        counts = np.bitwise_count(words.view(np.uint64)).sum(axis=1)
        for piece, length in ((counts, CHUNK), (there[whole:].sum(keepdims=True), elements - whole)):
            wanted = self.kept_of(length)
            if length and (piece != wanted).any():
                raise PeerError(
                    "garbage", f"a bitmap that has not {wanted} places of each {CHUNK} of the model"
                )
        return np.flatnonzero(there)

    def _from_list(self, told: WireTensor, elements: int) -> Array:
        within = np.frombuffer(told.data, dtype="<i2").astype(np.int64)
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
        return within + np.repeat(base, [kept] * chunks + [last.shape[1]])


def largest(keys: Tensor, k: int) -> Tensor:
    """Return where the `k` largest of each row of `keys` (..., l), int32, are, as bool; ties: the lower place."""
    length = keys.shape[-1]
    if keys.device.type == "cpu":
        return torch.from_numpy(largest_of_rows(keys.reshape(-1, length).numpy(), k)).view(keys.shape)
    threshold = keys.kthvalue(length - k + 1, dim=-1, keepdim=True).values
    there = keys >= threshold
    tied = there.sum(dim=-1) > k
    if bool(tied.any()):
        # The last of those that equal the threshold are too many.
        rows, bounds = keys[tied], threshold[tied]
        above, equal = rows > bounds, rows == bounds
        room = k - above.sum(dim=-1, keepdim=True)
        there[tied] = above | (equal & (equal.cumsum(dim=-1) <= room))
    return there
