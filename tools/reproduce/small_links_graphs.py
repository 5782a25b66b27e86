"""Rows of `small_links.py`: sparse graphs, outer steps on them, the merge at the end, and all of it together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

import numpy as np
from link_runs import Row, Runs, accuracy, payload, shown

from gossip.errors import SettingError
from scenarios.scenario import load
from topologies import Topology

PEERS_MAX = 129
EXACT_MAX = 1e-12
GAIN_MIN = 20.0
"""Points that the final steps are to add."""
DISTANCE_MAX = 1e-5
AHEAD_MIN = 0.5
"""Points by which outer steps are to be above averaging."""
SAVED_MIN = 15.0
AVERAGING = ("outer.kind=none",)


def _half_the_ring(runs: Runs, scenario: str) -> Row:
    ring, told = runs.of("ring-dfedavg"), runs.of(scenario)
    share = payload(told) / payload(ring)
    return Row(
        scenario,
        "the ring's accuracy at half its models",
        f"{shown(scenario, told)}, {shown('the ring', ring)}: {share:.3f} of its bytes",
        accuracy(told) >= accuracy(ring) and share <= 0.5 + 1e-9,
    )


def pairs(runs: Runs) -> Row:
    """Random pairs, another matching in each round."""
    return _half_the_ring(runs, "pairs")


def base_2(runs: Runs) -> Row:
    """Base-2, whose rounds average exactly when a period is over."""
    return _half_the_ring(runs, "base-2")


def finite_time(runs: Runs) -> Row:
    """How exactly a period of base-(k+1) averages."""
    peers_max = 16 if runs.smoke else PEERS_MAX
    worst = 0.0
    for degree in range(1, 5):
        for peers in range(degree + 1, peers_max + 1):
            topology, product = Topology("base", peers, degree=degree), np.eye(peers)
            for round in range(topology.period or 0):
                product = topology.matrix(round) @ product
            worst = max(worst, float(np.abs(product - 1 / peers).max()))
    return Row(
        "base-(k+1)",
        f"the product of a period's matrices is the average to {EXACT_MAX:g}, to {peers_max} peers, k = 1 to 4",
        f"{worst:.1e}",
        worst <= EXACT_MAX,
    )


def noloco(runs: Runs) -> Row:
    """Outer steps on random pairs, fifty local steps between exchanges."""
    plain, outer = runs.of("noloco", *AVERAGING), runs.of("noloco")
    ahead = accuracy(outer) - accuracy(plain)
    return Row(
        "noloco",
        f"{AHEAD_MIN:g} points above averaging at equal bytes",
        f"{ahead:+.2f}: {shown('noloco', outer)}, {shown('averaging', plain)}",
        ahead >= AHEAD_MIN and payload(plain) == payload(outer),
    )


def noloco_unstable(runs: Runs) -> Row:
    """A momentum that drives models apart."""
    try:
        load("noloco", values={"outer.momentum": 0.9})
        said, ok = "taken", False
    except SettingError as error:
        said, ok = str(error), True
    return Row("noloco, momentum 0.9", "refused", said, ok)


def single_merge(runs: Runs) -> Row:
    """One merge at the end of a run that hardly talked."""
    told = runs.of("single-merge")
    before = 100 * fmean(each["final_steps"]["before"]["mean"] for each in told)
    distance = max(each["consensus_distance"] for each in told)
    return Row(
        "single-merge",
        f"{GAIN_MIN:g} points more by the final steps, consensus distance below {DISTANCE_MAX:g}",
        f"{before:.1f} to {accuracy(told):.1f} %, distance {distance:.1e}",
        accuracy(told) - before >= GAIN_MIN and distance < DISTANCE_MAX,
    )


def together(runs: Runs) -> Row:
    """Random pairs, int8 and the merge at the end beside the ring."""
    ring, told = runs.of("ring-dfedavg"), runs.of("small-links")
    saved = {
        key: fmean(each["bytes"][key] for each in ring) / fmean(each["bytes"][key] for each in told)
        for key in ("payload", "protocol")
    }
    return Row(
        "all together (small-links)",
        f"the ring's accuracy at 1/{SAVED_MIN:g} of its bytes",
        f"{shown('small-links', told)}, {shown('the ring', ring)}; tensors 1/{saved['payload']:.1f}, "
        f"all bytes 1/{saved['protocol']:.1f}",
        accuracy(told) >= accuracy(ring) and min(saved.values()) >= SAVED_MIN,
    )


ROWS: Sequence[Callable[[Runs], Row]] = (
    pairs,
    base_2,
    finite_time,
    noloco,
    noloco_unstable,
    single_merge,
    together,
)
