"""Graphs that are another in every round, and with directions, in both engines; and what is refused of them."""

from __future__ import annotations

import pytest

import scenarios
from gossip.errors import UserError
from scenarios.scenario import load

SMALL = {
    "scenario.peers": 5,
    "stop.rounds": 4,
    "data.train_max": 150,
    "data.test_max": 60,
    "model.name": "logistic",
    "local.epochs": 1,
    "protocol.gossip_steps": 1,
}


def run(tmp_path, name, engine, **values):
    overrides = SMALL | values
    return scenarios.run(
        "quickstart", out=tmp_path / name, engine=engine, seed=1, overrides=overrides, report=False
    ).summary


@pytest.mark.parametrize(
    ("kind", "models"), [("epidemic-pull", 2 * 5 * 4), ("epidemic-push", 2 * 5 * 4), ("pairs", 4 * 4)]
)
def test_as_many_models_are_sent_as_the_graph_has_edges_and_none_is_refused(tmp_path, kind, models) -> None:
    degree = {} if kind == "pairs" else {"topology.degree": 2}
    summary = run(tmp_path, kind, "virtual", **{"topology.kind": kind}, **degree)
    assert summary["messages"]["by_type"]["model"] == models
    assert not summary["faults"]["rejected_messages"]


def test_directed_rounds_end_alike_in_both_engines(tmp_path) -> None:
    values = {"topology.kind": "epidemic-pull", "topology.degree": 2}
    virtual = run(tmp_path, "virtual", "virtual", **values)
    processes = run(tmp_path, "processes", "processes", **values)
    assert virtual["accuracy_of_mean"] == pytest.approx(processes["accuracy_of_mean"], abs=0.01)
    assert virtual["messages"] == processes["messages"]
    assert virtual["bytes"]["payload"] == processes["bytes"]["payload"]


def test_push_takes_no_graph_with_directions_and_a_mean_that_drifts_is_told() -> None:
    values = {"topology.kind": "epidemic-push", "topology.degree": 2}
    with pytest.raises(UserError, match="protocol 'push' takes neighbours to be both"):
        load("quickstart", values={**SMALL, **values, "protocol.kind": "push"}).graphs()
    scenario = load("quickstart", values={**SMALL, **values, "merge.kind": "variance-corrected"})
    scenario.graphs()
    assert any("does not keep the mean" in note for note in scenario.notes)
