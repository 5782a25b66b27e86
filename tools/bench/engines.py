"""Is the virtual engine of this working tree slower than another commit's? Both beside one plain loop, in short turns.

    python tools/bench/engines.py [--compare REV] [--turns 15] [--json] [--smoke]

The work is that of `virtual.py`. The plain loop, the engine of REV (default: HEAD) and the engine here each have a
process that stays, and take turns of about a second, in the opposite order every other time: what slows the machine
down for longer slows all three, and nothing that one allocates is in another's way. Of each turn come two ratios to the
same plain loop, and their quotient. Processor time is told, which a busy neighbour moves less than seconds.

A row holds where the median of the quotients is at most `WORSE` below 1; the exit code is 1 where one does not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from all import ROOT, checked_out

WORSE = 0.03
"""So much slower than the other commit's an engine may be."""

PLANS: Sequence[tuple[str, int, int]] = (
    ("one step", 1000, 4),
    ("one step", 100, 40),
    ("5 steps, SAM", 100, 15),
)
"""Workload, peers, rounds of one turn."""

WHO = ("plain", "there", "here")

RUNNER = """
import gc, json, sys, time
from learning import plain_loop
from virtual import Engine
import torch
torch.set_num_threads(1)
what, workload, peers, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
if what == "plain":
    loop = plain_loop(workload, peers)
    prepare = lambda: lambda: loop(rounds)
else:
    prepare = Engine(workload, peers, rounds).prepare
for _ in sys.stdin:
    go = prepare()
    gc.collect()
    gc.freeze()
    began, used = time.perf_counter(), time.process_time()
    go()
    print(json.dumps([time.process_time() - used, time.perf_counter() - began]), flush=True)
"""
"""What each of the three processes runs, with the modules of its own commit."""


class Runner:
    """A process that measures one turn whenever it is asked to."""

    def __init__(self, root: Path, what: str, plan: tuple[str, int, int]) -> None:
        path = os.pathsep.join((str(root), str(root / "tools" / "bench")))
        self._process = subprocess.Popen(
            [sys.executable, "-c", RUNNER, what, *map(str, plan)],
            cwd=root,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def turn(self) -> tuple[float, float]:
        """Return processor time and seconds of one turn."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        said = self._process.stdout.readline()
        if not said:
            raise SystemExit(f"a process of {self._process.args[3]} ended: {self._process.wait()}")  # type: ignore[index]
        used_s, took_s = json.loads(said)
        return used_s, took_s

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


def compare(plan: tuple[str, int, int], roots: dict[str, Path], turns: int) -> dict[str, Any]:
    """Return one row: µs of processor time a node-round, ratios to the plain loop, and the turns' quotients."""
    with contextlib.ExitStack() as stack:
        runners = {}
        for who in WHO:
            runners[who] = Runner(roots[who], "plain" if who == "plain" else "engine", plan)
            stack.callback(runners[who].close)
        for runner in runners.values():
            runner.turn()  # warms caches up
        used: dict[str, list[float]] = {who: [] for who in WHO}
        for turn in range(turns):
            for who in WHO if turn % 2 else reversed(WHO):
                used[who].append(runners[who].turn()[0])
    workload, peers, rounds = plan
    quotients = sorted(there / here for there, here in zip(used["there"], used["here"], strict=True))
    return {
        "what": f"{peers} peers, {workload}",
        **{f"{who}, us": 1e6 * statistics.median(used[who]) / (peers * rounds) for who in WHO},
        **{
            f"× plain loop, {who}": statistics.median(
                plain / engine for plain, engine in zip(used["plain"], used[who], strict=True)
            )
            for who in WHO[1:]
        },
        "here / there": statistics.median(quotients),
        "half of them": [quotients[len(quotients) // 4], quotients[-1 - len(quotients) // 4]],
        "holds": statistics.median(quotients) >= 1 - WORSE,
    }


def show(rows: Sequence[dict[str, Any]], compared: str) -> None:
    """Print the table."""
    print(f"{'':28}{'µs a node-round':>26}{'× plain loop':>18}{'here /':>10}")
    print(
        f"{'':28}{'plain':>8}{'there':>9}{'here':>9}{'there':>9}{'here':>9}{'there':>10}  half of the turns"
    )
    for row in rows:
        low, high = row["half of them"]
        print(
            f"{row['what']:28}"
            + "".join(f"{row[f'{who}, us']:{8 if who == 'plain' else 9}.1f}" for who in WHO)
            + "".join(f"{row[f'× plain loop, {who}']:9.2f}" for who in WHO[1:])
            + f"{row['here / there']:10.3f}  {low:.3f} to {high:.3f}"
            + ("" if row["holds"] else f"   slower than {compared} by more than {WORSE:.0%}")
        )


def main(arguments: Sequence[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--compare", metavar="REV", default="HEAD", help="the other commit; default: HEAD")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--smoke", action="store_true", help="this tree beside itself, a few rounds: to see that it works"
    )
    options = parser.parse_args(arguments)
    plans = [("one step", 10, 2)] if options.smoke else PLANS
    with contextlib.ExitStack() as stack:
        there = ROOT if options.smoke else stack.enter_context(checked_out(options.compare))
        roots = {"plain": ROOT, "there": there, "here": ROOT}
        rows = [compare(plan, roots, 2 if options.smoke else options.turns) for plan in plans]
    if options.json:
        print(json.dumps(rows, indent=1))
    else:
        show(rows, options.compare)
    return int(not options.smoke and not all(row["holds"] for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
