"""A message as one msgpack document that any msgpack library reads.

    {v, type, run, space, sender, seq, body: {the message's own fields}}                        without a model
    {v, type, run, space, sender, seq, body, codec, tensors: [[dtype, [shape]], …], data: [bin, …]}      with one

Where the run's merge rule wants to know, `classes` stands before `codec`: those of which the sender says that it has
training samples, ascending.

`data` stands last, and a `bin` is a short header before raw bytes: so everything before it (the head) is packed as
usual, and the tensors follow from their own memory. `seq` is always written in 9 bytes, so that the length of a
message does not depend on how many went before it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import msgpack

from gossip.errors import PeerError, ProtocolMisuse
from gossip.protocols.base import Message
from gossip.wire.messages import MessageType, type_of
from gossip.wire.tensors import DIMENSIONS_MAX, ITEM_BYTES, TENSOR_BYTES_MAX, TensorSpec

PROTOCOL_VERSION = 1
SMALL_BYTES_MAX = 64 * 1024
"""Of a document without tensors, or of a head: what a hostile one may unpack to stays below 5 MB."""
TENSORS_MAX = 15
"""A msgpack `fixarray`: its header is one byte, from which a head is completed for parsing."""
IDENTIFIER_CHARACTERS_MAX = 128
SEQUENCE_MAX = 2**53

CLASSES_MAX = 4096
"""Declared in one message, and the largest class number that may be."""

TAILS_MAX = 256
"""What is packed of codecs and tensors and kept; compressed tensors are of any length."""

_KEYS = ("v", "type", "run", "space", "sender", "seq", "body")
_KEY_SET = frozenset(_KEYS)
_MODEL_KEY_SET = _KEY_SET | {"codec", "tensors", "data"}
_DECLARING_KEY_SET = _MODEL_KEY_SET | {"classes"}
_SEQUENCE = struct.Struct(">BQ")
_UINT64 = 0xCF
_FIXARRAY = 0x90
_FIXMAP = 0x80


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every document of one sender says about its origin."""

    run_id: str
    space_id: str
    sender: str


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed document; a model message's tensors are only described in it."""

    envelope: Envelope
    seq: int
    type: MessageType
    fields: dict[str, Any]
    codec: str | None = None
    specs: tuple[TensorSpec, ...] = ()
    classes: tuple[int, ...] | None = None
    """Those that the sender declares to have samples of; None where it declares nothing."""

    @property
    def kind(self) -> str:
        """The message's type on the wire."""
        return self.type.message_class.kind

    def message(self, model: object = None) -> Message:
        """Return the message, with its model where it carries one."""
        fields = {**self.fields, "model": model} if self.type.message_class.carries_model else self.fields
        return self.type.message_class(**fields)


@dataclass(frozen=True, slots=True)
class DocumentWriter:
    """Packs the documents of one sender; what does not change between messages is packed once."""

    envelope: Envelope
    declared: tuple[int, ...] | None = None
    """Own classes, ascending, that every model message tells of; None: they tell of none."""
    _prefixes: dict[str, bytes] = field(default_factory=dict)
    _tails: dict[tuple[str, tuple[TensorSpec, ...]], bytes] = field(default_factory=dict)

    def small(self, message: Message, seq: int) -> bytes:
        """Return the whole document of a message that carries no model."""
        return self._pack(message, seq, b"")

    def head(self, message: Message, seq: int, codec: str, specs: Sequence[TensorSpec]) -> bytes:
        """Return the document of a model message up to the first tensor's `bin` header, exclusive."""
        key = (codec, tuple(specs))
        tail = self._tails.get(key)
        if tail is None:
            if len(self._tails) >= TAILS_MAX:
                self._tails.clear()
            tail = self._tails[key] = _pack_tail(codec, specs, self.declared)
        return self._pack(message, seq, tail)

    def _pack(self, message: Message, seq: int, tail: bytes) -> bytes:
        kind = message.kind
        registered = type_of(kind)
        if registered is None or registered.message_class is not type(message):
            raise ProtocolMisuse(
                f"message '{kind}' ({type(message).__name__}) is not registered with the wire"
            )
        if message.carries_model != bool(tail):
            raise ProtocolMisuse(
                f"a '{kind}' message must be packed {'with' if not tail else 'without'} a model"
            )
        prefix = self._prefixes.get(kind)
        if prefix is None:
            more = 0 if not tail else 3 if self.declared is None else 4
            prefix = self._prefixes[kind] = self._pack_prefix(kind, pairs=len(_KEYS) + more)
        body = msgpack.packb(registered.plain_fields(message))
        document = b"".join((prefix, _SEQUENCE.pack(_UINT64, seq), _BODY_KEY, body, tail))
        if len(document) > SMALL_BYTES_MAX:
            raise ProtocolMisuse(
                f"a '{kind}' message has {len(document)} bytes without its tensors; at most {SMALL_BYTES_MAX} travel"
            )
        return document

    def _pack_prefix(self, kind: str, pairs: int) -> bytes:
        envelope = self.envelope
        values = (PROTOCOL_VERSION, kind, envelope.run_id, envelope.space_id, envelope.sender)
        packed = [bytes([_FIXMAP | pairs])]
        for key, value in zip(_KEYS[:5], values, strict=True):
            packed += [msgpack.packb(key), msgpack.packb(value)]
        packed.append(msgpack.packb(_KEYS[5]))
        return b"".join(packed)


_BODY_KEY: bytes = msgpack.packb(_KEYS[6])


def _pack_tail(codec: str, specs: Sequence[TensorSpec], classes: tuple[int, ...] | None) -> bytes:
    if not 0 < len(specs) <= TENSORS_MAX:
        raise ProtocolMisuse(f"a model message has 1 to {TENSORS_MAX} tensors, not {len(specs)}")
    described = [(spec.dtype, spec.shape) for spec in specs]
    values: list[tuple[str, object]] = [("codec", codec), ("tensors", described)]
    if classes is not None:
        try:
            values.insert(0, ("classes", _check_classes(classes)))
        except ValueError as error:
            raise ProtocolMisuse(f"the declared classes {error}") from None
    parts = [msgpack.packb(key) + msgpack.packb(value) for key, value in values]
    return b"".join((*parts, msgpack.packb("data"), bytes([_FIXARRAY | len(specs)])))


def bin_header(nbytes: int) -> bytes:
    """Return the msgpack header of a `bin` of `nbytes` bytes, in its shortest form."""
    if nbytes < 2**8:
        return struct.pack(">BB", 0xC4, nbytes)
    if nbytes < 2**16:
        return struct.pack(">BH", 0xC5, nbytes)
    if nbytes <= TENSOR_BYTES_MAX:
        return struct.pack(">BI", 0xC6, nbytes)
    raise ProtocolMisuse(f"a tensor of {nbytes} bytes is too long for one msgpack bin ({TENSOR_BYTES_MAX})")


def read_small(payload: bytes | bytearray | memoryview) -> Document:
    """Parse a whole document without tensors. Raises `PeerError` for anything that is not one."""
    return _read(_unpack(payload), with_model=False)


def read_head(payload: bytes | bytearray | memoryview) -> Document:
    """Parse a head, i.e. a document cut off before its first tensor. Raises `PeerError` for anything else."""
    # The last byte is the header of the array of tensors; with one nil per tensor the document is whole.
    last = payload[-1] if len(payload) else 0
    if not _FIXARRAY < last <= _FIXARRAY | TENSORS_MAX:
        raise PeerError("garbage", "the head of a model message does not end where its tensors begin")
    return _read(_unpack(bytes(payload) + b"\xc0" * (last & TENSORS_MAX)), with_model=True)


def _unpack(payload: bytes | bytearray | memoryview) -> object:
    if len(payload) > SMALL_BYTES_MAX + TENSORS_MAX:
        raise PeerError("oversized", f"a document of {len(payload)} bytes (at most {SMALL_BYTES_MAX})")
    try:
        return msgpack.unpackb(payload, use_list=False, raw=False, strict_map_key=True)
    except Exception:  # msgpack has a dozen exception types for damaged bytes
        raise PeerError("garbage", "what came is not a msgpack document") from None


def _read(document: object, *, with_model: bool) -> Document:
    if type(document) is not dict or type(document.get("v")) is not int:
        raise PeerError("garbage", "what came is not a message of this protocol")
    if document["v"] != PROTOCOL_VERSION:
        raise PeerError(
            "version",
            f"speaks version {document['v']} of the protocol, this peer speaks version {PROTOCOL_VERSION}",
        )
    kind = document.get("type")
    registered = type_of(kind) if type(kind) is str else None
    if registered is None:
        raise PeerError("garbage", "a message of a type that is not known here")
    if registered.message_class.carries_model != with_model:
        raise PeerError("garbage", f"a '{kind}' message {'without' if not with_model else 'with'} a model")
    declares = with_model and "classes" in document
    if document.keys() != (
        _KEY_SET if not with_model else _DECLARING_KEY_SET if declares else _MODEL_KEY_SET
    ):
        raise PeerError("garbage", f"a '{kind}' message with other keys than it should have")
    envelope = Envelope(*(_identifier(document[key], key) for key in ("run", "space", "sender")))
    seq = document["seq"]
    if type(seq) is not int or not 0 <= seq <= SEQUENCE_MAX:
        raise PeerError("garbage", "a sequence number that is none")
    fields = registered.check_body(document["body"])
    if not with_model:
        return Document(envelope, seq, registered, fields)
    specs = _read_specs(document["tensors"])
    if document["data"] != (None,) * len(specs):
        raise PeerError("garbage", "a model message with more or fewer tensors than it announces")
    codec = _identifier(document["codec"], "codec")
    if not declares:
        return Document(envelope, seq, registered, fields, codec, specs)
    try:
        classes = _check_classes(document["classes"])
    except ValueError as error:
        raise PeerError("garbage", f"a model message whose declared classes {error}") from None
    return Document(envelope, seq, registered, fields, codec, specs, classes)


def _check_classes(value: object) -> tuple[int, ...]:
    if type(value) is not tuple or len(value) > CLASSES_MAX:
        raise ValueError(f"are no list of at most {CLASSES_MAX}")
    if not all(type(c) is int and 0 <= c < CLASSES_MAX for c in value):
        raise ValueError(f"are not all integers from 0 to {CLASSES_MAX - 1}")
    if any(a >= b for a, b in pairwise(value)):
        raise ValueError("do not ascend")
    return value


def _identifier(value: object, key: str) -> str:
    if type(value) is not str or len(value) > IDENTIFIER_CHARACTERS_MAX:
        raise PeerError("garbage", f"a message whose '{key}' is not a short string")
    return value


def _read_specs(described: object) -> tuple[TensorSpec, ...]:
    if type(described) is not tuple or not 0 < len(described) <= TENSORS_MAX:
        raise PeerError("garbage", "a model message without a list of its tensors")
    specs = []
    for item in described:
        if type(item) is not tuple or len(item) != 2:
            raise PeerError("garbage", "a tensor that is not described by dtype and shape")
        dtype, shape = item
        if type(dtype) is not str or dtype not in ITEM_BYTES:
            raise PeerError("layout", "a tensor of a dtype that is not known here")
        if type(shape) is not tuple or len(shape) > DIMENSIONS_MAX:
            raise PeerError(
                "layout", f"a tensor with a shape that is none, or of more than {DIMENSIONS_MAX} axes"
            )
        if not all(type(length) is int and 0 <= length <= TENSOR_BYTES_MAX for length in shape):
            raise PeerError("layout", "a tensor with a length that is none")
        specs.append(TensorSpec(dtype, shape))
    return tuple(specs)
