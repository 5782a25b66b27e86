"""Laws of tensors, codecs and frames: what goes in comes out, and what is damaged is refused, cheaply."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import TypeVar

import msgpack
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gossip.errors import PeerError
from gossip.protocols.base import FinishedMessage, ModelMessage
from gossip.wire import documents, frames, tensors
from gossip.wire.agreement import Agreement, Expectation
from gossip.wire.codecs.float32 import Float32
from gossip.wire.documents import Document, Envelope
from gossip.wire.frames import Cancelled, FrameReader, Received
from tests.laws import tried
from tests.strategies import wire_specs

ENVELOPE = Envelope(run_id="run", space_id="space", sender="alice")
T = TypeVar("T")
AGREEMENT = Agreement(run_id="run", sections=(), space_id="space")


def read(stream: bytes, reader: FrameReader) -> list[Received | Cancelled]:
    """Feed all bytes, as a network would; what is incomplete at the end stays unread."""
    done: list[Received | Cancelled] = []
    start = 0
    while True:
        buffer = reader.next_buffer()
        assert 0 < len(buffer) <= 512 * 1024
        if start + len(buffer) > len(stream):
            return done
        buffer[:] = stream[start : start + len(buffer)]
        start += len(buffer)
        event = reader.filled()
        if event is not None:
            done.append(event)


def outcome(parse: Callable[[], T]) -> T | PeerError:
    """Return what parsing gives, or the error; any other exception fails the test."""
    try:
        return parse()
    except PeerError as error:
        assert "\n" not in str(error)  # noqa: PT017 (true of every one)
        assert len(str(error)) < 300  # noqa: PT017
        return error


def joined(sent: list[list[frames.Buffer]]) -> bytes:
    return b"".join(bytes(part) for frame in sent for part in frame)


@given(wire_specs())
def test_a_tensor_of_any_dtype_and_shape_comes_back_bit_for_bit(spec: tensors.TensorSpec) -> None:
    made = tensors.empty(spec)
    made.data[:] = bytes(
        (7 * i + 1) % 2 if spec.dtype == "bool" else (37 * i + 5) % 256 for i in range(spec.nbytes)
    )
    through_torch = tensors.from_torch(tensors.to_torch(made))
    assert (through_torch.spec, bytes(through_torch.data)) == (spec, bytes(made.data))
    array = tensors.to_numpy(made)
    assert array.shape == spec.shape
    assert array.tobytes() == bytes(made.data)
    if spec.dtype != "bfloat16":
        assert bytes(tensors.from_numpy(array).data) == bytes(made.data)


@given(st.lists(wire_specs(), min_size=1, max_size=4), st.booleans(), st.integers(1, 300), st.data())
def test_tensors_pass_through_frames_with_messages_between_them(
    specs: list[tensors.TensorSpec], checksum: bool, chunk_bytes: int, data: st.DataObject
) -> None:
    made = []
    for spec in specs:
        tensor = tensors.empty(spec)
        tensor.data[:] = bytes(i % 2 for i in range(spec.nbytes))
        made.append(tensor)
    writer = frames.writer(ENVELOPE, "test", specs, checksum=checksum, chunk_bytes=chunk_bytes)
    sent = list(writer.model(ModelMessage(round=1, step=0, model=None), 0, made))
    length = len(joined(sent))
    between = data.draw(st.integers(0, len(sent)))
    sent.insert(between, writer.small(FinishedMessage(round=9), 1))
    expectation = Expectation(AGREEMENT, "test", tuple(specs), sender="alice", greeted=True)
    reader = FrameReader(
        lambda document: None if between == 0 else expectation.accept(document), checksum=checksum
    )
    events = read(joined(sent), reader)
    assert reader.at_boundary
    received = {event.document.kind: event for event in events if isinstance(event, Received)}
    assert len(events) == len(received) == 2
    assert [(t.spec, bytes(t.data)) for t in received["model"].tensors] == [
        (t.spec, bytes(t.data)) for t in made
    ]
    assert received["model"].frame_bytes == length
    assert received["model"].payload_bytes == sum(spec.nbytes for spec in specs)
    assert received["finished"].document.message() == FinishedMessage(round=9)


@given(st.integers(0, 2000), st.integers(1, 700))
def test_a_cancelled_message_leaves_the_stream_usable(learned: int, chunk_bytes: int) -> None:
    codec = Float32()
    writer = frames.writer(ENVELOPE, codec.name, codec.specs(learned), chunk_bytes=chunk_bytes)
    vector = torch.arange(learned, dtype=torch.float32)
    message = ModelMessage(round=0, step=0, model=None)
    sent = [*list(writer.model(message, 0, codec.encode(vector)))[:-1], writer.cancel()]
    sent += writer.model(message, 1, codec.encode(vector))
    events = read(joined(sent), FrameReader(lambda document: None))
    assert isinstance(events[0], Cancelled)
    assert isinstance(events[1], Received)
    assert torch.equal(codec.decode(events[1].tensors), vector)


def example_stream(*, checksum: bool) -> bytes:
    codec = Float32()
    writer = frames.writer(ENVELOPE, codec.name, codec.specs(40), checksum=checksum, chunk_bytes=64)
    return joined(
        [
            writer.small(FinishedMessage(round=3), 0),
            *writer.model(ModelMessage(round=1, step=0, model=None), 1, codec.encode(torch.ones(40))),
            writer.small(FinishedMessage(round=4), 2),
        ]
    )


def reader_of_examples(*, checksum: bool) -> FrameReader:
    expectation = Expectation(AGREEMENT, "float32", Float32().specs(40), sender="alice", greeted=True)
    return FrameReader(expectation.accept, checksum=checksum)


@tried(4)
@given(
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 2**16), st.integers(1, 255)), min_size=1, max_size=3),
    st.data(),
)
def test_damaged_streams_are_refused_or_read_but_never_anything_else(
    checksum: bool, flips: list[tuple[int, int]], data: st.DataObject
) -> None:
    stream = bytearray(example_stream(checksum=checksum))
    for position, mask in flips:
        stream[position % len(stream)] ^= mask
    cut = data.draw(st.integers(0, len(stream)))
    events = outcome(lambda: read(bytes(stream[:cut]), reader_of_examples(checksum=checksum)))
    assert isinstance(events, PeerError) or all(isinstance(event, Received | Cancelled) for event in events)


@tried(3)
@given(st.integers(0, 2**16), st.integers(0, 7))
def test_with_checksums_no_flipped_bit_is_ever_believed(position: int, bit: int) -> None:
    stream = bytearray(example_stream(checksum=True))
    whole = read(bytes(stream), reader_of_examples(checksum=True))
    assert len(whole) == 3
    stream[position % len(stream)] ^= 1 << bit
    reader = reader_of_examples(checksum=True)
    believed: list[Received | Cancelled] = []
    try:
        believed = read(bytes(stream), reader)
    except PeerError:
        return
    # A longer length may still be waiting for its bytes: then nothing after the flip has come out.
    assert not reader.at_boundary
    assert len(believed) < 3


@tried(4)
@given(st.binary(max_size=200))
def test_bytes_of_strangers_give_peer_errors_only(noise: bytes) -> None:
    for parse in (documents.read_small, documents.read_head):
        with pytest.raises(PeerError):
            parse(noise)
    events = outcome(lambda: read(noise, reader_of_examples(checksum=False)))
    assert isinstance(events, PeerError) or not events


json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@tried(1.5)
@given(
    st.sampled_from(
        ["v", "type", "run", "space", "sender", "seq", "body", "classes", "codec", "tensors", "data"]
    ),
    json_like,
)
def test_a_model_message_with_any_one_value_replaced_is_refused_or_read(key: str, value: object) -> None:
    writer = documents.DocumentWriter(ENVELOPE, declared=(1, 3))
    head = writer.head(ModelMessage(round=1, step=0, model=None), 5, "float32", Float32().specs(40))
    document = msgpack.unpackb(head + b"\xc0")
    document[key] = value
    damaged: bytes = msgpack.packb(document)
    parsed = outcome(lambda: documents.read_head(damaged[:-1] if key != "data" else damaged))
    assert isinstance(parsed, PeerError | Document)


def test_no_frame_makes_the_reader_take_memory_that_was_not_agreed() -> None:
    """Announced lengths and shapes are held against the bounds before anything is allocated."""
    giant = documents.DocumentWriter(ENVELOPE).head(
        ModelMessage(round=1, step=0, model=None), 5, "float32", [tensors.TensorSpec("float32", (2**29,))]
    )
    long_frames = [
        (2**32 - 1, frames.FrameKind.CONTROL),
        (64 * 1024 + 1, frames.FrameKind.HEAD),
        (512 * 1024 + 1, frames.FrameKind.DATA),
        (1, frames.FrameKind.CANCEL),
    ]
    tracemalloc.start()
    try:
        for length, kind in long_frames:
            with pytest.raises(PeerError) as caught:
                read(frames._HEADER.pack(length, kind, 0, 0), reader_of_examples(checksum=False))
            assert caught.value.reason == "oversized"
        with pytest.raises(PeerError) as caught:
            read(
                frames._HEADER.pack(len(giant), frames.FrameKind.HEAD, 0, 0) + giant,
                reader_of_examples(checksum=False),
            )
        assert caught.value.reason == "layout"
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_more_data_than_announced_or_out_of_order_is_refused() -> None:
    codec = Float32()
    writer = frames.writer(ENVELOPE, codec.name, codec.specs(40))
    head, data = writer.model(ModelMessage(round=1, step=0, model=None), 1, codec.encode(torch.ones(40)))
    longer = frames._HEADER.pack(40 * 4 + 3, frames.FrameKind.DATA, 0, 0) + bytes(163)
    wrong_bin = [data[0], b"\xc4\xa1", *data[2:]]
    for stream, reason in [
        (joined([data]), "garbage"),
        (joined([head, head]), "garbage"),
        (joined([writer.cancel()]), "garbage"),
        (joined([head]) + longer, "oversized"),
        (joined([head, wrong_bin]), "garbage"),
    ]:
        with pytest.raises(PeerError) as caught:
            read(stream, FrameReader(lambda document: None))
        assert caught.value.reason == reason
