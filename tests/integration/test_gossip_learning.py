"""Gossip learning in the virtual engine: curves by time, and what a late joiner does to the others."""

from __future__ import annotations

from statistics import fmean

import pytest

import scenarios
from gossip.protocols.base import Context
from gossip.protocols.push.ages import AGE_MAX
from gossip.protocols.push.messages import PushMessage
from gossip.protocols.push.protocol import Push
from scenarios import scenario as scenario_files
from scenarios.processes.averages import load_task
from scenarios.virtual.engine import VirtualRun

JOINED_S, PERIOD_S = 400, 10
JOINER = "peer-19"


def late_joiner(tmp_path, seed: int, **protocol):
    return scenarios.run(
        "late-joiner",
        out=tmp_path / "run",
        report=False,
        seed=seed,
        overrides={
            "stop.virtual_seconds": JOINED_S + 5 * PERIOD_S + 1,
            **{f"protocol.{key}": value for key, value in protocol.items()},
        },
    )


def between(result, from_s: float, to_s: float, peer: str) -> list[float]:
    return [
        entry["accuracy"]
        for entry in result.metrics
        if entry["peer"] == peer and from_s < entry["time"] <= to_s
    ]


def others(result) -> list[str]:
    return sorted({entry["peer"] for entry in result.metrics} - {JOINER})


def largest_loss(result) -> float:
    """Return by how much the peer that lost most does worse in the five periods after than in those before."""
    five_s = 5 * PERIOD_S
    return max(
        fmean(between(result, JOINED_S - five_s, JOINED_S, peer))
        - fmean(between(result, JOINED_S, JOINED_S + five_s, peer))
        for peer in others(result)
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_late_joiner_is_as_good_as_the_group_within_five_periods_and_makes_nobody_worse(tmp_path, seed):
    result = late_joiner(tmp_path, seed)
    until_s = JOINED_S + 5 * PERIOD_S
    group = fmean(fmean(between(result, JOINED_S, until_s, peer)) for peer in others(result))
    assert max(between(result, JOINED_S, until_s, JOINER)) >= group - 0.02
    assert largest_loss(result) <= 0.01
    assert result.summary["faults"]["adopted"] == 1


def test_without_ages_a_late_joiner_does_make_others_worse(tmp_path):
    result = late_joiner(tmp_path, 1, weighting="uniform", self_weight=0.0, age_limit=10**6, fanout=1)
    assert largest_loss(result) > 0.1
    assert result.summary["faults"]["adopted"] == 0


def test_points_of_the_curve_are_moments_at_which_all_living_peers_were_looked_at(tmp_path):
    result = scenarios.run(
        "late-joiner",
        out=tmp_path / "run",
        report=False,
        overrides={
            "faults.list": [],
            "stop.rounds": 8,
            "compute.stragglers": 0.1,
            "compute.slowdown": 2500.0,
        },
    )
    curve = result.summary["curve"]
    *regular, last = curve
    assert [point["time"] for point in regular] == [PERIOD_S * (place + 1) for place in range(len(regular))]
    assert last["time"] <= regular[-1]["time"] + PERIOD_S
    assert all(point["peers"] == 20 for point in regular[4:])
    assert all(point["consensus_distance"] is not None for point in curve)
    # Eighteen peers end with their eighth update; the two stragglers take more than one period for each of theirs.
    assert [point["round"] for point in curve] == sorted(point["round"] for point in curve)
    slow = [entry["peer"] for entry in result.metrics if entry["time"] == 70 and entry["round"] < 5]
    assert len(slow) == 2
    assert {entry["round"] for entry in result.metrics if entry["time"] == last["time"]} == {8}


class SignFlipper(Push):
    """Trains nothing, and pushes to all in each period the opposite of an honest model, as very old."""

    run: VirtualRun

    def on_start(self, ctx: Context) -> None:
        ctx.set_timer("lie", 0.3)

    def on_timer(self, ctx: Context, key: str) -> None:
        honest = self.run.simulation.peers[0].protocol
        assert isinstance(honest, Push)
        model = self.run.learning.craft(self.model, [honest.model], lambda models: -models[0])
        for peer in ctx.contacts:
            ctx.send(peer, PushMessage(round=2**53, age=AGE_MAX, model=model))
        if not honest._finished:
            ctx.set_timer("lie", 1.0)

    def on_message(self, ctx: Context, sender: str, message: object) -> None:
        pass


def test_one_liar_of_six_does_no_harm_with_a_memory_and_a_robust_rule_and_ruins_the_average():
    """Each peer alone, with samples unlike the others', is right about 77 of 100 images, and all together 95."""

    def accuracy(**values) -> float:
        settings = scenario_files.load(
            "quickstart",
            values={
                "scenario.peers": 6,
                "scenario.algorithm": "gossip-learning",
                "topology.kind": "full",
                "stop.rounds": 60,
                **values,
            },
        )
        run = VirtualRun(settings, load_task(settings))
        *honest, last = run.simulation.peers
        liar = SignFlipper(settings.protocol, rounds=60, model=last.protocol.model)
        liar.run, last.protocol = run, liar
        run.simulation.start()
        run.simulation.run(until_s=120.0)
        assert all(peer.finished and peer.adopted == 0 for peer in honest)
        return fmean(each.score for each in run.learning.evaluate([peer.protocol.model for peer in honest]))

    assert accuracy() < 0.5
    robust = {"merge.kind": "nnm+trimmed-mean", "merge.f": 1, "protocol.memory": 10}
    assert accuracy(**robust) > 0.9
