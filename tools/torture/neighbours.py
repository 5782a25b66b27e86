"""Neighbours that stop, drip, flap, keep silent or are parted from us: do the honest ones go on, and agree again?

    python tools/torture/neighbours.py [--only NAME …] [--seconds 40] [--partition-s 60] [--json] [--smoke]

Real nodes, each with a proxy on every link (`proxy.py`), or a wire client in one seat (`enemy.py`). Pace is how many
rounds those without trouble do in the window, against the same window of the same run without it. The partition runs in
network namespaces where they can be made, else over the proxies; there consensus is sqrt(mean |x_i - mean|²) of the
snapshots of one round, before, while parted, and in the rounds after everybody is connected again.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from arena import Arena, Peer, launcher
from namespaces import Halves
from proxy import DRIP, HOLD, PASS, Links
from verdicts import Row, Verdicts

from scenarios.processes.launcher import Launcher

PACE_MIN = 0.8
ROUNDS_TO_AGREE = 3
AGREED_FACTOR = 1.5
"""Consensus is back at no more than so many times the median distance before the partition."""
NAMES = ("n0", "n1", "n2", "n3")
TROUBLED = "n3"


@dataclass(frozen=True)
class Trouble:
    """What happens to the troubled neighbour."""

    name: str
    act: Callable[[Arena, Links], None] | None = None
    """Called again and again while the window lasts."""
    enemy: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    orders: Mapping[str, Any] = field(default_factory=dict)
    """Of the troubled node's life."""


def _stop(arena: Arena, links: Links) -> None:
    arena.signal([TROUBLED], signal.SIGSTOP)


def _drip(arena: Arena, links: Links) -> None:
    links.set(links.of(TROUBLED), DRIP)


def _hold(arena: Arena, links: Links) -> None:
    links.set(links.of(TROUBLED), HOLD)


class _Flap:
    """Cuts the connections of the troubled neighbour every few seconds."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._next_s = 0.0

    def __call__(self, arena: Arena, links: Links) -> None:
        if time.monotonic() >= self._next_s:
            links.cut(links.of(TROUBLED))
            self._next_s = time.monotonic() + self._every_s


class _StopAndGo:
    """Stops the troubled neighbour, lets it go on, and so on."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._next_s = 0.0
        self._stopped = False

    def __call__(self, arena: Arena, links: Links) -> None:
        if time.monotonic() >= self._next_s:
            self._stopped = not self._stopped
            arena.signal([TROUBLED], signal.SIGSTOP if self._stopped else signal.SIGCONT)
            self._next_s = time.monotonic() + self._every_s


CLOCK_JUMPS_S = (0.0, 3600.0, -3600.0, 86400.0 * 365, -86400.0 * 365 * 20)

TROUBLES: tuple[Trouble, ...] = (
    Trouble("SIGSTOP", _stop),
    Trouble("SIGSTOP and SIGCONT every 3 s", _StopAndGo(3.0)),
    Trouble("a byte at a time", _drip),
    Trouble("flaps every 2 s", _Flap(2.0)),
    Trouble("swallows everything", _hold),
    Trouble("silent", enemy="silent"),
    Trouble("late by 2 s", enemy="late", options={"late_s": 2.0}),
    Trouble("late by 8 s", enemy="late", options={"late_s": 8.0}),
    Trouble("comes anew every 5 s", enemy="reconnecting", options={"every_s": 5.0}),
    Trouble("its clock jumps by hours and years", orders={"clock_jumps_s": CLOCK_JUMPS_S}),
)


def _task(topology: str, *more: str) -> list[str]:
    task = ["--algorithm", "dfedsam-mgs", "--topology", topology, "--rounds", "100000"]
    for setting in (
        "model.hidden=[32]", "local.epochs=1", "data.partition.kind=iid", "node.start_timeout_s=20.0",
        "protocol.deadline_floor_s=0.5", *more,
    ):  # fmt: skip
        task += ["--set", setting]
    return task


def pace(
    started: Launcher, trouble: Trouble | None, *, seconds: float, pace_s: float
) -> tuple[float, list[str], str]:
    """Return the rounds that the untroubled do in a window, what broke, and what became of the troubled one."""
    played = trouble is not None and bool(trouble.enemy)
    names = NAMES[:-1] if played else NAMES
    seats = (TROUBLED,) if played else ()
    with ExitStack() as stack:
        arena = stack.enter_context(
            Arena(started, names, seats=seats, task=_task("ring"), orders={"pace_s": pace_s})
        )
        links = stack.enter_context(Links(arena))
        honest = [name for name in names if name != TROUBLED]
        for name in names:
            orders = trouble.orders if trouble is not None and name == TROUBLED else {}
            arena.start(name, peers=links.peers_file(name), **orders)
        if played and trouble is not None:
            arena.enemy(trouble.enemy, TROUBLED, parameters=0, rounds=100000, **trouble.options)
        if not arena.wait_until_round(3, 60, honest):
            return 0.0, [f"never began: {[arena.peers[name].said_round for name in honest]}"], ""
        first = {name: arena.peers[name].said_round for name in honest}
        began_s = time.monotonic()
        once = trouble is None or trouble.act in (_stop, _drip, _hold)
        if trouble is not None and trouble.act is not None:
            trouble.act(arena, links)
        while (now_s := time.monotonic()) < began_s + seconds:
            if trouble is not None and trouble.act is not None and not once:
                trouble.act(arena, links)
            arena.look(honest)
            time.sleep(min(0.2, max(0.0, began_s + seconds - now_s)))
        arena.look(honest)
        rounds = min(arena.peers[name].said_round - first[name] for name in honest)
        broken = [f"{name}: {what}" for name, what in arena.tracebacks().items()]
        broken += [f"{name} ended with {arena.peers[name].codes}" for name in honest if not arena.runs(name)]
        after = ""
        if not played and trouble is not None:
            after = _back(arena, links, honest, broken)
        return rounds / (time.monotonic() - began_s), broken, after


def _back(arena: Arena, links: Links, honest: list[str], broken: list[str]) -> str:
    """End the trouble; the troubled neighbour must find back to where the others are."""
    arena.signal([TROUBLED], signal.SIGCONT)
    links.set(links.of(TROUBLED), PASS)
    began_s = time.monotonic()

    def caught_up() -> bool:
        return arena.peers[TROUBLED].said_round >= max(arena.peers[name].said_round for name in honest) - 3

    if not arena.wait(caught_up, 40):
        broken.append(f"{TROUBLED} does not find back: {[p.said_round for p in arena.peers.values()]}")
        return ""
    return f"{time.monotonic() - began_s:.0f} s"


# --- partition ---


def partition(started: Launcher, *, count: int, seconds: float, pace_s: float, steady_s: float) -> Row:
    """Part `count` peers in halves, and look at how far their models are from each other."""
    names = [f"n{number}" for number in range(count)]
    halves = names[: (count + 1) // 2], names[(count + 1) // 2 :]
    spaces = Halves.possible()
    with ExitStack() as stack:
        net = stack.enter_context(Halves(names)) if spaces else None
        task = _task("exponential", "evaluate.snapshots=true", "net.backoff_max_s=2.0")
        arena = stack.enter_context(
            Arena(started, names, task=task, addresses=net and net.addresses, orders={"pace_s": pace_s})
        )
        links = None if net is not None else stack.enter_context(Links(arena))
        for name in names:
            if net is not None:
                arena.start(
                    name,
                    namespace=net.namespace(name),
                    more=["--listen", f"{net.addresses[name]}:{arena.peers[name].port}"],
                )
            elif links is not None:
                arena.start(name, peers=links.peers_file(name))
        name = f"{count} peers in halves for {seconds:g} s ({'namespaces' if spaces else 'proxies'})"
        if not arena.wait_until_round(5, 120):
            return Row(name, {}, [f"never began: {[p.said_round for p in arena.peers.values()]}"])
        arena.wait(lambda: False, steady_s, poll_s=0.5)
        parted_at = max(peer.said_round for peer in arena.peers.values())
        _part(net, links, halves)
        arena.wait(lambda: False, seconds, poll_s=0.5)
        paces = [peer.said_round - parted_at for peer in arena.peers.values()]
        _heal(net, links, halves)
        healed_s = time.monotonic()
        together = arena.wait(lambda: all(_all_up(peer) for peer in arena.peers.values()), 60, poll_s=0.2)
        waited_s = time.monotonic() - healed_s
        healed_at = max(peer.said_round for peer in arena.peers.values())
        arena.wait_until_round(healed_at + ROUNDS_TO_AGREE + 5, 60)
        distances = consensus(arena.peers.values())
        broken = [f"{who}: {what}" for who, what in arena.tracebacks().items()]
        broken += [f"{who} ended with {arena.peers[who].codes}" for who in names if not arena.runs(who)]
        return _agreement(
            name, distances, parted_at, healed_at, together, waited_s, paces, seconds / pace_s, broken
        )


def _agreement(
    name: str,
    distances: Mapping[int, float],
    parted_at: int,
    healed_at: int,
    together: bool,
    waited_s: float,
    paces: list[int],
    possible: float,
    broken: list[str],
) -> Row:
    before = [value for round, value in distances.items() if parted_at - 10 <= round < parted_at]
    parted = [value for round, value in distances.items() if parted_at < round < healed_at]
    after = {round - healed_at: value for round, value in distances.items() if round >= healed_at}
    usual = median(before) if before else float("nan")
    back = next((n for n, value in sorted(after.items()) if value <= AGREED_FACTOR * usual), None)
    if not together:
        broken.append("not everybody is connected again after 60 s")
    if back is None or back > ROUNDS_TO_AGREE:
        broken.append(f"consensus is not back within {ROUNDS_TO_AGREE} rounds ({back})")
    figures = {
        "pace": f"{mean(paces) / possible:.0%} of one training each",
        "distance before": f"{usual:.3g}",
        "parted": f"{max(parted, default=float('nan')):.3g}",
        "connected after": f"{waited_s:.1f} s",
        "back after": f"{back} rounds",
        "distances after": " ".join(f"{value:.2g}" for _, value in sorted(after.items())[:6]),
    }
    return Row(name, figures, broken)


def _part(net: Halves | None, links: Links | None, halves: tuple[list[str], list[str]]) -> None:
    if net is not None:
        net.part()
    elif links is not None:
        links.set(links.between(*halves), HOLD)


def _heal(net: Halves | None, links: Links | None, halves: tuple[list[str], list[str]]) -> None:
    if net is not None:
        net.heal()
    elif links is not None:
        links.cut(links.between(*halves))
        links.set(links.between(*halves), PASS)


def _all_up(peer: Peer) -> bool:
    return bool(peer.seen) and all(entry["up"] for entry in peer.seen["neighbours"])


def consensus(peers: Any) -> dict[int, float]:
    """Return sqrt(mean_i |x_i - mean|²) of every round of which all peers keep a snapshot."""
    folders = [peer.home / "snapshots" for peer in peers]
    rounds = set.intersection(
        *({int(path.stem[6:]) for path in folder.glob("round-*.safetensors")} for folder in folders)
    )
    return {
        round: _distance([_vector(folder / f"round-{round:08d}.safetensors") for folder in folders])
        for round in sorted(rounds)
    }


def _distance(vectors: list[np.ndarray[Any, Any]]) -> float:
    stacked = np.stack(vectors).astype(np.float64)  # (peers, parameters)
    return float(np.sqrt(((stacked - stacked.mean(axis=0)) ** 2).sum(axis=1).mean()))


def _vector(path: Path) -> np.ndarray[Any, Any]:
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    offset, end = json.loads(data[8:start])["vector"]["data_offsets"]
    return np.frombuffer(data[start + offset : start + end], "<f4")


def neighbours(started: Launcher, troubles: Sequence[Trouble], *, seconds: float, pace_s: float) -> Verdicts:
    """Hold every trouble against the run without one."""
    verdicts = Verdicts("troubled neighbours")
    if not troubles:
        return verdicts
    usual, broken, _ = pace(started, None, seconds=seconds, pace_s=pace_s)
    verdicts.add(Row("no trouble", {"rounds/s": f"{usual:.2f}"}, broken))
    for trouble in troubles:
        found, broken, after = pace(started, trouble, seconds=seconds, pace_s=pace_s)
        share = found / usual if usual else 0.0
        if share < PACE_MIN:
            broken.append(f"pace {share:.0%}")
        verdicts.add(
            Row(
                trouble.name,
                {"rounds/s": f"{found:.2f}", "pace": f"{share:.0%}", "back after": after},
                broken,
            )
        )
    return verdicts


def main(arguments: Sequence[str], started: Launcher | None = None) -> int:
    """Run the command line; where it is given, nodes are forked from `started`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="*", help="troubles whose name contains one of these; 'partition' is one"
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="the window in which rounds are counted")
    parser.add_argument("--pace-s", type=float, default=0.25, help="what training takes, at least")
    parser.add_argument("--partition-s", type=float, default=60.0)
    parser.add_argument("--peers", type=int, default=10, help="in the partition")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="one short trouble")
    given = parser.parse_args(arguments)
    words = given.only
    if given.smoke:
        words, given.seconds, given.pace_s = ["flaps"], 4.0, 0.1
    troubles = [trouble for trouble in TROUBLES if not words or any(word in trouble.name for word in words)]
    with launcher(started) as started:
        verdicts = neighbours(started, troubles, seconds=given.seconds, pace_s=given.pace_s)
        if not words or "partition" in words:
            verdicts.add(
                partition(
                    started,
                    count=given.peers,
                    seconds=given.partition_s,
                    pace_s=2 * given.pace_s,
                    steady_s=15.0,
                )
            )
    return verdicts.show(as_json=given.json)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
