"""Many nodes on one machine, or a model that is large for it: do they come to their end, and at what cost?

    python tools/torture/load.py [--peers 64] [--rounds 5]                     many nodes, a small model
    python tools/torture/load.py --parameters 100000000 [--peers 3]            few nodes, a large one
    further: [--json] [--smoke]

With a large model the most memory of a node is held against that of the same run with a tiny one, and divided by the
bytes of the model: how many models' worth a node takes beyond what it takes anyhow. `tools/bench/memory.py` says
where each of them is. `status` is asked all the time.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from statistics import mean

from arena import Arena, launcher, percentile
from verdicts import Row, Verdicts

from scenarios.engines.launcher import Launcher

MODELS_MAX = 4.0
STATUS_S_MAX = 0.3
LARGE_FROM = 1_000_000
INPUTS, CLASSES = 64, 10
"""Of the embedded digits."""


def hidden_for(parameters: int) -> int:
    """Return h of an MLP 64-h-h-10 with about so many parameters: h² + 76 h + 10."""
    h = -(INPUTS + CLASSES + 2) / 2 + math.sqrt(((INPUTS + CLASSES + 2) / 2) ** 2 + parameters - CLASSES)
    return max(1, round(h))


def run(started: Launcher, *, peers: int, rounds: int, hidden: Sequence[int], seconds: float) -> Row:
    """Run to the end."""
    names = [f"n{number:02d}" for number in range(peers)]
    task = ["--algorithm", "dfedavg", "--topology", "exponential", "--rounds", str(rounds)]
    for setting in (
        f"model.hidden={list(hidden)}", "local.epochs=", "local.steps=2", "local.batch_size=8",
        f"node.start_timeout_s={seconds}",
        "node.linger_s=120.0", "data.partition.kind=iid",
    ):  # fmt: skip
        task += ["--set", setting]
    with Arena(started, names, task=task) as arena:
        began_s = time.monotonic()
        arena.start()
        ended = arena.wait_until_ended(seconds)
        took_s = time.monotonic() - began_s
        codes = sorted({code for peer in arena.peers.values() for code in peer.codes})
        summaries = [peer.summary() for peer in arena.peers.values()]
        done = [int(summary.get("rounds", -1)) for summary in summaries]
        broken = [f"{name}: {what}" for name, what in arena.tracebacks().items()]
        if not ended:
            broken.append(
                f"not at the end after {seconds:g} s: rounds {sorted({p.said_round for p in arena.peers.values()})}"
            )
        elif codes != [0] or min(done) < rounds:
            broken.append(f"exit codes {codes}, rounds {sorted(set(done))}")
        hwm = max(peer.hwm_bytes for peer in arena.peers.values())
        figures = {
            "seconds": f"{took_s:.0f}",
            "accuracy": f"{mean(float(summary.get('accuracy') or 0) for summary in summaries):.3f}",
            "VmHWM MB": f"{hwm / 1e6:.0f}",
            "status ms": f"{1e3 * percentile(arena.latencies_s, 0.5):.0f}",
            "longest": f"{1e3 * max(arena.latencies_s, default=0):.0f}",
            "answers": str(len(arena.latencies_s)),
        }
        parameters = arena.parameters(names[0])
    return Row(f"{peers} nodes, {parameters:,} parameters, {rounds} rounds", figures, broken)


def load(started: Launcher, *, peers: int, rounds: int, parameters: int, seconds: float) -> Verdicts:
    """Run with a small model, and, where a large one is asked for, with that too."""
    verdicts = Verdicts("load")
    small = run(started, peers=peers, rounds=rounds, hidden=[16], seconds=seconds)
    verdicts.add(small)
    if parameters < LARGE_FROM:
        return verdicts
    h = hidden_for(parameters)
    large = run(started, peers=peers, rounds=rounds, hidden=[h, h], seconds=seconds)
    beyond_mb = float(large.figures["VmHWM MB"]) - float(small.figures["VmHWM MB"])
    models = beyond_mb * 1e6 / (4 * (h * h + (INPUTS + CLASSES + 2) * h + CLASSES))
    broken = list(large.broken)
    if models > MODELS_MAX:
        broken.append(f"{models:.1f} models' worth of memory")
    if float(large.figures["longest"]) > 1e3 * STATUS_S_MAX:
        broken.append(f"status took {large.figures['longest']} ms")
    verdicts.add(Row(large.name, {**large.figures, "models": f"{models:.1f}"}, broken))
    return verdicts


def main(arguments: Sequence[str]) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", type=int, help="default: 64; 3 with a large model")
    parser.add_argument("--rounds", type=int, help="default: 5; 2 with a large model")
    parser.add_argument("--parameters", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=600.0, help="longer is not waited for")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="three nodes")
    given = parser.parse_args(arguments)
    large = given.parameters >= LARGE_FROM
    peers, rounds = given.peers or (3 if large else 64), given.rounds or (2 if large else 5)
    if given.smoke:
        peers, rounds, given.parameters, given.seconds = 3, 2, 0, 60.0
    with launcher() as started:
        verdicts = load(
            started, peers=peers, rounds=rounds, parameters=given.parameters, seconds=given.seconds
        )
    return verdicts.show(as_json=given.json)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
