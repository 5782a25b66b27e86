"""Own test samples: nobody trains on them, they look like the peer's own data, and every peer has some."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.errors import DataError
from gossip.learning import own_tests

SHARES = st.floats(0.05, 0.9)


@st.composite
def divided(draw: st.DrawFn) -> tuple[np.ndarray, list[np.ndarray]]:
    """Labels, and shards of two samples at least that share nothing."""
    sizes = draw(st.lists(st.integers(2, 40), min_size=1, max_size=5))
    labels = np.array(
        draw(st.lists(st.integers(0, 3), min_size=sum(sizes), max_size=sum(sizes))), dtype=np.int64
    )
    return labels, np.split(np.arange(len(labels)), np.cumsum(sizes)[:-1])


@given(divided(), SHARES, st.integers(0, 5))
def test_a_shard_is_what_is_trained_on_and_what_is_tested_on_and_neither_is_empty(data, share, seed):
    labels, shards = data
    train, tests = own_tests.divide(shards, labels, share, seed=seed)
    for shard, trained, tested in zip(shards, train, tests, strict=True):
        assert len(trained)
        assert len(tested)
        assert sorted([*trained, *tested]) == shard.tolist()


@given(divided(), SHARES, st.integers(0, 5))
def test_own_test_samples_have_the_classes_in_the_proportions_of_the_shard(data, share, seed):
    labels, shards = data
    for shard, tested in zip(
        shards, own_tests.divide(shards, labels, share, seed=seed).own_test, strict=True
    ):
        for label in np.unique(labels[shard]):
            there, taken = np.sum(labels[shard] == label), np.sum(labels[tested] == label)
            assert abs(taken - share * there) <= 1 or taken == there - 1


@given(st.integers(2, 30), st.integers(1, 6), SHARES, st.integers(0, 5), st.data())
def test_where_shards_share_samples_nobody_trains_on_what_anybody_is_tested_on(
    samples, peers, share, seed, data
):
    labels = np.zeros(samples, dtype=np.int64)
    drawn = st.lists(st.integers(0, samples - 1), min_size=2, max_size=20)
    shards = [np.sort(np.array(data.draw(drawn))) for _ in range(peers)]
    try:
        train, tests = own_tests.divide(shards, labels, share, seed=seed)
    except DataError:
        return
    assert not set(np.concatenate(train)) & set(np.concatenate(tests))


def test_peers_that_hold_the_same_samples_are_tested_on_the_same():
    shards = [np.arange(50)] * 20
    train, tests = own_tests.divide(shards, np.arange(50) % 3, 0.2, seed=1)
    assert {len(each) for each in tests} == {10}
    assert {len(each) for each in train} == {40}


def test_a_peer_with_one_sample_is_named():
    with pytest.raises(DataError, match=r"^\[data\] own_test = 0\.2: the peer at position 1 has 1 samples"):
        own_tests.divide([np.arange(5), np.array([5])], np.zeros(6, dtype=np.int64), 0.2, seed=0)
