"""What no peer may say: one entry per way of being wrong.

Each function gets a `Session` that has come as far as its stage says, and sends something. The other side must end that
connection (or ignore what came, where the entry says so), and notice nothing else.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgpack
from client import CANCEL, CONTROL, DATA, HEAD, Session, bin_header, frame

Say = Callable[[Session], None]

RAW, TLS, GREETED, OPEN = "raw", "tls", "greeted", "open"
"""How far the session is: a TCP connection; TLS; their hello read and none sent; welcomed."""

FINISHED: dict[str, Any] = {"round": 1}
TAG = {"round": 1, "step": 0}
TEN = [10]


@dataclass(frozen=True)
class Malformed:
    """One way of being wrong."""

    name: str
    stage: str
    say: Say
    ends: bool = True
    """Whether the connection must end by it."""


def _bytes(data: bytes) -> Say:
    return lambda session: session.raw(data)


def _control(kind: str, body: Any, **changes: Any) -> Say:
    return lambda session: session.control(kind, body, **changes)


def _document(document: Any) -> Say:
    return lambda session: session.raw(frame(CONTROL, msgpack.packb(document)))


def _hello(**changes: Any) -> Say:
    return lambda session: session.say_hello(**changes)


def _hello_document(**changes: Any) -> Say:
    def say(session: Session) -> None:
        body = {"agreement": session.theirs["body"]["agreement"], "instance": "1", "peers_digest": ""}
        session.control("hello", body, **changes)

    return say


def _head(**changes: Any) -> Say:
    """A head that differs in what is named; with the model's own shape otherwise."""

    def say(session: Session) -> None:
        given = {"shape": session.shape, **changes}
        session.raw(session.head_frame("model", given.pop("body", TAG), **given))

    return say


def _then(*says: Say) -> Say:
    def say(session: Session) -> None:
        for each in says:
            each(session)

    return say


def _whole_model(kind: str, body: dict[str, Any]) -> Say:
    return lambda session: session.model(kind, body, bytes(4 * session.shape[0]))


def _model_of(value: float) -> Say:
    def say(session: Session) -> None:
        session.model("model", TAG, struct.pack("<f", value) * session.shape[0])

    return say


def _wrong_bin(session: Session) -> None:
    count = 4 * session.shape[0]
    session.raw(session.head_frame("model", TAG, shape=session.shape))
    data = bin_header(count - 1).ljust(len(bin_header(count)), b"\0") + bytes(count)
    for at in range(0, len(data), 1 << 19):
        session.raw(frame(DATA, data[at : at + (1 << 19)]))


def _too_much_data(session: Session) -> None:
    session.raw(session.head_frame("model", TAG, shape=session.shape))
    session.raw(frame(DATA, bytes(min(4 * session.shape[0] + 1000, 512 * 1024))) * 40)


def _seq(number: Any) -> Say:
    return _control("finished", FINISHED, seq=number)


def _nested(depth: int) -> bytes:
    return b"\x91" * depth + b"\xc0"


MALFORMED: tuple[Malformed, ...] = (
    # What is not TLS, or not as it must be.
    Malformed("noise instead of TLS", RAW, _bytes(os.urandom(4096))),
    Malformed("HTTP instead of TLS", RAW, _bytes(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")),
    Malformed("a TLS record of a length that is none", RAW, _bytes(b"\x16\x03\x01\xff\xff" + bytes(70_000))),
    Malformed("a frame without TLS", RAW, _bytes(frame(CONTROL, msgpack.packb({"v": 1})))),
    # Headers of frames.
    Malformed("noise inside TLS", TLS, _bytes(b"\xa5" * 4096)),
    Malformed("a frame of kind 0", TLS, _bytes(frame(0, b"x"))),
    Malformed("a frame of kind 5", TLS, _bytes(frame(5, b"x"))),
    Malformed("a frame of kind 255", TLS, _bytes(frame(255, b"x"))),
    Malformed("an unknown flag", TLS, _bytes(frame(CONTROL, b"x", flags=2))),
    Malformed("a checksum where TLS is", TLS, _bytes(frame(CONTROL, b"x", flags=1) + b"\0\0\0\0")),
    Malformed("the reserved field used", TLS, _bytes(frame(CONTROL, b"x", zero=7))),
    Malformed("a CONTROL frame of 4 GiB", TLS, _bytes(frame(CONTROL, b"", length=2**32 - 1))),
    Malformed("a CONTROL frame of 64 KiB + 1", TLS, _bytes(frame(CONTROL, b"", length=65537))),
    Malformed("a HEAD frame of 1 GiB", TLS, _bytes(frame(HEAD, b"", length=2**30))),
    Malformed("an empty CONTROL frame", TLS, _bytes(frame(CONTROL, b""))),
    Malformed("an empty HEAD frame", TLS, _bytes(frame(HEAD, b""))),
    Malformed("DATA before any HEAD", TLS, _bytes(frame(DATA, b"x"))),
    Malformed("CANCEL of nothing", TLS, _bytes(frame(CANCEL, b""))),
    Malformed("a CANCEL frame with a payload", TLS, _bytes(frame(CANCEL, b"x"))),
    # Documents.
    Malformed("a payload that is not msgpack", TLS, _bytes(frame(CONTROL, b"\xc1\xc1\xc1"))),
    Malformed(
        "a document cut short", TLS, _bytes(frame(CONTROL, msgpack.packb({"v": 1, "type": "hello"})[:-3]))
    ),
    Malformed("bytes after the document", TLS, _bytes(frame(CONTROL, msgpack.packb({"v": 1}) + b"\x01"))),
    Malformed("60,000 arrays in each other", TLS, _bytes(frame(CONTROL, _nested(60_000)))),
    Malformed("an array of 2^32 items", TLS, _bytes(frame(CONTROL, b"\xdd\xff\xff\xff\xff\x01"))),
    Malformed("a map of 2^32 pairs", TLS, _bytes(frame(CONTROL, b"\xdf\xff\xff\xff\xff\x01\x01"))),
    Malformed("a string of 2^32 bytes", TLS, _bytes(frame(CONTROL, b"\xdb\xff\xff\xff\xffx"))),
    Malformed("64 KB of empty maps", TLS, _bytes(frame(CONTROL, b"\xdc\xff\xf0" + b"\x80" * 65_000))),
    Malformed(
        "an extension type", TLS, _bytes(frame(CONTROL, msgpack.packb(msgpack.ExtType(42, b"run me"))))
    ),
    Malformed("a list instead of a map", TLS, _document([1, 2, 3])),
    Malformed("a number instead of a map", TLS, _document(7)),
    Malformed("integers as keys", TLS, _document({1: 2})),
    Malformed("a string that is not UTF-8", TLS, _bytes(frame(CONTROL, b"\x81\xa1v\xa2\xff\xfe"))),
    # Hellos.
    Malformed("a control message before the hello", GREETED, _control("finished", FINISHED)),
    Malformed("a model before the hello", GREETED, _head()),
    Malformed("a welcome before the hello", GREETED, _control("welcome", {})),
    Malformed(
        "a heartbeat before the hello",
        GREETED,
        _control("heartbeat", {"stamp_us": 1, "echo_us": 0, "held_us": 0}),
    ),
    Malformed("version 2", GREETED, _hello_document(v=2)),
    Malformed("version true", GREETED, _hello_document(v=True)),
    Malformed("another run", GREETED, _hello_document(run="0" * 16)),
    Malformed("another space", GREETED, _hello_document(space="0" * 16)),
    Malformed("another peer's name", GREETED, _hello_document(sender="n1")),
    Malformed("a name of 60,000 characters", GREETED, _hello_document(sender="x" * 60_000)),
    Malformed("an agreement of other sections", GREETED, _hello(agreement=[["local", "0"]])),
    Malformed("an agreement that is no list", GREETED, _hello(agreement="all")),
    Malformed("an agreement of triples", GREETED, _hello(agreement=[["a", "b", "c"]])),
    Malformed("a hello that lacks a field", GREETED, _control("hello", {"instance": "1"})),
    Malformed("a hello with a field too many", GREETED, _hello(more=1)),
    # Messages of a connection that is agreed.
    Malformed("a second hello", OPEN, _hello()),
    Malformed("a welcome out of place", OPEN, _control("welcome", {})),
    Malformed("an unknown kind of message", OPEN, _control("exec", {"code": "import os"})),
    Malformed("a kind that is a number", OPEN, _control("finished", FINISHED, type=5)),
    Malformed("another sender", OPEN, _control("finished", FINISHED, sender="n1")),
    Malformed("another run, later", OPEN, _control("finished", FINISHED, run="0" * 16)),
    Malformed("another space, later", OPEN, _control("finished", FINISHED, space="0" * 16)),
    Malformed("a key too many", OPEN, _control("finished", FINISHED, more=1)),
    Malformed("a body that is a list", OPEN, _control("finished", [1])),
    Malformed("a body that lacks a field", OPEN, _control("finished", {})),
    Malformed("a round of 2^63", OPEN, _control("finished", {"round": 2**63})),
    Malformed("a round of -2^40", OPEN, _control("finished", {"round": -(2**40)})),
    Malformed("a round that is a float", OPEN, _control("finished", {"round": 1.0})),
    Malformed("a round that is NaN", OPEN, _control("finished", {"round": math.nan})),
    Malformed("a round that is infinite", OPEN, _control("finished", {"round": math.inf})),
    Malformed("a round that is true", OPEN, _control("finished", {"round": True})),
    Malformed("a round that is a string", OPEN, _control("finished", {"round": "1"})),
    Malformed("a round that is nil", OPEN, _control("finished", {"round": None})),
    Malformed("a sequence number again", OPEN, _then(_seq(1000), _seq(1000))),
    Malformed("a sequence number that falls", OPEN, _then(_seq(1000), _seq(999))),
    Malformed("a sequence number of 2^63", OPEN, _seq(2**63)),
    Malformed("a sequence number of -1", OPEN, _seq(-1)),
    Malformed(
        "a heartbeat of floats", OPEN, _control("heartbeat", {"stamp_us": 0.5, "echo_us": 0, "held_us": 0})
    ),
    # Models.
    Malformed("a model message without a model", OPEN, _control("model", TAG)),
    Malformed(
        "a HEAD of a message that carries none",
        OPEN,
        lambda session: session.raw(session.head_frame("finished", FINISHED, shape=session.shape)),
    ),
    Malformed("a HEAD in the middle of a model", OPEN, _then(_head(), _head())),
    Malformed("a tensor too long", OPEN, _head(shape=[2**30])),
    Malformed("a tensor too short", OPEN, _head(shape=TEN)),
    Malformed("a tensor of 2^62 bytes", OPEN, _head(shape=[2**31, 2**31])),
    Malformed("a tensor of length -1", OPEN, _head(shape=[-1])),
    Malformed("a tensor of 100 axes", OPEN, _head(shape=[1] * 100)),
    Malformed("a shape that is no list", OPEN, _head(tensors=[["float32", 5]])),
    Malformed("float64 for float32", OPEN, _head(dtype="float64")),
    Malformed("a dtype that is not known", OPEN, _head(dtype="object")),
    Malformed("another codec", OPEN, _head(codec="pickle")),
    Malformed("two tensors for one", OPEN, _head(tensors=[["float32", TEN], ["float32", TEN]])),
    Malformed("no tensors", OPEN, _head(tensors=[])),
    Malformed("more data than announced", OPEN, _too_much_data),
    Malformed("a bin of another length than announced", OPEN, _wrong_bin),
    Malformed("classes where the run has none", OPEN, _head(classes=[1, 2])),
    # In order as bytes, and not to be used: refused one by one, the connection may stay.
    Malformed("a model of NaN", OPEN, _model_of(math.nan), ends=False),
    Malformed("a model of infinities", OPEN, _model_of(math.inf), ends=False),
    Malformed("a model of 1e38", OPEN, _model_of(1e38), ends=False),
    Malformed("a model of round -5", OPEN, _whole_model("model", {"round": -5, "step": 0}), ends=False),
    Malformed("a model of step 10^9", OPEN, _whole_model("model", {"round": 1, "step": 10**9}), ends=False),
    Malformed(
        "another protocol's message", OPEN, _control("modest-ping", {"nonce": 1, "round": 5}), ends=False
    ),
    Malformed(
        "another protocol's model",
        OPEN,
        _whole_model("push", {"round": 1, "age": 5, "part": 0, "parts": 1}),
        ends=False,
    ),
    Malformed(
        "a part of a model that there is not",
        OPEN,
        _whole_model("push", {"round": 1, "age": 5, "part": 9, "parts": 2}),
    ),
    Malformed("a model given up in the middle", OPEN, _then(_head(), _bytes(frame(CANCEL, b""))), ends=False),
    Malformed(
        "a model cut off by the end of the connection", OPEN, _then(_head(), lambda session: session.close())
    ),
)
