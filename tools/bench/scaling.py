"""What does one more simulated peer cost? Seconds per peer at ever more peers, which must not grow.

    python tools/bench/scaling.py [--peers 2000,4000,8000,16000] [--rounds 2] [--topology regular] [--json] [--smoke]
    python tools/bench/scaling.py --peers 10000 --rounds 5 --model mlp --every 1

Each number of peers runs in a process of its own: logistic regression on 64 features in 10 classes, two samples a
peer, a sparse graph, one thread, two rounds, evaluated at the end. The columns are CPU microseconds per peer of

    load      reading and checking the scenario, its samples and their division
    set up    the virtual engine with all peers
    rounds    local updates, messages, merges
    end       the final evaluation and the records
    write     the run folder before and after, summary included
    report    reading it again, figures and page
    graph     what `gossip-scenario topology` tells

and of all that

    models    all peers' local updates, averages and evaluations, which no faster simulation could leave out

`growth` is the sum per peer over that of the smallest number: 1.0 is a cost that is linear.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

SIZES = (2000, 4000, 8000, 16_000)
SMOKE_PEERS = (20, 40)
SAMPLES_PER_PEER, FEATURES, CLASSES, TESTED = 2, 64, 10, 1000
PHASES = ("load", "set up", "rounds", "end", "write", "report", "graph")
MODELS = "models"


def blobs(peers: int) -> tuple[Any, Any, Any, Any]:
    """Return samples of so many peers."""
    import numpy as np

    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CLASSES, FEATURES)).astype(np.float32)

    def draw(count: int) -> tuple[Any, Any]:
        labels = rng.integers(0, CLASSES, count)
        return centres[labels] + rng.standard_normal((count, FEATURES), dtype=np.float32), labels

    return *draw(SAMPLES_PER_PEER * peers), *draw(TESTED)


def of_environment() -> tuple[Any, Any, Any, Any]:
    """Return the samples of as many peers as the environment says; a scenario's source takes no arguments."""
    return blobs(int(os.environ["SCALING_PEERS"]))


class Work(NamedTuple):
    """What is run, but for how many peers."""

    rounds: int
    topology: str
    model: str
    every: int

    def values(self, peers: int) -> dict[str, Any]:
        """Return the settings of so many."""
        return {
            "scenario.peers": peers,
            "scenario.algorithm": "dfedavg",
            "model.name": self.model,
            "data.source": f"python:{Path(__file__).resolve()}:of_environment",
            "data.partition": {"kind": "iid"},
            "topology.kind": self.topology,
            "local.epochs": 1,
            "stop.rounds": self.rounds,
            "evaluate.every": self.every,
        }


def timed(learning: Any, seconds: dict[str, float]) -> None:
    """Have what peers' models take added up: all but means of them is computed in these two."""
    inside = 0

    def around(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            nonlocal inside
            inside += 1
            began = time.process_time()
            try:
                return function(*arguments)
            finally:
                inside -= 1
                if not inside:
                    seconds[MODELS] += time.process_time() - began

        return call

    learning.evaluate, learning.deferred.flush = around(learning.evaluate), around(learning.deferred.flush)


def measure(peers: int, work: Work) -> dict[str, float]:
    """Run so many peers in this process; return CPU seconds by phase, and the peak of memory in MB."""
    import torch
    from virtual import peak_mb

    from scenarios import scenario as scenario_files
    from scenarios.processes.averages import load_task
    from scenarios.reports.page import write_report
    from scenarios.run_folder import REPORT, RunFolder
    from scenarios.summary import summarise
    from scenarios.virtual.engine import VirtualRun
    from scenarios.virtual.quiet import quiet_collector
    from topologies import describe

    torch.set_num_threads(1)
    os.environ["SCALING_PEERS"] = str(peers)
    seconds: dict[str, float] = dict.fromkeys((*PHASES, MODELS), 0.0)

    @contextmanager
    def phase(name: str) -> Iterator[None]:
        began = time.process_time()
        yield
        seconds[name] += time.process_time() - began

    with phase("load"):
        settings = scenario_files.load("quickstart", values=work.values(peers))
        task = load_task(settings)
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place) / "run")
        with phase("write"):
            folder.begin(settings)
        with quiet_collector():
            with phase("set up"):
                run = VirtualRun(settings, task)
                run.simulation.start()
            timed(run.learning, seconds)
            with phase("rounds"):
                run.simulation.run()
                run.learning.flush()
            with phase("end"):
                run.measurements.finish()
                records = run.records()
        seconds["peak MB"] = peak_mb()
        with phase("write"):
            summary = summarise(settings, records, engine="virtual", wall_seconds=0.0)
            folder.finish(records, summary)
        with phase("report"):
            write_report([folder.path], folder.path / REPORT)
        folder.release()
    with phase("graph"):
        describe(settings.graphs())
    return seconds


def in_fresh_process(peers: int, work: Work) -> dict[str, float]:
    """Do the same in a process of its own."""
    told = [f"--{name}={value}" for name, value in work._asdict().items()]
    job = [sys.executable, __file__, "--job", "--peers", str(peers), *told]
    done = subprocess.run(job, check=True, stdout=subprocess.PIPE, text=True)
    said: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return said


def main(arguments: Sequence[str]) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", default=",".join(map(str, SIZES)))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--topology", default="regular")
    parser.add_argument("--model", default="logistic", help="logistic, mlp, …")
    parser.add_argument("--every", type=int, help="evaluate each so many rounds; default: the last")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="few peers: to see that it works")
    parser.add_argument("--job", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    sizes = SMOKE_PEERS if options.smoke else tuple(map(int, options.peers.split(",")))
    work = Work(options.rounds, options.topology, options.model, options.every or options.rounds)
    if options.job:
        print(json.dumps(measure(sizes[0], work)))
        return 0
    one: Callable[[int, Work], dict[str, float]] = measure if options.smoke else in_fresh_process
    rows: list[dict[str, float]] = []
    if not options.json:
        print(
            f"{'peers':>8}"
            + "".join(f"{name:>10}" for name in PHASES)
            + f"{'sum':>10}{'models':>10}{'growth':>8}{'peak':>9}"
        )
    for peers in sizes:
        said = one(peers, work)
        per_peer = {name: 1e6 * said[name] / peers for name in (*PHASES, MODELS)}
        total = sum(per_peer[name] for name in PHASES)
        growth = total / rows[0]["sum"] if rows else 1.0
        rows.append({"peers": peers, **per_peer, "sum": total, "growth": growth, "peak MB": said["peak MB"]})
        if not options.json:
            line = "".join(f"{per_peer[name]:8.0f}µs" for name in PHASES)
            models = f"{per_peer[MODELS]:8.0f}µs"
            print(f"{peers:8d}{line}{total:8.0f}µs{models}{growth:8.2f}{said['peak MB']:6.0f} MB", flush=True)
    if options.json:
        print(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
