"""Laws of mixing matrices: stochasticity, the mean, contraction, consensus, fixed points, and a negative control."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

import topologies
from tests.strategies import connected_graphs
from topologies import Topology, TopologyError, build, mixing_matrix, spectrum

Matrix = NDArray[np.float64]
seeds = st.integers(0, 2**32 - 1)
steps = st.integers(1, 8)


def models(peers: int, seed: int, parameters: int = 3) -> Matrix:
    return np.random.default_rng(seed).normal(size=(peers, parameters))  # (peers, parameters)


def pulled(peers: int, degree: int, seed: int) -> Matrix:
    """Return W of averaging with one's own draw only: what the symmetrised draw avoids."""
    rng = np.random.default_rng(seed)
    W = np.eye(peers) / (degree + 1)
    for i in range(peers):
        others = np.delete(np.arange(peers), i)
        W[i, rng.choice(others, degree, replace=False)] = 1 / (degree + 1)
    return W


@given(connected_graphs())
def test_i1_metropolis_hastings_is_symmetric_doubly_stochastic_and_contracts(graph: nx.Graph) -> None:
    W = mixing_matrix(graph)
    assert (W == W.T).all()
    assert (W >= 0).all()
    assert np.allclose(W.sum(axis=0), 1, atol=1e-12)
    assert np.allclose(W.sum(axis=1), 1, atol=1e-12)
    seen = spectrum(W)
    assert seen.lambda_ is not None
    assert seen.lambda_ < 1
    assert seen.doubly_stochastic
    off_diagonal = W - np.diag(np.diag(W))
    assert {(i, j) for i, j in np.argwhere(off_diagonal > 0) if i < j} == {
        tuple(sorted(e)) for e in graph.edges
    }


@given(connected_graphs(), seeds, steps)
def test_i2_gossip_steps_keep_the_mean(graph: nx.Graph, seed: int, Q: int) -> None:
    x = models(len(graph), seed)
    mixed = np.linalg.matrix_power(mixing_matrix(graph), Q) @ x
    assert np.allclose(mixed.mean(axis=0), x.mean(axis=0), atol=1e-12)


@given(connected_graphs(), seeds, st.data())
def test_i2_symmetric_link_failures_keep_the_mean_where_the_weight_goes_to_self(
    graph: nx.Graph, seed: int, data: st.DataObject
) -> None:
    W = mixing_matrix(graph)
    edges = sorted(graph.edges)
    lost = data.draw(st.sets(st.sampled_from(edges))) if edges else set()
    for i, j in lost:
        W[i, i] += W[i, j]
        W[j, j] += W[j, i]
        W[i, j] = W[j, i] = 0
    x = models(len(graph), seed)
    assert np.allclose(W.sum(axis=1), 1, atol=1e-12)
    assert np.allclose((W @ x).mean(axis=0), x.mean(axis=0), atol=1e-12)


@given(connected_graphs(), seeds, steps)
def test_i3_disagreement_shrinks_at_least_by_lambda_per_step(graph: nx.Graph, seed: int, Q: int) -> None:
    W = mixing_matrix(graph)
    x = models(len(graph), seed)
    rate = spectrum(W).lambda_
    assert rate is not None
    before = np.linalg.norm(x - x.mean(axis=0))
    mixed = np.linalg.matrix_power(W, Q) @ x
    assert np.linalg.norm(mixed - mixed.mean(axis=0)) <= rate**Q * before + 1e-10


@given(connected_graphs(), steps)
def test_i3_the_slowest_direction_shrinks_exactly_by_lambda(graph: nx.Graph, Q: int) -> None:
    assume(len(graph) > 1)
    W = mixing_matrix(graph)
    values, vectors = np.linalg.eigh(W)
    slowest = int(np.argsort(np.abs(values))[-2])
    rate = spectrum(W).lambda_
    assert rate is not None
    after = np.linalg.norm(np.linalg.matrix_power(W, Q) @ vectors[:, slowest])
    assert after == pytest.approx(rate**Q, abs=1e-10)


@given(st.integers(1, 40), seeds, steps)
def test_i4_the_full_graph_agrees_in_one_step_and_more_change_nothing(peers: int, seed: int, Q: int) -> None:
    W = mixing_matrix(build("full", peers))
    x = models(peers, seed)
    once = W @ x
    assert np.allclose(once, x.mean(axis=0), atol=1e-12)
    assert np.allclose(np.linalg.matrix_power(W, Q) @ x, once, atol=1e-12)


@given(connected_graphs(), seeds, st.floats(-3, 3), st.floats(-3, 3))
def test_i5_equal_models_stay_and_mixing_is_affine(graph: nx.Graph, seed: int, a: float, b: float) -> None:
    W = mixing_matrix(graph)
    x = models(len(graph), seed)
    equal = np.broadcast_to(x[0], x.shape)
    assert np.allclose(W @ equal, equal, atol=1e-12)
    assert np.allclose(W @ (a * x + b), a * (W @ x) + b, atol=1e-10)


@given(connected_graphs(), seeds)
def test_i5_relabelling_the_peers_relabels_the_result(graph: nx.Graph, seed: int) -> None:
    peers = len(graph)
    order = np.random.default_rng(seed).permutation(peers)
    relabelled = nx.relabel_nodes(graph, {i: int(order[i]) for i in range(peers)})
    x = models(peers, seed)
    y = np.empty_like(x)
    y[order] = x
    assert np.allclose((mixing_matrix(relabelled) @ y)[order], mixing_matrix(graph) @ x, atol=1e-12)


@given(connected_graphs(), seeds, steps, steps)
def test_i5_gossip_steps_compose(graph: nx.Graph, seed: int, first: int, second: int) -> None:
    W = mixing_matrix(graph)
    x = models(len(graph), seed)
    parts = np.linalg.matrix_power(W, second) @ (np.linalg.matrix_power(W, first) @ x)
    assert np.allclose(np.linalg.matrix_power(W, first + second) @ x, parts, atol=1e-12)


def test_i6_pulling_from_a_directed_draw_loses_the_mean() -> None:
    W = pulled(100, 10, seed=0)
    columns = W.sum(axis=0)
    assert np.allclose(W.sum(axis=1), 1)
    assert columns.min() < 0.8 < 1.2 < columns.max()
    assert not spectrum(W).doubly_stochastic
    x = models(100, seed=1)
    assert not np.allclose((W @ x).mean(axis=0), x.mean(axis=0), atol=1e-3)


@st.composite
def wishes(draw: st.DrawFn) -> tuple[str, int, int]:
    kind = draw(st.sampled_from([kind for kind in topologies.KINDS if kind != "file"]))
    return kind, draw(st.integers(1, 40)), draw(seeds)


@given(wishes())
def test_every_kind_is_connected_and_simple_over_its_rounds(wish: tuple[str, int, int]) -> None:
    kind, peers, seed = wish
    try:
        topology = Topology(kind, peers, seed=seed)
    except TopologyError as error:
        assert kind in {"torus", "hypercube"}, error  # noqa: PT017
        return
    # One of two neighbours a round: three peers are the same pair three times in a row every ninth time.
    rounds = range(min(topology.period or (24 if kind == "pairs" else 3), 24))
    graphs = [topology.graph(round) for round in rounds]
    assert all(list(graph) == list(range(peers)) for graph in graphs)
    edges = [edge for graph in graphs for edge in graph.edges]
    assert all(i != j if topology.directed else i < j for i, j in edges)
    assert nx.is_connected(nx.compose_all(graphs).to_undirected())


@given(wishes(), st.integers(0, 5), st.sampled_from(topologies.WEIGHTS))
def test_rows_are_those_of_the_matrix(wish: tuple[str, int, int], round: int, weights: str) -> None:
    kind, peers, seed = wish
    try:
        topology = Topology(kind, peers, seed=seed, weights=weights)
    except TopologyError:
        assume(False)
    W = topology.matrix(round)
    assert np.array_equal(W, mixing_matrix(topology.graph(round), weights))
    for i in range(peers):
        row = topology.row(i, round)
        assert row == {int(j): W[i, j] for j in np.flatnonzero(W[i]) if j != i}
        assert set(row) <= set(topology.contacts(i))


@given(
    st.sampled_from(
        ["regular", "erdos-renyi", "community", "small-world", "barabasi-albert", "random-neighbours"]
    ),
    st.integers(0, 1000),
    st.integers(0, 1000),
)
def test_the_seed_and_the_round_alone_decide(kind: str, seed: int, round: int) -> None:
    def edges(seed: int, round: int) -> list[tuple[int, int]]:
        return list(build(kind, 24, seed=seed, round=round).edges)

    assert edges(seed, round) == edges(seed, round)
    assert edges(seed, round) != edges(seed + 1, round)
    assert edges(seed, round) != edges(seed, round + 1)


@given(st.integers(2, 30), st.data())
def test_random_neighbours_are_drawn_without_repetition(peers: int, data: st.DataObject) -> None:
    degree = data.draw(st.integers(1, peers - 1))
    graph = build("random-neighbours", peers, degree=degree, seed=data.draw(seeds))
    degrees = [d for _, d in graph.degree()]
    assert min(degrees) >= degree
    assert sum(degrees) <= 2 * peers * degree


# --- pairs, base-(k+1), groups ---


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_base_averages_exactly_in_one_period_whatever_the_number_of_peers(degree: int) -> None:
    for peers in range(max(2, degree + 1), 130):
        topology = Topology("base", peers, degree=degree)
        digits = np.base_repr(peers, degree + 1)
        powers = len(digits) - 1
        first = powers + (digits[0] != "1")
        two_or_more = digits.strip("0")[1:] != ""
        assert topology.period == first + (1 + powers if two_or_more else 0)
        product = np.eye(peers)
        for round in range(topology.period):
            W = topology.matrix(round)
            assert (W == W.T).all()
            assert W.min() >= 0
            assert np.abs(W.sum(axis=0) - 1).max() < 1e-12
            assert (np.count_nonzero(W, axis=1) <= degree + 1).all()
            product = W @ product
        assert np.abs(product - 1 / peers).max() < 1e-12
    assert (topology.matrix(topology.period) == topology.matrix(0)).all()


@pytest.mark.parametrize("peers", [2, 3, 12, 20, 30, 64])
def test_groups_average_exactly_in_one_period(peers: int) -> None:
    topology = Topology("groups", peers)
    product = np.eye(peers)
    for round in range(topology.period or 0):
        product = topology.matrix(round) @ product
    assert np.abs(product - 1 / peers).max() < 1e-12


@given(st.integers(2, 60), seeds, st.none() | st.floats(0, 1))
def test_pairs_are_a_matching_that_keeps_the_mean(peers: int, seed: int, probability: float | None) -> None:
    topology = Topology("pairs", peers, probability=probability, seed=seed)
    for round in range(3):
        W = topology.matrix(round)
        assert (W == W.T).all()
        assert set(np.unique(W)) <= {0.0, 0.5, 1.0}
        assert (W.sum(axis=0) == 1).all()
        alone = int((np.diag(W) == 1).sum())
        if probability in (None, 1.0):
            assert alone == peers % 2
        assert topology.kept_mean


def test_pairs_halve_the_squared_distance_and_a_probability_keeps_so_many() -> None:
    peers, rounds = 16, 1000
    topology = Topology("pairs", peers)
    mean = sum(topology.matrix(round) for round in range(rounds)) / rounds  # E[W] = E[WᵀW]
    second = np.sort(np.linalg.eigvalsh(mean))[-2]
    assert second == pytest.approx(1 - peers / (2 * (peers - 1)), abs=0.06)
    few = Topology("pairs", 20, probability=0.3)
    kept = sum(few.graph(round).number_of_edges() for round in range(rounds)) / (10 * rounds)
    assert kept == pytest.approx(0.3, abs=0.02)


# --- graphs with directions ---


@pytest.mark.parametrize("kind", ["epidemic-push", "epidemic-pull"])
@given(peers=st.integers(2, 40), seed=seeds, data=st.data())
def test_epidemic_rows_are_uniform_over_those_heard_and_audiences_mirror_them(
    kind: str, peers: int, seed: int, data: st.DataObject
) -> None:
    degree = data.draw(st.integers(1, peers - 1))
    topology = Topology(kind, peers, degree=degree, seed=seed)
    assert not topology.kept_mean
    assert topology.directed
    for round in range(2):
        W = topology.matrix(round)
        assert np.allclose(W.sum(axis=1), 1, atol=1e-12)
        for i in range(peers):
            row = topology.row(i, round)
            assert set(row.values()) <= {1 / (1 + len(row))}
            assert set(row) <= set(topology.contacts(i))
            assert all(i in topology.audience(j, round) for j in row)
            sends_to = topology.audience(i, round)
            assert all(i in topology.row(j, round) for j in sends_to)
            assert len(row if kind == "epidemic-pull" else sends_to) == degree


def test_with_push_some_hear_nobody_as_often_as_the_formula_says() -> None:
    peers, degree, rounds = 20, 2, 50
    topology = Topology("epidemic-push", peers, degree=degree)
    alone = sum(not topology.row(i, round) for round in range(rounds) for i in range(peers))
    share = (1 - degree / (peers - 1)) ** (peers - 1)
    assert abs(alone / (rounds * peers) - share) < 3 * np.sqrt(share * (1 - share) / (rounds * peers))
    assert not spectrum(topology.matrix(0)).doubly_stochastic


def test_an_undirected_graphs_audience_are_its_neighbours() -> None:
    topology = Topology("random-neighbours", 12, degree=2)
    for round in range(3):
        assert all(topology.audience(i, round) == tuple(sorted(topology.row(i, round))) for i in range(12))


def test_kept_mean_tells_whether_every_matrix_is_doubly_stochastic() -> None:
    assert Topology("star", 5).kept_mean
    assert not Topology("star", 5, weights="uniform").kept_mean
    assert Topology("ring", 5, weights="uniform").kept_mean
    assert Topology("pairs", 5, weights="uniform").kept_mean
    assert Topology("base", 5).kept_mean


@pytest.mark.parametrize("kind", ["base", "epidemic-pull"])
def test_graphs_with_weights_of_their_own_take_none(kind: str) -> None:
    with pytest.raises(TopologyError, match=f"'{kind}' takes no weights"):
        Topology(kind, 6, weights="uniform")
