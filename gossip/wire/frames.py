"""Frames: how documents share one stream of bytes, and the bounds that hold before anything is allocated.

A frame is an 8-byte header (length u32, kind u8, flags u8, zero u16; big-endian), `length` bytes of payload, and, where
no TLS authenticates the bytes, the CRC-32 of header and payload.

    CONTROL   a whole small document
    HEAD      the beginning of a document with tensors, up to the first tensor
    DATA      its next bytes; the payloads of HEAD and DATA, joined, are exactly the document
    CANCEL    the running document will not be finished

CONTROL frames may stand between DATA frames, so heartbeats pass while a model is under way.

Nothing here does I/O: `FrameWriter` yields buffers to send, `FrameReader` says which buffer to fill next, and that is
the memory of the tensor itself.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from gossip.errors import PeerError, ProtocolMisuse
from gossip.protocols.base import Message
from gossip.wire.documents import (
    SMALL_BYTES_MAX,
    Document,
    DocumentWriter,
    Envelope,
    bin_header,
    read_head,
    read_small,
)
from gossip.wire.memory import MemoryPool
from gossip.wire.tensors import EXACT, PartSpecs, TensorSpec, WireTensor, admitted, empty, exact_specs

CHUNK_BYTES_MAX = 512 * 1024
"""Of one DATA frame. Long enough that calls cost nothing beside encryption, short enough to stay in the cache."""
HEADER_BYTES = 8
CHECKSUM_BYTES = 4

Buffer: TypeAlias = bytes | memoryview

_HEADER = struct.Struct(">IBBH")
_CHECKSUM = struct.Struct(">I")
_CHECKSUMMED = 1


class FrameKind(IntEnum):
    """The second field of a frame's header."""

    CONTROL = 1
    HEAD = 2
    DATA = 3
    CANCEL = 4


_LENGTH_MAX = {
    FrameKind.CONTROL: SMALL_BYTES_MAX,
    FrameKind.HEAD: SMALL_BYTES_MAX,
    FrameKind.DATA: CHUNK_BYTES_MAX,
    FrameKind.CANCEL: 0,
}


@dataclass(frozen=True, slots=True)
class FrameWriter:
    """Turns one sender's messages into frames."""

    documents: DocumentWriter
    codec: str
    specs: tuple[TensorSpec, ...]
    """What every model becomes under the codec."""
    checksum: bool = False
    chunk_bytes: int = CHUNK_BYTES_MAX
    part_specs: PartSpecs | None = None
    learned: int | None = None
    """How many numbers the run's model has; None: no message is whole."""

    anew: tuple[TensorSpec, ...] = ()
    """Under the codec, too: of a message by which a link begins anew; (): none does."""

    def __post_init__(self) -> None:
        if not 1 <= self.chunk_bytes <= CHUNK_BYTES_MAX:
            raise ProtocolMisuse(f"chunks of {self.chunk_bytes} bytes; valid: 1 to {CHUNK_BYTES_MAX}")

    def small(self, message: Message, seq: int) -> list[Buffer]:
        """Return the one frame of a message without a model."""
        return self._frame(FrameKind.CONTROL, [self.documents.small(message, seq)])

    def model(self, message: Message, seq: int, tensors: Sequence[WireTensor]) -> Iterator[list[Buffer]]:
        """Yield the frames of a model message; frames of other messages may be sent between them."""
        codec, agreed = self._coding_of(message)
        specs = tuple(tensor.spec for tensor in tensors)
        if specs == self.anew and not message.whole:
            agreed = self.anew
        elif not admitted(specs, agreed) and self.learned is not None:  # as it is, a model may always go
            codec, agreed = EXACT, exact_specs(self.learned, message.piece)
        if not admitted(specs, agreed):
            raise ProtocolMisuse(f"the tensors are not what codec '{codec}' makes of this run's model")
        yield self._frame(FrameKind.HEAD, [self.documents.head(message, seq, codec, specs)])
        segments: list[Buffer] = []
        for tensor in tensors:
            segments += [bin_header(tensor.data.nbytes), tensor.data]
        for chunk in _chunks(segments, self.chunk_bytes):
            yield self._frame(FrameKind.DATA, chunk)

    def cancel(self) -> list[Buffer]:
        """Return the frame that ends a model message in the middle."""
        return self._frame(FrameKind.CANCEL, [])

    def frame_bytes(
        self, message: Message, specs: Sequence[TensorSpec] | None = None, *, whole: bool = False
    ) -> tuple[int, int]:
        """Return (all bytes, bytes of tensor data) of a message's frames. Needs no tensors.

        Args:
            message: the message.
            specs: of its tensors, where they may be shorter than agreed; else the most that there are is counted.
            whole: its model goes as it is, though the message does not say so, or begins a link anew.
        """
        per_frame = HEADER_BYTES + (CHECKSUM_BYTES if self.checksum else 0)
        if not message.carries_model:
            return len(self.documents.small(message, 0)) + per_frame, 0
        codec, agreed = self._coding_of(message, whole=whole)
        specs = agreed if specs is None else tuple(specs)
        head = len(self.documents.head(message, 0, codec, specs))
        payload = sum(spec.nbytes for spec in specs)
        body = payload + sum(len(bin_header(spec.nbytes)) for spec in specs)
        chunks = -(-body // self.chunk_bytes)
        return head + body + (1 + chunks) * per_frame, payload

    def _coding_of(self, message: Message, *, whole: bool = False) -> tuple[str, tuple[TensorSpec, ...]]:
        if not (whole or message.whole):
            return self.codec, self._specs_of(message)
        if self.anew and not message.whole:
            return self.codec, self.anew
        if self.learned is None:
            raise ProtocolMisuse("this writer knows nothing of whole messages")
        return EXACT, exact_specs(self.learned, message.piece)

    def _specs_of(self, message: Message) -> tuple[TensorSpec, ...]:
        piece = message.piece
        if piece is None:
            return self.specs
        if self.part_specs is None:
            raise ProtocolMisuse("this writer knows nothing of parts of models")
        return self.part_specs(piece)

    def _frame(self, kind: FrameKind, payload: list[Buffer]) -> list[Buffer]:
        length = sum(len(part) for part in payload)
        header = _HEADER.pack(length, kind, _CHECKSUMMED if self.checksum else 0, 0)
        if not self.checksum:
            return [header, *payload]
        checksum = zlib.crc32(header)
        for part in payload:
            checksum = zlib.crc32(part, checksum)
        return [header, *payload, _CHECKSUM.pack(checksum)]


def writer(
    envelope: Envelope,
    codec: str,
    specs: Sequence[TensorSpec],
    *,
    part_specs: PartSpecs | None = None,
    learned: int | None = None,
    anew: Sequence[TensorSpec] = (),
    declared: Sequence[int] | None = None,
    checksum: bool = False,
    chunk_bytes: int = CHUNK_BYTES_MAX,
) -> FrameWriter:
    """Return a writer for one sender; also what counts the bytes of messages that are never sent."""
    documents = DocumentWriter(envelope, None if declared is None else tuple(declared))
    return FrameWriter(
        documents, codec, tuple(specs), checksum, chunk_bytes, part_specs, learned, tuple(anew)
    )


def _chunks(segments: Sequence[Buffer], chunk_bytes: int) -> Iterator[list[Buffer]]:
    """Cut the joined segments into pieces of `chunk_bytes`, each as a list of views."""
    chunk: list[Buffer] = []
    room = chunk_bytes
    for segment in segments:
        start = 0
        while start < len(segment):
            piece = segment[start : start + room]
            chunk.append(piece)
            start += len(piece)
            room -= len(piece)
            if not room:
                yield chunk
                chunk, room = [], chunk_bytes
    if chunk:
        yield chunk


@dataclass(frozen=True, slots=True)
class Received:
    """A whole message; its tensors are memory that nobody else holds."""

    document: Document
    tensors: tuple[WireTensor, ...]
    frame_bytes: int
    payload_bytes: int


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The other side gave up the message it was sending."""

    document: Document
    frame_bytes: int


class Coming:
    """A model message under way, whose head was accepted: where its next bytes belong.

    Its tensors are filled from first to last; `missing` bytes, the last ones, were in no whole frame yet.
    """

    __slots__ = ("document", "frame_bytes", "headers", "missing", "nbytes", "segments", "tensors")

    def __init__(self, document: Document, frame_bytes: int, pool: MemoryPool | None) -> None:
        self.document = document
        self.frame_bytes = frame_bytes
        self.tensors = tuple(empty(spec, pool) for spec in document.specs)
        self.nbytes = sum(spec.nbytes for spec in document.specs)
        self.headers: list[tuple[bytearray, bytes]] = []
        # What is still to be filled, nearest last, so that taking from it is a pop.
        self.segments: list[memoryview] = []
        for tensor in reversed(self.tensors):
            wanted = bin_header(tensor.data.nbytes)
            header = bytearray(len(wanted))
            self.headers.append((header, wanted))
            self.segments += [segment for segment in (tensor.data, memoryview(header)) if len(segment)]
        self.missing = self.lacking()

    def lacking(self) -> int:
        """Return how many bytes are still to be filled."""
        return sum(len(segment) for segment in self.segments)

    def check_headers(self) -> None:
        for header, wanted in self.headers:
            if header != wanted:
                raise PeerError("garbage", "a tensor is not of the length that its message announced")


class FrameReader:
    """Reads one peer's frames.

    The caller fills `next_buffer()` wholly, calls `filled()`, and so on; `filled` returns a message when one is whole.
    Both may raise `PeerError`, after which the stream is of no use any more.
    """

    def __init__(
        self, accept: Callable[[Document], None], *, checksum: bool = False, pool: MemoryPool | None = None
    ) -> None:
        """Make a reader.

        Args:
            accept: called with every document as soon as its fields are known and before memory for its tensors is
                taken; raises `PeerError` for one that must not come now, or has other tensors than agreed.
            checksum: whether frames end with a checksum, as they do where there is no TLS.
            pool: where memory for tensors comes from.
        """
        self._accept = accept
        self._pool = pool
        self._checksum = checksum
        self._header = bytearray(HEADER_BYTES)
        self._small = bytearray(0)
        self._trailer = bytearray(CHECKSUM_BYTES)
        self._kind = FrameKind.CONTROL
        self._crc = 0
        self._left = 0
        self._step = self._header_filled
        self._buffer = memoryview(self._header)
        self._body: Coming | None = None

    @property
    def at_boundary(self) -> bool:
        """Whether the stream may end here without a message being cut."""
        return self._step == self._header_filled and self._body is None

    @property
    def coming(self) -> Coming | None:
        """The model message under way, if there is one."""
        return self._body

    def next_buffer(self) -> memoryview:
        """Return the buffer that the next bytes of the stream belong in, never empty."""
        return self._buffer

    def filled(self) -> Received | Cancelled | None:
        """Note that the buffer is full."""
        if self._checksum and self._step != self._trailer_filled:
            self._crc = zlib.crc32(self._buffer, self._crc)
        return self._step()

    def _header_filled(self) -> Received | Cancelled | None:
        length, kind, flags, reserved = _HEADER.unpack(self._header)
        if kind not in _LENGTH_MAX or reserved or flags & ~_CHECKSUMMED:
            raise PeerError("garbage", "what came is not a frame of this protocol")
        if bool(flags & _CHECKSUMMED) != self._checksum:
            raise PeerError("garbage", f"a frame {'without' if self._checksum else 'with'} a checksum")
        self._kind = FrameKind(kind)
        if length > _LENGTH_MAX[self._kind]:
            raise PeerError(
                "oversized",
                f"a {self._kind.name} frame of {length} bytes (at most {_LENGTH_MAX[self._kind]})",
            )
        self._check_order(length)
        self._left = length
        if not length:
            return self._payload_filled()
        if self._kind is FrameKind.DATA:
            self._next_piece()
        else:
            self._small = bytearray(length)
            self._fill(memoryview(self._small), self._payload_filled)
        return None

    def _check_order(self, length: int) -> None:
        if self._kind is FrameKind.HEAD and self._body is not None:
            raise PeerError("garbage", "a second model message began in the middle of another")
        if self._kind in (FrameKind.DATA, FrameKind.CANCEL) and self._body is None:
            raise PeerError("garbage", f"a {self._kind.name} frame, but no model message is under way")
        if self._kind is not FrameKind.CANCEL and not length:
            raise PeerError("garbage", f"an empty {self._kind.name} frame")
        if self._kind is FrameKind.DATA and self._body is not None:
            missing = self._body.lacking()
            if length > missing:
                raise PeerError("oversized", f"{length} bytes of a model message that lacks only {missing}")

    def _next_piece(self) -> None:
        """Fill the next part of the running message, as far as this frame goes."""
        assert self._body is not None
        segment = self._body.segments.pop()
        piece, rest = segment[: self._left], segment[self._left :]
        if len(rest):
            self._body.segments.append(rest)
        self._fill(piece, self._piece_filled)

    def _piece_filled(self) -> Received | Cancelled | None:
        self._left -= len(self._buffer)
        if not self._left:
            return self._payload_filled()
        self._next_piece()
        return None

    def _payload_filled(self) -> Received | Cancelled | None:
        if not self._checksum:
            return self._frame_complete(HEADER_BYTES)
        self._fill(memoryview(self._trailer), self._trailer_filled)
        return None

    def _trailer_filled(self) -> Received | Cancelled | None:
        (wanted,) = _CHECKSUM.unpack(self._trailer)
        if wanted != self._crc:
            raise PeerError("checksum", "a frame's checksum is not that of its bytes")
        return self._frame_complete(HEADER_BYTES + CHECKSUM_BYTES)

    def _frame_complete(self, overhead: int) -> Received | Cancelled | None:
        length = _HEADER.unpack(self._header)[0]
        self._crc = 0
        self._fill(memoryview(self._header), self._header_filled)
        if self._kind is FrameKind.CONTROL:
            document = read_small(self._small)
            self._accept(document)
            return Received(document, (), overhead + length, 0)
        if self._kind is FrameKind.HEAD:
            document = read_head(self._small)
            self._accept(document)
            self._body = Coming(document, overhead + length, self._pool)
            return None
        body = self._body
        assert body is not None
        body.frame_bytes += overhead + length
        if self._kind is FrameKind.CANCEL:
            self._body = None
            return Cancelled(body.document, body.frame_bytes)
        if body.segments:
            body.missing = body.lacking()
            return None
        self._body = None
        body.check_headers()
        payload = sum(tensor.data.nbytes for tensor in body.tensors)
        return Received(body.document, body.tensors, body.frame_bytes, payload)

    def _fill(self, buffer: memoryview, step: Callable[[], Received | Cancelled | None]) -> None:
        self._buffer = buffer
        self._step = step
