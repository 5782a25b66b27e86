"""int8 and int4: their bytes, what they promise of every number, and what they refuse."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gossip.config.loading import load_task
from gossip.draws import Draws
from gossip.errors import PeerError, SettingError
from gossip.wire.codecs import blocks
from gossip.wire.codecs.blocks import Blocks
from gossip.wire.codecs.settings import CODECS
from gossip.wire.tensors import WireTensor, to_numpy
from tests.laws import tried

DRAWS = Draws(0, "peer-00", 3)
GOLDEN = [0, 0.1, -0.2, 0.3, -0.4, 0.5, -0.6, 0.7, 1.27, -1.27]
MOST = {"int8": 127, "int4": 7}
KINDS = st.sampled_from(sorted(MOST))
SMALLEST_SCALE = 2.0**-126
"""Below it float32 numbers lose digits, and with them the bound of the error."""


def codec_of(kind: str, *, rounding: str = "stochastic", **more: object) -> Blocks:
    choice = CODECS.validate({"kind": kind, **more})
    choice = choice.model_copy(update={"rounding": rounding})  # also what a task file may not ask for alone
    return choice.load()(choice)


def by_hand(kind: str, block: int, rounding: str, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return scales and codes, number by number, as the codec's specification says."""
    most, one = np.float32(MOST[kind]), np.float32(1)
    words = DRAWS.words(len(vector))
    halves = [half for word in words.tolist() for half in (word & 0xFFFF, word >> 16)]
    scales, codes = [], []
    for start in range(0, len(vector), block):
        part = vector[start : start + block]
        scale = (
            np.float32(max(abs(x) for x in part) / most) if np.isfinite(part).all() else np.float32(np.nan)
        )
        scales.append(scale)
        for place, x in enumerate(part, start):
            ratio = np.float32(x / scale) if scale > 0 else np.float32(0)
            if rounding == "nearest":
                code = np.rint(ratio)
            else:
                code = np.floor(ratio + np.float32(halves[place]) / np.float32(65_536) * one)
            codes.append(int(min(max(code, -most), most)))
    return np.array(scales, np.float32), np.array(codes)


def codes_of(kind: str, tensor: WireTensor, elements: int) -> np.ndarray:
    array = to_numpy(tensor).astype(np.int64)
    return array if kind == "int8" else (np.stack([array & 15, array >> 4], 1).ravel() - 8)[:elements]


@pytest.mark.parametrize(
    ("kind", "rounding", "scales", "codes"),
    [
        ("int8", "nearest", "0ad7233c", "000aec1ed832c4467f81"),
        ("int4", "nearest", "69c8393e", "98a7b6c51f"),
        ("int4", "stochastic", "69c8393e", "98a7b6c41f"),
    ],
)
def test_the_bytes_are_fixed_for_ever(kind: str, rounding: str, scales: str, codes: str) -> None:
    encoded = codec_of(kind, rounding=rounding).encode(torch.tensor(GOLDEN), DRAWS)
    assert [bytes(tensor.data).hex() for tensor in encoded] == [scales, codes]


def test_the_draws_are_fixed_for_ever() -> None:
    assert DRAWS.halves()(5).tolist() == [26868, 45449, 40150, 34858, 60682]
    piecewise = DRAWS.halves()
    assert [*piecewise(8), *piecewise(5)] == DRAWS.halves()(13).tolist()
    assert DRAWS.halves()(14).view("<u4").tolist() == DRAWS.words(7).tolist()


@tried(2)
@given(
    KINDS,
    st.sampled_from([8, 10, 64]),
    st.sampled_from(["stochastic", "nearest"]),
    st.integers(0, 3 * 64 + 1),
    st.lists(st.floats(width=32), min_size=1, max_size=12),
    st.integers(0, 2**32),
)
def test_the_bytes_are_those_of_the_formula_at_once_in_pieces_and_in_stacks(
    kind, block, rounding, elements, some, seed
) -> None:
    vector = np.random.default_rng(seed).standard_normal(elements).astype(np.float32)
    vector[: len(some)] = np.array(some, np.float32)[:elements]
    codec = codec_of(kind, block=block, rounding=rounding)
    encoded = codec.encode(torch.from_numpy(vector), DRAWS)
    assert tuple(tensor.spec for tensor in encoded) == codec.specs(elements)
    with np.errstate(all="ignore"):
        scales, codes = by_hand(kind, block, rounding, vector)
    np.testing.assert_array_equal(to_numpy(encoded[0]), scales)
    np.testing.assert_array_equal(codes_of(kind, encoded[1], elements), codes)
    held = codec.read(encoded, elements)
    stacked = codec.coded(torch.from_numpy(np.stack([vector, vector])), [DRAWS, DRAWS])
    for row in stacked:
        assert torch.equal(row.view(torch.int32), held.view(torch.int32))
    codec._piece = 2 * block
    piecewise = codec.encode(torch.from_numpy(vector), DRAWS)
    assert [bytes(tensor.data) for tensor in piecewise] == [bytes(tensor.data) for tensor in encoded]
    assert torch.equal(codec.read(encoded, elements).view(torch.int32), held.view(torch.int32))


@pytest.mark.parametrize("kind", sorted(MOST))
def test_vectors_longer_than_a_piece_are_coded_as_their_parts_are(kind: str) -> None:
    codec = codec_of(kind)
    elements = codec._piece + 3 * codec._block + 5
    vector = torch.randn(elements, generator=torch.Generator().manual_seed(1))
    encoded = codec.encode(vector, DRAWS)
    held = codec.read(encoded, elements)
    scales = np.repeat(to_numpy(encoded[0]), codec._block)[:elements]
    np.testing.assert_array_equal(
        held.numpy(), codes_of(kind, encoded[1], elements).astype(np.float32) * scales
    )
    assert torch.equal(codec.coded(vector[None], [DRAWS])[0], held)


@given(
    KINDS,
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=80),
    st.sampled_from(["stochastic", "nearest"]),
)
def test_no_number_is_further_off_than_a_step_or_half_a_step(kind, values, rounding) -> None:
    vector = torch.tensor(values)
    codec = codec_of(kind, block=8, rounding=rounding)
    encoded = codec.encode(vector, DRAWS)
    scales = torch.from_numpy(to_numpy(encoded[0]).copy()).repeat_interleave(8)[: len(vector)]
    error = (codec.read(encoded, len(vector)) - vector).abs().double()
    share = 1.0 if rounding == "stochastic" else 0.5
    normal = (scales >= SMALLEST_SCALE) | (scales == 0) & (vector == 0)
    assert (error <= share * scales.double() * (1 + 1e-4))[normal].all()


@pytest.mark.parametrize("kind", sorted(MOST))
def test_the_expected_value_is_the_number(kind: str) -> None:
    vector = torch.linspace(-1, 1, 64)
    codec = codec_of(kind, block=64)
    draws = 10_000
    stack = codec.coded(vector.expand(draws, 64), [Draws(0, "p", number) for number in range(draws)])
    standard_error = stack.double().std(0) / math.sqrt(draws)
    off = (stack.double().mean(0) - vector.double()).abs()
    # A 16-bit draw rounds down by half of its last place on average.
    assert (off <= 4 * standard_error + 2.0**-16 / MOST[kind]).all()


@given(KINDS, st.floats(2.0**-100, 2.0**100, width=32), st.lists(st.booleans(), min_size=1, max_size=20))
def test_a_block_of_equal_sizes_stays_what_it_is(kind, size, signs) -> None:
    vector = torch.tensor([size if sign else -size for sign in signs])
    held = codec_of(kind, block=32, rounding="nearest").coded(vector[None], [DRAWS])[0]
    assert ((held - vector).abs() <= 2.0**-22 * vector.abs()).all()


@given(KINDS, st.integers(-40, 40), st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=40))
def test_codes_do_not_depend_on_the_unit(kind, exponent, values) -> None:
    vector = torch.tensor([0.0 if abs(x) < 1e-20 else x for x in values])
    codec = codec_of(kind, block=8)
    one, other = (codec.encode(each, DRAWS) for each in (vector, vector * 2.0**exponent))
    assert bytes(one[1].data) == bytes(other[1].data)


@pytest.mark.parametrize("kind", sorted(MOST))
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_block_that_is_not_finite_arrives_so_and_the_others_whole(kind: str, bad: float) -> None:
    vector = torch.ones(24)
    vector[9] = bad
    held = codec_of(kind, block=8).coded(vector[None], [DRAWS])[0]
    assert held[8:16].isnan().all()
    assert torch.equal(held.isnan().nonzero().ravel(), torch.arange(8, 16))


def changed(encoded: tuple[WireTensor, ...], tensor: int, place: int, value: int) -> tuple[WireTensor, ...]:
    data = bytearray(encoded[tensor].data)
    data[place] = value
    made = list(encoded)
    made[tensor] = WireTensor(encoded[tensor].dtype, encoded[tensor].shape, memoryview(data))
    return tuple(made)


@pytest.mark.parametrize(
    ("kind", "tensor", "place", "value", "sentence"),
    [
        ("int8", 1, 4, 0x80, "the int8 code -128"),
        ("int4", 1, 4, 0x08, "the int4 half-byte 0"),
        ("int4", 1, 4, 0x90, "the int4 half-byte 0"),
        ("int4", 1, 10, 0x99, "a half-byte other than 8"),
        ("int8", 0, 3, 0xBF, "a negative scale"),
        ("int4", 0, 3, 0xBF, "a negative scale"),
    ],
)
def test_what_no_encoder_writes_is_garbage(kind, tensor, place, value, sentence) -> None:
    codec = codec_of(kind)
    encoded = codec.encode(torch.ones(21), DRAWS)
    codec.read(encoded, 21)
    with pytest.raises(PeerError, match=sentence) as caught:
        codec.read(changed(encoded, tensor, place, value), 21)
    assert caught.value.reason == "garbage"


@tried(3)
@given(KINDS, st.integers(1, 40), st.randoms(use_true_random=False))
def test_any_bytes_of_the_right_length_are_numbers_or_garbage(kind, elements, random) -> None:
    codec = codec_of(kind, block=8)
    tensors = tuple(
        WireTensor(spec.dtype, spec.shape, memoryview(bytearray(random.randbytes(spec.nbytes))))
        for spec in codec.specs(elements)
    )
    try:
        vector = codec.decode_as(tensors, elements)
    except PeerError as error:
        assert error.reason == "garbage"  # noqa: PT017
    else:
        assert vector.shape == (elements,)
        assert vector.dtype == torch.float32


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('kind = "int8"\nblock = 7', "block = 7"),
        ('kind = "int8"\nblock = 65538', "block = 65538"),
        ('kind = "int4"\nblock = 65', "must be even, as is 66"),
        ('kind = "int8"\nrounding = "up"', "rounding = 'up'"),
        ('kind = "int4"\nrounding = "nearest"', "freezes what moves less"),
        ('kind = "int5"', "unknown kind 'int5'"),
    ],
)
def test_mistakes_are_sentences(line: str, sentence: str, tmp_path) -> None:
    path = tmp_path / "task.toml"
    path.write_text(f"[codec]\n{line}\n")
    with pytest.raises(SettingError, match=r"task\.toml") as caught:
        load_task(path)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("kind", sorted(MOST))
@pytest.mark.parametrize("elements", [17, 48, 49, 203])
def test_decoded_as_it_comes_a_model_is_to_the_bit_what_it_is_as_a_whole(kind, elements, monkeypatch) -> None:
    monkeypatch.setattr(blocks, "PIECE", 16)
    codec = codec_of(kind, block=8)
    encoded = codec.encode(torch.randn(elements, generator=torch.Generator().manual_seed(elements)), DRAWS)
    whole = codec.read(encoded, elements)
    sent = b"".join(tensor.data for tensor in encoded)
    draw = np.random.default_rng(elements)
    for _ in range(5):
        # What has not come yet would be refused: no number has these codes, and no block this scale.
        unwritten = [
            np.full(tensor.data.nbytes, 0x80 if kind == "int8" else 0, np.uint8) for tensor in encoded
        ]
        unwritten[0].view("<f4")[:] = -1.0
        coming = tuple(WireTensor(t.dtype, t.shape, a.data) for t, a in zip(encoded, unwritten, strict=True))
        decoding = codec.decoding(coming, elements)
        assert decoding is not None
        for come in [*sorted(draw.integers(0, len(sent), 6).tolist()), len(sent)]:
            scales = len(unwritten[0])
            unwritten[0][:come] = np.frombuffer(sent[: min(come, scales)], np.uint8)
            unwritten[1][: max(0, come - scales)] = np.frombuffer(sent[scales:come], np.uint8)
            decoding.advance(len(sent) - come)
        assert torch.equal(codec.read_on(decoding, elements), whole)


def decoded_as_it_comes(
    codec: Blocks, tensors: tuple[WireTensor, ...], elements: int, missing: list[int]
) -> object:
    decoding = codec.decoding(tensors, elements)
    assert decoding is not None
    for each in missing:
        decoding.advance(each)
    return codec.read_on(decoding, elements)


@pytest.mark.parametrize(
    ("tensor", "place", "byte"), [(0, 3, 0xBF), (0, -1, 0xBF), (1, 0, 0x80), (1, -1, 0x80)]
)
def test_what_is_refused_of_a_whole_model_is_refused_as_it_comes(tensor, place, byte, monkeypatch) -> None:
    monkeypatch.setattr(blocks, "PIECE", 16)
    codec = codec_of("int8", block=8)
    encoded = codec.encode(torch.randn(96, generator=torch.Generator().manual_seed(1)), DRAWS)
    np.frombuffer(encoded[tensor].data, np.uint8)[place] = byte
    for steps in ([], [90], [70, 50, 16], [1, 0]):
        with pytest.raises(PeerError, match=r"negative scale|code -128") as caught:
            decoded_as_it_comes(codec, encoded, 96, steps)
        assert caught.value.reason == "garbage"


def test_a_model_of_one_piece_or_compressed_waits_until_it_is_whole() -> None:
    codec = codec_of("int8")
    assert codec.decoding(codec.encode(torch.ones(1000), DRAWS), 1000) is None
    many = torch.ones(blocks.PIECE + 1)
    assert codec.decoding(codec.encode(many, DRAWS), len(many)) is not None
    compressed = codec_of("int8", compress="zstd")
    assert compressed.decoding(compressed.encode(many, DRAWS), len(many)) is None


@pytest.mark.parametrize("kind", sorted(MOST))
def test_drawn_ahead_in_a_thread_the_bytes_are_the_same(kind, monkeypatch) -> None:
    monkeypatch.setattr(blocks, "PIECE", 16)
    vector = torch.randn(16 * blocks.LONG_PIECES + 3, generator=torch.Generator().manual_seed(5))
    drawn_by = []

    class Told(Draws):
        def halves(self):
            take = super().halves()
            return lambda count: drawn_by.append(threading.current_thread()) or take(count)

    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            encoded = codec_of(kind, block=8).encode(vector, Told(*DRAWS))
            found.append([bytes(tensor.data) for tensor in encoded])
    finally:
        torch.set_num_threads(threads)
    assert found[0] == found[1]
    alone = drawn_by[: len(drawn_by) // 2]
    assert set(alone) == {threading.current_thread()}
    assert threading.current_thread() not in drawn_by[len(alone) :]
