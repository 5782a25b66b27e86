"""What does an accelerator change? Training, merging and simulations there beside the CPU, in one run.

    python tools/bench/devices.py [SECTION ...] [--device cuda] [--repetitions 5] [--json] [--smoke]

Sections:

    updates   a node's local update, five mini-batches of 64 digits: each network that is ours
    merges    a node's merge of ten models of 25 M parameters that came from its neighbours
    peers     the virtual engine: 200 peers with the network `cnn`, ten rounds on a 4-regular graph

Models come and go on the CPU, as messages do: every time is with both crossings. Repetitions take turns between the two
places; the table has medians, and the largest difference between the two results. `--smoke` is the CPU beside itself.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import networkx as nx
import torch
from torch import Tensor

from gossip.errors import UserError
from gossip.learner import Learner
from gossip.learning import devices
from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.learning.task import Task
from gossip.merging.settings import MERGES
from gossip.protocols.base import Contribution, GossipStep
from scenarios.virtual.learning.batched import BatchedLearning

Row = dict[str, Any]
Work = Callable[[], Tensor]

NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "mlp, 25 M": {"name": "mlp", "hidden": (4900, 4900)},
    "cnn": {"name": "cnn"},
    "lenet-gn": {"name": "lenet-gn"},
    "resnet18-gn": {"name": "resnet18-gn"},
}
RULES: Mapping[str, Mapping[str, Any]] = {
    "average": {},
    "median": {},
    "trimmed-mean": {"f": 2},
    "krum": {"f": 2},
    "geometric-median": {"f": 2},
    "variance-corrected": {},
}
MODELS = 10


def task_of(model: ModelSettings, **local: Any) -> Task:
    return Task(
        data=DataSettings(), model=model, local=LocalSettings(lr=0.05, **local), seed=1, folder=Path()
    )


def learner_of(task: Task, device: str, rule: str = "average") -> Learner:
    settings = MERGES.validate({"kind": rule, **RULES[rule]})
    return Learner(
        task, peer="peer-0", position=0, peers=1, merge=settings.load()(settings), device=torch.device(device)
    )


def beside(works: Mapping[str, Work], repetitions: int) -> tuple[dict[str, float], float]:
    """Return the median seconds of each work by name, and the largest difference between their results."""
    results = [work() for work in works.values()]
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repetitions):
        for name, work in works.items():
            begin_s = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - begin_s)
    difference = max(float((result - results[0]).abs().max()) for result in results)
    return {name: statistics.median(each) for name, each in seconds.items()}, difference


def row_of(section: str, what: str, works: Mapping[str, Work], repetitions: int) -> Row:
    seconds, difference = beside(works, repetitions)
    here, there = (seconds[name] for name in works)
    return {
        "section": section,
        "what": what,
        "cpu ms": round(1000 * here, 2),
        "device ms": round(1000 * there, 2),
        "cpu / device": round(here / there, 2),
        "largest difference": float(f"{difference:.1e}"),
    }


def places(device: str, make: Callable[[str], Work]) -> dict[str, Work]:
    return {"cpu": make("cpu"), "device": make(device)}


def updates(device: str, repetitions: int, *, smoke: bool) -> list[Row]:
    """A local update by network."""
    rows = []
    for name, settings in list(NETWORKS.items())[1 : 2 if smoke else None]:
        task = task_of(ModelSettings(**settings), batch_size=64, steps=5)

        def make(place: str, task: Task = task) -> Work:
            learner = learner_of(task, place)
            model = learner.initial()
            return lambda: learner.train(model, round=0).model

        rows.append(row_of("updates", name, places(device, make), repetitions))
    return rows


def merges(device: str, repetitions: int, *, smoke: bool) -> list[Row]:
    """A merge by rule."""
    hidden = (20,) if smoke else (4900, 4900)
    task = task_of(ModelSettings(hidden=hidden), steps=1)
    initial = learner_of(task, "cpu").initial()
    learned = initial[: task.space.learned_size]
    draws = torch.Generator().manual_seed(1)
    received = [
        Contribution(
            f"peer-{k}", learned + 0.01 * torch.randn(learned.shape, generator=draws), 1 / (MODELS + 1)
        )
        for k in range(1, MODELS + 1)
    ]
    rows = []
    for rule in list(RULES)[: 2 if smoke else None]:

        def make(place: str, rule: str = rule) -> Work:
            learner = learner_of(task, place, rule)
            return lambda: learner.merge(initial, 1 / (MODELS + 1), received, at=GossipStep(0))

        rows.append(row_of("merges", rule, places(device, make), repetitions))
    return rows


def peers(device: str, repetitions: int, *, smoke: bool) -> list[Row]:
    """Rounds of a simulation."""
    number, rounds = (4, 1) if smoke else (200, 10)
    names = [f"peer-{peer:04d}" for peer in range(number)]
    degree = 2 if smoke else 4
    graph = nx.random_regular_graph(degree, number, seed=1)
    share = 1 / (degree + 1)
    task = task_of(ModelSettings(name="cnn"), batch_size=32, steps=5)
    rule = MERGES.validate({"kind": "average"})

    def make(place: str) -> Work:
        learning = BatchedLearning(task, names, rule, device=torch.device(place))

        def work() -> Tensor:
            models = [learning.initial(peer) for peer in range(number)]
            for round in range(rounds):
                trained = [learning.train(model, peer, round=round) for peer, model in enumerate(models)]
                models = [
                    learning.merge(
                        trained[peer],
                        share,
                        [Contribution(names[other], trained[other], share) for other in sorted(graph[peer])],
                        peer=peer,
                        at=GossipStep(round),
                    )
                    for peer in range(number)
                ]
            return learning.stack(models).cpu()

        return work

    return [row_of("peers", f"{number} peers, {rounds} rounds", places(device, make), min(repetitions, 2))]


SECTIONS = {"updates": updates, "merges": merges, "peers": peers}


def main(arguments: Sequence[str]) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help=f"default: all of {', '.join(SECTIONS)}"
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="small and on the CPU: to see that it works")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.sections) - set(SECTIONS)):
        parser.error(f"no section '{unknown[0]}'; valid: {', '.join(SECTIONS)}")
    try:
        device = str(devices.find("cpu" if options.smoke else options.device, where="--device"))
    except UserError as error:
        parser.error(str(error))
    rows = []
    for name in options.sections or SECTIONS:
        for row in SECTIONS[name](device, 1 if options.smoke else options.repetitions, smoke=options.smoke):
            rows.append(row)
            if not options.json:
                print(" · ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    if options.json:
        json.dump(rows, sys.stdout, indent=1)
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
