"""Messages that travel exactly, whatever the run's codec: their bytes, what is let in, and what receivers hold."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from gossip.errors import PeerError, ProtocolMisuse
from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.learning.task import Task
from gossip.merging.settings import AverageSettings
from gossip.protocols.base import Message, ModelMessage, Part
from gossip.protocols.rounds.final import FinalMessage
from gossip.wire import frames
from gossip.wire.agreement import Agreement, Expectation
from gossip.wire.codecs.base import Codec
from gossip.wire.codecs.float32 import EXACTLY, Float32
from gossip.wire.codecs.halves import BFloat16
from gossip.wire.codecs.settings import BFloat16Settings
from gossip.wire.documents import Envelope
from gossip.wire.tensors import exact_specs
from scenarios.virtual.events.frame_sizes import FrameSizes
from scenarios.virtual.learning.batched import BatchedLearning

LEARNED = 500
CODED: Codec = BFloat16(BFloat16Settings())
WHOLE = FinalMessage(round=3, step=2, model=None)
USUAL = ModelMessage(round=3, step=2, model=None)
VECTOR = torch.linspace(-1, 1, LEARNED)


def writer() -> frames.FrameWriter:
    return frames.writer(
        Envelope("run", "space", "alice"), CODED.name, CODED.specs(LEARNED), learned=LEARNED, chunk_bytes=300
    )


def let_in(stream: bytes) -> frames.Received:
    expectation = Expectation(
        Agreement(run_id="run", sections=(), space_id="space"),
        CODED.name,
        CODED.specs(LEARNED),
        sender="alice",
        greeted=True,
        learned=LEARNED,
    )
    reader = frames.FrameReader(expectation.accept)
    event = None
    while stream:
        buffer = reader.next_buffer()
        buffer[:], stream = stream[: len(buffer)], stream[len(buffer) :]
        event = reader.filled()
    assert isinstance(event, frames.Received)
    return event


def stream_of(message: Message, codec: Codec) -> bytes:
    sent = writer().model(message, 1, codec.encode(VECTOR, None))
    return b"".join(bytes(buffer) for frame in sent for buffer in frame)


def test_a_whole_message_travels_as_float32_beside_coded_ones_and_its_bytes_are_told_beforehand() -> None:
    sizes = FrameSizes(
        ["alice"], run_id="run", space_id="space", codec=CODED, learned_size=LEARNED, chunk_bytes=300
    )
    for message, codec in ((WHOLE, EXACTLY), (USUAL, CODED)):
        stream = stream_of(message, codec)
        event = let_in(stream)
        assert event.document.codec == codec.name
        assert event.document.message(None) == message
        assert sizes(0, message) == (len(stream), event.payload_bytes)
        assert event.payload_bytes == LEARNED * (4 if message.whole else 2)
    assert torch.equal(EXACTLY.decode(let_in(stream_of(WHOLE, EXACTLY)).tensors), VECTOR)


def test_who_must_send_a_model_as_it_is_cannot_send_less_and_more_is_taken() -> None:
    with pytest.raises(ProtocolMisuse, match="not what codec 'float32'"):
        stream_of(WHOLE, CODED)
    coded = stream_of(ModelMessage(round=3, step=2, model=None), CODED)
    for kind in (b"\xa5model", b"\xa5final"):
        changed = coded.replace(b"\xa5model", kind)
        if kind == b"\xa5final":
            with pytest.raises(PeerError, match="another codec than 'float32'"):
                let_in(changed)
        else:
            let_in(changed)
    exact = stream_of(WHOLE, EXACTLY).replace(b"\xa5final", b"\xa5model")
    assert let_in(exact).document.message(None) == USUAL


def test_a_part_of_a_whole_message_has_its_own_bytes_and_one_that_there_is_not_is_refused() -> None:
    (spec,) = exact_specs(LEARNED, Part(1, 3))
    assert spec.shape == (Part(1, 3).bounds(LEARNED)[1] - Part(1, 3).bounds(LEARNED)[0],)
    with pytest.raises(ValueError, match="part 3 of 3"):
        exact_specs(LEARNED, Part(3, 3))


def test_a_users_codec_that_is_called_like_ours_is_not_taken_for_it() -> None:
    class float32(BFloat16):  # noqa: N801 - the name is the point
        pass

    assert float32().name == "own-float32"
    assert Float32().name == "float32"


def test_the_virtual_engine_codes_no_whole_message() -> None:
    task = Task(
        data=DataSettings(train_max=60, test_max=20),
        model=ModelSettings(name="logistic"),
        local=LocalSettings(steps=1),
        seed=1,
        folder=Path(),
    )
    learning = BatchedLearning(task, ["p0", "p1"], AverageSettings(), codec=BFloat16Settings())
    own = learning.from_vector(torch.linspace(-1, 1, task.space.size), 0)
    for message in (WHOLE, USUAL):
        held = learning.vector(learning.sent(own, 0, dataclasses.replace(message, model=own)))
        assert torch.equal(held, learning.vector(own)) == message.whole
