"""Many nodes on one machine, or a model that is large for it: do they come to their end, and at what cost?

    python tools/torture/load.py [--peers 64] [--rounds 20]      many nodes, a small model
    python tools/torture/load.py --parameters 100000000         three nodes, a large one
    further: [--json] [--smoke]

With a large model the measurement is that of `tools/bench/memory.py`, which also says where each copy is: the most
memory of a node less that of the same run with a tiny model, over the bytes of the model, while `status` is asked four
times a second.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from statistics import mean

from arena import HERE, Arena, launcher, percentile
from verdicts import Row, Verdicts

from scenarios.processes.launcher import Launcher

MODELS_MAX = 4.0
STATUS_S_MAX = 0.3
LARGE_FROM = 25_000_000
"""Below it what has nothing to do with the model weighs too much for a ratio to say anything."""
LAYERS, ROUNDS, STEPS = 2, 3, 3
"""Of the large run: nearly all of the model is one matrix, and a round is a few steps."""


def run(started: Launcher, *, peers: int, rounds: int, hidden: Sequence[int], seconds: float) -> Row:
    """Run to the end."""
    names = [f"n{number:02d}" for number in range(peers)]
    task = ["--algorithm", "dfedavg", "--topology", "exponential", "--rounds", str(rounds)]
    for setting in (
        f"model.hidden={list(hidden)}", "local.epochs=", "local.steps=10", "local.batch_size=8",
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


def large(algorithm: str, parameters: int) -> Row:
    """Measure three nodes with a large model."""
    sys.path.insert(0, str(HERE.parent / "bench"))
    from memory import measure_nodes

    found = measure_nodes(algorithm, parameters, LAYERS, ROUNDS, STEPS)
    models, status_s = float(found["× model"]), float(found["status s"])
    broken = [f"{models:.1f} models' worth of memory"] if models > MODELS_MAX else []
    broken += [f"status took {status_s:.2f} s"] if status_s > STATUS_S_MAX else []
    return Row(f"3 nodes, {algorithm}", {name: str(value) for name, value in found.items()}, broken)


def main(arguments: Sequence[str], started: Launcher | None = None) -> int:
    """Run the command line; where it is given, nodes are forked from `started`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--algorithms", nargs="*", default=["dfedavg"], help="of the large model")
    parser.add_argument("--parameters", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=600.0, help="longer is not waited for")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="three nodes")
    given = parser.parse_args(arguments)
    if given.smoke:
        given.peers, given.rounds, given.parameters, given.seconds = 3, 2, 0, 60.0
    verdicts = Verdicts("load")
    if given.parameters >= LARGE_FROM:
        for algorithm in given.algorithms:
            verdicts.add(large(algorithm, given.parameters))
        return verdicts.show(as_json=given.json)
    with launcher(started) as started:
        verdicts.add(run(started, peers=given.peers, rounds=given.rounds, hidden=[16], seconds=given.seconds))
    return verdicts.show(as_json=given.json)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
