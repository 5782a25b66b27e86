"""top-change: its bytes, what is refused, and what a receiver holds."""

from __future__ import annotations

import contextlib
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gossip.draws import Draws
from gossip.errors import PeerError
from gossip.partial import Partial, completed
from gossip.wire.codecs.places import CHUNK, largest
from gossip.wire.codecs.selection import largest_of_rows
from gossip.wire.codecs.settings import CODECS
from gossip.wire.codecs.top_change import TopChange
from gossip.wire.tensors import TensorSpec, WireTensor, from_numpy

DRAWS = Draws(7, "p0", 3)
SIZES = (1, 2, 7, 8, 9, 1000, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 5)
SETTINGS = [
    {"share": share, "values": values}
    for share in (1 / 1024, 1 / 17, 1 / 4, 1 / 2)
    for values in ("float32", "float16", "int8")
]


def codec_of(**settings) -> TopChange:
    choice = CODECS.validate({"kind": "top-change", **settings})
    return choice.load()(choice)


def rows_of(size: int, peers: int = 1, sent: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    rows = {name: torch.zeros(peers, size) for name in ("sent", "told")}
    if sent is not None:
        rows["sent"][:] = sent
    return rows


def copies(rows: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: row.clone() for name, row in rows.items()}


CHANGES = torch.tensor([0.1, -5, 0.2, 3, 0, -0.3, 4, 0.05])


@pytest.mark.parametrize(("share", "places"), [(3 / 8, "4a"), (1 / 17, "0100")])
def test_the_bytes_are_fixed_for_ever(share, places) -> None:
    codec = codec_of(share=share)
    described, values = codec.write(CHANGES + 1, rows_of(8, sent=torch.ones(8)), DRAWS, number=1)[0]
    assert bytes(described.data).hex() == places
    wanted = [-4.0, 4.0, 5.0] if share > 0.1 else [-4.0]
    assert np.frombuffer(values.data, "<f4").tolist() == wanted


def test_places_below_a_sixteenth_are_two_bytes_each_within_their_chunk() -> None:
    codec = codec_of(share=1 / 1024)
    vector = torch.zeros(2 * CHUNK)
    vector[[1, 3, 6, 9, CHUNK + 4095, CHUNK, CHUNK + 2, CHUNK + 3]] = 1.0
    described, _ = codec.write(vector, rows_of(2 * CHUNK), DRAWS, number=1)[0]
    assert bytes(described.data).hex() == "0100030006000900" + "000002000300ff0f"


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_a_stack_holds_to_the_bit_what_each_receiver_completes_and_senders_remember_the_same(
    settings, size
) -> None:
    codec = codec_of(**settings)
    generator = torch.Generator().manual_seed(size)
    vectors = torch.randn(2, size, generator=generator).round(decimals=1)  # with ties
    alone, both = [rows_of(size) for _ in range(2)], rows_of(size, 2)
    own = torch.randn(size, generator=generator)
    for number in (1, 2, codec.refreshes_every):
        vectors += torch.randn(2, size, generator=generator).round(decimals=1)
        coded, both = codec.held(vectors, both, [DRAWS, DRAWS], numbers=[number, number])
        for k in range(2):
            tensors, alone[k] = codec.write(vectors[k], alone[k], DRAWS, number=number)
            assert tuple(tensor.spec for tensor in tensors) == codec.specs(size)
            received = codec.read(tensors, size)
            assert isinstance(received, Partial)
            assert len(received.values) == codec.places.count(size)
            held = torch.where(coded.there[k], coded.values[k], own)
            assert torch.equal(completed(own, received), held)
            for name, row in both.items():
                assert torch.equal(row[k], alone[k][name][0])


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30), st.integers(1, 15))
def test_the_largest_are_taken_and_of_equal_ones_the_lower_places(keys, k) -> None:
    k = min(k, len(keys))
    there = largest(torch.tensor(keys, dtype=torch.int32)[None], k)[0]
    wanted = sorted(range(len(keys)), key=lambda place: (-keys[place], place))[:k]
    assert there.nonzero().flatten().tolist() == sorted(wanted)


LONG_ROWS = {
    "normal": lambda draw: draw.standard_normal((5, CHUNK)),
    "sorted": lambda draw: np.sort(draw.standard_normal((5, CHUNK))),
    "of all sizes": lambda draw: draw.standard_cauchy((5, CHUNK)) ** 5,
    "zeros": lambda draw: np.zeros((5, CHUNK)),
    "mostly zeros": lambda draw: draw.standard_normal((5, CHUNK)) * (draw.random((5, CHUNK)) < 0.2),
    "ages": lambda draw: draw.integers(0, 17, (5, CHUNK)),
    "equal but for their last bits": lambda draw: 1 + draw.integers(0, 300, (5, CHUNK)) * 2.0**-23,
    "a few alike": lambda draw: draw.standard_normal((5, CHUNK)).round(3),
    "not finite": lambda draw: np.where(draw.random((5, CHUNK)) < 0.2, np.nan, np.inf),
}


@pytest.mark.parametrize("kind", LONG_ROWS)
def test_of_long_rows_the_same_are_taken_as_by_sorting(kind) -> None:
    keys = np.abs(LONG_ROWS[kind](np.random.default_rng(3)).astype(np.float32)).view(np.int32)
    rows = np.concatenate([keys, keys[:, ::-1], -keys])  # numbers below zero are in order, too
    order = np.argsort(-rows.astype(np.int64), axis=1, kind="stable")
    for kept in (1, 4, 241, CHUNK // 4, CHUNK // 2, CHUNK - 1, CHUNK):
        wanted = np.zeros(rows.shape, bool)
        np.put_along_axis(wanted, order[:, :kept], True, axis=1)
        assert np.array_equal(largest_of_rows(rows, kept), wanted)


@pytest.mark.parametrize("share", [1 / 2, 1 / 3, 1 / 17])
def test_a_model_that_stays_is_known_whole_after_one_message_for_each_share(share) -> None:
    codec = codec_of(share=share)
    vector, rows, held = torch.randn(300), rows_of(300), torch.zeros(300)
    for number in range(1, -(-300 // codec.places.count(300)) + 1):
        tensors, rows = codec.write(vector, rows, DRAWS, number=number)
        held = completed(held, codec.read(tensors, 300))
    assert torch.equal(held, vector)


def test_what_was_told_is_remembered_and_nothing_else_is() -> None:
    codec, rows = codec_of(share=1 / 4), rows_of(100)
    before, vector = copies(rows), torch.randn(100)
    tensors, rows = codec.write(vector, rows, DRAWS, number=1)
    places = codec.read(tensors, 100).places
    assert torch.equal(rows["sent"][0, places], vector[places])
    others = torch.ones(100, dtype=torch.bool).index_fill_(0, places, False)
    assert torch.equal(rows["sent"][0, others], before["sent"][0, others])


def test_every_so_many_messages_the_oldest_are_told_again_though_others_have_changed() -> None:
    codec, rows, vector = codec_of(share=1 / 2), rows_of(64), torch.arange(64.0)
    rows = codec.told_whole(vector[None], rows, numbers=[0])
    told = set()
    for number in range(1, codec.refreshes_every + 1):
        vector[:32] += 1  # which is all that is news
        tensors, rows = codec.write(vector, rows, DRAWS, number=number)
        if number % codec.refreshes_every == 0:
            told |= set(codec.read(tensors, 64).places.tolist())
    assert told == set(range(32, 64))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_travels_first_for_receivers_to_refuse(bad) -> None:
    codec, vector = codec_of(share=1 / 1024), torch.randn(CHUNK) * 1e30
    vector[4000] = bad
    rows = rows_of(CHUNK)
    for number in (1, 2):
        tensors, rows = codec.write(vector, rows, DRAWS, number=number)
        assert 4000 in codec.read(tensors, CHUNK).places.tolist()


def tampered(codec: TopChange, size: int, places: np.ndarray) -> tuple[WireTensor, ...]:
    _, values = codec.write(torch.randn(size), rows_of(size), DRAWS, number=1)[0]
    return from_numpy(places), values


@pytest.mark.parametrize("flips", [[3], [0, 1, 2], [15]])
def test_a_bitmap_of_other_counts_or_beyond_the_model_is_garbage(flips) -> None:
    codec, bits = codec_of(share=1 / 4), np.zeros(16, dtype=np.uint8)
    bits[[0, 5]] = 1  # of 11 numbers
    assert codec.read(tampered(codec, 11, np.packbits(bits, bitorder="little")), 11).places.tolist() == [0, 5]
    bits[flips] ^= 1
    with pytest.raises(PeerError, match="bitmap"):
        codec.read(tampered(codec, 11, np.packbits(bits, bitorder="little")), 11)


@pytest.mark.parametrize("places", list(itertools.product([-1, 0, 2, 19, 20], repeat=2)))
def test_places_that_do_not_ascend_or_are_none_are_garbage(places) -> None:
    codec, size = codec_of(share=1 / 1024), CHUNK + 20
    good = 0 <= places[0] < CHUNK and 0 <= places[1] < 20
    sent = np.array([0, 1, 2, places[0], places[1]], dtype=np.int16)
    if good and places[0] > 2:
        assert codec.read(tampered(codec, size, sent), size).places.tolist() == [
            0,
            1,
            2,
            places[0],
            CHUNK + places[1],
        ]
    else:
        with pytest.raises(PeerError, match="ascend"):
            codec.read(tampered(codec, size, sent), size)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@given(st.sampled_from(SIZES), st.randoms(use_true_random=False))
def test_random_bytes_are_a_partial_model_or_garbage(settings, size, random) -> None:
    codec = codec_of(**settings)

    def filled(spec: TensorSpec) -> WireTensor:
        return WireTensor(spec.dtype, spec.shape, memoryview(bytearray(random.randbytes(spec.nbytes))))

    with contextlib.suppress(PeerError):
        received = codec.read([filled(spec) for spec in codec.specs(size)], size)
        assert received.values.shape == received.places.shape == (codec.places.count(size),)
        assert 0 <= int(received.places.min()) <= int(received.places.max()) < size
