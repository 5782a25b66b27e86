"""Final steps in both engines: equal models, equal bytes whatever the codec, what they gained; and what is refused."""

from __future__ import annotations

import pytest

import scenarios
from gossip.config import TaskSettings
from gossip.errors import UserError
from scenarios.scenario import load

SMALL = {
    "scenario.peers": 5,
    "stop.rounds": 3,
    "data.train_max": 150,
    "data.test_max": 60,
    "model.name": "logistic",
    "local.epochs": 1,
    "protocol.gossip_steps": 1,
    "topology.kind": "pairs",
    "topology.probability": 0.5,
    "final.steps": "period",
    "codec.kind": "bfloat16",
}


def run(tmp_path, engine, **values):
    return scenarios.run(
        "quickstart", out=tmp_path / engine, engine=engine, seed=1, overrides=SMALL | values, report=True
    )


def test_both_engines_end_with_equal_models_and_have_sent_the_same(tmp_path) -> None:
    results = {engine: run(tmp_path, engine) for engine in ("virtual", "processes")}
    for result in results.values():
        summary = result.summary
        assert summary["consensus_distance"] < 1e-5
        assert summary["accuracy"]["std"] < 1e-9
        final = summary["final_steps"]
        assert final["gain"] == pytest.approx(summary["accuracy"]["mean"] - final["before"]["mean"])
        assert "before the final steps" in (result.folder / "report.html").read_text()
        ended = [entry for entry in result.metrics if "score_before_final" in entry]
        assert [entry["round"] for entry in ended] == [3] * 5
    virtual, processes = (result.summary for result in results.values())
    assert virtual["messages"] == processes["messages"]
    assert virtual["bytes"]["payload"] == processes["bytes"]["payload"]
    assert virtual["final_steps"]["before"]["mean"] == pytest.approx(
        processes["final_steps"]["before"]["mean"], abs=0.02
    )


def test_coded_final_steps_are_fewer_bytes_and_end_nearly_equal(tmp_path) -> None:
    whole = run(tmp_path / "whole", "virtual").summary
    coded = run(tmp_path / "coded", "virtual", **{"final.exact": False}).summary
    assert "final" not in coded["messages"]["by_type"]
    assert coded["bytes"]["payload"] < whole["bytes"]["payload"]
    assert whole["consensus_distance"] < coded["consensus_distance"] < 0.1


def test_peers_must_share_what_they_end_with_and_runs_without_it_are_as_before() -> None:
    plain = TaskSettings.model_validate({}).agreement()
    final = TaskSettings.model_validate({"final": {"steps": 4}}).agreement()
    assert "final" not in plain
    assert {**final, "final": None} == {**plain, "final": None}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"protocol.kind": "push"}, "protocol 'push' ends otherwise"),
        ({"protocol.kind": "modest"}, "protocol 'modest' ends otherwise"),
        ({"final.topology": "pairs"}, "steps = 'period' means nothing with topology = 'pairs'"),
        ({"final.topology": "full", "final.degree": 2}, "degree = 2 belongs to topology = 'base'"),
        (
            {"final.exact": False, "codec.kind": "top-change"},
            "codec 'top-change' tells what has changed since earlier messages",
        ),
        ({"final.degree": 9}, "degree = 9 is too large for 5 peers"),
        ({"final.steps": 0, "final.exact": False}, "steps = 0 makes no final steps"),
        (
            {"merge.kind": "median", "merge.f": 1, "topology.kind": "full"},
            "its at most 1 neighbours of a final step",
        ),
    ],
)
def test_what_does_not_go_together_is_one_sentence(values, sentence) -> None:
    base = {key: value for key, value in SMALL.items() if not key.startswith(("topology", "protocol"))}
    with pytest.raises(UserError, match=sentence):
        load("quickstart", values=base | values).graphs()


def test_too_few_steps_to_be_exact_are_told() -> None:
    scenario = load("quickstart", values=SMALL | {"final.steps": 2})
    scenario.graphs()
    assert any("averages exactly after" in note for note in scenario.notes)
