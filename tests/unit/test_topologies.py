"""Topologies: golden spectra, files, sentences, and equal graphs in every process."""

from __future__ import annotations

import importlib
import math
import os
import subprocess
import sys
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

import topologies
from topologies import Topology, TopologyError, build, describe, mixing_matrix, spectrum
from topologies.families import SETTINGS

LAMBDA = {
    ("ring", 16): 0.9493,
    ("ring", 64): 0.9968,
    ("ring", 100): 0.9987,
    ("torus", 16): 0.6000,
    ("torus", 64): 0.8828,
    ("torus", 100): 0.9236,
    ("exponential", 16): 0.5000,
    ("exponential", 64): 0.6667,
    ("exponential", 100): 0.7333,
    ("full", 16): 0.0,
    ("full", 64): 0.0,
    ("full", 100): 0.0,
}


@pytest.mark.parametrize(("kind", "peers"), LAMBDA)
def test_lambda_of_the_usual_graphs(kind: str, peers: int) -> None:
    assert spectrum(mixing_matrix(build(kind, peers))).lambda_ == pytest.approx(LAMBDA[kind, peers], abs=5e-5)


@pytest.mark.parametrize("peers", [3, 10, 37, 100])
def test_lambda_of_the_ring_has_a_closed_form(peers: int) -> None:
    expected = max(
        abs(1 / 3 + 2 / 3 * math.cos(2 * math.pi / peers)),
        abs(1 / 3 + 2 / 3 * math.cos(2 * math.pi * (peers // 2) / peers)),
    )
    assert spectrum(mixing_matrix(build("ring", peers))).lambda_ == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", [kind for kind in topologies.KINDS if kind != "file"])
def test_one_peer_has_no_edges_and_two_have_one(kind: str) -> None:
    assert describe(Topology(kind, 1))["edges"] == 0
    directions = 2 if topologies.FAMILIES[kind].directed else 1
    assert describe(Topology(kind, 2))["edges"] == directions
    assert Topology(kind, 1).row(0) == {}
    assert Topology(kind, 2).row(0) == {1: 0.5}


def test_one_peer_exponential_reaches_the_exact_mean_in_one_sweep() -> None:
    topology = Topology("one-peer-exponential", 16)
    product = np.eye(16)
    for round in range(4):
        product = topology.matrix(round) @ product
        assert all(len(topology.row(i, round)) == 1 for i in range(16))
    assert np.allclose(product, 1 / 16, atol=1e-15)


def test_one_peer_exponential_leaves_nobody_alone_for_ever() -> None:
    topology = Topology("one-peer-exponential", 11)
    assert topology.period == 44
    met = {i: set() for i in range(11)}
    for round in range(44):
        for i in range(11):
            met[i] |= set(topology.row(i, round))
    assert {i: tuple(sorted(others)) for i, others in met.items()} == {
        i: topology.contacts(i) for i in range(11)
    }


@pytest.mark.parametrize("peers", [6, 7, 20, 100])
def test_one_peer_exponential_leaves_alone_at_most_one_peer_of_each_ring(peers: int) -> None:
    topology = Topology("one-peer-exponential", peers)
    for round in range(30):
        alone = sum(not topology.row(i, round) for i in range(peers))
        rings = math.gcd(peers, 1 << round % (peers - 1).bit_length())
        assert alone == (rings if (peers // rings) % 2 else 0)


def test_torus_is_as_square_as_it_can_be() -> None:
    graph = build("torus", 20)
    assert sorted(graph[0]) == [1, 4, 5, 15]
    assert {degree for _, degree in graph.degree()} == {4}


def test_regular_graph_is_regular_also_where_it_is_dense() -> None:
    for degree in (2, 3, 8, 17, 19):
        assert {d for _, d in build("regular", 20, degree=degree).degree()} == {degree}


def test_uniform_weights_on_a_star_are_not_doubly_stochastic() -> None:
    W = mixing_matrix(build("star", 6), "uniform")
    seen = spectrum(W)
    assert np.allclose(W.sum(axis=1), 1)
    assert not seen.doubly_stochastic
    assert not seen.symmetric
    assert describe(Topology("star", 6, weights="uniform"))["doubly_stochastic"] is False
    assert describe(Topology("star", 6))["doubly_stochastic"] is True


def test_description_is_complete() -> None:
    assert describe(Topology("ring", 6)) == {
        "kind": "ring",
        "peers": 6,
        "weights": "metropolis-hastings",
        "edges": 6,
        "degree": {"min": 2, "mean": 2.0, "max": 2},
        "diameter": 3,
        "connected": True,
        "lambda": pytest.approx(2 / 3),
        "spectral_gap": pytest.approx(1 / 3),
        "estimated": [],
        "doubly_stochastic": True,
        "time_varying": False,
        "rounds": 1,
    }


@pytest.mark.parametrize(
    ("kind", "weights"),
    [
        ("ring", "metropolis-hastings"),
        ("star", "uniform"),
        ("barabasi-albert", "uniform"),
        ("community", "metropolis-hastings"),
        ("one-peer-exponential", "metropolis-hastings"),
        ("random-neighbours", "uniform"),
    ],
)
def test_an_estimate_is_close_and_never_above(
    kind: str, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topology = Topology(kind, 200, weights=weights)
    exact = describe(topology)
    assert exact["estimated"] == []
    monkeypatch.setattr(importlib.import_module("topologies.spectrum"), "EXACT_PEERS_MAX", 100)
    estimated = describe(topology)
    assert estimated["estimated"] == ["lambda", "spectral_gap", "diameter"]
    assert estimated["lambda"] <= exact["lambda"] + 1e-9
    assert estimated["spectral_gap"] == pytest.approx(exact["spectral_gap"], rel=1e-3)
    assert exact["diameter"] - 1 <= estimated["diameter"] <= exact["diameter"]
    told = {
        key: value for key, value in estimated.items() if key not in {*estimated["estimated"], "estimated"}
    }
    assert told == {key: exact[key] for key in told}


def test_a_huge_ring_is_described_by_estimates() -> None:
    seen = describe(Topology("ring", 5000))
    gap = 2 / 3 * (1 - np.cos(2 * np.pi / 5000))
    assert gap < seen["spectral_gap"] < 3 * gap
    assert seen["diameter"] == 2500
    assert seen["doubly_stochastic"] is True
    assert seen["connected"] is True


def test_ten_thousand_peers_need_no_square_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "topologies.mixing.SparseRows.dense", lambda self: pytest.fail("a dense matrix was made")
    )
    topology = Topology("regular", 10_000, degree=4)
    assert topology.row(9_999) == dict.fromkeys(topology.contacts(9999), 0.2)
    assert len(topology.contacts(9_999)) == 4


DRAWN = """
import sys, topologies
for kind in ("regular", "erdos-renyi", "community", "small-world", "barabasi-albert", "random-neighbours"):
    print(topologies.Topology(kind, 30, seed=7, time_varying=True).digest(3))
"""


def test_every_process_draws_the_same_graphs_whatever_its_hash_seed() -> None:
    def printed(hash_seed: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", DRAWN],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=Path(topologies.__file__).parents[1],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    assert printed("1") == printed("2")
    assert len(set(printed("1").split())) == 6


def test_time_varying_random_graphs_are_redrawn_and_static_ones_are_not() -> None:
    varying = Topology("regular", 20, seed=1, time_varying=True)
    assert varying.digest(0) != varying.digest(1)
    assert varying.contacts(3) == tuple(j for j in range(20) if j != 3)
    static = Topology("regular", 20, seed=1)
    assert static.digest(0) == static.digest(1) == varying.digest(0)
    assert static.contacts(3) == tuple(sorted(static.row(3)))


def test_old_rounds_are_forgotten_and_drawn_again_alike() -> None:
    topology = Topology("random-neighbours", 12, degree=2, seed=3)
    first = [topology.row(i, 0) for i in range(12)]
    for round in range(1, 40):
        topology.row(0, round)
    assert len(topology._kept) <= 8
    assert [topology.row(i, 0) for i in range(12)] == first


def test_edge_list_takes_positions_or_names(tmp_path: Path) -> None:
    by_position = tmp_path / "graph.txt"
    by_position.write_text("# a path\n0 1\n1 2  # the end\n\n")
    by_name = tmp_path / "names.txt"
    by_name.write_text("ann bob\nbob 0\n")
    names = ["ann", "bob", "0"]
    expected = [(0, 1), (1, 2)]
    assert list(build("file", 3, path=str(by_position)).edges) == expected
    assert list(build("file", 3, path=str(by_position), names=["a", "b", "c"]).edges) == expected
    assert list(build("file", 3, path=str(by_name), names=names).edges) == expected


def test_graphml_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "graph.graphml"
    drawn = build("small-world", 12, degree=4, seed=2)
    nx.write_graphml(nx.relabel_nodes(drawn, {i: f"peer-{i:02}" for i in range(12)}), path)
    read = build("file", 12, path=str(path), names=[f"peer-{i:02}" for i in range(12)])
    assert list(read.edges) == list(drawn.edges)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("0 1\n1\n", "graph.txt:2: 1 words; a line names two peers"),
        ("0 1\n1 7\n", "graph.txt:2: '7' is neither a peer's name nor a position 0 to 2"),
        ("0 1\n1 1\n", "graph.txt:2: peer '1' is joined with itself"),
        ("0 1\n", "no path leads from peer 0 to peer 2"),
    ],
)
def test_a_bad_edge_list_is_told_with_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "graph.txt"
    path.write_text(text)
    with pytest.raises(TopologyError) as caught:
        build("file", 3, path=str(path))
    assert sentence in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_bad_graphml_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "graph.graphml"
    path.write_text("<graphml><graph></graphml>")
    with pytest.raises(TopologyError, match="not valid GraphML"):
        build("file", 3, path=str(path))
    with pytest.raises(TopologyError, match="cannot be read"):
        build("file", 3, path=str(tmp_path / "absent.txt"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"kind": "rign", "peers": 4}, "unknown topology 'rign'; did you mean 'ring'?"),
        ({"kind": "zzz", "peers": 4}, "valid: barabasi-albert, "),
        ({"kind": "ring", "peers": 0}, "at least 1 peer"),
        ({"kind": "ring", "peers": 4, "degree": 2}, "'ring' takes no degree"),
        ({"kind": "full", "peers": 4, "probability": 0.5}, "'full' takes no probability"),
        ({"kind": "regular", "peers": 5, "degree": 3}, "half an edge"),
        ({"kind": "regular", "peers": 5, "degree": 5}, "at most 4"),
        ({"kind": "regular", "peers": 6, "degree": 1}, "cannot connect 6 peers"),
        ({"kind": "regular", "peers": 6, "degree": 0}, "degree = 0"),
        ({"kind": "torus", "peers": 7}, "prime 7"),
        ({"kind": "hypercube", "peers": 12}, "8 or 16"),
        ({"kind": "small-world", "peers": 12, "degree": 3}, "must be even"),
        ({"kind": "erdos-renyi", "peers": 50, "probability": 0.001}, "none of 200 draws"),
        ({"kind": "erdos-renyi", "peers": 9, "probability": 1.5}, "between 0 and 1"),
        ({"kind": "erdos-renyi", "peers": 9, "probability": 0.5, "degree": 3}, "not both"),
        ({"kind": "full", "peers": 10_000}, "at most 8000000 are built"),
        ({"kind": "ring", "peers": 4, "communities": 2}, "these kinds do: community"),
        ({"kind": "ring", "peers": 4, "degree_between": 2}, "'ring' takes no degree_between"),
        ({"kind": "community", "peers": 9, "communities": 1}, "2 to 9; one alone is kind = erdos-renyi"),
        ({"kind": "community", "peers": 9, "communities": 10}, "9 peers make 2 to 9"),
        (
            {"kind": "community", "peers": 9, "communities": 3, "degree": 3},
            "a community of 3 peers; at most 2",
        ),
        ({"kind": "community", "peers": 9, "degree": 1, "probability": 0.5}, "inside, not both"),
        ({"kind": "community", "peers": 9, "degree_between": 1, "probability_between": 0.5}, "not both"),
        ({"kind": "community", "peers": 9, "probability_between": 0.0}, "nothing joins the communities"),
        ({"kind": "community", "peers": 9, "degree_between": 0.0}, "nothing joins the communities"),
        (
            {"kind": "community", "peers": 8, "communities": 2, "degree_between": 5},
            "at most 4, the mean number",
        ),
        ({"kind": "community", "peers": 40, "degree": 1, "degree_between": 0.1}, "more neighbours inside"),
        (
            {"kind": "community", "peers": 10_000, "probability": 1.0, "communities": 2},
            "at most 8000000 are built",
        ),
        ({"kind": "file", "peers": 4}, "needs a path"),
        ({"kind": "ring", "peers": 3, "names": ["a"]}, "1 names were given for 3 peers"),
    ],
)
def test_impossible_wishes_are_one_sentence(arguments: dict[str, object], sentence: str) -> None:
    with pytest.raises(TopologyError) as caught:
        build(**arguments)  # type: ignore[arg-type]
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_topology_complains_at_once() -> None:
    with pytest.raises(TopologyError, match="cannot be time-varying"):
        Topology("ring", 4, time_varying=True)
    with pytest.raises(TopologyError, match="unknown mixing weights"):
        Topology("ring", 4, weights="metropolis")
    with pytest.raises(TopologyError, match="prime"):
        Topology("torus", 13)


def test_mixing_needs_positions() -> None:
    graph: nx.Graph[str] = nx.Graph([("a", "b")])
    with pytest.raises(TopologyError, match="nodes 0 to 1"):
        mixing_matrix(graph)  # type: ignore[arg-type]


def test_the_readme_tells_every_kind_and_what_it_takes() -> None:
    readme = (Path(topologies.__file__).parent / "README.md").read_text(encoding="utf-8")
    for word in (*topologies.KINDS, *SETTINGS):
        assert f"`{word}`" in readme, word
