"""The settings of MoDeST's evaluation with unequal machines, in short: fewer peers and minutes."""

from __future__ import annotations

import pytest

import scenarios
from scenarios import scenario

SHORT = {"scenario.peers": 60, "model.hidden": (40,), "evaluate.every": 5}


@pytest.mark.parametrize(
    ("name", "classes", "comes_and_goes"), [("modest-355", 5, False), ("modest-500", 2, True)]
)
def test_peers_with_few_classes_each_learn_by_samples_on_unequal_machines(
    tmp_path, name, classes, comes_and_goes
):
    settings = scenario.load(name)
    assert settings.scenario.peers == int(name.partition("-")[2])
    assert settings.data.partition.classes_per_peer == classes
    trace = settings.trace()
    assert trace.lines == 500
    assert len(set(trace.up)) > 300
    assert (trace.online is not None) == comes_and_goes

    result = scenarios.run(
        name, out=tmp_path / "run", report=False, overrides={**SHORT, "stop.virtual_seconds": 150}
    )
    summary, curve = result.summary, result.summary["curve"]
    assert summary["time"] <= 150
    assert len(curve) >= 3
    assert curve[-1]["round"] >= 15
    assert curve[-1]["accuracy_mean"] > max(0.55, curve[0]["accuracy_mean"])
    faults = summary["faults"]
    assert (faults["crashed"] > 0, faults["joined"] > 0) == (comes_and_goes, comes_and_goes)
    # Twice the sample a round, but for what a peer would send to itself; and what newcomers and the hardening cost.
    models = sum(summary["messages"]["by_type"][f"modest-{kind}"] for kind in ("aggregate", "train"))
    assert 2 * 13 - 2 <= models / curve[-1]["round"] <= 36
