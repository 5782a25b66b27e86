"""Draws follow from the seed, the purpose, the peer and the round by numpy's own streams, one at a time or many."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip import seeding
from gossip.draws import Draws, halves_of

NUMBERS = st.integers(0, 2**31) | st.integers(0, 2**70) | st.sampled_from([2**32 - 1, 2**32])
PEERS = st.text(max_size=12)


def by_numpy(seed: int, purpose: str, peer: str, round: int) -> np.random.SeedSequence:
    name = hashlib.blake2b(f"{purpose}\0{peer}".encode(), digest_size=8).digest()
    return np.random.SeedSequence([seed, int.from_bytes(name, "big"), round])


@given(NUMBERS, st.sampled_from(["init", "codec", "batches"]), PEERS, NUMBERS)
def test_the_entropy_is_what_numpy_makes_of_the_three_numbers(seed, purpose, peer, round):
    found = seeding.seed_sequence(seed, purpose, peer=peer, round=round)
    wanted = by_numpy(seed, purpose, peer, round)
    assert found.generate_state(12).tolist() == wanted.generate_state(12).tolist()


def test_nothing_is_derived_from_a_negative_number():
    for seed, round in ((-1, 0), (0, -1)):
        with pytest.raises(ValueError, match="-1"):
            seeding.seed_sequence(seed, "init", round=round)


@pytest.mark.parametrize("kind", [np.int8, np.int32, np.uint8, np.uint64, np.int64, bool])
def test_numbers_of_other_kinds_are_the_same_numbers(kind):
    found = seeding.generator(kind(1), "init", round=kind(1))
    assert found.integers(1 << 40) == seeding.generator(1, "init", round=1).integers(1 << 40)
    with pytest.raises(TypeError):
        seeding.generator(1, "init", round=1.0)


@given(NUMBERS, st.lists(st.tuples(PEERS, st.integers(0, 2**31)), max_size=5), st.booleans(), NUMBERS)
def test_many_streams_are_seeded_as_numpy_seeds_each(seed, whose, one_is_long, long):
    whose = [*whose, ("far", long)] if one_is_long else whose
    wanted = [np.random.PCG64(by_numpy(seed, "codec", *each)).state["state"] for each in whose]
    found = seeding.pcg64_states(seed, "codec", whose)
    assert found == [(int(state["state"]), int(state["inc"])) for state in wanted]


@given(
    st.lists(st.builds(Draws, st.sampled_from([0, 7, 2**40]), PEERS, st.integers(0, 2**20)), max_size=6),
    st.integers(0, 40),
)
def test_what_many_messages_draw_is_what_each_draws(draws, count):
    together = [halves.tolist() for halves in halves_of(draws, count)]
    assert together == [each.halves()(count).tolist() for each in draws]
    assert together == [each.words(count).view("<u2")[:count].tolist() for each in draws]
