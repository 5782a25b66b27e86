"""A user's own topology: whatever is wrong with it is one sentence, and it is the same graph for all who ask."""

from __future__ import annotations

from pathlib import Path

import pytest

import scenarios
from gossip import cli
from gossip.errors import ExitCode, GossipError, SettingError
from scenarios import cli as scenario_cli
from tests.integration.homes import make_homes

SMALL = {
    "scenario.algorithm": "dfedavg",
    "scenario.peers": 4,
    "data.train_max": 120,
    "data.test_max": 60,
    "model.name": "logistic",
    "stop.rounds": 6,
}

SHUFFLED = (
    "    return nx.relabel_nodes(nx.path_graph(request.peers), dict(enumerate(order(request.peers))))\n"
)

MISTAKES = {
    "multigraph": (
        "    return nx.MultiGraph(nx.path_graph(request.peers))\n",
        "must return an undirected networkx.Graph",
    ),
    "random": (
        "    import random\n    order = lambda n: random.sample(range(n), n)\n" + SHUFFLED,
        "another graph each time",
    ),
    "numpy": (
        "    import numpy\n    order = numpy.random.permutation\n" + SHUFFLED,
        "another graph each time",
    ),
    "the-same-object": (
        "    kept.add_edges_from(nx.path_graph(request.peers).edges)\n"
        "    kept.remove_edge(0, 2) if kept.has_edge(0, 2) else kept.add_edge(0, 2)\n"
        "    return kept\n",
        "another graph each time",
    ),
}


def write(folder: Path, body: str, *, every_round: bool = False) -> str:
    (folder / "own.py").write_text(
        f"import networkx as nx\nkept = nx.Graph()\ndef own(request):\n{body}own.every_round = {every_round}\n"
    )
    return f"python:{folder / 'own.py'}:own"


@pytest.mark.parametrize("every_round", [False, True])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_topology_that_is_none_is_refused_before_anything_starts(
    mistake: str, every_round: bool, tmp_path: Path
) -> None:
    body, sentence = MISTAKES[mistake]
    own = {**SMALL, "topology.kind": write(tmp_path, body, every_round=every_round)}
    with pytest.raises(SettingError, match=rf"\[topology\] 'own' .*{sentence}") as caught:
        scenarios.run("quickstart", overrides=own, report=False, out=tmp_path / "run")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mistake", ["multigraph", "random"])
def test_nodes_and_the_command_that_tells_of_graphs_refuse_it_too(
    mistake: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    body, sentence = MISTAKES[mistake]
    kind = write(tmp_path, body)
    peers = make_homes(tmp_path, ["a", "b", "c", "d"])
    given = ["--home", str(tmp_path / "a"), "--peers", str(peers), "--set", f"topology.kind={kind}"]
    for call, argv in (
        (cli.run, given),
        (cli.run, ["check", *given]),
        (scenario_cli.call, ["topology", kind, "--peers", "4"]),
    ):
        assert call(argv) == ExitCode.USAGE
        said = capfd.readouterr().err
        assert sentence in said
        assert "Traceback" not in said


@pytest.mark.parametrize("engine", ["virtual", "processes"])
def test_a_topology_that_fails_in_a_later_round_is_one_sentence(engine: str, tmp_path: Path) -> None:
    body = "    if request.round > 2:\n        raise ValueError('no more')\n    return nx.path_graph(request.peers)\n"
    own = {**SMALL, "scenario.strict": True, "topology.kind": write(tmp_path, body, every_round=True)}
    with pytest.raises(GossipError, match=r"\[topology\] 'own' fails in round 3: ValueError: no more"):
        scenarios.run("quickstart", engine=engine, overrides=own, report=False, out=tmp_path / "run")


def test_nodes_end_of_a_graph_that_fails_whoever_they_hear_from_and_do_not_wait_for_each_other(
    tmp_path: Path,
) -> None:
    body = "    if request.round > 2:\n        raise ValueError('no more')\n    return nx.path_graph(request.peers)\n"
    own = {
        **SMALL,
        "processes.stall_timeout_s": 20,
        "topology.kind": write(tmp_path, body, every_round=True),
    }
    with pytest.raises(GossipError):
        scenarios.run("quickstart", engine="processes", overrides=own, report=False, out=tmp_path / "run")
    said = {log.parent.name: log.read_text() for log in (tmp_path / "run" / "peers").glob("*/node.log")}
    assert len(said) == 4
    assert [name for name, log in said.items() if "gossip-node: " not in log or "no more" not in log] == []


def test_a_graph_that_cannot_be_drawn_in_a_later_round_is_one_sentence_of_ours_too(tmp_path: Path) -> None:
    own = {
        **SMALL,
        "scenario.peers": 16,
        "scenario.seed": 3,
        "topology.kind": "erdos-renyi",
        "topology.probability": 0.08,
        "topology.time_varying": True,
    }
    with pytest.raises(SettingError, match=r"\[topology\] erdos-renyi: none of 200 draws"):
        scenarios.run("quickstart", overrides=own, report=False, out=tmp_path / "run")


def test_a_graph_that_a_user_keeps_may_be_asked_for_in_every_round(tmp_path: Path) -> None:
    body = (
        "    kept.add_edges_from(nx.path_graph(request.peers).edges) if not kept else None\n    return kept\n"
    )
    for place in range(2):
        own = {**SMALL, "topology.kind": write(tmp_path, body, every_round=True)}
        done = scenarios.run("quickstart", overrides=own, report=False, out=tmp_path / f"{place}")
        assert done.summary["rounds"] == 6
