"""Laws of partitions: no shard empty, the same for all, every sample in exactly one shard unless few are asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gossip.errors import SettingError
from gossip.learning.settings import (
    PARTITIONS,
    CyclicPartition,
    DirichletPartition,
    IidPartition,
    OwnPartition,
    PathologicalPartition,
    ShardsPartition,
)
from gossip.settings import Choice
from tests.strategies import labels

DIVIDING = st.one_of(
    st.just(IidPartition()),
    st.builds(
        DirichletPartition, alpha=st.floats(0.05, 10), min_samples=st.integers(1, 3), attempts_max=st.just(50)
    ),
    st.builds(PathologicalPartition, classes_per_peer=st.integers(1, 4)),
    st.builds(ShardsPartition, shards_per_peer=st.integers(1, 3)),
)


def divide(y: np.ndarray, peers: int, choice: Choice, seed: int = 0) -> list[np.ndarray]:
    return choice.load()(y, peers, choice, np.random.default_rng(seed))


@given(labels(), st.integers(1, 12), DIVIDING, st.integers(0, 3))
def test_every_sample_is_in_exactly_one_shard_and_no_shard_is_empty(y, peers, choice, seed):
    try:
        shards = divide(y, peers, choice, seed)
    except SettingError:
        assume(False)
    assert len(shards) == peers
    assert min(len(shard) for shard in shards) >= 1
    assert np.array_equal(np.sort(np.concatenate(shards)), np.arange(len(y)))


@given(labels(), st.integers(1, 8), DIVIDING, st.integers(0, 3))
def test_a_partition_is_a_pure_function_of_its_arguments(y, peers, choice, seed):
    try:
        once, again = divide(y, peers, choice, seed), divide(y, peers, choice, seed)
    except SettingError:
        assume(False)
    assert all(np.array_equal(a, b) for a, b in zip(once, again, strict=True))


@given(labels(), st.integers(1, 8))
def test_iid_shard_sizes_differ_by_at_most_one(y, peers):
    assume(len(y) >= peers)
    sizes = [len(shard) for shard in divide(y, peers, IidPartition())]
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(1, 5), st.integers(1, 8), st.data())
def test_pathological_peers_hold_exactly_their_number_of_classes_and_share_them_evenly(classes, peers, data):
    per_peer = data.draw(st.integers(-(-classes // peers), classes))
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(classes), 10))
    shards = divide(y, peers, PathologicalPartition(classes_per_peer=per_peer))
    held = [np.unique(y[shard]) for shard in shards]
    assert all(len(mine) == per_peer for mine in held)
    holders = np.bincount(np.concatenate(held), minlength=classes)
    assert holders.max() - holders.min() <= 1


@given(
    st.integers(2, 6),
    st.integers(1, 15),
    st.integers(1, 6),
    st.none() | st.integers(1, 4),
    st.booleans(),
    st.integers(0, 3),
)
def test_cyclic_peers_hold_consecutive_classes_and_each_class_is_at_equally_many(
    classes, peers, per_peer, few, overlap, seed
):
    assume(per_peer <= classes and not (overlap and few is None))
    y = np.random.default_rng(1).permutation(np.repeat(np.arange(classes), 30))
    choice = CyclicPartition(classes_per_peer=per_peer, samples_per_class=few, overlap=overlap)
    try:
        shards = divide(y, peers, choice, seed)
    except SettingError:
        holders_max = -(-peers // classes) * per_peer
        assert few is not None
        assert holders_max * few > 30
        return
    for place, shard in enumerate(shards):
        assert len(np.unique(shard)) == len(shard)
        assert {(place + k) % classes for k in range(per_peer)} == set(y[shard].tolist())
        if few is not None:
            assert len(shard) == few * per_peer
    if not overlap:
        together = np.concatenate(shards)
        assert len(np.unique(together)) == len(together)
        if few is None:
            held = {(place + k) % classes for place in range(peers) for k in range(per_peer)}
            assert len(together) == 30 * len(held)
    if peers % classes == 0:
        holders = [sum(label in y[shard] for shard in shards) for label in range(classes)]
        assert set(holders) == {peers // classes * per_peer}


@given(labels(), st.integers(1, 8), st.integers(1, 3))
def test_dirichlet_gives_every_peer_its_least_number_of_samples(y, peers, least):
    try:
        shards = divide(y, peers, DirichletPartition(alpha=1.0, min_samples=least, attempts_max=50))
    except SettingError:
        assume(False)
    assert min(len(shard) for shard in shards) >= least


@given(labels(), st.integers(1, 8), st.floats(0.05, 50), st.integers(1, 60))
def test_drawn_shards_have_as_many_samples_as_asked_for(y, peers, alpha, count):
    shards = divide(y, peers, DirichletPartition(alpha=alpha, samples_per_peer=count))
    assert [len(shard) for shard in shards] == [count] * peers
    assert all(shard.min() >= 0 and shard.max() < len(y) for shard in shards)


def test_drawn_shards_follow_proportions_of_the_peers_own():
    y = np.repeat(np.arange(10), 20)
    skewed, even = (
        np.array([np.bincount(y[s], minlength=10) for s in divide(y, 40, choice)]) / 1000
        for choice in (
            DirichletPartition(alpha=0.1, samples_per_peer=1000),
            DirichletPartition(alpha=1e4, samples_per_peer=1000),
        )
    )
    assert skewed.max(axis=1).mean() > 0.5 > 0.15 > even.max(axis=1).mean()
    assert np.allclose(even.mean(axis=0), 0.1, atol=0.02)


def test_own_gives_every_peer_everything():
    shards = divide(np.array([0, 1, 2, 1]), 3, OwnPartition())
    assert [list(shard) for shard in shards] == [[0, 1, 2, 3]] * 3


def test_seeds_matter():
    y = np.arange(100) % 10
    for kind in ("iid", "dirichlet", "shards", "pathological"):
        choice = PARTITIONS.validate({"kind": kind})
        first, second = divide(y, 5, choice, 0), divide(y, 5, choice, 1)
        assert not all(np.array_equal(a, b) for a, b in zip(first, second, strict=True)), kind


def test_small_alpha_skews_classes_more_than_a_large_one():
    y = np.repeat(np.arange(10), 200)

    def largest_share(alpha: float) -> float:
        shards = divide(y, 10, DirichletPartition(alpha=alpha))
        return float(np.mean([np.bincount(y[shard]).max() / len(shard) for shard in shards]))

    assert largest_share(0.1) > 0.4 > 0.2 > largest_share(100)


def test_shards_give_few_classes():
    y = np.repeat(np.arange(10), 20)
    shards = divide(y, 10, ShardsPartition(shards_per_peer=2))
    assert max(len(np.unique(y[shard])) for shard in shards) <= 2


@pytest.mark.parametrize(
    ("choice", "peers", "word"),
    [
        (IidPartition(), 41, "at most 40 peers"),
        (DirichletPartition(min_samples=5), 9, "at most 8 peers"),
        (DirichletPartition(alpha=0.001, min_samples=4, attempts_max=20), 10, "20 draws"),
        (PathologicalPartition(classes_per_peer=5), 4, "has 4 classes"),
        (PathologicalPartition(classes_per_peer=1), 3, "at least 2"),
        (PathologicalPartition(classes_per_peer=2), 30, "10 samples for 15 peers"),
        (ShardsPartition(shards_per_peer=3), 14, "at most 13 peers"),
        (CyclicPartition(classes_per_peer=5), 4, "has 4 classes"),
        (CyclicPartition(classes_per_peer=4, samples_per_class=3), 4, "set overlap = true"),
        (CyclicPartition(classes_per_peer=4, samples_per_class=11, overlap=True), 4, "need 11"),
    ],
)
def test_an_impossible_partition_is_refused_with_a_sentence(choice, peers, word):
    y = np.repeat(np.arange(4), 10)
    with pytest.raises(SettingError, match=word):
        divide(y, peers, choice)
