"""What does a simulated peer's round cost? The virtual engine beside the plain loop, in one run.

    python tools/bench/virtual.py [--rounds 20] [--repetitions 5] [--quick] [--json] [--smoke]

The work: scikit-learn's digits dealt out i.i.d., MLP 64-64-10, a 4-regular graph, one gossip step per round, no
evaluation, one thread. A node-round is one peer's local update with its exchange and merge.

    plain loop      one torch.nn network and one optimiser per peer, numpy averages; no messages, no clock
                    (`tools/bench/learning.py` has it)
    virtual engine  the node's own protocol: every message, timer and byte counted and logged

Ratios are medians of pairs measured in turn. Memory is the peak of a fresh process that does nothing else.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import torch
from learning import SMOKE_PEERS, WORKLOADS, plain_loop, train_max

from gossip.learning.task import Task
from gossip.protocols import Rounds, RoundsSettings
from gossip.wire.codecs.float32 import Float32
from scenarios import scenario as scenario_files
from scenarios.processes.averages import load_task
from scenarios.scenario import ScenarioSettings
from scenarios.sections import NetworkSettings
from scenarios.virtual.engine import VirtualRun
from scenarios.virtual.events.frame_sizes import FrameSizes
from scenarios.virtual.events.network import Network
from scenarios.virtual.events.simulation import Simulation
from scenarios.virtual.learning.scalars import ScalarLearning
from scenarios.virtual.quiet import quiet_collector
from topologies import Topology

NO_EVALUATION = 10**9
CODED = ("int8", "int4")
"""Codecs whose rounds are told beside those of float32."""


def settings_of(workload: str, peers: int, rounds: int, codec: str = "float32") -> ScenarioSettings:
    local = {"lr": 0.1, "weight_decay": 0.0, "lr_decay": 1.0, "sam_rho": 0.0, **WORKLOADS[workload]}
    values: dict[str, Any] = {f"local.{key}": value for key, value in local.items()}
    values |= {
        "scenario.peers": peers,
        "scenario.algorithm": "dfedavg",
        "data.partition": {"kind": "iid"},
        "data.train_max": train_max(peers),
        "topology.kind": "regular",
        "topology.degree": 4,
        "codec.kind": codec,
        "stop.rounds": rounds,
        "evaluate.every": NO_EVALUATION,
    }
    return scenario_files.load("quickstart", values=values)


class Unmeasured:
    """Evaluates nothing, not even the last round."""

    def round_completed(self, peer: object, event: object, now_s: float) -> bool:
        return False


class Engine:
    """Runs as many rounds as it is asked for, one engine after the other on the same data."""

    def __init__(self, workload: str, peers: int, rounds: int, codec: str = "float32") -> None:
        self._settings = settings_of(workload, peers, rounds, codec)
        self._task: Task = load_task(self._settings)
        self.events = 0

    def prepare(self) -> Callable[[], None]:
        """Set a run up; the caller times what is returned."""
        run = VirtualRun(self._settings, self._task, measure=Unmeasured())
        simulation = run.simulation
        # A run begins with a look for garbage in all that is there (0.2 s beside torch): set-up, not rounds.
        gc.collect()
        gc.freeze()

        def go() -> None:
            with quiet_collector():
                simulation.start()
                simulation.run()
                run.learning.flush()
            self.events = simulation.processed

        return go


def compare(workload: str, peers: int, *, rounds: int, repetitions: int) -> dict[str, Any]:
    plain = plain_loop(workload, peers)
    engine = Engine(workload, peers, rounds)
    seconds: dict[str, list[float]] = {"plain": [], "engine": []}
    for repetition in range(repetitions + 1):
        go = engine.prepare()
        for name, call in (("plain", lambda: plain(rounds)), ("engine", go)):
            began = time.perf_counter()
            call()
            if repetition:  # the first warms caches up
                seconds[name].append(time.perf_counter() - began)
    node_rounds = peers * rounds
    ratios = [a / b for a, b in zip(seconds["plain"], seconds["engine"], strict=True)]
    return {
        "what": f"{peers} peers, {workload}",
        "plain_per_s": node_rounds / statistics.median(seconds["plain"]),
        "engine_per_s": node_rounds / statistics.median(seconds["engine"]),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
    }


def compare_codecs(workload: str, peers: int, *, rounds: int, repetitions: int) -> dict[str, Any]:
    """Measure rounds whose models are coded beside rounds whose models are not."""
    engines = {codec: Engine(workload, peers, rounds, codec) for codec in ("float32", *CODED)}
    seconds: dict[str, list[float]] = {codec: [] for codec in engines}
    for repetition in range(repetitions + 1):
        for codec, engine in engines.items():
            go = engine.prepare()
            began = time.perf_counter()
            go()
            if repetition:
                seconds[codec].append(time.perf_counter() - began)
    return {
        "what": f"{peers} peers, {workload}",
        **{
            codec: statistics.median(
                coded / plain for coded, plain in zip(seconds[codec], seconds["float32"], strict=True)
            )
            for codec in CODED
        },
    }


def scalar_run(peers: int, rounds: int, kind: str = "regular") -> dict[str, float]:
    """The protocol alone: models are floats."""
    names = [f"peer-{index:06d}" for index in range(peers)]
    topology = Topology(kind, peers, degree=4 if kind == "regular" else None, seed=0)
    protocol = RoundsSettings()
    sizes = FrameSizes(
        names, run_id="0" * 16, space_id="0" * 32, codec=Float32(), learned_size=4810, chunk_bytes=1 << 19
    )
    simulation = Simulation(
        names=names,
        topology=topology,
        make_protocol=lambda model, state: Rounds.resume(protocol, rounds=rounds, model=model, state=state),
        learning=ScalarLearning(),
        make_network=lambda schedule: Network(NetworkSettings(), peers=peers, seed=0, schedule=schedule),
        training_s=lambda peer, round: 0.01,
        frame_bytes=sizes,
        measure=Unmeasured(),
        seed=0,
    )
    with quiet_collector():
        simulation.start()
        began = time.perf_counter()
        simulation.run()
        seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "events": simulation.processed,
        "us_per_event": 1e6 * seconds / simulation.processed,
    }


def large_logistic(peers: int = 10_000, rounds: int = 20) -> dict[str, float]:
    """Many peers, logistic regression, ring, evaluated at the end."""
    values: dict[str, Any] = {
        "scenario.peers": peers,
        "scenario.algorithm": "dfedavg",
        "model.name": "logistic",
        "data.source": f"python:{Path(__file__).resolve()}:blobs",
        "data.partition": {"kind": "iid"},
        "topology.kind": "ring",
        "local.epochs": 1,
        "stop.rounds": rounds,
        "evaluate.every": NO_EVALUATION,
    }
    settings = scenario_files.load("quickstart", values=values)
    began = time.perf_counter()
    run = VirtualRun(settings, load_task(settings))
    from scenarios.progress import Quiet

    with quiet_collector():
        records = run.run(Quiet())
    assert records.final is not None
    return {"seconds": time.perf_counter() - began, "accuracy_of_mean": records.final.score}


def blobs() -> tuple[Any, Any, Any, Any]:
    """Samples for more peers than the digits have: 40,000 of 64 features in 10 classes."""
    import numpy as np

    rng = np.random.default_rng(0)
    centres = rng.normal(size=(10, 64))

    def draw(count: int) -> tuple[Any, Any]:
        labels = rng.integers(0, 10, count)
        return (centres[labels] + rng.normal(size=(count, 64))).astype(np.float32), labels

    x_train, y_train = draw(40_000)
    x_test, y_test = draw(1000)
    return x_train, y_train, x_test, y_test


def in_fresh_process(job: str) -> dict[str, float]:
    """Run one of `JOBS` alone and return what it says, with its peak memory."""
    done = subprocess.run(
        [sys.executable, __file__, "--job", job], check=True, capture_output=True, text=True
    )
    said: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return said


def peak_mb() -> float:
    """Return this process' peak of resident memory. `getrusage` would count the parent's on Linux."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text(encoding="ascii").partition("VmHWM:")[2].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


JOBS: dict[str, Callable[[], dict[str, float]]] = {
    "1000 peers, one step, 10 rounds": lambda: (Engine("one step", 1000, 10).prepare()(), {})[1],
    "10000 peers, logistic, ring, 20 rounds": large_logistic,
    "100000 peers, protocol only, 5 rounds": lambda: scalar_run(100_000, 5),
}


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    compared: Sequence[tuple[str, int, int]]
    """Workload, peers, rounds."""
    coded: tuple[str, int, int]
    """The same, of the comparison of codecs."""
    protocol_only: Sequence[tuple[int, int]]
    """Peers, rounds: enough that what is made once, in the first one, does not count."""
    large: Callable[[], dict[str, dict[str, float]]]


def plan_of(rounds: int, *, large: bool) -> Plan:
    """Return the usual plan."""
    return Plan(
        (("one step", 100, 10 * rounds), ("one step", 1000, rounds), ("5 steps, SAM", 100, rounds)),
        ("one step", 1000, rounds),
        ((100, 2000), (1000, 200), (10_000, 20)),
        lambda: {job: in_fresh_process(job) for job in JOBS if large},
    )


SMOKE = Plan(
    tuple((workload, SMOKE_PEERS, 2) for workload in WORKLOADS),
    ("one step", SMOKE_PEERS, 2),
    ((10, 2), (20, 2)),
    lambda: {"blobs": {**large_logistic(peers=50, rounds=1), "peak_mb": peak_mb()}},
)


def main(arguments: Sequence[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="leave the large runs out")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="few peers and rounds: to see that it works")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if options.job:
        said = JOBS[options.job]()
        print(json.dumps({**said, "peak_mb": peak_mb()}))
        return 0
    plan = SMOKE if options.smoke else plan_of(options.rounds, large=not options.quick)
    repetitions = 1 if options.smoke else options.repetitions
    tables: dict[str, Any] = {
        "compared": [
            compare(workload, peers, rounds=rounds, repetitions=repetitions)
            for workload, peers, rounds in plan.compared
        ],
        "codecs": [compare_codecs(*plan.coded[:2], rounds=plan.coded[2], repetitions=repetitions)],
        "events": [{"peers": peers, **scalar_run(peers, rounds)} for peers, rounds in plan.protocol_only],
        "large": plan.large(),
    }
    if options.json:
        print(json.dumps(tables))
    else:
        show(tables)
    return 0


def show(tables: dict[str, Any]) -> None:
    print(f"{'':28}{'plain loop':>12}{'engine':>12}{'ratio':>8}{'(min to max)':>18}")
    for row in tables["compared"]:
        print(
            f"{row['what']:28}{row['plain_per_s']:10.0f}/s{row['engine_per_s']:10.0f}/s{row['ratio']:8.2f}"
            f"{row['ratio_min']:10.2f} to {row['ratio_max']:.2f}"
        )
    print("\nrounds of coded models, × those of float32")
    for row in tables["codecs"]:
        print(f"{row['what']:28}" + "".join(f"{codec:>12} × {row[codec]:.2f}" for codec in CODED))
    print("\nprotocol only (models are numbers), µs per event")
    first = tables["events"][0]
    for row in tables["events"]:
        growth = row["us_per_event"] / first["us_per_event"]
        print(
            f"{row['peers']:8d} peers {row['us_per_event']:8.2f}   × {growth:.2f}   "
            f"(log of peers × {math.log(row['peers']) / math.log(first['peers']):.2f})"
        )
    if tables["large"]:
        print()
    for job, said in tables["large"].items():
        seconds = f"{said['seconds']:6.1f} s" if "seconds" in said else " " * 8
        print(f"{job:42}{seconds}   peak {said['peak_mb']:6.0f} MB")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
