"""SIGKILL at chosen and at random moments, again and again: is anything lost but the round in progress?

    python tools/torture/kills.py [--kills 200] [--peers 6] [--rounds 80] [--seed 0] [--json] [--smoke]

Runs of real nodes follow each other. In each, half of the peers die over and over, staged by `driven.py` (between
writing a checkpoint and its name, after training, in a merge, in a handshake …) or killed from outside at a random
moment, and are started again at once. After every death what the disk holds is compared with what the node had said:

    lost      a round that `status` had called done is not on the disk
    unsaid    a round that the progress line had told of is not on the disk
    damaged   the next life does not start, or does not resume where the disk says
    stuck     a life that does not get on for `STUCK_S`
    unended   a peer that does not come to its end once nobody is killed any more
"""

from __future__ import annotations

import argparse
import json
import random
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from arena import Arena, Peer, launcher
from driven import STAGES
from verdicts import Row, Verdicts

from scenarios.processes.launcher import Launcher

STUCK_S = 30.0
END_S = 90.0
PARTS_S = (0.0, 1.5)
"""A kill from outside comes so long after the start of a life."""
ANY_TIME = "any time"
TIMES = (1, 8)
"""The how-manieth time at a stage is the last; few of them, so that lives are short."""


@dataclass
class Deaths:
    """What came of the kills at one stage."""

    count: int = 0
    broken: list[str] = field(default_factory=list)


@dataclass
class Life:
    """One life of a peer that is to die."""

    stage: str
    began_s: float
    kill_at_s: float
    moved_s: float
    saved_before: int
    said: int = -1


class Run:
    """One run from its first round to its last, with deaths on the way."""

    def __init__(
        self,
        started: Launcher,
        draw: random.Random,
        deaths: dict[str, Deaths],
        *,
        peers: int,
        rounds: int,
        kills: int,
    ) -> None:
        self._draw, self._deaths, self._rounds = draw, deaths, rounds
        self._left = kills
        self.killed = 0
        names = [f"n{number}" for number in range(peers)]
        task = ["--algorithm", "dfedsam-mgs", "--topology", "ring", "--rounds", str(rounds)]
        for setting in (
            "model.hidden=[32]", "local.epochs=1", "data.partition.kind=iid", "node.start_timeout_s=20.0",
            "protocol.deadline_floor_s=0.5", "node.linger_s=300.0", "node.linger_down_s=300.0", "net.backoff_max_s=1.0",
        ):  # fmt: skip
            task += ["--set", setting]
        self.arena = Arena(started, names, task=task, orders={"pace_s": 0.1})
        self._doomed = set(draw.sample(names, k=max(1, peers // 2)))
        self._lives: dict[str, Life] = {}

    def play(self) -> list[str]:
        """Kill as often as was asked, or until the run is nearly over; then let it end. Return what broke."""
        arena = self.arena
        with arena:
            for name in arena.peers:
                self._start(name)
            broken = self._kill()
            if not arena.wait_until_ended(END_S):
                stuck = {p.name: p.said_round for p in arena.peers.values() if arena.runs(p.name)}
                broken.append(f"unended: {stuck}")
            for peer in arena.peers.values():
                broken += self._ended(peer)
            broken += [f"traceback of {name}: {what}" for name, what in arena.tracebacks().items()]
        return broken

    def _start(self, name: str) -> None:
        peer, now_s = self.arena.peers[name], time.monotonic()
        mortal = name in self._doomed and self._left > 0
        stage = self._draw.choice([*STAGES, ANY_TIME, ANY_TIME]) if mortal else ""
        at = self._draw.randint(*TIMES) if not stage.startswith("handshake") else self._draw.randint(1, 2)
        kill_at_s = now_s + self._draw.uniform(*PARTS_S) if stage == ANY_TIME else float("inf")
        self._lives[name] = Life(stage, now_s, kill_at_s, now_s, peer.saved_round())
        peer.said_round = -1
        self.arena.start(name, **({"die": stage, "at": at} if stage in STAGES else {}))

    def _kill(self) -> list[str]:
        arena, broken = self.arena, []
        done: set[str] = set()
        while self._left > 0 and len(done) < len(arena.peers):
            # Those that are to die are asked all the time: what they say last is what must be on the disk.
            for name in sorted(self._doomed - done):
                self._watch(name)
            for name in arena.reap(0.01):
                code = arena.peers[name].codes[-1]
                if code == -signal.SIGKILL:
                    self._died(name)
                    self._start(name)
                    continue
                done.add(name)
                if code != 0:
                    broken.append(f"damaged: {name} ended with {code}: {_last_line(arena.peers[name])}")
        for name in self._doomed - done:
            # Nobody dies any more: those under orders are started without.
            if self._lives[name].stage in STAGES and arena.runs(name):
                arena.signal([name], signal.SIGKILL)
        while any(arena.runs(name) and self._lives[name].stage for name in self._doomed - done):
            for name in arena.reap(0.1):
                if arena.peers[name].codes[-1] == -signal.SIGKILL:
                    self._died(name, counts=False)
                    self._start(name)
                else:
                    self._lives[name].stage = ""
        return broken

    def _watch(self, name: str) -> None:
        arena, life = self.arena, self._lives[name]
        now_s = time.monotonic()
        if not arena.runs(name):
            return
        before = arena.peers[name].said_round
        said = arena.ask(name)
        if said and said["round"] > 0:  # at round 0 nothing is done yet that could be lost
            life.said = max(life.said, int(said["round"]))
        if arena.peers[name].said_round > before or (said and said["state"] in ("lingering", "finished")):
            life.moved_s = now_s
        elif now_s - life.moved_s > STUCK_S:
            self._note(
                life.stage,
                f"stuck: {name} at round {life.said} for {STUCK_S:g} s: {_last_line(arena.peers[name])}",
            )
            life.kill_at_s = now_s
        if now_s >= life.kill_at_s:
            life.kill_at_s = float("inf")
            arena.signal([name], signal.SIGKILL)

    def _died(self, name: str, *, counts: bool = True) -> None:
        peer, life = self.arena.peers[name], self._lives[name]
        if counts:
            self._left -= 1
            self.killed += 1
            self._deaths.setdefault(life.stage, Deaths()).count += 1
        saved, printed = peer.saved_round(), _printed(peer)
        if saved < life.said:
            self._note(life.stage, f"lost: {name} had said round {life.said}, the disk has {saved}")
        if saved < printed:
            self._note(life.stage, f"unsaid: {name} had printed round {printed}, the disk has {saved}")
        if saved < life.saved_before:
            self._note(life.stage, f"lost: {name} had {life.saved_before} on the disk, and now {saved}")
        resumed = re.search(r"resuming after round (\d+)", peer.said())
        if resumed and int(resumed[1]) != life.saved_before:
            self._note(
                life.stage, f"damaged: {name} resumed after {resumed[1]}, the disk had {life.saved_before}"
            )

    def _note(self, stage: str, what: str) -> None:
        self._deaths.setdefault(stage or "unharmed", Deaths()).broken.append(what)

    def _ended(self, peer: Peer) -> list[str]:
        broken = []
        code = peer.codes[-1] if peer.codes else None
        if code != 0:
            broken.append(f"unended: {peer.name}: exit code {code}: {_last_line(peer)}")
        elif peer.summary().get("rounds") != self._rounds or not (peer.home / "model.safetensors").exists():
            broken.append(f"unended: {peer.name} left {sorted(path.name for path in peer.home.iterdir())}")
        rounds = [entry["round"] for entry in peer.metrics()]
        if rounds != sorted(set(rounds)):
            broken.append(f"damaged: {peer.name} tells of a round twice")
        left = [path.name for path in (peer.home / "checkpoints").iterdir() if path.name.startswith(".")]
        if code == 0 and len(left) > 1:
            broken.append(f"damaged: {peer.name} leaves {left}")
        return broken


def _printed(peer: Peer) -> int:
    """Return the last round that the node's own progress lines of this life tell of."""
    rounds = [-1]
    if not peer.printed.exists():
        return -1  # it died before it had opened its files
    for line in peer.printed.read_text(errors="replace").splitlines():
        try:
            rounds.append(int(json.loads(line)["round"]))
        except (ValueError, KeyError):
            continue
    return max(rounds)


def _last_line(peer: Peer) -> str:
    lines = peer.said().strip().splitlines()
    return lines[-1][-200:] if lines else "it says nothing"


def kills(started: Launcher, *, count: int, peers: int, rounds: int, seed: int) -> Verdicts:
    """Kill `count` times, in as many runs as that takes."""
    draw, deaths, verdicts = (
        random.Random(seed),
        dict[str, Deaths](),
        Verdicts(f"{count} × SIGKILL, {peers} peers"),
    )
    killed, ends, began_s, runs = 0, [], time.monotonic(), 0
    while killed < count:
        run = Run(started, draw, deaths, peers=peers, rounds=rounds, kills=count - killed)
        ends += run.play()
        runs += 1
        killed += run.killed
        print(f"run {runs}: {killed} kills, {time.monotonic() - began_s:.0f} s", file=sys.stderr, flush=True)
        if not run.killed:
            ends.append("a run in which nobody was killed")
            break
    for stage in sorted(deaths):
        kinds = Counter(what.partition(":")[0] for what in deaths[stage].broken)
        told = [f"{times} × {kind}" for kind, times in kinds.items()] + deaths[stage].broken[:2]
        verdicts.add(Row(stage, {"kills": str(deaths[stage].count)}, told if kinds else ()))
    seconds = f"{time.monotonic() - began_s:.0f}"
    verdicts.add(Row("all", {"kills": str(killed), "runs": str(runs), "seconds": seconds}, ends))
    return verdicts


def main(arguments: Sequence[str], started: Launcher | None = None) -> int:
    """Run the command line; where it is given, nodes are forked from `started`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--peers", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=80)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="a few kills, a few seconds")
    given = parser.parse_args(arguments)
    if given.smoke:
        given.kills, given.peers, given.rounds = 4, 3, 15
    with launcher(started) as started:
        verdicts = kills(started, count=given.kills, peers=given.peers, rounds=given.rounds, seed=given.seed)
    return verdicts.show(as_json=given.json)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
