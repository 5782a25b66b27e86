"""Real nodes over TLS among which some attack: what becomes of the honest ones, and what of every poisoned message."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import scenarios
from gossip.errors import SettingError

ROUNDS = 5
HONEST = 10


def test_ten_honest_nodes_among_four_attackers_learn_as_without_them_and_count_every_poisoned_message(
    tmp_path: Path,
) -> None:
    short = {"stop.rounds": ROUNDS, "evaluate.every": ROUNDS, "local.epochs": 2}
    result = scenarios.run(
        "attacked-nodes", engine="processes", overrides=short, out=tmp_path / "nodes", report=False
    )
    summary = result.summary
    clean = scenarios.run(
        "attacked-nodes", overrides={**short, "attack.kind": "none"}, out=tmp_path / "clean", report=False
    )
    assert summary["accuracy"]["min"] > clean.summary["accuracy"]["mean"] - 0.03
    assert (summary["peers"], summary["honest_peers"]) == (14, HONEST)
    # NaN and huge norm: three are looked at by each honest peer, the others are not even decoded.
    expected = {
        "non-finite": 3 * HONEST,
        "norm": 3 * HONEST,
        "muted": 2 * (ROUNDS - 3) * HONEST,
        "stale": (ROUNDS - 3) * HONEST,
    }
    assert summary["faults"]["rejected_messages"] == expected
    # The opposite of a model is finite and of the right length; the rule leaves it out.
    for peer in result.peers[:HONEST]:
        assert peer["verdicts"]["peer-10"] == {"far": ROUNDS}
        assert peer["weights"]["peer-10"] == 0
    # What real nodes count, simulated ones count, too.
    simulated = scenarios.run(
        "attacked-nodes", overrides=short, out=tmp_path / "virtual", report=False
    ).summary
    assert simulated["faults"]["rejected_messages"] == expected
    assert simulated["attack"]["attackers_models"] == summary["attack"]["attackers_models"]
    assert simulated["accuracy"]["mean"] == pytest.approx(summary["accuracy"]["mean"], abs=0.005)
    lines = [json.loads(line) for line in (tmp_path / "nodes/events.jsonl").read_text().splitlines()]
    told = [line for line in lines if line["event"] == "rejected" and line["peer"] == "peer-00"]
    assert {(line["other"], line["reason"]) for line in told} >= {
        ("peer-11", "non-finite"),
        ("peer-12", "norm"),
        ("peer-13", "stale"),
    }
    assert all(line["count"] in (1, 2, 4) for line in told)


@pytest.mark.parametrize("kind", ["alie", "dissensus", "mixed"])
def test_real_nodes_do_not_see_what_an_omniscient_attacker_would_need(tmp_path: Path, kind: str) -> None:
    values = {"attack.kind": kind, **({"attack.kinds": ["nan", "ipm"]} if kind == "mixed" else {})}
    with pytest.raises(SettingError, match=r"must see the honest peers' models, .*; use --engine virtual"):
        scenarios.run("attacked-nodes", engine="processes", overrides=values, out=tmp_path / "x")
