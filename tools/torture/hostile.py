"""One of the peers in the file is an enemy: does it move, stop, slow, fill or blind the honest ones?

    python tools/torture/hostile.py [--only NAME …] [--list] [--rounds 40] [--json] [--smoke]

The enemy (`enemy.py`, a process of its own that imports nothing of the node) holds a key of the peers file. Every case
is held against the same run, made by the same command, with the enemy's seat empty: honest accuracy within one point,
honest pace at least 80 %, every honest node at its end with exit code 0, no traceback in any log. `VmHWM` is the most
memory any honest node had resident; what it shares with the process that it was forked from is in it.

Rounds are short here (`--pace-s` of training instead of minutes), and so is the margin over the usual arrival
(`protocol.deadline_floor_s`); the cap is the default.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from arena import launcher
from hostile_meanwhile import all_refused, few_lines, paused, removed, rotated, strangers
from hostile_trials import Case, Trials
from hostile_worlds import (
    FULL,
    FULL_LONG,
    FULL_MEDIAN,
    MANY_KEYS,
    MODEST,
    PUSH,
    PUSH_MEDIAN,
    PUSH_MEMORY,
    RING,
    RING_MEDIAN,
    World,
)
from malformed import MALFORMED
from verdicts import Verdicts

from scenarios.processes.launcher import Launcher


def _case(name: str, world: World, behaviour: str, **more: Any) -> Case:
    keys = ("targets", "during", "pace", "accuracy", "adopts", "lost_max", "without")
    options = {key: value for key, value in more.items() if key not in keys}
    return Case(name, world, behaviour, options, **{key: value for key, value in more.items() if key in keys})


HARMLESS = "none"
"""Takes part in MoDeST and hands on what it got: its updates are none, which costs accuracy, but it tells no lie."""

CASES: tuple[Case, ...] = (
    # What a claim may do.
    # n2, whom the enemy does not call, begins some seconds after the others, and rightly catches up.
    _case("one model of the last round", RING, "claim", round="last", targets=("n0",), adopts=True),
    _case("models of the last round, to all", RING_MEDIAN, "claim", round="last", every_s=0.5),
    _case("three rounds ahead, always", RING_MEDIAN, "claim", round=3, every_s=0.2),
    _case("finished at once", RING, "finished"),
    _case("the largest claim, one really behind", FULL_LONG, "claim", round="last", every_s=0.5, during=paused,
          pace=False, adopts=True),
    _case("three ahead, full graph", FULL_MEDIAN, "claim", round=3, every_s=0.2),
    # A neighbour that does not deliver.
    _case("silent", RING, "silent"),
    _case("silent, full graph", FULL, "silent"),
    _case("late by 2 s", RING, "late", late_s=2.0),
    _case("late by 10 s", RING, "late", late_s=10.0),
    _case("reconnecting every 5 s", RING, "reconnecting", every_s=5.0),
    _case("reconnecting every second", RING, "reconnecting", every_s=1.0),
    _case("never reads", RING, "deaf"),
    # MoDeST.
    *(_case(f"modest: {lie}", MODEST, "member", lie=lie, without=HARMLESS) for lie in (
        "aggregate-last", "finished", "train-far", "ping-far", "expected-one", "all-left", "counter",
        "silent-aggregator")),
    *(_case(f"modest: {lie}", MODEST, "member", lie=lie) for lie in ("never-trains", "dead")),
    # Push.
    _case("push: age 2^40, median", PUSH_MEDIAN, "push", age=2**40),
    _case("push: sign flips, median", PUSH_MEDIAN, "push"),
    _case("push: age 2^40", PUSH_MEMORY, "push", age=2**40, lost_max=0.02),
    _case("push: sign flips", PUSH_MEMORY, "push", lost_max=0.02),
    # That one liar ruins an average is said where it is chosen.
    _case("push: sign flips, average", PUSH, "push", accuracy=False),
    # Keys.
    _case("a key rotated in its handshake", RING, "half_handshake", targets=("n0",), during=rotated),
    _case("a removed key that goes on", RING, "deaf_to_goodbye", targets=("n0",), during=removed, adopts=True),
    _case("strangers", RING, "strangers", targets=("n0",), during=strangers),
    # Starvation; `flood.py` looks at it more closely.
    _case("3,000 messages a second", RING, "messages", per_s=3000),
    _case("models of NaN without end", RING, "refused_models"),
    _case("400 connections without a hello", RING, "mute_connections", count=400, targets=("n0",)),
    _case("4,000 plain connects in 2 s", RING, "plain_connects", count=4000, in_s=2.0, targets=("n0",)),
    # Logs and frames.
    _case("187 offences", RING, "offences", count=187, targets=("n0",), during=few_lines),
    _case(f"{len(MALFORMED)} malformed frames", MANY_KEYS, "malformed", prefix="y", targets=("n0",),
          during=all_refused),
)  # fmt: skip


_QUICK = replace(
    RING, name="smoke", settings=(*RING.settings, "node.start_timeout_s=0.5", "node.linger_s=0.5")
)
SMOKE = (replace(next(case for case in CASES if case.name == "strangers"), world=_QUICK, pace=False),)
"""What takes a few seconds; so short a run says nothing of the pace."""


def trials(started: Launcher, cases: Iterable[Case], *, rounds: int, pace_s: float) -> Verdicts:
    """Run cases."""
    runs, verdicts = Trials(started, rounds=rounds, pace_s=pace_s), Verdicts("an enemy among the peers")
    for case in cases:
        verdicts.add(runs.row(case))
    return verdicts


def main(arguments: Sequence[str], started: Launcher | None = None) -> int:
    """Run the command line; where it is given, nodes are forked from `started`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", help="cases whose name contains one of these")
    parser.add_argument("--list", action="store_true", help="print the cases")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--pace-s", type=float, default=0.25, help="what training takes, at least")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="one case of a few seconds")
    given = parser.parse_args(arguments)
    cases = [
        case
        for case in CASES
        if not given.only or any(word in f"{case.name} [{case.world.name}]" for word in given.only)
    ]
    if given.list:
        print("\n".join(f"{case.name} [{case.world.name}]" for case in cases))
        return 0
    if given.smoke:
        cases, given.rounds, given.pace_s = list(SMOKE), 10, 0.1
    with launcher(started) as started:
        return trials(started, cases, rounds=given.rounds, pace_s=given.pace_s).show(as_json=given.json)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
