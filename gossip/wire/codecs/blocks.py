"""int8 and int4: blocks of numbers, each block with a scale of its own.

Of every `block` consecutive numbers x the scale is s = max|x| / q, with q = 127 or 7, and a number becomes the code
⌊x/s + u⌋ within ±q, u uniform in [0, 1): E[code · s] = x, and |code · s - x| ≤ s. With rounding = "nearest" it is the
nearest integer, ties to even, and the error s/2. The last block may be shorter. u is a 16-bit half of the message's
draws over 65 536, one per number, low half first. All arithmetic is IEEE float32, in the order written; where s is 0
the codes are 0. A block with an infinity or what is not a number has the scale NaN, so that receivers refuse the model
as they do any that is not finite.

On the wire: float32 scales, then the codes: int8 one each; int4 two in a byte, code + 8, the even place in the low
half, and 8 where a last half is missing. 1.016 and 0.563 bytes a number with the usual blocks. With compress = "zstd"
the codes' tensor is compressed.

Everything is computed in pieces that stay in the cache: by torch, or of large models by `compiled`, to the same bytes.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from gossip.draws import Draws, Halves16, halves_of
from gossip.errors import PeerError
from gossip.wire import tensors as wire
from gossip.wire.codecs import compiled
from gossip.wire.codecs.base import Codec
from gossip.wire.codecs.compressed import compressed_spec, content_bytes, deflated, inflated
from gossip.wire.codecs.decoding import Decoding
from gossip.wire.tensors import TensorSpec, WireTensor, to_torch

PIECE = 1 << 18
"""Numbers that are coded at once: what is computed of them stays in the cache, and a call costs little beside it."""

LONG_PIECES = 4
"""From so many on a thread that draws ahead costs little beside what it saves."""

DRAWS_ULP = 2.0**-16
"""Of a 16-bit half, as a number in [0, 1)."""

ZERO = 8
"""What int4 writes for the code 0."""


class Blocks(Codec):
    """A scale for each block, and a code for each number.

    Args:
        settings: `BlockSettings`.
    """

    most: ClassVar[int]
    """q, the largest code."""
    bits: ClassVar[int]
    """Of a code."""
    unused: ClassVar[str]
    """The code that no number has, for people."""

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self._block: int = settings.block
        self._compress = settings.compress == "zstd"
        self._stochastic = settings.rounding == "stochastic"
        # Blocks are even, so that a piece has a multiple of four numbers: as many as a raw word has draws.
        self._piece = self._block * max(2, PIECE // self._block // 2 * 2)

    def specs(self, elements: int) -> tuple[TensorSpec, ...]:
        """Return float32 scales, one per block, and the codes."""
        codes = self._codes_spec(elements)
        return (self._scales_spec(elements), compressed_spec(codes) if self._compress else codes)

    def encode(self, vector: Tensor, draws: Draws) -> tuple[WireTensor, ...]:
        """Return scales and codes."""
        specs = (self._scales_spec(len(vector)), self._codes_spec(len(vector)))
        encoded = tuple(wire.empty(spec, self.for_coded) for spec in specs)
        scales, codes = map(to_torch, encoded)
        if not compiled.encode(vector, scales, codes, self._form, draws if self._stochastic else None):
            self._encode(vector, draws, scales, codes)
        return (encoded[0], deflated(encoded[1])) if self._compress else encoded

    def _encode(self, vector: Tensor, draws: Draws, scales: Tensor, codes: Tensor) -> None:
        """Write the scales and codes of a vector (n,), a piece after the other."""
        halves = self._halves(draws, len(vector)) if self._stochastic else None
        scratch = _Scratch(min(self._piece, self._padded(len(vector))))
        for start, end in self.pieces(len(vector)):
            padded = self._padded(end - start)
            x = vector[start:end]
            x = x if len(x) == padded else scratch.padded(x[None], padded)
            drawn = None if halves is None else scratch.drawn([next(halves)], padded)
            first = start // self._block
            here = scales[first : first + padded // self._block]
            coded = self._quantised(x.view(-1, self._block), here, scratch, drawn)
            self._pack(coded.view(-1)[: end - start], codes, start)

    def decode(self, tensors: Sequence[WireTensor]) -> Tensor:
        """Return as many numbers as there are codes, an even number where two are in a byte."""
        nbytes = content_bytes(tensors[1]) if self._compress else tensors[1].spec.nbytes
        padded = tensors[0].shape[0] * self._block
        return self.decode_as(tensors, min(padded, nbytes * 8 // self.bits))

    def decode_as(self, tensors: Sequence[WireTensor], elements: int) -> Tensor:
        """Return codes times scales; refuse a negative scale, and codes that no number has."""
        return _BlocksDecoding(self, tensors, elements).finish()

    def decoding(self, tensors: Sequence[WireTensor], elements: int) -> Decoding | None:
        """Return what decodes piece by piece; None where codes are compressed, or all are one piece."""
        if self._compress or elements <= self._piece:
            return None
        return _BlocksDecoding(self, tensors, elements)

    def coded(self, vectors: Tensor, draws: Sequence[Draws]) -> Tensor:
        """Return codes times scales of many at once: what `decode` makes of what `encode` makes of each."""
        count, elements = vectors.shape
        padded = self._padded(elements)
        at_once = min(count, self._piece // max(1, padded))
        if at_once < 2:
            return super().coded(vectors, draws)
        held = torch.empty(count, elements)
        scratch = _Scratch(at_once * padded)
        halves = halves_of(draws, elements)
        for start in range(0, count, at_once):
            rows = vectors[start : start + at_once]
            drawn = scratch.drawn(islice(halves, len(rows)), padded) if self._stochastic else None
            x = scratch.padded(rows, padded).view(-1, self._block)
            scales = scratch.scales[: len(x)]
            coded = self._quantised(x, scales, scratch, drawn).mul_(scales[:, None])
            held[start : start + at_once] = coded.view(len(rows), padded)[:, :elements]
        return held.to(vectors.device)

    def plain(self, tensor: WireTensor, elements: int) -> WireTensor:
        """Return the codes of `elements` numbers as they are before they are compressed."""
        return inflated(tensor, self._codes_spec(elements)) if self._compress else tensor

    def pieces(self, elements: int) -> Iterator[tuple[int, int]]:
        """Yield where pieces of `elements` numbers begin and end."""
        for start in range(0, elements, self._piece):
            yield start, min(start + self._piece, elements)

    def unscale(self, codes: Tensor, scales: Tensor, vector: Tensor, start: int, end: int) -> None:
        """Write what the piece from `start` to `end` says into `vector`; refuse codes that no number has."""
        first, whole = start // self._block, (end - start) // self._block
        here = codes[start * self.bits // 8 : (end * self.bits + 7) // 8]
        good = compiled.decode(scales[first:], here, self._form, vector[start:end], elements=len(vector))
        if good is not None:
            self._check(good)
            return
        self._unpack(codes, start, vector[start:end])
        last = start + whole * self._block
        vector[start:last].view(whole, self._block).mul_(scales[first : first + whole, None])
        vector[last:end].mul_(scales[first + whole : first + whole + 1])

    def _halves(self, draws: Draws, elements: int) -> Iterator[Halves16]:
        """Yield the draws of each piece, where torch may use a second thread the next piece's while one is coded."""
        take = draws.halves()
        counts = [end - start for start, end in self.pieces(elements)]
        if len(counts) < LONG_PIECES or torch.get_num_threads() < 2:
            yield from map(take, counts)
            return
        # They take as long as all the rest of coding, and numpy draws without the interpreter's lock.
        with ThreadPoolExecutor(1) as thread:
            coming = thread.submit(take, counts[0])
            for count in counts[1:]:
                drawn, coming = coming.result(), thread.submit(take, count)
                yield drawn
            yield coming.result()

    @property
    def _form(self) -> compiled.Form:
        return compiled.Form(self._block, packed=self.bits == 4)

    def _check(self, good: bool) -> None:
        """Refuse codes that no number has."""
        if not good:
            raise PeerError("garbage", f"the {self.unused}, which no number has")

    def _scales_spec(self, elements: int) -> TensorSpec:
        return TensorSpec("float32", (-(-elements // self._block),))

    def _padded(self, elements: int) -> int:
        return -(-elements // self._block) * self._block

    def _quantised(self, x: Tensor, scales: Tensor, scratch: _Scratch, drawn: Tensor | None) -> Tensor:
        """Return the codes of `x` (blocks, block) as float32, in the scratch; write their `scales` (blocks,)."""
        codes = scratch.codes[: x.numel()].view(x.shape)
        torch.amax(torch.abs(x, out=codes), dim=1, out=scales)
        scales.div_(self.most)
        finite = scales.isfinite()
        # Of whatever is finite an infinite part is 0.
        torch.div(x, scales.where((scales > 0) & finite, math.inf)[:, None], out=codes)
        if not bool(finite.all()):
            codes[~finite] = 0
            scales[~finite] = math.nan
        if drawn is None:
            codes.round_().add_(0.0)  # -0 becomes 0, as it does where codes are integers
        else:
            codes.add_(drawn.view(x.shape), alpha=DRAWS_ULP).floor_()
        return codes.clamp_(-self.most, self.most)

    @abc.abstractmethod
    def _codes_spec(self, elements: int) -> TensorSpec:
        """Return the tensor of the codes of `elements` numbers."""

    @abc.abstractmethod
    def check_end(self, codes: Tensor, elements: int) -> None:
        """Refuse what stands behind the last of `elements` codes and is not what we write there."""

    @abc.abstractmethod
    def _pack(self, coded: Tensor, codes: Tensor, start: int) -> None:
        """Write what was `coded` (n,) into all `codes`, from place `start` on."""

    @abc.abstractmethod
    def _unpack(self, codes: Tensor, start: int, piece: Tensor) -> None:
        """Write the codes from place `start` on into `piece` (n,); refuse those that no number has."""


class Int8(Blocks):
    """One byte a number, codes from -127 to 127."""

    most: ClassVar[int] = 127
    bits: ClassVar[int] = 8
    unused: ClassVar[str] = "int8 code -128"

    def _codes_spec(self, elements: int) -> TensorSpec:
        return TensorSpec("int8", (elements,))

    def check_end(self, codes: Tensor, elements: int) -> None:
        """Nothing stands there."""

    def _pack(self, coded: Tensor, codes: Tensor, start: int) -> None:
        codes[start : start + len(coded)] = coded

    def _unpack(self, codes: Tensor, start: int, piece: Tensor) -> None:
        here = codes[start : start + len(piece)]
        self._check(int(here.amin()) >= -self.most)
        piece.copy_(here)


class Int4(Blocks):
    """Two numbers a byte, codes from -7 to 7."""

    most: ClassVar[int] = 7
    bits: ClassVar[int] = 4
    unused: ClassVar[str] = "int4 half-byte 0"

    def _codes_spec(self, elements: int) -> TensorSpec:
        return TensorSpec("uint8", ((elements + 1) // 2,))

    def check_end(self, codes: Tensor, elements: int) -> None:
        if elements % 2 and int(codes[-1]) >> 4 != ZERO:
            raise PeerError("garbage", f"behind the last int4 code a half-byte other than {ZERO}")

    def _pack(self, coded: Tensor, codes: Tensor, start: int) -> None:
        count = len(coded)
        halves = torch.empty(count + count % 2, dtype=torch.int8)
        halves[:count] = coded
        halves[count:] = 0
        halves += ZERO
        # Of a little-endian word the even place is the low byte; the high byte's half moves beside it.
        words = halves.view(torch.int16)
        codes[start // 2 : start // 2 + len(words)] = words.bitwise_right_shift(4).bitwise_or_(words)

    def _unpack(self, codes: Tensor, start: int, piece: Tensor) -> None:
        count = len(piece)
        words = codes[start // 2 : start // 2 + (count + 1) // 2].to(torch.int16)
        halves = words.bitwise_left_shift(4).bitwise_or_(words).bitwise_and_(0x0F0F).view(torch.int8)
        self._check(int(halves.amin()) > 0)
        piece.copy_(halves.sub_(ZERO)[:count])


class _BlocksDecoding(Decoding):
    """Codes times scales, a piece after the other."""

    def __init__(self, codec: Blocks, tensors: Sequence[WireTensor], elements: int) -> None:
        self._codec = codec
        self._elements = elements
        self._scales = to_torch(tensors[0])
        self._codes = to_torch(codec.plain(tensors[1], elements))
        # Of memory that is new, what is not written to yet takes none.
        self._vector = to_torch(wire.empty(TensorSpec("float32", (elements,)), codec.for_decoded))
        self._pieces = codec.pieces(elements)
        self._next = next(self._pieces, None)
        self._judged = False

    def advance(self, missing: int) -> None:
        """Decode the whole pieces of what has come of the codes, which stand last."""
        come = (self._codes.numel() - missing) * 8 // self._codec.bits
        if self._next is None or self._next[1] > min(come, self._elements):
            return
        if not self._judged:
            self._judged = True
            if bool((self._scales < 0).any()):
                raise PeerError("garbage", "a block of numbers with a negative scale")
        while self._next is not None and self._next[1] <= come:
            self._codec.unscale(self._codes, self._scales, self._vector, *self._next)
            self._next = next(self._pieces, None)

    def finish(self) -> Tensor:
        """Decode the rest; refuse a negative scale, and codes that no number has."""
        self._codec.check_end(self._codes, self._elements)
        self.advance(0)
        return self._vector


class _Scratch:
    """Memory for what is computed of up to `numbers` numbers, used again for every piece."""

    def __init__(self, numbers: int) -> None:
        self.codes = torch.empty(numbers)
        self.scales = torch.empty(numbers)
        self._padded = torch.zeros(0)
        self._halves = np.zeros(numbers, np.uint16)
        self._drawn = torch.empty(numbers)

    def padded(self, rows: Tensor, width: int) -> Tensor:
        """Return `rows` (n, l) with zeros up to `width`."""
        count, length = rows.shape
        if self._padded.numel() < count * width:
            self._padded = torch.empty(count * width)
        padded = self._padded[: count * width].view(count, width)
        padded[:, :length] = rows
        padded[:, length:] = 0
        return padded

    def drawn(self, halves: Iterable[Halves16], width: int) -> Tensor:
        """Return rows of `halves` as float32 (n · width,); what stands behind the last place of a row is any number."""
        end = 0
        for row in halves:
            if len(row) == width == len(self._drawn):  # all there is, and nothing behind it
                return self._drawn.copy_(torch.from_numpy(row))
            self._halves[end : end + len(row)] = row
            end += width
        return self._drawn[:end].copy_(torch.from_numpy(self._halves[:end]))
