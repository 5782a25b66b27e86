"""Half an hour of churn: does a node that lives through it hold on to memory, descriptors, threads or tasks?

    python tools/torture/soak.py [--minutes 30] [--peers 8] [--plot soak.png] [--json] [--smoke]

Half of the peers are killed, stopped for a while, interrupted and started again, one every other second; the others
live through it, and are sampled. From a third of the time on, but minute 5 at the latest, what they hold may not grow
by more than 5 % (and a little, for what comes in whole pieces): the median of the last sixth of the time against that
of the first sixth after settling. Memory is what is private to the process and written to (`Private_Dirty`), since
nodes are forked.
"""

from __future__ import annotations

import argparse
import random
import re
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from arena import Arena, launcher
from verdicts import Row, Verdicts

from scenarios.processes.launcher import Launcher

GROWTH_MAX = 0.05
SLACK = {"memory MB": 2.0, "descriptors": 2.0, "threads": 1.0, "tasks": 4.0}
"""One more of what is held for a moment is no leak."""
SETTLED_S_MAX = 300.0
CHURN_S = 2.0


def sample(arena: Arena, name: str) -> dict[str, float]:
    """Return what a node holds, {} where it cannot be seen."""
    process = Path(f"/proc/{arena.pid(name)}")
    try:
        dirty = re.search(r"Private_Dirty:\s+(\d+)", (process / "smaps_rollup").read_text())
        found = {
            "memory MB": int(dirty[1]) / 1000 if dirty else 0.0,
            "descriptors": float(len(list((process / "fd").iterdir()))),
            "threads": float(len(list((process / "task").iterdir()))),
        }
    except OSError:
        return {}
    said = arena.ask(name)
    return {**found, "tasks": float(said["tasks"])} if said else {}


class Churn:
    """Something happens to one of the mortals every `CHURN_S`."""

    def __init__(self, arena: Arena, mortals: Sequence[str], seed: int) -> None:
        self._arena, self._mortals, self._draw = arena, mortals, random.Random(seed)
        self._stopped: set[str] = set()
        self.count = 0

    def strike(self) -> None:
        """Kill, stop, let go on, interrupt or start."""
        arena, name = self._arena, self._draw.choice(self._mortals)
        self.count += 1
        if not arena.runs(name):
            arena.start(name)
        elif name in self._stopped:
            self._stopped.discard(name)
            arena.signal([name], signal.SIGCONT)
        else:
            number = self._draw.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP, signal.SIGHUP))
            if number == signal.SIGHUP and not arena.peers[name].seen:
                return  # it would end a process that does not listen to signals yet
            if number == signal.SIGSTOP:
                self._stopped.add(name)
            arena.signal([name], number)


def soak(started: Launcher, *, minutes: float, peers: int, pace_s: float, plot: Path | None) -> Verdicts:
    """Run, sample, compare."""
    names = [f"n{number}" for number in range(peers)]
    living = names[::2]
    task = ["--algorithm", "dfedsam-mgs", "--topology", "exponential", "--rounds", "1000000"]
    for setting in (
        "model.hidden=[32]", "local.epochs=1", "data.partition.kind=iid", "node.start_timeout_s=10.0",
        "protocol.deadline_floor_s=0.5", "net.backoff_max_s=2.0",
    ):  # fmt: skip
        task += ["--set", setting]
    orders = {"pace_s": pace_s, "count_tasks": True}
    samples: list[tuple[float, str, dict[str, float]]] = []
    verdicts = Verdicts(f"{minutes:g} minutes of churn, {peers} peers")
    with Arena(started, names, task=task, orders=orders) as arena:
        arena.start()
        arena.wait_until_round(3, 90, living)
        churn, began_s = (
            Churn(arena, [name for name in names if name not in living], seed=0),
            time.monotonic(),
        )
        struck_s = sampled_s = 0.0
        while (passed_s := time.monotonic() - began_s) < 60 * minutes:
            arena.reap(0.1)
            if passed_s - struck_s >= CHURN_S:
                struck_s = passed_s
                churn.strike()
            if passed_s - sampled_s >= min(2.0, minutes * 60 / 30):
                sampled_s = passed_s
                samples += [(passed_s, name, held) for name in living if (held := sample(arena, name))]
        broken = [f"{name} ended with {arena.peers[name].codes}" for name in living if not arena.runs(name)]
        broken += [f"{name}: {what}" for name, what in arena.tracebacks().items()]
        rounds = [arena.peers[name].said_round for name in living]
        verdicts.add(
            Row("churn", {"strikes": str(churn.count), "rounds": f"{min(rounds)}–{max(rounds)}"}, broken)
        )
    for name in living:
        verdicts.add(_row(name, [(at, held) for at, who, held in samples if who == name], 60 * minutes))
    if plot is not None:
        _draw(samples, plot)
    return verdicts


def _row(name: str, samples: list[tuple[float, dict[str, float]]], seconds: float) -> Row:
    settled_s, window_s = min(SETTLED_S_MAX, seconds / 3), seconds / 6
    figures, broken = {}, []
    for what, slack in SLACK.items():
        first = [held[what] for at, held in samples if settled_s <= at < settled_s + window_s]
        last = [held[what] for at, held in samples if at >= seconds - window_s]
        if not first or not last:
            broken.append("too few samples")
            break
        before, after = median(first), median(last)
        figures[what] = f"{before:.1f} → {after:.1f}"
        if after > before * (1 + GROWTH_MAX) + slack:
            broken.append(f"{what} {before:.1f} → {after:.1f}")
    return Row(name, figures, broken)


def _draw(samples: list[tuple[float, str, dict[str, float]]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(SLACK), 1, sharex=True, figsize=(8, 9))
    for axis, what in zip(axes, SLACK, strict=True):
        for name in sorted({who for _, who, _ in samples}):
            points = [(at / 60, held[what]) for at, who, held in samples if who == name]
            axis.plot(*zip(*points, strict=True), label=name, linewidth=1)
        axis.set_ylabel(what)
        axis.set_ylim(bottom=0)
    axes[0].legend(ncols=4, fontsize="small")
    axes[-1].set_xlabel("minutes")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, bbox_inches="tight")
    print(f"plot: {path}", file=sys.stderr)


def main(arguments: Sequence[str], started: Launcher | None = None) -> int:
    """Run the command line; where it is given, nodes are forked from `started`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--peers", type=int, default=8)
    parser.add_argument("--pace-s", type=float, default=0.2, help="what training takes, at least")
    parser.add_argument("--plot", type=Path, default=Path("runs/soak.png"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="some seconds, without a plot")
    given = parser.parse_args(arguments)
    if given.smoke:
        given.minutes, given.peers, given.pace_s, given.plot = 0.2, 4, 0.1, None
    with launcher(started) as started:
        verdicts = soak(
            started, minutes=given.minutes, peers=given.peers, pace_s=given.pace_s, plot=given.plot
        )
    return verdicts.show(as_json=given.json)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
