"""Bristle in both engines: what travels, what is declared, and what comes of it."""

from __future__ import annotations

import safetensors.torch
import torch

import scenarios
from gossip.learning.extractor import random_features

SMALL = {
    "scenario.peers": 6,
    "data.partition.classes_per_peer": 6,
    "data.test_max": 100,
    "stop.rounds": 6,
    "model.features": 50,
    "evaluate.every": 3,
}


def heads(folder):
    return torch.stack([model["head.1.weight"] for model in files(folder)])


def files(folder):
    return [
        safetensors.torch.load_file(folder / "peers" / f"peer-{index:02d}" / "model.safetensors")
        for index in range(SMALL["scenario.peers"])
    ]


def run(tmp_path, engine, **more):
    folder = tmp_path / f"{engine}{len(more)}"
    result = scenarios.run("bristle", engine=engine, seed=1, out=folder, report=False, overrides=SMALL | more)
    return folder, result.summary


def test_declared_classes_cross_the_wire_and_both_engines_send_and_learn_the_same(tmp_path):
    here, virtual = run(tmp_path, "virtual")
    there, processes = run(tmp_path, "processes")
    for key in ("payload", "protocol"):
        assert virtual["bytes"][key] == processes["bytes"][key]
    # The output layer and nothing else: each of six peers to five others in six rounds.
    assert virtual["bytes"]["payload"] == 6 * 5 * 6 * 4 * 10 * 50
    ours, theirs = heads(here), heads(there)
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-4
    # Had nobody declared anything, the medians of the holders would not have been taken.
    published, stock = run(tmp_path, "virtual", **{"merge.hardened": False})
    assert float((ours - heads(published)).norm() / theirs.norm()) > 1e-2
    assert stock["bytes"]["payload"] == virtual["bytes"]["payload"]
    assert stock["bytes"]["protocol"] < virtual["bytes"]["protocol"]
    # The finished model is whole: the extractor that never travelled is in the file.
    extractor = random_features((1, 8, 8), 50, seed=1).module
    for model in files(there):
        assert torch.equal(model["extractor.1.weight"], extractor[1].weight)
