"""What is fuzzed: one function of bytes each, which lets nothing out but what its subject's documentation allows.

Every byte here comes from somebody else: a peer's stream, a file that a disk or an editor has damaged, an answer to
`status` from whoever listens at that socket.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import msgpack
import numpy as np
import torch
from decoding import decode as decode_as_received
from decoding import variants
from targets_samples import (
    LEARNED,
    SECTIONS,
    SHAPE,
    checkpoint_seeds,
    frame_seeds,
    head_seeds,
    identity_seeds,
    metrics_seeds,
    peers_seeds,
    small_seeds,
    status_seeds,
    task_seeds,
)

from gossip.channels.prototypes import believed, prototypes_of
from gossip.config.loading import load_task
from gossip.errors import CheckpointError, NetworkError, PeerError, SettingError
from gossip.net import peers_file
from gossip.net.identity import Identity
from gossip.node.status import read_answer
from gossip.protocols.base import Context
from gossip.protocols.modest.messages import MESSAGES as MODEST
from gossip.protocols.tables import Table, TableMessage
from gossip.storage.checkpoints import decode
from gossip.storage.run_record import RunRecord, read_lines
from gossip.wire.agreement import Agreement, Expectation
from gossip.wire.codecs.base import Codec, part_specs
from gossip.wire.codecs.float32 import Float32
from gossip.wire.documents import read_head, read_small
from gossip.wire.frames import CHUNK_BYTES_MAX, FrameReader, Received
from gossip.wire.messages import Hello, register
from gossip.wire.tensors import WireTensor

AGREEMENT = Agreement(run_id="run", sections=SECTIONS, space_id="space", classes=10)
register(TableMessage)
SENTENCE_CHARACTERS_MAX = 1000
"""An error is one sentence, also where a stranger's bytes are in it."""


@dataclass(frozen=True)
class Target:
    """A function that takes any bytes, and valid samples to begin with."""

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


def _one_sentence(error: Exception) -> None:
    said = str(error)
    if not said or "\n" in said or len(said) > SENTENCE_CHARACTERS_MAX:
        raise AssertionError(f"not one sentence: {said[:200]!r}… ({len(said)} characters)")


# --- the wire ---


def _expectation(*, greeted: bool, classes: int | None) -> Expectation:
    codec = Float32()
    agreement = Agreement(run_id="run", sections=SECTIONS, space_id="space", classes=classes)
    return Expectation(
        agreement,
        codec.name,
        codec.specs(LEARNED),
        sender="alice",
        greeted=greeted,
        part_specs=part_specs(codec, LEARNED),
    )


def frames(data: bytes) -> None:
    """Read a stream as a connection does: its first byte says at what point, and whether there is a checksum."""
    if not data:
        return
    mode, stream = data[0], data[1:]
    checksum = bool(mode & 1)
    expected = _expectation(greeted=bool(mode & 2), classes=10 if mode & 4 else None)
    reader = FrameReader(expected.accept, checksum=checksum)
    start = 0
    try:
        while True:
            buffer = reader.next_buffer()
            if not 0 < len(buffer) <= CHUNK_BYTES_MAX:
                raise AssertionError(f"wants {len(buffer)} bytes at once")
            if start + len(buffer) > len(stream):
                return
            buffer[:] = stream[start : start + len(buffer)]
            start += len(buffer)
            event = reader.filled()
            if isinstance(event, Received):
                _use(event, expected)
    except PeerError as error:
        _one_sentence(error)


def _use(event: Received, expected: Expectation) -> None:
    message = event.document.message()
    if isinstance(message, Hello):
        expected.greeted = True
        AGREEMENT.check_hello(event.document, message)
    if event.tensors:
        vector = Float32().decode(event.tensors)
        if vector.dtype != torch.float32 or vector.dim() != 1 or len(vector) > LEARNED:
            raise AssertionError(f"a model of {vector.dtype}, shape {tuple(vector.shape)}")


def small_document(data: bytes) -> None:
    """Read a document without a model."""
    try:
        document = read_small(data)
        message = document.message()
        _expectation(greeted=True, classes=None).accept(document)
    except PeerError as error:
        _one_sentence(error)
        return
    if isinstance(message, TableMessage):
        _hear(message)


class _Credulous:
    """A context of a peer that takes every signature for a good one."""

    peer = "alice"
    peers = ("alice", "bob")

    def sign(self, statement: bytes) -> bytes:
        return b""

    def verify(self, peer: str, statement: bytes, signature: bytes) -> bool:
        return True

    def emit(self, event: object) -> None:
        pass


def _hear(message: TableMessage) -> None:
    """Take a table's rows, and make prototypes of them."""
    table = Table(SHAPE, lambda peer: {}, {})
    table.heard(cast("Context", _Credulous()), "bob", message)
    if len(table.rows) > SHAPE.classes * len(_Credulous.peers):
        raise AssertionError(f"{len(table.rows)} rows are kept")
    for robust in (False, True):
        kept = believed(table.rows, length_max=1e9)
        means = prototypes_of(kept, classes=SHAPE.classes, width=SHAPE.width, robust=robust).means
        if not np.isfinite(means).all():
            raise AssertionError("a prototype that is not finite")
    if Table(SHAPE, lambda peer: {}, table.saved()).rows != table.rows:
        raise AssertionError("another table than was saved")


def head_document(data: bytes) -> None:
    """Read the head of a document with a model."""
    try:
        document = read_head(data)
        document.message()
        _expectation(greeted=True, classes=10).accept(document)
    except PeerError as error:
        _one_sentence(error)


def codecs(data: bytes) -> None:
    """Decode what has the agreed shapes and any content, with every codec."""
    if not data:
        return
    elements = 1 + data[0] % 64
    for _, codec in _all_codecs():
        tensors, start = [], 1
        for spec in codec.specs(elements):
            content = data[start : start + spec.nbytes].ljust(1 if spec.shorter else spec.nbytes, b"\xff")
            shape = (len(content),) if spec.shorter else spec.shape
            tensors.append(WireTensor(spec.dtype, shape, memoryview(bytearray(content))))
            start += spec.nbytes
        decode_as_received(codec, tensors, elements)


@functools.cache
def _all_codecs() -> tuple[tuple[str, Codec], ...]:
    return tuple(variants())


# --- files ---


@functools.cache
def _folder() -> Path:
    """Return a folder in memory, where the system has one."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="gossip-fuzz-", dir=memory if memory.is_dir() else None))


def peers(data: bytes) -> None:
    """Read a peers file."""
    path = _folder() / "peers.txt"
    path.write_bytes(data)
    for insecure in (False, True):
        try:
            peers_file.load(path, insecure=insecure).digest  # noqa: B018
        except SettingError as error:
            _one_sentence(error)


def checkpoint(data: bytes) -> None:
    """Read a checkpoint."""
    path = _folder() / "round-00000001.safetensors"
    path.write_bytes(data)
    try:
        decode(path)
    except CheckpointError as error:
        _one_sentence(error)


def identity(data: bytes) -> None:
    """Read an identity."""
    path = _folder() / "identity.pem"
    path.write_bytes(data)
    path.chmod(0o600)
    try:
        Identity.load(_folder())
    except SettingError as error:
        _one_sentence(error)


def metrics(data: bytes) -> None:
    """Resume upon a metrics.jsonl."""
    path = _folder() / "metrics.jsonl"
    path.write_bytes(data)
    RunRecord(_folder(), "alice").resume_at(3)
    for entry in read_lines(path):
        if entry["round"] > 3:
            raise AssertionError("a line of a round that is to be done again was kept")


def task(data: bytes) -> None:
    """Read a task file."""
    path = _folder() / "task.toml"
    path.write_bytes(data)
    try:
        load_task(path)
    except SettingError as error:
        _one_sentence(error)


def status(data: bytes) -> None:
    """Read what somebody answered to `status`."""
    try:
        answer = read_answer(Path("home"), data)
    except NetworkError as error:
        _one_sentence(error)
        return
    if type(answer) is not dict:
        raise AssertionError("an answer that is no table")


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("frames", frames, frame_seeds),
        Target("small-document", small_document, small_seeds),
        Target("head-document", head_document, head_seeds),
        Target("codecs", codecs, lambda: [bytes([8, *range(64)]), bytes(300)]),
        Target("status", status, status_seeds),
        Target("peers", peers, peers_seeds),
        Target("checkpoint", checkpoint, checkpoint_seeds),
        Target("identity", identity, identity_seeds),
        Target("metrics", metrics, metrics_seeds),
        Target("task", task, task_seeds),
    )
}
"""By name; the cheap ones first."""

DICTIONARY: Sequence[bytes] = (
    *(kind.kind.encode() for kind in MODEST),
    *(
        key.encode()
        for key in ("model", "push", "finished", "hello", "body", "round", "tensors", "classes", "data")
    ),
    *(
        msgpack.packb(value)
        for value in (2**63, -(2**31), 2**53, float("nan"), float("inf"), True, None, [[]])
    ),
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x01\x01\x00\x00\x00",
    b"nan",
    b"1e999",
    b'"python:x.py:f"',
    b"[" * 2000,
    b'{"a":' * 500,
    b"-----BEGIN CERTIFICATE-----",
)
"""Pieces that a blind mutation would hardly find."""
