"""Outer steps of real nodes and of simulated ones."""

from __future__ import annotations

import pytest

import scenarios

VALUES = {
    "scenario.peers": 5,
    "scenario.algorithm": "dfedavg",
    "data.train_max": 150,
    "data.test_max": 40,
    "model.name": "logistic",
    "local.epochs": 1,
    "topology.kind": "ring",
    "stop.rounds": 4,
}


def test_real_nodes_take_the_steps_of_simulated_ones_and_the_model_shown_is_before_them(tmp_path):
    models = []
    for engine in ("virtual", "processes"):
        result = scenarios.run(
            "quickstart",
            engine=engine,
            out=tmp_path / engine,
            report=False,
            overrides=VALUES | {"outer.kind": "heavy-ball"},
        )
        models.append((result.summary["accuracy"]["mean"], result.summary["consensus_distance"]))
    plain = scenarios.run("quickstart", out=tmp_path / "plain", report=False, overrides=VALUES).summary
    assert plain["consensus_distance"] != pytest.approx(models[0][1], rel=1e-2)
    assert models[0] == pytest.approx(models[1], rel=1e-3)
