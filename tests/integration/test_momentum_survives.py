"""What an update remembers beside the model is in the checkpoint: a kill undoes the round in progress, nothing else."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import scenarios
from gossip.storage.checkpoints import decode
from tests.integration.homes import Running, all_ended, eventually, make_homes

UPDATES = {
    "heavy-ball": {"local.momentum": 0.9, "local.keep_momentum": True},
    "quasi-global": {"local.momentum": 0.9, "local.optimizer.kind": "quasi-global"},
    "outer": {"outer.kind": "heavy-ball"},
    "adamw": {"local.optimizer.kind": "adamw", "local.optimizer.keep_moments": True},
}


def test_a_node_that_is_killed_ends_with_the_model_of_one_that_was_not(tmp_path: Path) -> None:
    task = ["--algorithm", "local", "--rounds", "12"]
    for setting in (
        "local.lr=0.01",
        "local.epochs=",
        "local.steps=40",
        "local.momentum=0.9",
        "local.optimizer.kind=quasi-global",
        "node.neighbours_min=0",
        "node.linger_s=0.0",
    ):
        task += ["--set", setting]
    models = []
    for killed in (False, True):
        folder = tmp_path / str(killed)
        folder.mkdir()
        make_homes(folder, ["n0"])
        started = [Running(folder, "n0", *task, pace_s=0.1 if killed else 0.0)]
        with all_ended(started):
            if killed:
                eventually(lambda node=started[0]: node.round() >= 2, "it does rounds")
                assert started[0].signal(signal.SIGKILL) == -signal.SIGKILL
                started.append(Running(folder, "n0", *task))
            assert started[-1].process.wait(60) == 0, started[-1].said()
        assert ("resuming after round" in started[-1].said()) == killed
        models.append(load_file(folder / "n0" / "model.safetensors"))
        newest = max((folder / "n0" / "checkpoints").iterdir())
        assert {"update.start", "update.slow", "update.lr_sum"} <= set(decode(newest).rows)
    calm, after_kill = models
    assert all(torch.allclose(tensor, after_kill[name], rtol=0, atol=1e-6) for name, tensor in calm.items())


@pytest.mark.parametrize("method", ["auto", "loop"])
@pytest.mark.parametrize("update", UPDATES)
def test_a_simulated_peer_that_crashes_ends_with_the_model_of_one_that_did_not(
    update: str, method: str, tmp_path: Path
) -> None:
    """Alone, so that nobody else's rounds are mixed in; it crashes in the middle of a local update."""
    run = {
        "scenario.algorithm": "local",
        "scenario.peers": 2,
        "stop.rounds": 6,
        "local.epochs": 1,
        "virtual.method": method,
        "compute.seconds_per_sample": 0.01,
        **UPDATES[update],
    }
    crash = {"faults.list": [{"at": 25.0, "do": "crash", "peers": [0]}, {"at": 26.0, "do": "restart"}]}
    vectors = []
    for name, settings in (("calm", run), ("crashed", {**run, **crash})):
        result = scenarios.run("quickstart", overrides=settings, report=False, out=tmp_path / name)
        faults = result.summary["faults"]
        assert (faults["crashed"], faults["restarted"]) == ((1, 1) if name == "crashed" else (0, 0))
        first = min((tmp_path / name / "peers").iterdir())
        vectors.append(load_file(first / "model.safetensors"))
    for name, tensor in vectors[0].items():
        np.testing.assert_allclose(tensor, vectors[1][name], rtol=0, atol=1e-6)
