"""What may be a message, what a document holds, and what is said of everything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import msgpack
import numpy as np
import pytest
import torch

from gossip.errors import PeerError, ProtocolMisuse
from gossip.protocols.base import FinishedMessage, Message, ModelMessage
from gossip.wire import documents, frames
from gossip.wire.agreement import Agreement, Expectation
from gossip.wire.codecs.float32 import Float32
from gossip.wire.documents import DocumentWriter, Envelope
from gossip.wire.messages import Goodbye, Hello, register, type_of
from gossip.wire.tensors import TensorSpec, from_torch

ENVELOPE = Envelope(run_id="run", space_id="space", sender="alice")
WRITER = DocumentWriter(ENVELOPE)


@register
@dataclass(frozen=True, slots=True, kw_only=True)
class Everything(Message):
    """One field of every kind that may travel."""

    kind: ClassVar[str] = "test-everything"
    count: int
    share: float
    word: str
    blob: bytes
    flag: bool
    numbers: tuple[int, ...]
    pairs: tuple[tuple[str, float], ...]
    maybe: int | None


GOOD = Everything(
    count=-3,
    share=0.5,
    word="wörd",
    blob=b"\0\xff",
    flag=True,
    numbers=(1, 2**53),
    pairs=(("a", 1.0),),
    maybe=None,
)


def test_every_kind_of_field_comes_back_as_it_went() -> None:
    document = documents.read_small(WRITER.small(GOOD, 7))
    assert document.message() == GOOD
    assert (document.envelope, document.seq, document.kind) == (ENVELOPE, 7, "test-everything")


def test_a_document_is_plain_msgpack() -> None:
    plain = msgpack.unpackb(WRITER.small(FinishedMessage(round=4), 2**40))
    head = {"v": 1, "type": "finished", "run": "run", "space": "space", "sender": "alice", "seq": 2**40}
    assert plain == {**head, "body": {"round": 4}}


def test_a_model_message_is_one_plain_msgpack_document_over_all_its_frames() -> None:
    codec = Float32()
    vector = torch.arange(1000, dtype=torch.float32)
    writer = frames.writer(ENVELOPE, codec.name, codec.specs(1000), chunk_bytes=512)
    message = ModelMessage(round=1, step=2, model=None)
    sent = list(writer.model(message, 3, codec.encode(vector)))
    plain = msgpack.unpackb(b"".join(bytes(part) for frame in sent for part in frame[1:]))
    assert plain["tensors"] == [["float32", [1000]]]
    assert plain["body"] == {"round": 1, "step": 2}
    assert plain["codec"] == "float32"
    assert np.array_equal(np.frombuffer(plain["data"][0], "<f4"), vector.numpy())
    total = sum(len(part) for frame in sent for part in frame)
    assert writer.frame_bytes(message) == (total, 4000)


@pytest.mark.parametrize("checksum", [False, True])
def test_the_length_of_a_message_is_known_without_sending_it(checksum: bool) -> None:
    writer = frames.writer(ENVELOPE, "float32", Float32().specs(10), checksum=checksum)
    sent = writer.small(FinishedMessage(round=70000), 2**50)
    assert writer.frame_bytes(FinishedMessage(round=70000)) == (sum(map(len, sent)), 0)


def test_ten_megabytes_cost_less_than_one_in_ten_thousand_more() -> None:
    writer = frames.writer(ENVELOPE, "float32", Float32().specs(2_500_000))
    total, payload = writer.frame_bytes(ModelMessage(round=5, step=1, model=None))
    assert payload == 10_000_000
    assert total < 1.0001 * payload


def test_sending_copies_no_tensor() -> None:
    vector = torch.zeros(4096)
    codec = Float32()
    writer = frames.writer(ENVELOPE, codec.name, codec.specs(4096))
    parts = [
        p for f in writer.model(ModelMessage(round=0, step=0, model=None), 0, codec.encode(vector)) for p in f
    ]
    vector[4095] = 1.0
    assert any(isinstance(part, memoryview) and bytes(part[-4:]) == np.float32(1).tobytes() for part in parts)


def changed(**changes: object) -> bytes:
    document = msgpack.unpackb(WRITER.small(GOOD, 7))
    document["body"].update({key: value for key, value in changes.items() if key in document["body"]})
    document.update({key: value for key, value in changes.items() if key not in document["body"]})
    return bytes(msgpack.packb(document))


@pytest.mark.parametrize(
    ("changes", "reason", "sentence"),
    [
        ({"count": 1.0}, "garbage", "field 'count'"),
        ({"count": True}, "garbage", "field 'count'"),
        ({"count": 2**53 + 1}, "garbage", "field 'count'"),
        ({"share": 1}, "garbage", "field 'share'"),
        ({"share": float("nan")}, "garbage", "finite"),
        ({"share": float("inf")}, "garbage", "finite"),
        ({"word": b"bytes"}, "garbage", "field 'word'"),
        ({"word": "x" * 5000}, "garbage", "4096"),
        ({"blob": "text"}, "garbage", "field 'blob'"),
        ({"flag": 1}, "garbage", "field 'flag'"),
        ({"numbers": 5}, "garbage", "field 'numbers'"),
        ({"numbers": [0] * 5000}, "garbage", "at most 4096 items"),
        ({"numbers": ["1"]}, "garbage", "field 'numbers'"),
        ({"pairs": [["a"]]}, "garbage", "exactly 2"),
        ({"maybe": "1"}, "garbage", "field 'maybe'"),
        ({"v": 2}, "version", "version 2"),
        ({"v": "1"}, "garbage", "not a message"),
        ({"type": "nonesuch"}, "garbage", "not known"),
        ({"type": ["x"]}, "garbage", "not known"),
        ({"type": "model"}, "garbage", "without a model"),
        ({"type": "finished"}, "garbage", "fields"),
        ({"run": 5}, "garbage", "'run'"),
        ({"sender": "x" * 129}, "garbage", "'sender'"),
        ({"seq": -1}, "garbage", "sequence"),
        ({"body": []}, "garbage", "fields"),
        ({"extra": 1}, "garbage", "other keys"),
    ],
)
def test_a_wrong_field_is_named_in_one_sentence(
    changes: dict[str, object], reason: str, sentence: str
) -> None:
    with pytest.raises(PeerError, match=sentence) as caught:
        documents.read_small(changed(**changes))
    assert caught.value.reason == reason


def test_what_may_not_travel_is_our_own_mistake() -> None:
    for wrong in [
        FinishedMessage(round=2**60),
        FinishedMessage(round=1.5),  # type: ignore[arg-type]
        Goodbye(reason="x", sentence="y" * 5000),
    ]:
        with pytest.raises(ProtocolMisuse):
            WRITER.small(wrong, 0)
    assert documents.read_small(WRITER.small(FinishedMessage(round=np.int64(3)), 0)).fields == {"round": 3}  # type: ignore[arg-type]


def test_a_message_class_is_checked_when_it_is_registered() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Loose(Message):
        kind: ClassVar[str] = "test-loose"
        anything: dict[str, int]

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Twice(Message):
        kind: ClassVar[str] = "finished"

    for wrong in (Loose, Twice):
        with pytest.raises(ProtocolMisuse):
            register(wrong)
    assert type_of("test-loose") is None


def test_documents_are_held_against_the_agreement() -> None:
    agreement = Agreement(run_id="run", sections=(), space_id="space")
    specs = (TensorSpec("float32", (10,)),)

    def reason(envelope: Envelope, seq: int = 5, learned: int = 10, codec: str = "float32") -> str:
        expectation = Expectation(agreement, "float32", specs, sender="alice")
        hello = Hello(agreement=(), instance="i", peers_digest="p")
        expectation.accept(documents.read_small(DocumentWriter(ENVELOPE).small(hello, 2)))
        expectation.greeted = True
        head = DocumentWriter(envelope).head(
            ModelMessage(round=0, step=0, model=None), seq, codec, [from_torch(torch.zeros(learned)).spec]
        )
        with pytest.raises(PeerError) as caught:
            expectation.accept(documents.read_head(head))
        return caught.value.reason

    assert reason(Envelope("run", "space", "bob")) == "sender"
    assert reason(Envelope("other", "space", "alice")) == "run"
    assert reason(Envelope("run", "other", "alice")) == "space"
    assert reason(ENVELOPE, seq=2) == "replay"
    assert reason(ENVELOPE, learned=11) == "layout"
    assert reason(ENVELOPE, codec="other") == "layout"


def test_models_declare_classes_exactly_where_the_agreement_says_so() -> None:
    specs = (TensorSpec("float32", (10,)),)
    message = ModelMessage(round=0, step=0, model=None)

    def accepted(classes: int | None, declared: tuple[int, ...] | None) -> tuple[int, ...] | None:
        agreement = Agreement(run_id="run", sections=(), space_id="space", classes=classes)
        expectation = Expectation(agreement, "float32", specs, sender="alice", greeted=True)
        head = DocumentWriter(ENVELOPE, declared).head(message, 5, "float32", specs)
        document = documents.read_head(head)
        expectation.accept(document)
        return document.classes

    assert accepted(None, None) is None
    assert accepted(10, ()) == ()
    assert accepted(10, (0, 4, 9)) == (0, 4, 9)
    for classes, declared in ((None, (1,)), (10, None), (10, (4, 10))):
        with pytest.raises(PeerError) as caught:
            accepted(classes, declared)
        assert caught.value.reason == "layout"
    for wrong in ((3, 3), (4, 2), (-1,), (4096,), tuple(range(4097))):
        with pytest.raises(ProtocolMisuse):
            DocumentWriter(ENVELOPE, wrong).head(message, 5, "float32", specs)


def test_a_hello_of_another_run_names_the_sections_that_differ() -> None:
    own = Agreement(run_id="1", sections=(("data", "d"), ("local", "l"), ("model", "m")), space_id="s")
    for run, sections, space, reason, sentence in [
        ("2", (("data", "D"), ("local", "l"), ("model", "M")), "s", "run", r"\[data\], \[model\]$"),
        ("2", own.sections, "s", "run", "settings are the same"),
        ("1", own.sections, "t", "space", "another model or task"),
    ]:
        hello = Hello(agreement=sections, instance="i", peers_digest="p")
        document = documents.read_small(DocumentWriter(Envelope(run, space, "bob")).small(hello, 0))
        with pytest.raises(PeerError, match=sentence) as caught:
            own.check_hello(document, hello)
        assert caught.value.reason == reason
