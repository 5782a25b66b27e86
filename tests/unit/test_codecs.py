"""float16 and bfloat16: their bytes, what receivers hold, and laws that hold for every codec we have."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gossip.draws import Draws
from gossip.wire.codecs.base import Codec
from gossip.wire.codecs.settings import CODECS

DRAWS = Draws(7, "p0", 3)
GOLDEN = [0, 1, -1, 0.5, -0.25, np.pi, -np.e, 1e-3, 100, -65_504]
OURS = [
    choice
    for choice in (each.model_validate({}) for each in CODECS.ours())
    if choice.load().reference == "none"
]


def codec_of(kind: str) -> Codec:
    choice = CODECS.validate({"kind": kind})
    return choice.load()(choice)


def bytes_of(codec: Codec, vector: torch.Tensor) -> bytes:
    return b"".join(bytes(tensor.data) for tensor in codec.encode(vector, DRAWS))


def bits(vector: torch.Tensor) -> torch.Tensor:
    """Return the bits of each number; all that are none alike, for what is left of theirs is the machine's choice."""
    return torch.where(vector.isnan(), torch.nan, vector).view(torch.int32)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("float16", "0000003c00bc003800b4484270c119144056fffb"),
        ("bfloat16", "0000803f80bf003f80be49402ec0833ac84280c7"),
    ],
)
def test_the_bytes_of_halves_are_fixed_for_ever(kind: str, wanted: str) -> None:
    assert bytes_of(codec_of(kind), torch.tensor(GOLDEN, dtype=torch.float32)).hex() == wanted


def test_float16_clamps_what_is_finite_and_lets_pass_what_is_not() -> None:
    vector = torch.tensor([7e4, -1e30, torch.inf, -torch.inf, torch.nan])
    held = codec_of("float16").coded(vector[None], [DRAWS])[0]
    assert held[:4].tolist() == [65_504, -65_504, torch.inf, -torch.inf]
    assert held[4].isnan()


@pytest.mark.parametrize("choice", OURS, ids=lambda choice: choice.kind)
@given(st.lists(st.floats(width=32), max_size=40))
def test_stacks_hold_to_the_bit_what_a_receiver_decodes_and_tensors_have_their_specs(choice, values) -> None:
    codec: Codec = choice.load()(choice)
    vector = torch.tensor(values, dtype=torch.float32)
    tensors = codec.encode(vector, DRAWS)
    assert tuple(tensor.spec for tensor in tensors) == codec.specs(len(vector))
    decoded = codec.read(tensors, len(vector))
    coded = codec.coded(torch.stack([vector, vector]), [DRAWS, DRAWS])
    for row in coded:
        assert torch.equal(bits(row), bits(decoded))
    assert bytes_of(codec, vector) == bytes_of(codec, vector.clone())


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
@given(st.lists(st.floats(width=32), max_size=40))
def test_what_was_rounded_once_is_what_it_is(kind, values) -> None:
    codec = codec_of(kind)
    once = codec.coded(torch.tensor([values], dtype=torch.float32), [DRAWS])
    assert torch.equal(bits(codec.coded(once, [DRAWS])), bits(once))


@pytest.mark.parametrize(("kind", "bits"), [("float16", 11), ("bfloat16", 8)])
@given(st.lists(st.floats(-6e4, 6e4, width=32).filter(lambda x: abs(x) > 1e-4), min_size=1, max_size=20))
def test_the_error_of_a_normal_number_is_half_a_unit_in_the_last_place(kind, bits, values) -> None:
    vector = torch.tensor(values)
    held = codec_of(kind).coded(vector[None], [DRAWS])[0]
    assert ((held - vector).abs() <= 2.0**-bits * vector.abs()).all()


@given(st.integers(0, 50), st.integers(0, 2**40))
def test_words_are_fixed_by_seed_peer_and_number_and_longer_draws_begin_alike(
    count: int, number: int
) -> None:
    draws = Draws(1, "p1", number)
    words = draws.words(count)
    assert len(words) == count
    assert words.tolist() == draws.words(count + 3)[:count].tolist()
    if count > 4:
        assert words.tolist() != draws._replace(peer="p2").words(count).tolist()
        assert words.tolist() != draws._replace(number=number + 1).words(count).tolist()
