"""Sections of `merging.py`: many merges of small models in the virtual engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from merging_turns import Row, choice, in_turns, rows_of

from gossip.learning.settings import DataSettings, LocalSettings, ModelSettings
from gossip.learning.task import Task
from gossip.protocols.base import Contribution, GossipStep
from gossip.settings import Choice
from scenarios.virtual.learning.batched import BatchedLearning
from topologies import Topology


def peers(repetitions: int, smoke: bool) -> list[Row]:
    """Rounds of merges only: the cost of a merge with its share of the bookkeeping."""
    count, degree, rounds = (10, 4, 1) if smoke else (50, 8, 20)
    task = Task(
        data=DataSettings(),
        model=ModelSettings(hidden=(128, 128, 128), init="independent"),
        local=LocalSettings(),
        seed=0,
        folder=Path(),
    )
    W = Topology("regular", count, degree=degree, seed=0).matrix(0)
    names = [f"peer-{index:02d}" for index in range(count)]
    neighbours = [[j for j in range(count) if j != i and W[i, j]] for i in range(count)]

    def engine(settings: Choice, steps: int) -> Callable[[], None]:
        learning = BatchedLearning(task, names, settings)
        starts = [learning.initial(index) for index in range(count)]

        def go() -> None:
            models = starts
            for round in range(rounds):
                models = [
                    learning.merge(
                        models[i],
                        float(W[i, i]),
                        [Contribution(names[j], models[j], float(W[i, j])) for j in neighbours[i]],
                        peer=i,
                        at=GossipStep(round // steps, step=round % steps, last=round % steps == steps - 1),
                    )
                    for i in range(count)
                ]
            learning.flush()

        return go

    corrected = choice(kind="variance-corrected", quiet_merges=0)
    contenders = {
        "average": engine(choice(kind="average"), 1),
        "variance-corrected": engine(corrected, 1),
        "… after 4 gossip steps": engine(corrected, 4),
        "… off, looking at every 20th": engine(choice(kind="variance-corrected", quiet_scale=1e9), 1),
    }
    rows = rows_of(f"{count} peers, {degree} neighbours", in_turns(contenders, repetitions), "average")
    for row in rows:
        row["us per merge"] = 1e3 * row["ms"] / (rounds * count)
    return rows


def robust_peers(repetitions: int, smoke: bool) -> list[Row]:
    """Rounds of merges only, every peer with all others' models."""
    count, rounds = (6, 1) if smoke else (25, 4)
    rows: list[Row] = []
    for hidden in ((8,),) if smoke else ((96,), (256, 128)):
        task = Task(
            data=DataSettings(),
            model=ModelSettings(hidden=hidden, init="independent"),
            local=LocalSettings(),
            seed=0,
            folder=Path(),
        )
        names = [f"peer-{index:02d}" for index in range(count)]

        def engine(settings: Choice, task: Task = task, names: list[str] = names) -> Callable[[], None]:
            learning = BatchedLearning(task, names, settings)
            models = [learning.initial(index) for index in range(count)]

            def go() -> None:
                for round in range(rounds):
                    for i in range(count):
                        others = [
                            Contribution(names[j], models[j], 1 / count) for j in range(count) if j != i
                        ]
                        learning.merge(models[i], 1 / count, others, peer=i, at=GossipStep(round))
                    learning.flush()

            return go

        contenders = {"average": engine(choice(kind="average"))} | {
            kind: engine(choice(kind=kind, f=count // 5))
            for kind in (
                "median",
                "trimmed-mean",
                "meamed",
                "krum",
                "geometric-median",
                "nna",
                "nnm+trimmed-mean",
            )
        }
        found = rows_of(
            f"{count} peers, {task.space.learned_size} parameters",
            in_turns(contenders, repetitions),
            "average",
        )
        for row in found:
            row["us per merge"] = 1e3 * row["ms"] / (rounds * count)
        rows += found
    return rows
