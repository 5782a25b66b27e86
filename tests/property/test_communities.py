"""Laws of graphs with communities: who belongs where, what is joined, and that all peers draw the same."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.laws import tried
from topologies import Topology, TopologyError, build, describe, spectrum

seeds = st.integers(0, 2**32 - 1)

few = tried(0.4)
"""Enough: what differs is how many peers there are and how many communities."""


@st.composite
def sizes(draw: st.DrawFn) -> tuple[int, int]:
    """Peers and communities."""
    peers = draw(st.integers(4, 30))
    return peers, draw(st.integers(2, peers // 2))


@few
@given(sizes(), seeds, st.booleans())
def test_w_is_symmetric_doubly_stochastic_and_contracts(
    size: tuple[int, int], seed: int, varying: bool
) -> None:
    peers, count = size
    topology = Topology("community", peers, communities=count, seed=seed, time_varying=varying)
    for round in range(2):
        seen = spectrum(topology.matrix(round))
        assert seen.symmetric
        assert seen.doubly_stochastic
        assert seen.lambda_ is not None
        assert seen.lambda_ < 1, "connected"
        assert nx.is_connected(topology.graph(round))


@few
@given(sizes())
def test_communities_are_blocks_of_the_list_and_of_one_size_but_for_one_peer(size: tuple[int, int]) -> None:
    peers, count = size
    blocks = Topology("community", peers, communities=count).communities
    assert blocks is not None
    assert len(blocks) == count
    assert [position for block in blocks for position in block] == list(range(peers))
    assert max(map(len, blocks)) - min(map(len, blocks)) <= 1
    varying = Topology("community", peers, communities=count, time_varying=True)
    varying.graph(5)
    assert varying.communities == blocks, "edges are drawn anew, and not where a peer belongs"


@few
@given(sizes(), seeds, st.integers(0, 1000))
def test_the_same_seed_draws_the_same_graph(size: tuple[int, int], seed: int, round: int) -> None:
    peers, count = size
    one, other = (build("community", peers, communities=count, seed=seed, round=round) for _ in range(2))
    assert list(one.edges) == list(other.edges)


@few
@given(sizes(), seeds)
def test_certain_edges_are_there_and_others_are_as_said(size: tuple[int, int], seed: int) -> None:
    """All pairs inside and none missing, with p_in = 1; all pairs between, with p_out = 1."""
    peers, count = size
    within = Topology("community", peers, communities=count, probability=1.0, seed=seed)
    across = Topology(
        "community", peers, communities=count, probability=0.0, probability_between=1.0, seed=seed
    )
    assert within.communities is not None
    inside = {(i, j) for block in within.communities for i in block for j in block if i < j}
    outside = {(i, j) for j in range(peers) for i in range(j)} - inside
    assert inside <= set(within.graph().edges)
    assert set(across.graph().edges) == outside


@few
@given(sizes(), st.integers(1, 12), st.floats(0.05, 40))
def test_more_neighbours_than_there_are_peers_are_refused(
    size: tuple[int, int], degree: int, between: float
) -> None:
    peers, count = size
    most = peers // count - 1  # of the smallest community
    others = peers - (peers / count)
    assume(abs(between - others) > 1)
    try:
        topology = Topology("community", peers, communities=count, degree=degree, degree_between=between)
    except TopologyError as error:
        if degree > most:
            assert f"at most {most}" in str(error)  # noqa: PT017
        elif between > others:
            assert "at most" in str(error)  # noqa: PT017
        else:
            assert "none of 200 draws" in str(error)  # noqa: PT017
        return
    assert degree <= most
    assert between < others + 1
    assert nx.is_connected(topology.graph())


def test_degrees_inside_and_between_are_those_asked_for_on_average() -> None:
    inside, between = [], []
    for seed in range(4):
        topology = Topology("community", 400, communities=8, degree=20, degree_between=3, seed=seed)
        place = np.arange(400) // 50
        crosses = [place[i] != place[j] for i, j in topology.graph().edges]
        between.append(2 * sum(crosses) / 400)
        inside.append(2 * (len(crosses) - sum(crosses)) / 400)
    # Binomial counts: the standard deviations of these means are 0.16 and 0.06.
    assert np.mean(inside) == pytest.approx(20, abs=0.8)
    assert np.mean(between) == pytest.approx(3, abs=0.3)


def test_fewer_bridges_leave_a_smaller_gap() -> None:
    gaps = [
        np.mean(
            [
                describe(Topology("community", 60, communities=3, degree_between=between, seed=seed))[
                    "spectral_gap"
                ]
                for seed in range(5)
            ]
        )
        for between in (4, 1, 0.25)
    ]
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2]


def test_what_is_told_of_communities() -> None:
    seen = describe(Topology("community", 10, communities=3, probability=1.0, degree_between=0.4, seed=1))
    assert seen["communities"]["sizes"] == [3, 3, 4]
    assert seen["communities"]["bridges"] == seen["edges"] - (3 + 3 + 6)
    graph = build("community", 10, communities=3, probability=1.0, degree_between=0.4, seed=1)
    blocks = [range(3), range(3, 6), range(6, 10)]
    assert seen["communities"]["modularity"] == pytest.approx(
        nx.community.modularity(graph, blocks), abs=1e-6
    )
    assert "communities" not in describe(Topology("ring", 10))
