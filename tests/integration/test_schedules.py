"""A schedule that ends with the run knows when that is: in the virtual engine, and on real nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

import scenarios

COSINE = {"local.schedule": "cosine", "local.lr_decay": 1.0}


def test_the_virtual_engine_and_real_nodes_learn_alike_by_a_falling_rate_and_not_as_by_a_constant_one(
    tmp_path: Path,
) -> None:
    small = {"scenario.peers": 3, "scenario.algorithm": "dfedavg", "stop.rounds": 4, "local.epochs": 1}
    accuracies = {}
    for engine, name, more in (
        ("virtual", "cosine", COSINE),
        ("virtual", "constant", {"local.lr_decay": 1.0}),
        ("processes", "cosine", COSINE),
    ):
        result = scenarios.run(
            "quickstart",
            engine=engine,
            overrides={**small, **more},
            report=False,
            out=tmp_path / f"{engine}-{name}",
        )
        accuracies[engine, name] = result.summary["accuracy"]["mean"]
    assert accuracies["virtual", "cosine"] == pytest.approx(accuracies["processes", "cosine"], abs=0.004)
    assert abs(accuracies["virtual", "cosine"] - accuracies["virtual", "constant"]) > 0.01
