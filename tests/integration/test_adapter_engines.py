"""Adapters in both engines: the same models for the same bytes, and a finished model that can be used."""

from __future__ import annotations

from pathlib import Path

import pytest

import scenarios
from gossip.inference.loaded import load
from gossip.learning import adapters

FILE = """
[scenario]
peers = 3
algorithm = "dfedavg"
[data]
train_max = 90
test_max = 60
[model]
hidden = [16]
private = ["3.*"]
adapter = { kind = "lora", train = "B", rank = 4 }
[local]
lr = 0.2
[topology]
kind = "full"
[stop]
rounds = 2
"""


def test_nodes_and_simulated_peers_learn_the_same_beside_heads_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "file.toml").write_text(FILE)
    found = {}
    for engine in ("virtual", "processes"):
        found[engine] = scenarios.run(
            tmp_path / "file.toml", engine=engine, out=tmp_path / engine, report=False
        )
    bytes_, scores = (
        [
            [run.summary["bytes"]["payload"], [peer["score"] for peer in run.peers]][place]
            for run in found.values()
        ]
        for place in (0, 1)
    )
    assert bytes_[0] == bytes_[1] == 2 * 3 * 2 * 4 * (16 * 4 + 16), (
        "factors and biases, of each peer to two in two rounds"
    )
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    loaded = load(tmp_path / "processes" / "peers" / "peer-00")
    assert set(adapters.adapted(loaded.module)) == {"1"}
