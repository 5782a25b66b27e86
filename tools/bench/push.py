"""What does gossip learning cost in the virtual engine, where nobody is in step? Beside rounds on the same graph.

    python tools/bench/push.py [--peers 50 1000] [--updates 200 20] [--json] [--smoke]

The work is the scenario `vanishing-variance`: MLP 64-128-128-128-10, single steps with momentum kept, every update
pushed to eight neighbours, a merge of nine models for each update, no evaluation, one thread. `rounds` does the same
local updates and averages in step, where each level of the graph of requests holds all peers.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import torch

from scenarios import scenario as scenario_files
from scenarios.processes.averages import load_task
from scenarios.virtual.engine import VirtualRun
from scenarios.virtual.quiet import quiet_collector

ROUNDS = {"protocol.kind": "rounds", "protocol.gossip_steps": 1}
MERGES = ("average", "variance-corrected")


class Unmeasured:
    """Evaluates nothing."""

    def round_completed(self, peer: object, event: object, now_s: float) -> bool:
        return False


def measure(peers: int, updates: int, values: dict[str, Any]) -> dict[str, Any]:
    """Return seconds of the processor for one run, and what it did."""
    base = {"scenario.peers": peers, "stop.rounds": updates}
    settings = scenario_files.load("vanishing-variance", values=base | values)
    run = VirtualRun(settings, load_task(settings), measure=Unmeasured())
    with quiet_collector():
        begin_s = time.process_time()
        run.simulation.start()
        run.simulation.run()
        run.learning.flush()
        seconds = time.process_time() - begin_s
    return {
        "protocol": settings.protocol.kind,
        "merge": settings.merge.kind,
        "peers": peers,
        "updates": updates,
        "events": run.simulation.processed,
        "seconds": round(seconds, 2),
        "ms_per_update": round(1e3 * seconds / peers / updates, 3),
    }


def main(arguments: Sequence[str]) -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", type=int, nargs="+", default=[50, 1000])
    parser.add_argument("--updates", type=int, nargs="+", default=[200, 20], help="one for each of --peers")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="few peers and updates: to see that it works")
    options = parser.parse_args(arguments)
    if options.smoke:
        options.peers, options.updates = [10], [2]
    torch.set_num_threads(1)
    results = []
    for peers, updates in zip(options.peers, options.updates, strict=True):
        for merge in MERGES:
            for protocol in ({}, ROUNDS):
                result = measure(peers, updates, {"merge.kind": merge, **protocol})
                results.append(result)
                if not options.json:
                    print(
                        f"{peers:6} peers, {updates:4} updates, {merge:18} {result['protocol']:7} "
                        f"{result['seconds']:7.2f} s {result['ms_per_update']:7.3f} ms per update "
                        f"{result['events']:9,} events",
                        flush=True,
                    )
    if options.json:
        print(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
