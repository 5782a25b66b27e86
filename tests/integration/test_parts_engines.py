"""Models in parts in both engines: a quarter of the bytes, and as many steps as parts are one step of whole models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import scenarios
from gossip.errors import SettingError

SMALL: dict[str, Any] = {
    "scenario.peers": 4,
    "scenario.algorithm": "dfedavg",
    "data.train_max": 120,
    "data.test_max": 40,
    "model.name": "logistic",
    "local.lr": 0.5,
    "local.epochs": 1,
    "topology.kind": "ring",
    "stop.rounds": 3,
}
IN_TURN = {"protocol.parts": 3, "protocol.gossip_steps": 3}


def run(folder: Path, engine: str, **more: Any) -> tuple[np.ndarray, dict[str, Any]]:
    result = scenarios.run("quickstart", engine=engine, out=folder, report=False, overrides=SMALL | more)
    models = []
    for k in range(4):
        saved = safetensors.numpy.load_file(folder / "peers" / f"peer-{k:02d}" / "model.safetensors")
        models.append(np.concatenate([saved[name].ravel() for name in sorted(saved)]))
    return np.array(models), result.summary


def test_simulated_models_after_a_turn_of_all_parts_are_those_of_one_dense_step_to_the_bit(tmp_path):
    one = {"stop.rounds": 1}
    dense, _ = run(tmp_path / "dense", "virtual", **one)
    parts, _ = run(tmp_path / "parts", "virtual", **one, **IN_TURN)
    assert np.array_equal(dense, parts)
    once, _ = run(tmp_path / "once", "virtual", **one, **{"protocol.parts": 1, "protocol.gossip_steps": 3})
    assert not np.array_equal(dense, once)


def test_real_nodes_models_in_turn_are_those_of_whole_models_to_the_bit_in_every_round(tmp_path):
    dense, whole = run(tmp_path / "dense", "processes")
    parts, told = run(tmp_path / "parts", "processes", **IN_TURN)
    assert np.array_equal(dense, parts)
    assert told["bytes"]["payload"] == whole["bytes"]["payload"]
    simulated, virtual = run(tmp_path / "virtual", "virtual", **IN_TURN)
    np.testing.assert_allclose(parts, simulated, atol=1e-5)
    for key in ("payload", "protocol"):
        assert virtual["bytes"][key] == told["bytes"][key]


@pytest.mark.parametrize(
    "more",
    [
        {"codec.kind": "bfloat16"},
        {"merge.kind": "median"},
        {"merge.kind": "nnm+trimmed-mean", "merge.f": 1, "topology.kind": "full"},
        {"merge.kind": "variance-corrected"},
        {"protocol.order": "combine-then-adapt"},
    ],
    ids=lambda more: "-".join(map(str, more.values())),
)
def test_whatever_else_is_set_a_fourth_of_the_numbers_travels_and_runs_are_repeatable(more, tmp_path):
    values = {"stop.rounds": 4, **more}
    _, whole = run(tmp_path / "whole", "virtual", **values)
    _, parts = run(tmp_path / "parts", "virtual", **values, **{"protocol.parts": 4})
    _, again = run(tmp_path / "again", "virtual", **values, **{"protocol.parts": 4})
    assert 3.9 < whole["bytes"]["payload"] / parts["bytes"]["payload"] < 4.1
    assert parts["model_digest"] == again["model_digest"] != whole["model_digest"]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"protocol.parts": 4},
            "parts = 4: one part is sent in a gossip step, and 3 rounds of gossip_steps = 1 have 3",
        ),
        ({"protocol.parts": 2, "protocol.gossip_steps": 0}, "gossip_steps = 0 have 0"),
        (
            {"protocol.parts": 1000, "protocol.gossip_steps": 64, "stop.rounds": 60},
            "650 numbers of the model travel",
        ),
        ({"protocol.parts": 5000}, "parts"),
    ],
)
def test_parts_that_would_never_be_sent_are_refused(values, sentence, tmp_path):
    with pytest.raises(SettingError, match=sentence):
        run(tmp_path / "run", "virtual", **values)


def test_bristle_judges_class_by_class_and_takes_no_more_parts_than_classes(tmp_path):
    values = {"protocol.gossip_steps": 2, "stop.rounds": 6, "scenario.peers": 5, "data.test_max": 100}
    told = scenarios.run(
        "bristle", out=tmp_path / "run", report=False, overrides=values | {"protocol.parts": 10}
    )
    assert told.summary["messages"]["by_type"]["piece"] == 5 * 4 * 2 * 6
    with pytest.raises(SettingError, match=r"parts = 11: .* valid: 1 to 10, the number of classes"):
        scenarios.run(
            "bristle", out=tmp_path / "refused", report=False, overrides=values | {"protocol.parts": 11}
        )
