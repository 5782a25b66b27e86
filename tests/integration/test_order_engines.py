"""D-PSGD in both orders and both engines, beside numpy: logistic regression, whole shards, exact gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import scenarios
from scenarios.processes.averages import load_task
from scenarios.scenario import load

ORDERS = ("adapt-then-combine", "combine-then-adapt")
SMALL: dict[str, Any] = {
    "scenario.peers": 4,
    "scenario.algorithm": "d-psgd",
    "data.train_max": 120,
    "data.test_max": 40,
    "model.name": "logistic",
    "local.lr": 0.5,
    "local.batch_size": 1000,
    "topology.kind": "ring",
    "stop.rounds": 3,
}


def gradient(model: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return ∇F of the mean cross-entropy at `model`, (10 · 64 + 10,): weights by rows, then biases."""
    weights, biases = model[:640].reshape(10, 64), model[640:]
    logits = x @ weights.T + biases
    likelihood = np.exp(logits - logits.max(1, keepdims=True))
    likelihood /= likelihood.sum(1, keepdims=True)
    error = (likelihood - np.eye(10)[y]) / len(y)
    return np.concatenate([(error.T @ x).ravel(), error.sum(0)])


def by_hand(order: str, *, gossip_steps: int) -> np.ndarray:
    settings = load("quickstart", values=SMALL)
    task = load_task(settings)
    mixing = np.linalg.matrix_power(settings.graphs().matrix(0), gossip_steps)
    shards = [task.shard(k, 4) for k in range(4)]
    models = np.tile(task.initial().numpy().astype(np.float64), (4, 1))
    for round in range(3):
        lr = 0.5 * settings.local.lr_decay**round
        steps = -lr * np.array(
            [
                gradient(models[k], shard.x.flatten(1).double().numpy(), shard.y.numpy())
                for k, shard in enumerate(shards)
            ]
        )
        # Wx - γ∇F(x) and W(x - γ∇F(x)).
        models = mixing @ models + steps if order == "combine-then-adapt" else mixing @ (models + steps)
    return models


def run(folder: Path, engine: str, order: str, **more: Any) -> tuple[np.ndarray, dict[str, Any]]:
    values = SMALL | {"protocol.order": order} | more
    result = scenarios.run("quickstart", engine=engine, out=folder, report=False, overrides=values)
    models = []
    for k in range(4):
        saved = safetensors.numpy.load_file(folder / "peers" / f"peer-{k:02d}" / "model.safetensors")
        weights, biases = sorted(saved.values(), key=lambda array: -array.size)
        models.append(np.concatenate([weights.ravel(), biases]))
    return np.array(models), result.summary


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("gossip_steps", [1, 3])
def test_simulated_models_are_those_that_the_formula_gives(order, gossip_steps, tmp_path):
    models, _ = run(tmp_path / "run", "virtual", order, **{"protocol.gossip_steps": gossip_steps})
    np.testing.assert_allclose(models, by_hand(order, gossip_steps=gossip_steps), atol=2e-6)


def test_real_nodes_models_are_those_that_the_published_formula_gives(tmp_path):
    models, processes = run(tmp_path / "nodes", "processes", "combine-then-adapt")
    np.testing.assert_allclose(models, by_hand("combine-then-adapt", gossip_steps=1), atol=2e-6)
    assert np.abs(models - by_hand("adapt-then-combine", gossip_steps=1)).max() > 1e-3
    simulated, virtual = run(tmp_path / "virtual", "virtual", "combine-then-adapt")
    np.testing.assert_allclose(models, simulated, atol=1e-6)
    for key in ("payload", "protocol"):
        assert virtual["bytes"][key] == processes["bytes"][key]


def test_equal_seeds_give_equal_runs(tmp_path):
    _, first = run(tmp_path / "first", "virtual", "combine-then-adapt")
    _, again = run(tmp_path / "again", "virtual", "combine-then-adapt")
    assert (first["event_digest"], first["model_digest"]) == (again["event_digest"], again["model_digest"])


def test_attackers_that_speak_last_and_churn_go_with_either_order(tmp_path):
    more = {
        "scenario.peers": 8,
        "topology.kind": "full",
        "attack.kind": "alie",
        "attack.count": 2,
        "attack.z": 1.5,
        "merge.kind": "median",
        "stop.rounds": 15,
        "faults.list": [{"at": 0.02, "do": "crash", "peers": [1]}, {"at": 0.05, "do": "restart"}],
    }
    _, summary = run(tmp_path / "run", "virtual", "combine-then-adapt", **more)
    assert summary["rounds"] == 15
    assert summary["accuracy"]["mean"] > 0.3
    (told,) = summary["warnings"]
    assert "batch_size = 1000 is more than" in told, "as is wanted here: every step takes all samples"
