"""How fast do many peers with small convolutional networks learn? Stacks and workers beside plain torch, in one run.

    python tools/bench/convolutions.py [--workers 2] [--repetitions 5] [--json] [--smoke]

One local step of every peer of network `cnn`, on random images, each peer with one mini-batch; one thread a process.

    plain     one torch.nn network and one torch.optim.SGD per peer, its samples ready in a tensor
    engine    `scenarios.virtual`'s local updates, by the method that it chooses, in one process
    workers   the same in so many processes beside it

`plain / engine` and `engine / workers` are medians of pairs measured in turn, by the clock. Where the machine has other
work, `critical` tells what the clock would: CPU seconds of one process over those of the busiest among several.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import torch
from torch.nn.functional import cross_entropy

from gossip.learning.models import build
from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.learning.task import Task
from gossip.merging.settings import AverageSettings
from scenarios.virtual.learning.batched import BatchedLearning
from scenarios.virtual.learning.workers import Workers

PLAN = (
    ((1, 8, 8), 100, 8),
    ((1, 8, 8), 20, 32),
    ((1, 28, 28), 100, 8),
    ((1, 28, 28), 20, 32),
    ((3, 32, 32), 20, 8),
)
"""Shape of a sample, peers, samples of each."""
SMOKE = (((1, 8, 8), 4, 2),)
CLASSES, LR = 10, 0.01


def images() -> tuple[Any, Any, Any, Any]:
    """Return as many random images as the environment says; a task's source takes no arguments."""
    count, *shape = map(int, os.environ["IMAGES"].split(","))
    generator = torch.Generator().manual_seed(0)

    def draw(samples: int) -> tuple[Any, Any]:
        x = torch.randn(samples, *shape, generator=generator)
        return x.numpy(), (torch.arange(samples) % CLASSES).numpy()

    return *draw(count), *draw(CLASSES)


def task_of(shape: tuple[int, ...], peers: int, batch: int) -> Task:
    os.environ["IMAGES"] = ",".join(map(str, (peers * batch, *shape)))
    return Task(
        data=DataSettings(source=f"python:{Path(__file__).resolve()}:images"),
        model=ModelSettings(name="cnn"),
        local=LocalSettings(lr=LR, batch_size=batch, epochs=1),
        seed=0,
        folder=Path(),
    )


def plain(task: Task, shape: tuple[int, ...], peers: int) -> Callable[[], None]:
    """Return a function that does one step of all peers, one after another."""
    modules = [build(task.model_settings, shape, CLASSES, seed=0, folder=Path()) for _ in range(peers)]
    optimisers = [torch.optim.SGD(module.parameters(), lr=LR) for module in modules]
    shards = [task.shard(peer, peers) for peer in range(peers)]

    def run() -> None:
        for module, optimiser, shard in zip(modules, optimisers, shards, strict=True):
            optimiser.zero_grad()
            torch.autograd.backward(cross_entropy(module(shard.x), shard.y))
            optimiser.step()

    return run


class Engine:
    """The same by the virtual engine's learning."""

    def __init__(self, task: Task, peers: int, workers: Workers) -> None:
        names = [f"peer-{peer:04d}" for peer in range(peers)]
        self.learning = BatchedLearning(task, names, AverageSettings(), workers=workers)
        self.models = [self.learning.initial(peer) for peer in range(peers)]
        self._rounds = 0

    def __call__(self) -> None:
        """Do one step of all peers."""
        self.models = [
            self.learning.train(model, peer, round=self._rounds) for peer, model in enumerate(self.models)
        ]
        self._rounds += 1
        self.learning.flush()


def cpu_s(pids: Sequence[int]) -> list[float]:
    """Return the CPU seconds that processes have had so far (Linux)."""
    ticks = os.sysconf("SC_CLK_TCK")
    stats = [Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split() for pid in pids]
    return [(int(stat[11]) + int(stat[12])) / ticks for stat in stats]


def compare(
    shape: tuple[int, ...], peers: int, batch: int, *, workers: int, repetitions: int
) -> dict[str, Any]:
    """Return the row of one kind of peers."""
    task = task_of(shape, peers, batch)
    with Workers(workers) as processes:
        alone, together = Engine(task, peers, Workers()), Engine(task, peers, processes)
        runs = {"plain": plain(task, shape, peers), "engine": alone, "workers": together}
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        busy: list[float] = []
        for repetition in range(repetitions + 1):
            spent: dict[str, float] = {}
            for name, run in runs.items():
                before = cpu_s(processes.pids)
                began, began_cpu = time.perf_counter(), time.process_time()
                run()
                if repetition:  # the first warms caches up, and forks
                    seconds[name].append(time.perf_counter() - began)
                    others = [b - a for a, b in zip(before, cpu_s(processes.pids), strict=False)]
                    spent[name] = time.process_time() - began_cpu + max(others, default=0.0)
            if repetition:
                busy.append(spent["engine"] / spent["workers"])
        same = torch.equal(*(each.learning.stack(each.models) for each in (alone, together)))
        assert same, "they do not compute the same"

    def ratio(one: str, other: str) -> float:
        pairs = zip(seconds[one], seconds[other], strict=True)
        return round(statistics.median(a / b for a, b in pairs), 2)

    return {
        "sample": "×".join(map(str, shape)),
        "peers": peers,
        "batch": batch,
        "method": alone.learning.method,
        "plain ms/peer": round(1e3 * statistics.median(seconds["plain"]) / peers, 2),
        "plain / engine": ratio("plain", "engine"),
        f"engine / {workers} workers": ratio("engine", "workers"),
        "critical": round(statistics.median(busy), 2),
    }


def main(arguments: Sequence[str]) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="few peers: to see that it works")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    repetitions = 1 if options.smoke else options.repetitions
    for shape, peers, batch in SMOKE if options.smoke else PLAN:
        rows.append(compare(shape, peers, batch, workers=options.workers, repetitions=repetitions))
        if not options.json:
            print(" · ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    if options.json:
        json.dump(rows, sys.stdout, indent=1)
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
