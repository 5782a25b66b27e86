"""Peers that start from independent models: with plain averages they stall, with corrected ones they learn."""

from __future__ import annotations

import pytest

import scenarios

INDEPENDENT = {
    "model.hidden": [64, 64, 64],
    "model.init": "independent",
    "model.weights": "xavier",
    "data.partition": {"kind": "iid"},
    "local.lr": 0.3,
    "local.lr_decay": 1.0,
    "local.batch_size": 32,
}

PROTOCOLS = {
    "rounds": {"scenario.algorithm": "d-psgd", "scenario.peers": 8, "topology.kind": "full"},
    "two gossip steps": {
        "scenario.algorithm": "d-psgd",
        "scenario.peers": 16,
        "topology.kind": "regular",
        "topology.degree": 4,
        "protocol.gossip_steps": 2,
    },
    "modest": {
        "scenario.algorithm": "modest",
        "scenario.peers": 20,
        "protocol.sample_size": 10,
        "protocol.aggregators": 1,
        "local.steps": 1,
    },
}

ROUNDS = 60
STALLED, LEARNED = 0.25, 0.6


def accuracy(folder, merge: str, overrides, *, engine: str = "virtual", init: str = "independent") -> float:
    result = scenarios.run(
        "quickstart",
        engine=engine,
        out=folder / f"{merge}-{init}",
        report=False,
        overrides=INDEPENDENT
        | overrides
        | {"merge.kind": merge, "model.init": init, "stop.rounds": ROUNDS, "evaluate.every": ROUNDS},
    )
    return float(result.summary["accuracy"]["mean"])


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_independent_starts_stall_with_plain_averages_and_learn_with_corrected_ones(tmp_path, protocol):
    assert accuracy(tmp_path, "average", protocol) < STALLED
    assert accuracy(tmp_path, "average", protocol, init="shared") > LEARNED, "it is not the task that is hard"
    assert accuracy(tmp_path, "variance-corrected", protocol) > LEARNED


def test_eight_real_processes_learn_from_independent_starts_with_corrected_averages(tmp_path):
    """With plain ones they stall as simulated peers do: both send and learn the same, see test_virtual_engine."""
    assert accuracy(tmp_path, "variance-corrected", PROTOCOLS["rounds"], engine="processes") > LEARNED
