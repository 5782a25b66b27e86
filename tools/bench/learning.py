"""How fast do all peers of a simulation learn and merge? Batched learning beside the plain loop, in one run.

    python tools/bench/learning.py [--peers 100,1000] [--rounds 20] [--repetitions 5] [--json] [--smoke]

scikit-learn's digits dealt out i.i.d., MLP 64-64-10, SGD with mini-batches of 32, a 4-regular graph, no evaluation,
one thread. Each round every peer takes its local steps and then averages with its four neighbours. A node-round is one
peer's round.

    plain loop   one torch.nn network and one torch.optim.SGD per peer, its samples ready in a tensor, and averages by
                 numpy; with SAM, the usual two passes with the perturbation written by hand
    batched      `scenarios.virtual.BatchedLearning`, driven as the protocols do: one request at a time

    vmap         the same without the gradient by hand

No messages, no clock. Repetitions alternate between the systems; the table has medians. Peak memory is that of a fresh
process that does nothing but batched learning (Linux only).
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.learning.task import Task
from gossip.merging.settings import AverageSettings
from gossip.protocols.base import Contribution, GossipStep
from scenarios.virtual.quiet import quiet_collector

DEGREE = 4
BATCH, SAMPLES = 32, 1437
"""Of a mini-batch, and of scikit-learn's digits for training."""
SMOKE_PEERS = 6
WORKLOADS: dict[str, dict[str, Any]] = {
    "one step": {"batch_size": BATCH, "epochs": 1},
    "5 steps, SAM": {"batch_size": BATCH, "steps": 5, "sam_rho": 0.05},
}


def task_of(workload: str, peers: int) -> Task:
    local = LocalSettings(lr=0.1, **WORKLOADS[workload])
    return Task(
        data=DataSettings(train_max=train_max(peers)),
        model=ModelSettings(),
        local=local,
        seed=1,
        folder=Path(),
    )


def train_max(peers: int) -> int | None:
    """Return of how many samples an epoch is one mini-batch for each peer; all, where there are peers enough."""
    return None if peers * BATCH >= SAMPLES else peers * BATCH


def neighbours_of(peers: int) -> list[list[int]]:
    graph = nx.random_regular_graph(DEGREE, peers, seed=1)
    return [sorted(graph[peer]) for peer in range(peers)]


# --- the plain loop --------------------------------------------------------------------------------


def plain_loop(workload: str, peers: int) -> Callable[[int], None]:
    """Return a function that does so many rounds."""
    task = task_of(workload, peers)
    settings = task.local_settings
    shards = [task.shard(peer, peers) for peer in range(peers)]
    assert all(len(shard) <= settings.batch_size for shard in shards), "one mini-batch per epoch"
    steps = settings.steps or settings.epochs or 1
    modules = [network(task) for _ in range(peers)]
    optimisers = [torch.optim.SGD(module.parameters(), lr=settings.lr) for module in modules]
    parameters = [list(module.parameters()) for module in modules]
    arrays = [[each.detach().numpy() for each in own] for own in parameters]  # share memory with the networks
    neighbours = neighbours_of(peers)

    def train(peer: int) -> None:
        module, optimiser, shard = modules[peer], optimisers[peer], shards[peer]
        for _ in range(steps):
            optimiser.zero_grad()
            torch.autograd.backward(cross_entropy(module(shard.x), shard.y))
            if settings.sam_rho:
                moved = climb(parameters[peer], settings.sam_rho)
                torch.autograd.backward(cross_entropy(module(shard.x), shard.y))
                climb_back(parameters[peer], moved)
            optimiser.step()

    def run(rounds: int) -> None:
        for _ in range(rounds):
            for peer in range(peers):
                train(peer)
            averaged = [
                [
                    (own + sum(arrays[other][k] for other in neighbours[peer])) / (DEGREE + 1)
                    for k, own in enumerate(arrays[peer])
                ]
                for peer in range(peers)
            ]
            for own, new in zip(arrays, averaged, strict=True):
                for array, value in zip(own, new, strict=True):
                    array[...] = value

    run.parameters = lambda: np.stack([np.concatenate([a.ravel() for a in own]) for own in arrays])  # type: ignore[attr-defined]
    return run


def network(task: Task) -> nn.Module:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    module.load_state_dict(task.module.state_dict())
    return module


def climb(parameters: list[nn.Parameter], rho: float) -> list[torch.Tensor]:
    """Move by SAM's perturbation, forget the gradient that led there, and return the perturbation."""
    with torch.no_grad():
        gradients = [each.grad for each in parameters if each.grad is not None]
        scale = rho / (torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients])) + 1e-12)
        moved = [gradient.mul_(scale) for gradient in gradients]
        for each, step in zip(parameters, moved, strict=True):
            each.add_(step)
            each.grad = None
    return moved


def climb_back(parameters: list[nn.Parameter], moved: list[torch.Tensor]) -> None:
    with torch.no_grad():
        for each, step in zip(parameters, moved, strict=True):
            each.sub_(step)


# --- batched ---------------------------------------------------------------------------------------


def batched(workload: str, peers: int, method: str = "auto") -> Callable[[int], None]:
    """Return a function that does so many rounds."""
    from scenarios.virtual.learning.batched import BatchedLearning

    names = [f"peer-{peer:06d}" for peer in range(peers)]
    learning = BatchedLearning(task_of(workload, peers), names, AverageSettings(), method=method)
    models = [learning.initial(peer) for peer in range(peers)]
    neighbours = neighbours_of(peers)
    share = 1 / (DEGREE + 1)
    rounds_done = 0

    def run(rounds: int) -> None:
        nonlocal models, rounds_done
        for round in range(rounds_done, rounds_done + rounds):
            trained = [learning.train(model, peer, round=round) for peer, model in enumerate(models)]
            models = [
                learning.merge(
                    trained[peer],
                    1 - share * DEGREE,
                    [Contribution(names[other], trained[other], share) for other in neighbours[peer]],
                    peer=peer,
                    at=GossipStep(round, step=0, last=True),
                )
                for peer in range(peers)
            ]
        rounds_done += rounds
        del trained
        learning.flush()

    run.parameters = lambda: learning.stack(models).numpy()  # type: ignore[attr-defined]
    return run


# --- measuring -------------------------------------------------------------------------------------

SYSTEMS: dict[str, Callable[[str, int], Callable[[int], None]]] = {
    "plain loop": plain_loop,
    "vmap": lambda workload, peers: batched(workload, peers, "vmap"),
    "batched": batched,
}


def measure(workload: str, peers: int, *, rounds: int, repetitions: int) -> dict[str, float]:
    """Return node-rounds per second by system, medians of alternating repetitions."""
    runs = {name: make(workload, peers) for name, make in SYSTEMS.items()}
    for run in runs.values():
        run(2)
    agreement = [run.parameters() for run in runs.values()]  # type: ignore[attr-defined]
    for other in agreement[1:]:
        assert np.abs(other - agreement[0]).max() < 1e-5, "they do not compute the same"
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repetitions):
        for name, run in runs.items():
            gc.collect()
            begin_s = time.perf_counter()
            run(rounds)
            rates[name].append(peers * rounds / (time.perf_counter() - begin_s))
    return {name: statistics.median(values) for name, values in rates.items()}


def peak_mb(workload: str, peers: int) -> float:
    """Return the peak resident memory of a fresh process that learns a few rounds in batches."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(peak_mb_of_learning, (workload, peers))


def peak_mb_of_learning(workload: str, peers: int) -> float:
    """Return the peak resident memory of this process after it has learned a few rounds in batches."""
    torch.set_num_threads(1)
    batched(workload, peers)(5)
    # Not `getrusage`, whose peak a spawned process inherits from its parent.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main(arguments: Sequence[str]) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--peers", default="100,1000")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="few peers and rounds: to see that it works")
    options = parser.parse_args(arguments)
    peak = peak_mb
    if options.smoke:
        options.peers, options.rounds, options.repetitions, peak = str(SMOKE_PEERS), 1, 1, peak_mb_of_learning
    torch.set_num_threads(1)
    rows = []
    # As in a simulation: thousands of living handles and messages are no garbage.
    with quiet_collector():
        for workload in WORKLOADS:
            for peers in map(int, options.peers.split(",")):
                rounds = max(2, options.rounds * 100 // peers)
                rates = measure(workload, peers, rounds=rounds, repetitions=options.repetitions)
                rows.append(
                    {
                        "workload": workload,
                        "peers": peers,
                        **{f"{name}, node-rounds/s": round(rate) for name, rate in rates.items()},
                        "batched × plain loop": round(rates["batched"] / rates["plain loop"], 2),
                        "vmap × plain loop": round(rates["vmap"] / rates["plain loop"], 2),
                        "peak MB": round(peak(workload, peers)),
                    }
                )
    if options.json:
        json.dump(rows, sys.stdout, indent=1)
        print()
        return 0
    for row in rows:
        print(" · ".join(f"{key} {value}" for key, value in row.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
