"""Floods from one trusted key and from strangers: is `status` answered, are honest neighbours kept, do rounds go on?

    python tools/torture/flood.py [--only NAME …] [--seconds 15] [--json] [--smoke]

Each flood falls upon n0, between two windows of the same run: one that is quiet, and one under the flood. In its middle
an honest peer is killed and started again; how long its handshake with n0 takes is told. Held to: the longest answer to
`status` no more than 0.3 s beyond the longest of the quiet window, no honest neighbour lost, at least 80 % of the
rounds, the handshake within 10 s, at most 64 MB more, and a log that grows by a line a minute per reason.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from arena import Arena, launcher, of_process, percentile, said_by
from verdicts import Row, Verdicts

from scenarios.processes.launcher import Launcher

LATENCY_S_MAX = 0.3
PACE_MIN = 0.8
HANDSHAKE_S_MAX = 10.0
MEMORY_MB_MAX = 64
LOG_LINES_MAX = 12
"""What one peer's kill and return says anyhow, and a line for each of a few reasons."""
HONEST = ("n0", "n1", "n2")


@dataclass(frozen=True)
class Flood:
    """What an enemy pours out."""

    name: str
    behaviour: str
    options: Mapping[str, Any] = field(default_factory=dict)


FLOODS: tuple[Flood, ...] = (
    Flood("3,000 heartbeats a second", "messages", {"per_s": 3000}),
    Flood("3,000 control messages a second", "messages", {"per_s": 3000, "kind": "finished"}),
    Flood("30,000 control messages a second", "messages", {"per_s": 30000, "kind": "finished"}),
    Flood("models of NaN without end", "refused_models"),
    Flood("models of long ago without end", "stale_models"),
    Flood("400 connections without a hello", "mute_connections", {"count": 400}),
    Flood("4,000 plain connects in 2 s", "plain_connects", {"count": 4000, "in_s": 2.0}),
    Flood("handshakes without a certificate", "bad_handshakes"),
    Flood("a new connection at once, always", "reconnecting", {"every_s": 0.0}),
)


@dataclass
class Window:
    """What was seen in one."""

    rounds_per_s: float
    latency_max_s: float
    latency_p50_s: float
    lost: int


def _look(arena: Arena, seconds: float) -> Window:
    n0 = arena.peers["n0"]
    arena.look(["n0"])
    first, downs = n0.said_round, _downs(arena)
    began_s = time.monotonic()
    arena.latencies_s.clear()
    while time.monotonic() < began_s + seconds:
        arena.look(["n0"])
        time.sleep(0.05)
    latencies = arena.latencies_s or [seconds]
    rounds = (n0.said_round - first) / (time.monotonic() - began_s)
    return Window(rounds, max(latencies), percentile(latencies, 0.5), _downs(arena) - downs)


def _downs(arena: Arena) -> int:
    """Return how often n0 has lost an honest neighbour."""
    return sum(entry["other"] in HONEST for entry in arena.peers["n0"].events("peer_down"))


def flood(started: Launcher, kind: Flood, *, seconds: float, pace_s: float) -> Row:
    """Pour it upon n0."""
    task = ["--algorithm", "dfedsam-mgs", "--topology", "ring", "--rounds", "100000"]
    for setting in (
        "model.hidden=[32]", "local.epochs=1", "data.partition.kind=iid", "node.start_timeout_s=3.0",
        "protocol.deadline_floor_s=0.5", "net.backoff_max_s=1.0",
    ):  # fmt: skip
        task += ["--set", setting]
    with Arena(started, HONEST, seats=("z",), task=task, orders={"pace_s": pace_s}) as arena:
        arena.start()
        if not arena.wait_until_round(3, 60):
            return Row(kind.name, {}, ["never began"])
        quiet = _look(arena, seconds / 2)
        memory, lines = of_process(arena.pid("n0"), "VmHWM"), arena.peers["n0"].logs().count("\n")
        said = arena.enemy(
            kind.behaviour,
            "z",
            "n0",
            rounds=100000,
            parameters=arena.parameters("n0"),
            hold_s=seconds + 20,
            **kind.options,
        )
        if not arena.wait(lambda: bool(said_by(said)), 20, names=["n0"]):
            return Row(kind.name, {}, ["the enemy did not get anywhere"])
        under = _look(arena, seconds)
        handshake_s = _return_of_an_honest_peer(arena)
        more_mb = (of_process(arena.pid("n0"), "VmHWM") - memory) / 1000
        more_lines = arena.peers["n0"].logs().count("\n") - lines
        pace = under.rounds_per_s / quiet.rounds_per_s if quiet.rounds_per_s else 0.0
        broken = [f"{name}: {what}" for name, what in arena.tracebacks().items()]
        broken += [
            f"{name} ended with {arena.peers[name].codes}" for name in ("n0", "n1") if not arena.runs(name)
        ]
        limits = (
            (
                under.latency_max_s > quiet.latency_max_s + LATENCY_S_MAX,
                f"status took {under.latency_max_s:.1f} s",
            ),
            (under.lost > 0, f"{under.lost} honest neighbours lost"),
            (pace < PACE_MIN, f"pace {pace:.0%}"),
            (handshake_s > HANDSHAKE_S_MAX, f"an honest handshake took {handshake_s:.0f} s"),
            (more_mb > MEMORY_MB_MAX, f"{more_mb:.0f} MB more"),
            (more_lines > LOG_LINES_MAX, f"{more_lines} lines of log"),
        )
        figures = {
            "status ms": f"{1e3 * under.latency_p50_s:.0f}",
            "longest": f"{1e3 * under.latency_max_s:.0f}",
            "quiet": f"{1e3 * quiet.latency_max_s:.0f}",
            "pace": f"{pace:.0%}",
            "honest handshake s": f"{handshake_s:.1f}",
            "MB more": f"{more_mb:.0f}",
            "log lines more": str(more_lines),
        }
        return Row(kind.name, figures, broken + [what for wrong, what in limits if wrong])


def _return_of_an_honest_peer(arena: Arena) -> float:
    """Kill n1, start it again, and return the seconds from its first listening until n0 has it back."""
    arena.signal(["n1"], signal.SIGKILL)
    arena.wait_until_ended(10, ["n1"])
    ups = len(_ups(arena))
    arena.start("n1")
    log = arena.peers["n1"].log
    arena.wait(lambda: log.exists() and "listening" in log.read_text(errors="replace"), 20, names=["n0"])
    began_s = time.monotonic()
    arena.wait(lambda: len(_ups(arena)) > ups, 60, names=["n0"])
    return time.monotonic() - began_s


def _ups(arena: Arena) -> list[Any]:
    return [entry for entry in arena.peers["n0"].events("peer_up") if entry["other"] == "n1"]


def main(arguments: Sequence[str], started: Launcher | None = None) -> int:
    """Run the command line; where it is given, nodes are forked from `started`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", help="floods whose name contains one of these")
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--pace-s", type=float, default=0.25, help="what training takes, at least")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="one short flood")
    given = parser.parse_args(arguments)
    if given.smoke:
        # a quiet window of some twenty rounds: with eight, one round more or less breaks the promise
        given.only, given.seconds, given.pace_s = ["plain connects"], 5.0, 0.1
    floods = [kind for kind in FLOODS if not given.only or any(word in kind.name for word in given.only)]
    verdicts = Verdicts("floods upon one node")
    with launcher(started) as started:
        for kind in floods:
            verdicts.add(flood(started, kind, seconds=given.seconds, pace_s=given.pace_s))
    return verdicts.show(as_json=given.json)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
