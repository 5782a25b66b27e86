"""top-change in both engines: the same models and bytes, whatever the protocol; who comes late gets a whole model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import scenarios

SMALL = {
    "scenario.peers": 4,
    "data.train_max": 400,
    "model.hidden": (16,),
    "local.epochs": 1,
    "scenario.algorithm": "dfedavg",
    "codec.kind": "top-change",
    "stop.rounds": 6,
}
LEARNED = 64 * 16 + 16 + 16 * 10 + 10
CODED = -(-LEARNED // 8) + 4 * (LEARNED // 4)
"""Payload bytes of a model of one chunk."""


def run(folder: Path, engine: str, **more: Any) -> dict[str, Any]:
    overrides = SMALL | {key.replace("__", "."): value for key, value in more.items()}
    return scenarios.run(
        "quickstart", engine=engine, out=folder / engine, report=False, seed=1, overrides=overrides
    ).summary


@pytest.mark.parametrize("rule", ["average", "nna"])
def test_rounds_end_alike_and_send_a_whole_model_first_and_changes_after_that(tmp_path: Path, rule) -> None:
    merge = {"merge.kind": rule} | ({"merge.f": 0} if rule == "nna" else {})
    virtual, real = (
        run(tmp_path, engine, topology__kind="ring", **merge) for engine in ("virtual", "processes")
    )
    assert virtual["bytes"]["by_type"]["model"] == real["bytes"]["by_type"]["model"]
    assert virtual["bytes"]["payload"] == real["bytes"]["payload"] == 4 * 2 * (4 * LEARNED + 5 * CODED)
    assert virtual["accuracy"]["mean"] == pytest.approx(real["accuracy"]["mean"], abs=0.004)


def test_pushes_take_the_same_bytes_in_both_engines(tmp_path: Path) -> None:
    more = {"protocol.kind": "push", "protocol.period_s": 0.1, "protocol.fanout": 0, "topology.kind": "ring"}
    for engine in ("virtual", "processes"):
        summary = run(tmp_path, engine, scenario__algorithm="gossip-learning", node__linger_s=60.0, **more)
        pushes = summary["messages"]["by_type"]["push"]
        # Each peer's first goes to two neighbours.
        assert summary["bytes"]["payload"] == 8 * 4 * LEARNED + (pushes - 8) * CODED
        assert summary["accuracy"]["mean"] > 0.2


def test_modest_sends_averages_whole_and_what_was_trained_by_its_changes(tmp_path: Path) -> None:
    more = {"stop.rounds": 8, "protocol.sample_size": 2, "protocol.aggregators": 1}
    for engine in ("virtual", "processes"):
        summary = run(tmp_path, engine, scenario__algorithm="modest", **more)
        sent = summary["messages"]["by_type"]
        whole = sent["modest-train"] + sent.get("modest-newest", 0)
        changes = summary["bytes"]["payload"] - 4 * LEARNED * whole
        assert CODED * sent["modest-aggregate"] <= changes < 4 * LEARNED * sent["modest-aggregate"]


def test_who_comes_late_is_sent_a_whole_model_by_each_neighbour_and_learns_on(tmp_path: Path) -> None:
    faults = [{"at": 3.5, "do": "join", "peers": [3]}]
    summary = run(
        tmp_path,
        "virtual",
        topology__kind="ring",
        faults__list=faults,
        stop__rounds=12,
        compute__seconds_per_sample=0.01,
    )
    sent = summary["messages"]["by_type"]["model"]
    whole = (summary["bytes"]["payload"] - sent * CODED) / (4 * LEARNED - CODED)
    # Three peers' first, to two neighbours or to those of them who were there; two answers; and the newcomer's first.
    assert whole == pytest.approx(4 + 2 + 2)
    assert summary["accuracy"]["min"] > 0.3
