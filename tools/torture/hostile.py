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
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any

from arena import Arena, launcher, said_by
from client import make_key
from malformed import MALFORMED
from verdicts import Row, Verdicts

from scenarios.processes.launcher import Launcher

ACCURACY_LOST_MAX = 0.01
PACE_MIN = 0.8
GRACE_S = 25.0
"""For starting, lingering and leaving, on a machine that has other things to do."""


@dataclass(frozen=True)
class World:
    """An honest run: who is in it, and what it does."""

    name: str
    honest: int
    topology: str
    algorithm: str
    settings: tuple[str, ...] = ()
    rounds: int = 0
    """0: as the command line says."""
    seats: tuple[str, ...] = ("z",)
    pace_s: float = 0.0
    """0: as the command line says."""

    @property
    def names(self) -> list[str]:
        return [f"n{number}" for number in range(self.honest)]


RING = World("ring", 3, "ring", "dfedsam-mgs", ("local.epochs=1",))
FULL = World("full", 4, "full", "dfedavg", ("local.epochs=1",))
_MEDIAN = "merge.kind=median"
RING_MEDIAN = World("ring, median", 3, "ring", "dfedsam-mgs", (*RING.settings, _MEDIAN))
FULL_MEDIAN = World("full, median", 4, "full", "dfedavg", (*FULL.settings, _MEDIAN))
"""Where an enemy sends models all the time: no average bears those, whatever round they are said to be of."""
FULL_LONG = replace(FULL_MEDIAN, name="full, median, longer", rounds=90)
"""Where an honest peer is held up in the middle: what that costs it is made good by the end."""
_MODEST = (
    "local.steps=5", "protocol.sample_size=3", "protocol.aggregators=2", "protocol.ping_timeout_s=1.0",
    "protocol.ping_again_s=0.3", "protocol.aggregate_timeout_s=3.0", "protocol.send_again_s=4.0",
    "protocol.stall_s=8.0", "protocol.refresh_s=5.0",
)  # fmt: skip
MODEST = World("modest", 5, "full", "modest", _MODEST, rounds=150, pace_s=0.1)
"""Long enough that a member whose updates are none only costs time: at the end it shows in no accuracy."""
_PUSH = ("local.epochs=1", "protocol.period_s=0.3", "protocol.fanout=0")
PUSH = World("push, average", 5, "full", "gossip-learning", _PUSH)
PUSH_MEDIAN = World(
    "push, median", 5, "full", "gossip-learning", (*_PUSH, "merge.kind=median", "merge.f=1"), rounds=120,
)  # fmt: skip
PUSH_MEMORY = World(
    "push, one model at a time", 5, "full", "gossip-learning",
    ("local.epochs=1", "protocol.period_s=0.3", "protocol.memory=10", "merge.kind=nnm+trimmed-mean", "merge.f=1"),
    rounds=200,  # merges look back: what a liar costs at first is made up for later
)  # fmt: skip
MANY_KEYS = World("many keys", 3, "ring", "dfedsam-mgs", ("local.epochs=1",),
                  seats=tuple(f"y{number:02d}" for number in range(len(MALFORMED))))  # fmt: skip


@dataclass(frozen=True)
class Case:
    """What an enemy does in a world."""

    name: str
    world: World
    behaviour: str
    options: Mapping[str, Any] = field(default_factory=dict)
    targets: tuple[str, ...] = ()
    during: Callable[[Arena, Path], list[str]] | None = None
    """What else happens while the run goes on; returns the promises that broke."""
    pace: bool = True
    accuracy: bool = True
    lost_max: float = ACCURACY_LOST_MAX
    """How much accuracy the enemy may cost."""
    without: str = ""
    """What the enemy does in the run that this one is held against, as its option `lie`; empty: its seat is empty."""
    adopts: bool = False
    """Whether honest peers may take over a model: where one of them was really held up."""


@dataclass
class Outcome:
    """What a run came to."""

    accuracy: float
    seconds: float
    rounds_done: float
    hwm_mb: float
    codes: list[list[int]]
    finished: bool
    broken: list[str]
    log_lines: int
    adopted: int


def _paused(arena: Arena, said: Path) -> list[str]:
    """Hold one honest peer up for some seconds, so that it is really behind."""
    arena.wait_until_round(10, 60, ["n0", "n1"])
    arena.signal(["n2"], signal.SIGSTOP)
    arena.wait(lambda: False, 4.0, names=["n0", "n1"])
    arena.signal(["n2"], signal.SIGCONT)
    return []


def _rotated(arena: Arena, said: Path) -> list[str]:
    """The key is replaced while a handshake with the old one is under way."""
    if not arena.wait(lambda: any("ready" in entry for entry in said_by(said)), 30):
        return ["the enemy's handshake did not begin"]
    new = make_key(arena.folder / "z-new.pem", "z", serial=2)
    lines = {**arena.lines, "z": new.peers_line(arena.lines["z"].split()[1])}
    arena.write_peers(lines.values())
    _read_again(arena)
    (arena.folder / "go").touch()
    arena.wait(lambda: any("accepted" in entry for entry in said_by(said)), 30)
    entry = next((entry for entry in said_by(said) if "accepted" in entry), {})
    return [] if entry.get("accepted") is False else [f"the old key was let in ({entry or 'no answer'})"]


CUT_WITHIN_S = 2.0


def _removed(arena: Arena, said: Path) -> list[str]:
    """The peer is taken out of the file, and goes on sending."""
    if not arena.wait(lambda: any("welcomed" in entry for entry in said_by(said)), 30):
        return ["the enemy was never let in"]
    arena.wait_until_round(3, 30, ["n0"])
    arena.write_peers(line for name, line in arena.lines.items() if name != "z")
    _read_again(arena)
    (arena.folder / "go").touch()
    arena.wait(lambda: any("cut_after_s" in entry for entry in said_by(said)), 45)
    entry = next((entry for entry in said_by(said) if "cut_after_s" in entry), None)
    if entry is None:
        return ["nothing is known of when it was cut off"]
    late = entry["cut_after_s"] > CUT_WITHIN_S
    return [f"heard for {entry['cut_after_s']:.1f} s after it was removed"] if late else []


def _read_again(arena: Arena) -> None:
    names = list(arena.peers)
    before = {name: len(arena.peers[name].events("peers_read_again")) for name in names}
    arena.signal(names, signal.SIGHUP)
    arena.wait(lambda: all(len(arena.peers[n].events("peers_read_again")) > before[n] for n in names), 10)


def _all_refused(arena: Arena, said: Path) -> list[str]:
    """Every malformed frame ends its connection, and only that."""
    arena.enemies_end(120)
    entries = [entry for entry in said_by(said) if "malformed" in entry]
    broken = [f"{e['malformed']}: not reached ({e['ended']})" for e in entries if e.get("unreached")]
    broken += [f"{e['malformed']}: went on" for e in entries if e.get("must_end") and not e["ended"]]
    if len(entries) != len(MALFORMED):
        broken.append(f"{len(entries)} of {len(MALFORMED)} were tried")
    return broken


def _strangers(arena: Arena, said: Path) -> list[str]:
    """Who is not in the file is not heard."""
    arena.enemies_end(40)
    entries = [entry for entry in said_by(said) if "stranger" in entry]
    broken = [f"let in: {entry['stranger']}" for entry in entries if entry["let_in"]]
    return broken if len(entries) == 3 else [*broken, f"{len(entries)} of 3 were tried"]


LINES_PER_KIND_MAX = 3
"""Of one enemy, one reason, in a run of less than two minutes: one at once, one a minute."""


def _few_lines(arena: Arena, said: Path) -> list[str]:
    """187 offences from 187 ports are a line a minute."""
    arena.enemies_end(60)
    lines = [
        line for line in arena.peers["n0"].logs().splitlines() if "msgpack" in line or "127.0.0.1:" in line
    ]
    lines = [line for line in lines if "z (" in line or "from 127" in line]
    return [f"{len(lines)} lines of log"] if len(lines) > LINES_PER_KIND_MAX else []


MEMORY_MB_MAX = 64


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
    _case("the largest claim, one really behind", FULL_LONG, "claim", round="last", every_s=0.5, during=_paused,
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
    _case("a key rotated in its handshake", RING, "half_handshake", targets=("n0",), during=_rotated),
    _case("a removed key that goes on", RING, "deaf_to_goodbye", targets=("n0",), during=_removed, adopts=True),
    _case("strangers", RING, "strangers", targets=("n0",), during=_strangers),
    # Starvation; `flood.py` looks at it more closely.
    _case("3,000 messages a second", RING, "messages", per_s=3000),
    _case("models of NaN without end", RING, "refused_models"),
    _case("400 connections without a hello", RING, "mute_connections", count=400, targets=("n0",)),
    _case("4,000 plain connects in 2 s", RING, "plain_connects", count=4000, in_s=2.0, targets=("n0",)),
    # Logs and frames.
    _case("187 offences", RING, "offences", count=187, targets=("n0",), during=_few_lines),
    _case(f"{len(MALFORMED)} malformed frames", MANY_KEYS, "malformed", prefix="y", targets=("n0",),
          during=_all_refused),
)  # fmt: skip


class Trials:
    """Runs cases; each world's run without an enemy is done once."""

    def __init__(self, started: Launcher, *, rounds: int, pace_s: float) -> None:
        self._launcher = started
        self._rounds, self._pace_s = rounds, pace_s
        self._clean: dict[tuple[World, str], Outcome] = {}
        self._parameters: dict[World, int] = {}

    def clean(self, world: World, without: str = "") -> Outcome:
        """Return the run with the enemy's seat empty, or with an enemy in it that does nothing wrong."""
        if (world, without) not in self._clean:
            harmless = Case("harmless", world, "member", {"lie": without}) if without else None
            if harmless is not None:
                self.clean(world)  # of which the enemy knows the model
            self._clean[world, without] = self._run(world, harmless, timeout_s=240.0)
        return self._clean[world, without]

    def row(self, case: Case) -> Row:
        """Run a case and judge it."""
        clean = self.clean(case.world, case.without)
        # Twice as long as without an enemy is far beyond every promise; what is not done then is not waited for.
        outcome = self._run(case.world, case, timeout_s=2 * clean.seconds + GRACE_S)
        pace = (
            clean.seconds / outcome.seconds
            if outcome.finished
            else outcome.rounds_done * clean.seconds / (outcome.seconds * clean.rounds_done)
        )
        broken = list(outcome.broken)
        if not clean.finished or any(code != 0 for codes in clean.codes for code in codes):
            broken.append(f"the run without it says nothing (exit codes {clean.codes})")
        if not outcome.finished:
            broken.append(f"not at its end (rounds {outcome.rounds_done:.0f})")
        elif any(code != 0 for codes in outcome.codes for code in codes):
            broken.append(f"exit codes {outcome.codes}")
        if case.accuracy and not outcome.accuracy >= clean.accuracy - case.lost_max:
            broken.append(f"accuracy {clean.accuracy - outcome.accuracy:.3f} lower")
        if case.pace and pace < PACE_MIN:
            broken.append(f"pace {pace:.0%}")
        if not case.adopts and outcome.adopted > clean.adopted:
            broken.append(f"{outcome.adopted} models taken over")
        if outcome.hwm_mb > clean.hwm_mb + MEMORY_MB_MAX:
            broken.append(f"{outcome.hwm_mb - clean.hwm_mb:.0f} MB more")
        figures = {
            "accuracy": f"{outcome.accuracy:.3f}",
            "without": f"{clean.accuracy:.3f}",
            "pace": f"{pace:.0%}",
            "VmHWM MB": f"{outcome.hwm_mb:.0f} ({clean.hwm_mb:.0f})",
            "exit": ",".join(sorted({str(code) for codes in outcome.codes for code in codes})),
            "log lines": str(outcome.log_lines),
        }
        return Row(f"{case.name} [{case.world.name}]", figures, broken)

    def _run(self, world: World, case: Case | None, *, timeout_s: float) -> Outcome:
        rounds = world.rounds or self._rounds
        settings = (
            "model.hidden=[32]", "data.partition.kind=iid", "node.start_timeout_s=4.0", "node.linger_s=3.0",
            *(() if "protocol" not in world.algorithm and world.algorithm in ("modest", "gossip-learning")
              else ("protocol.deadline_floor_s=0.5",)),
            *world.settings,
        )  # fmt: skip
        task = ["--algorithm", world.algorithm, "--topology", world.topology, "--rounds", str(rounds)]
        for setting in settings:
            task += ["--set", setting]
        orders = {"pace_s": world.pace_s or self._pace_s}
        with Arena(self._launcher, world.names, task=task, seats=world.seats, orders=orders) as arena:
            arena.start()
            broken: list[str] = []
            if case is not None:
                # It may be there first: what it needs to know of the model was seen in the run without it.
                options = {"rounds": rounds, "parameters": self._parameters[world], **case.options}
                said = arena.enemy(case.behaviour, world.seats[0], *case.targets, **options)
                if case.during is not None:
                    broken = case.during(arena, said)
            began_s = time.monotonic()
            finished = arena.wait_until_ended(timeout_s)
            waited_s = time.monotonic() - began_s
            if world not in self._parameters:
                self._parameters[world] = arena.parameters("n0")
            if case is not None:
                broken += _enemy_troubles(said)
            return _outcome(arena, rounds, finished, waited_s, broken)


def _enemy_troubles(said: Path) -> list[str]:
    """An enemy that breaks down proves nothing."""
    errors = said.with_suffix(".log").read_text(errors="replace")
    return [f"the enemy broke down: {errors.strip().splitlines()[-1]}"] if "Traceback" in errors else []


def _outcome(arena: Arena, rounds: int, finished: bool, waited_s: float, broken: list[str]) -> Outcome:
    peers = arena.peers.values()
    summaries = [peer.summary() for peer in peers]
    times = [entry["time"] for peer in peers for entry in peer.metrics()]
    ends = [entry["time"] for peer in peers for entry in peer.events("finished")]
    broken += [f"{name}: {what}" for name, what in arena.tracebacks().items()]
    last = [
        summary.get("accuracy") if summary else peer.seen.get("accuracy")
        for peer, summary in zip(peers, summaries, strict=True)
    ]
    if finished:
        broken += [f"{peer.name} left at round {s.get('rounds')}" for peer, s in zip(peers, summaries, strict=True)
                   if s.get("rounds") != rounds]  # fmt: skip
    return Outcome(
        accuracy=mean(float(value or 0.0) for value in last),
        seconds=max(ends) - min(times) if finished and ends and times else waited_s,
        rounds_done=mean(peer.said_round for peer in peers),
        hwm_mb=max(peer.hwm_bytes for peer in peers) / 1e6,
        codes=[peer.codes for peer in peers],
        finished=finished,
        broken=broken,
        log_lines=max(peer.logs().count("\n") for peer in peers),
        adopted=sum(int(summary.get("adopted", 0)) for summary in summaries),
    )


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
