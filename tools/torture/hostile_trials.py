"""Trials of `hostile.py`: a run with an enemy in its seat, held against the same run without it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from arena import Arena
from hostile_worlds import World
from verdicts import Row

from scenarios.processes.launcher import Launcher

ACCURACY_LOST_MAX = 0.01
PACE_MIN = 0.8
GRACE_S = 25.0
"""For starting, lingering and leaving, on a machine that has other things to do."""
MEMORY_MB_MAX = 64


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
