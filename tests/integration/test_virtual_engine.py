"""The virtual engine: deterministic, and the same in bytes, messages and models as real processes."""

from __future__ import annotations

import gc
import json
import re

import numpy as np
import pytest
import safetensors.torch
import torch

import scenarios
from gossip.errors import SettingError
from scenarios.virtual.learning.arena import Arena

SMALL = {
    "scenario.peers": 5,
    "data.train_max": 200,
    "data.test_max": 100,
    "stop.rounds": 4,
    "local.epochs": 1,
    "topology.kind": "ring",
}


def models(folder, count):
    found = []
    for index in range(count):
        tensors = safetensors.torch.load_file(folder / "peers" / f"peer-{index:02d}" / "model.safetensors")
        found.append(torch.cat([tensors[name].flatten() for name in sorted(tensors)]))
    return torch.stack(found)


def run(tmp_path, name, **options):
    return scenarios.run("quickstart", out=tmp_path / name, report=False, **options)


def test_equal_seeds_give_equal_digests_and_other_seeds_others(tmp_path):
    network = {"network.latency_ms": (5, 50), "network.jitter_ms": 5.0, "network.loss": 0.05}
    options = {"overrides": SMALL | network | {"network.bandwidth_mbps": 1.0}, "engine": "virtual"}
    first = run(tmp_path, "a", seed=3, **options).summary
    second = run(tmp_path, "b", seed=3, **options).summary
    other = run(tmp_path, "c", seed=4, **options).summary
    for digest in ("event_digest", "model_digest"):
        assert re.fullmatch(r"[0-9a-f]{64}", first[digest])
        assert first[digest] == second[digest]
        assert first[digest] != other[digest]


def test_a_run_keeps_nothing_of_the_runs_before_it(tmp_path):
    """Their models are big, and of no weight to Python's collector."""

    def kept():
        return {id(each) for each in gc.get_objects() if type(each) is Arena}

    gc.collect()
    others = kept()
    for seed in range(3):
        run(tmp_path, f"{seed}", engine="virtual", seed=seed, overrides=SMALL)
    assert len(kept() - others) <= 1


def test_both_engines_send_the_same_and_learn_the_same(tmp_path):
    virtual = run(tmp_path, "virtual", engine="virtual", seed=1, overrides=SMALL).summary
    processes = run(tmp_path, "processes", engine="processes", seed=1, overrides=SMALL).summary
    for key in ("payload", "protocol"):
        assert virtual["bytes"][key] == processes["bytes"][key]
    assert virtual["messages"] == processes["messages"]
    assert virtual["accuracy_of_mean"] == pytest.approx(processes["accuracy_of_mean"], abs=0.01)
    ours, theirs = models(tmp_path / "virtual", 5), models(tmp_path / "processes", 5)
    assert float(((ours - theirs).norm(dim=1) / theirs.norm(dim=1)).max()) < 1e-3
    rounds = [point["round"] for point in virtual["curve"]]
    assert rounds == [point["round"] for point in processes["curve"]] == [1, 2, 3, 4]


def test_gossip_brings_the_consensus_distance_down_by_the_power_of_lambda(tmp_path):
    overrides = SMALL | {"protocol.gossip_steps": 3, "protocol.kind": "rounds"}
    summary = run(tmp_path, "run", engine="virtual", overrides=overrides).summary
    eigenvalue = 1 / 3 + 2 / 3 * np.cos(2 * np.pi / 5)
    for point in summary["curve"]:
        assert point["consensus_distance"] <= eigenvalue**3 * point["consensus_before"] * (1 + 1e-5)


def test_the_time_of_a_calm_wide_area_network_is_what_a_hand_calculation_says(tmp_path):
    rounds, result = 15, None
    result = scenarios.run(
        "wan-calm", engine="virtual", out=tmp_path / "run", report=False, overrides={"stop.rounds": rounds}
    )
    entries = result.metrics
    largest = max(entry["bytes_sent"] for entry in entries) / rounds / 4
    # Samples of a peer, five epochs, two passes each for SAM.
    compute_s = 1397 / 100 * 5 * 2 * 1e-3
    # The four copies of a model share the sender's 10 Mbit/s; the slowest of 200 links has nearly 300 ms.
    by_hand_s = rounds * (compute_s + 4 * largest * 8 / 10e6 + 0.3)
    assert result.summary["time"] == pytest.approx(by_hand_s, rel=0.05)


def test_peers_killed_in_the_middle_leave_the_rest_to_finish_in_both_engines(tmp_path):
    faults = {"faults.list": [{"at": 0.3, "do": "crash", "peers": 0.4}]}
    slow = SMALL | faults | {"stop.rounds": 30, "topology.kind": "full", "node.linger_s": 1.0}
    # On a busy machine some may be killed before others have begun, who then wait so long for them.
    slow |= {"node.start_timeout_s": 10.0}
    for engine, more in (("virtual", {"compute.seconds_per_sample": 1e-3}), ("processes", {})):
        result = run(tmp_path, engine, engine=engine, overrides=slow | more)
        states = [peer["state"] for peer in result.peers]
        assert (states.count("crashed"), states.count("finished")) == (2, 3), engine
        assert all(peer["rounds"] == 30 for peer in result.peers if peer["state"] == "finished")
        assert result.summary["faults"]["crashed"] == 2
        assert max(entry["seconds"] for entry in result.metrics) < 30


def test_a_target_is_told_and_churn_belongs_to_the_virtual_engine(tmp_path):
    overrides = SMALL | {"stop.target_accuracy": 0.2, "stop.rounds": 20}
    summary = run(tmp_path, "run", engine="virtual", overrides=overrides).summary
    reached = next(point for point in summary["curve"] if point["accuracy_mean"] >= 0.2)
    assert summary["rounds_to_target"] == reached["round"]
    assert summary["bytes_to_target"] == reached["bytes"]
    churn = {"faults.churn": {"online_s": 5.0, "offline_s": 1.0}}
    with pytest.raises(SettingError, match="only --engine virtual can do it"):
        run(tmp_path, "churn", engine="processes", overrides=SMALL | churn)


def test_a_run_stops_at_its_virtual_time(tmp_path):
    overrides = SMALL | {"stop.virtual_seconds": 0.05, "stop.rounds": 1000}
    summary = run(tmp_path, "run", engine="virtual", overrides=overrides).summary
    assert 0 < summary["rounds"] < 1000
    assert summary["time"] <= 0.05
    json.dumps(summary, allow_nan=False)
