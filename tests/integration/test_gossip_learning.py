"""Gossip learning in the virtual engine: curves by time, and what a late joiner does to the others."""

from __future__ import annotations

from statistics import fmean

import pytest

import scenarios

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
