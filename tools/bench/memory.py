"""How much memory does a node need for a large model? Three real `gossip-node` processes over TLS on this machine.

    python tools/bench/memory.py [--parameters 25] [--layers 2] [--algorithms dfedavg dfedavgm dfedsam-mgs] [--json]

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
import math
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from gossip.errors import NetworkError
from gossip.net.identity import Identity
from gossip.node.status import ask_status

PEERS = ("a", "b", "c")
FEATURES, CLASSES = 64, 10
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


def hidden_widths(parameters: int, layers: int) -> list[int]:
    """Return `layers` equal widths of hidden layers that give about so many parameters."""
    # parameters = w (FEATURES + CLASSES + layers) + (layers - 1) w²
    b, a = FEATURES + CLASSES + layers, layers - 1
    width = parameters / b if not a else (-b + math.sqrt(b * b + 4 * a * parameters)) / (2 * a)
    return [max(1, round(width))] * layers


def count_parameters(hidden: Sequence[int]) -> int:
    """Return how many parameters the mlp has."""
    widths = [FEATURES, *hidden, CLASSES]
    return sum((inputs + 1) * outputs for inputs, outputs in pairwise(widths))


# --- three nodes -----------------------------------------------------------------------------------


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def peak_bytes(pid: int) -> int:
    """Return the peak resident memory of a process that still runs, else 0."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    found = status.partition("VmHWM:")[2].split()
    return int(found[0]) * 1024 if found else 0


def run_nodes(
    folder: Path, algorithm: str, hidden: Sequence[int], rounds: int, steps: int
) -> dict[str, float]:
    """Run three nodes to their end; return the largest peak in bytes, the slowest status in s, and the seconds."""
    lines = [
        Identity.create(folder / name, name=name, advertise=f"127.0.0.1:{port}").peers_line()
        for name, port in zip(PEERS, free_ports(len(PEERS)), strict=True)
    ]
    (folder / "peers.txt").write_text("\n".join(lines) + "\n", encoding="ascii")
    settings = {
        "model.hidden": json.dumps(list(hidden)),
        "data.train_max": "96",
        "data.test_max": "64",
        "local.lr": "0.01",
        "local.batch_size": "8",
        "local.steps": str(steps),
        "stop.rounds": str(rounds),
        "topology.kind": "full",
        "node.linger_s": "5",
        "node.threads": "1",
    }
    processes = []
    for name in PEERS:
        command = [sys.executable, "-m", "gossip.cli", "--peers", str(folder / "peers.txt")]
        command += ["--home", str(folder / name), "--algorithm", algorithm, "--json"]
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        with (folder / f"{name}.log").open("w") as log:
            processes.append(
                subprocess.Popen(
                    command,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                )
            )
    peak, slowest_s, begin_s = 0, 0.0, time.monotonic()
    try:
        while any(process.poll() is None for process in processes):
            for name, process in zip(PEERS, processes, strict=True):
                peak = max(peak, peak_bytes(process.pid))
                asked_s = time.monotonic()
                try:
                    ask_status(folder / name)
                except NetworkError:
                    continue  # it has not begun, or has ended
                slowest_s = max(slowest_s, time.monotonic() - asked_s)
            if time.monotonic() - begin_s > RUN_S_MAX:
                raise SystemExit(f"{algorithm}: not done after {RUN_S_MAX:g} s")
            time.sleep(ASKED_EVERY_S)
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()
    if any(process.returncode for process in processes):
        logs = "\n".join((folder / f"{name}.log").read_text()[-2000:] for name in PEERS)
        raise SystemExit(f"{algorithm}: exit codes {[process.returncode for process in processes]}\n{logs}")
    return {"peak": peak, "status_s": slowest_s, "seconds": time.monotonic() - begin_s}


def measure_nodes(algorithm: str, parameters: int, layers: int, rounds: int, steps: int) -> dict[str, Any]:
    """Return one row of the table."""
    found = []
    hidden = hidden_widths(parameters, layers)
    for widths in ([1], hidden):
        with tempfile.TemporaryDirectory(prefix="gossip-memory-") as folder:
            found.append(run_nodes(Path(folder), algorithm, widths, rounds, steps))
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


def local_peak_mb(variant: Mapping[str, Any], steps: int) -> float:
    """Return the peak memory of a fresh process that does one local update of 3.7 M parameters."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_local_peak_mb, (dict(variant), steps))


def _local_peak_mb(variant: dict[str, Any], steps: int) -> float:
    import torch

    from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
    from gossip.learning.task import Task

    torch.set_num_threads(1)
    local = LocalSettings(lr=0.01, batch_size=8, steps=steps, **variant)
    hidden = tuple(hidden_widths(3_700_000, 2))
    task = Task(
        data=DataSettings(train_max=64),
        model=ModelSettings(hidden=hidden),
        local=local,
        seed=1,
        folder=Path(),
    )
    shard = task.shard(0, 1)
    task.local_training().run(task.initial(), shard.x, shard.y, seed=1, peer="a", round=0)
    return peak_bytes(os.getpid()) / 1e6


def measure_local() -> list[dict[str, Any]]:
    """Return the rows of 5 and 500 steps."""
    variants: Mapping[str, Mapping[str, Any]] = {
        "sgd": {},
        "momentum": {"momentum": 0.9},
        "sam": {"sam_rho": 0.05},
    }
    return [
        {
            "local update": name,
            **{f"{steps} steps, MB": round(local_peak_mb(variant, steps)) for steps in (5, 500)},
        }
        for name, variant in variants.items()
    ]


def main() -> None:
    """Measure and print the tables."""
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
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if options.only != "local":
        for algorithm in options.algorithms:
            rows.append(
                measure_nodes(
                    algorithm, int(options.parameters * 1e6), options.layers, options.rounds, options.steps
                )
            )
            if not options.json:
                print(_line(rows[-1]), flush=True)
    if options.only != "nodes":
        for row in measure_local():
            rows.append(row)
            if not options.json:
                print(_line(row), flush=True)
    if options.json:
        json.dump(rows, sys.stdout, indent=1)
        print()


def _line(row: Mapping[str, Any]) -> str:
    return " · ".join(f"{key} {value}" for key, value in row.items())


if __name__ == "__main__":
    main()
