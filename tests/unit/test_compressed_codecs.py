"""Compressed codes: without loss, bounded before they are inflated, and counted alike in both engines."""

from __future__ import annotations

import importlib.util
import tracemalloc

import pytest
import torch
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from gossip.config.loading import load_task
from gossip.draws import Draws
from gossip.errors import PeerError, SettingError
from gossip.protocols.base import ModelMessage
from gossip.wire.agreement import Agreement, Expectation
from gossip.wire.codecs.blocks import Blocks
from gossip.wire.codecs.settings import CODECS
from gossip.wire.documents import DocumentWriter, Envelope, read_head
from gossip.wire.frames import writer
from gossip.wire.tensors import TensorSpec, WireTensor, admitted
from scenarios.scenario import load
from tests.laws import tried

DRAWS = Draws(7, "p0", 3)
KINDS = st.sampled_from(["int8", "int4"])


def codec_of(kind: str, compress: str = "zstd") -> Blocks:
    choice = CODECS.validate({"kind": kind, "block": 16, "compress": compress})
    return choice.load()(choice)


def frame(data: bytes) -> WireTensor:
    return WireTensor("uint8", (len(data),), memoryview(data))


@given(KINDS, st.lists(st.floats(width=32), max_size=60))
def test_what_is_held_is_what_is_held_without_and_tensors_are_as_agreed(kind, values) -> None:
    vector = torch.tensor(values, dtype=torch.float32)
    codec, plain = codec_of(kind), codec_of(kind, "none")
    encoded = codec.encode(vector, DRAWS)
    assert admitted([tensor.spec for tensor in encoded], codec.specs(len(vector)))
    held = codec.read(encoded, len(vector))
    for other in (
        plain.read(plain.encode(vector, DRAWS), len(vector)),
        codec.coded(vector[None], [DRAWS])[0],
    ):
        assert torch.equal(held.view(torch.int32), other.view(torch.int32))
    assert bytes(encoded[1].data) == bytes(codec.encode(vector, DRAWS)[1].data)


def test_numbers_that_are_alike_take_few_bytes_and_random_ones_hardly_more_than_without() -> None:
    codec = codec_of("int8")
    assert codec.encode(torch.zeros(100_000), DRAWS)[1].data.nbytes < 100
    noise = torch.randint(-127, 128, (100_000,), generator=torch.Generator().manual_seed(1)).float()
    noise[::16] = 127
    assert codec.encode(noise, DRAWS)[1].data.nbytes < 101_000


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_a_bomb_is_refused_before_it_is_inflated(kind: str) -> None:
    codec = codec_of(kind)
    scales = codec.encode(torch.ones(64), DRAWS)[0]
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(200_000_000))
    assert len(bomb) < 20_000
    liar = bytearray(zstandard.ZstdCompressor().compress(b"\x11" * 100_000))
    honest = zstandard.ZstdCompressor().compress(b"\x11" * (64 if kind == "int8" else 32))
    silent = zstandard.ZstdCompressor(write_content_size=False).compress(b"\x11" * 64)
    tracemalloc.start()
    try:
        for data in (bomb, bytes(liar), honest + b"x", honest + honest, honest[:-1], silent, b"\x00" * 9):
            with pytest.raises(PeerError, match="compressed tensor") as caught:
                codec.read((scales, frame(data)), 64)
            assert caught.value.reason == "garbage"
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    codec.read((scales, frame(honest)), 64)


@tried(3)
@given(KINDS, st.binary(min_size=1, max_size=80), st.integers(1, 40))
def test_any_frame_is_numbers_or_garbage(kind, data, elements) -> None:
    codec = codec_of(kind)
    scales = codec.encode(torch.ones(elements), DRAWS)[0]
    for tensor in (frame(data), frame(zstandard.ZstdCompressor().compress(data))):
        try:
            vector = codec.decode_as((scales, tensor), elements)
        except PeerError as error:
            assert error.reason == "garbage"  # noqa: PT017
        else:
            assert vector.shape == (elements,)


def test_lengths_up_to_what_was_agreed_are_let_in_and_no_others() -> None:
    codec = codec_of("int8")
    scales, codes = codec.specs(1000)
    expectation = Expectation(Agreement("run", (), "space"), codec.name, (scales, codes), greeted=True)
    documents = DocumentWriter(Envelope("run", "space", "alice"))
    for seq, (spec, let_in) in enumerate(
        [
            (TensorSpec("uint8", (1,)), True),
            (TensorSpec("uint8", codes.shape), True),
            (TensorSpec("uint8", (0,)), False),
            (TensorSpec("uint8", (codes.shape[0] + 1,)), False),
            (TensorSpec("uint8", (10, 10)), False),
            (TensorSpec("int8", (10,)), False),
        ]
    ):
        message = ModelMessage(round=0, step=0, model=None)
        document = read_head(documents.head(message, seq, codec.name, (scales, spec)))
        if let_in:
            expectation.accept(document)
            continue
        with pytest.raises(PeerError) as caught:
            expectation.accept(document)
        assert caught.value.reason == "layout"


def test_what_is_packed_of_messages_of_any_length_is_not_kept_for_ever() -> None:
    codec = codec_of("int8")
    frames = writer(Envelope("run", "space", "alice"), codec.name, codec.specs(2000))
    message = ModelMessage(round=0, step=0, model=None)
    for length in range(1, 1001):
        specs = (codec.specs(2000)[0], TensorSpec("uint8", (length,)))
        total, payload = frames.frame_bytes(message, specs)
        assert total > payload == specs[0].nbytes + length
    assert len(frames.documents._tails) < 500


def test_without_the_package_it_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"codec.kind": "int8", "codec.compress": "zstd"}
    load("quickstart", values=values).graphs()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingError, match=r"compress = 'zstd' takes zstandard, .* pip install"):
        load("quickstart", values=values).graphs()
    load("quickstart", values={"codec.kind": "int8"}).graphs()


def test_another_compression_is_a_sentence(tmp_path) -> None:
    path = tmp_path / "task.toml"
    path.write_text('[codec]\nkind = "int8"\ncompress = "gzip"\n')
    with pytest.raises(SettingError, match="compress = 'gzip'"):
        load_task(path)
