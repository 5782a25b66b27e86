"""Robust rules under every protocol, in the virtual engine: peers learn; a rule that can do nothing stops nobody."""

from __future__ import annotations

from collections import Counter

import pytest

from scenarios import scenario as scenario_files
from scenarios.processes.averages import load_task
from scenarios.progress import Quiet
from scenarios.virtual.engine import VirtualRun

RULES = {
    "nnm+trimmed-mean": {"merge.f": 1},
    "bucketing+median": {},
    "krum": {"merge.f": 1},
    "geometric-median": {},
    "self-centered-clipping": {"merge.f": 1},
    "cs-plus": {"merge.f": 1},
    "nna": {"merge.f": 1},
    "ubar": {},
    "mda": {"merge.f": 1},
    "smea": {"merge.f": 1},
    "caf": {"merge.f": 1},
    "ios": {"merge.f": 1},
    "balance": {"merge.horizon": 12},
}


def run(algorithm, kind, **values):
    settings = scenario_files.load(
        "quickstart",
        values={
            "scenario.peers": 6,
            "scenario.algorithm": algorithm,
            "topology.kind": "full",
            "data.partition": {"kind": "iid"},
            "local.steps": 10,
            "merge.kind": kind,
            "stop.rounds": 12,
            "evaluate.every": 100,
            **RULES.get(kind, {}),
            **values,
        },
    )
    return VirtualRun(settings, load_task(settings)).run(Quiet())


def accuracy(records):
    return sum(peer.score for peer in records.peers) / len(records.peers)


def reasons(records):
    return {reason for peer in records.peers for counts in peer.verdicts.values() for reason in counts}


@pytest.mark.parametrize("kind", RULES)
def test_peers_learn_with_every_rule_in_rounds(kind):
    records = run("dfedavg", kind)
    assert accuracy(records) > 0.7
    assert "too few" not in reasons(records)


@pytest.mark.parametrize("kind", ["nnm+trimmed-mean", "cs-plus", "geometric-median"])
def test_peers_learn_where_aggregators_merge(kind):
    """Not every aggregator trained: its own model is then no input."""
    records = run("modest", kind, **{"protocol.sample_size": 4})
    assert records.final.score > 0.7
    assert "too few" not in reasons(records)


@pytest.mark.parametrize("kind", ["self-centered-clipping", "geometric-median"])
def test_peers_learn_where_models_come_when_they_come(kind):
    records = run("gossip-learning", kind, **{"merge.f": 1, "protocol.memory": 10})
    assert accuracy(records) > 0.7
    told = Counter(
        reason
        for peer in records.peers
        for counts in peer.verdicts.values()
        for reason, count in counts.items()
        for _ in range(count)
    )
    assert told["too few"] < 0.1 * told.total(), "but for the first ones, merges have enough models"


def test_a_rule_that_never_has_enough_models_leaves_peers_to_themselves_and_says_so():
    """On a ring that loses many models a merge has often two: with f = 1 nobody can say which of them lies."""
    records = run("dfedavg", "trimmed-mean", **{"merge.f": 1, "topology.kind": "ring", "network.loss": 0.5})
    assert "too few" in reasons(records)
    assert all(peer.rounds == 12 for peer in records.peers)
