"""How much memory does a node need for a large model? Three real `gossip-node` processes over TLS on this machine.

    python tools/bench/memory.py [--parameters 25] [--layers 2] [--algorithms dfedavg dfedavgm dfedsam-mgs]
                                 [--json] [--smoke]

Each algorithm runs twice on a full graph of three: with an mlp of one hidden unit, and with one of so many million
parameters; tiny shards, so that a round is a few steps. What is told of the larger run is, over its three nodes,

    × model      peak resident memory (VmHWM) less that of the small run, over the bytes of the model: interpreter,
                 torch, data and sockets are in both
    sum          the vectors that there are at the peak, by the design (`COPIES`)
    status       the slowest answer to `gossip-node status`, asked four times a second: how long the loop stood still

Below it, local updates alone, in processes of their own: a model of 3.7 M parameters and 5 or 500 steps a round.
Linux only, because of /proc.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nodes import Nodes, count_parameters, hidden_widths

from gossip.errors import NetworkError
from gossip.node.status import ask_status
from scenarios.processes.launcher import Launcher

ASKED_EVERY_S = 0.25
RUN_S_MAX = 900.0

COPIES: Mapping[str, Sequence[str]] = {
    "dfedavg": ("own model", "gradient", "two neighbours' models that came meanwhile"),
    "dfedavgm": ("own model", "gradient", "momentum", "two neighbours' models that came meanwhile"),
    "dfedsam-mgs": (
        "own model",
        "its perturbed copy",
        "gradient",
        "two neighbours' models that came meanwhile",
    ),
}
"""Where each copy is at the peak, which is the end of training at the slowest of the three. One more where the disk is
slower than training: the model of before, whose checkpoint is still being written. One or two more for a neighbour that
takes models more slowly than they are made (`[net] queue_models_max`)."""


# --- three nodes -----------------------------------------------------------------------------------


def peak_bytes(pid: int) -> int:
    """Return the peak resident memory of a process that still runs, else 0."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    found = status.partition("VmHWM:")[2].split()
    return int(found[0]) * 1024 if found else 0


def run_nodes(
    folder: Path,
    algorithm: str,
    hidden: Sequence[int],
    rounds: int,
    steps: int,
    started: Launcher | None = None,
) -> dict[str, float]:
    """Run three nodes to their end; return the largest peak in bytes, the slowest status in s, and the seconds."""
    settings = {
        "model.hidden": list(hidden),
        "local.steps": steps,
        "stop.rounds": rounds,
        "node.linger_s": 5,
    }
    peak, slowest_s, begin_s = 0, 0.0, time.monotonic()
    with Nodes(folder, algorithm, settings, started=started) as nodes:
        while left := nodes.running(ASKED_EVERY_S):
            for home, pid in left:
                peak = max(peak, peak_bytes(pid))
                asked_s = time.monotonic()
                try:
                    ask_status(home)
                except NetworkError:
                    continue  # it has not begun, or has ended
                slowest_s = max(slowest_s, time.monotonic() - asked_s)
            if time.monotonic() - begin_s > RUN_S_MAX:
                raise SystemExit(f"{algorithm}: not done after {RUN_S_MAX:g} s")
    if any(nodes.codes.values()):
        logs = "\n".join(log.read_text()[-2000:] for log in nodes.logs)
        raise SystemExit(f"{algorithm}: exit codes {nodes.codes}\n{logs}")
    return {"peak": peak, "status_s": slowest_s, "seconds": time.monotonic() - begin_s}


def measure_nodes(
    algorithm: str, parameters: int, layers: int, rounds: int, steps: int, started: Launcher | None = None
) -> dict[str, Any]:
    """Return one row of the table."""
    found = []
    hidden = hidden_widths(parameters, layers)
    for widths in ([1], hidden):
        with tempfile.TemporaryDirectory(prefix="gossip-memory-") as folder:
            found.append(run_nodes(Path(folder), algorithm, widths, rounds, steps, started))
    small, large = found
    copies = COPIES.get(algorithm, ())
    return {
        "algorithm": algorithm,
        "parameters": count_parameters(hidden),
        "small run MB": round(small["peak"] / 1e6),
        "peak MB": round(large["peak"] / 1e6),
        "× model": round((large["peak"] - small["peak"]) / (4 * count_parameters(hidden)), 2),
        "sum": sum(2 if copy.startswith("two") else 1 for copy in copies),
        "copies": ", ".join(copies),
        "status s": round(large["status_s"], 2),
        "seconds": round(large["seconds"], 1),
    }


# --- local updates alone ---------------------------------------------------------------------------


def local_peak_mb(variant: Mapping[str, Any], steps: int, parameters: int) -> float:
    """Return the peak memory of a fresh process that does one local update of a model of that size."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(peak_mb_of_update, (dict(variant), steps, parameters))


def peak_mb_of_update(variant: Mapping[str, Any], steps: int, parameters: int) -> float:
    """Return the peak memory of this process after one local update."""
    import torch

    from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
    from gossip.learning.task import Task

    torch.set_num_threads(1)
    local = LocalSettings(lr=0.01, batch_size=8, steps=steps, **variant)
    task = Task(
        data=DataSettings(train_max=64),
        model=ModelSettings(hidden=tuple(hidden_widths(parameters, 2))),
        local=local,
        seed=1,
        folder=Path(),
    )
    shard = task.shard(0, 1)
    task.local_training().run(task.initial(), shard.x, shard.y, seed=1, peer="a", round=0)
    return peak_bytes(os.getpid()) / 1e6


def measure_local(
    steps: Sequence[int], parameters: int, measure: Callable[..., float]
) -> list[dict[str, Any]]:
    """Return the rows."""
    variants: Mapping[str, Mapping[str, Any]] = {
        "sgd": {},
        "momentum": {"momentum": 0.9},
        "sam": {"sam_rho": 0.05},
    }
    return [
        {
            "local update": name,
            **{f"{number} steps, MB": round(measure(variant, number, parameters)) for number in steps},
        }
        for name, variant in variants.items()
    ]


def main(arguments: Sequence[str], started: Launcher | None = None) -> int:
    """Measure and print the tables.

    Args:
        arguments: of the command line.
        started: starts the nodes; they share then what it has in memory, so it is for `--smoke` only.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--parameters", type=float, default=25.0, help="in millions")
    parser.add_argument(
        "--layers", type=int, default=2, help="hidden ones; 2: nearly all of the model is one matrix"
    )
    parser.add_argument("--algorithms", nargs="*", default=list(COPIES))
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--only", choices=("nodes", "local"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--smoke", action="store_true", help="a small model and one algorithm: to see that it works"
    )
    options = parser.parse_args(arguments)
    steps, parameters, measure = (5, 500), 3_700_000, local_peak_mb
    if options.smoke:
        options.parameters, options.algorithms, options.rounds = 0.001, ["dfedavg"], 1
        steps, parameters, measure = (1, 2), 1000, peak_mb_of_update
    rows: list[dict[str, Any]] = []

    def tell(row: dict[str, Any]) -> None:
        rows.append(row)
        if not options.json:
            print(" · ".join(f"{key} {value}" for key, value in row.items()), flush=True)

    if options.only != "local":
        for algorithm in options.algorithms:
            size = int(options.parameters * 1e6)
            tell(measure_nodes(algorithm, size, options.layers, options.rounds, options.steps, started))
    if options.only != "nodes":
        for row in measure_local(steps, parameters, measure):
            tell(row)
    if options.json:
        json.dump(rows, sys.stdout, indent=1)
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
